"""Operators that rearrange, join, split or repeat data, or read off its shape; no value is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, check_same_type, integers_of
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table

__all__ = ["OPERATORS"]


def _flatten(call: Call, x: Numeric) -> Numeric:
    axis = call.integer("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise OperatorError(f"attribute 'axis' is {axis}, wanted {-x.ndim} to {x.ndim}")
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _reshape(call: Call, x: Numeric, shape: Numeric | None = None) -> Numeric:
    wanted = integers_of(shape) if call.opset >= 5 else call.integers("shape")
    if wanted is None:
        raise OperatorError("no shape is given")
    if not call.integer("allowzero", 0):
        wanted = tuple(_copied(x, axis) if size == 0 else size for axis, size in enumerate(wanted))
    return x.reshape(wanted)


def _copied(x: Numeric, axis: int) -> int:
    if axis >= x.ndim:
        raise OperatorError(f"the shape copies axis {axis} of an input of shape {list(x.shape)}, which does not exist")
    return int(x.shape[axis])


def _squeeze(call: Call, x: Numeric, axes: Numeric | None = None) -> Numeric:
    chosen = integers_of(axes) if call.opset >= 13 else call.integers("axes")
    return np.squeeze(x, axis=chosen)


def _unsqueeze(call: Call, x: Numeric, axes: Numeric | None = None) -> Numeric:
    chosen = integers_of(axes) if call.opset >= 13 else call.integers("axes")
    if chosen is None:
        raise OperatorError("no axes are given")
    return np.expand_dims(x, chosen)


def _transpose(call: Call, x: Numeric) -> Numeric:
    order = call.integers("perm")
    return x.transpose() if order is None else x.transpose(order)


def _concat(call: Call, *inputs: Numeric) -> Numeric:
    check_same_type(*inputs)
    return np.concatenate(inputs, axis=call.integer("axis", 1))


def _split(call: Call, x: Numeric, sizes: Numeric | None = None) -> tuple[Numeric, ...]:
    axis = call.integer("axis", 0)
    chosen = call.integers("split") if sizes is None else integers_of(sizes)
    if chosen is None:
        chosen = _equal_parts(call, x.shape[axis])
    if sum(chosen) != x.shape[axis] or min(chosen, default=0) < 0:
        raise OperatorError(f"parts of {list(chosen)} do not make up axis {axis} of shape {list(x.shape)}")
    ends = np.cumsum(chosen).tolist()
    return tuple(np.split(x, ends[:-1], axis=axis))


def _equal_parts(call: Call, size: int) -> tuple[int, ...]:
    count = call.integer("num_outputs", call.output_count)
    if call.opset < 18 and size % count:
        raise OperatorError(f"an axis of {size} elements does not split into {count} equal parts")
    part = -(-size // count)
    return tuple(max(min(part, size - start * part), 0) for start in range(count))


def _expand(call: Call, x: Numeric, shape: Numeric) -> Numeric:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, integers_of(shape) or ())).copy()


def _tile(call: Call, x: Numeric, repeats: Numeric, axis: Numeric | None = None) -> Numeric:
    if call.opset >= 6:
        return np.tile(x, _checked_repeats(x, integers_of(repeats) or ()))
    place = 0 if axis is None else int(axis.reshape(())) % max(x.ndim, 1)
    return np.tile(x, [int(repeats.reshape(())) if index == place else 1 for index in range(x.ndim)])


def _checked_repeats(x: Numeric, repeats: Sequence[int]) -> Sequence[int]:
    if len(repeats) != x.ndim or min(repeats, default=0) < 0:
        raise OperatorError(f"repeats {list(repeats)} do not fit {x.ndim} dimensions")
    return repeats


def _shape(call: Call, x: Numeric) -> Numeric:
    end = call.integer("end", x.ndim)
    return np.asarray(x.shape[call.integer("start", 0) : end], np.int64)


def _size(call: Call, x: Numeric) -> Numeric:
    return np.asarray(x.size, np.int64)


def _depth_to_space(call: Call, x: Numeric) -> Numeric:
    block, (n, c, h, w) = _block(call), x.shape
    depth = c // block**2
    if _depth_first(call):
        return x.reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, depth, h * block, w * block)
    return x.reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, depth, h * block, w * block)


def _space_to_depth(call: Call, x: Numeric) -> Numeric:
    block, (n, c, h, w) = _block(call), x.shape
    blocks = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if _depth_first(call) else (0, 1, 3, 5, 2, 4)
    return blocks.transpose(order).reshape(n, c * block**2, h // block, w // block)


def _block(call: Call) -> int:
    block = call.integer("blocksize", 0)
    if block < 1:
        raise OperatorError(f"attribute 'blocksize' is {block}, wanted at least 1")
    return block


def _depth_first(call: Call) -> bool:
    mode = call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise OperatorError(f"attribute 'mode' is '{mode}', wanted 'DCR' or 'CRD'")
    return mode == "DCR"


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Concat": _concat,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Shape": _shape,
        "Size": _size,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
