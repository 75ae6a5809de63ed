"""Running parts of a program on values that are put in the middle of it.

The float program computes in its own element type. The quantized program computes here with real-valued codes: integers give
exactly what the engines give, and a layer can be handed codes with a fractional part, as if the layer before had been float.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph
from npusim.graph import Array
from npusim.graph.folding import evaluate_node
from npusim.kernels.convolution import convolve, convolve_transpose
from npusim.kernels.pooling import max_pool
from npusim.program import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    HostOperation,
    IntegerLayer,
    MaxPool,
    Program,
    QuantizeStage,
    Step,
    TransposedConvolution,
    Window,
)
from npusim.program.accumulation import unknown_kind
from npusim.program.lowering.floats import Role

__all__ = ["accumulate", "bend", "evaluate_float", "evaluate_real", "finish", "run_real_from", "stage_values"]


def evaluate_float(program: Program, values: Mapping[str, Array], target: str) -> Array:
    """Compute one tensor of a float program from others.

    Parameters
    ----------
    program
        A program of host operations.
    values
        Tensors that are taken as they are; what lies before them is not computed.
    target
        Name of the tensor wanted.
    """
    producers = {name: step for step in program.host_operations for name in step.tensors}
    needed: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name not in values and name in producers and producers[name].name not in needed:
            needed.add(producers[name].name)
            waiting.extend(program.inputs_of(producers[name]))
    known: dict[str, Array] = dict(values)
    for step in program.host_operations:
        if step.name in needed:
            known.update({key: value for key, value in _host(step, known, program).items() if key not in values})
    return known[target]


def bend(graph: FloatGraph, start: str, value: FloatArray, target: str, others: Mapping[str, Array]) -> FloatArray:
    """What a float program makes of one tensor through activations, sums and data movers, in float64.

    Parameters
    ----------
    graph
        The float program.
    start
        The tensor that `value` stands for; only its shape may differ, in axes of size 1.
    value
        Samples on the first axis.
    target
        The tensor wanted.
    others
        Tensors that may be added on the way.
    """
    known = {name: np.asarray(other, np.float64) for name, other in others.items() if name != start}
    known[start] = value.reshape(-1, *graph.shape(start)[1:])
    for name in graph.nodes_between(set(known), target):
        step = graph.producers[name]
        operands = [known[one] for one in graph.program.inputs_of(step)]
        bounds = graph.bounds(step)
        if graph.role(step) is Role.RESHAPE:
            known[name] = operands[0].reshape(-1, *graph.shape(name)[1:])
        elif bounds is not None:
            known[name] = np.clip(operands[0], *bounds)
        elif graph.role(step) is Role.ADDITION:
            known[name] = operands[0] + operands[-1]
        else:
            inputs = {one: known[one].astype(graph.program.tensors[one].dtype) for one in graph.program.inputs_of(step)}
            known[name] = _float64(_host(step, inputs, graph.program)[name])
    return known[target]


def run_real_from(
    program: Program, values: Mapping[str, Array], changed: Mapping[str, FloatArray], outputs: tuple[str, ...]
) -> dict[str, FloatArray]:
    """The outputs of a quantized program when the values of some tensors are changed.

    Parameters
    ----------
    program
        The quantized program.
    values
        All results of its steps as they are without the change.
    changed
        Real-valued codes that take the place of some of them.
    outputs
        Names of the tensors wanted.
    """
    new: dict[str, FloatArray] = dict(changed)
    for step in program.steps:
        if step.tensors[-1] in changed:
            continue
        names = program.inputs_of(step)
        if any(name in new for name in names):
            inputs = [np.asarray(new.get(name, values[name]), np.float64) for name in names]
            new[step.tensors[-1]] = evaluate_real(program, step, inputs)
    return {name: np.asarray(new.get(name, values[name]), np.float64) for name in outputs}


def evaluate_real(program: Program, step: Step, inputs: list[FloatArray]) -> FloatArray:
    """A step of a quantized program on real-valued codes, float64; on integers exactly the engines' result."""
    if isinstance(step, IntegerLayer):
        if isinstance(step, MaxPool):
            return _maximum(step, inputs[0])
        if not isinstance(step, Accumulating):
            raise unknown_kind(step)
        residual = step.residual_of(inputs)
        return finish(step, accumulate(step, inputs), residual)
    names = program.inputs_of(step)
    values: dict[str, Array] = {
        name: array.astype(program.tensors[name].dtype) for name, array in zip(names, inputs, strict=True)
    }
    if isinstance(step, HostOperation):
        return np.asarray(_host(step, values, program)[step.tensors[-1]], np.float64)
    return np.asarray(stage_values(program, step, values)[step.output], np.float64)


