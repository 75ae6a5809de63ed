"""Statements that hold for every input, and what was found out about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Judgement", "Property", "Refutation", "Verdict", "conjunction", "proven", "unknown", "violated"]


class Verdict(StrEnum):
    """What is known of a statement about every input.

    PROVEN: it holds for every input. VIOLATED: it fails for an input that exists. UNKNOWN: neither is shown.
    """

    PROVEN = "proven"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


class Property(StrEnum):
    """Statements about a layer, for every input of the model.

    ONNXRUNTIME_EXACT: onnxruntime, running the graph as it is written, gives the integers' codes from the integers' codes.
    ONNXRUNTIME_OPTIMIZED: also when an optimizer folds bias and scale into the weights, as onnxruntime does by default.
    SOFT_INT32: nothing overflows in the soft library, which computes in int32. DIGIT_18BIT: no accumulator of a 2-bit weight
    digit leaves the 18 bits in which the NPU is read out.
    """

    ONNXRUNTIME_EXACT = "onnxruntime_exact"
    SOFT_INT32 = "soft_int32"
    DIGIT_18BIT = "digit_18bit"
    ONNXRUNTIME_OPTIMIZED = "onnxruntime_optimized"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reason.

    Attributes
    ----------
    verdict
        The verdict.
    reason
        One clause, without a full stop.
    evidence
        Numbers that the reason rests on: where a limit is passed, or which accumulator gets another code.
    """

    verdict: Verdict
    reason: str
    evidence: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True when the statement is proven."""
        return self.verdict is Verdict.PROVEN


@dataclass(frozen=True, slots=True)
class Refutation:
    """A model input at which a layer breaks a statement, found by running it: what turns UNKNOWN into VIOLATED.

    Attributes
    ----------
    layer
        Name of the layer.
    statement
        What does not hold.
    reason
        One clause that names the input and what becomes of it.
    evidence
        The numbers in it.
    """

    layer: str
    statement: Property
    reason: str
    evidence: Mapping[str, int] = field(default_factory=dict)


def proven(reason: str) -> Judgement:
    """A statement that holds for every input."""
    return Judgement(Verdict.PROVEN, reason)


def unknown(reason: str, evidence: Mapping[str, int] | None = None) -> Judgement:
    """A statement that is neither proven nor refuted."""
    return Judgement(Verdict.UNKNOWN, reason, evidence or {})


def violated(reason: str, evidence: Mapping[str, int]) -> Judgement:
    """A statement that fails for an input that exists."""
    return Judgement(Verdict.VIOLATED, reason, evidence)


def conjunction(judgements: Iterable[tuple[str, Judgement]]) -> Judgement:
    """The judgement of a whole model from those of its layers, by name: proven only when each is.

    Examples
    --------
    >>> conjunction([("/a", proven("it fits")), ("/b", unknown("it may not fit"))]).reason
    "layer '/b': it may not fit"
    """
    listed = list(judgements)
    for verdict in (Verdict.VIOLATED, Verdict.UNKNOWN):
        open_ones = [(name, judgement) for name, judgement in listed if judgement.verdict is verdict]
        if open_ones:
            name, judgement = open_ones[0]
            more = f"; and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
            return Judgement(verdict, f"layer '{name}': {judgement.reason}{more}", judgement.evidence)
    return proven(f"it holds in each of {len(listed)} layers")
