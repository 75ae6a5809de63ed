"""Float32 steps with the samples on the last axis: quantize stages, element-wise and data-moving host operations.

An element-wise operation gives the same bits wherever its elements lie, so it needs no other layout; neither does moving
data. Everything else goes back to ONNX layout and runs as in the reference engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from npusim.engine.fast.workspace import Workspace, to_samples_last
from npusim.engine.reference import check_codes, run_step
from npusim.folding import evaluate_node
from npusim.graph import Array, Node
from npusim.program import HostOperation, Program, QuantizeStage, Step

__all__ = ["bind_as_reference", "bind_quantize_stage", "bind_samples_last", "runs_samples_last"]

_ELEMENTWISE: Final = frozenset(
    ("Add", "Sub", "Mul", "Div", "Relu", "Floor", "Ceil", "Round", "Neg", "Abs", "Min", "Max", "Clip")
)
"""Operators that IEEE 754 defines to the last bit, element by element."""

ZERO: Final = np.float32(0)

GAP: Final = 16
"""Elements between two samples, see :func:`_rows`: one cache line."""

_BINARY: Final[Mapping[str, np.ufunc]] = MappingProxyType(
    {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
)
"""Those that are one NumPy function of two operands."""


def runs_samples_last(step: HostOperation, program: Program) -> bool:
    """True for a host operation that :func:`bind_samples_last` can run."""
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


def bind_quantize_stage(stage: QuantizeStage, program: Program, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that computes a quantize stage into its output buffer.

    It works in ONNX layout, where its input comes from, and turns the codes round once at the end.
    """
    output, values = workspace.buffers[stage.output].inner, _rows(workspace.samples, program.tensors[stage.output].shape[1:])
    operations: list[Callable[[Array, Array], None]] = []
    for node in stage.nodes:
        if node.op_type == "Floor":
            break
        operations.append(_stage_operation(node, program))
    lower, upper = (np.array(end, np.float32) for end in (stage.clip.lower, stage.clip.upper))

    def run() -> None:
        current = workspace.stored(stage.input)
        for operation in operations:
            operation(current, values)
            current = values
        np.floor(current, out=values)
        values.clip(lower, upper, out=values)
        check_codes(stage.output, values)
        np.copyto(output, to_samples_last(values))

    return run


def _rows(samples: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Memory for samples, each of them a little apart from the next.

    Sizes that are powers of two would put the same element of all samples into one set of the cache, and turning the array
    round would then miss at every element.
    """
    size = math.prod(shape)
    memory = np.empty((samples, size + GAP), np.float32)
    inner = np.empty(shape, np.float32).strides
    return as_strided(memory, (samples, *shape), (memory.strides[0], *inner))


def _stage_operation(node: Node, program: Program) -> Callable[[Array, Array], None]:
    first = node.inputs[0] in program.constants
    constant = program.constants[node.inputs[0 if first else 1]]
    function = _BINARY[node.op_type]

    def run(values: Array, out: Array) -> None:
        operands = (constant, values) if first else (values, constant)
        function(*operands, out=out)

    return run


def bind_samples_last(step: HostOperation, program: Program, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that runs an element-wise or data-moving host operation on buffers."""
    node, output = step.node, workspace.buffers[step.tensors[0]].inner
    variable = program.inputs_of(step)
    values = {name: workspace.buffers[name].inner for name in variable}
    sources = [values[name] for name in variable]
    if node.op_type == "Reshape":
        shape = program.tensors[step.tensors[0]].shape
        return lambda: np.copyto(output, _reshaped(sources[0], shape))
    if node.op_type == "Resize":
        chosen = _chosen_indices(step, program)
        return lambda: np.copyto(output, sources[0][np.ix_(*chosen)])
    copies = {name: np.empty_like(values[name]) for name in variable if program.tensors[name].is_integer}
    result = step.tensors[0]
    gives_codes = program.tensors[result].is_integer
    compute = _bind_values(step, program, output, {**values, **copies})

    def run() -> None:
        for name, copy in copies.items():
            # a code has no sign of zero, and -0 + 0 is 0
            np.add(values[name], ZERO, out=copy)
        compute()
        if gives_codes:
            check_codes(result, output)

    return run


def _bind_values(step: HostOperation, program: Program, output: Array, values: Mapping[str, Array]) -> Callable[[], None]:
    node, rank = step.node, len(program.tensors[step.tensors[0]].shape)
    if node.op_type == "Concat":
        axis, parts = _axis_samples_last(node.integer("axis", 0), rank), [values[name] for name in node.inputs]
        return lambda: np.copyto(output, np.concatenate(parts, axis=axis))
    constants = {
        name: _constant_samples_last(program.constants[name], rank) for name in node.inputs if name in program.constants
    }
    known = {**values, **constants}
    if node.op_type in _BINARY and len(node.inputs) == 2:
        function, (first, second) = _BINARY[node.op_type], (known[name] for name in node.inputs)
        return lambda: function(first, second, out=output)
    return lambda: np.copyto(output, evaluate_node(node, known, program.opset)[0])


def bind_as_reference(step: Step, program: Program, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that runs a step as the reference engine does, in ONNX layout."""

    def run() -> None:
        values = {name: workspace.stored(name) for name in program.inputs_of(step)}
        workspace.standard.update(run_step(program, step, values, set()))

    return run


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


def _constant_samples_last(value: Array, rank: int) -> Array:
    """A constant that the graph broadcasts against tensors of a rank, in a form that broadcasts against their buffers."""
    if value.ndim == 0:
        return value
    full = value.reshape((1,) * (rank - value.ndim) + value.shape)
    return np.ascontiguousarray(to_samples_last(full))


def _axis_samples_last(axis: int, rank: int) -> int:
    position = axis % rank
    return rank - 2 if position == 1 else position - 2
