"""What can be stated of one layer for every input: whether floats carry it exactly, whether a device's integers overflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from npusim.bounds.channels import ChannelBounds, furthest
from npusim.bounds.float_proof import Decision, Disagreement, decide, float_path
from npusim.bounds.verdicts import Judgement, proven, unknown, violated
from npusim.program import Accumulating, ArithmeticTap, IntegerArray, IntegerLayer, Program, ResidualTap, Weighted
from npusim.program.intervals import Interval

__all__ = [
    "DIGIT_LIMITS",
    "INT32_LIMITS",
    "judge_accumulator",
    "judge_digits",
    "judge_onnxruntime",
    "judge_optimized",
    "judge_product",
    "judge_soft_library",
    "sums_of",
]

INT32_LIMITS: Final = (-(2**31), 2**31 - 1)
"""What the soft library's int32 holds."""

DIGIT_LIMITS: Final = (-(2**17), 2**17 - 1)
"""What an accumulator of a 2-bit weight digit holds as it is read out: 18 bits, signed."""

_NOT_ATTAINED: Final = "whether an input goes that far is not known, because earlier layers tie its codes to each other"


def judge_onnxruntime(program: Program, bounds: ChannelBounds) -> Judgement:
    """Whether onnxruntime, running the graph as written, gives the layer's codes for every input of the layer.

    Every partial sum of the accumulator, in whatever order the products are added, has to be an integer that the graph's
    floats hold; then the sum is exact however it is computed. What the graph makes of the accumulator is decided for each
    integer it can take.
    """
    layer = bounds.layer
    dtype = _element_type(program, layer)
    if dtype is None:
        return unknown("the graph does not compute it in float32 or float64, whose rounding is what is examined")
    limit = _largest_exact(dtype)
    sums = _sums(bounds)
    if sums is None:
        return unknown(
            "the scale is folded into its weights, and the bias was rounded: there is no unit of which all are multiples"
        )
    channel, value = furthest(sums)
    if abs(value) > limit:
        text = f"partial sums of channel {channel} can reach {value:,}, past {_power(limit)}, where {dtype} rounds them"
        return unknown(f"{text} in an order that nothing fixes", {"channel": channel, "partial_sum": value})
    decision = decide(float_path(layer, dtype), bounds.accumulator.lower, bounds.accumulator.upper)
    if decision is None:
        return unknown("its codes are too many to decide each")
    if not decision:
        return _disagreeing(bounds, decision)
    inner = _inexact_tap(bounds, limit)
    if inner is not None:
        return unknown(f"its inner tensor '{inner}' is read by itself, and {dtype} may round it")
    if bounds.residual is not None and _largest_sum(layer, bounds.residual) > limit:
        return unknown(f"its sum with the residual can pass {_power(limit)}")
    return proven(f"each of {decision.values:,} accumulator values gives the same code, and no partial sum passes {value:,}")


def judge_optimized(program: Program, bounds: ChannelBounds, as_written: Judgement) -> Judgement:
    """Whether an optimizer may fold bias, scale and power of two into the weights without changing a code.

    The products then are multiples of a power of two, scaled, and so is every partial sum: they are exact while the multiples
    stay integers that the floats hold. Common factors of two of scale and power do not count.
    """
    layer = bounds.layer
    dtype = _element_type(program, layer)
    if not as_written.holds or not isinstance(layer, Weighted) or dtype is None:
        return as_written
    units = layer.requantization.folded(bounds.partial.lower, bounds.partial.upper)
    if units is None:
        return unknown("folded into the weights, its multiplier has no unit of which all products are whole multiples")
    channel, value = furthest(Interval(*units))
    limit = _largest_exact(dtype)
    if abs(value) <= limit:
        return proven(f"no partial sum of products with folded weights passes {value:,} units")
    return unknown(
        f"with the scale folded into the weights, partial sums of channel {channel} can reach {value:,} units, past "
        f"{_power(limit)}, where {dtype} rounds them in an order that nothing fixes",
        {"channel": channel, "partial_sum": value},
    )


def judge_soft_library(bounds: ChannelBounds) -> Judgement:
    """Whether ``(accumulator + bias) * scale`` stays within int32.

    Sums wrap around modulo 2**32 and so does the product: it is right exactly when its true value is an int32, whatever
    happened on the way.
    """
    lower, upper = INT32_LIMITS
    channel, value = furthest(bounds.scaled)
    if lower <= value <= upper:
        return proven(f"(accumulator + bias) * scale stays within {_span(bounds.scaled)}")
    text = f"(accumulator + bias) * scale of channel {channel} can reach {value:,}, past int32"
    evidence = {"channel": channel, "scaled": value}
    if not bounds.attained:
        return unknown(f"{text}; {_NOT_ATTAINED}", evidence)
    codes = [_code(bounds.layer, channel, product) for product in (value, (value + 2**31) % 2**32 - 2**31)]
    text = f"{text}, for an input that exists: it wraps around, and the code is {codes[1]} instead of {codes[0]}"
    return violated(text, {**evidence, "code": codes[0], "wrapped_code": codes[1]})


