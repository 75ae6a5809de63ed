"""Operators that move codes or follow from shapes: RESHAPE, PAD, CONCATENATION, STRIDED_SLICE, SHAPE, PACK and their like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Node
from npusim.program.lowering.tflite.sums import same_codes
from npusim.program.lowering.tflite.walk import Place, Walk, channels_first
from npusim.program.moves import Pad, Slice

__all__ = ["MOVES", "nearest_places"]

_MOVES_ONLY: Final = "it only moves or repeats data"


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ModelError(f"{node} has axis {axis} for data with {rank} axes; the model is damaged")
    return axis % rank


def _reshaped(walk: Walk, node: Node, source: str, shape: Sequence[int]) -> None:
    """Enter an output that holds the data of `source` in another shape."""
    output, before = node.outputs[0], walk.place(source)
    same_codes(walk, node, (source, output))
    if math.prod(shape) != math.prod(before.shape):
        raise ModelError(f"{node} gives data of shape {before.shape} the shape {tuple(shape)}; the model is damaged")
    first = before.first and len(shape) > 2 and _channels_stay(before.shape, shape)
    held = walk.held(source, first=first)
    place = walk.declare(output, shape, first=first)
    target = walk.constant(walk.reshape_target(before.shape, place.shape), output)
    walk.host("Reshape", (held, target), place.name, "it only gives the same data another shape")


def _channels_stay(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reshape only adds or drops axes of size 1, and leaves samples and channels where they are."""
    if before[0] != after[0] or before[-1] != after[-1]:
        return False
    return [size for size in before[1:-1] if size > 1] == [size for size in after[1:-1] if size > 1]


def reshape(walk: Walk, node: Node) -> None:
    """RESHAPE; one size may be -1."""
    source = node.inputs[0]
    if len(node.inputs) > 1 and node.inputs[1]:
        wanted = list(walk.whole_numbers(node.inputs[1], node, "its shape"))
    else:
        wanted = list(node.integers("new_shape") or ())
    total = math.prod(walk.shape(source))
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = total // known if known > 0 else 0
    if min(wanted, default=0) < 0:
        raise ModelError(f"{node} has the shape {wanted}, wanted sizes of 0 or more and one -1 at most")
    _folded_or(walk, node, source, tuple(wanted))


def squeeze(walk: Walk, node: Node) -> None:
    """SQUEEZE: drops axes of size 1, all of them where none are named."""
    shape = walk.shape(node.inputs[0])
    named = {_axis(node, axis, len(shape)) for axis in node.integers("squeeze_dims") or ()}
    dropped = named or {axis for axis, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in dropped):
        raise ModelError(f"{node} drops axes {sorted(dropped)} of data {shape}, which are not all of size 1")
    _folded_or(walk, node, node.inputs[0], tuple(size for axis, size in enumerate(shape) if axis not in dropped))


def expand_dims(walk: Walk, node: Node) -> None:
    """EXPAND_DIMS: one more axis of size 1."""
    shape = walk.shape(node.inputs[0])
    axis = _axis(node, walk.whole_numbers(node.inputs[1], node, "its axis")[0], len(shape) + 1)
    _folded_or(walk, node, node.inputs[0], (*shape[:axis], 1, *shape[axis:]))


def _folded_or(walk: Walk, node: Node, source: str, shape: tuple[int, ...]) -> None:
    if source in walk.known:
        if math.prod(shape) != walk.known[source].size:
            raise ModelError(f"{node} gives {walk.known[source].size} numbers the shape {shape}; the model is damaged")
        walk.known[node.outputs[0]] = walk.known[source].reshape(shape)
        return
    _reshaped(walk, node, source, shape)


def shape_of(walk: Walk, node: Node) -> None:
    """SHAPE: known once the model is."""
    dtype = walk.graph.types[node.outputs[0]].dtype
    walk.known[node.outputs[0]] = np.array(walk.shape(node.inputs[0]), dtype)


def pack(walk: Walk, node: Node) -> None:
    """PACK of constants: arrays along a new axis."""
    values = [walk.value(name, node, "its operands") for name in node.inputs]
    if len({value.shape for value in values}) != 1:
        raise ModelError(f"{node} packs arrays of different shapes; the model is damaged")
    axis = _axis(node, node.integer("axis", 0), values[0].ndim + 1)
    walk.known[node.outputs[0]] = np.stack(values, axis=axis)


def _permuted(walk: Walk, source: str, by_axis: Sequence[int]) -> list[int]:
    """Numbers given for each axis of the file in the order of the axes as held."""
    return [by_axis[axis] for axis in channels_first(len(by_axis))] if walk.place(source).first else list(by_axis)


