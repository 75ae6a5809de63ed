"""What an operator is, written once: every other module asks here instead of listing operators of its own.

A name that is not in the table has no trait, so that nothing is assumed of it. The ranges of results stand beside this
table, in :mod:`npusim.graph.ranges`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from types import MappingProxyType
from typing import Final

__all__ = ["FOREIGN_QUANTIZATION", "TRAITS", "OperatorTraits", "SampleAxis", "Trait", "is_a", "operators_with", "traits_of"]


class Trait(Flag):
    """Properties of an operator, whatever its attributes are.

    ELEMENTWISE: an element of the result depends on the elements of its operands at its own place, after broadcasting.
    MOVES: the result is made of elements of its operands, unchanged (see `moved`; Pad and Resize may add a constant).
    RESHAPES: the same elements in the same order, in another shape. RENAMES: the operand itself. PERMUTES: no element stands in
    the result twice, and none is new. JOINS: operands side by side along `axis`.
    SUM, DIFFERENCE, PRODUCT, QUOTIENT: arithmetic of two or more operands. WEIGHTED: sums of products with a second operand,
    the weights. CONVOLUTION: those that slide them over spatial axes. NORMALIZES: one factor and one addend for each channel.
    WINDOWED: a window slides over the spatial axes. AVERAGES, MAXIMUM: what a window or reduction makes of its elements.
    REDUCES: it joins the elements along the axes named by `axes`. GLOBAL: it joins all spatial positions.
    ROUNDS: results are whole numbers near the operand. LIMITS: a value stays itself or becomes a bound.
    ACTIVATION: a function of one value that networks put behind a layer. SQUASHES: its results stay within a fixed interval.
    FREE_ORDER: a sum of floats whose order IEEE 754 leaves open. FUNCTION: not defined to the last bit by IEEE 754.
    KEEPS_INTEGERS: integers give integers. INTERPOLATES: it is free as well unless it takes nearest neighbours.
    CONVERTS: another element type. QUANTIZES: it reads or gives codes with scales or zero points.
    RECURRENT: it goes through a sequence step by step.
    SHAPE_ONLY: only the operand's shape is read.
    SELECTS_NAN: what it makes of NaN, or of zeros of both signs, differs between correct implementations.
    """

    NONE = 0
    ELEMENTWISE = auto()
    MOVES = auto()
    RESHAPES = auto()
    RENAMES = auto()
    PERMUTES = auto()
    JOINS = auto()
    SUM = auto()
    DIFFERENCE = auto()
    PRODUCT = auto()
    QUOTIENT = auto()
    WEIGHTED = auto()
    CONVOLUTION = auto()
    NORMALIZES = auto()
    WINDOWED = auto()
    AVERAGES = auto()
    MAXIMUM = auto()
    REDUCES = auto()
    GLOBAL = auto()
    ROUNDS = auto()
    LIMITS = auto()
    ACTIVATION = auto()
    SQUASHES = auto()
    FREE_ORDER = auto()
    FUNCTION = auto()
    KEEPS_INTEGERS = auto()
    INTERPOLATES = auto()
    CONVERTS = auto()
    QUANTIZES = auto()
    RECURRENT = auto()
    SHAPE_ONLY = auto()
    SELECTS_NAN = auto()
    AFFINE = SUM | DIFFERENCE | PRODUCT | QUOTIENT


class SampleAxis(StrEnum):
    """What an operator does to a first axis that holds samples.

    BROADCAST: it treats all axes alike and broadcasts operands. PRODUCT: rows of a matrix product. FIRST: samples and channels
    stand first, by definition. NAMED: it works along the axis that an attribute names. RESHAPED: the axes of its result follow
    from a constant. PERMUTED: they follow from `perm`. REDUCED, SLICED, PADDED, REPEATED, RESIZED: constants say which axes it
    touches. MIXED: not known.
    """

    BROADCAST = "broadcast"
    PRODUCT = "product"
    FIRST = "first"
    NAMED = "named"
    RESHAPED = "reshaped"
    PERMUTED = "permuted"
    REDUCED = "reduced"
    SLICED = "sliced"
    PADDED = "padded"
    REPEATED = "repeated"
    RESIZED = "resized"
    MIXED = "mixed"


RISES, FALLS, EITHER = 1, -1, 0
"""How a result moves with an operand: never down, never up, or one of both, depending on the other operands."""


@dataclass(frozen=True, slots=True)
class OperatorTraits:
    """What is known of one operator.

    Attributes
    ----------
    traits
        Its properties.
    samples
        What it does to an axis of samples.
    directions
        For each operand position how the result moves with it, the last one for all further positions; empty where it is not
        monotone, or where the operand is not a number to be ordered (indices, shapes).
    moved
        For MOVES: the operand positions whose elements the result is made of; empty for all.
    observes_zero_sign
        Operand positions where +0 and -0 give results of different value.
    """

    traits: Trait
    samples: SampleAxis = SampleAxis.MIXED
    directions: tuple[int, ...] = ()
    moved: tuple[int, ...] = (0,)
    observes_zero_sign: tuple[int, ...] = ()

    def direction(self, position: int) -> int | None:
        """The direction of an operand; None where it is not monotone."""
        return self.directions[min(position, len(self.directions) - 1)] if self.directions else None


_T, _S = Trait, SampleAxis
_ELEMENTWISE = Trait.ELEMENTWISE
_PICKS = Trait.KEEPS_INTEGERS | Trait.SELECTS_NAN
_SUMS = Trait.WEIGHTED | Trait.FREE_ORDER | Trait.KEEPS_INTEGERS
_MOVES = Trait.MOVES | Trait.KEEPS_INTEGERS
_VIEW = _MOVES | Trait.RESHAPES | Trait.PERMUTES


def _per_element(
    traits: Trait = Trait.NONE, *directions: int, observes_zero_sign: tuple[int, ...] = (), moved: tuple[int, ...] = (0,)
) -> OperatorTraits:
    return OperatorTraits(_ELEMENTWISE | traits, _S.BROADCAST, directions, moved, observes_zero_sign)


def _reduction(traits: Trait, *directions: int) -> OperatorTraits:
    return OperatorTraits(traits | _T.REDUCES, _S.REDUCED, directions)


_LOGICAL = _per_element()
_ON_CODES = OperatorTraits(_T.QUANTIZES | _T.KEEPS_INTEGERS)
_EXACT_SUM = _T.SUM | _T.KEEPS_INTEGERS

_NOTHING: Final = OperatorTraits(Trait.NONE)

TRAITS: Final[Mapping[str, OperatorTraits]] = MappingProxyType(
    {
        # arithmetic
        "Add": _per_element(_EXACT_SUM, RISES),
        "Sub": _per_element(_T.DIFFERENCE | _T.KEEPS_INTEGERS, RISES, FALLS),
        "Mul": _per_element(_T.PRODUCT | _T.KEEPS_INTEGERS, EITHER),
        "Div": _per_element(_T.QUOTIENT, EITHER, observes_zero_sign=(1,)),
        "Mod": _per_element(_T.KEEPS_INTEGERS),
        "BitShift": _per_element(),
        "Sum": _per_element(_EXACT_SUM | _T.FREE_ORDER, RISES),
        "Mean": _per_element(_T.FREE_ORDER),
        "Neg": _per_element(_T.KEEPS_INTEGERS, FALLS),
        "Abs": _per_element(_T.KEEPS_INTEGERS),
        "Reciprocal": _per_element(_T.NONE, FALLS, observes_zero_sign=(0,)),
        "Sqrt": _per_element(_T.NONE, RISES),
        "Pow": _per_element(_T.FUNCTION, observes_zero_sign=(0,)),
        # rounding and limits
        "Floor": _per_element(_T.ROUNDS | _T.KEEPS_INTEGERS, RISES),
        "Ceil": _per_element(_T.ROUNDS | _T.KEEPS_INTEGERS, RISES),
        "Round": _per_element(_T.ROUNDS | _T.KEEPS_INTEGERS, RISES),
        "Sign": _per_element(_PICKS, RISES),
        "Clip": _per_element(_T.LIMITS | _PICKS, RISES),
        "Min": _per_element(_T.LIMITS | _PICKS, RISES),
        "Max": _per_element(_T.LIMITS | _PICKS, RISES),
        "Relu": _per_element(_T.LIMITS | _T.ACTIVATION | _PICKS, RISES),
        # activations and functions
        "LeakyRelu": _per_element(_T.ACTIVATION, RISES),
        "PRelu": _per_element(_T.ACTIVATION, RISES, EITHER),
        "ThresholdedRelu": _per_element(_T.ACTIVATION | _PICKS, RISES),
        "HardSigmoid": _per_element(_T.ACTIVATION | _T.SQUASHES | _T.FUNCTION | _T.SELECTS_NAN),
        "HardSwish": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Sigmoid": _per_element(_T.ACTIVATION | _T.SQUASHES | _T.FUNCTION),
        "Tanh": _per_element(_T.ACTIVATION | _T.SQUASHES | _T.FUNCTION),
        "Elu": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Selu": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Gelu": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Softplus": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Softsign": _per_element(_T.ACTIVATION | _T.FUNCTION),
        "Erf": _per_element(_T.FUNCTION),
        "Exp": _per_element(_T.FUNCTION),
        "Log": _per_element(_T.FUNCTION),
        # logic and choice
        "And": _LOGICAL,
        "Or": _LOGICAL,
        "Xor": _LOGICAL,
        "Not": _LOGICAL,
        "Equal": _LOGICAL,
        "Less": _LOGICAL,
        "LessOrEqual": _LOGICAL,
        "Greater": _LOGICAL,
        "GreaterOrEqual": _LOGICAL,
        "IsNaN": _LOGICAL,
        "IsInf": _LOGICAL,
        "Where": _per_element(_MOVES, EITHER, RISES, RISES, moved=(1, 2)),
        # element types
        "Cast": _per_element(_T.CONVERTS | _T.KEEPS_INTEGERS, RISES),
        "CastLike": _per_element(_T.CONVERTS | _T.KEEPS_INTEGERS, RISES, RISES),
        "Identity": _per_element(_VIEW | _T.RENAMES, RISES),
        "Dropout": _per_element(_VIEW | _T.RENAMES, RISES),
        "QuantizeLinear": OperatorTraits(_T.QUANTIZES | _T.KEEPS_INTEGERS | _T.SELECTS_NAN, _S.NAMED),
        "DequantizeLinear": OperatorTraits(_T.QUANTIZES, _S.NAMED, (EITHER,)),
        "QLinearConv": _ON_CODES,
        "QLinearMatMul": _ON_CODES,
        "QGemm": _ON_CODES,
        "ConvInteger": _ON_CODES,
        "MatMulInteger": _ON_CODES,
        "QLinearAdd": _ON_CODES,
        "QLinearMul": _ON_CODES,
        "QLinearConcat": _ON_CODES,
        "QLinearAveragePool": _ON_CODES,
        "QLinearGlobalAveragePool": _ON_CODES,
        "QLinearLeakyRelu": _ON_CODES,
        "QLinearSigmoid": _ON_CODES,
        "QLinearSoftmax": _ON_CODES,
        # moving data
        "Reshape": OperatorTraits(_VIEW, _S.RESHAPED, (RISES,)),
        "Flatten": OperatorTraits(_VIEW, _S.RESHAPED, (RISES,)),
        "Squeeze": OperatorTraits(_VIEW, _S.RESHAPED, (RISES,)),
        "Unsqueeze": OperatorTraits(_VIEW, _S.RESHAPED, (RISES,)),
        "Transpose": OperatorTraits(_MOVES | _T.PERMUTES, _S.PERMUTED, (RISES,)),
        "Concat": OperatorTraits(_MOVES | _T.JOINS, _S.NAMED, (RISES,), ()),
        "Split": OperatorTraits(_MOVES, _S.NAMED, (RISES,)),
        "Slice": OperatorTraits(_MOVES | _T.PERMUTES, _S.SLICED, (RISES,)),
        "Gather": OperatorTraits(_MOVES, _S.NAMED, (RISES,)),
        "GatherElements": OperatorTraits(_MOVES, _S.MIXED, (RISES,)),
        "GatherND": OperatorTraits(_MOVES, _S.MIXED, (RISES,)),
        "Expand": OperatorTraits(_MOVES, _S.REPEATED, (RISES,)),
        "Tile": OperatorTraits(_MOVES, _S.REPEATED, (RISES,)),
        "Pad": OperatorTraits(_MOVES, _S.PADDED, (RISES,)),
        "Resize": OperatorTraits(_MOVES | _T.INTERPOLATES, _S.RESIZED, (RISES,)),
        "Upsample": OperatorTraits(_MOVES | _T.INTERPOLATES, _S.MIXED, (RISES,)),
        "DepthToSpace": OperatorTraits(_MOVES, _S.FIRST, (RISES,)),
        "SpaceToDepth": OperatorTraits(_MOVES, _S.FIRST, (RISES,)),
        # layers
        "Conv": OperatorTraits(_SUMS | _T.CONVOLUTION | _T.WINDOWED, _S.FIRST),
        "ConvTranspose": OperatorTraits(_SUMS | _T.CONVOLUTION | _T.WINDOWED, _S.FIRST),
        "Gemm": OperatorTraits(_SUMS, _S.PRODUCT),
        "MatMul": OperatorTraits(_SUMS, _S.PRODUCT),
        "BatchNormalization": OperatorTraits(_T.NORMALIZES | _T.FUNCTION, _S.FIRST),
        "LayerNormalization": OperatorTraits(_T.FUNCTION),
        "LSTM": OperatorTraits(_T.FUNCTION | _T.RECURRENT),
        "GRU": OperatorTraits(_T.FUNCTION | _T.RECURRENT),
        # pools and reductions
        "MaxPool": OperatorTraits(_T.MAXIMUM | _T.WINDOWED | _PICKS, _S.FIRST, (RISES,)),
        "GlobalMaxPool": OperatorTraits(_T.MAXIMUM | _T.GLOBAL | _PICKS, _S.FIRST, (RISES,)),
        "AveragePool": OperatorTraits(_T.AVERAGES | _T.WINDOWED | _T.FREE_ORDER, _S.FIRST),
        "GlobalAveragePool": OperatorTraits(_T.AVERAGES | _T.GLOBAL | _T.FREE_ORDER, _S.FIRST),
        "ReduceMax": _reduction(_T.MAXIMUM | _PICKS, RISES),
        "ReduceMin": _reduction(_PICKS, RISES),
        "ReduceMean": _reduction(_T.AVERAGES | _T.FREE_ORDER),
        "ReduceSum": _reduction(_T.FREE_ORDER | _T.KEEPS_INTEGERS),
        "ReduceProd": _reduction(_T.FUNCTION | _T.KEEPS_INTEGERS),
        "ReduceL1": _reduction(_T.FUNCTION | _T.KEEPS_INTEGERS),
        "ReduceL2": _reduction(_T.FUNCTION),
        "ReduceLogSum": _reduction(_T.FUNCTION),
        "ReduceLogSumExp": _reduction(_T.FUNCTION),
        "ReduceSumSquare": _reduction(_T.FUNCTION | _T.KEEPS_INTEGERS),
        "ArgMax": OperatorTraits(_T.SELECTS_NAN, _S.NAMED),
        "ArgMin": OperatorTraits(_T.SELECTS_NAN, _S.NAMED),
        "Softmax": OperatorTraits(_T.ACTIVATION | _T.SQUASHES | _T.FUNCTION, _S.NAMED),
        "LogSoftmax": OperatorTraits(_T.ACTIVATION | _T.FUNCTION, _S.NAMED),
        # values from shapes and attributes
        "Shape": OperatorTraits(_T.SHAPE_ONLY),
        "Size": OperatorTraits(_T.SHAPE_ONLY),
        "Constant": OperatorTraits(_T.NONE),
        "ConstantOfShape": OperatorTraits(_T.NONE),
        "Range": OperatorTraits(_T.NONE),
    }
)
"""Every operator that npusim computes."""


def traits_of(op_type: str) -> OperatorTraits:
    """What is known of an operator; nothing for a name that is not in the table.

    Examples
    --------
    >>> traits_of("Sub").directions
    (1, -1)
    >>> traits_of("LSTM").traits
    <Trait.NONE: 0>
    """
    return TRAITS.get(op_type, _NOTHING)


def is_a(op_type: str | None, *traits: Trait) -> bool:
    """True when an operator has at least one of the traits; of a combined trait every part counts as one.

    None, which is not an operator, has none.

    Examples
    --------
    >>> is_a("Relu", Trait.LIMITS), is_a("Sub", Trait.AFFINE), is_a("Relu", Trait.WINDOWED, Trait.ROUNDS)
    (True, True, False)
    """
    found = Trait.NONE if op_type is None else traits_of(op_type).traits
    return any(bool(found & trait) for trait in traits)


def operators_with(trait: Trait) -> frozenset[str]:
    """The names of the operators that have every part of a trait.

    Examples
    --------
    >>> sorted(operators_with(Trait.CONVOLUTION))
    ['Conv', 'ConvTranspose']
    """
    return frozenset(name for name, known in TRAITS.items() if trait in known.traits)


FOREIGN_QUANTIZATION: Final = operators_with(Trait.QUANTIZES) | {"DynamicQuantizeLinear"}
"""Operators in which other quantizers write their models, supported or not."""
