"""Running parts of a program on values that are put in the middle of it.

The float program computes in its own element type. The quantized program computes here with real-valued codes: integers give
exactly what the engines give, and a layer can be handed codes with a fractional part, as if the layer before had been float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph
from npusim.graph import Array
from npusim.program import HostOperation, IntegerLayer, Program, Step
from npusim.program.lowering.floats import Role
from npusim.program.real_codes import real_codes

__all__ = ["bend", "evaluate_float", "evaluate_real", "run_real_from"]


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
            known.update({key: value for key, value in program.host_values(step, known).items() if key not in values})
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
            known[name] = _float64(graph.program.host_values(step, inputs)[name])
    return known[target]


def run_real_from(
    program: Program,
    values: Mapping[str, Array],
    changed: Mapping[str, FloatArray],
    outputs: tuple[str, ...],
    instead: Mapping[str, Callable[[Mapping[str, Array]], FloatArray]] = MappingProxyType({}),
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
    instead
        Steps that something else computes, by the tensor they give: from all tensors known, real-valued codes.
    """
    new: dict[str, FloatArray] = dict(changed)
    for step in program.steps:
        if step.tensors[-1] in changed:
            continue
        names = program.inputs_of(step)
        if step.tensors[-1] in instead:
            new[step.tensors[-1]] = instead[step.tensors[-1]]({**values, **new})
        elif any(name in new for name in names):
            inputs = [np.asarray(new.get(name, values[name]), np.float64) for name in names]
            new[step.tensors[-1]] = evaluate_real(program, step, inputs)
    return {name: np.asarray(new.get(name, values[name]), np.float64) for name in outputs}


def evaluate_real(program: Program, step: Step, inputs: list[FloatArray]) -> FloatArray:
    """A step of a quantized program on real-valued codes, float64; on integers exactly the engines' result."""
    if isinstance(step, IntegerLayer):
        return real_codes(step, inputs)
    names = program.inputs_of(step)
    values: dict[str, Array] = {
        name: array.astype(program.tensors[name].dtype) for name, array in zip(names, inputs, strict=True)
    }
    if isinstance(step, HostOperation):
        return np.asarray(program.host_values(step, values)[step.tensors[-1]], np.float64)
    return np.asarray(program.stage_values(step, values[step.input])[step.output], np.float64)


def _float64(values: Array) -> FloatArray:
    return np.asarray(values, np.float64)
