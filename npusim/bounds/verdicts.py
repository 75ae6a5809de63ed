"""Statements that hold for every input, and what was found out about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from npusim.schemas.objects import WHERE_KNOWN

__all__ = [
    "STATEMENTS_OF",
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

    Of formats that are not the NPU's: ACCUMULATOR_INT32: nothing overflows the int32 accumulators of the runtime.
    PRODUCT_INT32: nor does ``k * phi + lambda`` overflow int32.
    """

    ONNXRUNTIME_EXACT = "onnxruntime_exact"
    SOFT_INT32 = "soft_int32"
    DIGIT_18BIT = "digit_18bit"
    ONNXRUNTIME_OPTIMIZED = "onnxruntime_optimized"
    ACCUMULATOR_INT32 = "accumulator_int32"
    PRODUCT_INT32 = "product_int32"


_OF_NPU: Final = (Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT, Property.ONNXRUNTIME_OPTIMIZED)

STATEMENTS_OF: Final[Mapping[str, tuple[Property, ...]]] = MappingProxyType(
    {
        "tinpu": _OF_NPU,
        "float": _OF_NPU,
        "qdq": (Property.ACCUMULATOR_INT32,),
        "qoperator": (Property.ACCUMULATOR_INT32,),
        "tflite": (Property.ACCUMULATOR_INT32,),
        "match": (Property.ACCUMULATOR_INT32, Property.PRODUCT_INT32),
    }
)
"""The statements that are judged of the layers of a format."""

_BESIDE: Final = Property.ONNXRUNTIME_OPTIMIZED
"""The statement that stands beside the others in JSON."""


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
    accumulator_int32
        Nothing overflows the int32 accumulators of the runtime.
    product_int32
        k * phi + lambda does not overflow int32.

    What is no statement about the model's format is null; the last two are left out.
    """

    onnxruntime_exact: Verdict | None
    soft_int32: Verdict | None
    digit_18bit: Verdict | None
    accumulator_int32: Verdict | None = field(default=None, metadata=WHERE_KNOWN)
    product_int32: Verdict | None = field(default=None, metadata=WHERE_KNOWN)

    @classmethod
    def of(cls, judgements: Mapping[Property, Judgement]) -> Verdicts:
        """The verdicts of judgements; the statement about optimizers, which is about onnxruntime alone, stands beside."""
        known = {str(statement): judgements[statement].verdict for statement in judgements if statement is not _BESIDE}
        return cls(**{**dict.fromkeys(map(str, _OF_NPU[:3])), **known})


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why, one clause for each verdict.

    Attributes
    ----------
    onnxruntime_exact, soft_int32, digit_18bit, accumulator_int32, product_int32
        The clause for the verdict of this name.
    """

    onnxruntime_exact: str | None
    soft_int32: str | None
    digit_18bit: str | None
    accumulator_int32: str | None = field(default=None, metadata=WHERE_KNOWN)
    product_int32: str | None = field(default=None, metadata=WHERE_KNOWN)

    @classmethod
    def of(cls, judgements: Mapping[Property, Judgement]) -> Reasons:
        """The reasons of judgements."""
        known = {str(statement): judgements[statement].reason for statement in judgements if statement is not _BESIDE}
        return cls(**{**dict.fromkeys(map(str, _OF_NPU[:3])), **known})


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

    @classmethod
    def about_optimizers(cls, judgements: Mapping[Property, Judgement]) -> Statement | None:
        """What judgements say of an onnxruntime that folds scales; None where that is no statement about the format."""
        return cls.of(judgements[_BESIDE]) if _BESIDE in judgements else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where limits are passed or codes differ; empty for what is proven.

    Attributes
    ----------
    onnxruntime_exact, soft_int32, digit_18bit, onnxruntime_optimized, accumulator_int32, product_int32
        Numbers, by name.
    """

    onnxruntime_exact: Mapping[str, int] | None
    soft_int32: Mapping[str, int] | None
    digit_18bit: Mapping[str, int] | None
    onnxruntime_optimized: Mapping[str, int] | None
    accumulator_int32: Mapping[str, int] | None = field(default=None, metadata=WHERE_KNOWN)
    product_int32: Mapping[str, int] | None = field(default=None, metadata=WHERE_KNOWN)

    @classmethod
    def of(cls, judgements: Mapping[Property, Judgement]) -> Evidence:
        """The evidence of judgements."""
        known = {str(statement): dict(judgement.evidence) for statement, judgement in judgements.items()}
        return cls(**{**dict.fromkeys(map(str, _OF_NPU)), **known})


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
