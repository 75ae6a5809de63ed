"""The integer arithmetic of TensorFlow Lite's operators against the runtimes, code by code, and against exact fractions.

Scales with simple quotients make ties, which tell roundings apart; random ones seldom do.
"""

from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.kernels import gemmlowp
from npusim.kernels import tflite as module
from npusim.kernels.fixed_point import Rounding, divide_half_away, multiply_fixed_point, quantize_multipliers
from npusim.kernels.qlinear import Affine, multiply_and_round, requantization_multiplier
from npusim.kernels.tflite import (
    Activation,
    activation_range,
    add_codes,
    fixed_point_sigmoid_codes,
    gemmlowp_softmax,
    hard_swish_codes,
    layer_multipliers,
    leaky_relu_codes,
    mean_multiplier,
    multiply_codes,
    quantize_codes,
    relu_codes,
    requantize_8_bit_codes,
    requantize_codes,
    round_half_away,
    sigmoid_16_codes,
    softmax_16_codes,
    table_sigmoid_codes,
    table_softmax_codes,
    xnnpack_add_codes,
    xnnpack_mean_codes,
    xnnpack_multiply_codes,
)
from support.tflite_models import ARITHMETICS, one_operator, runtime, tensor

DOUBLE = Rounding.DOUBLE
INT8 = np.arange(-128, 128, dtype=np.int8)[np.newaxis]
BYTE, WORD = (-128, 127), (-32768, 32767)
CODES = INT8.astype(np.int64)

PAIRS = [
    # scale and zero point of source and result
    ((0.125, 0), (0.2, -128)),
    ((0.0625, 3), (0.05, -128)),
    ((0.3, -49), (0.1, 127)),
    ((0.05, -128), (0.1, 0)),
    ((0.02, 17), (0.031, -5)),
    ((0.1, 1), (0.4, 1)),
    ((0.25, 7), (0.0625, 7)),
]

needs_tflite = pytest.mark.needs_tflite


def unary(name, source, result, x=INT8, *, element="INT8", result_element=None, options=None, shape=None):
    """A model of one operator with one input."""
    output = tensor("y", result_element or element, shape or x.shape, *result)
    return one_operator(name, [tensor("x", element, x.shape, *source)], output, options)


def byte(scale, zero_point):
    return Affine(float(np.float32(scale)), zero_point, *BYTE)


