"""Resize: against exact fractions where float32 coordinates are exact, and against onnxruntime everywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import OperatorError
from npusim.graph.operators.resize import OPERATORS
from npusim.kernels.resize import resized_shape
from support.single_operator import compute_by_onnxruntime, same_bits
from support.window_cases import call_operator, integer_arrays

pytestmark = pytest.mark.filterwarnings("error")

RESIZE = OPERATORS["Resize"]
HALF = Fraction(1, 2)

NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda place: math.ceil(place - HALF),
    "round_prefer_ceil": lambda place: math.floor(place + HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}
COORDINATE_MODES = (
    "half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
)


def coordinate(mode: str, index: int, size: int, new_size: int, scale: Fraction, region: tuple[Fraction, Fraction]) -> Fraction:
    """Input coordinate of an output element."""
    if mode == "asymmetric":
        return index / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new_size > 1):
        return (index + HALF) / scale - HALF
    if mode == "half_pixel_symmetric":
        return Fraction(size, 2) * (1 - new_size / (scale * size)) + (index + HALF) / scale - HALF
    if mode == "tf_crop_and_resize":
        start, end = region
        if new_size == 1:
            return (start + end) / 2 * (size - 1)
        return start * (size - 1) + index * (end - start) * (size - 1) / (new_size - 1)
    if mode == "align_corners" and new_size > 1:
        return Fraction(index * (size - 1), new_size - 1)
    return Fraction(0)


def weight_of(distance: Fraction, cubic: Fraction | None) -> Fraction:
    """How much an input element counts at a distance from the coordinate."""
    distance = abs(distance)
    if cubic is None:
        return max(Fraction(0), 1 - distance)
    if distance <= 1:
        return (cubic + 2) * distance**3 - (cubic + 3) * distance**2 + 1
    if distance < 2:
        return cubic * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return Fraction(0)


def interpolated(row: list[Fraction], place: Fraction, cubic: Fraction | None) -> Fraction:
    """Weighted sum over the neighbours; beyond the border, the border repeats."""
    first = math.floor(place) - 1
    return sum(
        weight_of(place - tap, cubic) * row[min(max(tap, 0), len(row) - 1)] for tap in range(first, first + 4)
    ) or Fraction(0)


@st.composite
def exact_resizes(draw: st.DrawFn) -> tuple[int, int, Fraction, str, tuple[Fraction, Fraction]]:
    """Size, new size, scale, coordinate mode and region whose float32 coordinates are exact."""
    mode = draw(st.sampled_from(COORDINATE_MODES))
    if mode in ("align_corners", "tf_crop_and_resize"):
        size, new_size = draw(st.integers(1, 6)), 2 ** draw(st.integers(0, 3)) + 1
        scale = Fraction(new_size, size)
    else:
        scale = draw(st.sampled_from([Fraction(2), Fraction(4), Fraction(1, 2), Fraction(1, 4)]))
        size = draw(st.integers(1, 5)) * (4 if scale < 1 else 1)
        new_size = int(size * scale)
    eighths = st.integers(-2, 10).map(lambda number: Fraction(number, 8))
    return size, new_size, scale, mode, (draw(eighths), draw(eighths))


@given(exact_resizes(), st.sampled_from(sorted(NEAREST)))
def test_nearest_takes_the_element_the_exact_coordinate_names(case, nearest_mode):
    size, new_size, scale, mode, region = case
    x = np.arange(100, 100 + 2 * size, dtype=np.int8).reshape(1, 2, size)
    roi = np.array([0, 0, region[0], 1, 1, region[1]], np.float32)
    (y,) = call_operator(
        RESIZE, x, roi, None, np.array([1, 2, new_size]), mode="nearest", coordinate_transformation_mode=mode,
        nearest_mode=nearest_mode, extrapolation_value=-7.0,
    )  # fmt: skip
    expected = []
    for channel, index in product(range(2), range(new_size)):
        place = coordinate(mode, index, size, new_size, scale, region)
        inside = mode != "tf_crop_and_resize" or 0 <= place <= size - 1
        tap = min(max(NEAREST[nearest_mode](place), 0), size - 1)
        expected.append(int(x[0, channel, tap]) if inside else -7)
    assert y.dtype == np.int8
    assert y.shape == (1, 2, new_size)
    assert y.ravel().tolist() == expected


@given(exact_resizes(), st.sampled_from([None, Fraction(-3, 4), Fraction(-1, 2)]), st.data())
def test_interpolation_is_the_exact_weighted_sum(case, cubic, data):
    size, new_size, scale, mode, region = case
    values = data.draw(st.lists(st.integers(-99, 99), min_size=size, max_size=size))
    attributes = {"mode": "linear"} if cubic is None else {"mode": "cubic", "cubic_coeff_a": float(cubic)}
    (y,) = call_operator(
        RESIZE, np.array(values, np.float64), np.array(region, np.float32), None, np.array([new_size]), **attributes,
        coordinate_transformation_mode=mode, extrapolation_value=-7.0,
    )  # fmt: skip
    row = [Fraction(value) for value in values]
    for index in range(new_size):
        place = coordinate(mode, index, size, new_size, scale, region)
        outside = mode == "tf_crop_and_resize" and not 0 <= place <= size - 1
        assert y[index] == (-7 if outside else interpolated(row, place, cubic))


def test_two_axes_interpolate_one_after_the_other():
    # One, two and four times the size make all weights sixteenths, so that nothing rounds.
    (x,) = integer_arrays(0, (2, 3, 4, 5))
    (both,) = call_operator(RESIZE, x, None, np.array([1, 1, 2, 4], np.float32), None, mode="linear")
    (rows,) = call_operator(RESIZE, x, None, np.array([1, 1, 2, 1], np.float32), None, mode="linear")
    (expected,) = call_operator(RESIZE, rows, None, np.array([1, 1, 1, 4], np.float32), None, mode="linear")
    assert same_bits(both, expected)


def same_size(x: np.ndarray, sizes: np.ndarray | None, scales: np.ndarray | None) -> bool:
    """Whether an axis keeps its size: onnxruntime then copies it, whatever the coordinates say."""
    if sizes is not None:
        return any(int(size) == old for size, old in zip(sizes[2:], x.shape[2:], strict=True))
    return any(int(np.float32(old) * scale) == old for old, scale in zip(x.shape[2:], scales[2:], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinate_mode", COORDINATE_MODES)
def test_onnxruntime_resizes_the_same_way(mode, coordinate_mode):
    random = np.random.default_rng(len(mode) * len(coordinate_mode))
    compared = 0
    for _ in range(150):
        height, width = (int(size) for size in random.integers(1, 40, 2))
        x = random.permutation(2 * height * width).reshape(1, 2, height, width).astype(np.float32)
        roi = np.concatenate([[0, 0], random.uniform(-0.1, 0.5, 2), [1, 1], random.uniform(0.5, 1.1, 2)]).astype(np.float32)
        scales = sizes = None
        if random.random() < 0.5:
            scales = np.concatenate([[1, 1], random.choice([0.6, 0.75, 1.3, 1.5, 2, 3.7], 2)]).astype(np.float32)
        else:
            sizes = np.array([1, 2, *random.integers(1, 50, 2)])
        if same_size(x, sizes, scales) or (scales is not None and min(scales[2:] * x.shape[2:]) < 1):
            continue
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinate_mode, "extrapolation_value": -7.0}
        if mode == "nearest":
            attributes["nearest_mode"] = str(random.choice(sorted(NEAREST)))
        if mode == "cubic":
            attributes["exclude_outside"] = int(random.integers(2))
        (y,) = call_operator(RESIZE, x, roi, scales, sizes, opset=19, **attributes)
        expected = compute_by_onnxruntime("Resize", x, roi, scales, sizes, opset=19, **attributes)
        assert y.shape == expected.shape
        if mode == "nearest":
            assert same_bits(y, expected)
        else:
            # onnxruntime rounds every step to float32, in an order of its own.
            np.testing.assert_allclose(y, expected, rtol=0, atol=x.size * 2e-5)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.75, 1.3, 2.0, 2.5, 3.0])
def test_the_first_version_truncates_or_rounds_up(scale):
    x = np.arange(2 * 17, dtype=np.float32).reshape(1, 1, 2, 17)
    scales = np.array([1, 1, 2, scale], np.float32)
    (y,) = call_operator(RESIZE, x, scales, opset=10, mode="nearest")
    assert same_bits(y, compute_by_onnxruntime("Resize", x, scales, opset=10, mode="nearest"))


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("sizes", [(7, 8), (3, 20), (13, 5)])
def test_onnxruntime_keeps_the_aspect_ratio_the_same_way(policy, sizes):
    (x,) = integer_arrays(1, (1, 2, 6, 9))
    attributes = {"mode": "nearest", "keep_aspect_ratio_policy": policy}
    (y,) = call_operator(RESIZE, x, None, None, np.array(sizes), opset=18, axes=(2, 3), **attributes)
    expected = compute_by_onnxruntime("Resize", x, None, None, np.array(sizes), opset=18, axes=[2, 3], **attributes)
    assert same_bits(y, expected)
    (y,) = call_operator(RESIZE, x, None, None, np.array(sizes[::-1]), opset=18, axes=(-1, -2), **attributes)
    assert same_bits(y, expected)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiasing_averages_over_what_is_skipped(mode):
    (x,) = integer_arrays(2, (1, 1, 12))
    sizes = np.array([1, 1, 3])
    (y,) = call_operator(RESIZE, x, None, None, sizes, opset=18, mode=mode, antialias=1)
    expected = compute_by_onnxruntime("Resize", x[None], None, None, np.array([1, 1, 1, 3]), opset=18, mode=mode, antialias=1)
    (plain,) = call_operator(RESIZE, x, None, None, sizes, opset=18, mode=mode)
    assert not np.allclose(y, plain, atol=0.1)
    constant = np.full((1, 1, 12), 3, np.float32)
    assert call_operator(RESIZE, constant, None, None, sizes, opset=18, mode=mode, antialias=1)[0].tolist() == [[[3, 3, 3]]]
    if mode == "linear":
        np.testing.assert_allclose(y[0], expected[0, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_sample_does_not_depend_on_the_batch(mode):
    x = np.random.default_rng(4).standard_normal((33, 5, 30, 20)).astype(np.float32)
    scales = np.array([1, 1, 1.7, 0.6], np.float32)
    alone = [call_operator(RESIZE, x[n : n + 1], None, scales, None, mode=mode)[0] for n in range(33)]
    for count in (2, 7, 33):
        assert same_bits(call_operator(RESIZE, x[:count], None, scales, None, mode=mode)[0], np.concatenate(alone[:count]))


def test_empty_inputs_count_as_left_out():
    (x,) = integer_arrays(3, (1, 1, 2, 2))
    empty = np.zeros(0, np.float32)
    (y,) = call_operator(RESIZE, x, empty, empty, np.array([1, 1, 4, 4]), opset=11, mode="nearest")
    assert same_bits(y, x.repeat(2, axis=2).repeat(2, axis=3))
    (y,) = call_operator(RESIZE, x, empty, np.array([1, 1, 2, 2], np.float32), opset=11, mode="nearest")
    assert same_bits(y, x.repeat(2, axis=2).repeat(2, axis=3))


def test_sizes_are_floors_in_float32():
    assert resized_shape((10,), axes=(0,), scales=(0.3,))[0] == (3,)
    assert resized_shape((3, 5), axes=(1,), sizes=(7,))[0] == (3, 7)


REFUSED = [
    ({"mode": "area"}, [np.float32([2]), None], "mode is 'area'"),
    ({"mode": "nearest", "nearest_mode": "up"}, [np.float32([2]), None], "nearest_mode"),
    ({"coordinate_transformation_mode": "middle"}, [np.float32([2]), None], "coordinate_transformation_mode"),
    ({"coordinate_transformation_mode": "tf_crop_and_resize"}, [np.float32([2]), None], "roi"),
    ({"mode": "nearest", "antialias": 1}, [np.float32([2]), None], "antialias"),
    ({"keep_aspect_ratio_policy": "fit"}, [None, np.array([2])], "keep_aspect_ratio_policy"),
    ({}, [np.float32([2]), np.array([2])], "not both"),
    ({}, [None, None], "not both"),
    ({}, [np.float32([2, 2]), None], "wanted 1 positive"),
    ({}, [np.float32([-2]), None], "wanted 1 positive"),
    ({"axes": (1,)}, [np.float32([2]), None], "axis 1"),
]


@pytest.mark.parametrize(("attributes", "inputs", "message"), REFUSED)
def test_what_is_not_defined_is_refused(attributes, inputs, message):
    with pytest.raises(OperatorError, match=message):
        call_operator(RESIZE, np.zeros(3, np.float32), None, *inputs, opset=18, **attributes)


def test_integers_are_not_interpolated():
    with pytest.raises(OperatorError, match="int8"):
        call_operator(RESIZE, np.zeros(3, np.int8), None, np.float32([2]), None, mode="linear")
