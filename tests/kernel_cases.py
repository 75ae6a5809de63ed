"""Hypothesis strategies for layers small enough for the oracle: arrays of edge-heavy integers and geometry that fits them.

A case is called as ``kernel(*case.arrays, **case.geometry)`` and ``oracle_...(*case.lists, **case.geometry)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

__all__ = [
    "ACTIVATION_RANGES",
    "SHIFTS",
    "WEIGHT_RANGES",
    "Case",
    "convolutions",
    "fully_connected_layers",
    "integer_arrays",
    "maximum_pools",
    "requantizations",
    "sum_pools",
    "transposed_convolutions",
]

ACTIVATION_RANGES = [(0, 255), (-128, 127), (-255, 255), (-256, 255), (0, 15), (0, 1)]
WEIGHT_RANGES = [(-127, 127), (-128, 127), (-7, 7), (-8, 7), (-1, 1), (-2, 1)]
WIDE_RANGE = (-(2**31), 2**31 - 1)
"""Integers whose products need more than the 53 bits of a float64."""

SHIFTS = st.integers(0, 31)


@dataclass(frozen=True)
class Case:
    """Arrays and keyword arguments of one call."""

    arrays: tuple[npt.NDArray[Any], ...]
    geometry: dict[str, Any]

    @property
    def lists(self) -> list[Any]:
        return [array.tolist() for array in self.arrays]


@st.composite
def integer_arrays(draw: st.DrawFn, shape: tuple[int, ...], bounds: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Random integers of a range, of which a drawn share are its limits; only the seed is drawn, which keeps large shapes cheap."""
    lower, upper = bounds
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(lower, upper, size=shape, endpoint=True)
    edges = rng.choice([lower, upper], size=shape)
    return np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.25, 1.0])), edges, x)


def bounds_of(ranges: list[tuple[int, int]], *, wide: bool) -> st.SearchStrategy[tuple[int, int]]:
    return st.sampled_from([*ranges, WIDE_RANGE] if wide else ranges)


def one_for_each(rank: int, least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=rank, max_size=rank)


@st.composite
def convolutions(draw: st.DrawFn, *, wide: bool = True) -> Case:
    """Arrays x, w; without `wide` all sums stay far below 2**24."""
    rank = draw(st.integers(1, 3))
    largest = {1: 5, 2: 3, 3: 2}[rank]
    kernel_shape = draw(one_for_each(rank, 1, largest))
    strides, dilations, pads = (draw(one_for_each(*limits)) for limits in ((rank, 1, 3), (rank, 1, 3), (2 * rank, 0, largest)))
    reach = [dilation * (kernel - 1) + 1 for dilation, kernel in zip(dilations, kernel_shape, strict=True)]
    sizes = [
        max(1, reach[axis] - pads[axis] - pads[rank + axis]) + extra
        for axis, extra in enumerate(draw(one_for_each(rank, 0, 7 - 2 * rank)))
    ]
    group, group_channels, group_out_channels = draw(one_for_each(3, 1, 3))
    x_bounds, w_bounds = draw(bounds_of(ACTIVATION_RANGES, wide=wide)), draw(bounds_of(WEIGHT_RANGES, wide=False))
    x = draw(integer_arrays((draw(st.integers(1, 2)), group * group_channels, *sizes), x_bounds))
    w = draw(integer_arrays((group * group_out_channels, group_channels, *kernel_shape), w_bounds))
    return Case((x, w), {"strides": strides, "pads": pads, "dilations": dilations, "group": group})


@st.composite
def transposed_convolutions(draw: st.DrawFn, *, wide: bool = True) -> Case:
    """Arrays x, w; output_padding stays below the stride, as ONNX Runtime wants it, unless `wide`."""
    rank = draw(st.integers(1, 3))
    kernel_shape = draw(one_for_each(rank, 1, {1: 5, 2: 3, 3: 2}[rank]))
    strides, dilations = draw(one_for_each(rank, 1, 3)), draw(one_for_each(rank, 1, 2))
    sizes = draw(one_for_each(rank, 1, {1: 5, 2: 3, 3: 2}[rank]))
    output_padding = [draw(st.integers(0, 3 if wide else stride - 1)) for stride in strides]
    begins, ends = [], []
    for size, kernel, stride, dilation, extra in zip(sizes, kernel_shape, strides, dilations, output_padding, strict=True):
        full = stride * (size - 1) + dilation * (kernel - 1) + 1 + extra
        begins.append(draw(st.integers(0, min(full - 1, 3))))
        ends.append(draw(st.integers(0, min(full - 1 - begins[-1], 3))))
    group, group_channels, group_out_channels = draw(one_for_each(3, 1, 2))
    x_bounds, w_bounds = draw(bounds_of(ACTIVATION_RANGES, wide=wide)), draw(bounds_of(WEIGHT_RANGES, wide=False))
    x = draw(integer_arrays((draw(st.integers(1, 2)), group * group_channels, *sizes), x_bounds))
    w = draw(integer_arrays((group * group_channels, group_out_channels, *kernel_shape), w_bounds))
    geometry = {"strides": strides, "pads": [*begins, *ends], "dilations": dilations, "group": group}
    return Case((x, w), {**geometry, "output_padding": output_padding})


