"""Operators that rearrange, join, split or repeat elements, shapes and constants, against index arithmetic in plain Python."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.errors import OperatorError
from support.index_oracle import at, built, numbered, shapes
from support.single_operator import compute, compute_all, f32, same_bits

pytestmark = pytest.mark.filterwarnings("error")


# Rearranging


@given(shapes, st.randoms(use_true_random=False))
def test_transpose(shape: tuple[int, ...], random: object):
    x, order = numbered(shape), list(range(len(shape)))
    random.shuffle(order)
    wanted = built(tuple(shape[axis] for axis in order), x, lambda index: tuple(index[order.index(a)] for a in range(x.ndim)))
    assert same_bits(compute("Transpose", x, perm=tuple(order)), wanted)
    assert same_bits(compute("Transpose", x), compute("Transpose", x, perm=tuple(range(x.ndim))[::-1]))


@given(shapes, st.data())
def test_flatten_and_reshape_keep_the_order_of_elements(shape: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    axis = data.draw(st.integers(-x.ndim, x.ndim))
    flat = compute("Flatten", x, axis=axis)
    split = axis if axis >= 0 else axis + x.ndim
    assert flat.shape == (math.prod(shape[:split]), math.prod(shape[split:]))
    assert flat.ravel().tolist() == list(range(x.size))
    wanted = list(data.draw(st.permutations(shape)))
    assert same_bits(compute("Reshape", x, np.array(wanted)), built_flat(x, wanted))
    open_axis = data.draw(st.integers(0, x.ndim - 1))
    with_open_axis = np.array([-1 if axis == open_axis else size for axis, size in enumerate(wanted)])
    assert same_bits(compute("Reshape", x, with_open_axis), built_flat(x, wanted))


def built_flat(x: np.ndarray, shape: list[int]) -> np.ndarray:
    wanted = np.empty(shape, x.dtype)
    for value, index in zip(x.ravel().tolist(), product(*map(range, shape)), strict=True):
        wanted[index] = value
    return wanted


def test_reshape_copies_sizes_where_the_shape_is_zero():
    x = numbered((2, 3, 4))
    assert compute("Reshape", x, np.array([0, -1])).shape == (2, 12)
    assert compute("Reshape", x, np.array([4, 0, 2])).shape == (4, 3, 2)
    assert compute("Reshape", x, opset=1, shape=(6, -1)).shape == (6, 4)
    assert compute("Reshape", np.zeros((0, 3), np.float32), np.array([3, 0]), allowzero=1).shape == (3, 0)
    assert compute("Reshape", numbered((1,)), np.array([], np.int64)).shape == ()
    with pytest.raises(OperatorError, match="cannot reshape"):
        compute("Reshape", x, np.array([5, 5]))
    with pytest.raises(OperatorError, match="copies axis 3"):
        compute("Reshape", x, np.array([2, 3, 4, 0]))


@given(shapes, st.data())
def test_squeeze_undoes_unsqueeze(shape: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    rank = x.ndim + data.draw(st.integers(1, 2))
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=rank - x.ndim, max_size=rank - x.ndim, unique=True))
    sizes = iter(shape)
    wanted = tuple(1 if axis in axes else next(sizes) for axis in range(rank))
    given_axes = [axis - data.draw(st.sampled_from([0, rank])) for axis in axes]
    widened = compute("Unsqueeze", x, np.array(given_axes))
    assert same_bits(widened, x.reshape(wanted))
    assert same_bits(compute("Unsqueeze", x, opset=11, axes=tuple(axes)), widened)
    assert same_bits(compute("Squeeze", widened, np.array(given_axes)), x)
    assert same_bits(compute("Squeeze", widened, opset=11, axes=tuple(axes)), x)
    assert compute("Squeeze", widened).shape == tuple(size for size in shape if size > 1)


def test_depth_and_space_are_exchanged_in_both_orders():
    block, depth = 2, 3
    x = numbered((2, depth * block**2, 2, 5))
    wanted = (2, depth, 2 * block, 5 * block)
    depth_first = built(
        wanted,
        x,
        lambda i: (i[0], (i[2] % block * block + i[3] % block) * depth + i[1], i[2] // block, i[3] // block),
    )
    column_first = built(
        wanted,
        x,
        lambda i: (i[0], i[1] * block**2 + i[2] % block * block + i[3] % block, i[2] // block, i[3] // block),
    )
    assert same_bits(compute("DepthToSpace", x, blocksize=block), depth_first)
    assert same_bits(compute("DepthToSpace", x, blocksize=block, mode="CRD"), column_first)
    assert same_bits(compute("SpaceToDepth", depth_first, blocksize=block), x)
    assert same_bits(compute("SpaceToDepth", column_first, blocksize=block, mode="CRD", opset=28), x)
    with pytest.raises(OperatorError, match="'mode' is 'DRC'"):
        compute("DepthToSpace", x, blocksize=block, mode="DRC")
    with pytest.raises(OperatorError, match="'blocksize' is 0"):
        compute("SpaceToDepth", x)


# Joining and splitting


@given(shapes, st.lists(st.integers(0, 3), min_size=1, max_size=4), st.data())
def test_concat_and_split_are_inverse(shape: tuple[int, ...], sizes: list[int], data: st.DataObject):
    axis = data.draw(st.integers(0, len(shape) - 1))
    signed = axis - data.draw(st.sampled_from([0, len(shape)]))
    parts = [numbered(at(shape, axis, size)) + 1000 * place for place, size in enumerate(sizes)]
    owners = [(place, offset) for place, size in enumerate(sizes) for offset in range(size)]
    whole = compute("Concat", *parts, axis=signed)
    wanted = np.empty(at(shape, axis, len(owners)), np.float32)
    for index in product(*map(range, wanted.shape)):
        place, offset = owners[index[axis]]
        wanted[index] = parts[place][at(index, axis, offset)]
    assert same_bits(whole, wanted)
    for opset, inputs, attributes in ((11, (), {"split": tuple(sizes)}), (13, (np.array(sizes),), {})):
        again = compute_all("Split", whole, *inputs, opset=opset, outputs=len(sizes), axis=signed, **attributes)
        assert all(same_bits(part, other) for part, other in zip(again, parts, strict=True))


def test_split_into_equal_parts():
    x = numbered((7, 2))
    assert [part.shape[0] for part in compute_all("Split", x[:6], opset=11, outputs=3)] == [2, 2, 2]
    assert [part.shape[0] for part in compute_all("Split", x[:6], opset=13, outputs=2)] == [3, 3]
    parts = compute_all("Split", x, opset=18, outputs=3, num_outputs=3)
    assert [part.shape[0] for part in parts] == [3, 3, 1]
    assert same_bits(np.concatenate(parts), x)
    with pytest.raises(OperatorError, match="7 elements does not split into 3 equal parts"):
        compute_all("Split", x, opset=13, outputs=3)
    with pytest.raises(OperatorError, match="do not make up axis 0"):
        compute_all("Split", x, np.array([3, 3]), opset=13, outputs=2)


def test_concat_runs_along_axis_1_before_opset_4_and_refuses_mixed_types():
    assert compute("Concat", numbered((2, 1)), numbered((2, 2)), opset=3).shape == (2, 3)
    with pytest.raises(OperatorError, match="float32 and int64"):
        compute("Concat", f32(1), np.array([1]), axis=0)


# Repeating


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_expand_broadcasts_both_ways(pair: hnp.BroadcastableShapes):
    source, target = pair.input_shapes
    x = numbered(source)
    missing = len(pair.result_shape) - x.ndim
    wanted = built(
        pair.result_shape,
        x,
        lambda index: tuple(0 if size == 1 else place for place, size in zip(index[missing:], source, strict=True)),
    )
    result = compute("Expand", x, np.array(target, np.int64))
    assert same_bits(result, wanted)
    assert result.flags.writeable


@given(shapes, st.data())
def test_tile(shape: tuple[int, ...], data: st.DataObject):
    x = numbered(shape)
    repeats = [data.draw(st.integers(0, 2)) for _ in shape]
    wanted = built(
        tuple(size * times for size, times in zip(shape, repeats, strict=True)),
        x,
        lambda index: tuple(place % size for place, size in zip(index, shape, strict=True)),
    )
    assert same_bits(compute("Tile", x, np.array(repeats)), wanted)
    axis = data.draw(st.integers(0, x.ndim - 1))
    alone = np.array([repeats[axis] if place == axis else 1 for place in range(x.ndim)])
    before_opset_6 = compute("Tile", x, np.array(repeats[axis]), np.array(axis), opset=5)
    assert same_bits(before_opset_6, compute("Tile", x, alone))


def test_tile_needs_a_count_for_each_axis():
    with pytest.raises(OperatorError, match=r"repeats \[2\] do not fit 2 dimensions"):
        compute("Tile", numbered((2, 2)), np.array([2]))


# Shapes and constants


@given(shapes, st.integers(-5, 5), st.none() | st.integers(-5, 5))
def test_shape_and_size(shape: tuple[int, ...], start: int, end: int | None):
    x = numbered(shape)
    assert same_bits(compute("Shape", x), np.array(shape, np.int64))
    assert same_bits(compute("Size", x), np.array(math.prod(shape), np.int64))
    first, last = (min(max(n + len(shape) if n < 0 else n, 0), len(shape)) for n in (start, len(shape) if end is None else end))
    attributes = {"start": start} if end is None else {"start": start, "end": end}
    assert same_bits(compute("Shape", x, **attributes), np.array(shape[first:last], np.int64))


def test_constants():
    tensor = np.array([[1, 2]], np.int8)
    assert same_bits(compute("Constant", value=tensor), tensor)
    assert same_bits(compute("Constant", value_float=0.1), np.asarray(0.1, np.float32))
    assert same_bits(compute("Constant", value_floats=(1.0, 0.1)), f32(1, 0.1))
    assert same_bits(compute("Constant", value_int=7), np.array(7, np.int64))
    assert same_bits(compute("Constant", value_ints=()), np.array([], np.int64))
    for attributes in ({"value_string": "a"}, {}):
        with pytest.raises(OperatorError, match="numbers and dense tensors"):
            compute("Constant", **attributes)


def test_constant_of_shape():
    assert same_bits(compute("ConstantOfShape", np.array([2, 0])), np.zeros((2, 0), np.float32))
    assert same_bits(compute("ConstantOfShape", np.array([], np.int64), value=np.array([3], np.int8)), np.array(3, np.int8))
    assert same_bits(compute("ConstantOfShape", np.array([2]), value=f32(0.5)), f32(0.5, 0.5))


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-4, 4).filter(bool))
def test_range(first: int, limit: int, step: int):
    for dtype in (np.int32, np.int64, np.int16, np.float32, np.float64, np.float16):
        wanted = np.array(range(first, limit, step), dtype)
        assert same_bits(compute("Range", *(np.array(item, dtype) for item in (first, limit, step))), wanted)


def test_range_of_fractions_multiplies_the_step():
    wanted = f32(*(np.float32(1) + np.float32(n) * np.float32(0.1) for n in range(10)))
    assert same_bits(compute("Range", *(np.array(item, np.float32) for item in (1, 2, 0.1))), wanted)
    with pytest.raises(OperatorError, match="step is 0"):
        compute("Range", *(np.array(item) for item in (1, 2, 0)))
