"""Tensors whose codes have another scale in each channel, which the weights of the layers that read them give away.

A quantizer may give each output channel its own scale and make up for it in the weights of the next layer: these are then
proportional to ``W[o, c] * t[c]`` instead of ``W[o, c]``, with ``t[c]`` the scale of input channel ``c``. The scales that a
producer implies, ``s_in * s_w * 2**shift / scale``, are followed through everything that keeps channels apart (pools, sums,
data movers, depthwise layers; an average pool's gain divides them) up to a layer that mixes channels. Where its integer
weights fit ``W[o, c] * t[c]`` far better than ``W[o, c]``, all tensors on the way have one scale for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.comparison.alignment.weights import channel_scale, overall_cosine, stage_parameters, weights_of
from npusim.comparison.layer_result import LayerPair, LayerScales, channel_axis
from npusim.comparison.sums import FloatArray
from npusim.errors import NpusimError
from npusim.floats import FloatGraph, LinearOperation
from npusim.graph import Array
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import Trait, is_a
from npusim.program import (
    Accumulating,
    HostOperation,
    IntegerLayer,
    Program,
    QuantizeStage,
    Step,
    geometry_of,
    weight_bits_of,
)

__all__ = [
    "ChannelScales",
    "channels_behind",
    "find_channel_scales",
    "input_columns",
    "known_scales",
    "middle_scale",
    "stage_by_channel",
]

MIXING: Final = 0.01
"""Share of the energy of a matrix beside its diagonal from which on it mixes channels."""

SPREAD: Final = 0.05
"""Relative difference of the scales of two channels from which on they can count as different."""

IMPROVEMENT: Final = {8: 4.0, 4: 1.75, 2: 1.5}
"""Factor by which the energy that the weights leave unexplained must fall, by weight bits; few bits leave more of it."""

GOOD_FIT: Final = {8: 0.98, 4: 0.9, 2: 0.6}
"""Cosine of the weights, input scales taken in, that a confirmation needs, by weight bits."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelScales:
    """Which steps produce codes of one scale per channel.

    Attributes
    ----------
    steps
        Their names.
    columns
        Of layers with weights that read such codes, by name: the scale of the input channel of each weight, up to a common
        factor, ``[outputs, values]``.
    """

    steps: frozenset[str]
    columns: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Flow:
    """Scales of the channels of a tensor, and the steps since the last layer that mixed channels."""

    channels: FloatArray
    steps: frozenset[str]


def find_channel_scales(
    pairs: Sequence[LayerPair], linear: Mapping[str, LinearOperation], quantized: Program, graph: FloatGraph
) -> ChannelScales:
    """Follow the scales of channels through a program.

    Parameters
    ----------
    pairs
        Paired steps in execution order.
    linear
        The float operations of those with weights.
    quantized, graph
        The quantized program and the float model.
    """
    steps = {step.name: step for step in quantized.steps}
    flows = {name: _Flow(np.ones(1), frozenset()) for name in quantized.inputs}
    confirmed: set[str] = set()
    columns: dict[str, FloatArray] = {}
    for pair in pairs:
        step, operation = steps[pair.step], linear.get(pair.step)
        inputs = [flows[name] for name in quantized.inputs_of(step)]
        scales = [one.channels for one in inputs]
        carried = frozenset().union(*(one.steps for one in inputs))
        if operation is not None:
            mixes = _mixes(step, quantized)
            found = _confirmed_columns(step, operation, scales[0], quantized) if mixes else None
            if found is not None:
                confirmed |= inputs[0].steps
                columns[step.name] = found
            if mixes:
                carried = frozenset()
                scales[0] = scales[0] if found is not None else np.full(1, middle_scale(scales[0]))
        channels = channels_behind(step, pair, operation, scales, quantized, graph)
        known = np.full(1, middle_scale(scales[0])) if channels is None else channels
        flows[pair.tensor] = _Flow(known, frozenset() if channels is None else carried | {step.name})
    return ChannelScales(frozenset(confirmed), columns)


def channels_behind(
    step: Step,
    pair: LayerPair,
    linear: LinearOperation | None,
    inputs: Sequence[FloatArray],
    quantized: Program,
    graph: FloatGraph,
) -> FloatArray | None:
    """Scales of the channels that a step produces from those that it reads.

    Parameters
    ----------
    step, pair, linear
        The step, what it means, the float operation of one with weights.
    inputs
        Scales of the channels of what it reads; of size 1 where all have one.
    quantized, graph
        The quantized program and the float model.

    Returns
    -------
    float64 [channels] or None
        None where channels are not kept apart, or real values are produced.
    """
    if isinstance(step, QuantizeStage):
        return known_scales(inputs[0] * stage_by_channel(step, pair, graph)[0]) if inputs[0].size == 1 else None
    if linear is not None:
        return _behind_weights(step, linear, inputs[0], quantized)
    if isinstance(step, HostOperation):
        return _behind_host(step, inputs, quantized)
    if not isinstance(step, Accumulating):
        return inputs[0]
    factor = 1 / step.requantization.gain
    if step.mean_of is not None:
        factor = factor / float(step.mean_of)
    sizes = {one.size for one in (*inputs, factor)} - {1}
    return known_scales(np.mean(np.broadcast_arrays(*inputs), axis=0) * factor) if len(sizes) <= 1 else None


