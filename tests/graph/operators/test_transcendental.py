"""Transcendental operators against 60-digit decimal arithmetic: every float32 result is the correctly rounded one."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

from npusim.errors import OperatorError
from support.single_operator import as_float32, compute, f32, nearest_float32, same_bits

pytestmark = pytest.mark.filterwarnings("error")


def exp_minus_one(x: Decimal) -> Decimal:
    return x.exp() - 1


def tanh(x: Decimal) -> Decimal:
    return 1 - 2 / ((2 * x).exp() + 1)


def erf(x: Decimal) -> Decimal:
    """Maclaurin series, enough digits for |x| up to 6."""
    total = term = x
    for n in range(1, 400):
        term = -term * x * x / n
        total += term / (2 * n + 1)
    return total * 2 / PI.sqrt()


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")

ALPHA, GAMMA = Decimal("1.67326319217681884765625"), Decimal("1.05070102214813232421875")
"""The defaults of Selu, float32 numbers."""

ORACLES: dict[str, tuple[Callable[[Decimal], Decimal], float]] = {
    "Exp": (lambda x: x.exp(), 80),
    "Sigmoid": (lambda x: 1 / (1 + (-x).exp()), 80),
    "Tanh": (tanh, 12),
    "Softplus": (lambda x: (1 + x.exp()).ln(), 80),
    "Softsign": (lambda x: x / (1 + abs(x)), 80),
    "Erf": (erf, 5),
    "Gelu": (lambda x: x / 2 * (1 + erf(x / Decimal(2).sqrt())), 6),
    "Elu": (lambda x: x if x >= 0 else exp_minus_one(x), 80),
    "Selu": (
        lambda x: GAMMA * (x if x >= 0 else ALPHA * exp_minus_one(x)),
        80,
    ),
}


@pytest.mark.parametrize("op_type", ORACLES)
def test_transcendental_functions_are_correctly_rounded(op_type: str):
    oracle, limit = ORACLES[op_type]
    random = np.random.default_rng(20)
    x = np.concatenate([random.uniform(-limit, limit, 300), random.uniform(-1, 1, 200) * 2.0 ** random.integers(-30, 0, 200)])
    x = x.astype(np.float32)
    with localcontext() as context:
        context.prec = 80
        wanted = np.array([nearest_float32(oracle(Decimal(float(item)))) for item in x], np.float32)
    assert same_bits(compute(op_type, x, opset=20), wanted)


def test_logarithm_is_correctly_rounded():
    random = np.random.default_rng(21)
    x = np.concatenate([2.0 ** random.uniform(-140, 127, 300), random.uniform(0.5, 2, 200), range(1, 100)]).astype(np.float32)
    with localcontext() as context:
        context.prec = 60
        wanted = np.array([nearest_float32(Decimal(float(item)).ln()) for item in x], np.float32)
    assert same_bits(compute("Log", x), wanted)


def test_fractional_powers_are_correctly_rounded():
    random = np.random.default_rng(22)
    x, y = random.uniform(0.01, 100, 300).astype(np.float32), random.uniform(-8, 8, 300).astype(np.float32)
    with localcontext() as context:
        context.prec = 60
        pairs = zip(x, y, strict=True)
        wanted = np.array([nearest_float32(Decimal(float(a)) ** Decimal(float(b))) for a, b in pairs], np.float32)
    assert same_bits(compute("Pow", x, y), wanted)


def test_gelu_by_tanh():
    x = np.linspace(-6, 6, 101).astype(np.float32)
    with localcontext() as context:
        context.prec = 60
        wanted = []
        for item in (Decimal(float(item)) for item in x):
            inner = (2 / PI).sqrt() * (item + Decimal("0.044715") * item**3)
            wanted.append(nearest_float32(item / 2 * (1 + tanh(inner))))
    assert same_bits(compute("Gelu", x, opset=20, approximate="tanh"), np.array(wanted, np.float32))
    with pytest.raises(OperatorError, match="'approximate' is 'fast'"):
        compute("Gelu", x, opset=20, approximate="fast")


@pytest.mark.parametrize(
    ("op_type", "wanted"),
    [
        ("Exp", [0, math.inf, math.nan, 1, math.inf, 0]),
        ("Log", [math.nan, math.inf, math.nan, -math.inf, nearest_float32(Decimal(1000).ln()), math.nan]),
        ("Sigmoid", [0, 1, math.nan, 0.5, 1, 0]),
        ("Tanh", [-1, 1, math.nan, -0.0, 1, -1]),
        ("Softplus", [0, math.inf, math.nan, nearest_float32(Decimal(2).ln()), 1000, 0]),
        ("Erf", [-1, 1, math.nan, -0.0, 1, -1]),
        ("Elu", [-1, math.inf, math.nan, -0.0, 1000, -1]),
    ],
)
def test_limits_and_overflow_are_quiet(op_type: str, wanted: list[float]):
    x = f32(-math.inf, math.inf, math.nan, -0.0, 1000, -1000)
    assert same_bits(compute(op_type, x), f32(*wanted))


TRANSCENDENTAL = ("Exp", "Log", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Gelu", "Elu", "Selu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("op_type", TRANSCENDENTAL)
def test_results_do_not_depend_on_length_position_or_layout(op_type: str, dtype: type):
    x = (np.random.default_rng(23).standard_normal(24 * 43) * 4).astype(dtype)
    together = compute(op_type, x, opset=20)
    assert together.dtype == dtype
    assert same_bits(np.array([compute(op_type, item.reshape(()), opset=20) for item in x]), together)
    for start in range(1, 40, 3):
        assert same_bits(compute(op_type, x[start : start + 2 * start + 1], opset=20), together[start : start + 2 * start + 1])
    assert same_bits(compute(op_type, x.reshape(24, 43).T, opset=20), together.reshape(24, 43).T)
    assert same_bits(compute(op_type, x[::-3], opset=20), together[::-3])


def test_powers_do_not_depend_on_length_or_layout():
    random = np.random.default_rng(24)
    x, y = random.uniform(0, 9, 999).astype(np.float32), random.uniform(-9, 9, 999).astype(np.float32)
    together = compute("Pow", x, y)
    assert same_bits(np.array([compute("Pow", a.reshape(()), b.reshape(())) for a, b in zip(x, y, strict=True)]), together)
    assert same_bits(compute("Pow", x[::2], y[::2]), together[::2])


LOG_2 = np.float32(0.6931471824645996)

AREAS = [*range(1, 4097), *(2**n for n in range(13, 21))]


def floor_log2(area: int) -> float:
    """The chain of an exporter that has no Log2: three operators, each rounded to float32."""
    quotient = compute("Div", compute("Log", np.float32(area).reshape(())), np.asarray(LOG_2))
    return float(compute("Floor", quotient))


def test_floor_of_log2_as_exported_is_the_chain_of_correctly_rounded_operators():
    for area in AREAS:
        logarithm = float(nearest_float32(Decimal(area).ln()))
        assert floor_log2(area) == math.floor(as_float32(logarithm / float(LOG_2)))


def test_floor_of_log2_as_exported_misses_two_powers_of_two():
    wrong = {area: floor_log2(area) for area in AREAS if floor_log2(area) != area.bit_length() - 1}
    assert wrong == {8192: 12, 32768: 14}
