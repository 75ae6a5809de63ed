"""Scales of codes: what saturation and coarse steps lose, and which tensors must have the same scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.floats.forward import apply_node
from npusim.floats.network import WEIGHTED, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.program import Clip

__all__ = [
    "MAKERS",
    "ChannelValues",
    "ScaleGroups",
    "Tail",
    "channel_scale",
    "choose_scale",
    "choose_shared_scale",
    "coding_error",
    "derive_scale",
    "full_scale",
    "group_scales",
    "sample_channels",
]

VALUES: Final = 4096
"""At most so many values of a channel decide its scale."""

RATIOS: Final = tuple(2.0 ** (part / 8) for part in range(8, -17, -1))
"""Scales that are tried, as parts of the smallest one that saturates no value seen."""

TAIL_PART: Final = 0.01
TAIL_VALUES: Final = (4, 6)
"""The tail is estimated from this part of the values, at least and at most so many."""


@dataclass(frozen=True, slots=True)
class Tail:
    """An exponential tail, each [C]: `part` of the values lie beyond `start`, on average by `decay`."""

    part: float
    start: FloatArray
    decay: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> Tail:
        """The upper tail of each row of values, [C, n]."""
        count = values.shape[1]
        largest = int(np.clip(TAIL_PART * count, min(TAIL_VALUES[0], count), TAIL_VALUES[1]))
        tail = np.partition(values, count - largest, axis=1)[:, count - largest :]
        start = np.maximum(tail.min(axis=1), 0.0)
        return cls(largest / count, start, np.maximum(tail - start[:, np.newaxis], 0.0).mean(axis=1))

    def excess(self, limit: FloatArray) -> FloatArray:
        """Mean squared excess over a limit, [C]."""
        with np.errstate(over="ignore"):  # no tail at all: an infinite distance is none that counts
            distance = np.maximum(limit - self.start, 0.0) / np.maximum(self.decay, 1e-300)
        expected: FloatArray = self.part * 2 * np.square(self.decay) * np.exp(-np.minimum(distance, 700.0))
        return expected


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """Values of each channel of a tensor.

    Attributes
    ----------
    values
        float64 [C, n].
    above, below
        Their upper tails, and the upper tails of their negatives.
    """

    values: FloatArray
    above: Tail
    below: Tail

    @classmethod
    def of(cls, values: FloatArray) -> ChannelValues:
        """From values [C, n]."""
        return cls(values, Tail.of(values), Tail.of(-values))

    def together(self) -> ChannelValues:
        """All channels as one."""
        return ChannelValues.of(self.values.reshape(1, -1))


def sample_channels(values: FloatArray) -> ChannelValues:
    """Values of each channel: all, or a part drawn with a fixed seed that keeps the extremes.

    Parameters
    ----------
    values
        [N, C, *spatial].
    """
    channels = np.ascontiguousarray(np.moveaxis(values, 1, 0)).reshape(values.shape[1], -1)
    if channels.shape[1] > VALUES:
        taken = np.random.default_rng(0).permutation(channels.shape[1])[: VALUES - 2]
        extremes = [channels.max(axis=1, keepdims=True), channels.min(axis=1, keepdims=True)]
        channels = np.concatenate([channels[:, taken], *extremes], axis=1)
    return ChannelValues.of(channels)


def full_scale(values: FloatArray, clip: Clip) -> FloatArray:
    """The smallest scale of each channel at which no value [C, n] saturates, [C]; 0 for a channel that is always zero.

    Examples
    --------
    >>> full_scale(np.array([[-64.0, 25.4]]), Clip(-128, 127))
    array([0.5])
    """
    upper = np.maximum(values.max(axis=1), 0.0) / clip.upper
    lower = np.maximum(-values.min(axis=1), 0.0) / -clip.lower if clip.lower < 0 else np.zeros(upper.shape)
    largest: FloatArray = np.maximum(upper, lower)
    return largest


def coding_error(channels: ChannelValues, scale: FloatArray, clip: Clip) -> FloatArray:
    """Expected squared error of ``scale * clip(round(value / scale))`` for each channel, [C]; `scale` is [C].

    Rounding is measured on the values. Saturation is what the values show or, where that is more, what an exponential tail
    like that of the largest values leads to: values yet to come go beyond those seen.
    """
    steps = channels.values / scale[:, np.newaxis]
    error = np.square(np.rint(steps) - steps).mean(axis=1) * np.square(scale)
    limit = (clip.upper + 0.5) * scale
    seen = np.square(np.maximum(channels.values - limit[:, np.newaxis], 0.0)).mean(axis=1)
    error = error + np.maximum(seen, channels.above.excess(limit))
    if clip.lower < 0:
        limit = (0.5 - clip.lower) * scale
        seen = np.square(np.maximum(-channels.values - limit[:, np.newaxis], 0.0)).mean(axis=1)
        error = error + np.maximum(seen, channels.below.excess(limit))
    result: FloatArray = error
    return result


def choose_scale(channels: ChannelValues, clip: Clip, *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel that loses least, for one tensor; see :func:`choose_shared_scale`."""
    return choose_shared_scale([(channels, clip)], uniform=uniform, largest=largest)


