"""Float32 steps with the samples on the last axis: element-wise and data-moving host operations.

An element-wise operation gives the same bits wherever its elements lie, so it needs no other layout; neither does moving
data. Everything else goes back to ONNX layout and runs as in the reference engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Final

import numpy as np

from npusim.engine.fast.workspace import Workspace, to_samples_last
from npusim.engine.reference import check_codes, run_step
from npusim.folding import evaluate_node
from npusim.graph import Array
from npusim.kernels.samples_last import Call
from npusim.program import HostOperation, Program, Step

__all__ = ["BINARY", "constant_samples_last", "reference_calls", "runs_samples_last", "samples_last_calls"]

_ELEMENTWISE: Final = frozenset(
    ("Add", "Sub", "Mul", "Div", "Relu", "Floor", "Ceil", "Round", "Neg", "Abs", "Min", "Max", "Clip")
)
"""Operators that IEEE 754 defines to the last bit, element by element."""

ZERO: Final = np.float32(0)

BINARY: Final[Mapping[str, np.ufunc]] = MappingProxyType(
    {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
)
"""Those that are one NumPy function of two operands."""


def runs_samples_last(step: HostOperation, program: Program) -> bool:
    """True for a host operation that :func:`samples_last_calls` can run."""
    node = step.node
    variable = program.inputs_of(step)
    tensors = [program.tensors[name] for name in (*variable, *step.tensors)]
    if any(tensor.dtype != np.float32 or len(tensor.shape) < 2 for tensor in tensors) or len(step.tensors) != 1:
        return False
    if node.op_type in ("Concat", "Reshape", "Resize"):
        if node.op_type == "Resize" and step.node.text("mode", "nearest") != "nearest":
            return False
        return node.op_type != "Concat" or len(variable) == len(node.inputs)
    rank = len(tensors[-1].shape)
    return node.op_type in _ELEMENTWISE and all(len(tensor.shape) == rank for tensor in tensors)


def samples_last_calls(step: HostOperation, program: Program, workspace: Workspace) -> list[Call]:
    """The calls that run an element-wise or data-moving host operation on buffers."""
    node, output = step.node, workspace.buffers[step.tensors[0]].inner
    variable = program.inputs_of(step)
    values = {name: workspace.buffers[name].inner for name in variable}
    sources = [values[name] for name in variable]
    if node.op_type == "Reshape":
        shape = program.tensors[step.tensors[0]].shape
        return [lambda: np.copyto(output, _reshaped(sources[0], shape))]
    if node.op_type == "Resize":
        return _repetitions(sources[0], _chosen_indices(step, program), output)
    if node.op_type == "Concat":
        axis = _axis_samples_last(node.integer("axis", 0), output.ndim)
        return _side_by_side([values[name] for name in node.inputs], axis, output)
    copies = {name: np.empty_like(values[name]) for name in variable if program.tensors[name].is_integer}
    # a code has no sign of zero, and -0 + 0 is 0
    calls: list[Call] = [partial(np.add, values[name], ZERO, copy) for name, copy in copies.items()]
    calls.append(_values_call(step, program, output, {**values, **copies}))
    result = step.tensors[0]
    return [*calls, partial(check_codes, result, output)] if program.tensors[result].is_integer else calls


def _side_by_side(parts: list[Array], axis: int, output: Array) -> list[Call]:
    """The calls that copy arrays next to each other."""
    calls: list[Call] = []
    start = 0
    for part in parts:
        stop = start + part.shape[axis]
        calls.append(partial(np.copyto, output[(*(slice(None),) * axis, slice(start, stop))], part))
        start = stop
    return calls


def _repetitions(source: Array, chosen: list[Array], output: Array) -> list[Call]:
    """The calls that fill an array with repeated positions of another: every so many places a plain copy where that will do."""
    times = [max(1, len(indices) // size) for indices, size in zip(chosen, source.shape, strict=False)]
    even = all(
        np.array_equal(indices, np.repeat(np.arange(size), count))
        for indices, size, count in zip(chosen, source.shape, times, strict=False)
    )
    if not even:
        return [lambda: np.copyto(output, source[np.ix_(*chosen)])]
    starts = product(*(range(count) for count in times))
    return [
        partial(np.copyto, output[tuple(slice(start, None, count) for start, count in zip(places, times, strict=True))], source)
        for places in starts
    ]


def _values_call(step: HostOperation, program: Program, output: Array, values: Mapping[str, Array]) -> Call:
    node, rank = step.node, len(program.tensors[step.tensors[0]].shape)
    constants = {
        name: constant_samples_last(program.constants[name], rank) for name in node.inputs if name in program.constants
    }
    known = {**values, **constants}
    if node.op_type in BINARY and len(node.inputs) == 2:
        first, second = (known[name] for name in node.inputs)
        return partial(BINARY[node.op_type], first, second, output)
    return lambda: np.copyto(output, evaluate_node(node, known, program.opset)[0])


def reference_calls(step: Step, program: Program, workspace: Workspace) -> list[Call]:
    """The call that runs a step as the reference engine does, in ONNX layout."""

    def run() -> None:
        values = {name: workspace.stored(name) for name in program.inputs_of(step)}
        workspace.standard.update(run_step(program, step, values, set()))

    return [run]


def _reshaped(values: Array, shape: tuple[int, ...]) -> Array:
    """Reshape each sample as ONNX would, channels first."""
    order = (values.ndim - 2, *range(values.ndim - 2), values.ndim - 1)
    flat = values.transpose(order).reshape(*shape[1:], values.shape[-1])
    return flat.transpose(*range(1, flat.ndim - 1), 0, flat.ndim - 1)


def _chosen_indices(step: HostOperation, program: Program) -> list[Array]:
    """For a nearest Resize: which input positions it repeats, axis by axis, found by resizing the positions themselves."""
    tensor = program.tensors[program.inputs_of(step)[0]]
    rank = len(tensor.shape)
    chosen: list[Array] = []
    for axis in (*range(2, rank), 1):
        shape = [1] * rank
        shape[axis] = -1
        positions = np.broadcast_to(np.arange(tensor.shape[axis], dtype=np.float32).reshape(shape), tensor.shape)
        constants = {name: program.constants[name] for name in step.node.inputs if name in program.constants}
        values = {**constants, program.inputs_of(step)[0]: np.ascontiguousarray(positions)}
        (resized,) = evaluate_node(step.node, values, program.opset)
        line = np.moveaxis(resized, axis, 0).reshape(resized.shape[axis], -1)[:, 0]
        chosen.append(line.astype(np.int64))
    return chosen


def constant_samples_last(value: Array, rank: int) -> Array:
    """A constant that the graph broadcasts against tensors of a rank, in a form that broadcasts against their buffers."""
    if value.ndim == 0:
        return value
    full = value.reshape((1,) * (rank - value.ndim) + value.shape)
    return np.ascontiguousarray(to_samples_last(full))


def _axis_samples_last(axis: int, rank: int) -> int:
    position = axis % rank
    return rank - 2 if position == 1 else position - 2
