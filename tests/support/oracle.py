"""The integers that a layer has to produce, in plain Python: nested lists in, nested lists out, no NumPy, no 64-bit limit.

Each function is the mathematical definition written out, one output element at a time, and mirrors the kernel or the layer of
its name: data is ``[N][C]`` and then one level for each spatial axis, `pads` holds all begins, then all ends. Meant for a few
hundred elements: ``kernel(array, ...).tolist() == oracle_...(array.tolist(), ...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, TypeAlias

__all__ = [
    "broadcast_element",
    "element",
    "oracle_convolution",
    "oracle_fully_connected",
    "oracle_requantize",
    "oracle_residual",
    "oracle_scaled_value",
    "oracle_shift_right_floor",
    "oracle_transposed_convolution",
    "oracle_weight_digits",
    "oracle_window_maximum",
    "oracle_window_sum",
    "shape_of",
    "tabulate",
]

Nested: TypeAlias = Any
"""A number, or a list of equally long nested lists."""


def shape_of(nested: Nested) -> tuple[int, ...]:
    """Lengths of the levels, outermost first; levels below an empty one are unknown and left out."""
    if not isinstance(nested, list):
        return ()
    return (len(nested), *(shape_of(nested[0]) if nested else ()))


def element(nested: Nested, index: Sequence[int]) -> Any:
    """The number at an index."""
    for position in index:
        nested = nested[position]
    return nested


def broadcast_element(nested: Nested, index: Sequence[int]) -> Any:
    """The number that a broadcast puts at an index: missing outer levels and levels of length 1 serve all positions."""
    shape = shape_of(nested)
    inner = index[len(index) - len(shape) :]
    return element(nested, [0 if length == 1 else position for length, position in zip(shape, inner, strict=True)])


def tabulate(shape: Sequence[int], value: Callable[[tuple[int, ...]], Any]) -> Nested:
    """The nested list of a shape that holds `value(index)` at each index."""
    if not shape:
        return value(())
    return [tabulate(shape[1:], lambda rest, first=first: value((first, *rest))) for first in range(shape[0])]


def oracle_convolution(
    x: Nested, w: Nested, *, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], group: int
) -> Nested:
    batch, channels, *sizes = shape_of(x)
    out_channels, group_channels, *kernel_shape = shape_of(w)
    counts = window_counts(sizes, kernel_shape, strides, pads, dilations, ceil_mode=False)

    def acc(index: tuple[int, ...]) -> int:
        n, m, *window = index
        g = m // (out_channels // group)
        total = 0
        for tap, position in positions_on_data(window, sizes, kernel_shape, strides, pads, dilations):
            for c in range(group_channels):
                total += element(x[n][g * (channels // group) + c], position) * element(w[m][c], tap)
        return total

    return tabulate([batch, out_channels, *counts], acc)


def oracle_transposed_convolution(
    x: Nested,
    w: Nested,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    output_padding: Sequence[int],
) -> Nested:
    batch, channels, *sizes = shape_of(x)
    _, group_out_channels, *kernel_shape = shape_of(w)
    rank = len(sizes)
    out = [
        strides[a] * (sizes[a] - 1) + output_padding[a] + (kernel_shape[a] - 1) * dilations[a] + 1 - pads[a] - pads[rank + a]
        for a in range(rank)
    ]

    def acc(index: tuple[int, ...]) -> int:
        n, m, *target = index
        g = m // group_out_channels
        total = 0
        for source in product(*map(range, sizes)):
            for tap in product(*map(range, kernel_shape)):
                if all(source[a] * strides[a] + tap[a] * dilations[a] - pads[a] == target[a] for a in range(rank)):
                    for c in range(g * channels // group, (g + 1) * channels // group):
                        total += element(x[n][c], source) * element(w[c][m - g * group_out_channels], tap)
        return total

    return tabulate([batch, group * group_out_channels, *out], acc)


def oracle_fully_connected(x: Nested, w: Nested) -> Nested:
    features, outputs = shape_of(w)

    def acc(index: tuple[int, ...]) -> int:
        *sample, o = index
        return sum(element(x, (*sample, k)) * w[k][o] for k in range(features))

    return tabulate([*shape_of(x)[:-1], outputs], acc)


def oracle_window_sum(x: Nested, *, kernel_shape: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Nested:
    batch, channels, *sizes = shape_of(x)
    dilations = [1] * len(sizes)
    counts = window_counts(sizes, kernel_shape, strides, pads, dilations, ceil_mode=False)

    def acc(index: tuple[int, ...]) -> int:
        n, c, *window = index
        return sum(
            element(x[n][c], position)
            for _, position in positions_on_data(window, sizes, kernel_shape, strides, pads, dilations)
        )

    return tabulate([batch, channels, *counts], acc)


def oracle_window_maximum(
    x: Nested,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool,
) -> Nested:
    """Raises `ValueError` where a window holds no data."""
    batch, channels, *sizes = shape_of(x)
    counts = window_counts(sizes, kernel_shape, strides, pads, dilations, ceil_mode=ceil_mode)

    def largest(index: tuple[int, ...]) -> int:
        n, c, *window = index
        return max(
            element(x[n][c], position)
            for _, position in positions_on_data(window, sizes, kernel_shape, strides, pads, dilations)
        )

    return tabulate([batch, channels, *counts], largest)


def window_counts(
    sizes: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    *,
    ceil_mode: bool,
) -> list[int]:
    """Counted by moving the window as long as it stays within the padded data.

    With `ceil_mode` one more is counted for what the last one leaves uncovered at the end; then the last one is dropped if it
    starts in the padding at the end.
    """
    counts = []
    for axis, size in enumerate(sizes):
        begin, end = pads[axis], pads[len(sizes) + axis]
        padded = begin + size + end
        reach = (kernel_shape[axis] - 1) * dilations[axis] + 1
        count = 0
        while count * strides[axis] + reach <= padded:
            count += 1
        if ceil_mode and (count - 1) * strides[axis] + reach < padded:
            count += 1
        if ceil_mode and (count - 1) * strides[axis] >= begin + size:
            count -= 1
        if count == 0:
            raise ValueError("the window is larger than the padded data")
        counts.append(count)
    return counts


def positions_on_data(
    window: Sequence[int],
    sizes: Sequence[int],
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The taps of one window that fall on data, each with the position of the data."""
    axes = range(len(sizes))
    for tap in product(*map(range, kernel_shape)):
        position = tuple(window[a] * strides[a] + tap[a] * dilations[a] - pads[a] for a in axes)
        if all(0 <= position[a] < sizes[a] for a in axes):
            yield tap, position