def sums_of(bounds: ChannelBounds) -> Interval:
    """Every partial sum of the accumulator, with the bias added at whatever point."""
    bias = bounds.biased.lower - bounds.accumulator.lower
    return Interval(bounds.partial.lower + np.minimum(bias, 0), bounds.partial.upper + np.maximum(bias, 0))


def judge_accumulator(program: Program, bounds: ChannelBounds) -> Judgement:
    """Whether a runtime's int32 holds the accumulator of a layer of codes, every partial sum of it and its sum with the bias.

    What leaves int32 on the way only may come back, since sums wrap around: it is a violation where the sum itself does for
    an input that exists. Runtimes add 16-bit codes up in 32 or 64 bits, which is not examined: there nothing is violated.
    """
    lower, upper = INT32_LIMITS
    sums = sums_of(bounds)
    channel, value = furthest(sums)
    if lower <= value <= upper:
        return proven(f"every partial sum of its accumulator, with the bias, stays within {_span(sums)}")
    text, evidence = f"sums of channel {channel} can reach {value:,}, past int32", {"channel": channel, "accumulator": value}
    if any(program.tensors[name].dtype.itemsize == 2 for name in bounds.layer.inputs):
        return unknown(f"{text}; whether the runtime adds up 16-bit codes in more bits is not examined", evidence)
    channel, value = furthest(bounds.biased)
    if lower <= value <= upper:
        return unknown(f"{text}; what wraps around on the way comes back, as the whole sum fits", evidence)
    if not bounds.attained:
        return unknown(f"{text}; {_NOT_ATTAINED}", evidence)
    text = f"the sum of channel {channel} reaches {value:,}, past int32, for an input that exists"
    return violated(text, {"channel": channel, "accumulator": value})


def judge_product(bounds: ChannelBounds) -> Judgement:
    """Whether ``k * phi + lambda``, of an accumulator ``phi``, stays within int32: it wraps around as sums do."""
    lower, upper = INT32_LIMITS
    channel, value = furthest(bounds.scaled)
    if lower <= value <= upper:
        return proven(f"k * phi + lambda stays within {_span(bounds.scaled)}")
    text, evidence = (
        f"k * phi + lambda of channel {channel} can reach {value:,}, past int32",
        {"channel": channel, "scaled": value},
    )
    if not bounds.attained:
        return unknown(f"{text}; {_NOT_ATTAINED}", evidence)
    return violated(f"{text}, for an input that exists", evidence)


def judge_digits(bounds: ChannelBounds) -> Judgement:
    """Whether the accumulator of each 2-bit weight digit, and every partial sum of it, stays within 18 bits."""
    layer = bounds.layer
    if bounds.digits is None or bounds.digit_partials is None:
        return unknown(f"{_reach_of_weights(layer)}: how a device splits them into digits is not known")
    if not bounds.digits:
        return proven("it has no accumulator of weight digits")
    for digit, channel, value in _passing(bounds.digits if bounds.attained else ()):
        text = f"the accumulator of digit {digit} of channel {channel} reaches {value:,}, past 18 bits"
        return violated(f"{text}, for an input that exists", {"channel": channel, "digit": digit, "value": value})
    for digit, channel, value in _passing(bounds.digit_partials):
        text = f"a partial sum of digit {digit} of channel {channel} can reach {value:,}, past 18 bits"
        why = "whether it does depends on the order of adding" if bounds.attained else _NOT_ATTAINED
        return unknown(f"{text}; {why}", {"channel": channel, "digit": digit, "value": value})
    reach = Interval(
        np.minimum.reduce([part.lower for part in bounds.digit_partials]),
        np.maximum.reduce([part.upper for part in bounds.digit_partials]),
    )
    return proven(f"accumulators of its weight digits stay within {_span(reach)}")


def _element_type(program: Program, layer: IntegerLayer) -> np.dtype[Any] | None:
    """The one float type that a layer's tensors have in the graph; None for any other."""
    kinds = {program.tensors[name].dtype for name in (*layer.inputs, *layer.tensors)}
    found = next(iter(kinds))
    return found if len(kinds) == 1 and found in (np.dtype(np.float32), np.dtype(np.float64)) else None


