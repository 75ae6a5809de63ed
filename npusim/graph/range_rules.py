"""The rule of every operator: the range of its result for ranges of its operands, and with which of them it rises or falls.

A rule knows its operands by position. It stands in :data:`RULES` with the attributes and the number of inputs that it
understands; with any other nothing is known. Where a result is monotone in all operands the rule says so, and both
granularities of :mod:`npusim.graph.ranges` evaluate the operator at the ends.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.errors import NpusimError
from npusim.graph.graph import Array, Node, TensorType
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import Trait, is_a, operators_with, traits_of
from npusim.graph.value_range import EXACT_FLOAT32, UNKNOWN, Number, ValueRange, holds_numbers, range_of_constant, range_of_type

__all__ = ["RULES", "Ends", "Operation", "Result", "Understood", "at_corners", "results_of"]

MOST_TERMS: Final = 2**16
"""Up to so many products the rounding of their sum is a small part of it."""


Ends: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""The smallest and the largest value of each element."""


def at_corners(
    operation: Operation, ends: Sequence[Ends | None], directions: Sequence[int | None]
) -> tuple[tuple[Array, ...], ...]:
    """The operator's results at the ends of its operands: for each output one array for each corner."""
    values: list[tuple[Array | None, ...]] = []
    for pair, kind in zip(ends, operation.types, strict=True):
        if pair is None or pair[0] is pair[1] or kind is None:
            values.append((None,) if pair is None else pair[:1])
        else:
            values.append(tuple(part.astype(kind.dtype) for part in pair))
    corners: dict[tuple[int, ...], None] = {}
    for end in (0, 1):
        picks = [
            (0,) if len(choice) == 1 else {1: (end,), -1: (1 - end,)}.get(direction or 0, (0, 1))
            for choice, direction in zip(values, directions, strict=True)
        ]
        corners.update(dict.fromkeys(product(*picks)))
    results = [operation.evaluate([choice[pick] for choice, pick in zip(values, corner, strict=True)]) for corner in corners]
    return tuple(zip(*results, strict=True))


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule finds: the range, and how the result moves with each operand where it is monotone in all of them."""

    values: ValueRange
    directions: tuple[int | None, ...] | None = None
    follows_first: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A node with what is known of its operands, by position; None for one that is left out."""

    node: Node
    opset: int
    operands: tuple[ValueRange | None, ...]
    constants: tuple[Array | None, ...]
    types: tuple[TensorType | None, ...]
    results: tuple[TensorType | None, ...]

    @classmethod
    def of(
        cls,
        node: Node,
        operands: tuple[ValueRange | None, ...],
        constants: Mapping[str, Array],
        types: Mapping[str, TensorType],
        opset: int,
    ) -> Operation:
        """A node with ranges of its inputs; constants and types are looked up by name."""
        return cls(
            node,
            opset,
            operands,
            tuple(constants.get(name) if name else None for name in node.inputs),
            tuple(types.get(name) if name else None for name in node.inputs),
            tuple(types.get(name) if name else None for name in node.outputs),
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the first result."""
        kind = self.results[0]
        return np.dtype(np.float64) if kind is None else kind.dtype

    @property
    def is_float(self) -> bool:
        """True when the first result is in floats."""
        return self.dtype.kind == "f"

    @property
    def given(self) -> tuple[ValueRange, ...]:
        """The operands that are not left out."""
        return tuple(part for part in self.operands if part is not None)

    @property
    def first(self) -> ValueRange:
        """The first operand."""
        return self.operands[0] or UNKNOWN if self.operands else UNKNOWN

    def constant(self, position: int) -> Array | None:
        """The value of an operand that is constant."""
        return self.constants[position] if position < len(self.constants) else None

    def has(self, position: int) -> bool:
        """True when an operand is given."""
        return position < len(self.operands) and self.operands[position] is not None

    def rest_is_constant(self, *moving: int) -> bool:
        """True when all operands but those at the given positions are constants."""
        return all(
            place in moving or known is None or self.constants[place] is not None for place, known in enumerate(self.operands)
        )

    def evaluate(self, values: Sequence[Array | None]) -> tuple[Array, ...]:
        """The operator itself, each operand by its position."""
        names = tuple("" if value is None else f"operand {place}" for place, value in enumerate(values))
        known = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        with np.errstate(all="ignore"):
            return evaluate_node(replace(self.node, inputs=names), known, self.opset)


Rule: TypeAlias = Callable[[Operation], Result]


@dataclass(frozen=True, slots=True)
class Understood:
    """A rule with the attributes and the number of inputs that it takes into account."""

    rule: Rule
    attributes: frozenset[str]
    inputs: int | None

    def covers(self, operation: Operation) -> bool:
        """True when the rule takes into account all that a node says."""
        names = set(operation.node.attributes)
        return names <= self.attributes and (self.inputs is None or len(operation.operands) <= self.inputs)


_NOTHING: Final = Result(UNKNOWN)


def results_of(operation: Operation) -> tuple[Result, ...]:
    """What is known of each output; nothing but its type where no rule covers the node as it is written."""
    known, kind = RULES.get(operation.node.op_type), operation.results[0]
    first = _NOTHING
    if known is not None and known.covers(operation) and kind is not None and holds_numbers(kind.dtype):
        try:
            first = known.rule(operation)
        except NpusimError:
            first = _NOTHING
    rest = (first if first.follows_first else _NOTHING for _ in operation.results[1:])
    return tuple(_typed(result, kind) for result, kind in zip((first, *rest), operation.results, strict=True))


def _typed(result: Result, kind: TensorType | None) -> Result:
    """A result within its element type: integers that could leave it have wrapped around, and may be anything."""
    if kind is None or kind.dtype.kind not in "iub":
        return result
    whole, values = range_of_type(kind.dtype), result.values
    if not (whole.lower <= values.lower and values.upper <= whole.upper):
        return Result(whole)
    return replace(result, values=ValueRange(int(values.lower), int(values.upper), True))


def _directions(operation: Operation) -> tuple[int | None, ...]:
    known = traits_of(operation.node.op_type)
    return tuple(known.direction(place) for place in range(len(operation.operands)))


def _ends_by_evaluation(operation: Operation) -> tuple[Number, Number] | None:
    """Smallest and largest result of an element-wise operator at all combinations of its operands' ends."""
    pairs: list[Ends | None] = []
    for known, kind in zip(operation.operands, operation.types, strict=True):
        dtype = operation.dtype if kind is None else kind.dtype
        pairs.append(None if known is None else (np.asarray(known.lower, dtype), np.asarray(known.upper, dtype)))
    corners = at_corners(operation, pairs, _directions(operation))[0]
    values = [corner.reshape(()).item() for corner in corners]
    if any(value != value for value in values):
        return None
    return min(values), max(values)


_EXACT: Final[Mapping[str, Callable[[Any, Any], Any]]] = MappingProxyType(
    {"Add": operator.add, "Sum": operator.add, "Sub": operator.sub, "Mul": operator.mul}
)


def _integer_arithmetic(operation: Operation) -> Result:
    """Sums and products of integers, as if they did not wrap around: what leaves the type is anything."""
    function = _EXACT[operation.node.op_type]
    corners = [reduce(function, ends) for ends in product(*((part.lower, part.upper) for part in operation.given))]
    return Result(ValueRange(min(corners), max(corners), True), _directions(operation))


def _limit_of_integers(dtype: np.dtype[Any]) -> int:
    """Every integer up to this magnitude is a number of the float type."""
    return int(2 ** (np.finfo(dtype.str).nmant + 1)) if dtype.kind == "f" else 2**63


def _arithmetic(operation: Operation) -> Result:
    """Add, Sub, Mul, Sum: monotone in each operand while the others stay."""
    if not operation.is_float:
        return _integer_arithmetic(operation)
    given, name = operation.given, operation.node.op_type
    nan = any(part.nan for part in given) or _makes_nan(name, given)
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return Result(ValueRange(-math.inf, math.inf, False, nan, negative_zero=True))
    lower, upper = ends
    integral = all(part.integral for part in given) and max(abs(lower), abs(upper)) <= min(
        _limit_of_integers(operation.dtype), EXACT_FLOAT32
    )
    found = ValueRange(lower, upper, integral, nan)
    return Result(replace(found, negative_zero=found.has_zero and _makes_negative_zero(name, given)), _directions(operation))


def _makes_nan(name: str, given: tuple[ValueRange, ...]) -> bool:
    """Whether an infinity meets its opposite, or zero."""
    if name == "Mul":
        return any(
            one.has_zero and math.isinf(other.magnitude)
            for place, one in enumerate(given)
            for other in given[:place] + given[place + 1 :]
        )
    if name == "Sub":
        given = (given[0], *(ValueRange(-part.upper, -part.lower, False) for part in given[1:]))
    if len(given) > 2:
        # a partial sum may overflow on its way, and then meet an infinity
        return any(not part.is_finite for part in given)
    return any(part.upper == math.inf for part in given) and any(part.lower == -math.inf for part in given)


def _makes_negative_zero(name: str, given: tuple[ValueRange, ...]) -> bool:
    if name == "Mul":
        return any(part.lower < 0 or part.negative_zero for part in given)
    if name == "Sub":
        return given[0].negative_zero
    return all(part.negative_zero for part in given)


def _square_or_product(operation: Operation) -> Result:
    """Mul; the product of a tensor with itself is not negative."""
    found = _arithmetic(operation)
    names = operation.node.inputs
    if len(names) == 2 and names[0] == names[1] and found.values.lower < 0:
        return replace(found, values=replace(found.values, lower=0, negative_zero=False))
    return found


def _quotient(operation: Operation) -> Result:
    """Div by what is never zero; an integer quotient drops its fraction."""
    dividend, divisor = operation.given
    if divisor.has_zero or divisor.nan:
        return _NOTHING
    if not operation.is_float:
        corners = [_truncated(a, b) for a, b in product((dividend.lower, dividend.upper), (divisor.lower, divisor.upper))]
        return Result(ValueRange(min(corners), max(corners), True), _directions(operation))
    nan = dividend.nan or (math.isinf(dividend.magnitude) and math.isinf(divisor.magnitude))
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return Result(ValueRange(-math.inf, math.inf, False, nan, negative_zero=True))
    return Result(ValueRange(*ends, False, nan, negative_zero=ends[0] <= 0 <= ends[1]), _directions(operation))


def _truncated(a: Number, b: Number) -> int:
    quotient = abs(int(a)) // abs(int(b))
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainder(operation: Operation) -> Result:
    """Mod: smaller than the divisor, and of the sign of one operand."""
    dividend, divisor = operation.given
    if divisor.has_zero or divisor.nan:
        return _NOTHING
    largest = divisor.magnitude
    nan = dividend.nan or math.isinf(dividend.magnitude) or math.isinf(largest)
    return Result(ValueRange(-largest, largest, dividend.integral and divisor.integral, nan, negative_zero=True))


def _negative(operation: Operation) -> Result:
    one = operation.first
    return Result(
        ValueRange(-one.upper, -one.lower, one.integral, one.nan, operation.is_float and one.has_zero), _directions(operation)
    )


def _absolute(operation: Operation) -> Result:
    one = operation.first
    lower = 0 if one.has_zero else min(abs(one.lower), abs(one.upper))
    return Result(ValueRange(lower, one.magnitude, one.integral, one.nan))


def _reciprocal(operation: Operation) -> Result:
    one = operation.first
    if one.has_zero or not operation.is_float:
        return Result(replace(UNKNOWN, nan=one.nan)) if operation.is_float else _NOTHING
    ends = _ends_by_evaluation(operation)
    return _NOTHING if ends is None else Result(ValueRange(*ends, False, one.nan, True), _directions(operation))


def _square_root(operation: Operation) -> Result:
    one = operation.first
    if not operation.is_float:
        return _NOTHING
    lower, upper = (np.sqrt(np.asarray(max(end, 0), operation.dtype)).item() for end in (one.lower, one.upper))
    nan = one.nan or one.lower < 0
    return Result(ValueRange(lower, upper, False, nan, one.negative_zero), None if nan else _directions(operation))


def _rising(operation: Operation) -> Result:
    """An operator of one operand that never falls and makes no NaN: rounding, Sign, Relu."""
    one = operation.first
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return _NOTHING
    if one.nan and operation.node.op_type == "Sign":
        # some implementations give 0 for NaN
        ends = min(*ends, 0), max(*ends, 0)
    integral = one.integral or is_a(operation.node.op_type, Trait.ROUNDS) or operation.node.op_type == "Sign"
    # Ceil and Round make -0 of small negative numbers
    small = is_a(operation.node.op_type, Trait.ROUNDS) and one.lower < 0 < one.upper + 1 and not one.integral
    zero = operation.is_float and (one.negative_zero or small) and ends[0] <= 0 <= ends[1]
    return Result(ValueRange(*ends, integral, one.nan, zero), _directions(operation))


def _clip(operation: Operation) -> Result:
    """Clip, its bounds given as attributes before opset 11 and as inputs from then on; it rises with all three."""
    one = operation.first
    if operation.opset < 11:
        if len(operation.operands) > 1:
            return _NOTHING
        bounds = [
            range_of_constant(np.asarray(operation.node.real(name, math.nan), operation.dtype))
            for name in ("min", "max")
            if name in operation.node.attributes
        ]
    else:
        if operation.node.attributes:
            return _NOTHING
        bounds = list(operation.given[1:])
    if any(bound.nan for bound in bounds):
        return _NOTHING
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return _NOTHING
    if operation.opset < 11:
        # what stands for a bound that is not given differs: infinity, or the largest number
        names = operation.node.attributes
        ends = (ends[0] if "min" in names else min(ends[0], one.lower), ends[1] if "max" in names else max(ends[1], one.upper))
    integral = one.integral and all(bound.integral for bound in bounds)
    zero = operation.is_float and any(part.negative_zero for part in (one, *bounds)) and ends[0] <= 0 <= ends[1]
    return Result(ValueRange(*ends, integral, one.nan, zero), _directions(operation))


def _extreme(operation: Operation) -> Result:
    """Min and Max of any number of operands."""
    choose = min if operation.node.op_type == "Min" else max
    given = operation.given
    lower, upper = choose(part.lower for part in given), choose(part.upper for part in given)
    flags = (any(part.nan for part in given), operation.is_float and any(part.negative_zero for part in given))
    return Result(ValueRange(lower, upper, all(part.integral for part in given), *flags), _directions(operation))


def _sloped(operation: Operation) -> Result:
    """LeakyRelu and PRelu: they rise while the slope is not negative."""
    one = operation.first
    if operation.node.op_type == "PRelu":
        if operation.opset < 7 or len(operation.given) != 2:
            return _NOTHING
        slope = operation.given[1]
    else:
        given = operation.node.real("alpha", 0.01)
        slope = range_of_constant(np.asarray(given, operation.dtype))
    if not operation.is_float or not slope.lower >= 0 or slope.nan or not slope.is_finite:
        return _NOTHING
    if one.lower == -math.inf and slope.has_zero:
        return _NOTHING
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return _NOTHING
    integral = one.integral and slope.integral and max(abs(ends[0]), abs(ends[1])) <= EXACT_FLOAT32
    return Result(ValueRange(*ends, integral, one.nan, negative_zero=True), _directions(operation))


def _thresholded(operation: Operation) -> Result:
    """ThresholdedRelu: it rises where the threshold is not negative."""
    one = operation.first
    if not operation.node.real("alpha", 1.0) >= 0:
        return _NOTHING
    ends = _ends_by_evaluation(operation)
    if ends is None:
        return _NOTHING
    # a comparison with NaN is false, and what takes its place differs between implementations
    return Result(ValueRange(min(*ends, 0), max(*ends, 0), one.integral, one.nan), _directions(operation))


def _within(lower: float, upper: float) -> Rule:
    """The rule of a function whose results stay within an interval, whatever its operand is."""

    def rule(operation: Operation) -> Result:
        one = operation.first
        if not operation.is_float:
            return _NOTHING
        return Result(ValueRange(lower, upper, False, one.nan, negative_zero=lower < 0 <= upper))

    return rule


def _hard_sigmoid(operation: Operation) -> Result:
    """HardSigmoid: clipped to [0, 1]; NaN comes of NaN, and of infinity times 0."""
    one = operation.first
    nan = one.nan or not one.is_finite
    return Result(ValueRange(0, 1, False, nan, negative_zero=True)) if operation.is_float else _NOTHING


def _shares(operation: Operation) -> Result:
    """Softmax: parts of a whole; infinities among the operands make NaN."""
    one = operation.first
    return Result(ValueRange(0, 1, False, one.nan or not one.is_finite)) if operation.is_float else _NOTHING


def _logical(_operation: Operation) -> Result:
    return Result(ValueRange(0, 1, True))


def _union(parts: Sequence[ValueRange]) -> ValueRange:
    return ValueRange(
        min(part.lower for part in parts),
        max(part.upper for part in parts),
        all(part.integral for part in parts),
        any(part.nan for part in parts),
        any(part.negative_zero for part in parts),
    )


def _moved(operation: Operation) -> Result:
    """Elements of some operands, unchanged."""
    places = traits_of(operation.node.op_type).moved or tuple(range(len(operation.operands)))
    parts = [operation.operands[place] or UNKNOWN for place in places]
    by_position = is_a(operation.node.op_type, Trait.ELEMENTWISE) or operation.rest_is_constant(*places)
    directions = _directions(operation) if by_position else None
    return Result(_union(parts), directions, follows_first=operation.node.op_type == "Split")


def _dropout(operation: Operation) -> Result:
    """Dropout at inference, which is all that npusim computes."""
    return Result(operation.first, (1,) * len(operation.operands) if operation.rest_is_constant(0) else None)


def _largest_of_some(operation: Operation) -> Result:
    """MaxPool, ReduceMax and their like; a window or reduction without any element has the type's lowest or highest value."""
    one, kind = operation.first, operation.types[0]
    if kind is None or not kind.is_static or 0 in kind.static_shape or not operation.rest_is_constant(0):
        return _NOTHING
    if is_a(operation.node.op_type, Trait.WINDOWED) and _may_see_nothing(operation, kind.static_shape):
        return _NOTHING
    return Result(one, _directions(operation))


def _may_see_nothing(operation: Operation, shape: tuple[int, ...]) -> bool:
    """Whether a window may lie in the padding alone."""
    node, spatial = operation.node, len(shape) - 2
    kernel = node.integers("kernel_shape") or (1,) * spatial
    pads = node.integers("pads") or (0,) * (2 * spatial)
    if node.text("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        pads = tuple(size - 1 for size in kernel * 2)
    dilated = any(step != 1 for step in node.integers("dilations") or ())
    return any(pad >= size or pad < 0 for pad, size in zip(pads, kernel * 2, strict=True)) or (dilated and any(pads))


def _pad(operation: Operation) -> Result:
    """Pad: elements of the first operand and, in constant mode, the padding value."""
    one, node = operation.first, operation.node
    if node.text("mode", "constant") != "constant":
        return Result(one, _directions(operation) if operation.rest_is_constant(0) else None)
    if operation.opset < 11:
        value = range_of_constant(np.asarray(node.real("value", 0.0), operation.dtype))
        return Result(_union([one, value]), _directions(operation)) if len(operation.operands) == 1 else _NOTHING
    if "value" in node.attributes or "pads" in node.attributes:
        return _NOTHING
    value = operation.operands[2] or UNKNOWN if operation.has(2) else ValueRange(0, 0, True)
    follows = operation.rest_is_constant(0, 2)
    return Result(_union([one, value]), tuple(1 for _ in operation.operands) if follows else None)


def _resize(operation: Operation) -> Result:
    """Resize: chosen elements, or averages of them with weights that are not negative; cubic weights are."""
    one, node = operation.first, operation.node
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear") or not operation.rest_is_constant(0):
        return _NOTHING
    parts = [one]
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        outside = np.asarray(node.real("extrapolation_value", 0.0)).astype(operation.dtype)
        parts.append(range_of_constant(outside))
    found = _union(parts)
    if mode == "linear":
        # some implementations compute the averages in float32, which rounds them out of the interval
        if operation.dtype not in (np.float32, np.float16) or not one.is_finite:
            return _NOTHING
        slack = found.magnitude * (2.0**-20 if operation.dtype == np.float32 else 2.0**-8)
        found = ValueRange(found.lower - slack, found.upper + slack, False, found.nan, negative_zero=True)
    return Result(found, _directions(operation))


def _cast(operation: Operation) -> Result:
    """Cast and CastLike: rounding to a float; dropping the fraction, and high bits, to an integer; not zero to a Boolean."""
    one, target, source = operation.first, operation.dtype, operation.types[0]
    directions = (1,) * len(operation.operands)
    if target.kind == "b":
        zero_only = one.lower == one.upper == 0 and not one.nan
        return Result(ValueRange(0 if one.has_zero else 1, 0 if zero_only else 1, True), directions if one.lower >= 0 else None)
    if target.kind != "f":
        whole = range_of_type(target)
        fits = not one.nan and one.is_finite and whole.lower <= math.trunc(one.lower) and math.trunc(one.upper) <= whole.upper
        found = ValueRange(math.trunc(one.lower), math.trunc(one.upper), True) if fits else whole
        return Result(found, directions if fits else None)
    with np.errstate(all="ignore"):
        lower, upper = (np.asarray(end).astype(target).item() for end in (one.lower, one.upper))
    float_source = source is None or source.dtype.kind == "f"
    zero = float_source and lower <= 0 <= upper and (one.negative_zero or one.lower < 0)
    return Result(ValueRange(lower, upper, one.integral, one.nan, zero), directions)


def _quantized(operation: Operation) -> Result:
    """QuantizeLinear saturates: its results are codes of its type."""
    return Result(range_of_type(operation.dtype))


def _dequantized(operation: Operation) -> Result:
    """DequantizeLinear: ``(x - zero_point) * scale``, monotone in each while the others stay."""
    if not operation.rest_is_constant(0) or any(part.nan for part in operation.given):
        return _NOTHING
    codes, scale = operation.given[:2]
    zero = operation.given[2] if operation.has(2) else ValueRange(0, 0, True)
    if not scale.is_finite:
        return _NOTHING
    ends = [
        np.asarray((code - shift) * np.float64(factor)).astype(operation.dtype).item()
        for code, shift, factor in product((codes.lower, codes.upper), (zero.lower, zero.upper), (scale.lower, scale.upper))
    ]
    lower, upper = min(ends), max(ends)
    # the operator rounds the difference and the scale too: one more float of room at each end where that may matter
    exact = max(abs(codes.lower - zero.upper), abs(codes.upper - zero.lower)) <= EXACT_FLOAT32
    if not exact or operation.dtype == np.float16 or math.isinf(lower) or math.isinf(upper):
        return Result(ValueRange(-math.inf, math.inf, False, negative_zero=True))
    return Result(ValueRange(lower, upper, scale.integral and max(abs(lower), abs(upper)) <= EXACT_FLOAT32, False, True))


def _products(operation: Operation) -> Result:
    """Sums of products with constant weights: at most all products of the largest magnitude, rounded in any order.

    Of integers they are integers as well, and exact, while they stay where floats hold them all.
    """
    weights, node, given = operation.constant(1), operation.node, operation.given
    if weights is None or not all(part.is_finite and not part.nan for part in given):
        return _NOTHING
    alpha, beta = abs(node.real("alpha", 1.0)), abs(node.real("beta", 1.0))
    bias = float(max((part.magnitude for part in given[2:]), default=0)) * beta
    largest = float(operation.first.magnitude) * float(np.abs(weights.astype(np.float64)).max(initial=0)) * alpha
    terms = weights.size // (weights.shape[0] if node.op_type == "Conv" and weights.shape[0] else 1)
    bound = terms * largest + bias
    integral = all(part.is_codes for part in given) and alpha == 1 and beta == 1
    if integral and bound <= min(EXACT_FLOAT32, _limit_of_integers(operation.dtype)):
        return Result(ValueRange(-bound, bound, True, negative_zero=operation.is_float))
    if operation.dtype not in (np.float32, np.float64) or terms > MOST_TERMS:
        return _NOTHING
    # n roundings of relative size 2**-24 add less than a hundredth
    bound *= 1.01
    known = bound < float(np.finfo(operation.dtype.str).max)
    return Result(ValueRange(-bound, bound, False, negative_zero=True)) if known else _NOTHING


def _reduced_sum(operation: Operation) -> Result:
    """ReduceSum and the sums of magnitudes and squares, of integers whose sums floats hold exactly."""
    one, terms = operation.first, _reduced_elements(operation)
    if terms is None or not one.is_codes:
        return _NOTHING
    lower, upper = int(one.lower), int(one.upper)
    match operation.node.op_type:
        case "ReduceL1":
            lower, upper = 0, int(one.magnitude)
        case "ReduceSumSquare":
            lower, upper = 0, int(one.magnitude) ** 2
    lower, upper = terms * min(lower, 0), terms * max(upper, 0)
    if not operation.is_float and one.magnitude > range_of_type(operation.dtype).upper:
        return _NOTHING
    if operation.is_float and max(-lower, upper) > min(EXACT_FLOAT32, _limit_of_integers(operation.dtype)):
        return _NOTHING
    return Result(ValueRange(lower, upper, True, negative_zero=operation.is_float))


def _averaged(operation: Operation) -> Result:
    """Averages of integers whose sums floats hold exactly; some multiply by a reciprocal, which rounds once more."""
    one, terms = operation.first, _reduced_elements(operation)
    if terms is None or not one.is_codes or not operation.is_float:
        return _NOTHING
    if terms * one.magnitude > min(EXACT_FLOAT32, _limit_of_integers(operation.dtype)):
        return _NOTHING
    # padding that counts is made of zeros
    slack = one.magnitude * 2.0**-8 if operation.dtype == np.float16 else one.magnitude * 2.0**-20
    return Result(ValueRange(min(one.lower, 0) - slack, max(one.upper, 0) + slack, False, negative_zero=True))


def _reduced_elements(operation: Operation) -> int | None:
    """At most how many elements are joined into one; None where a window may see none."""
    kind = operation.types[0]
    if kind is None or not kind.is_static or not operation.rest_is_constant(0) or 0 in kind.static_shape:
        return None
    if is_a(operation.node.op_type, Trait.WINDOWED) and _may_see_nothing(operation, kind.static_shape):
        return None
    return math.prod(kind.static_shape)


def _position(operation: Operation) -> Result:
    """ArgMax and ArgMin: a place on an axis."""
    kind = operation.types[0]
    if kind is None or not kind.is_static or not kind.static_shape or 0 in kind.static_shape:
        return _NOTHING
    return Result(ValueRange(0, kind.static_shape[operation.node.integer("axis", 0) % len(kind.static_shape)] - 1, True))


def _filled(operation: Operation) -> Result:
    value = operation.node.tensor("value")
    return Result(range_of_constant(np.zeros(1, np.float32) if value is None else value))


def _nothing(_operation: Operation) -> Result:
    return _NOTHING


def _understood(rule: Rule, *attributes: str, inputs: int | None = 1) -> Understood:
    return Understood(rule, frozenset(attributes), inputs)


_WINDOW: Final = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_UNRULED: Final = _understood(_nothing)
_LOGICAL: Final = _understood(_logical, inputs=2)

RULES: Final[Mapping[str, Understood]] = MappingProxyType(
    {
        # saturated to their type, which is all that is known
        **dict.fromkeys(operators_with(Trait.QUANTIZES), _UNRULED),
        "Add": _understood(_arithmetic, inputs=2),
        "Sub": _understood(_arithmetic, inputs=2),
        "Mul": _understood(_square_or_product, inputs=2),
        "Div": _understood(_quotient, inputs=2),
        "Mod": _understood(_remainder, "fmod", inputs=2),
        "BitShift": _UNRULED,
        "Sum": _understood(_arithmetic, inputs=None),
        "Mean": _UNRULED,
        "Neg": _understood(_negative),
        "Abs": _understood(_absolute),
        "Reciprocal": _understood(_reciprocal),
        "Sqrt": _understood(_square_root),
        "Pow": _UNRULED,
        "Floor": _understood(_rising),
        "Ceil": _understood(_rising),
        "Round": _understood(_rising),
        "Sign": _understood(_rising),
        "Relu": _understood(_rising),
        "Clip": _understood(_clip, "min", "max", inputs=3),
        "Min": _understood(_extreme, inputs=None),
        "Max": _understood(_extreme, inputs=None),
        "LeakyRelu": _understood(_sloped, "alpha"),
        "PRelu": _understood(_sloped, inputs=2),
        "ThresholdedRelu": _understood(_thresholded, "alpha"),
        "HardSigmoid": _understood(_hard_sigmoid, "alpha", "beta"),
        "HardSwish": _UNRULED,
        "Sigmoid": _understood(_within(0, 1)),
        "Tanh": _understood(_within(-1, 1)),
        "Elu": _UNRULED,
        "Selu": _UNRULED,
        "Gelu": _UNRULED,
        "Softplus": _understood(_within(0, math.inf)),
        "Softsign": _UNRULED,
        "Erf": _understood(_within(-1, 1)),
        "Exp": _understood(_within(0, math.inf)),
        "Log": _UNRULED,
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
        "IsInf": _understood(_logical, "detect_negative", "detect_positive"),
        "Where": _understood(_moved, inputs=3),
        "Cast": _understood(_cast, "to", "saturate", "round_mode"),
        "CastLike": _understood(_cast, "saturate", "round_mode", inputs=2),
        "Identity": _understood(_moved),
        "Dropout": _understood(_dropout, "ratio", "seed", "is_test", inputs=3),
        "QuantizeLinear": _understood(_quantized, "axis", "block_size", "output_dtype", "precision", "saturate", inputs=3),
        "DequantizeLinear": _understood(_dequantized, "axis", "block_size", "output_dtype", inputs=3),
        "Reshape": _understood(_moved, "allowzero", "shape", inputs=2),
        "Flatten": _understood(_moved, "axis"),
        "Squeeze": _understood(_moved, "axes", inputs=2),
        "Unsqueeze": _understood(_moved, "axes", inputs=2),
        "Transpose": _understood(_moved, "perm"),
        "Concat": _understood(_moved, "axis", inputs=None),
        "Split": _understood(_moved, "axis", "split", "num_outputs", inputs=2),
        "Slice": _understood(_moved, "axes", "starts", "ends", inputs=5),
        "Gather": _understood(_moved, "axis", inputs=2),
        "GatherElements": _understood(_moved, "axis", inputs=2),
        "GatherND": _understood(_moved, "batch_dims", inputs=2),
        "Expand": _understood(_moved, inputs=2),
        "Tile": _understood(_moved, inputs=3),
        "Pad": _understood(_pad, "mode", "pads", "value", inputs=4),
        "Resize": _understood(
            _resize,
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
            inputs=4,
        ),
        "Upsample": _understood(_resize, "mode", "scales", inputs=2),
        "DepthToSpace": _understood(_moved, "blocksize", "mode"),
        "SpaceToDepth": _understood(_moved, "blocksize", "mode"),
        "Conv": _understood(_products, *_WINDOW, inputs=3),
        "ConvTranspose": _understood(_products, *_WINDOW, "output_padding", "output_shape", inputs=3),
        "Gemm": _understood(_products, "alpha", "beta", "transA", "transB", inputs=3),
        "MatMul": _understood(_products, inputs=2),
        "BatchNormalization": _UNRULED,
        "LayerNormalization": _UNRULED,
        "LSTM": _UNRULED,
        "GRU": _UNRULED,
        "MaxPool": _understood(_largest_of_some, *_WINDOW, "ceil_mode", "storage_order"),
        "GlobalMaxPool": _understood(_largest_of_some),
        "AveragePool": _understood(_averaged, *_WINDOW, "ceil_mode", "count_include_pad"),
        "GlobalAveragePool": _understood(_averaged),
        "ReduceMax": _understood(_largest_of_some, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceMin": _understood(_largest_of_some, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceMean": _understood(_averaged, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceSum": _understood(_reduced_sum, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceL1": _understood(_reduced_sum, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceSumSquare": _understood(_reduced_sum, "axes", "keepdims", "noop_with_empty_axes", inputs=2),
        "ReduceProd": _UNRULED,
        "ReduceL2": _UNRULED,
        "ReduceLogSum": _UNRULED,
        "ReduceLogSumExp": _UNRULED,
        "ArgMax": _understood(_position, "axis", "keepdims", "select_last_index"),
        "ArgMin": _understood(_position, "axis", "keepdims", "select_last_index"),
        "Softmax": _understood(_shares, "axis"),
        "LogSoftmax": _UNRULED,
        "Shape": _UNRULED,
        "Size": _UNRULED,
        "Constant": _UNRULED,
        "ConstantOfShape": _understood(_filled, "value"),
        "Range": _UNRULED,
    }
)
"""The rule of every operator, with the attributes and the number of inputs it understands."""
