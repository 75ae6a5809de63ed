"""The light operators against onnxruntime, bit by bit, wherever IEEE arithmetic leaves only one result.

What onnxruntime does otherwise is asserted too, so that a change there is noticed.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from support.single_operator import compute, compute_by_onnxruntime, f32, run_by_onnxruntime, same_bits

pytestmark = pytest.mark.filterwarnings("error")

SPECIAL = f32(
    *(0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 0.3, -0.3, 0.5, -0.5, 1.5, 2.5, -2.5, 255, 256, 127.5, -128.5),
    *(1e-45, -1e-45, 1e-39, -1e-39, 1.17549435e-38, 3.4e38, -3.4e38, 8388607.5, -8388607.5, 16777217),
)


def random_floats(count: int, seed: int) -> np.ndarray:
    """Random bit patterns (denormals, huge values, NaN among them) and numbers of everyday size."""
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    everyday = (random.standard_normal(count) * 300).astype(np.float32)
    return np.concatenate([SPECIAL, patterns, everyday])


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Every special value with every other, and random ones."""
    first, second = np.meshgrid(SPECIAL, SPECIAL, indexing="ij")
    return (
        np.concatenate([first.ravel(), random_floats(20000, 1)]),
        np.concatenate([second.ravel(), random_floats(20000, 2)]),
    )


@pytest.mark.parametrize(
    "op_type", ["Neg", "Abs", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Sign", "Relu", "IsNaN", "IsInf"]
)
def test_unary_operators(op_type: str):
    x = random_floats(50000, 0)
    assert same_bits(compute(op_type, x), compute_by_onnxruntime(op_type, x))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("LeakyRelu", {"alpha": 0.01}), ("ThresholdedRelu", {"alpha": 1.0}), ("HardSigmoid", {"alpha": 0.3}), ("HardSwish", {})],
)
def test_piecewise_linear_activations(op_type: str, attributes: dict[str, float]):
    x = random_floats(50000, 3)
    attributes = {name: float(np.float32(value)) for name, value in attributes.items()}
    assert same_bits(compute(op_type, x, **attributes), compute_by_onnxruntime(op_type, x, **attributes))


BINARY = ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "PRelu"]


@pytest.mark.parametrize("op_type", BINARY)
def test_binary_operators(op_type: str):
    a, b = pairs()
    assert same_bits(compute(op_type, a, b), compute_by_onnxruntime(op_type, a, b))


@pytest.mark.parametrize("op_type", [name for name in BINARY if name != "PRelu"])
def test_binary_operators_with_a_scalar(op_type: str):
    x = random_floats(2000, 4)
    x = x[x != 0] if op_type in ("Min", "Max") else x
    for scalar in SPECIAL:
        assert same_bits(compute(op_type, x, np.asarray(scalar)), compute_by_onnxruntime(op_type, x, np.asarray(scalar)))
        assert same_bits(compute(op_type, np.asarray(scalar), x), compute_by_onnxruntime(op_type, np.asarray(scalar), x))


def test_onnxruntime_picks_another_zero_when_the_first_operand_is_a_scalar():
    zero, zeros = np.asarray(0, np.float32), np.zeros(20, np.float32)
    for op_type in ("Min", "Max"):
        assert same_bits(compute(op_type, zero, -zeros), -zeros)
        assert same_bits(compute_by_onnxruntime(op_type, zeros, -zeros), -zeros)
        assert same_bits(compute_by_onnxruntime(op_type, zero, -zeros), zeros)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 255), (-128, 127), (-0.0, 5), (np.nan, 1), (0, np.nan), (5, 1), (-1, -0.0), (-7, 7)]
)
def test_clip(low: float, high: float):
    x = random_floats(20000, 5)
    bounds = (np.asarray(low, np.float32), np.asarray(high, np.float32))
    assert same_bits(compute("Clip", x, *bounds), compute_by_onnxruntime("Clip", x, *bounds))
    assert same_bits(compute("Clip", x, None, bounds[1]), compute_by_onnxruntime("Clip", x, None, bounds[1]))
    assert same_bits(compute("Clip", x, bounds[0]), compute_by_onnxruntime("Clip", x, bounds[0]))


def test_where_but_for_the_first_choice_of_minus_zero():
    a, b = pairs()
    ours, theirs = compute("Where", a < b, a, b), compute_by_onnxruntime("Where", a < b, a, b)
    # onnxruntime joins the two halves by an addition, which turns a -0 of the first one into +0
    turned = (a < b) & (a == 0) & np.signbit(a)
    assert turned.any()
    assert same_bits(ours[~turned], theirs[~turned])
    assert same_bits(ours[turned], -theirs[turned])


