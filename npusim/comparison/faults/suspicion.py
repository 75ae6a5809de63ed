"""A contradiction between a step of the quantized model and the float model, before its effect is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Suspicion", "listed"]


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """Something in a step that does not fit the float model.

    Attributes
    ----------
    rule
        Name of the rule that states it.
    step
        The step.
    channels
        Its output channels; none for all of them.
    evidence
        Numbers and clauses for the words of the rule.
    needs_effect
        Whether it counts only where the step makes an error of its own by it, which is measured.
    """

    rule: str
    step: str
    channels: tuple[int, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    needs_effect: bool = False


def listed(channels: Sequence[int]) -> str:
    """Channels for people, at most eight.

    Examples
    --------
    >>> listed([3]), listed(range(10))
    ('channel 3', 'channels 0, 1, 2, 3, 4, 5, 6, 7 ...')
    """
    shown = ", ".join(str(int(one)) for one in channels[:8]) + (" ..." if len(channels) > 8 else "")
    return f"channel{'s' if len(channels) > 1 else ''} {shown}"