def stage_values(program: Program, stage: QuantizeStage, values: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of a quantize stage in the element type of the graph, from its input."""
    known: dict[str, Array] = dict(values)
    for node in stage.nodes:
        constants = {name: program.constants[name] for name in node.inputs if name in program.constants}
        (known[node.outputs[0]],) = evaluate_node(node, {**constants, **known}, program.opset)
    return known


def accumulate(layer: Accumulating, inputs: list[FloatArray], weights: FloatArray | None = None) -> FloatArray:
    """The accumulator of a layer on real-valued codes, float64 ``[samples, *accumulator_shape[1:]]``.

    Parameters
    ----------
    layer
        A layer that requantizes.
    inputs
        Real-valued codes, samples on the first axis.
    weights
        Used instead of the layer's own, in the same shape.
    """
    x = inputs[0]
    match layer:
        case Add():
            return x + inputs[1]
        case FullyConnected():
            own = layer.weights if weights is None else weights
            return _float64(x @ own.astype(np.float64))
        case AveragePool(window=window):
            channels = layer.input_shape[1]
            return _convolve(layer, x, np.ones((channels, 1, *window.kernel_shape)), window, channels)
        case TransposedConvolution(window=window):
            own = layer.weights if weights is None else weights
            return _float64(
                convolve_transpose(
                    x,
                    own.astype(np.float64),
                    None,
                    strides=window.strides,
                    dilations=window.dilations,
                    pads=window.pads,
                    output_shape=layer.accumulator_shape[2:],
                    group=layer.group,
                )
            )
        case Convolution(window=window):
            own = layer.weights if weights is None else weights
            return _convolve(layer, x, own.astype(np.float64), window, layer.group)
        case _:
            raise unknown_kind(layer)


def finish(layer: Accumulating, accumulator: FloatArray, residual: FloatArray | None = None) -> FloatArray:
    """Requantize a real-valued accumulator, float64; on integers exactly the layer's codes."""
    codes, clip = layer.requantization.real_codes(accumulator, layer.channel_axis), layer.output_clip
    if residual is not None:
        codes = np.clip(codes + residual, clip.lower, clip.upper)
    return _float64(codes).reshape(-1, *layer.output_shape[1:])


def _convolve(layer: Accumulating, x: FloatArray, weights: FloatArray, window: Window, group: int) -> FloatArray:
    result = convolve(x, weights, None, strides=window.strides, dilations=window.dilations, pads=window.pads, group=group)
    return _float64(result).reshape(-1, *layer.accumulator_shape[1:])


def _maximum(layer: MaxPool, x: FloatArray) -> FloatArray:
    window = layer.window
    return _float64(
        max_pool(
            x,
            kernel_shape=window.kernel_shape,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
            ceil_mode=window.ceil_mode,
        )
    )


def _host(step: HostOperation, values: Mapping[str, Array], program: Program) -> dict[str, Array]:
    inputs = {name: values[name] if name in values else program.constants[name] for name in step.node.inputs if name}
    results = evaluate_node(step.node, inputs, program.opset)
    return {name: value for name, value in zip(step.node.outputs, results, strict=False) if name}


def _float64(values: Array) -> FloatArray:
    return np.asarray(values, np.float64)
