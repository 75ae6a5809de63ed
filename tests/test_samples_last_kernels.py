"""Kernels on samples-last activations against their simple twins and against plain Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kernel_cases import Case, convolutions, maximum_pools, requantizations, sum_pools, transposed_convolutions
from npusim.kernels.integer import (
    accumulate_convolution,
    accumulate_transposed_convolution,
    window_maximum,
    window_sum,
)
from npusim.kernels.requantize import requantize
from npusim.kernels.samples_last import (
    Gathering,
    Product,
    copied_views,
    dense_views,
    gathered_views,
    multiply_views,
    requantize_in_place,
    row_weights,
    tap_views,
)
from npusim.kernels.samples_last_depthwise import BLOCK, add_taps, banded_weights, depthwise_taps, depthwise_views
from npusim.kernels.samples_last_taps import add_windows, maximum_of_views, maximum_views, transposed_views, valid_range
from oracle import oracle_convolution, oracle_transposed_convolution, oracle_window_maximum, oracle_window_sum

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]
FLOATS = st.sampled_from([np.float32, np.float64])


def turned(x: npt.NDArray[np.generic], dtype: type) -> Floats:
    """``[samples, channels, *spatial]`` as dense ``[*spatial, channels, samples]``."""
    return np.ascontiguousarray(x.transpose(*range(2, x.ndim), 1, 0).astype(dtype))


def turned_back(x: Floats) -> Integers:
    """The other way round; what is no whole number fails."""
    back = x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
    whole = back.astype(np.int64)
    np.testing.assert_array_equal(whole, back)
    return whole


def padded(x: Integers, pads: Sequence[int], dtype: type, *, more: int = 0) -> Floats:
    """Samples last, within zeros; with `more` a view of a larger array, as another reader of the tensor would need it."""
    rank = x.ndim - 2
    outer = [more] * (rank - 1) + [0]
    sides = [(begin + extra, end + extra) for begin, end, extra in zip(pads[:rank], pads[rank:], outer, strict=True)]
    whole = np.pad(turned(x, dtype), [*sides, (0, 0), (0, 0)])
    return whole[tuple(slice(extra, size - extra) for extra, size in zip(outer, whole.shape, strict=False))]


def unwritten(shape: Sequence[int], dtype: type) -> Floats:
    """Memory in which nothing that a kernel leaves out can look right."""
    return np.full(shape, np.nan, dtype)


def more_samples(x: Integers) -> Integers:
    return np.concatenate([x, np.roll(x, 1, axis=1), 1 - x[::-1], np.roll(x, 1, axis=-1)])


def samples_last_shape(acc: Integers) -> tuple[int, ...]:
    return (*acc.shape[2:], acc.shape[1], acc.shape[0])


Stages = Sequence[tuple[Sequence[Product], Sequence[Gathering]]]


def run_twice(x: Floats, out: Floats, stages: Stages) -> None:
    """Run stages on other values first: views stay, values change."""
    values = x.copy()
    for current in (np.full_like(values, 7), values):
        x[...], out[...] = current, np.nan
        for products, gatherings in stages:
            multiply_views(products, gatherings)


def check_convolution(case: Case, x: Integers, dtype: type, kernel: str, more: int = 0) -> Integers:
    """The accumulator by one of the kernels; it has to be that of the simple twin, which is returned."""
    _, w = case.arrays
    arguments = case.arguments
    wanted = accumulate_convolution(x, w, **arguments)
    geometry = {"strides": arguments["strides"], "dilations": arguments["dilations"]}
    source = padded(x, arguments["pads"], dtype, more=more)
    out, scratch = (unwritten(samples_last_shape(wanted), dtype) for _ in range(2))
    weights = w.astype(dtype)
    if kernel == "dense":
        stages = [(dense_views(source, row_weights(weights), out, scratch, **geometry), [])]
    elif kernel == "gathered":
        stages = [gathered_views(source, row_weights(weights), out, **geometry)]
    elif kernel == "copied":
        stages = list(copied_views(source, row_weights(weights), out, **geometry))
    elif kernel == "taps":
        stages = [(taps_of_groups(source, weights, out, scratch, arguments["group"], geometry), [])]
    else:
        stages = [(blocks_of_channels(source, weights, out, scratch, geometry), [])]
    run_twice(source, out, stages)
    np.testing.assert_array_equal(turned_back(out), wanted)
    return wanted


def taps_of_groups(
    x: Floats, weights: Floats, out: Floats, scratch: Floats, group: int, geometry: dict[str, list[int]]
) -> list[Product]:
    inputs, outputs = x.shape[-2] // group, out.shape[-2] // group
    taps = np.moveaxis(weights, [0, 1], [-2, -1])
    products: list[Product] = []
    for index in range(group):
        columns, rows = slice(index * inputs, (index + 1) * inputs), slice(index * outputs, (index + 1) * outputs)
        own = np.ascontiguousarray(taps[..., rows, :])
        products += tap_views(x[..., columns, :], own, out[..., rows, :], scratch[..., rows, :], **geometry)
    return products


def blocks_of_channels(
    x: Floats, weights: Floats, out: Floats, scratch: Floats, geometry: dict[str, list[int]], block: int = BLOCK
) -> list[Product]:
    """Depthwise, each output channel of an input channel in turn, whole blocks and then the rest of a row."""
    rank, times = len(geometry["strides"]), out.shape[-2] // x.shape[-2]
    length = out.shape[rank - 1]
    products: list[Product] = []
    for number in range(times):
        for start in range(0, length, block):
            size = min(block, length - start)
            stride, dilation = geometry["strides"][-1], geometry["dilations"][-1]
            bands = banded_weights(weights[number::times, 0], stride=stride, dilation=dilation, block=size)
            part = (*(slice(None),) * (rank - 1), slice(start, start + size), slice(number, None, times))
            products += depthwise_views(x, bands, out[part], scratch[part], **geometry, start=start)
    return products


@given(
    convolutions(wide=False), FLOATS, st.sampled_from(["dense", "gathered", "copied", "taps", "depthwise"]), st.integers(0, 1)
)
def test_convolutions(case: Case, dtype: type, kernel: str, more: int) -> None:
    x, w = case.arrays
    dilations, group = case.arguments["dilations"], case.arguments["group"]
    if kernel in ("dense", "gathered", "copied"):
        assume(group == 1 and dilations[-1] == 1)
    if kernel == "depthwise":
        assume(w.shape[1] == 1)
    for samples in (x[:1], x[1:]) if kernel == "gathered" else (x[:1], x, more_samples(x)):
        if not len(samples):
            continue
        found = check_convolution(case, samples, dtype, kernel, more)
        if samples is x and kernel != "gathered":
            assert found.tolist() == oracle_convolution(*case.lists, **case.list_arguments)


@given(convolutions(wide=False), FLOATS, st.integers(1, 9))
def test_depthwise_blocks_of_any_size(case: Case, dtype: type, block: int) -> None:
    x, w = case.arrays
    assume(w.shape[1] == 1)
    arguments = case.arguments
    wanted = accumulate_convolution(x, w, **arguments)
    source = padded(x, arguments["pads"], dtype)
    out, scratch = (unwritten(samples_last_shape(wanted), dtype) for _ in range(2))
    geometry = {"strides": arguments["strides"], "dilations": arguments["dilations"]}
    multiply_views(blocks_of_channels(source, w.astype(dtype), out, scratch, geometry, block))
    np.testing.assert_array_equal(turned_back(out), wanted)


@given(convolutions(wide=False), FLOATS, st.integers(0, 1))
def test_depthwise_taps_of_a_single_sample(case: Case, dtype: type, more: int) -> None:
    x, w = case.arrays
    assume(w.shape[1] == 1)
    arguments = case.arguments
    wanted = accumulate_convolution(x[:1], w, **arguments)
    source = padded(x[:1], arguments["pads"], dtype, more=more)[..., 0]
    out, scratch = (unwritten(samples_last_shape(wanted), dtype) for _ in range(2))
    times = w.shape[0] // x.shape[1]
    geometry = {"outer": wanted.shape[2:-1], "strides": arguments["strides"], "dilations": arguments["dilations"]}
    for number in range(times):
        own = slice(number, None, times)
        taps = depthwise_taps(source, w[own, 0].astype(dtype), wanted.shape[-1], **geometry)
        add_taps(taps, out[..., own, 0], scratch[..., own, 0])
    np.testing.assert_array_equal(turned_back(out), wanted)
    assert turned_back(out).tolist() == oracle_convolution(x[:1].tolist(), case.lists[1], **case.list_arguments)


def test_copies_of_many_rows_are_made_a_few_rows_at_a_time() -> None:
    generator = np.random.default_rng(0)
    x, w = generator.integers(-128, 128, (40, 3, 40, 10)), generator.integers(-127, 128, (5, 3, 3, 3))
    case = Case((x, w), {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1})
    source, out = padded(x, [1, 1, 1, 1], np.float32), unwritten((40, 10, 5, 40), np.float32)
    stages = copied_views(source, row_weights(w.astype(np.float32)), out, strides=[1, 1], dilations=[1, 1])
    assert 1 < len(stages) < 40
    check_convolution(case, x, np.float32, "copied")


def test_windows_that_are_no_matrix_are_refused() -> None:
    x = np.zeros((6, 3, 4, 2), np.float32)[:, :2]  # the inner axis is a part of a longer one
    out, scratch = (np.zeros((6, 1, 5, 2), np.float32) for _ in range(2))
    weights = row_weights(np.zeros((5, 4, 1, 2), np.float32))
    dense_views(x, weights, out, scratch, strides=[1, 1], dilations=[1, 1])
    across = np.zeros((6, 3, 4, 2), np.float32)[:, ::2]
    with pytest.raises(ValueError, match="dense"):
        dense_views(across, weights, out, scratch, strides=[1, 1], dilations=[1, 1])


@given(transposed_convolutions(wide=False), FLOATS)
def test_transposed_convolutions(case: Case, dtype: type) -> None:
    arguments = case.arguments
    _, w = case.arrays
    rank, group = len(arguments["strides"]), arguments["group"]
    for x in (case.arrays[0], case.arrays[0][:1], more_samples(case.arrays[0])):
        wanted = accumulate_transposed_convolution(x, w, **arguments)
        source, out = turned(x, dtype), np.zeros(samples_last_shape(wanted), dtype)
        taps = np.moveaxis(w.astype(dtype), [1, 0], [-2, -1])
        inputs, outputs = w.shape[0] // group, w.shape[1]
        scratch = unwritten((*source.shape[:rank], outputs, len(x)), dtype)
        for index in range(group):
            columns, rows = slice(index * inputs, (index + 1) * inputs), slice(index * outputs, (index + 1) * outputs)
            geometry = {name: arguments[name] for name in ("strides", "dilations")}
            own = np.ascontiguousarray(taps[..., columns])
            products = transposed_views(
                source[..., columns, :], own, out[..., rows, :], scratch, **geometry, pads=arguments["pads"][:rank]
            )
            multiply_views(products)
        np.testing.assert_array_equal(turned_back(out), wanted)
        if x is case.arrays[0]:
            assert wanted.tolist() == oracle_transposed_convolution(*case.lists, **case.list_arguments)


@given(maximum_pools(pads_below_kernel=True), FLOATS)
def test_maximum_pools(case: Case, dtype: type) -> None:
    x = case.arrays[0].astype(np.int64) % 2**20 - 2**19 if case.arrays[0].dtype == np.int64 else case.arrays[0].astype(np.int64)
    arguments = {name: value for name, value in case.arguments.items() if name != "ceil_mode"}
    try:
        wanted = window_maximum(x, **case.arguments)
    except ValueError:
        assume(False)
    assert wanted.tolist() == oracle_window_maximum(x.tolist(), **case.list_arguments)
    for samples in (x, x[:1], more_samples(x)):
        wanted = window_maximum(samples, **case.arguments)
        source, out = turned(samples, dtype), unwritten(samples_last_shape(wanted), dtype)
        begins = arguments["pads"][: len(arguments["strides"])]
        whole, pairs = maximum_views(source, out, **{**arguments, "pads": begins})
        for values in (np.zeros_like(source), source.copy()):
            source[...] = values
            maximum_of_views(out, whole, pairs)
        np.testing.assert_array_equal(turned_back(out), wanted)


@given(sum_pools(), FLOATS, st.booleans())
def test_sums_over_windows(case: Case, dtype: type, whole: bool) -> None:
    x, arguments = case.arrays[0] % 2**12 - 2**11, dict(case.arguments)
    if whole:  # the shape that is summed at once, with whatever strides and pads it has
        arguments["kernel_shape"] = list(x.shape[2:])
    wanted = window_sum(x, **arguments)
    assert wanted.tolist() == oracle_window_sum(x.tolist(), **arguments)
    for samples in (x, x[:1], more_samples(x)):
        check_sum(samples, arguments, dtype)


def check_sum(x: Integers, arguments: dict[str, list[int]], dtype: type) -> None:
    wanted = window_sum(x, **arguments)
    source, out = turned(x, dtype), unwritten(samples_last_shape(wanted), dtype)
    begins = arguments["pads"][: len(arguments["strides"])]
    add_windows(source, out, kernel_shape=arguments["kernel_shape"], strides=arguments["strides"], pads=begins)
    np.testing.assert_array_equal(turned_back(out), wanted)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 3, 2]])
@pytest.mark.parametrize("strides", [[1, 1], [4, 3], [2, 1]])
def test_windows_as_large_as_the_data_stand_where_padding_lets_them(pads: list[int], strides: list[int]) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (5, 2, 4, 3))
    check_sum(x, {"kernel_shape": [4, 3], "strides": strides, "pads": pads}, np.float32)


@given(requantizations(float_exact=True), FLOATS, st.booleans())
def test_requantization_in_place(case: Case, dtype: type, folded: bool) -> None:
    """float32 holds what stays below 2^24, float64 everything here."""
    (acc,) = case.arrays
    bias, scale, shift = (case.arguments[name] for name in ("bias", "scale", "shift"))
    lower, upper = case.arguments["lower"], case.arguments["upper"]
    products = np.abs(acc + bias) * np.maximum(np.abs(scale), 1)
    assume(dtype is np.float64 or (max(products.max(), np.abs(acc).max(), abs(lower), abs(upper)) < 2**24))
    wanted = requantize(acc, **case.arguments)
    multiplier = np.ldexp(scale.astype(np.float64), -shift)
    y = turned(acc, np.float64) * (multiplier if folded else 1)
    offset = bias * (multiplier if folded else 1)
    y = y.astype(dtype)
    assume(dtype is np.float64 or np.isfinite(y).all())
    requantize_in_place(
        y,
        bias=np.asarray(offset, dtype) if bias.any() else None,
        multiplier=None if folded or (multiplier == 1).all() else multiplier.astype(dtype),
        floor=bool(shift.any()),
        lower=np.array(lower, dtype),
        upper=np.array(upper, dtype),
    )
    np.testing.assert_array_equal(turned_back(y), wanted)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(-12, 12))
def test_valid_ranges(count: int, size: int, stride: int, offset: int) -> None:
    first, last = valid_range(count, size, stride, offset)
    assert list(range(first, last)) == [index for index in range(count) if 0 <= index * stride + offset < size]
    assert 0 <= first <= last


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 2))
def test_banded_weights(channels: int, kernel: int, stride: int, dilation: int, block: int, outer: int) -> None:
    weights = np.arange(1.0, channels * outer * kernel + 1).reshape(channels, outer, kernel)
    bands = banded_weights(weights, stride=stride, dilation=dilation, block=block)
    assert bands.shape == (outer, channels, block, (block - 1) * stride + (kernel - 1) * dilation + 1)
    for row, channel, position in np.ndindex(outer, channels, block):
        wanted = np.zeros(bands.shape[-1])
        for tap in range(kernel):
            wanted[position * stride + tap * dilation] = weights[channel, row, tap]
        np.testing.assert_array_equal(bands[row, channel, position], wanted)


@given(st.lists(st.integers(1, 3), min_size=3, max_size=5))
def test_row_weights_hold_the_inner_kernel_beside_the_channels(shape: list[int]) -> None:
    weights = np.arange(float(np.prod(shape))).reshape(shape)
    rows = row_weights(weights)
    assert rows.flags.c_contiguous
    for index in np.ndindex(*shape):
        out, channel, *kernel = index
        assert rows[(*kernel[:-1], out, kernel[-1] * shape[1] + channel)] == weights[index]
