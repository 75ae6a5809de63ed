"""Hypothesis strategies for layers small enough for the oracle: arrays of edge-heavy integers and geometry that fits them.

A case is called as ``kernel(*case.arrays, **case.arguments)`` and ``oracle_...(*case.lists, **case.list_arguments)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

__all__ = [
    "Case",
    "additions",
    "convolutions",
    "fully_connected_layers",
    "integer_arrays",
    "maximum_pools",
    "requantizations",
    "sum_pools",
    "transposed_convolutions",
    "weight_arrays",
]

ACTIVATION_RANGES = [(0, 255), (-128, 127), (-255, 255), (-256, 255), (0, 15), (0, 1)]
WEIGHT_RANGES = [(-127, 127), (-128, 127), (-7, 7), (-8, 7), (-1, 1), (-2, 1)]
WIDE_RANGE = (1 - 2**50, 2**50 - 1)
"""Integers whose sums of products need more than the 53 bits of a float64, and still fit an int64."""

CODE_RANGES = [(0, 255), (-128, 127), (-255, 255), (0, 15), (-8, 7), (-512, 511), (-(2**40), 2**40)]
LARGEST_KERNEL = {1: 5, 2: 3, 3: 2}
"""By number of spatial axes."""


@dataclass(frozen=True)
class Case:
    """Arrays and keyword arguments of one call."""

    arrays: tuple[npt.NDArray[Any], ...]
    arguments: dict[str, Any]

    @property
    def lists(self) -> list[Any]:
        return [array.tolist() for array in self.arrays]

    @property
    def list_arguments(self) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.arguments.items()}


def integers_of_rank(rank: int, least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=rank, max_size=rank)


@st.composite
def integer_arrays(draw: st.DrawFn, shape: tuple[int, ...], bounds: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Random integers of a range, of which a drawn share are its limits; drawn by seed, so that shapes cost nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at_limit = rng.random(shape) < draw(st.sampled_from([0.0, 0.25, 1.0]))
    return np.where(at_limit, rng.choice(bounds, size=shape), rng.integers(*bounds, size=shape, endpoint=True))


@st.composite
def activations(draw: st.DrawFn, shape: tuple[int, ...], *, wide: bool) -> npt.NDArray[np.int64]:
    ranges = [*ACTIVATION_RANGES, WIDE_RANGE, WIDE_RANGE] if wide else ACTIVATION_RANGES
    return draw(integer_arrays(shape, draw(st.sampled_from(ranges))))


@st.composite
def weights(draw: st.DrawFn, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return draw(integer_arrays(shape, draw(st.sampled_from(WEIGHT_RANGES))))


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool, ceil_mode: bool = False, pads_below_kernel: bool = False) -> tuple[Any, ...]:
    """Sizes of the data and the arguments kernel_shape, strides, pads and dilations; at least one window fits.

    With `ceil_mode` the padded data may be smaller than the window, by less than a stride.
    """
    rank = draw(st.integers(1, 3))
    kernel_shape = draw(integers_of_rank(rank, 1, LARGEST_KERNEL[rank]))
    strides = draw(integers_of_rank(rank, 1, 4))
    dilations = draw(integers_of_rank(rank, 1, 3 if dilated else 1))
    # Only a few cases with windows that hold nothing but padding: max pooling refuses those.
    most = 0 if not pads_below_kernel and draw(st.integers(0, 3)) == 3 else -1
    pads = [draw(st.integers(0, kernel + most)) for kernel in kernel_shape * 2]
    sizes = []
    for axis, extra in enumerate(draw(integers_of_rank(rank, 0, 8 - 2 * rank))):
        least = dilations[axis] * (kernel_shape[axis] - 1) + 1 - pads[axis] - pads[rank + axis]
        sizes.append(max(1, least - (draw(st.integers(0, strides[axis] - 1)) if ceil_mode else 0)) + extra)
    return sizes, {"kernel_shape": kernel_shape, "strides": strides, "pads": pads, "dilations": dilations}


@st.composite
def convolutions(draw: st.DrawFn, *, wide: bool = True) -> Case:
    """Arrays x, w; without `wide` all sums stay far below 2**24."""
    sizes, geometry = draw(windows(dilated=True))
    group, group_channels, group_out_channels = draw(integers_of_rank(3, 1, 3))
    x = draw(activations((draw(st.integers(1, 2)), group * group_channels, *sizes), wide=wide))
    w = draw(weights((group * group_out_channels, group_channels, *geometry.pop("kernel_shape"))))
    return Case((x, w), {**geometry, "group": group})


@st.composite
def transposed_convolutions(draw: st.DrawFn, *, wide: bool = True) -> Case:
    """Arrays x, w; without `wide` sums stay far below 2**24, and output_padding below the stride, as ONNX Runtime wants it."""
    rank = draw(st.integers(1, 3))
    sizes, kernel_shape = draw(integers_of_rank(rank, 1, 6 - rank)), draw(integers_of_rank(rank, 1, LARGEST_KERNEL[rank]))
    strides, dilations = draw(integers_of_rank(rank, 1, 3)), draw(integers_of_rank(rank, 1, 2))
    output_padding = [draw(st.integers(0, 3 if wide else stride - 1)) for stride in strides]
    begins, ends = [], []
    for size, kernel, stride, dilation, extra in zip(sizes, kernel_shape, strides, dilations, output_padding, strict=True):
        full = stride * (size - 1) + dilation * (kernel - 1) + 1 + extra
        begins.append(draw(st.integers(0, min(full - 1, 3))))
        ends.append(draw(st.integers(0, min(full - 1 - begins[-1], 3))))
    group, group_channels, group_out_channels = draw(integers_of_rank(3, 1, 2))
    x = draw(activations((draw(st.integers(1, 2)), group * group_channels, *sizes), wide=wide))
    w = draw(weights((group * group_channels, group_out_channels, *kernel_shape)))
    geometry = {"strides": strides, "pads": [*begins, *ends], "dilations": dilations}
    return Case((x, w), {**geometry, "group": group, "output_padding": output_padding})


@st.composite
def fully_connected_layers(draw: st.DrawFn) -> Case:
    """Arrays x, w; x has one to three axes."""
    *samples, features, outputs = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    return Case((draw(activations((*samples, features), wide=True)), draw(weights((features, outputs)))), {})


@st.composite
def sum_pools(draw: st.DrawFn) -> Case:
    """Array x."""
    sizes, geometry = draw(windows(dilated=False))
    del geometry["dilations"]
    return Case((draw(activations((*draw(integers_of_rank(2, 1, 2)), *sizes), wide=True)),), geometry)


@st.composite
def maximum_pools(draw: st.DrawFn, *, pads_below_kernel: bool = False) -> Case:
    """Array x of int8, uint8 or int64; a window may hold only padding."""
    ceil_mode = draw(st.booleans())
    sizes, geometry = draw(windows(dilated=True, ceil_mode=ceil_mode, pads_below_kernel=pads_below_kernel))
    kinds = [(np.int8, (-128, 127)), (np.int8, (-128, -100)), (np.uint8, (0, 255)), (np.int64, WIDE_RANGE)]
    dtype, bounds = draw(st.sampled_from(kinds))
    x = draw(integer_arrays((*draw(integers_of_rank(2, 1, 2)), *sizes), bounds)).astype(dtype)
    return Case((x,), {**geometry, "ceil_mode": ceil_mode})


def biased_accumulators(scale: int, shift: int, lower: int, upper: int) -> st.SearchStrategy[int]:
    """Values whose scaled product lies beside a step of the code, or where a narrower format gives out, up to 2**33."""
    limits = [2**17, 2**24, 2**31, 2**32, 2**33]
    centre = st.one_of(
        st.integers(max(lower - 1, -600), min(upper + 1, 600)).map(lambda code: code * 2**shift // (scale or 1)),
        st.sampled_from([lower, upper]).map(lambda code: code * 2**shift // (scale or 1)),
        st.sampled_from([sign * limit // divisor for sign in (-1, 1) for limit in limits for divisor in (1, scale or 1)]),
        st.integers(-(2**31), 2**31),
    )
    return st.builds(lambda value, near: min(max(value, -(2**33)), 2**33) + near, centre, st.integers(-2, 2))


@st.composite
def requantizations(draw: st.DrawFn, *, float_exact: bool = False) -> Case:
    """An accumulator ``[N, C, L]`` with parameters for each channel.

    With `float_exact` the accumulator stays within 2**24 before and after the bias, as ONNX Runtime needs it in float32.
    """
    batch, channels, length = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lower, upper = draw(st.sampled_from(CODE_RANGES))
    bias_limit = draw(st.sampled_from([2**23, 2**15, 4]))
    biases = st.integers(-bias_limit, bias_limit - 1)
    scales = st.one_of(st.sampled_from([1, 255, -1]), st.integers(0, 255), st.integers(-4095, 4095))
    bias, scale, shift = (
        draw(st.lists(values, min_size=channels, max_size=channels)) for values in (biases, scales, st.integers(0, 31))
    )
    most = 2**24 if float_exact else 2**34
    acc = np.empty((batch, channels, length), np.int64)
    for n, c, i in np.ndindex(*acc.shape):
        biased = draw(biased_accumulators(scale[c], shift[c], lower, upper))
        acc[n, c, i] = min(max(min(max(biased, -most), most) - bias[c], -most), most)
    columns = {"bias": bias, "scale": scale, "shift": shift}
    parameters = {name: np.array(values, np.int64).reshape(channels, 1) for name, values in columns.items()}
    return Case((acc,), {**parameters, "lower": lower, "upper": upper})


@st.composite
def additions(draw: st.DrawFn) -> Case:
    """Requantized values and a residual ``[N, C]``, the residual with all samples or with one for all."""
    batch, channels = draw(integers_of_rank(2, 1, 4))
    inner_lower, inner_upper = draw(st.sampled_from([(-512, 511), (-255, 255), (-(2**40), 2**40)]))
    lower, upper = draw(st.sampled_from([(0, 255), (-128, 127), (-255, 255)]))
    requantized = draw(integer_arrays((batch, channels), draw(st.sampled_from([(-600, 600), (-513, 512), (-(2**31), 2**31)]))))
    skip = draw(integer_arrays((draw(st.sampled_from([1, batch])), channels), draw(st.sampled_from([(0, 255), (-512, 511)]))))
    arguments = {"inner_lower": inner_lower, "inner_upper": inner_upper, "lower": lower, "upper": upper}
    return Case((requantized, skip), arguments)


@st.composite
def weight_arrays(draw: st.DrawFn) -> Case:
    """Weights of up to three axes and their width."""
    bits = draw(st.sampled_from([2, 4, 8]))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    return Case((draw(integer_arrays(shape, (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))),), {"bits": bits})