def pad(walk: Walk, node: Node) -> None:
    """PAD with the zero point, PADV2 with a constant code."""
    source, output = node.inputs[0], node.outputs[0]
    before = walk.place(source)
    rank = len(before.shape)
    amounts = walk.value(node.inputs[1], node, "its padding").astype(np.int64)
    if amounts.shape != (rank, 2) or amounts.min(initial=0) < 0:
        raise ModelError(
            f"{node} has padding of shape {amounts.shape} for data with {rank} axes; wanted ({rank}, 2) of 0 or more"
        )
    if amounts[0].any():
        raise UnsupportedError(f"{node} pads the first axis, which counts samples here; export it without")
    same_codes(walk, node, (source, output))
    walk.affine(source)
    value = 0
    if node.op_type == "PADV2":
        code = walk.value(node.inputs[2], node, "its value")
        if code.size != 1:
            raise ModelError(f"{node} pads with {code.size} values, wanted one")
        value = int(code.reshape(-1)[0]) - walk.affine(source).zero_point
    shape = tuple(size + int(sum(amounts[axis])) for axis, size in enumerate(before.shape))
    place = walk.declare(output, shape, first=before.first)
    begins, ends = (_permuted(walk, source, amounts[:, side].tolist()) for side in (0, 1))
    walk.steps.append(
        Pad(
            **walk.fields(node, (before.name,), place),
            pads=tuple(zip(begins, ends, strict=True)),
            value=value,
        )
    )


def concatenation(walk: Walk, node: Node) -> None:
    """CONCATENATION: runtimes copy codes, so all have one scale and zero point."""
    output = node.outputs[0]
    if any(name not in walk.places for name in node.inputs):
        constant = next(name for name in node.inputs if name not in walk.places)
        raise UnsupportedError(f"{node} puts the constant '{constant}' beside other data, which npusim does not simulate")
    if node.text("activation", "NONE") != "NONE":
        raise UnsupportedError(f"{node} has a fused activation, which the runtimes ignore or refuse; convert the model again")
    same_codes(walk, node, (*node.inputs, output))
    places = [walk.place(name) for name in node.inputs]
    rank = len(places[0].shape)
    axis = _axis(node, node.integer("axis", 0), rank)
    rest = {tuple(size for place, size in enumerate(item.shape) if place != axis) for item in places}
    if len(rest) != 1 or any(len(item.shape) != rank for item in places):
        raise ModelError(f"{node} puts data of shapes {[item.shape for item in places]} side by side along axis {axis}")
    if axis == 0:
        raise UnsupportedError(f"{node} puts data side by side along the first axis, which counts samples here")
    shape = (*places[0].shape[:axis], sum(item.shape[axis] for item in places), *places[0].shape[axis + 1 :])
    first = rank > 2 and all(item.first for item in places)
    held = tuple(walk.held(name, first=first) for name in node.inputs)
    place = walk.declare(output, shape, first=first)
    walk.host("Concat", held, place.name, _MOVES_ONLY, {"axis": axis})


def transpose(walk: Walk, node: Node) -> None:
    """TRANSPOSE."""
    source, output = node.inputs[0], node.outputs[0]
    shape, order = walk.shape(source), walk.whole_numbers(node.inputs[1], node, "its order of axes")
    if sorted(order) != list(range(len(shape))):
        raise ModelError(f"{node} has the order {order} for data with {len(shape)} axes; the model is damaged")
    same_codes(walk, node, (source, output))
    if order[0] != 0:
        walk.mixes = True
    held = walk.held(source, first=False)
    place = walk.declare(output, tuple(shape[axis] for axis in order), first=False)
    walk.host("Transpose", (held,), place.name, _MOVES_ONLY, {"perm": order})


def strided_slice(walk: Walk, node: Node) -> None:
    """STRIDED_SLICE with begins, ends, strides, and masks for what is left open or dropped."""
    source, output = node.inputs[0], node.outputs[0]
    if node.integer("ellipsis_mask", 0) or node.integer("new_axis_mask", 0) or node.integer("offset", 0):
        raise UnsupportedError(
            f"{node} uses an ellipsis, new axes or offsets, which npusim does not read; convert the model again"
        )
    shape = walk.shape(source)
    begins, ends, steps = (walk.whole_numbers(node.inputs[i], node, "its range") for i in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) <= len(shape) or 0 in steps:
        raise ModelError(f"{node} has ranges of {len(begins)}, {len(ends)} and {len(steps)} axes for data {shape}")
    slices, dropped = [], []
    for axis, size in enumerate(shape):
        if axis >= len(begins):
            slices.append(range(size))
            continue
        begin = None if node.integer("begin_mask", 0) >> axis & 1 else begins[axis]
        end = None if node.integer("end_mask", 0) >> axis & 1 else ends[axis]
        if node.integer("shrink_axis_mask", 0) >> axis & 1:
            if not -size <= begins[axis] < size:
                raise ModelError(f"{node} takes index {begins[axis]} of an axis of {size}; the model is damaged")
            slices.append(range(begins[axis] % size, begins[axis] % size + 1))
            dropped.append(axis)
            continue
        slices.append(range(*slice(begin, end, steps[axis]).indices(size)))
    kept = tuple(len(part) for part in slices)
    left = tuple(size for axis, size in enumerate(kept) if axis not in dropped)
    if source in walk.known:
        taken = walk.known[source][np.ix_(*slices)] if slices else walk.known[source]
        walk.known[output] = taken.reshape(left)
        return
    if slices[0] != range(shape[0]) or 0 in dropped:
        raise UnsupportedError(f"{node} takes a part of the first axis, which counts samples here; export it without")
    same_codes(walk, node, (source, output))
    before = walk.place(source)
    first = before.first and not dropped
    held = walk.held(source, first=first)
    place = walk.declare(output, left, first=first)
    order = channels_first(len(shape)) if first else tuple(range(len(shape)))
    _take(walk, node, held, place, tuple(_as_slice(slices[axis]) for axis in order))