def in_float32(arithmetic):
    return arithmetic != "tflm"


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize(("source", "result"), PAIRS)
class TestUnary:
    def test_quantize(self, source, result, arithmetic):
        seen = runtime(unary("QUANTIZE", source, result), [INT8], arithmetic)
        if arithmetic == "xnnpack":
            codes = requantize_8_bit_codes(CODES, source=byte(*source), result=byte(*result))
        else:
            rounding = Rounding.UPUP if arithmetic == "litert" else DOUBLE
            codes = requantize_codes(CODES, source=byte(*source), result=byte(*result), rounding=rounding)
        assert codes.tolist() == seen.tolist()

    @pytest.mark.parametrize("name", ["RELU", "RELU6"])
    def test_relu(self, source, result, arithmetic, name):
        seen = runtime(unary(name, source, result), [INT8], arithmetic)
        codes = relu_codes(
            CODES,
            source=byte(*source),
            result=byte(*result),
            activation=Activation(name),
            rounding=DOUBLE,
            in_float32=in_float32(arithmetic),
            rescale=not (arithmetic == "tflm" and name == "RELU6"),
        )
        assert codes.tolist() == seen.tolist()

    @pytest.mark.parametrize("alpha", [0.1, 0.25, 0.3])
    def test_leaky_relu(self, source, result, arithmetic, alpha):
        seen = runtime(unary("LEAKY_RELU", source, result, options={"alpha": alpha}), [INT8], arithmetic)
        affine = {"source": byte(*source), "result": byte(*result)}
        if arithmetic == "xnnpack":
            codes = requantize_8_bit_codes(CODES, **affine, slope_below=alpha)
        else:
            codes = leaky_relu_codes(CODES, **affine, alpha=alpha, rounding=DOUBLE, in_float32=in_float32(arithmetic))
        assert codes.tolist() == seen.tolist()

    def test_hard_swish(self, source, result, arithmetic):
        seen = runtime(unary("HARD_SWISH", source, result), [INT8], arithmetic)
        assert hard_swish_codes(CODES, source=byte(*source), result=byte(*result)).tolist() == seen.tolist()

    @pytest.mark.parametrize(("name", "fixed"), [("LOGISTIC", (1 / 256, -128)), ("TANH", (1 / 128, 0))])
    def test_sigmoids(self, source, result, arithmetic, name, fixed):
        seen = runtime(unary(name, source, fixed), [INT8], arithmetic)
        affine = {"source": byte(*source), "result": byte(*fixed), "hyperbolic": name == "TANH"}
        if arithmetic == "tflm":
            codes = fixed_point_sigmoid_codes(CODES, **affine, rounding=DOUBLE)
        else:
            codes = table_sigmoid_codes(CODES, **affine)
        assert codes.tolist() == seen.tolist()

    def test_quantize_floats(self, source, result, arithmetic):
        rng = np.random.default_rng(3)
        ties = (rng.integers(-200, 200, 500) + 0.5).astype(np.float32) * np.float32(result[0])
        x = np.concatenate([ties, rng.normal(0, 100 * result[0], 500).astype(np.float32), [1e30, -1e30]])[np.newaxis]
        x = x.astype(np.float32)
        model = one_operator("QUANTIZE", [tensor("x", "FLOAT32", x.shape)], tensor("y", "INT8", x.shape, *result))
        # what is far beyond the codes overflows an int32 in the runtimes, where C leaves the result open
        seen = runtime(model, [np.clip(x, -1e6, 1e6).astype(np.float32)], arithmetic)
        by_inverse = arithmetic in ("litert", "xnnpack")
        assert quantize_codes(x, result=byte(*result), by_inverse=by_inverse).tolist() == seen.tolist()

    def test_softmax(self, source, result, arithmetic):
        rng = np.random.default_rng(5)
        x = np.clip(rng.normal(0, 20, (200, 10)), *BYTE).astype(np.int8)
        x[0], x[1] = -128, np.arange(118, 128)
        seen = runtime(unary("SOFTMAX", source, (1 / 256, -128), x, options={"beta": 0.7}), [x], arithmetic)
        affine = {"source": byte(*source), "result": byte(1 / 256, -128), "beta": float(np.float32(0.7))}
        if arithmetic in ("tflm", "litert_ref"):
            codes = gemmlowp_softmax(x.astype(np.int64), **affine, rounding=DOUBLE)
        else:
            codes = table_softmax_codes(x.astype(np.int64), **affine)
        assert codes.tolist() == seen.tolist()


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize(
    ("scales", "points"),
    [((0.125, 0.2177898, 0.2), (0, 0, -128)), ((0.0625, 0.3, 0.05), (0, -128, 92)), ((0.3, 0.05, 0.15), (-3, 5, 127))],
)
class TestTwoOperands:
    def operands(self, element="INT8"):
        rng = np.random.default_rng(1)
        low, high = BYTE if element == "INT8" else WORD
        return [rng.integers(low, high + 1, (1, 20000)).astype(element.lower()) for _ in range(2)]

    def model(self, name, scales, points, element="INT8", **options):
        inputs = [tensor(key, element, (1, 20000), scales[i], points[i]) for i, key in enumerate("ab")]
        return one_operator(name, inputs, tensor("y", element, (1, 20000), scales[2], points[2]), options)

    @pytest.mark.parametrize("name", ["ADD", "SUB"])
    def test_add(self, scales, points, arithmetic, name):
        a, b = self.operands()
        seen = runtime(self.model(name, scales, points), [a, b], arithmetic)
        first, second, result = map(byte, scales, points)
        affine = {"first": first, "second": second, "result": result, "clip": BYTE, "subtract": name == "SUB"}
        if arithmetic == "xnnpack":
            codes = xnnpack_add_codes(a.astype(np.int64), b.astype(np.int64), **affine)
        else:
            before = Rounding.SINGLE if (arithmetic, name) == ("litert", "ADD") else None
            codes = add_codes(a.astype(np.int64), b.astype(np.int64), **affine, rounding=DOUBLE, rounding_operands=before)
        assert codes.tolist() == seen.tolist()

    @pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU, Activation.RELU6])
    def test_multiply(self, scales, points, arithmetic, activation):
        a, b = self.operands()
        wide = (scales[0], scales[1], scales[0] * scales[1] * 64)
        seen = runtime(self.model("MUL", wide, points, activation=str(activation)), [a, b], arithmetic)
        first, second, result = map(byte, wide, points)
        affine = {"first": first, "second": second, "result": result, "clip": activation_range(activation, result)}
        if arithmetic == "xnnpack":
            codes = xnnpack_multiply_codes(a.astype(np.int64), b.astype(np.int64), **affine)
        else:
            codes = multiply_codes(
                a.astype(np.int64), b.astype(np.int64), **affine, rounding=DOUBLE, in_float32=in_float32(arithmetic)
            )
        assert codes.tolist() == seen.tolist()

    @pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
    def test_16_bits(self, scales, points, arithmetic, name):
        a, b = self.operands("INT16")
        fine = [scale / 256 for scale in scales]
        fine[2] = fine[0] * fine[1] * 20000 if name == "MUL" else fine[2]
        options = {} if name == "MUL" else {"pot_scale_int16": 0}
        seen = runtime(self.model(name, fine, (0, 0, 0), "INT16", **options), [a, b], arithmetic)
        first, second, result = (Affine(float(np.float32(scale)), 0, *WORD) for scale in fine)
        affine = {"first": first, "second": second, "result": result, "clip": WORD, "rounding": DOUBLE}
        if name == "MUL":
            codes = multiply_codes(a.astype(np.int64), b.astype(np.int64), **affine, in_float32=in_float32(arithmetic))
        else:
            before = Rounding.SINGLE if name == "ADD" and arithmetic in ("litert", "xnnpack") else None
            codes = add_codes(
                a.astype(np.int64),
                b.astype(np.int64),
                **affine,
                rounding_operands=before,
                left_shift=15,
                subtract=name == "SUB",
            )
        assert codes.tolist() == seen.tolist()


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
class TestSums:
    @pytest.mark.parametrize("per_channel", [True, False])
    def test_fully_connected(self, arithmetic, per_channel):
        rng = np.random.default_rng(7)
        x, weights = rng.integers(-128, 128, (1000, 32)).astype(np.int8), rng.integers(-127, 128, (64, 32)).astype(np.int8)
        scales = rng.uniform(0.002, 0.02, 64 if per_channel else 1).astype(np.float32)
        bias = rng.integers(-5000, 5000, 64)
        source, result = byte(0.0437, 11), byte(1.37, -20)
        inputs = [
            tensor("x", "INT8", x.shape, source.scale, 11),
            tensor("w", "INT8", weights.shape, scales, 0, weights),
            tensor("b", "INT32", (64,), np.float32(source.scale) * scales, 0, bias),
        ]
        seen = runtime(
            one_operator("FULLY_CONNECTED", inputs, tensor("y", "INT8", (1000, 64), result.scale, -20), version=4),
            [x],
            arithmetic,
        )
        sums = (x.astype(np.int64) - 11) @ weights.astype(np.int64).T + bias
        if arithmetic == "xnnpack":
            factor = requantization_multiplier(source.scale, scales, result.scale)
            codes = multiply_and_round(sums, factor, lower=-108, upper=147) - 20
        else:
            product = not per_channel and in_float32(arithmetic)
            reals = layer_multipliers(source.scale, scales, result.scale, float32_product=product)
            rounding = {"tflm": DOUBLE, "litert_ref": Rounding.SINGLE, "litert": Rounding.UPUP}[arithmetic]
            codes = np.clip(multiply_fixed_point(sums, *quantize_multipliers(reals), rounding) - 20, *BYTE)
        assert codes.tolist() == seen.tolist()

    @pytest.mark.parametrize("axes", [(1, 2), (1,), (2,), (3,)])
    def test_mean(self, arithmetic, axes):
        rng = np.random.default_rng(9)
        x = rng.integers(-128, 128, (1, 6, 9, 50)).astype(np.int8)
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        count = math.prod(x.shape[axis] for axis in axes)
        for source, result in (((0.15, -128), (0.15, 0)), ((0.025, -113), (0.025, 91)), ((0.0625, 127), (0.05, 3))):
            inputs = [tensor("x", "INT8", x.shape, *source), tensor("axes", "INT32", (len(axes),), data=axes)]
            seen = runtime(one_operator("MEAN", inputs, tensor("y", "INT8", shape, *result)), [x], arithmetic)
            total = x.astype(np.int64).sum(axis=axes)
            if arithmetic == "xnnpack":
                codes = xnnpack_mean_codes(total, count=count, source=byte(*source), result=byte(*result))
            else:
                factor = (np.array(part) for part in mean_multiplier(source[0], result[0], count))
                scaled = multiply_fixed_point(total - count * source[1], *factor, DOUBLE)
                codes = np.clip(scaled + result[1], *BYTE)
            assert codes.tolist() == seen.tolist()

    def test_average_pool(self, arithmetic):
        x = np.random.default_rng(11).integers(-128, 128, (1, 6, 6, 500)).astype(np.int8)
        options = {"padding": "VALID", "stride_w": 3, "stride_h": 2, "filter_h": 2, "filter_w": 3}
        model = unary("AVERAGE_POOL_2D", (0.1, 3), (0.1, 3), x, options=options, shape=(1, 3, 2, 500))
        sums = x.astype(np.int64).reshape(1, 3, 2, 2, 3, 500).sum((2, 4))
        assert divide_half_away(sums, 6).tolist() == runtime(model, [x], arithmetic).tolist()

    @pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
    @pytest.mark.parametrize("scale", [1 / 4096, 1 / 2048, 0.000317, 0.00012])
    def test_sigmoids_of_16_bits(self, arithmetic, name, scale):
        if scale > 1 / 4000 or scale == 1 / 4096:
            # LiteRT's other kernels have formulas of their own for these two scales
            arithmetic = "tflm" if arithmetic == "tflm" else "litert_ref"
        x = np.arange(-32768, 32768, dtype=np.int16)[np.newaxis]
        seen = runtime(unary(name, (scale, 0), (1 / 32768, 0), x, element="INT16"), [x], arithmetic)
        source = Affine(float(np.float32(scale)), 0, *WORD)
        assert sigmoid_16_codes(x.astype(np.int64), source=source, hyperbolic=name == "TANH").tolist() == seen.tolist()

    def test_softmax_of_16_bits(self, arithmetic):
        x = np.clip(np.random.default_rng(2).normal(0, 8000, (3000, 10)), *WORD).astype(np.int16)
        seen = runtime(
            unary("SOFTMAX", (0.0004, 0), (1 / 32768, 0), x, element="INT16", options={"beta": 1.0}), [x], arithmetic
        )
        source = Affine(float(np.float32(0.0004)), 0, *WORD)
        codes = softmax_16_codes(
            x.astype(np.int64), source=source, beta=1.0, rounding=DOUBLE, in_float32=not in_float32(arithmetic)
        )
        assert codes.tolist() == seen.tolist()


