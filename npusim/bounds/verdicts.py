"""Statements that hold for every input, and what was found out about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = [
    "Evidence",
    "Judgement",
    "Property",
    "Reasons",
    "Refutation",
    "Statement",
    "Verdict",
    "Verdicts",
    "conjunction",
    "proven",
    "unknown",
    "violated",
]


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


_STATEMENTS: Final = (Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT)


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
class Verdicts:
    """What is known for every input.

    Attributes
    ----------
    onnxruntime_exact
        onnxruntime, running the graph as it is written, gives the integers' codes.
    soft_int32
        (accumulator + bias) * scale does not overflow the soft library's int32.
    digit_18bit
        No accumulator of a 2-bit weight digit, and no partial sum of it, leaves the 18 bits in which the NPU is read out.
    """

    onnxruntime_exact: Verdict
    soft_int32: Verdict
    digit_18bit: Verdict

    @classmethod
    def of(cls, judgements: Mapping[Property, Judgement]) -> Verdicts:
        """The verdicts of judgements; the statement about optimizers, which is about onnxruntime alone, stands beside."""
        return cls(*(judgements[statement].verdict for statement in _STATEMENTS))


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why, one clause for each verdict.

    Attributes
    ----------
    onnxruntime_exact, soft_int32, digit_18bit
        The clause for the verdict of this name.
    """

    onnxruntime_exact: str
    soft_int32: str
    digit_18bit: str

    @classmethod
    def of(cls, judgements: Mapping[Property, Judgement]) -> Reasons:
        """The reasons of judgements."""
        return cls(*(judgements[statement].reason for statement in _STATEMENTS))


@dataclass(frozen=True, slots=True)
class Statement:
    """One verdict with its reason.

    Attributes
    ----------
    verdict
        proven: holds for every input. violated: an input exists that breaks it. unknown: neither is shown.
    reason
        One clause.
    """

    verdict: Verdict
    reason: str

    @classmethod
    def of(cls, judgement: Judgement) -> Statement:
        """What a judgement says."""
        return cls(judgement.verdict, judgement.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where limits are passed or codes differ; empty for what is proven.

    Attributes
    ----------
    onnxruntime_exact, soft_int32, digit_18bit, onnxruntime_optimized
        Numbers, by name.
    """

    onnxruntime_exact: Mapping[str, int]
    soft_int32: Mapping[str, int]
    digit_18bit: Mapping[str, int]
    onnxruntime_optimized: Mapping[str, int]


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