def _largest_exact(dtype: np.dtype[Any]) -> int:
    """Every integer up to this magnitude is a number of the type: 2**24 for float32."""
    return int(2 ** (np.finfo(dtype.str).nmant + 1))


def _sums(bounds: ChannelBounds) -> Interval | None:
    """Partial sums with the bias that the accumulating node itself adds, at whatever point it does.

    With a folded scale the node sums multiples of a power of two: so many of that, and None where that cannot be told.
    """
    if bounds.layer.is_folded:
        units = bounds.layer.requantization.folded(bounds.partial.lower, bounds.partial.upper)
        return None if units is None else Interval(*units)
    inner = bounds.layer.inner_bias
    return Interval(bounds.partial.lower + np.minimum(inner, 0), bounds.partial.upper + np.maximum(inner, 0))


def _inexact_tap(bounds: ChannelBounds, limit: int) -> str | None:
    """The first inner tensor that is handed out and may hold more than floats do; what the codes become hides none of it."""
    for tap in bounds.layer.taps:
        if not tap.handed_out or isinstance(tap, ResidualTap):
            continue
        if not isinstance(tap, ArithmeticTap):
            return tap.tensor
        ends = [np.abs(tap.part.scaled(end[:, None])).max(initial=0) for end in _ends(bounds)]
        if max(ends) > limit:
            return tap.tensor
    return None


def _ends(bounds: ChannelBounds) -> tuple[IntegerArray, IntegerArray]:
    return bounds.accumulator.lower, bounds.accumulator.upper


def _largest_sum(layer: Accumulating, residual: Interval) -> int:
    clip = layer.requantization.clip
    return max(abs(clip.lower), abs(clip.upper)) + abs(furthest(residual)[1])


def _disagreeing(bounds: ChannelBounds, decision: Decision) -> Judgement:
    ends = [place for place in decision.disagreements if _is_end(place, bounds.accumulator) and _is_seen(place, bounds)]
    if ends and bounds.attained:
        text = f"{_different(ends[0])}, and an input that exists gives this accumulator"
        return violated(text, _evidence(ends[0]))
    first = decision.disagreements[0]
    return unknown(f"{_different(first)}; whether an input gives this accumulator is not known", _evidence(first))


def _is_end(place: Disagreement, interval: Interval) -> bool:
    return place.accumulator in (int(interval.lower[place.channel]), int(interval.upper[place.channel]))


def _is_seen(place: Disagreement, bounds: ChannelBounds) -> bool:
    """Whether the codes still differ behind the addition of a residual, whichever it is: the last saturation may hide it.

    Where they do with the smallest and with the largest residual, they do with all between.
    """
    layer, residual = bounds.layer, bounds.residual
    if residual is None:
        return True
    clip = layer.output_clip
    ends = int(residual.lower[place.channel]), int(residual.upper[place.channel])
    shown = [np.clip([place.integer_code + end, place.float_code + end], clip.lower, clip.upper) for end in ends]
    return all(mine != theirs for mine, theirs in shown)


def _different(place: Disagreement) -> str:
    return (
        f"an accumulator of {place.accumulator:,} in channel {place.channel} gives code {place.integer_code} in integers and "
        f"{place.float_code:g} in floats"
    )


def _evidence(place: Disagreement) -> Mapping[str, int]:
    known = {"channel": place.channel, "accumulator": place.accumulator, "npusim": place.integer_code}
    return {**known, "onnxruntime": int(place.float_code)} if np.isfinite(place.float_code) else known


def _code(layer: Accumulating, channel: int, scaled: int) -> int:
    """The code that a product becomes, whether it is the true one or has wrapped around."""
    part = layer.requantization.for_channels([channel])
    return int(part.clip.apply(part.codes_of_scaled(np.array([scaled], np.int64)))[0])


def _reach_of_weights(layer: IntegerLayer) -> str:
    if not isinstance(layer, Weighted):
        return "it has no weights"
    return f"its weights reach from {layer.weights.min()} to {layer.weights.max()}, which {layer.weight_bits} bits do not hold"


def _passing(digits: tuple[Interval, ...]) -> list[tuple[int, int, int]]:
    """Digit, channel and value where an interval leaves 18 bits, for each digit that does."""
    found = [(digit, *furthest(interval)) for digit, interval in enumerate(digits)]
    return [place for place in found if not DIGIT_LIMITS[0] <= place[2] <= DIGIT_LIMITS[1]]


def _span(interval: Interval) -> str:
    return f"{int(interval.lower.min()):,}..{int(interval.upper.max()):,}"


def _power(limit: int) -> str:
    return f"2^{limit.bit_length() - 1}"
