"""Which way each input has to move so that chosen accumulators rise: goals followed back through the layers.

A direction at an accumulator is carried to the layer's inputs by the transposed sum of products, on through the requantization
of the layer before, and so on to the model's inputs. What a clip holds fast passes weakened, not blocked: a value beyond a rail
has to be moved before it shows. All numbers are small integers in float64, so the result is exact, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.kernels.geometry import tap_slices
from npusim.program import (
    Accumulating,
    Add,
    AveragePool,
    Clip,
    Convolution,
    FullyConnected,
    HostOperation,
    IntegerLayer,
    MaxPool,
    Program,
    QuantizeStage,
    TransposedConvolution,
    Window,
)
from npusim.program.accumulation import unknown_kind

__all__ = ["Directions", "back_project"]

Directions: TypeAlias = npt.NDArray[np.float64]
"""Whole numbers, positive where a value is to rise; samples on the first axis."""

Index: TypeAlias = tuple[slice | EllipsisType, ...]
"""Spatial positions, in every sample and channel."""

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
    if isinstance(layer, MaxPool):
        return [] if directions is None else [(layer.inputs[0], _to_largest(layer, tensors, directions))]
    if not isinstance(layer, Accumulating):
        raise unknown_kind(layer)
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
    return [*passed, *_to_inputs(layer, _moderate(total))]


def _movable(directions: Directions, codes: Array, clip: Clip) -> Directions:
    values = codes.astype(np.int64)
    held = (values <= clip.lower) | (values >= clip.upper)
    return directions * np.where(held, HELD, 1.0)


def _to_inputs(layer: Accumulating, directions: Directions) -> list[tuple[str, Directions]]:
    """From the accumulator to the inputs: the transposed sum of products."""
    source = layer.inputs[0]
    match layer:
        case Add():
            return [(name, directions) for name in layer.inputs]
        case FullyConnected():
            return [(source, directions @ layer.weights.astype(np.float64).T)]
        case AveragePool(window=window):
            channels = layer.input_shape[1]
            ones = np.ones((channels, 1, *window.kernel_shape))
            counts = _window_counts(layer, window)
            return [(source, _spread(directions.reshape(-1, channels, *counts), ones, window, channels, layer.input_shape))]
        case TransposedConvolution(window=window):
            weights = layer.weights.astype(np.float64)
            return [(source, _gathered(directions, weights, window, layer.group, layer.input_shape))]
        case Convolution(window=window):
            weights = layer.weights.astype(np.float64)
            return [(source, _spread(directions, weights, window, layer.group, layer.input_shape))]
        case _:
            raise unknown_kind(layer)


def _window_counts(layer: IntegerLayer, window: Window) -> list[int]:
    rank = len(window.kernel_shape)
    ends = zip(layer.input_shape[2:], window.pads[:rank], window.pads[rank:], window.kernel_shape, window.strides, strict=True)
    return [(size + begin + end - kernel) // stride + 1 for size, begin, end, kernel, stride in ends]


def _regions(window: Window, counts: Sequence[int]) -> list[Index]:
    """For each tap the padded positions that it reads, window by window."""
    dilations = window.dilations or (1,) * len(window.kernel_shape)
    taps = tap_slices(counts, kernel_shape=window.kernel_shape, strides=window.strides, dilations=dilations)
    return [(..., *tap) for tap in taps]


def _inside(window: Window, sizes: Sequence[int]) -> Index:
    """The padded positions that hold data."""
    return (..., *(slice(begin, begin + size) for begin, size in zip(window.pads, sizes, strict=False)))


def _extents(window: Window, counts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Sizes that hold both the padded data and every tap of every window."""
    begins, dilations = window.pads[: len(sizes)], window.dilations or (1,) * len(sizes)
    parts = zip(begins, sizes, counts, window.kernel_shape, window.strides, dilations, strict=True)
    return [
        max(begin + size, (count - 1) * stride + (kernel - 1) * dilation + 1)
        for begin, size, count, kernel, stride, dilation in parts
    ]


def _spread(directions: Directions, weights: Directions, window: Window, group: int, input_shape: Sequence[int]) -> Directions:
    """Back through a convolution: each window's direction goes to the inputs that it reads."""
    samples, counts, sizes = len(directions), directions.shape[2:], input_shape[2:]
    grouped = directions.reshape(samples, group, -1, math.prod(counts))
    taps = weights.reshape(group, grouped.shape[2], weights.shape[1], -1).transpose(3, 0, 2, 1)
    full = np.zeros((samples, group, weights.shape[1], *_extents(window, counts, sizes)))
    for tap, region in zip(taps, _regions(window, counts), strict=True):
        product = tap * grouped if tap.shape[1:] == (1, 1) else tap @ grouped
        full[region] += product.reshape(samples, group, weights.shape[1], *counts)
    return full[_inside(window, sizes)].reshape(samples, *input_shape[1:])


def _gathered(
    directions: Directions, weights: Directions, window: Window, group: int, input_shape: Sequence[int]
) -> Directions:
    """Back through a transposed convolution: each input collects what it was spread to."""
    samples, sizes, counts = len(directions), directions.shape[2:], input_shape[2:]
    full = np.zeros((samples, directions.shape[1], *_extents(window, counts, sizes)))
    full[_inside(window, sizes)] = directions
    taps = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1).transpose(3, 0, 1, 2)
    found = np.zeros((samples, group, weights.shape[0] // group, math.prod(counts)))
    for tap, region in zip(taps, _regions(window, counts), strict=True):
        found += tap @ full[region].reshape(samples, group, weights.shape[1], -1)
    return found.reshape(samples, *input_shape[1:])


def _to_largest(layer: MaxPool, tensors: Mapping[str, Array], directions: Directions) -> Directions:
    """Back through a maximum pool: to the elements that are the largest of their window."""
    window, sizes = layer.window, layer.input_shape[2:]
    counts, inside = directions.shape[2:], _inside(window, sizes)
    full = np.full((*directions.shape[:2], *_extents(window, counts, sizes)), -np.inf)
    full[inside] = tensors[layer.inputs[0]]
    passed = np.zeros_like(full)
    for region in _regions(window, counts):
        passed[region] += directions * (full[region] == tensors[layer.output])
    return np.asarray(passed[inside])


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
