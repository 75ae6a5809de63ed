"""Intervals through what the host computes: quantize stages and host operations, by evaluating them at interval ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.bounds.interval import Interval, declared_interval
from npusim.folding import evaluate_node
from npusim.graph import Array
from npusim.program import HostOperation, Program, QuantizeStage

__all__ = ["host_intervals", "permutes_elements", "stage_interval"]

_MOVES_FIRST_INPUT: Final = frozenset(
    "Reshape Flatten Squeeze Unsqueeze Transpose Split Slice Gather GatherND Expand Tile Pad DepthToSpace SpaceToDepth".split()
)
"""Operators that move or repeat the elements of their first input, as long as the others are constant."""

_SAME_DIRECTION: Final = frozenset(
    "Concat MaxPool GlobalMaxPool ReduceMax ReduceMin Add Sum Relu Clip Floor Ceil Round Min Max".split()
)
"""Operators that never fall when an operand rises."""

_ARITHMETIC: Final = frozenset(("Add", "Sum", "Sub", "Mul", "Neg"))
"""Operators that wrap around in integer types."""

_PERMUTES: Final = frozenset("Reshape Flatten Squeeze Unsqueeze Transpose Slice".split())


def stage_interval(program: Program, stage: QuantizeStage, source: Interval) -> Interval | None:
    """The codes of a quantize stage: the stage itself, evaluated at both ends of its input.

    Each of its operations is monotonic, in float32 as well, so all other codes lie between. Infinite ends are replaced by the
    largest finite ones, which are inputs that can be given. None where the stage gives no number at an end.
    """
    dtype = program.tensors[stage.input].dtype
    largest = np.finfo(dtype.str).max if dtype.kind == "f" else np.inf
    ends = []
    for end in (source.lower, source.upper):
        values = {stage.input: np.clip(end, -largest, largest).astype(dtype)}
        for node in stage.nodes:
            values.update({name: program.constants[name] for name in node.inputs if name in program.constants})
            with np.errstate(over="ignore", invalid="ignore"):
                (values[node.outputs[0]],) = evaluate_node(node, values, program.opset)
        ends.append(values[stage.output])
    if any(np.isnan(end).any() for end in ends):
        return None
    return Interval(np.minimum(*ends).astype(np.int64), np.maximum(*ends).astype(np.int64))


def permutes_elements(program: Program, step: HostOperation) -> bool:
    """True when each element of the result is another element of the first input, unchanged."""
    return step.operator in _PERMUTES and _rest_is_constant(program, step)


def host_intervals(program: Program, step: HostOperation, tensors: Mapping[str, Interval]) -> dict[str, Interval]:
    """The intervals of a host operation's results: those declared, unless the operator is known to be monotonic."""
    declared = {name: declared_interval(program.tensors[name]) for name in step.tensors}
    operands = [
        Interval(program.constants[name], program.constants[name]) if name in program.constants else tensors[name]
        for name in step.node.inputs
        if name
    ]
    if any(not np.isfinite(np.asarray(part, np.float64)).all() for one in operands for part in (one.lower, one.upper)):
        return declared
    ends = _candidates(program, step, operands)
    if ends is None:
        return declared
    results = [_evaluate(program, step, list(values)) for values in ends]
    found = dict(declared)
    for position, name in enumerate(step.tensors[: None if step.operator == "Split" else 1]):
        stacked = np.stack([result[position].astype(np.float64) for result in results])
        if np.isnan(stacked).any():
            return declared
        lower, upper = stacked.min(axis=0), stacked.max(axis=0)
        exact = declared[name].lower.dtype == np.int64
        found[name] = Interval(lower.astype(np.int64), upper.astype(np.int64)) if exact else Interval(lower, upper)
    return found


def _rest_is_constant(program: Program, step: HostOperation) -> bool:
    return all(name in program.constants for name in step.node.inputs[1:] if name)


def _candidates(program: Program, step: HostOperation, operands: list[Interval]) -> list[tuple[Array, ...]] | None:
    """Operand values among which an operator takes its smallest and largest result, element by element."""
    operator = step.operator
    if operator in _ARITHMETIC and program.tensors[step.tensors[0]].dtype.kind != "f":
        return None
    if operator == "Neg":
        return [(operands[0].lower,), (operands[0].upper,)]
    if operator in ("Sub", "Mul") and len(operands) == 2:
        first, second = operands
        return [(a, b) for a in (first.lower, first.upper) for b in (second.lower, second.upper)]
    moves = operator in _MOVES_FIRST_INPUT and _rest_is_constant(program, step)
    # interpolation by cubics has negative weights
    interpolates = operator == "Resize" and step.node.text("mode", "nearest") != "cubic" and _rest_is_constant(program, step)
    if (
        operator in _SAME_DIRECTION
        or moves
        or interpolates
        or (operator == "Cast" and _casts_in_order(program, step, operands))
    ):
        return [tuple(part.lower for part in operands), tuple(part.upper for part in operands)]
    return None


def _casts_in_order(program: Program, step: HostOperation, operands: list[Interval]) -> bool:
    """Conversions to integers wrap around, and everything but 0 is true: only ranges that fit keep their order."""
    dtype = program.tensors[step.tensors[0]].dtype
    lower, upper = operands[0].hull
    if dtype.kind == "b":
        return lower >= 0
    return dtype.kind == "f" or bool(np.iinfo(dtype.str).min <= lower and upper <= np.iinfo(dtype.str).max)


def _evaluate(program: Program, step: HostOperation, operands: list[Array]) -> tuple[Array, ...]:
    names = [name for name in step.node.inputs if name]
    values = {}
    for name, operand in zip(names, operands, strict=True):
        dtype = program.constants[name].dtype if name in program.constants else program.tensors[name].dtype
        values[name] = operand.astype(dtype)
    return evaluate_node(step.node, values, program.opset)
