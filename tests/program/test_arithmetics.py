"""The staircases that the arithmetics of QDQ models make, against exact fractions."""

from __future__ import annotations

import doctest
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from npusim.program import dequantized_sum
from npusim.program.lowering.affine import AffineTensor, WeightedForm
from npusim.program.lowering.arithmetic import ARITHMETICS
from support.float32_oracle import (
    oracle_fixed_point,
    oracle_multiply_and_round,
    oracle_requantization_multiplier,
    rounded_to_float32,
)

scales = st.one_of(
    st.floats(2.0**-10, 2.0, width=32), st.integers(-10, 1).map(lambda e: 2.0**e), st.integers(1, 15).map(lambda n: n / 16)
)


def tensor(name: str, shape: tuple[int, ...], scale: float, zero_point: int, codes: np.ndarray | None = None) -> AffineTensor:
    lower, upper = (-128, 127) if codes is not None else (0, 255)
    return AffineTensor(name, shape, np.array([scale], np.float32), np.array([zero_point]), lower, upper, codes=codes)


@pytest.mark.slow
@settings(max_examples=150)
@given(scales, scales, scales, st.integers(0, 255), st.integers(-999, 999), st.lists(st.integers(-(2**20), 2**20), min_size=4))
def test_codes_of_a_layer_are_those_of_exact_fractions(source, weight, result, zero_point, bias, accumulators):
    factor = Fraction(source) * Fraction(weight) / Fraction(result)
    assume(Fraction(1, 2**30) < factor < 2**8)
    form = WeightedForm(
        name="layer",
        nodes=("layer",),
        result=tensor("y", (1, 1), result, zero_point),
        source=tensor("x", (1, 1), source, 7),
        weights=tensor("w", (1, 1), weight, 0, np.array([[1]])),
        bias=np.array([bias]),
        real_bias=np.array([bias * weight], np.float32),
    )
    array, clip = np.array([accumulators]), (-zero_point, 255 - zero_point)
    found = {name: one.layer(form).requantization.codes(array)[0].tolist() for name, one in ARITHMETICS.items()}
    multiplier = oracle_requantization_multiplier(Fraction(source), Fraction(weight), Fraction(result))
    assert found["ort"] == [oracle_multiply_and_round(value + bias, multiplier, *clip) for value in accumulators]
    exact = (oracle_fixed_point(value + bias, Fraction(source), Fraction(weight), Fraction(result)) for value in accumulators)
    assert found["tvm"] == [min(max(code, clip[0]), clip[1]) for code in exact]
    added = Fraction(float(np.float32(bias * weight)))
    for value, code in zip(accumulators, found["onnx"], strict=True):
        real = value * Fraction(source) * Fraction(weight) + added
        assume(abs(real) < 2**100)
        # float64 holds the sum of these numbers, so that it is rounded once
        written = round(rounded_to_float32(rounded_to_float32(Fraction(float(real))) / Fraction(result)))
        assert code == min(max(written, clip[0]), clip[1])


def test_examples():
    assert doctest.testmod(dequantized_sum, extraglobs={"Clip": dequantized_sum.Clip}).failed == 0