@st.composite
def fully_connected_layers(draw: st.DrawFn) -> Case:
    """Arrays x, w; x has one to three axes."""
    *samples, features, outputs = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    x = draw(integer_arrays((*samples, features), draw(bounds_of(ACTIVATION_RANGES, wide=True))))
    return Case((x, draw(integer_arrays((features, outputs), draw(bounds_of(WEIGHT_RANGES, wide=False))))), {})


@st.composite
def sum_pools(draw: st.DrawFn) -> Case:
    """Array x."""
    case = draw(convolutions())
    x, w = case.arrays
    geometry = {**case.geometry, "dilations": None, "group": None}
    sizes = [max(size, 3) for size in x.shape[2:]]  # fits every kernel now that dilations are 1
    kernel_shape = [min(kernel, size) for kernel, size in zip(w.shape[2:], sizes, strict=True)]
    x = draw(integer_arrays((*x.shape[:2], *sizes), (int(x.min()), int(x.max()))))
    return Case((x,), {"kernel_shape": kernel_shape, "strides": geometry["strides"], "pads": geometry["pads"]})


@st.composite
def maximum_pools(draw: st.DrawFn, *, pads_below_kernel: bool = False) -> Case:
    """Array x of int8, uint8 or int64.

    Windows may hold only padding where dilations or pads are large. With `ceil_mode` the padded data may be smaller than the window.
    """
    rank = draw(st.integers(1, 3))
    largest = {1: 5, 2: 3, 3: 2}[rank]
    ceil_mode = draw(st.booleans())
    kernel_shape = draw(one_for_each(rank, 1, largest))
    strides, dilations = draw(one_for_each(rank, 1, 4)), draw(one_for_each(rank, 1, 3))
    most = [kernel - 1 if pads_below_kernel else kernel for kernel in kernel_shape] * 2
    pads = [draw(st.integers(0, limit)) for limit in most]
    sizes = []
    for axis, extra in enumerate(draw(one_for_each(rank, 0, 8 - 2 * rank))):
        reach = dilations[axis] * (kernel_shape[axis] - 1) + 1
        least = reach - pads[axis] - pads[rank + axis] - (strides[axis] - 1 if ceil_mode else 0)
        sizes.append(max(1, least) + extra)
    dtype, bounds = draw(
        st.sampled_from([(np.int8, (-128, 127)), (np.int8, (-128, -100)), (np.uint8, (0, 255)), (np.int64, WIDE_RANGE)])
    )
    x = draw(integer_arrays((draw(st.integers(1, 2)), draw(st.integers(1, 2)), *sizes), bounds)).astype(dtype)
    geometry = {"kernel_shape": kernel_shape, "strides": strides, "pads": pads, "dilations": dilations}
    return Case((x,), {**geometry, "ceil_mode": ceil_mode})


CODE_RANGES = [(0, 255), (-128, 127), (-255, 255), (0, 15), (-8, 7), (-512, 511), (-(2**40), 2**40)]


@st.composite
def requantizations(draw: st.DrawFn, *, float_exact: bool = False) -> Case:
    """An accumulator ``[N, C, L]`` with parameters for each channel; most values lie beside a step of the code.

    With `float_exact` every integer up to the biased accumulator stays within 2**24.
    """
    batch, channels, length = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    lower, upper = draw(st.sampled_from(CODE_RANGES))
    bias_limit = draw(st.sampled_from([2**23, 2**15, 3]))
    scales = st.one_of(st.sampled_from([1, 255, -1]), st.integers(0, 255), st.integers(-4095, 4095))
    bias, scale, shift = (
        np.array(draw(st.lists(values, min_size=channels, max_size=channels)), np.int64).reshape(channels, 1)
        for values in (st.integers(-bias_limit, bias_limit - 1), scales, SHIFTS)
    )
    acc = np.empty((batch, channels, length), np.int64)
    for index in np.ndindex(*acc.shape):
        b, c, s = (int(parameter[index[1], 0]) for parameter in (bias, scale, shift))
        wanted = draw(biased_accumulators(c, s, lower, upper))
        acc[index] = min(max(wanted, -(2**24)), 2**24) - b if float_exact else wanted - b
    if float_exact:
        acc = np.clip(acc, -(2**24), 2**24)
    return Case((acc,), {"bias": bias, "scale": scale, "shift": shift, "lower": lower, "upper": upper})


@st.composite
def biased_accumulators(draw: st.DrawFn, scale: int, shift: int, lower: int, upper: int) -> int:
    """A value whose scaled product lies at a step of the code, or near a power of two where a narrower format gives out."""
    step = draw(st.one_of(st.integers(max(lower, -600), min(upper, 600)), st.sampled_from([lower, upper, upper + 1])))
    at_step = step * 2**shift // (scale or 1)
    at_limit = draw(st.sampled_from([0, 2**17, 2**24, 2**31, 2**32])) // (draw(st.sampled_from([1, abs(scale) or 1])))
    anywhere = draw(st.integers(-(2**31), 2**31))
    near = draw(st.integers(-2, 2))
    limit = 2**33
    return min(max(draw(st.sampled_from([at_step, at_step, at_limit, -at_limit, anywhere])), -limit), limit) + near
