"""Kernels on samples-last activations against their simple twins and against plain Python."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from npusim.kernels import samples_last, samples_last_depthwise, samples_last_taps
from npusim.kernels.integer import (
    accumulate_convolution,
    accumulate_transposed_convolution,
    window_maximum,
    window_sum,
)
from npusim.kernels.requantize import requantize
from npusim.kernels.samples_last import (
    Call,
    Product,
    channel_rows,
    copied_views,
    dense_views,
    gathered_views,
    is_one_block,
    pointwise_views,
    product_calls,
    requantize_calls,
    row_weights,
    tap_views,
)
from npusim.kernels.samples_last_depthwise import (
    band_cost,
    band_views,
    bands,
    best_rows,
    is_evenly_spaced,
    single_tap_calls,
    tap_calls,
)
from npusim.kernels.samples_last_taps import (
    meets_data,
    transposed_views,
    valid_range,
    window_maximum_calls,
    window_sum_calls,
)
from support.kernel_cases import Case, convolutions, maximum_pools, requantizations, sum_pools, transposed_convolutions
from support.oracle import oracle_convolution, oracle_transposed_convolution, oracle_window_maximum, oracle_window_sum

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]
FLOATS = st.sampled_from([np.float32, np.float64])


def turned(x: npt.NDArray[np.generic], dtype: type) -> Floats:
    """``[samples, channels, *spatial]`` as dense ``[*spatial, channels, samples]``."""
    return np.ascontiguousarray(x.transpose(*range(2, x.ndim), 1, 0).astype(dtype))


def turned_back(x: Floats) -> Integers:
    """The other way round; what is not a whole number fails."""
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


def run_twice(x: Floats, out: Floats, calls: Sequence[Call]) -> None:
    """Make the calls on other values first: views stay, values change."""
    values = x.copy()
    for current in (np.full_like(values, 7), values):
        x[...], out[...] = current, np.nan
        for call in calls:
            call()


def channels_outermost(x: Floats, gap: int = 0) -> Floats:
    """The same values ``[*spatial, channels, samples]`` in memory channel by channel, `gap` elements between channels."""
    moved = np.moveaxis(x, -2, 0)
    rows = np.full((x.shape[-2], moved[0].size + gap), np.nan, x.dtype)
    rows[:, : moved[0].size] = moved.reshape(x.shape[-2], -1)
    steps = np.empty(moved.shape[1:], x.dtype).strides
    return np.moveaxis(as_strided(rows, moved.shape, (rows.strides[0], *steps)), 0, -2)


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
        calls = product_calls(dense_views(source, row_weights(weights), out, scratch, **geometry))
    elif kernel == "gathered":
        calls = product_calls(*gathered_views(source, row_weights(weights), out, **geometry, bias=None))
    elif kernel == "copied":
        stages = copied_views(source, row_weights(weights), out, **geometry)
        calls = [call for products, gatherings in stages for call in product_calls(products, gatherings)]
    else:
        calls = product_calls(taps_of_groups(source, weights, out, scratch, arguments["group"], geometry))
    run_twice(source, out, calls)
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


@pytest.mark.slow
@given(convolutions(wide=False), FLOATS, st.sampled_from(["dense", "gathered", "copied", "taps"]), st.integers(0, 1))
def test_convolutions(case: Case, dtype: type, kernel: str, more: int) -> None:
    x, _ = case.arrays
    if kernel in ("dense", "gathered", "copied"):
        assume(case.arguments["group"] == 1 and case.arguments["dilations"][-1] == 1)
    for samples in (x[:1], x[1:]) if kernel == "gathered" else (x[:1], x, more_samples(x)):
        if not len(samples) or (kernel == "gathered" and len(samples) > 1):
            continue
        found = check_convolution(case, samples, dtype, kernel, more)
        if len(samples) == len(x):
            assert found.tolist() == oracle_convolution(*case.lists, **case.list_arguments)


@pytest.mark.slow
@given(convolutions(wide=False), FLOATS, st.integers(0, 1), st.integers(-(2**12), 2**12), st.booleans())
def test_the_bias_of_a_single_sample_rides_along(case: Case, dtype: type, more: int, bias: int, into_padding: bool) -> None:
    x, w = case.arrays
    assume(case.arguments["group"] == 1 and case.arguments["dilations"][-1] == 1)
    biases = bias + np.arange(w.shape[0])
    wanted = accumulate_convolution(x[:1], w, **case.arguments) + biases.reshape(-1, *(1,) * (w.ndim - 2))
    source = padded(x[:1], case.arguments["pads"], dtype, more=more)
    shape = samples_last_shape(wanted)
    whole = unwritten((*(size + 2 * into_padding for size in shape[:-2]), *shape[-2:]), dtype)
    out = whole[tuple(slice(int(into_padding), int(into_padding) + size) for size in shape[:-2])]
    geometry = {"strides": case.arguments["strides"], "dilations": case.arguments["dilations"]}
    run_twice(
        source,
        out,
        product_calls(*gathered_views(source, row_weights(w.astype(dtype)), out, **geometry, bias=biases.astype(dtype))),
    )
    np.testing.assert_array_equal(turned_back(out), wanted)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 9),
    FLOATS,
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_pointwise_convolutions_of_channels_outermost(
    sizes: list[int], channels: int, outputs: int, samples: int, dtype: type, gap: int, random: np.random.Generator
) -> None:
    generator = np.random.default_rng(random.getrandbits(32))
    x = generator.integers(-128, 128, (samples, channels, *sizes))
    w = generator.integers(-128, 128, (outputs, channels, *(1,) * len(sizes)))
    rank = len(sizes)
    wanted = accumulate_convolution(x, w, strides=[1] * rank, pads=[0] * (2 * rank), dilations=[1] * rank, group=1)
    source = channels_outermost(turned(x, dtype), gap)
    out = channels_outermost(unwritten(samples_last_shape(wanted), dtype), gap)
    assert is_one_block(source)
    assert is_one_block(out)
    assert np.shares_memory(channel_rows(source), source)
    np.testing.assert_array_equal(channel_rows(source), np.moveaxis(source, -2, 0).reshape(channels, -1))
    run_twice(source, out, product_calls(pointwise_views(source, w.reshape(outputs, channels).astype(dtype), out)))
    np.testing.assert_array_equal(turned_back(out), wanted)


def test_what_lies_in_one_piece() -> None:
    x = np.zeros((4, 5, 3, 7), np.float32)
    assert is_one_block(channels_outermost(x, 2))
    assert is_one_block(x[:, :, :1][:1, :1])
    assert not is_one_block(x)
    assert not is_one_block(channels_outermost(x)[:, :4])
    assert not is_one_block(channels_outermost(x)[..., :6])
    assert is_evenly_spaced(x)
    assert is_evenly_spaced(x[1:3])
    assert is_evenly_spaced(channels_outermost(x, 2))
    assert not is_evenly_spaced(x[:, 1:])


@pytest.mark.slow
@given(convolutions(wide=False), FLOATS, st.integers(1, 9), st.booleans(), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_depthwise_bands_of_any_size(case: Case, dtype: type, rows: int, outermost: bool, around: list[int]) -> None:
    """With more or less padding in memory than the layer asks for, in either order of memory."""
    x, w = case.arrays
    assume(w.shape[1] == 1)
    arguments = case.arguments
    rank, times = len(arguments["strides"]), w.shape[0] // x.shape[1]
    for samples in (x, x[:1], more_samples(x)):
        wanted = accumulate_convolution(samples, w, **arguments)
        source = padded(samples, [*around[:rank], *around[3 : 3 + rank]], dtype)
        out = unwritten(samples_last_shape(wanted), dtype)
        if outermost:
            source, out = channels_outermost(source, 3), channels_outermost(out, 3)
        pads = [pad - begin for pad, begin in zip(arguments["pads"], around[:rank], strict=False)]
        geometry = {"strides": arguments["strides"], "dilations": arguments["dilations"], "pads": pads}
        calls: list[Call] = []
        for number in range(times):
            own = w[number::times, 0].astype(dtype)
            calls += product_calls(band_views(source, own, out[..., number::times, :], rows=rows, **geometry))
        run_twice(source, out, calls)
        np.testing.assert_array_equal(turned_back(out), wanted)
    assert accumulate_convolution(x, w, **arguments).tolist() == oracle_convolution(*case.lists, **case.list_arguments)


def test_bands_of_the_same_shape_are_one_product() -> None:
    x, weights = np.zeros((16, 9, 4, 8), np.float32), np.zeros((4, 3, 3), np.float32)
    out = np.zeros((16, 9, 4, 8), np.float32)
    products = band_views(x, weights, out, rows=2, strides=[1, 1], dilations=[1, 1], pads=[1, 1])
    assert [right.shape for _, right, _, _ in products] == [(1, 4, 27, 8), (6, 4, 36, 8), (1, 4, 27, 8)]


def test_uneven_memory_is_refused_by_bands() -> None:
    x, weights = np.zeros((6, 5, 2, 3), np.float32), np.zeros((2, 1, 1), np.float32)
    with pytest.raises(ValueError, match="not evenly spaced"):
        band_views(x[:, :4], weights, np.zeros((6, 4, 2, 3), np.float32), rows=1, strides=[1, 1], dilations=[1, 1], pads=[0, 0])


@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(-3, 6),
    st.data(),
)
def test_bands_cover_every_output_and_every_input_it_reads(
    rows: int, size: int, taps: int, stride: int, dilation: int, pad: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 12))
    found = list(bands(rows, size, taps, count, stride=stride, dilation=dilation, pad=pad))
    assert [row for band in found for row in range(band.start, band.start + band.rows)] == list(range(count))
    for band in found:
        read = {
            place
            for row in range(band.start, band.start + band.rows)
            for tap in range(taps)
            if 0 <= (place := row * stride - pad + tap * dilation) < size
        }
        assert read <= set(range(band.first, band.first + band.height))
        assert 0 <= band.first <= band.first + band.height <= size
        assert band.shift == band.start * stride - pad - band.first


def test_the_best_number_of_rows_costs_least() -> None:
    geometry = {"strides": [1, 1], "dilations": [1, 1], "pads": [1, 1]}
    rows, cost = best_rows([25, 5], [3, 3], [25, 5], **geometry)
    costs = [band_cost(list(bands(number, 25, 3, 25, stride=1, dilation=1, pad=1)), 5, 5) for number in range(1, 26)]
    assert cost == min(costs) == costs[rows - 1]
    assert 1 < rows < 25


@pytest.mark.slow
@given(convolutions(wide=False), FLOATS, st.integers(0, 1), st.booleans())
def test_depthwise_tap_by_tap(case: Case, dtype: type, more: int, outermost: bool) -> None:
    x, w = case.arrays
    assume(w.shape[1] == 1)
    arguments = case.arguments
    times = w.shape[0] // x.shape[1]
    geometry = {"strides": arguments["strides"], "dilations": arguments["dilations"]}
    for samples in (x, x[:1], more_samples(x)):
        wanted = accumulate_convolution(samples, w, **arguments)
        source = padded(samples, arguments["pads"], dtype, more=more)
        out, scratch = (unwritten(samples_last_shape(wanted), dtype) for _ in range(2))
        if outermost:
            out = channels_outermost(out)
        calls: list[Call] = []
        for number in range(times):
            own = slice(number, None, times)
            calls += tap_calls(source, w[own, 0].astype(dtype), out[..., own, :], scratch[..., own, :], **geometry)
        run_twice(source, out, calls)
        np.testing.assert_array_equal(turned_back(out), wanted)
        if len(samples) > 1:
            continue
        out, calls = unwritten(samples_last_shape(wanted), dtype), []
        for number in range(times):
            own = slice(number, None, times)
            calls += single_tap_calls(source, w[own, 0].astype(dtype), out[..., own, :], **geometry)
        run_twice(source, out, calls)
        np.testing.assert_array_equal(turned_back(out), wanted)
    assert accumulate_convolution(x, w, **arguments).tolist() == oracle_convolution(*case.lists, **case.list_arguments)


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


@pytest.mark.slow
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
            for call in product_calls(products):
                call()
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
        run_twice(source, out, window_maximum_calls(source, out, **{**arguments, "pads": begins}))
        np.testing.assert_array_equal(turned_back(out), wanted)


@given(maximum_pools(pads_below_kernel=True))
def test_windows_that_meet_data_everywhere(case: Case) -> None:
    """No window lies in the padding as a whole where it is said so: summing ones over the windows gives no zero."""
    arguments = {name: value for name, value in case.arguments.items() if name != "ceil_mode"}
    rank = len(arguments["strides"])
    sizes = case.arrays[0].shape[2:]
    try:
        counts = window_maximum(np.zeros(case.arrays[0].shape, np.int64), **case.arguments).shape[2:]
    except ValueError:
        assume(False)
    found = meets_data(counts, sizes, **{**arguments, "pads": arguments["pads"][:rank]})
    met = [
        any(
            all(
                0 <= place * stride - pad + tap * dilation < size
                for place, stride, pad, tap, dilation, size in zip(
                    where, arguments["strides"], arguments["pads"], taps, arguments["dilations"], sizes, strict=False
                )
            )
            for taps in np.ndindex(*arguments["kernel_shape"])
        )
        for where in np.ndindex(*counts)
    ]
    if found:
        assert all(met)


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
    geometry = {"kernel_shape": arguments["kernel_shape"], "strides": arguments["strides"], "pads": begins}
    run_twice(source, out, window_sum_calls(source, out, **geometry))
    np.testing.assert_array_equal(turned_back(out), wanted)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 3, 2]])
@pytest.mark.parametrize("strides", [[1, 1], [4, 3], [2, 1]])
def test_windows_as_large_as_the_data_stand_where_padding_lets_them(pads: list[int], strides: list[int]) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (5, 2, 4, 3))
    check_sum(x, {"kernel_shape": [4, 3], "strides": strides, "pads": pads}, np.float32)


@pytest.mark.slow
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
    operations = [(np.add, np.asarray(offset, dtype))] if bias.any() else []
    if not folded:
        operations.append((np.multiply, multiplier.astype(dtype)))
    calls = requantize_calls(
        y,
        operations=[*operations, *([(np.floor, None)] if shift.any() else [])],
        lower=np.array(lower, dtype),
        upper=np.array(upper, dtype),
    )
    for call in calls:
        call()
    np.testing.assert_array_equal(turned_back(y), wanted)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(-12, 12))
def test_valid_ranges(count: int, size: int, stride: int, offset: int) -> None:
    first, last = valid_range(count, size, stride, offset)
    assert list(range(first, last)) == [index for index in range(count) if 0 <= index * stride + offset < size]
    assert 0 <= first <= last


@given(st.lists(st.integers(1, 3), min_size=3, max_size=5))
def test_row_weights_hold_the_inner_kernel_beside_the_channels(shape: list[int]) -> None:
    weights = np.arange(float(np.prod(shape))).reshape(shape)
    rows = row_weights(weights)
    assert rows.flags.c_contiguous
    for index in np.ndindex(*shape):
        out, channel, *kernel = index
        assert rows[(*kernel[:-1], out, kernel[-1] * shape[1] + channel)] == weights[index]


@pytest.mark.parametrize("module", [samples_last, samples_last_depthwise, samples_last_taps])
def test_examples(module: object) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
