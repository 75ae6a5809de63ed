"""Proof that a repaired program computes what the original one does, for every input.

The claim, step by step in execution order: the first channels of each tensor of the repaired program are the tensor of that
name of the original one. Further channels exist, but no weight reads them. The proof looks at the two programs only, not at
how the repair was made.
"""

from __future__ import annotations

import numpy as np

from npusim.graph import Array, Node
from npusim.graph.rounding_limits import is_free
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.program import (
    Accumulating,
    Clip,
    HostOperation,
    IntegerLayer,
    LayerKind,
    Program,
    QuantizeStage,
    Step,
    Weighted,
    geometry_of,
)
from npusim.program.intervals import RangeAnalysis

__all__ = ["clips_alike", "difference"]


def difference(old: Program, new: Program, ranges: RangeAnalysis) -> str | None:
    """Why two programs are not proven to give the same outputs; None where they are.

    Parameters
    ----------
    old, new
        The original and the repaired program.
    ranges
        Intervals of the original one.
    """
    if old.inputs != new.inputs or old.outputs != new.outputs:
        return "inputs or outputs have other names"
    for name in (*old.inputs, *old.outputs):
        if name not in old.tensors or name not in new.tensors or old.tensors[name].shape != new.tensors[name].shape:
            return f"'{name}' has another shape"
    made = {step.tensors[-1]: step for step in new.steps}
    padded = {
        step.tensors[0]: step.node.inputs[0]
        for step in new.steps
        if isinstance(step, HostOperation) and _appends_channels(step, new)
    }
    for step in old.steps:
        other = made.get(step.tensors[-1])
        if other is None or type(other) is not type(step):
            return f"nothing of its kind makes '{step.tensors[-1]}'"
        mine, theirs = old.inputs_of(step), new.inputs_of(other)
        if len(mine) != len(theirs) or any(
            two != one and padded.get(two) != one for one, two in zip(mine, theirs, strict=True)
        ):
            return f"'{step.name}' reads other tensors"
        reason = _step_difference(step, other, old, new, ranges)
        if reason is not None:
            return f"'{step.name}': {reason}"
    added = sum(name not in old.tensors for name in padded)
    if len(new.steps) != len(old.steps) + added:
        return "there are other steps"
    return None


def _appends_channels(step: HostOperation, program: Program) -> bool:
    """A Pad that appends zeros behind the last channel and does nothing else."""
    if traits_of(step.operator).samples is not SampleAxis.PADDED or len(step.node.inputs) != 2:
        return False
    amounts = program.constants.get(step.node.inputs[1])
    if amounts is None or step.node.text("mode", "constant") != "constant":
        return False
    rank = len(program.tensors[step.tensors[0]].shape)
    ends = [int(amount) for amount in amounts.reshape(-1)]
    return len(ends) == 2 * rank and all(amount == 0 or (place == rank + 1 and amount > 0) for place, amount in enumerate(ends))


def _step_difference(step: Step, other: Step, old: Program, new: Program, ranges: RangeAnalysis) -> str | None:
    if isinstance(step, IntegerLayer) and isinstance(other, IntegerLayer):
        return _layer_difference(step, other, ranges)
    if isinstance(step, QuantizeStage) and isinstance(other, QuantizeStage):
        same = len(step.nodes) == len(other.nodes) and all(
            _same_node(one, two, old, new) for one, two in zip(step.nodes, other.nodes, strict=True)
        )
        return None if same else "its nodes differ"
    if isinstance(step, HostOperation) and isinstance(other, HostOperation):
        return _host_difference(step, other, old, new)
    return "it is of another kind"


def _layer_difference(layer: IntegerLayer, other: IntegerLayer, ranges: RangeAnalysis) -> str | None:
    if geometry_of(layer)[0] != geometry_of(other)[0] or isinstance(layer, Accumulating) is not isinstance(other, Accumulating):
        return "its geometry differs"
    if not isinstance(layer, Accumulating) or not isinstance(other, Accumulating):
        return None
    if _inner_clip(layer) != _inner_clip(other) or layer.channel_axis != other.channel_axis:
        return "its geometry differs"
    if isinstance(layer, Weighted) and isinstance(other, Weighted):
        reason = _weights_difference(layer, other)
        if reason is not None:
            return reason
    elif isinstance(layer, Weighted) is not isinstance(other, Weighted):
        return "one has weights"
    one, two = layer.requantization, other.requantization
    if type(one) is not type(two) or not all(
        _starts_with(two.parameters.get(name, values[:0]), values) for name, values in one.parameters.items()
    ):
        return "its bias, scale or shift differ"
    return None if _same_clip(layer, other, ranges) else "its saturation differs"


