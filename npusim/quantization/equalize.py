"""Equalizing channels: coarser codes for channels whose weights are small, so that these weights use more of their few steps.

A channel's codes can be scaled down by any factor if the weights that read them are scaled up by it: the output of a layer with
few weight bits loses less when the weights of all its input channels are of the same size. It costs resolution of the codes,
of which 8-bit codes have more than 4-bit weights.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from npusim.floats.columns import to_matrix
from npusim.floats.network import WEIGHTED, FloatArray, FloatKind, FloatLayer, FloatNetwork

__all__ = ["stretch_of"]

EXPONENT: Final = 0.75
"""How far channels are equalized: 0 not at all, 1 fully."""

MOST: Final = 8.0
"""No channel's codes become coarser than by this factor."""


def stretch_of(network: FloatNetwork, tensor: str, scale: FloatArray) -> FloatArray:
    """Factors, at least 1, by which to make the codes of a tensor's channels coarser, [C].

    Parameters
    ----------
    network
        The network.
    tensor
        A tensor of codes.
    scale
        The scale at which each channel uses the range of the codes, [C].
    """
    shares = [_share(layer, part, scale) for layer, part in _reading_weights(network, tensor)]
    known = [share for share in shares if share is not None]
    if not known or len(known) < len(shares):
        return np.ones(scale.shape)
    largest: FloatArray = np.max(known, axis=0)
    return np.clip(np.power(np.maximum(largest, 1e-6), -EXPONENT), 1.0, MOST)


def _reading_weights(network: FloatNetwork, tensor: str) -> list[tuple[FloatLayer, int]]:
    """The layers with weights that read a tensor, behind pools and reshapes, and how many features each channel has there."""
    found: list[tuple[FloatLayer, int]] = []
    for layer in network.readers().get(tensor, []):
        if layer.kind in WEIGHTED:
            found.append((layer, 1))
        elif layer.kind is FloatKind.MAX_POOL:
            found += _reading_weights(network, layer.output)
        elif layer.kind is FloatKind.MOVE and layer.output_shape[1] % layer.input_shape[1] == 0:
            features = layer.output_shape[1] // layer.input_shape[1]
            found += [(one, part * features) for one, part in _reading_weights(network, layer.output)]
    return found


def _share(layer: FloatLayer, features: int, scale: FloatArray) -> FloatArray | None:
    """For each input channel its largest weight, as a part of the largest weight of the same output channel."""
    if layer.group != 1:
        return None
    matrix = np.abs(to_matrix(layer, layer.parameters[0])[0])
    channels = scale.size
    if features > 1 and layer.kind is not FloatKind.LINEAR:
        return None
    taps = matrix.shape[0] // channels
    if taps * channels != matrix.shape[0]:
        return None
    weighed = matrix.reshape(channels, taps, -1) * scale.reshape(-1, 1, 1)
    columns = weighed.max(axis=1)
    share: FloatArray = (columns / np.maximum(columns.max(axis=0), 1e-300)).max(axis=1)
    return share
