"""Operators that pick elements, and Pad, against index arithmetic in plain Python."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.errors import OperatorError
from support.index_oracle import at, built, numbered, shapes
from support.single_operator import compute, f32, same_bits

pytestmark = pytest.mark.filterwarnings("error")


# Picking


@given(shapes, st.data())
def test_slice_takes_what_python_takes(shape: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    bound = st.integers(-6, 6) | st.sampled_from([-(2**63), 2**63 - 1, 2**31 - 1])
    starts, ends = ([data.draw(bound) for _ in axes] for _ in range(2))
    steps = [data.draw(st.integers(-3, 3).filter(bool) | st.sampled_from([-(2**63), 2**62])) for _ in axes]
    taken = [list(range(size)) for size in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        taken[axis] = taken[axis][start:end:step]
    wanted = built(tuple(map(len, taken)), x, lambda index: tuple(places[i] for places, i in zip(taken, index, strict=True)))
    signed = [axis - data.draw(st.sampled_from([0, x.ndim])) for axis in axes]
    assert same_bits(compute("Slice", x, *map(np.array, (starts, ends, signed, steps))), wanted)
    ones = np.ones(len(axes), np.int64)
    forward = compute("Slice", x, *map(np.array, (starts, ends, axes)), ones)
    assert same_bits(compute("Slice", x, *map(np.array, (starts, ends, axes))), forward)
    assert same_bits(compute("Slice", x, opset=9, starts=tuple(starts), ends=tuple(ends), axes=tuple(axes)), forward)


def test_slice_goes_through_the_axes_in_order_unless_told():
    x = numbered((3, 4))
    assert compute("Slice", x, np.array([1, 2]), np.array([3, 4])).tolist() == [[6, 7], [10, 11]]
    assert compute("Slice", x, opset=1, starts=(1,), ends=(2,)).tolist() == [[4, 5, 6, 7]]
    assert compute("Slice", x, np.array([3]), np.array([0]), None, np.array([-1])).tolist() == [[8, 9, 10, 11], [4, 5, 6, 7]]
    with pytest.raises(OperatorError, match="2 starts, 1 ends"):
        compute("Slice", x, np.array([0, 0]), np.array([1]))


@pytest.mark.slow
@given(shapes, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3), st.data())
def test_gather(shape: tuple[int, ...], positions: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    axis = data.draw(st.integers(0, x.ndim - 1))
    kind = data.draw(st.sampled_from([np.int32, np.int64]))
    indices = data.draw(hnp.arrays(kind, positions, elements=st.integers(-shape[axis], shape[axis] - 1)))
    end = axis + len(positions)
    wanted = built(
        (*shape[:axis], *positions, *shape[axis + 1 :]),
        x,
        lambda index: (*index[:axis], indices[index[axis:end]].item() % shape[axis], *index[end:]),
    )
    assert same_bits(compute("Gather", x, indices, axis=axis), wanted)
    assert same_bits(compute("Gather", x, indices, axis=axis - x.ndim), wanted)


@given(shapes, st.data())
def test_gather_elements(shape: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    axis = data.draw(st.integers(0, x.ndim - 1))
    smaller = tuple(data.draw(st.integers(1, size + (place == axis))) for place, size in enumerate(shape))
    indices = data.draw(hnp.arrays(np.int64, smaller, elements=st.integers(-shape[axis], shape[axis] - 1)))
    wanted = built(smaller, x, lambda index: at(index, axis, indices[index].item() % shape[axis]))
    assert same_bits(compute("GatherElements", x, indices, axis=axis - data.draw(st.sampled_from([0, x.ndim]))), wanted)


@given(shapes, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3), st.data())
def test_gather_nd(shape: tuple[int, ...], positions: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    batch_dims = data.draw(st.integers(0, x.ndim - 1))
    depth = data.draw(st.integers(1, x.ndim - batch_dims))
    indexed = shape[batch_dims : batch_dims + depth]
    indices = np.empty((*shape[:batch_dims], *positions, depth), np.int64)
    for place in product(*map(range, indices.shape[:-1])):
        indices[place] = [data.draw(st.integers(-size, size - 1)) for size in indexed]
    leading = batch_dims + len(positions)
    wanted = built(
        (*indices.shape[:-1], *shape[batch_dims + depth :]),
        x,
        lambda index: (
            *index[:batch_dims],
            *(place % size for place, size in zip(indices[index[:leading]].tolist(), indexed, strict=True)),
            *index[leading:],
        ),
    )
    assert same_bits(compute("GatherND", x, indices, batch_dims=batch_dims), wanted)


@pytest.mark.parametrize(("op_type", "indices"), [("Gather", [3]), ("GatherElements", [-4]), ("GatherND", [[3]])])
def test_indices_out_of_range_are_errors(op_type: str, indices: list[object]):
    with pytest.raises(OperatorError, match=r"index -?\d is outside of axis 0 of size 3"):
        compute(op_type, f32(1, 2, 3), np.array(indices))


# Padding


def padded_source(place: int, size: int, mode: str) -> int | None:
    """Which element a place shows that may lie outside; None for the constant. Reflection bounces step by step."""
    if mode == "constant":
        return place if 0 <= place < size else None
    if mode == "edge":
        return min(max(place, 0), size - 1)
    if mode == "wrap":
        return place % size
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@given(shape=shapes, data=st.data())
def test_pad(mode: str, shape: tuple[int, ...], data: st.DataObject):
    assume(mode != "reflect" or min(shape) > 1)
    x = numbered(shape)
    begins = [data.draw(st.integers(1 - size, 4)) for size in shape]
    ends = [data.draw(st.integers(1 - size - min(begin, 0), 4)) for size, begin in zip(shape, begins, strict=True)]
    kept = x[tuple(slice(max(-begin, 0), size + min(end, 0)) for begin, end, size in zip(begins, ends, shape, strict=True))]
    assume(mode != "reflect" or min(kept.shape) > 1)
    before = [max(begin, 0) for begin in begins]
    wanted = np.empty([size + b + e for size, b, e in zip(shape, begins, ends, strict=True)], np.float32)
    for index in product(*map(range, wanted.shape)):
        places = [padded_source(i - b, n, mode) for i, b, n in zip(index, before, kept.shape, strict=True)]
        wanted[index] = -7.5 if None in places else kept[tuple(places)]
    value = np.asarray(-7.5, np.float32)
    pads = np.array([*begins, *ends])
    assert same_bits(compute("Pad", x, pads, value, opset=19, mode=mode), wanted)
    assert same_bits(compute("Pad", x, opset=10, pads=tuple(pads.tolist()), value=-7.5, mode=mode), wanted)
    assert same_bits(compute("Pad", x, opset=1, paddings=tuple(pads.tolist()), value=-7.5, mode=mode), wanted)
    order = data.draw(st.permutations(range(x.ndim)))
    by_axes = np.array([*(begins[axis] for axis in order), *(ends[axis] for axis in order)])
    signed = np.array([axis - data.draw(st.sampled_from([0, x.ndim])) for axis in order])
    assert same_bits(compute("Pad", x, by_axes, value, signed, opset=19, mode=mode), wanted)


def test_pad_fills_zeros_of_the_same_type_unless_told():
    for dtype in (np.float32, np.int8, np.int64, np.bool_):
        result = compute("Pad", np.ones(1, dtype), np.array([1, 0]))
        assert (result.dtype, result.tolist()) == (np.dtype(dtype), [0, 1])


def test_pad_reflects_a_single_element_as_itself():
    assert compute("Pad", f32(5), np.array([2, 1]), mode="reflect").tolist() == [5, 5, 5, 5]


def test_pad_refuses_what_it_cannot_do():
    with pytest.raises(OperatorError, match="remove more elements"):
        compute("Pad", f32(1, 2), np.array([-2, -1]))
    with pytest.raises(OperatorError, match="'mirror' is not"):
        compute("Pad", f32(1, 2), np.array([1, 0]), mode="mirror")
    with pytest.raises(OperatorError, match="without elements"):
        compute("Pad", f32(), np.array([1, 0]), mode="edge")
    with pytest.raises(OperatorError, match="wanted a begin and an end for each of 1 axes"):
        compute("Pad", f32(1, 2), np.array([1, 0, 0]))
