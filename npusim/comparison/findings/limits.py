"""Limits that a quantized model must keep against its float model, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npusim.errors import UsageError
from npusim.findings import Finding

if TYPE_CHECKING:
    from npusim.comparison.result import FloatComparison

__all__ = ["BELOW_LIMIT", "Limits", "limit_findings"]

BELOW_LIMIT = "below_limit"
"""The rule."""

_REMEDY = "look at the findings on layers, the first one first"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the first output must reach; None where nothing is asked.

    Attributes
    ----------
    min_sqnr
        SQNR in dB.
    min_accuracy
        Accuracy of the quantized model, 0 to 1; needs labels.
    max_drop
        Accuracy that it may lose against the float model, 0 to 1; without labels the samples that change their class.
    """

    min_sqnr: float | None = None
    min_accuracy: float | None = None
    max_drop: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is asked."""
        return any(value is not None for value in (self.min_sqnr, self.min_accuracy, self.max_drop))


def limit_findings(comparison: FloatComparison, limits: Limits) -> Iterator[Finding]:
    """An error for each limit that the first output does not keep.

    Raises
    ------
    UsageError
        If a limit asks for what was not measured.
    """
    if not limits.any:
        return
    if not comparison.outputs:
        raise UsageError("a limit is for an output with a counterpart in the float model, and there is none")
    output = comparison.outputs[0]
    if limits.min_sqnr is not None and not output.sqnr_db >= limits.min_sqnr:
        evidence = {"sqnr_db": output.sqnr_db, "limit": limits.min_sqnr}
        message = f"the output has an SQNR of {output.sqnr_db:.1f} dB, wanted at least {limits.min_sqnr:g} dB"
        yield Finding(BELOW_LIMIT, "error", None, message, _REMEDY, evidence)
    if limits.min_accuracy is None and limits.max_drop is None:
        return
    classes = output.classification
    if classes is None:
        raise UsageError("a limit on accuracy is for an output of classes, which this one is not; limit the SQNR instead")
    accuracy, reached = classes.quantized_accuracy, classes.float_accuracy
    if limits.min_accuracy is not None:
        if accuracy is None:
            raise UsageError("a least accuracy needs labels; give the classes of the samples")
        if accuracy < limits.min_accuracy:
            evidence = {"accuracy": accuracy, "limit": limits.min_accuracy}
            message = f"the accuracy is {accuracy:.2%}, wanted at least {limits.min_accuracy:.2%}"
            yield Finding(BELOW_LIMIT, "error", None, message, _REMEDY, evidence)
    if limits.max_drop is not None:
        known = accuracy is not None and reached is not None
        drop = (reached or 0.0) - (accuracy or 0.0) if known else 1 - classes.agreement
        if drop > limits.max_drop:
            what = "the accuracy is lower than the float model's by" if known else "samples change their class:"
            evidence = {"drop": drop, "limit": limits.max_drop}
            yield Finding(
                BELOW_LIMIT, "error", None, f"{what} {drop:.2%}, wanted at most {limits.max_drop:.2%}", _REMEDY, evidence
            )
