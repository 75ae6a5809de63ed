"""Operators that pick elements by position, and Pad, which adds and removes some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, integers_of, place_of_axis
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.gather import gather_nd
from npusim.kernels.padding import pad

__all__ = ["OPERATORS"]


def _slice(
    call: Call,
    x: Numeric,
    starts: Numeric | None = None,
    ends: Numeric | None = None,
    axes: Numeric | None = None,
    steps: Numeric | None = None,
) -> Numeric:
    if call.opset < 10:
        return _sliced(x, call.integers("starts"), call.integers("ends"), call.integers("axes"), None)
    return _sliced(x, *(integers_of(values) for values in (starts, ends, axes, steps)))


def _sliced(
    x: Numeric,
    starts: tuple[int, ...] | None,
    ends: tuple[int, ...] | None,
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> Numeric:
    if starts is None or ends is None:
        raise OperatorError("no starts or no ends are given")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise OperatorError(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps do not match")
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # counting from the end and clamping are the same in ONNX and in Python, also for a negative step
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def _gather(call: Call, x: Numeric, indices: npt.NDArray[np.integer[Any]]) -> Numeric:
    axis = place_of_axis(call.integer("axis", 0), x.ndim)
    _check_within(indices, x.shape[axis], axis)
    return np.asarray(np.take(x, indices, axis=axis))


def _gather_nd(call: Call, x: Numeric, indices: npt.NDArray[np.integer[Any]]) -> Numeric:
    batch_dims = call.integer("batch_dims", 0)
    for place in range(indices.shape[-1]):
        _check_within(indices[..., place], x.shape[batch_dims + place], batch_dims + place)
    return gather_nd(x, indices, batch_dims=batch_dims)


def _gather_elements(call: Call, x: Numeric, indices: npt.NDArray[np.integer[Any]]) -> Numeric:
    axis = place_of_axis(call.integer("axis", 0), x.ndim)
    _check_within(indices, x.shape[axis], axis)
    within = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape))
    return np.take_along_axis(x[within], indices, axis=axis)


def _check_within(indices: npt.NDArray[np.integer[Any]], size: int, axis: int) -> None:
    outside = indices[(indices < -size) | (indices >= size)]
    if outside.size:
        raise OperatorError(f"index {outside.flat[0]} is outside of axis {axis} of size {size}")


def _pad(
    call: Call, x: Numeric, pads: Numeric | None = None, value: Numeric | None = None, axes: Numeric | None = None
) -> Numeric:
    if call.opset < 11:
        amounts, filler = call.integers("pads" if call.opset > 1 else "paddings"), call.real("value", 0.0)
    else:
        amounts, filler = integers_of(pads), 0 if value is None else value.reshape(()).item()
    chosen = integers_of(axes)
    places = tuple(range(x.ndim)) if chosen is None else chosen
    if amounts is None or len(amounts) != 2 * len(places):
        raise OperatorError(f"pads are {amounts}, wanted a begin and an end for each of {len(places)} axes")
    begins, ends = [0] * x.ndim, [0] * x.ndim
    for place, begin, end in zip(places, amounts[: len(places)], amounts[len(places) :], strict=True):
        begins[place], ends[place] = begin, end
    return pad(x, begins=begins, ends=ends, mode=call.text("mode", "constant"), value=filler)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "Pad": _pad,
        "Slice": _slice,
    }
)
