"""Reductions, softmax and positions of extremes against exact fractions and decimals, and their independence of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.errors import OperatorError
from support.single_operator import as_float32, compute, f32, nearest_float32, same_bits, wrapped

pytestmark = pytest.mark.filterwarnings("error")

REDUCTIONS = (
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
).split()

dyadic = st.integers(-(2**20), 2**20).map(lambda numerator: numerator / 2**7)
"""Numbers whose sums and squares' sums a double holds exactly, so that one rounding to float32 remains."""


Case = tuple[np.ndarray, list[int]]


@st.composite
def tensors(draw: st.DrawFn, elements: st.SearchStrategy[float] = dyadic, dtype: type = np.float32) -> Case:
    """A tensor with 1 to 4 axes, and some of its axes."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3))
    x = draw(hnp.arrays(dtype, shape, elements=elements))
    axes = draw(st.lists(st.integers(0, x.ndim - 1), min_size=1, max_size=x.ndim, unique=True))
    return x, axes


def groups(x: np.ndarray, axes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], list[float]]]:
    """For each index of the kept axes (reduced ones 0), the elements that are reduced together, in row-major order."""
    kept = [range(1 if axis in axes else size) for axis, size in enumerate(x.shape)]
    for index in product(*kept):
        reduced = [range(size) if axis in axes else (index[axis],) for axis, size in enumerate(x.shape)]
        yield index, [x[place].item() for place in product(*reduced)]


def reduce_by_hand(x: np.ndarray, axes: Sequence[int], function: Callable[[list[float]], float]) -> np.ndarray:
    wanted = np.empty([1 if axis in axes else size for axis, size in enumerate(x.shape)], x.dtype)
    for index, elements in groups(x, axes):
        wanted[index] = function(elements)
    return wanted


def exact_sum(elements: Sequence[float]) -> float:
    return as_float32(float(sum(map(Fraction, elements))))


FLOAT_ORACLES: dict[str, Callable[[list[float]], float]] = {
    "ReduceSum": exact_sum,
    "ReduceMean": lambda elements: as_float32(exact_sum(elements) / len(elements)),
    "ReduceMax": max,
    "ReduceMin": min,
    "ReduceL1": lambda elements: exact_sum([abs(item) for item in elements]),
    "ReduceSumSquare": lambda elements: exact_sum([item * item for item in elements]),
    "ReduceL2": lambda elements: as_float32(math.sqrt(sum(item * item for item in elements))),
}


@pytest.mark.slow
@pytest.mark.parametrize("op_type", FLOAT_ORACLES)
@given(case=tensors())
def test_float_reductions_are_rounded_once(op_type: str, case: Case):
    x, axes = case
    wanted = reduce_by_hand(x, axes, FLOAT_ORACLES[op_type])
    assert np.array_equal(compute(op_type, x, np.array(axes), opset=18), wanted)


@given(case=tensors(elements=st.integers(-9, 9).map(float)))
def test_float_product(case: Case):
    x, axes = case
    wanted = reduce_by_hand(x, axes, lambda elements: as_float32(float(math.prod(map(Fraction, elements)))))
    assert np.array_equal(compute("ReduceProd", x, np.array(axes), opset=18), wanted)


INTEGER_ORACLES: dict[str, Callable[[list[int]], int]] = {
    "ReduceSum": sum,
    "ReduceMean": lambda elements: math.trunc(Fraction(wrapped(sum(elements), np.dtype(np.int32)), len(elements))),
    "ReduceMax": max,
    "ReduceMin": min,
    "ReduceProd": math.prod,
    "ReduceL1": lambda elements: sum(map(abs, elements)),
    "ReduceSumSquare": lambda elements: sum(item * item for item in elements),
}


@pytest.mark.slow
@pytest.mark.parametrize("op_type", INTEGER_ORACLES)
@given(case=tensors(elements=st.integers(-(2**31), 2**31 - 1), dtype=np.int32))
def test_integer_reductions_wrap_around(op_type: str, case: Case):
    x, axes = case
    wanted = reduce_by_hand(x, axes, lambda elements: wrapped(INTEGER_ORACLES[op_type](elements), x.dtype))
    assert same_bits(compute(op_type, x, np.array(axes), opset=18), wanted)


def test_sums_of_integers_held_in_float32_are_exact_up_to_2_to_the_24():
    random = np.random.default_rng(30)
    for area in (1, 3, 7, 64, 1000, 4097, 65793):
        x = random.integers(-255, 256, (3, area)).astype(np.float32)
        x[0] = 255
        assert int(255 * area) < 2**24
        wanted = [sum(int(item) for item in row) for row in x]
        assert compute("ReduceSum", x, np.array([1]), keepdims=0).tolist() == wanted
        means = compute("ReduceMean", x, axes=(1,), keepdims=0, opset=13).tolist()
        assert means == [as_float32(total / area) for total in wanted]


def test_logarithms_of_sums_are_correctly_rounded():
    x = np.random.default_rng(31).uniform(0.1, 30, (40, 5)).astype(np.float32)
    with localcontext() as context:
        context.prec = 60
        rows = [[Decimal(float(item)) for item in row] for row in x]
        sums = f32(*(nearest_float32(sum(row).ln()) for row in rows))
        sums_of_exponentials = f32(*(nearest_float32(sum(item.exp() for item in row).ln()) for row in rows))
    assert same_bits(compute("ReduceLogSum", x, np.array([1]), opset=18, keepdims=0), sums)
    assert same_bits(compute("ReduceLogSumExp", x, np.array([1]), opset=18, keepdims=0), sums_of_exponentials)


def test_log_sum_exp_does_not_overflow():
    x = f32(1000, 1000, -np.inf, np.inf, -np.inf, -np.inf).reshape(3, 2)
    wanted = f32(nearest_float32(1000 + Decimal(2).ln()), np.inf, -np.inf)
    assert same_bits(compute("ReduceLogSumExp", x, np.array([1]), opset=18, keepdims=0), wanted)


def test_extremes_pass_on_nan():
    x = f32(1, np.nan, np.nan, 1, 2, 3).reshape(3, 2)
    assert same_bits(compute("ReduceMax", x, np.array([1]), opset=18, keepdims=0), f32(np.nan, np.nan, 3))
    assert same_bits(compute("ReduceMin", x, np.array([1]), opset=18, keepdims=0), f32(np.nan, np.nan, 2))


def test_reductions_of_nothing():
    x = np.zeros((2, 0), np.float32)
    of_nothing = {"Sum": 0.0, "Prod": 1.0, "Max": -np.inf, "Min": np.inf, "LogSum": -np.inf, "Mean": np.nan}
    for name, wanted in of_nothing.items():
        assert same_bits(compute(f"Reduce{name}", x, np.array([1]), opset=18, keepdims=0), f32(wanted, wanted))
    integers = np.zeros((1, 0), np.int32)
    assert compute("ReduceMax", integers, np.array([1]), opset=18).tolist() == [[-(2**31)]]
    assert compute("ReduceMin", integers, np.array([1]), opset=18).tolist() == [[2**31 - 1]]
    assert compute("ReduceMax", np.zeros((1, 0), bool), np.array([1]), opset=20).tolist() == [[False]]


def test_boolean_extremes():
    x = np.array([[False, True], [False, False], [True, True]])
    assert compute("ReduceMax", x, np.array([1]), opset=20, keepdims=0).tolist() == [True, False, True]
    assert compute("ReduceMin", x, np.array([1]), opset=20, keepdims=0).tolist() == [False, False, True]


# Axes


@pytest.mark.parametrize(("op_type", "first_with_input"), [("ReduceSum", 13), *((name, 18) for name in REDUCTIONS[1:])])
def test_axes_are_an_attribute_first_and_an_input_later(op_type: str, first_with_input: int):
    x = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    by_input = compute(op_type, x, np.array([1, -1]), opset=first_with_input)
    assert by_input.shape == (2, 1, 1)
    assert same_bits(compute(op_type, x, opset=first_with_input - 1, axes=(1, -1)), by_input)
    assert same_bits(compute(op_type, x, np.array([1, 2]), opset=first_with_input, keepdims=0), by_input.reshape(2))


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_without_axes_everything_or_nothing_is_reduced(op_type: str):
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    everything = compute(op_type, x, np.array([0, 1]), opset=18)
    for axes in ((), (None,), (np.array([], np.int64),)):
        assert same_bits(compute(op_type, x, *axes, opset=18), everything)
        each = compute(op_type, x, *axes, opset=18, noop_with_empty_axes=1)
        assert same_bits(each, compute(op_type, x.reshape(2, 3, 1), np.array([2]), opset=18, keepdims=0))
    assert same_bits(compute(op_type, x, opset=11, keepdims=0), everything.reshape(()))
    assert same_bits(compute(op_type, x[0, 0].reshape(()), opset=18), compute(op_type, x[:1, :1], opset=18).reshape(()))


def test_axes_out_of_range_are_refused():
    with pytest.raises(OperatorError, match="axis 2 does not exist in 2 dimensions"):
        compute("ReduceSum", np.ones((2, 2), np.float32), np.array([2]))
    with pytest.raises(OperatorError, match="axis -3 does not exist"):
        compute("Softmax", np.ones((2, 2), np.float32), axis=-3)


def test_roots_and_logarithms_of_integers_are_refused():
    for op_type in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"):
        with pytest.raises(OperatorError, match="its input is int64"):
            compute(op_type, np.ones((2, 2), np.int64), opset=18)


# Softmax


def softmax_by_hand(row: Sequence[float], *, logarithm: bool) -> list[np.float32]:
    with localcontext() as context:
        context.prec = 60
        total = sum(Decimal(item).exp() for item in row)
        if logarithm:
            return [nearest_float32(Decimal(item) - total.ln()) for item in row]
        return [nearest_float32(Decimal(item).exp() / total) for item in row]


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "attributes", "axes"),
    [
        (13, {}, [2]),
        (13, {"axis": 1}, [1]),
        (17, {"axis": -3}, [0]),
        (11, {}, [1, 2]),
        (9, {"axis": 0}, [0, 1, 2]),
        (11, {"axis": -1}, [2]),
    ],
)
def test_softmax_runs_along_one_axis_or_flattens_before_opset_13(
    op_type: str, opset: int, attributes: dict[str, int], axes: list[int]
):
    x = (np.random.default_rng(32).standard_normal((3, 4, 5)) * 6).astype(np.float32)
    wanted = np.empty_like(x)
    for index, row in groups(x, axes):
        reduced = [range(size) if axis in axes else (index[axis],) for axis, size in enumerate(x.shape)]
        for place, value in zip(product(*reduced), softmax_by_hand(row, logarithm=op_type == "LogSoftmax"), strict=True):
            wanted[place] = value
    assert same_bits(compute(op_type, x, opset=opset, **attributes), wanted)


def test_softmax_of_extreme_values():
    assert compute("Softmax", f32(3e38, -3e38, 3e38)).tolist() == [0.5, 0, 0.5]
    assert compute("LogSoftmax", f32(0, -np.inf)).tolist() == [0, -np.inf]
    assert same_bits(compute("Softmax", f32(-np.inf, -np.inf)), f32(np.nan, np.nan))
    assert compute("Softmax", np.float32(7).reshape(())).tolist() == 1


# Positions


@pytest.mark.slow
@given(case=tensors(elements=st.integers(-2, 2)), last=st.booleans(), keep=st.booleans())
def test_positions_of_extremes(case: Case, last: bool, keep: bool):
    x, (axis, *_) = case
    for op_type, best in (("ArgMax", max), ("ArgMin", min)):
        wanted = np.empty([1 if place == axis else size for place, size in enumerate(x.shape)], np.int64)
        for index, elements in groups(x, [axis]):
            places = [place for place, item in enumerate(elements) if item == best(elements)]
            wanted[index] = places[-1 if last else 0]
        result = compute(op_type, x, axis=axis, select_last_index=int(last), keepdims=int(keep))
        assert same_bits(result, wanted if keep else wanted.squeeze(axis))


def test_positions_run_along_axis_0_unless_told():
    assert compute("ArgMax", f32(1, 2, 3, 0).reshape(2, 2)).tolist() == [[1, 0]]


# Independence of the batch


@pytest.mark.slow
@pytest.mark.parametrize("op_type", [*REDUCTIONS, "Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((7,), [1]), ((3, 5, 6), [2, 3]), ((3, 5, 6), [1]), ((4, 300), [1, 2]), ((2, 9001), [2]), ((3, 1, 2), [1, 3])],
)
def test_a_sample_does_not_depend_on_how_many_there_are(op_type: str, shape: tuple[int, ...], axes: list[int]):
    count = 1000 if math.prod(shape) < 1000 else 50
    x = np.random.default_rng(33).standard_normal((count, *shape)).astype(np.float32) * 50
    x = np.abs(x) if op_type == "ReduceLogSum" else x

    def run(samples: np.ndarray) -> np.ndarray:
        if op_type.endswith("oftmax"):
            return compute(op_type, samples, opset=11, axis=axes[0])
        return compute(op_type, samples, np.array(axes), opset=18)

    together = run(x)
    for sample in range(0, count, 7):
        assert same_bits(run(x[sample : sample + 1]), together[sample : sample + 1])
    assert same_bits(run(x[3:17]), together[3:17])
    assert same_bits(run(np.asfortranarray(x)), together)
    channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert same_bits(run(channels_last), together)
