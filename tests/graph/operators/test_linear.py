"""MatMul and Gemm, and the products of digits that make them independent of batch, threads and processor."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from npusim.errors import OperatorError
from npusim.graph.operators.linear import OPERATORS
from npusim.kernels.accumulation import DIGIT_LIMIT, chunks, contract, digit_bits, rearrange, split
from support.single_operator import compute_by_onnxruntime, same_bits
from support.window_cases import call_operator, integer_arrays, small_integers

pytestmark = pytest.mark.filterwarnings("error")

INTEGER_DTYPES = [np.int32, np.uint32, np.int64, np.uint64]
DTYPES = [np.float16, np.float32, np.float64, *INTEGER_DTYPES]

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (2, 3, 4)),
    ((2, 5, 3), (3,)),
    ((2, 5, 3), (3, 4)),
    ((5, 3), (2, 3, 4)),
    ((2, 5, 3), (2, 3, 4)),
    ((2, 1, 5, 3), (6, 3, 4)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
]


@given(st.data(), st.sampled_from(SHAPES), st.sampled_from(DTYPES))
def test_matmul_is_the_sum_of_its_products(data, shapes, dtype):
    a, b = (small_integers(data.draw, shape) for shape in shapes)
    if np.dtype(dtype).kind == "u":
        a, b = a + 3, b + 3
    (y,) = call_operator(OPERATORS["MatMul"], a.astype(dtype), b.astype(dtype))
    expected = np.matmul(a, b)
    assert y.dtype == dtype
    assert y.shape == expected.shape
    assert y.tolist() == expected.tolist()


@given(
    st.data(),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)]),
    st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 0)]),
)
def test_gemm_scales_and_adds(data, dtype, transpose_a, transpose_b, addend_shape, factors):
    a, b = small_integers(data.draw, (3, 5)), small_integers(data.draw, (5, 4))
    c = None if addend_shape is None else small_integers(data.draw, addend_shape)
    if np.dtype(dtype).kind == "u":
        a, b, c = abs(a), abs(b), None if c is None else abs(c)
    alpha, beta = factors
    expected = np.array(
        [
            [
                alpha * sum(int(a[i, k]) * int(b[k, j]) for k in range(5))
                + (0 if c is None else beta * int(np.broadcast_to(c, (3, 4))[i, j]))
                for j in range(4)
            ]
            for i in range(3)
        ]
    )
    operands = [(a.T if transpose_a else a).astype(dtype), (b.T if transpose_b else b).astype(dtype)]
    operands += [] if c is None else [c.astype(dtype)]
    (y,) = call_operator(
        OPERATORS["Gemm"],
        *operands,
        alpha=float(alpha),
        beta=float(beta),
        transA=int(transpose_a),
        transB=int(transpose_b),
    )
    assert y.dtype == dtype
    assert y.tolist() == expected.tolist()


def test_integer_products_wrap():
    a = np.array([[2**31 - 1, 5]], np.int32)
    (y,) = call_operator(OPERATORS["MatMul"], a, np.array([[2], [1]], np.int32))
    assert y.tolist() == [[3]]


def test_onnxruntime_computes_the_same_from_integers():
    a, b, c = integer_arrays(0, (7, 50), (20, 50), (20,))
    (y,) = call_operator(OPERATORS["Gemm"], a, b, c, alpha=0.5, beta=2.0, transB=1)
    np.testing.assert_array_equal(y, compute_by_onnxruntime("Gemm", a, b, c, alpha=0.5, beta=2.0, transB=1))
    a, b = integer_arrays(1, (3, 4, 5, 60), (4, 60, 7))
    (y,) = call_operator(OPERATORS["MatMul"], a, b)
    np.testing.assert_array_equal(y, compute_by_onnxruntime("MatMul", a, b))


def wide_floats(seed: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Random floats; rows span different numbers of binades, so that they need different numbers of digits."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0, 6, (shape[0], *(1,) * (len(shape) - 1)))
    return (random.standard_normal(shape) * np.exp(spread * random.standard_normal(shape))).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("op_type", "shape", "weight_shape"),
    [
        ("Gemm", (64,), (64, 10)),
        ("Gemm", (900,), (900, 50)),
        ("MatMul", (700,), (700, 1)),
        ("MatMul", (40, 300), (300, 20)),
        ("MatMul", (3, 20, 16), (3, 16, 20)),
    ],
)
def test_a_row_does_not_depend_on_the_batch_or_on_threads(op_type, shape, weight_shape, dtype):
    x = wide_floats(2, (33, *shape), dtype)
    weight = np.random.default_rng(3).standard_normal(weight_shape).astype(dtype)
    alone = [call_operator(OPERATORS[op_type], x[n : n + 1], weight)[0] for n in range(33)]
    for count in (2, 7, 33):
        (y,) = call_operator(OPERATORS[op_type], x[:count], weight)
        assert same_bits(y, np.concatenate(alone[:count]))
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            (y,) = call_operator(OPERATORS[op_type], x, weight)
        assert same_bits(y, np.concatenate(alone))


def test_many_rows_are_worked_off_in_blocks():
    a, b = integer_arrays(4, (3000, 100), (100, 30))
    (y,) = call_operator(OPERATORS["MatMul"], a, b)
    assert y.tolist() == np.matmul(a.astype(np.int64), b.astype(np.int64)).tolist()
    (y,) = call_operator(OPERATORS["MatMul"], a.reshape(300, 10, 100), np.broadcast_to(b, (300, 100, 30)))
    assert y.reshape(3000, 30).tolist() == np.matmul(a.astype(np.int64), b.astype(np.int64)).tolist()


def test_a_sum_is_rounded_once():
    a, b = (wide_floats(seed, shape, np.float32) for seed, shape in ((5, (12, 200)), (6, (200, 9))))
    (y,) = call_operator(OPERATORS["MatMul"], a, b)
    for i, j in product(range(12), range(9)):
        terms = a[i].astype(np.float64) * b[:, j].astype(np.float64)
        assert y[i, j] == np.float32(math.fsum(terms))


def test_small_numbers_survive_beside_huge_ones_that_do_not_count():
    a = np.array([[1e30, 1.5e-7, -2.5e-7]], np.float32)
    (y,) = call_operator(OPERATORS["MatMul"], a, np.array([[0], [1], [1]], np.float32))
    assert y.item() == np.float32(float(a[0, 1]) + float(a[0, 2]))


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e300, 1e300)), st.integers(3, 25))
def test_digits_add_up_to_the_number(x, bits):
    parts = split(x, axes=(1,), bits=bits)
    assert parts.is_finite
    assert parts.signs().tolist() == np.sign(x).tolist()
    assert parts.exponent.shape == (3, 1)
    for i, j in np.ndindex(3, 4):
        scale = Fraction(2) ** int(parts.exponent[i, 0])
        total = sum(Fraction(float(digit[i, j])) * scale / 2 ** (bits * (n + 1)) for n, digit in enumerate(parts.digits))
        left_over = abs(total - Fraction(float(x[i, j])))
        assert left_over <= scale / 2 ** (bits * len(parts.digits) + 1)
        # what is cut off when the digits end early has vanished beside the largest entry: below the smallest float64 times that
        assert len(parts.digits) == DIGIT_LIMIT or left_over < scale * Fraction(2) ** -1022
        assert all(float(digit[i, j]).is_integer() and abs(digit[i, j]) <= 2**bits for digit in parts.digits)


@given(st.integers(1, 10**7))
def test_products_of_digits_stay_exact(length):
    bits = digit_bits(length)
    assert length * 4**bits <= 2**53 < length * 4 ** (bits + 1) * 2


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32)), hnp.arrays(np.float32, (4, 2), elements=st.floats(width=32))
)
def test_what_is_not_finite_comes_out_as_in_any_order(a, b):
    (y,) = call_operator(OPERATORS["MatMul"], a, b)
    for i, j in np.ndindex(3, 2):
        with np.errstate(all="ignore"):
            terms = a[i].astype(np.float64) * b[:, j].astype(np.float64)
            plain = terms.sum()
            expected = np.float32(plain) if not np.isfinite(plain) else np.float32(math.fsum(terms))
        assert np.isnan(y[i, j]) == np.isnan(expected)
        assert np.isposinf(y[i, j]) == np.isposinf(expected)
        assert np.isneginf(y[i, j]) == np.isneginf(expected)


def test_rearranged_digits_multiply_like_rearranged_numbers():
    a, b = np.array([[1.0, np.inf, 2.0]]), np.array([[1.0], [2.0], [3.0]])
    left = rearrange(split(a, axes=(1,), bits=20), lambda digit: digit[:, ::2])
    assert contract(left, split(b[::2], axes=(0,), bits=20)).tolist() == [[7.0]]


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 100))
def test_chunks_cover_everything_once(count, item_bytes, budget):
    parts = list(chunks(count, item_bytes=item_bytes, budget=budget))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(count))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * item_bytes <= budget for part in parts)


REFUSED = [
    ("MatMul", [(2, 3), (4, 2)], {}, "inner sizes differ"),
    ("MatMul", [(), (2,)], {}, "scalar"),
    ("MatMul", [(2, 3, 4), (3, 4, 5)], {}, "shape"),
    ("Gemm", [(2, 3), (4, 2)], {}, "inner sizes differ"),
    ("Gemm", [(1, 2, 3), (3, 2)], {}, "takes matrices"),
    ("Gemm", [(2, 3), (3, 2), (3, 2)], {}, "shape"),
    ("Gemm", [(2, 3), (3, 2), (1, 2, 2)], {}, "does not broadcast"),
]


@pytest.mark.parametrize(("op_type", "shapes", "attributes", "message"), REFUSED)
def test_what_does_not_fit_is_refused(op_type, shapes, attributes, message):
    with pytest.raises(OperatorError, match=message):
        call_operator(OPERATORS[op_type], *(np.zeros(shape, np.float32) for shape in shapes), **attributes)


def test_mixed_dtypes_and_fractional_factors_of_integers_are_refused():
    ones = np.ones((2, 2), np.float32)
    with pytest.raises(OperatorError, match="float32 and float64"):
        call_operator(OPERATORS["MatMul"], ones, ones.astype(np.float64))
    with pytest.raises(OperatorError, match="bool"):
        call_operator(OPERATORS["MatMul"], ones.astype(np.bool_), ones.astype(np.bool_))
    with pytest.raises(OperatorError, match="whole numbers"):
        call_operator(OPERATORS["Gemm"], ones.astype(np.int32), ones.astype(np.int32), alpha=0.5)