def _inner_clip(layer: Accumulating) -> Clip | None:
    return None if layer.residual is None else layer.requantization.clip


def _weights_difference(layer: Weighted, other: Weighted) -> str | None:
    """Old weights stand first; what old outputs read of new inputs is zero."""
    old, new = layer.weights, other.weights
    if old.ndim != new.ndim or old.shape[2:] != new.shape[2:]:
        return "its weights have another shape"
    group, others = geometry_of(layer)[1], geometry_of(other)[1]
    if group == others and np.array_equal(old, new):
        return None
    outputs, inputs = (1, 0) if layer.kind in (LayerKind.TCONV, LayerKind.FC) else (0, 1)
    if any(mine > theirs for mine, theirs in zip(old.shape, new.shape, strict=True)):
        return "it has fewer channels"
    if layer.kind is LayerKind.DWCONV:
        if other.kind is not LayerKind.DWCONV or others != new.shape[0] or old.shape[1] != new.shape[1]:
            return "it is not depthwise any more"
    elif group != others or (group != 1 and old.shape != new.shape):
        return "its groups differ"
    kept = np.take(new, range(old.shape[outputs]), axis=outputs)
    if not np.array_equal(np.take(kept, range(old.shape[inputs]), axis=inputs), old):
        return "its weights differ"
    added = np.take(kept, range(old.shape[inputs], new.shape[inputs]), axis=inputs)
    return "it weighs added channels" if added.any() else None


def _same_clip(layer: Accumulating, other: Accumulating, ranges: RangeAnalysis) -> bool:
    one, two = layer.output_clip, other.output_clip
    if one == two:
        return True
    if layer.residual is not None or layer.name not in ranges.layers:
        return False
    reached = ranges.layers[layer.name].floored
    lower, upper = int(reached.lower.min()), int(reached.upper.max())
    return clips_alike(one, two, lower, upper)


def clips_alike(one: Clip, two: Clip, lower: int, upper: int) -> bool:
    """Whether two saturations agree on [lower, upper]: each end is the same, or is not reached."""
    return (one.lower == two.lower or lower >= max(one.lower, two.lower)) and (
        one.upper == two.upper or upper <= min(one.upper, two.upper)
    )


def _host_difference(step: HostOperation, other: HostOperation, old: Program, new: Program) -> str | None:
    if not _same_node(step.node, other.node, old, new):
        return "it is another operation, or has other constants"
    names = [*step.tensors, *(name for name in old.inputs_of(step) if name in new.inputs_of(other))]
    if all(old.tensors[name].shape == new.tensors[name].shape for name in names):
        return None
    if is_free(step.node):
        return "it sums floats, whose order may change"
    return None if _keeps_channels(step, old) else "it does not keep added channels apart"


def _keeps_channels(step: HostOperation, program: Program) -> bool:
    """Whether the first channels of a result follow from the first channels of the operands, and the others stay finite."""
    if is_a(step.operator, Trait.RESHAPES) and not is_a(step.operator, Trait.RENAMES):
        source, made = (program.tensors[name].shape for name in (step.node.inputs[0], step.tensors[0]))
        return source[0] == 1 and len(made) == 2 and made[0] == 1
    # operations that take channels one by one and make no infinity of finite numbers as small as codes
    if is_a(step.operator, Trait.QUOTIENT):
        return step.node.inputs[1] in program.constants
    exact = Trait.SUM, Trait.DIFFERENCE, Trait.PRODUCT, Trait.ROUNDS, Trait.LIMITS, Trait.RENAMES
    return is_a(step.operator, *exact) or (is_a(step.operator, Trait.MAXIMUM) and is_a(step.operator, Trait.WINDOWED))


def _same_node(one: Node, two: Node, old: Program, new: Program) -> bool:
    """The same operator with the same attributes and constants, further channels of constants aside."""
    if one.op_type != two.op_type or len(one.inputs) != len(two.inputs) or set(one.attributes) != set(two.attributes):
        return False
    if any(not np.array_equal(one.attributes[name], two.attributes[name]) for name in one.attributes):
        return False
    for mine, theirs in zip(one.inputs, two.inputs, strict=True):
        if (mine in old.constants) != (theirs in new.constants):
            return False
        if mine in old.constants and not is_a(one.op_type, Trait.RESHAPES):
            value, changed = old.constants[mine], new.constants[theirs]
            if value.ndim != changed.ndim or not _starts_with(changed, value):
                return False
    return True


def _starts_with(values: Array, start: Array) -> bool:
    if any(mine > theirs for mine, theirs in zip(start.shape, values.shape, strict=True)):
        return False
    return np.array_equal(values[tuple(slice(size) for size in start.shape)], start)
