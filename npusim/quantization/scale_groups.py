"""Which tensors must have the same scale, and how scales go through pools, moves and concatenations.

Codes of a tensor have one scale for each channel wherever nothing forbids it: the layer that makes them can have any, and the
weights of the layer that reads them take it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npusim.floats.forward import apply_node
from npusim.floats.network import WEIGHTED, FloatArray, FloatKind, FloatLayer, FloatNetwork

__all__ = ["MAKERS", "ScaleGroups", "channel_scale", "derive_scale", "group_scales"]

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
