"""Which way each input has to move so that chosen accumulators rise: goals followed back through the layers.

A direction at an accumulator is carried to the layer's inputs by the transposed sum of products, on through the requantization
of the layer before, and so on to the model's inputs. What a clip holds fast passes weakened, not blocked: a value beyond a rail
has to be moved before it shows. All numbers are small integers in float64, so the result is exact, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.program import Accumulating, Clip, Direct, HostOperation, IntegerLayer, Program, QuantizeStage
from npusim.program.transposed_sums import back_to_inputs, back_to_largest

__all__ = ["Directions", "back_project"]

Directions: TypeAlias = npt.NDArray[np.float64]
"""Whole numbers, positive where a value is to rise; samples on the first axis."""

LARGEST: Final = 2.0**12
"""Directions are kept below this, so that sums of products with weights stay whole numbers below 2**53."""

HELD: Final = 0.125
"""How much of a direction passes a clip that holds the value."""


def back_project(program: Program, tensors: Mapping[str, Array], wanted: Mapping[str, Directions]) -> dict[str, Directions]:
    """Directions of the model's inputs.

    Parameters
    ----------
    program
        The program.
    tensors
        Codes of all its integer layers, and of the inputs of its maximum pools, for the samples to start from.
    wanted
        By layer: which accumulators are to rise (positive) and which to fall, in the shape of the accumulator.

    Returns
    -------
    dict
        By input: positive where its codes (its values, where no quantize stage reads it) have to rise. Inputs on which nothing
        wanted depends, as far as can be told, are missing.
    """
    found: dict[str, Directions] = {}
    for step in reversed(program.steps):
        passed: Sequence[tuple[str, Directions]] = ()
        if isinstance(step, IntegerLayer):
            passed = _through_layer(step, tensors, found.pop(step.output, None), wanted.get(step.name))
        elif step.tensors[-1] in found and isinstance(step, QuantizeStage):
            passed = [(step.input, found.pop(step.output) * np.sign(step.multiplier))]
        elif step.tensors[0] in found and isinstance(step, HostOperation):
            passed = _through_operation(program, step, found.pop(step.tensors[0]))
        for name, directions in passed:
            found[name] = _moderate(found[name] + directions if name in found else directions)
    for stage in program.quantize_stages:
        if stage.input in found and stage.input in program.inputs:
            found[stage.input] = found[stage.input] * np.sign(stage.multiplier)
    return {name: found[name] for name in program.inputs if name in found}


def _moderate(directions: Directions) -> Directions:
    """Each sample's directions divided by a power of two and rounded, so that the largest stays below the limit."""
    axes = tuple(range(1, directions.ndim))
    exponents = np.frexp(np.abs(directions).max(axis=axes, initial=0, keepdims=True))[1]
    return np.asarray(np.rint(np.ldexp(directions, int(math.log2(LARGEST)) - exponents)))


def _through_layer(
    layer: IntegerLayer, tensors: Mapping[str, Array], directions: Directions | None, wanted: Directions | None
) -> list[tuple[str, Directions]]:
    if isinstance(layer, Direct):
        # mostly rising functions, element by element; of others nothing is known
        if directions is None or layer.input_shape != layer.output_shape:
            return []
        return [(name, directions) for name in layer.inputs]
    if not isinstance(layer, Accumulating):
        return [] if directions is None else [(layer.inputs[0], back_to_largest(layer, tensors, directions))]
    passed: list[tuple[str, Directions]] = []
    total = np.zeros((1, *layer.accumulator_shape[1:]))
    if directions is not None:
        movable = _movable(directions, tensors[layer.output], layer.output_clip)
        if layer.residual is not None:
            passed.append((layer.residual, movable))
        factor = layer.by_channel(layer.requantization.whole_gain)
        total = total + _moderate(np.asarray(movable.reshape(-1, *layer.accumulator_shape[1:]) * factor))
    if wanted is not None:
        total = total + wanted * LARGEST
    if not total.any():
        return passed
    return [*passed, *back_to_inputs(layer, _moderate(total))]


def _movable(directions: Directions, codes: Array, clip: Clip) -> Directions:
    values = codes.astype(np.int64)
    held = (values <= clip.lower) | (values >= clip.upper)
    return directions * np.where(held, HELD, 1.0)


def _through_operation(program: Program, step: HostOperation, directions: Directions) -> list[tuple[str, Directions]]:
    """Back through what the host computes, as far as it moves or combines values one by one; elsewhere the way ends."""
    sources = [name for name in step.node.inputs if name and name not in program.constants]
    if is_a(step.operator, Trait.RESHAPES):
        return [(sources[0], directions.reshape(-1, *program.tensors[sources[0]].shape[1:]))]
    if traits_of(step.operator).samples is SampleAxis.PERMUTED:
        order = step.node.integers("perm") or tuple(reversed(range(directions.ndim)))
        return [(sources[0], directions.transpose(np.argsort(order)))] if order[0] == 0 else []
    if is_a(step.operator, Trait.JOINS):
        axis = step.node.integer("axis", 0) % directions.ndim
        ends = np.cumsum([program.tensors[name].shape[axis] for name in sources])[:-1]
        complete = len(sources) == len([name for name in step.node.inputs if name]) and axis > 0
        return list(zip(sources, np.split(directions, ends, axis=axis), strict=True)) if complete else []
    same = [name for name in sources if program.tensors[name].shape[1:] == directions.shape[1:]]
    if is_a(step.operator, Trait.PRODUCT) and len(sources) == 1 == len(same):
        factor = next(program.constants[name] for name in step.node.inputs if name in program.constants)
        return [(same[0], directions * np.sign(factor.astype(np.float64)))]
    if not is_a(step.operator, Trait.ELEMENTWISE):
        return []
    signs = {name: traits_of(step.operator).direction(place) for place, name in reversed(list(enumerate(step.node.inputs)))}
    # functions that are not monotone everywhere, as the activations are, mostly rise
    rising = is_a(step.operator, Trait.ACTIVATION, Trait.LIMITS)
    return [(name, directions * (sign or 1)) for name in same if (sign := signs[name]) or rising]