def test_runtimes_that_round_differently_are_told_apart():
    """The scales of these tests are of use only as long as the roundings differ for them."""
    codes = {
        how: [
            requantize_codes(CODES, source=byte(*source), result=byte(*result), rounding=how).tolist()
            for source, result in PAIRS
        ]
        for how in (Rounding.SINGLE, DOUBLE, Rounding.UPUP)
    }
    assert codes[DOUBLE] != codes[Rounding.UPUP]
    assert codes[DOUBLE] != codes[Rounding.SINGLE]
    assert codes[Rounding.UPUP] != codes[Rounding.SINGLE]


scales = st.floats(2.0**-14, 4.0, width=32)
points = st.integers(*BYTE)


def rounded(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2)) if value >= 0 else -math.floor(-value + Fraction(1, 2))


@given(st.integers(*BYTE), st.integers(*BYTE), scales, scales, scales, points, points, points, st.booleans())
def test_sums_are_the_nearest_code_but_near_ties(a, b, sa, sb, s, za, zb, z, subtract):
    """Whatever the rounding: less than a half and a hundredth from the real sum."""
    first, second, result = Affine(sa, za, *BYTE), Affine(sb, zb, *BYTE), Affine(s, z, *BYTE)
    affine = {"first": first, "second": second, "result": result, "clip": BYTE, "subtract": subtract}
    real = Fraction(sa) * (a - za) + (-1 if subtract else 1) * Fraction(sb) * (b - zb)
    exact = min(max(real / Fraction(s) + z, Fraction(-128)), Fraction(127))
    if max(sa, sb) / s > 2**7:
        return
    for how in (Rounding.SINGLE, DOUBLE, Rounding.UPUP):
        (code,) = add_codes(np.array([a]), np.array([b]), **affine, rounding=how).tolist()
        assert abs(code - exact) <= Fraction(51, 100)
    (code,) = xnnpack_add_codes(np.array([a]), np.array([b]), **affine).tolist()
    assert abs(code - exact) <= Fraction(51, 100)


