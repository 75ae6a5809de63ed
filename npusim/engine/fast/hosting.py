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
from npusim.graph import Array, Node
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import Trait, is_a
from npusim.kernels.quantization import code_range
from npusim.kernels.samples_last import Call
from npusim.program import HostOperation, Program, Step, Tensor

__all__ = [
    "axis_samples_last",
    "binary_function",
    "constant_samples_last",
    "reference_calls",
    "runs_samples_last",
    "samples_last_calls",
]

ZERO: Final = np.float32(0)

_BINARY: Final[Mapping[Trait, np.ufunc]] = MappingProxyType(
    {Trait.SUM: np.add, Trait.DIFFERENCE: np.subtract, Trait.PRODUCT: np.multiply, Trait.QUOTIENT: np.divide}
)


def binary_function(node: Node) -> np.ufunc | None:
    """The one NumPy function of two operands that a node is; None for any other node."""
    if len(node.inputs) != 2:
        return None
    return next((function for trait, function in _BINARY.items() if is_a(node.op_type, trait)), None)


def runs_samples_last(step: HostOperation, program: Program) -> bool:
    """True for a host operation that :func:`samples_last_calls` can run."""
    node = step.node
    if _scale_between(step, program) is not None:
        return True
    variable = program.inputs_of(step)
    tensors = [program.tensors[name] for name in (*variable, *step.tensors)]
    if any(tensor.dtype != np.float32 or len(tensor.shape) < 2 for tensor in tensors) or len(step.tensors) != 1:
        return False
    if is_a(node.op_type, Trait.INTERPOLATES):
        cropped = node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        return node.text("mode", "nearest") == "nearest" and not cropped
    if is_a(node.op_type, Trait.JOINS):
        return len(variable) == len(node.inputs)
    if is_a(node.op_type, Trait.RESHAPES) and not is_a(node.op_type, Trait.RENAMES):
        return True
    rank = len(tensors[-1].shape)
    # what IEEE 754 does not define to the last bit may depend on where an element lies
    exact = is_a(node.op_type, Trait.ELEMENTWISE) and not is_a(node.op_type, Trait.FUNCTION, Trait.FREE_ORDER)
    return exact and program.opset >= 7 and all(len(tensor.shape) == rank for tensor in tensors)


def samples_last_calls(step: HostOperation, program: Program, workspace: Workspace) -> list[Call]:
    """The calls that run an element-wise or data-moving host operation on buffers."""
    node, output = step.node, workspace.buffers[step.tensors[0]].inner
    variable = program.inputs_of(step)
    values = {name: workspace.buffers[name].inner for name in variable}
    sources = [values[name] for name in variable]
    scale = _scale_between(step, program)
    if scale is not None:
        return _scaled(sources[0], output, scale, program.tensors[step.tensors[0]])
    if is_a(node.op_type, Trait.RESHAPES):
        shape = program.tensors[step.tensors[0]].shape
        return [lambda: np.copyto(output, _reshaped(sources[0], shape))]
    if is_a(node.op_type, Trait.INTERPOLATES):
        return _repetitions(sources[0], _chosen_indices(step, program), output)
    if is_a(node.op_type, Trait.JOINS):
        axis = axis_samples_last(node.integer("axis", 0), output.ndim)
        return _side_by_side([values[name] for name in node.inputs], axis, output)
    copies = {name: np.empty_like(values[name]) for name in variable if program.tensors[name].is_integer}
    # a code has no sign of zero, and -0 + 0 is 0
    calls: list[Call] = [partial(np.add, values[name], ZERO, copy) for name, copy in copies.items()]
    calls.append(_values_call(step, program, output, {**values, **copies}))
    result = step.tensors[0]
    return [*calls, partial(check_codes, result, output)] if program.tensors[result].is_integer else calls


def _scale_between(step: HostOperation, program: Program) -> np.float32 | None:
    """The one scale between real numbers and codes where a step only makes one of the other; None for any other step."""
    node = step.node
    if not is_a(node.op_type, Trait.QUANTIZES) or len(program.inputs_of(step)) != 1 or len(step.tensors) != 1:
        return None
    given, made = (program.tensors[name] for name in (*program.inputs_of(step), step.tensors[0]))
    scale = program.constants.get(node.inputs[1]) if 2 <= len(node.inputs) <= 3 else None
    plain = scale is not None and scale.size == 1 and scale.dtype == np.float32
    if not plain or node.inputs[0] in program.constants or set(node.attributes) - {"axis"} or len(given.shape) < 2:
        return None
    codes, real = (made, given) if given.dtype == np.float32 else (given, made)
    zero_point = program.constants.get(node.inputs[2]) if len(node.inputs) == 3 and node.inputs[2] else np.zeros(1, np.int64)
    known = zero_point is not None and zero_point.size == 1 and int(zero_point.reshape(-1)[0]) == codes.zero_point
    narrow = codes.dtype.name in ("uint8", "int8", "uint16", "int16")
    return np.float32(scale.reshape(-1)[0]) if known and narrow and real.dtype == np.float32 and scale is not None else None


def _scaled(source: Array, output: Array, scale: np.float32, made: Tensor) -> list[Call]:
    """From real numbers to codes less their zero point, or back; float32 holds codes of 16 bits."""
    if made.dtype == np.float32:
        # a code has no sign of zero, and -0 + 0 is 0
        return [partial(np.add, source, ZERO, output), partial(np.multiply, output, scale, output)]
    lower, upper = (np.float32(end - made.zero_point) for end in code_range(made.dtype))
    # of NaN and a number `fmax` takes the number: NaN becomes the lowest code
    return [
        partial(np.divide, source, scale, output),
        partial(np.rint, output, output),
        partial(np.fmax, output, lower, out=output),
        partial(np.minimum, output, upper, out=output),
    ]


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
    function = binary_function(node)
    if function is not None:
        first, second = (known[name] for name in node.inputs)
        return partial(function, first, second, output)
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


def axis_samples_last(axis: int, rank: int) -> int:
    """Where an axis of ONNX's order, but the first, lies in buffers of a rank."""
    position = axis % rank
    return rank - 2 if position == 1 else position - 2
