"""Mixed precision by output channel: how many bits its weights need, and an order in which equal ones lie together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.floats.columns import to_matrix
from npusim.floats.forward import forward_layer
from npusim.floats.network import Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.program import IntegerArray
from npusim.program.lowering.floats import reshapes
from npusim.quantization.covariance import least_squares, measure
from npusim.quantization.parameters import width_rules
from npusim.quantization.weight_rounding import round_to_nearest, rounding_error

__all__ = ["SIGNAL_TO_NOISE", "ChannelWidths", "choose_widths"]

SIGNAL_TO_NOISE = 16.0
"""A channel's weights take the fewest bits at which rounding them to nearest leaves so many dB of its signal."""

RATIOS = (1.0, 0.8, 0.6)
"""Steps of the weights that are tried, as parts of the one that saturates none."""

WIDTHS = (2, 4)


@dataclass(frozen=True, slots=True)
class ChannelWidths:
    """A network whose channels may be in another order, with the widths of their weights.

    Attributes
    ----------
    network
        It computes the same; outputs keep their order.
    bits
        By the output of a layer, int64 [out]: 8, 4 or 2, channels of one width together. Layers with one width are missing.
    """

    network: FloatNetwork
    bits: Mapping[str, IntegerArray]


def choose_widths(network: FloatNetwork, floats: Mapping[str, FloatArray]) -> ChannelWidths:
    """Choose the bits of each output channel of convolutions and products whose channels may change places.

    Parameters
    ----------
    network
        The network.
    floats
        What it computes on the calibration samples, every tensor.
    """
    sorting = _Sorting(network, {layer.name: layer for layer in network.layers})
    chosen: dict[str, IntegerArray] = {}
    for layer in network.layers:
        if layer.kind not in (FloatKind.CONV, FloatKind.LINEAR) or layer.group != 1:
            continue
        bits = _bits(layer, floats, network)
        order = np.argsort(-bits, kind="stable")
        if (bits == bits[0]).all():
            if bits[0] != 8:
                chosen[layer.output] = bits
        elif sorting.can_move(layer.output):
            sorting.move_outputs(layer.name, order)
            sorting.follow(layer.output, order)
            chosen[layer.output] = bits[order]
    layers = tuple(sorting.layers[layer.name] for layer in network.layers)
    return ChannelWidths(replace(network, layers=layers), chosen)


def _bits(layer: FloatLayer, floats: Mapping[str, FloatArray], network: FloatNetwork) -> IntegerArray:
    """The fewest bits of each output channel, [out]."""
    source = floats[layer.inputs[0]]
    wanted = forward_layer(replace(layer, activation=Activation.NONE), [source], network)
    found = measure(layer, source, wanted)
    weights = to_matrix(layer, layer.parameters[0])
    problem = least_squares(found, weights, 0.0)
    signal = np.maximum((weights * (found.inputs @ weights)).sum(axis=1), 1e-300).reshape(-1)
    bits = np.full(signal.shape, 8, np.int64)
    for width in sorted(WIDTHS, reverse=True):
        largest = width_rules(width).largest_weight
        peak = np.maximum(np.abs(weights).max(axis=1), 1e-300) / largest
        losses = [
            rounding_error(problem, round_to_nearest(problem.target, peak * ratio, largest), peak * ratio) for ratio in RATIOS
        ]
        ratio = 10 * np.log10(signal / np.maximum(np.min(losses, axis=0).reshape(-1), 1e-300))
        bits = np.where(ratio >= SIGNAL_TO_NOISE, width, bits)
    return bits


@dataclass
class _Sorting:
    """Layers by name, of which some have been given other orders of channels."""

    network: FloatNetwork
    layers: dict[str, FloatLayer]
    readers: Mapping[str, list[FloatLayer]] = field(init=False)

    def __post_init__(self) -> None:
        self.readers = self.network.readers()

    def can_move(self, tensor: str) -> bool:
        """Whether everything that reads a tensor can take its channels in another order."""
        if tensor in self.network.outputs:
            return False
        return all(self._takes(layer) for layer in self.readers.get(tensor, []))

    def _takes(self, layer: FloatLayer) -> bool:
        if layer.kind is FloatKind.LINEAR or (layer.kind is FloatKind.CONV and layer.group == 1):
            return True
        depthwise = layer.kind is FloatKind.CONV and layer.group == layer.input_shape[1]
        pool = layer.kind in (FloatKind.MAX_POOL, FloatKind.AVERAGE_POOL)
        return (depthwise or pool or _flattens(layer)) and self.can_move(layer.output)

    def move_outputs(self, name: str, order: IntegerArray) -> None:
        """Give the output channels of a layer with weights another order."""
        layer = self.layers[name]
        weights, bias = layer.parameters
        moved = weights[:, order] if layer.kind is FloatKind.LINEAR else weights[order]
        self.layers[name] = replace(layer, weights=moved, bias=bias[order])

    def follow(self, tensor: str, order: IntegerArray) -> None:
        """Let the readers of a tensor take its channels in another order."""
        for reader in self.readers.get(tensor, []):
            layer = self.layers[reader.name]
            if layer.kind is FloatKind.LINEAR:
                weights, _ = layer.parameters
                self.layers[layer.name] = replace(layer, weights=weights[order])
            elif layer.kind is FloatKind.CONV and layer.group == 1:
                weights, _ = layer.parameters
                self.layers[layer.name] = replace(layer, weights=weights[:, order])
            elif layer.kind is FloatKind.CONV:
                wide = _spread(order, layer.output_shape[1] // layer.group)
                self.move_outputs(layer.name, wide)
                self.follow(layer.output, wide)
            elif layer.kind is FloatKind.MOVE:
                self.follow(layer.output, _spread(order, layer.output_shape[1] // layer.input_shape[1]))
            else:
                self.follow(layer.output, order)


def _flattens(layer: FloatLayer) -> bool:
    """Whether a move makes features of channels and all their places."""
    return layer.kind is FloatKind.MOVE and layer.node is not None and reshapes(layer.node) and len(layer.output_shape) == 2


def _spread(order: IntegerArray, count: int) -> IntegerArray:
    """An order of channels as one of so many features of each."""
    spread: IntegerArray = (order[:, np.newaxis] * count + np.arange(count)).reshape(-1)
    return spread