def choose_shared_scale(tensors: Sequence[tuple[ChannelValues, Clip]], *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel at which tensors that share it lose least.

    Parameters
    ----------
    tensors
        Values and range of the codes of each tensor.
    uniform
        One scale for all channels.
    largest
        No scale is larger than this.

    Returns
    -------
    ndarray
        float64 [C], positive. A channel that is always zero gets the largest scale of the others, or 1.
    """
    channels = tensors[0][0].values.shape[0]
    full = np.max([full_scale(part.values, clip) for part, clip in tensors], axis=0)
    if uniform:
        full = np.full(channels, full.max())
    start = np.minimum(np.where(full <= 0, full.max() if full.max() > 0 else 1.0, full), largest)
    best, least = start, np.full(channels, np.inf)
    for ratio in RATIOS:
        error = np.sum([coding_error(part, start * ratio, clip) for part, clip in tensors], axis=0)
        if uniform:
            error = np.full(channels, error.sum())
        better = (error < least) & (full > 0)
        best, least = np.where(better, start * ratio, best), np.where(better, error, least)
    return best


MAKERS = frozenset((*WEIGHTED, FloatKind.INPUT, FloatKind.AVERAGE_POOL, FloatKind.ADD))
"""Kinds of layers that make new codes, at a scale of their own."""


@dataclass(frozen=True, slots=True)
class ScaleGroups:
    """Groups of tensors made by layers.

    Attributes
    ----------
    group
        The number of each tensor's group.
    uniform
        Groups whose channels must all have the same scale: outputs of the model, and what moves mix with other channels.
    """

    group: Mapping[str, int]
    uniform: frozenset[int]

    def members(self, tensor: str) -> tuple[str, ...]:
        """All tensors of a tensor's group, in order of execution."""
        return tuple(name for name, number in self.group.items() if number == self.group[tensor])

    def is_uniform(self, tensor: str) -> bool:
        """Whether all channels of a tensor must have the same scale."""
        return self.group[tensor] in self.uniform


def group_scales(network: FloatNetwork) -> ScaleGroups:
    """Find the groups of a prepared network."""
    origins: dict[str, tuple[str, ...]] = {}
    group: dict[str, int] = {}
    tied: list[tuple[str, ...]] = []
    for layer in network.layers:
        if layer.kind in MAKERS:
            origins[layer.output], group[layer.output] = (layer.output,), len(group)
        elif layer.kind is not FloatKind.HOST:
            origins[layer.output] = tuple(dict.fromkeys(name for source in layer.inputs for name in origins[source]))
        if layer.kind is FloatKind.ADD:
            tied.append((layer.output, *origins[layer.inputs[0]], *origins[layer.inputs[1]]))
        elif layer.kind is FloatKind.CONCAT and layer.axis != 1:
            tied.append(tuple(name for source in layer.inputs for name in origins[source]))
    # an output of the model, or what moves mix, may come from several layers: these share one scale
    single = [origins[name] for name in (*network.outputs, *_mixed(network)) if name in origins]
    for names in (*tied, *single):
        joined = {group[name] for name in names}
        group = {name: min(joined) if number in joined else number for name, number in group.items()}
    return ScaleGroups(group, frozenset(group[name] for names in single for name in names))


def derive_scale(layer: FloatLayer, scales: Sequence[FloatArray], network: FloatNetwork) -> FloatArray:
    """The scale of what a MAX_POOL, MOVE or CONCAT gives, from the scales of its inputs.

    Parameters
    ----------
    layer
        The layer.
    scales
        Positive, each broadcastable to its tensor without the batch axis.
    network
        The layer's network.

    Returns
    -------
    ndarray
        float64 [C, 1, ...] where each channel has one scale, otherwise one for each value.
    """
    if layer.kind is FloatKind.MAX_POOL or (layer.kind is FloatKind.CONCAT and layer.axis != 1):
        return scales[0]
    if layer.kind is FloatKind.CONCAT:
        spatial = layer.output_shape[2:]
        if all(scale.shape[1:] == (1,) * len(spatial) for scale in scales):
            return np.concatenate(list(scales))
        return np.concatenate([np.broadcast_to(scale, (scale.shape[0], *spatial)) for scale in scales])
    full = np.broadcast_to(scales[0], layer.input_shape[1:])
    places = np.arange(1.0, full.size + 1).reshape(1, *full.shape)
    moved = apply_node(layer, [places], network)[0].astype(np.int64) - 1
    return _reduced(full.reshape(-1)[moved])


def channel_scale(scale: FloatArray) -> FloatArray:
    """One scale for each channel, [C]; `ValueError` where a channel has several."""
    if scale.size != scale.shape[0]:
        raise ValueError(f"scales of shape {scale.shape} differ within a channel")
    return scale.reshape(-1)


def _reduced(scale: FloatArray) -> FloatArray:
    first = scale.reshape(scale.shape[0], -1)[:, :1]
    if scale.ndim > 1 and (scale.reshape(scale.shape[0], -1) == first).all():
        return first.reshape(-1, *(1,) * (scale.ndim - 1))
    return scale


def _mixed(network: FloatNetwork) -> list[str]:
    """Tensors read channel by channel that would have several scales in a channel if their makers gave each channel its own."""
    probe: dict[str, FloatArray] = {}
    found = []
    channelwise = (FloatKind.CONV, FloatKind.CONV_TRANSPOSE, FloatKind.AVERAGE_POOL, FloatKind.MAX_POOL, FloatKind.ADD)
    for layer in network.layers:
        if layer.kind in channelwise:
            found += [name for name in layer.inputs if probe[name].size != probe[name].shape[0]]
        if layer.kind in MAKERS:
            shape = (-1, *(1,) * (len(layer.output_shape) - 2))
            probe[layer.output] = np.arange(1.0, layer.output_shape[1] + 1).reshape(shape)
        elif layer.kind is not FloatKind.HOST:
            probe[layer.output] = derive_scale(layer, [probe[name] for name in layer.inputs], network)
            if layer.kind is FloatKind.CONCAT and layer.axis != 1:
                found += [name for name in layer.inputs if probe[name].size != probe[name].shape[0]]
    return found
