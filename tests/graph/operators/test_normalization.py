"""BatchNormalization: against fractions where nothing rounds, and against onnxruntime bit by bit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import OperatorError
from npusim.graph.operators.normalization import OPERATORS
from support.single_operator import compute_by_onnxruntime, same_bits
from support.window_cases import call_operator, small_integers

pytestmark = pytest.mark.filterwarnings("error")

NORMALIZE = OPERATORS["BatchNormalization"]


def random_operands(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    parameters = [random.standard_normal(shape[1]).astype(np.float32) for _ in range(3)]
    return [random.standard_normal(shape).astype(np.float32), *parameters, random.random(shape[1]).astype(np.float32)]


@given(
    st.data(), st.sampled_from([(4,), (2, 3), (2, 3, 4), (2, 3, 2, 2)]), st.sampled_from([np.float16, np.float32, np.float64])
)
def test_every_channel_has_its_own_statistics(data, shape, dtype):
    x = small_integers(data.draw, shape)
    channels = shape[1] if len(shape) > 1 else 1
    scale, bias, mean = (small_integers(data.draw, (channels,)) for _ in range(3))
    deviation = 2.0 ** small_integers(data.draw, (channels,))
    operands = [item.astype(dtype) for item in (x, scale, bias, mean, deviation**2)]
    (y,) = call_operator(NORMALIZE, *operands, epsilon=0.0)
    assert y.dtype == dtype
    assert y.shape == shape
    for place in np.ndindex(*shape):
        c = place[1] if len(shape) > 1 else 0
        assert y[place] == (int(x[place]) - int(mean[c])) / deviation[c] * int(scale[c]) + int(bias[c])


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 8, 64, 1), (4, 6), (3, 4, 50)])
def test_onnxruntime_computes_the_same_bits(shape, opset):
    for seed, epsilon in product(range(5), (1e-5, 1e-3)):
        operands = random_operands(shape, seed)
        (y,) = call_operator(NORMALIZE, *operands, opset=opset, epsilon=float(np.float32(epsilon)))
        assert same_bits(y, compute_by_onnxruntime("BatchNormalization", *operands, opset=opset, epsilon=epsilon))


def test_a_sample_does_not_depend_on_the_batch():
    x, *parameters = random_operands((33, 5, 40))
    alone = [call_operator(NORMALIZE, x[n : n + 1], *parameters)[0] for n in range(33)]
    for count in (2, 7, 33):
        assert same_bits(call_operator(NORMALIZE, x[:count], *parameters)[0], np.concatenate(alone[:count]))


def test_statistics_of_every_element():
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    mean = np.arange(6, dtype=np.float32).reshape(2, 3)
    ones = np.ones((2, 3), np.float32)
    (y,) = call_operator(NORMALIZE, x, ones, ones * 0, mean, ones, opset=7, spatial=0, epsilon=0.0)
    assert y.tolist() == [[[0] * 3] * 2, [[6] * 3] * 2]


def test_values_that_are_not_finite_pass_through():
    x = np.array([[[np.inf, np.nan, -np.inf]]], np.float32)
    one = np.ones(1, np.float32)
    (y,) = call_operator(NORMALIZE, x, one, one, one, one)
    assert str(y.tolist()) == "[[[inf, nan, -inf]]]"
    (y,) = call_operator(NORMALIZE, x, one, one, one, -one, epsilon=0.0)
    assert np.isnan(y).all()


def test_training_and_wrong_shapes_are_refused():
    operands = random_operands((2, 3, 4))
    for arguments in ({"opset": 15, "training_mode": 1}, {"opset": 13, "outputs": 5}, {"opset": 6}):
        with pytest.raises(OperatorError, match="training mode"):
            call_operator(NORMALIZE, *operands, **arguments)
    with pytest.raises(OperatorError, match="bias has shape"):
        call_operator(NORMALIZE, operands[0], operands[1], operands[2][:2], *operands[3:])
    with pytest.raises(OperatorError, match="int8"):
        call_operator(NORMALIZE, operands[0].astype(np.int8), *operands[1:])