def oracle_requantize(accumulator: Nested, *, bias: Nested, scale: Nested, shift: Nested, lower: int, upper: int) -> Nested:
    def code(index: tuple[int, ...]) -> int:
        scaled = (element(accumulator, index) + broadcast_element(bias, index)) * broadcast_element(scale, index)
        return clipped(scaled // 2 ** broadcast_element(shift, index), lower, upper)

    return tabulate(shape_of(accumulator), code)


def oracle_shift_right_floor(value: Nested, shift: Nested) -> Nested:
    return tabulate(shape_of(value), lambda index: element(value, index) // 2 ** broadcast_element(shift, index))


def oracle_scaled_value(scaled: Nested, shift: Nested) -> Nested:
    """Floats whose values are float32 numbers: the nearest ones, of two equally near ones the one with the even significand."""
    return tabulate(shape_of(scaled), lambda index: nearest_float32(element(scaled, index), broadcast_element(shift, index)))


def nearest_float32(numerator: int, shift: int) -> float:
    """`numerator / 2**shift` to 24 significant bits; exponents that float32 lacks are not considered."""
    dropped = 2 ** max(0, abs(numerator).bit_length() - 24)
    significand = round(Fraction(numerator, dropped))  # Fraction rounds half to even
    return float(Fraction(significand * dropped, 2**shift))


def oracle_residual(
    requantized: Nested, residual: Nested, *, inner_lower: int, inner_upper: int, lower: int, upper: int
) -> Nested:
    def code(index: tuple[int, ...]) -> int:
        inner = clipped(element(requantized, index), inner_lower, inner_upper)
        return clipped(inner + broadcast_element(residual, index), lower, upper)

    return tabulate(shape_of(requantized), code)


def clipped(value: int, lower: int, upper: int) -> int:
    if value < lower:
        return lower
    return upper if value > upper else value


def oracle_weight_digits(weights: Nested, *, bits: int) -> Nested:
    """Base-4 digits of the two's complement pattern; the first bit of the most significant digit counts negative."""
    count = bits // 2

    def digit(index: tuple[int, ...]) -> int:
        k, *where = index
        pattern = element(weights, where) % 2**bits
        value = pattern // 4**k % 4
        return value - 4 if k == count - 1 and value >= 2 else value

    return tabulate([count, *shape_of(weights)], digit)