def test_float_remainder():
    a, b = pairs()
    assert same_bits(compute("Mod", a, b, fmod=1), compute_by_onnxruntime("Mod", a, b, fmod=1))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_integer_arithmetic(dtype: type):
    limits = np.iinfo(dtype)
    random = np.random.default_rng(6)
    a, b = (random.integers(limits.min, limits.max, 5000, dtype, endpoint=True) for _ in range(2))
    b = np.where(b == 0, dtype(3), b)
    a = np.where((a == limits.min) & (b == -1), dtype(1), a) if limits.min < 0 else a
    for op_type in ("Add", "Sub", "Mul", "Div", "Mod"):
        assert same_bits(compute(op_type, a, b), compute_by_onnxruntime(op_type, a, b))
    assert same_bits(compute("Mod", a, b, fmod=1), compute_by_onnxruntime("Mod", a, b, fmod=1))


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13])
def test_cast_from_float32(code: int):
    # Out of range too: there ONNX defines nothing, and both follow what x86 processors do.
    x = random_floats(20000, 7)
    assert same_bits(compute("Cast", x, to=code), compute_by_onnxruntime("Cast", x, to=code))


def test_cast_to_uint32_where_onnxruntime_has_one_result():
    x = random_floats(20000, 8)
    x = x[np.abs(x) < 2**31]
    assert same_bits(compute("Cast", x, to=12), compute_by_onnxruntime("Cast", x, to=12))


def test_cast_to_float32():
    random = np.random.default_rng(9)
    doubles = random.standard_normal(20000) * 10 ** random.uniform(-50, 50, 20000)
    for x in (doubles, random.integers(-(2**31), 2**31, 5000).astype(np.int32), random.integers(-(2**62), 2**62, 5000)):
        assert same_bits(compute("Cast", x, to=1), compute_by_onnxruntime("Cast", x, to=1))


def test_powers_of_two_and_squares():
    n = np.arange(-149, 128)
    for exponents in (n.astype(np.float32), n, n.astype(np.int32)):
        assert same_bits(compute("Pow", f32(2), exponents), compute_by_onnxruntime("Pow", f32(2), exponents))
    x = random_floats(20000, 10)
    assert same_bits(compute("Pow", x, f32(2)), compute_by_onnxruntime("Pow", x, f32(2)))


@pytest.mark.parametrize("axes", [(2, 3), (1,), (3,), (1, 2, 3), (2,), (-1, 1)])
def test_sums_means_and_extremes_of_integers_held_in_float32(axes: tuple[int, ...]):
    random = np.random.default_rng(11)
    for _ in range(40):
        shape = (
            int(random.integers(1, 4)),
            int(random.integers(1, 9)),
            int(random.integers(1, 20)),
            int(random.integers(1, 20)),
        )
        x = random.integers(-255, 256, shape).astype(np.float32)
        by_input = np.array(axes)
        assert same_bits(compute("ReduceSum", x, by_input) + 0, compute_by_onnxruntime("ReduceSum", x, by_input) + 0)
        for op_type in ("ReduceMean", "ReduceMax", "ReduceMin"):
            assert same_bits(compute(op_type, x, axes=axes) + 0, compute_by_onnxruntime(op_type, x, axes=axes) + 0)


def test_positions_of_extremes():
    x = np.random.default_rng(12).integers(-3, 4, (5, 6, 7)).astype(np.float32)
    for op_type in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            attributes = {"axis": 1, "select_last_index": last}
            assert same_bits(compute(op_type, x, **attributes), compute_by_onnxruntime(op_type, x, **attributes))


def test_floor_of_log2_as_exported():
    # One area at a time, as a graph computes it: in a long vector its logarithm differs, and the floor at 8192 with it.
    areas = [*range(1, 4097), *(2**n for n in range(13, 21))]
    names = [("Log", ["area"], ["logarithm"]), ("Div", ["logarithm", "log_2"], ["quotient"]), ("Floor", ["quotient"], ["y"])]
    log_2 = np.asarray(0.6931471824645996, np.float32)
    feeds = [{"area": np.asarray(area, np.float32), "log_2": log_2} for area in areas]
    theirs = run_by_onnxruntime([helper.make_node(*name) for name in names], feeds)
    ours = [compute("Floor", compute("Div", compute("Log", feed["area"]), log_2)) for feed in feeds]
    assert [area for area, a, b in zip(areas, ours, theirs, strict=True) if not same_bits(a, b)] == []


@pytest.mark.parametrize("op_type", ["Exp", "Log", "Sigmoid", "Tanh", "Softplus", "Erf", "Elu", "Softmax"])
def test_transcendental_operators_lie_within_a_few_units_in_the_last_place(op_type: str):
    x = (np.random.default_rng(13).standard_normal((50, 40)) * 4).astype(np.float32)
    x = np.abs(x) if op_type == "Log" else x
    ours, theirs = compute(op_type, x), compute_by_onnxruntime(op_type, x)
    assert np.max(np.abs(ours - theirs) / np.maximum(np.spacing(np.abs(ours)), 2.0**-24)) <= 8
