"""What npusim finds in a model, a comparison, a dump or a golden folder: one form for the whole product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know or to act on.

    Attributes
    ----------
    rule
        Name of the rule, property or cause.
    severity
        ``error``, ``warning`` or ``info``.
    layer
        Name of the layer; None where it is about the whole model.
    message, remedy
        What is the case, and what to do about it, one clause each.
    evidence
        The numbers in the message.
    """

    rule: str
    severity: str
    layer: str | None
    message: str
    remedy: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