def _as_slice(part: range) -> slice:
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)


def _take(walk: Walk, node: Node, held: str, place: Place, slices: tuple[slice, ...]) -> None:
    # refused where the data is not quantized
    walk.affine(node.outputs[0])
    walk.steps.append(
        Slice(
            **walk.fields(node, (held,), place),
            slices=(slice(None), *slices[1:]),
        )
    )


def split(walk: Walk, node: Node) -> None:
    """SPLIT into equal parts along a constant axis."""
    source = node.inputs[1]
    shape = walk.shape(source)
    axis = _axis(node, walk.whole_numbers(node.inputs[0], node, "its axis")[0], len(shape))
    parts = len(node.outputs)
    if node.integer("num_splits", 0) != parts or shape[axis] % parts:
        raise ModelError(f"{node} makes {node.integer('num_splits', 0)} of an axis of {shape[axis]} for {parts} outputs")
    if axis == 0:
        raise UnsupportedError(f"{node} splits the first axis, which counts samples here; export it without")
    before, size = walk.place(source), shape[axis] // parts
    along = channels_first(len(shape)).index(axis) if before.first else axis
    for position, output in enumerate(node.outputs):
        same_codes(walk, node, (source, output))
        place = walk.declare(output, (*shape[:axis], size, *shape[axis + 1 :]), first=before.first)
        taken = [slice(None)] * len(shape)
        taken[along] = slice(position * size, (position + 1) * size)
        _take(walk, node, before.name, place, tuple(taken))


def resize_nearest(walk: Walk, node: Node) -> None:
    """RESIZE_NEAREST_NEIGHBOR: rows and columns are repeated."""
    source, output = node.inputs[0], node.outputs[0]
    shape, sizes = walk.shape(source), walk.whole_numbers(node.inputs[1], node, "its sizes")
    if len(shape) != 4 or len(sizes) != 2 or min(sizes) < 1:
        raise ModelError(f"{node} resizes data {shape} to {sizes}, wanted 4 axes and two sizes of 1 or more")
    same_codes(walk, node, (source, output))
    held = walk.held(source, first=True)
    place = walk.declare(output, (shape[0], *sizes, shape[3]), first=True)
    corners, centers = bool(node.integer("align_corners", 0)), bool(node.integer("half_pixel_centers", 0))
    rows, columns = (nearest_places(shape[axis + 1], sizes[axis], corners, centers) for axis in (0, 1))
    walk.copy(f"{output}:rows", source, (shape[0], sizes[0], *shape[2:]), first=True)
    walk.host("Gather", (held, walk.constant(rows, output)), f"{output}:rows", _MOVES_ONLY, {"axis": 1})
    walk.host("Gather", (f"{output}:rows", walk.constant(columns, output)), place.name, _MOVES_ONLY, {"axis": 2})


def nearest_places(size: int, wanted: int, corners: bool, centers: bool) -> np.ndarray:
    """For each position of a nearest resize the one it is copied from, in float32 as the runtimes compute it."""
    scale = np.float32(size - 1) / np.float32(wanted - 1) if corners and wanted > 1 else np.float32(size) / np.float32(wanted)
    position = (np.arange(wanted).astype(np.float32) + np.float32(0.5 if centers else 0)) * scale
    whole = np.floor(position + np.float32(0.5)) if corners else np.floor(position)
    return np.asarray(np.clip(whole.astype(np.int64), 0, size - 1), np.int64)


MOVES: Final = {
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand_dims,
    "SHAPE": shape_of,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "CONCATENATION": concatenation,
    "TRANSPOSE": transpose,
    "STRIDED_SLICE": strided_slice,
    "SPLIT": split,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
}
"""The operators that move codes or follow from shapes, and what lowers them."""
