"""What npusim finds in a model, a comparison, a dump or a golden folder: one form for the whole product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "SourcedFinding"]


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


@dataclass(frozen=True, slots=True)
class SourcedFinding(Finding):
    """A finding at a place of the graph, as a published document has it.

    Attributes
    ----------
    node, tensor
        ONNX node and tensor; None where there is none.
    source, date
        The document and its date; None for what follows from the model alone.
    note
        What other documents say.
    """

    node: str | None = None
    tensor: str | None = None
    source: str | None = None
    date: str | None = None
    note: str = ""
