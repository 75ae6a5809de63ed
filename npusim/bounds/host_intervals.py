"""Intervals through what the host computes, quantize stages and host operations, by the ranges of their operators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.bounds.interval import Interval, declared_interval
from npusim.graph import Node, TensorType
from npusim.graph.ranges import Ends, ends_of_results, range_of_input
from npusim.graph.traits import Trait, is_a
from npusim.program import HostOperation, Program, QuantizeStage, Tensor

__all__ = ["host_intervals", "permutes_elements", "stage_interval"]


def stage_interval(program: Program, stage: QuantizeStage, source: Interval) -> Interval | None:
    """The codes of a quantize stage, operation by operation; None where one of them may give no number."""
    if program.tensors[stage.input].nan:
        return None
    tensors = {stage.input: source}
    for node in stage.nodes:
        (ends,) = _results(program, node, tensors)
        if ends is None:
            return None
        tensors[node.outputs[0]] = _held(program.tensors[node.outputs[0]], ends)
    codes = tensors[stage.output]
    return Interval(codes.lower.astype(np.int64), codes.upper.astype(np.int64))


def permutes_elements(program: Program, step: HostOperation) -> bool:
    """True when each element of the result is another element of the first input, unchanged."""
    rest = all(name in program.constants for name in step.node.inputs[1:] if name)
    return is_a(step.operator, Trait.PERMUTES) and rest


def host_intervals(program: Program, step: HostOperation, tensors: Mapping[str, Interval]) -> dict[str, Interval]:
    """The intervals of a host operation's results: those declared, where its operator has no closer ones."""
    found = {name: declared_interval(program.tensors[name]) for name in step.tensors}
    if any(program.tensors[name].nan for name in program.inputs_of(step)):
        return found
    for name, ends in zip(step.node.outputs, _results(program, step.node, tensors), strict=True):
        if not name or ends is None or program.tensors[name].nan:
            continue
        kind = found[name].lower.dtype
        if kind == np.int64 or program.tensors[name].dtype.kind == "f":
            found[name] = _held(program.tensors[name], (ends[0].astype(kind), ends[1].astype(kind)))
    return found


def _results(program: Program, node: Node, tensors: Mapping[str, Interval]) -> tuple[Ends | None, ...]:
    ends = [_ends(program, name, tensors) if name else None for name in node.inputs]
    types = {name: _type(program, name) for name in (*node.inputs, *node.outputs) if name}
    return ends_of_results(node, ends, program.constants, types, program.opset)


def _ends(program: Program, name: str, tensors: Mapping[str, Interval]) -> Ends:
    if name in program.constants:
        return program.constants[name], program.constants[name]
    lower, upper = _declared(program.tensors[name], tensors[name])
    if name not in program.inputs or program.tensors[name].dtype.kind != "f":
        return lower, upper
    # the numbers that an input can be are finite
    known = range_of_input(_type(program, name))
    return np.maximum(lower, known.lower), np.minimum(upper, known.upper)


def _type(program: Program, name: str) -> TensorType:
    constant = program.constants.get(name)
    if constant is not None:
        return TensorType(constant.dtype, constant.shape)
    tensor = program.tensors[name]
    return TensorType(tensor.dtype, tensor.declared_shape)


def _declared(tensor: Tensor, held: Interval) -> Ends:
    """Ends as the file has them: in its order, zero points included. Host operations compute on that."""
    ends = held.lower, held.upper
    if tensor.order is not None:
        ends = ends[0].transpose(tensor.order), ends[1].transpose(tensor.order)
    return (ends[0] + tensor.zero_point, ends[1] + tensor.zero_point) if tensor.zero_point else ends


def _held(tensor: Tensor, declared: Ends) -> Interval:
    """Ends as the program holds them: the inverse of :func:`_declared`."""
    ends = (declared[0] - tensor.zero_point, declared[1] - tensor.zero_point) if tensor.zero_point else declared
    if tensor.order is None:
        return Interval(*ends)
    back = tuple(int(axis) for axis in np.argsort(tensor.order))
    return Interval(ends[0].transpose(back), ends[1].transpose(back))
