"""What npusim finds in a model, a comparison, a dump or a golden folder: one form for the whole product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from npusim.schemas.derivation import Choice

__all__ = ["Finding", "Severity", "SourcedFinding"]

Severity = Annotated[str, Choice(("error", "warning", "info"))]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know or to act on.

    Attributes
    ----------
    rule
        Name of the rule, property or cause.
    severity
        error: the exit code is 1.
    layer
        Name of the layer; null for the whole model.
    message
        What is the case, one clause.
    remedy
        What to do next, one clause.
    evidence
        The numbers in the message; null where there can be none.
    """

    rule: str
    severity: Severity
    layer: str | None
    message: str
    remedy: str
    evidence: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourcedFinding(Finding):
    """A finding at a place of the graph, as a published document has it.

    Attributes
    ----------
    node
        ONNX node.
    tensor
        ONNX tensor.
    source
        Document behind the rule; null for what follows from the model alone.
    date
        Its date.
    note
        What other documents say.
    """

    node: str | None = None
    tensor: str | None = None
    source: str | None = None
    date: str | None = None
    note: str = ""