@given(st.floats(-1000, 1000))
def test_halves_are_rounded_away_from_zero(value):
    assert int(round_half_away(value)) == rounded(Fraction(value))


@given(st.integers(-(2**31) + 1, 0))
def test_gemmlowp_exponentials_are_close(raw):
    exact = math.exp(raw / 2**26)
    assert abs(int(gemmlowp.exp_on_negative_values(np.array(raw), 5)) / 2**31 - exact) < 3e-7


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_gemmlowp_sigmoids_are_close(raw):
    real = raw / 2**27
    assert abs(int(gemmlowp.logistic(np.array(raw), 4)) / 2**31 - 1 / (1 + math.exp(-real))) < 3e-7
    assert abs(int(gemmlowp.tanh(np.array(raw), 4)) / 2**31 - math.tanh(real)) < 5e-7


@given(st.integers(1, 2**31 - 1))
def test_gemmlowp_reciprocals_are_close(raw):
    mantissa, bits = gemmlowp.reciprocal(np.array([raw]), 12)
    assert abs(Fraction(int(mantissa[0]), 2**31) / Fraction(2) ** int(bits[0]) * Fraction(raw, 2**19) - 1) < Fraction(1, 10**8)


def test_examples():
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(gemmlowp).failed == 0


@pytest.mark.parametrize("scale", [0.5, 0.25, 1 / 64, 3.0, 0.75])
@pytest.mark.parametrize("zero_point", [-128, -3, 0, 100, 127])
def test_fused_activations_saturate_at_the_codes_of_their_bounds(scale: float, zero_point: int) -> None:
    """Scales whose quotients float32 holds or rounds to the same side of a half; halves go away from zero."""
    bounds = {"NONE": (None, None), "RELU": (0, None), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}
    assert set(bounds) == {item.name for item in Activation}
    for name, ends in bounds.items():
        wanted = list(BYTE)
        for place, (end, choose) in enumerate(zip(ends, (max, min), strict=True)):
            if end is not None:
                exact = Fraction(abs(end)) / Fraction(scale)
                whole = math.floor(exact + Fraction(1, 2)) * (1 if end >= 0 else -1)
                wanted[place] = choose(wanted[place], zero_point + whole)
        assert activation_range(Activation(name), Affine(scale, zero_point, *BYTE)) == tuple(wanted), name


@pytest.mark.parametrize("raw", [1, 2, 3, 1 << 20, (1 << 31) - 1])
def test_gemmlowp_sigmoids_of_opposite_numbers_add_up_to_one(raw: int) -> None:
    above, below = (int(gemmlowp.logistic(np.array(value), 4)) for value in (raw, -raw))
    assert above + below == gemmlowp.HIGHEST
    assert above > 1 << 30 > below
