"""Reductions over axes: sums, extremes, norms, softmax and the positions of extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, integers_of, place_of_axis
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels import reduction as kernels
from npusim.kernels.softmax import log_softmax, softmax

__all__ = ["OPERATORS"]


def _reduction(kernel: Callable[[Any], Any], *, axes_are_input_since: int = 18, floats_only: bool = False) -> Operator:
    """Operator from a kernel that reduces the rows of a two-dimensional array."""

    def operator(call: Call, x: Numeric, axes_input: Numeric | None = None) -> Numeric:
        if floats_only and x.dtype.kind != "f":
            raise OperatorError(f"its input is {x.dtype}; npusim computes it for float types only")
        given = call.integers("axes")
        if call.opset >= axes_are_input_since:
            given = integers_of(axes_input)
        axes = _reduced_axes(call, given, x.ndim)
        keep = call.integer("keepdims", 1)
        sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
        with np.errstate(all="ignore"):
            return np.asarray(kernel(kernels.as_rows(x, axes=axes))).reshape(sizes)

    return operator


def _reduced_axes(call: Call, given: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    if not given:
        return () if call.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({place_of_axis(axis, rank) for axis in given})) if rank else ()


def _softmax(kernel: Callable[..., Any]) -> Operator:
    """Operator that normalizes along one axis, before opset 13 along that axis and all behind it together."""

    def operator(call: Call, x: Numeric) -> Numeric:
        if call.opset >= 13:
            axis = place_of_axis(call.integer("axis", -1), x.ndim)
            return np.asarray(kernel(x, axes=(axis,) if x.ndim else ()))
        axis = call.integer("axis", 1)
        first = axis if axis == x.ndim else place_of_axis(axis, x.ndim)
        return np.asarray(kernel(x, axes=tuple(range(first, x.ndim))))

    return operator


def _position(function: Callable[..., Any]) -> Operator:
    """Operator that returns where an extreme lies along one axis: its first place, or its last if so asked."""

    def operator(call: Call, x: Numeric) -> Numeric:
        axis = place_of_axis(call.integer("axis", 0), x.ndim)
        keep = bool(call.integer("keepdims", 1))
        if not call.integer("select_last_index", 0):
            return np.asarray(function(x, axis=axis, keepdims=keep), np.int64)
        from_end = np.asarray(function(np.flip(x, axis), axis=axis, keepdims=keep), np.int64)
        return np.asarray(x.shape[axis] - 1 - from_end)

    return operator


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "ArgMax": _position(np.argmax),
        "ArgMin": _position(np.argmin),
        "LogSoftmax": _softmax(log_softmax),
        "ReduceL1": _reduction(kernels.sum_of_magnitudes),
        "ReduceL2": _reduction(kernels.norm, floats_only=True),
        "ReduceLogSum": _reduction(kernels.log_sum, floats_only=True),
        "ReduceLogSumExp": _reduction(kernels.log_sum_exp, floats_only=True),
        "ReduceMax": _reduction(kernels.maximum_of),
        "ReduceMean": _reduction(kernels.mean),
        "ReduceMin": _reduction(kernels.minimum_of),
        "ReduceProd": _reduction(kernels.product),
        "ReduceSum": _reduction(kernels.sum_of, axes_are_input_since=13),
        "ReduceSumSquare": _reduction(kernels.sum_of_squares),
        "Softmax": _softmax(softmax),
    }
)
