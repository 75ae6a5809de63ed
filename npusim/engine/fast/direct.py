"""Layers without an accumulator on buffers: 8-bit codes have few values, so that results of most formulas are looked up.

A table holds what the layer itself gives for every code, or every pair of codes. Means are computed operation by operation.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.fast.hosting import axis_samples_last, constant_samples_last
from npusim.engine.fast.workspace import Workspace
from npusim.kernels.geometry import tap_slices
from npusim.kernels.samples_last import Call
from npusim.program import Average, Concatenation, Direct, Elementwise, IntegerArray, Program, Table, Tensor
from npusim.program.accumulation import unknown_kind
from npusim.program.direct import AffineCombination, FusedAverage
from npusim.program.runtime_layers import RuntimeCombination

__all__ = ["direct_calls", "runs_on_buffers"]

FloatArray = npt.NDArray[Any]

LARGEST_TABLE: Final = 2**16
"""Pairs of 8-bit codes; such a table stays in the cache."""


def runs_on_buffers(layer: Direct, program: Program) -> bool:
    """True for a layer that :func:`direct_calls` can run."""
    tensors = [program.tensors[name] for name in (*layer.inputs, layer.output)]
    ranks = {len(tensor.shape) for tensor in tensors}
    if len(ranks) != 1 or min(ranks) < 2:
        return False
    match layer:
        case Table():
            return layer.values.size <= LARGEST_TABLE
        # a formula that depends on where the codes lie cannot be looked up
        case Elementwise(combination=AffineCombination() | RuntimeCombination()):
            return math.prod(_size(ends) for ends in _operands(layer, program)) <= LARGEST_TABLE and _fits(layer, tensors[-1])
        case Concatenation():
            sizes = [0 if table is None else table[1].size for table in layer.tables]
            return layer.axis > 0 and max(sizes) <= LARGEST_TABLE
        case Average(averaging=FusedAverage(window=window)):
            return not any(window.pads) and not window.ceil_mode
        case _:
            return False


def direct_calls(layer: Direct, program: Program, workspace: Workspace) -> list[Call]:
    """The calls that compute a layer from its input buffers into its output buffer."""
    output = workspace.buffers[layer.output].inner
    sources = [workspace.buffers[name].inner for name in layer.inputs]
    match layer:
        case Table():
            return _looked_up(sources[0], layer.lowest, layer.values, output)
        case Elementwise():
            return _pair_calls(layer, program, sources, output)
        case Concatenation():
            return _joined(layer, sources, output)
        case Average(averaging=FusedAverage() as average):
            return _averaged(average, sources[0], output)
        case _:
            raise unknown_kind(layer)


def _ends(tensor: Tensor) -> tuple[int, int]:
    return int(tensor.lower), int(tensor.upper)


def _size(ends: tuple[int, int]) -> int:
    return ends[1] - ends[0] + 1


def _operands(layer: Elementwise, program: Program) -> list[tuple[int, int]]:
    """The smallest and largest codes of both operands, the constant last."""
    found = [_ends(program.tensors[name]) for name in layer.inputs]
    return found if layer.constant is None else [*found, (int(layer.constant.min()), int(layer.constant.max()))]


def _fits(layer: Elementwise, output: Tensor) -> bool:
    """Whether a constant, if there is one, is spread over a tensor and not the other way round."""
    if layer.constant is None:
        return True
    shape = layer.constant.shape
    return layer.input_shape == output.shape and len(shape) <= len(output.shape) and layer.constant.size > 0


def _pair_calls(layer: Elementwise, program: Program, sources: list[FloatArray], output: FloatArray) -> list[Call]:
    first, second = _operands(layer, program)
    rows, columns = np.arange(first[0], first[1] + 1)[:, None], np.arange(second[0], second[1] + 1)[None, :]
    turned = layer.constant is not None and layer.constant_first
    values = layer.combination.codes(*(columns, rows) if turned else (rows, columns))
    other = sources[1] if layer.constant is None else constant_samples_last(layer.constant.astype(np.float32), output.ndim)
    place, width = np.empty(output.shape, np.float32), _size(second)
    calls: list[Call] = [partial(np.multiply, sources[0], np.float32(width), place), partial(np.add, place, other, place)]
    return [*calls, *_looked_up(place, first[0] * width + second[0], values.reshape(-1), output)]


def _joined(layer: Concatenation, sources: list[FloatArray], output: FloatArray) -> list[Call]:
    axis, start, calls = axis_samples_last(layer.axis, output.ndim), 0, list[Call]()
    for source, table in zip(sources, layer.tables, strict=True):
        stop = start + source.shape[axis]
        part = output[(*(slice(None),) * axis, slice(start, stop))]
        calls += [partial(np.copyto, part, source)] if table is None else _looked_up(source, *table, part)
        start = stop
    return calls


def _averaged(average: FusedAverage, source: FloatArray, output: FloatArray) -> list[Call]:
    """The operations of :func:`~npusim.kernels.qlinear.average_codes` one by one, for windows that lie on the data."""
    window, affine = average.window, average.result
    real, total = np.empty(source.shape, np.float32), np.empty(output.shape, np.float32)
    count, scale, point = (np.float32(value) for value in (math.prod(window.kernel_shape), affine.scale, affine.zero_point))
    lower = max(affine.lower, average.clip.lower + affine.zero_point)
    upper = min(affine.upper, average.clip.upper + affine.zero_point)
    ones = (1,) * len(window.kernel_shape)
    regions = tap_slices(output.shape[:-2], kernel_shape=window.kernel_shape, strides=window.strides, dilations=ones)
    return [
        partial(np.multiply, source, np.float32(average.source.scale), real),
        partial(total.fill, 0),
        *(partial(np.add, total, real[region], total) for region in regions),
        partial(np.divide, total, count, total),
        partial(np.divide, total, scale, total),
        partial(np.add, total, point, total),
        partial(np.rint, total, total),
        partial(np.maximum, total, np.float32(lower), out=total),
        partial(np.minimum, total, np.float32(upper), out=total),
        partial(np.subtract, total, point, output),
    ]


def _looked_up(places: FloatArray, lowest: int, values: IntegerArray, output: FloatArray) -> list[Call]:
    """The calls that put ``values[places - lowest]`` into `output`."""
    indices, table = np.empty(places.shape, np.intp), values.astype(np.float32)
    found = output if output.flags.c_contiguous else np.empty(output.shape, np.float32)
    calls: list[Call] = [
        partial(np.subtract, places, np.float32(lowest), indices, casting="unsafe"),
        # the indices are within the table; without that mode NumPy would make a copy of the result
        partial(np.take, table, indices, out=found, mode="clip"),
    ]
    return calls if found is output else [*calls, partial(np.copyto, output, found)]