def input_columns(step: Step, shape: tuple[int, ...], channels: FloatArray) -> FloatArray | None:
    """The scale of the input channel of each weight, in the order of `LinearOperation`; None where they do not fit.

    Parameters
    ----------
    step
        A step with weights.
    shape
        ``[outputs, values]``.
    channels
        Scales of its input's channels; of size 1 where all have one.

    Examples
    --------
    >>> input_columns(layer, (2, 4), np.array([1.0, 0.5]))  # doctest: +SKIP
    array([[1. , 1. , 0.5, 0.5],
           [1. , 1. , 0.5, 0.5]])
    """
    outputs, values = shape
    if channels.size == 1:
        return np.broadcast_to(channels, shape)
    group = _group(step)
    each, rest = divmod(channels.size, group)
    if rest or each == 0 or values % each or outputs % group:
        return None
    rows = np.repeat(channels.reshape(group, each), values // each, axis=1)
    result: FloatArray = np.repeat(rows, outputs // group, axis=0)
    return result


def stage_by_channel(stage: QuantizeStage, pair: LayerPair, graph: FloatGraph) -> tuple[FloatArray, float]:
    """One LSB of each channel that a quantize stage gives, in units of what it reads, and the code of 0."""
    affine = graph.affine_of(pair.float_nodes)
    if affine is None:
        multiplier, offset = stage_parameters(stage, max(stage.multiplier.size, stage.offset.size))
        gain, zero = np.ones(len(multiplier)), float(np.median(offset * multiplier))
    else:
        multiplier, _ = stage_parameters(stage, len(affine.gain))
        gain, zero = affine.gain, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return gain / multiplier, zero


def known_scales(channels: FloatArray) -> FloatArray:
    """Scales with the median in place of those that cannot be known, of channels without weights.

    Examples
    --------
    >>> known_scales(np.array([0.5, np.nan, 0.25]))
    array([0.5  , 0.375, 0.25 ])
    """
    result: FloatArray = np.where(np.isfinite(channels) & (channels > 0), channels, middle_scale(channels))
    return result


def middle_scale(values: FloatArray) -> float:
    """Median of the positive finite values; 1 where there are none."""
    known = values[np.isfinite(values) & (values > 0)]
    return float(np.median(known)) if known.size else 1.0


def _confirmed_columns(step: Step, linear: LinearOperation, channels: FloatArray, quantized: Program) -> FloatArray | None:
    """The input scale of each weight, where these are made for one scale per channel; None where one scale will do."""
    weights = weights_of(step, quantized)
    if weights is None or channels.size == 1 or channels.max() <= (1 + SPREAD) * channels.min():
        return None
    columns = input_columns(step, weights.shape, channels)
    if columns is None:
        return None
    plain, scaled = overall_cosine(weights, linear.weights), overall_cosine(weights, linear.weights * columns)
    bits = weight_bits_of(step)
    known = bits if bits in GOOD_FIT else 8
    better = 1 - plain**2 >= IMPROVEMENT[known] * (1 - scaled**2)
    return columns if better and scaled >= GOOD_FIT[known] else None


def _behind_weights(step: Step, linear: LinearOperation, channels: FloatArray, quantized: Program) -> FloatArray | None:
    weights = weights_of(step, quantized)
    columns = input_columns(step, linear.weights.shape, channels)
    if weights is None or columns is None or not isinstance(step, Accumulating):
        return None
    return known_scales(channel_scale(weights, linear.weights * columns) / step.requantization.gain)


def _behind_host(step: HostOperation, inputs: Sequence[FloatArray], quantized: Program) -> FloatArray | None:
    if is_a(step.operator, Trait.ROUNDS, Trait.CONVERTS, Trait.LIMITS, Trait.INTERPOLATES) or _pools_maxima(step):
        return inputs[0]
    names = quantized.inputs_of(step)
    if not is_a(step.operator, Trait.MOVES) or len(step.tensors) != 1:
        return None
    values: dict[str, Array] = {name: quantized.constants[name] for name in step.node.inputs if name in quantized.constants}
    for name, channels in zip(names, inputs, strict=True):
        shape = quantized.tensors[name].shape
        values[name] = np.broadcast_to(LayerScales(1.0, channels=channels).over(shape), shape)
    try:
        (moved,) = evaluate_node(step.node, values, quantized.opset)
    except NpusimError:
        return None
    return _along_one_axis(np.asarray(moved, np.float64))


def _along_one_axis(moved: FloatArray) -> FloatArray | None:
    """The scales along the axis that alone they depend on; None where there is none, or it is not where channels are."""
    found: dict[float, FloatArray] = {}
    for axis in range(1, moved.ndim):
        rows = np.moveaxis(moved, axis, -1).reshape(-1, moved.shape[axis])
        middle = np.median(rows, axis=0)
        if axis == channel_axis(moved.shape, moved.shape[axis]):
            found.setdefault(float(np.abs(rows / middle - 1).max()), middle)
    least = min(found, default=np.inf)
    return found[least] if least <= SPREAD else None


def _mixes(step: Step, quantized: Program) -> bool:
    """Whether a layer with weights adds up several input channels: one with a diagonal matrix does not, nor a depthwise one."""
    channels = quantized.tensors[quantized.inputs_of(step)[0]].shape[1]
    if 1 < channels == _group(step):
        return False
    weights = weights_of(step, quantized)
    if weights is None or weights.shape != (channels, channels):
        return True
    own, energy = float((weights.diagonal() ** 2).sum()), float((weights**2).sum())
    # rounding makes good at other channels what it takes from one
    return energy - own > MIXING * energy


def _group(step: Step) -> int:
    if isinstance(step, IntegerLayer):
        return geometry_of(step)[1]
    return step.node.integer("group", 1) if isinstance(step, HostOperation) else 1


def _pools_maxima(step: HostOperation) -> bool:
    return is_a(step.operator, Trait.MAXIMUM) and not is_a(step.operator, Trait.REDUCES)
