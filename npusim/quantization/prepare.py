"""Rewriting a float network so that each of its layers is one that the NPU has, without changing what it computes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.floats.layers import diagonal
from npusim.floats.network import WEIGHTED, Activation, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array
from npusim.program.lowering.floats import Affine, reshape_node
from npusim.quantization.scales import group_scales

__all__ = ["is_unsigned", "prepare", "through"]


def is_unsigned(layer: FloatLayer, positive: Iterable[str] = ()) -> bool:
    """Whether a layer's own codes are unsigned: those behind a relu, and stages of the host whose values are never negative.

    The input stage of the model always gives signed codes, because some devices saturate it to -128..127 whatever follows.
    """
    return layer.activation is not Activation.NONE or (layer.kind is FloatKind.INPUT and layer.inputs[0] in positive)


def through(network: FloatNetwork, tensor: str, positive: Iterable[str] = ()) -> bool:
    """Whether a tensor's codes are unsigned, following pools and moves to where the codes are made."""
    producers = network.producers()
    layer = producers[tensor]
    if layer.kind in (FloatKind.MAX_POOL, FloatKind.MOVE, FloatKind.AVERAGE_POOL, FloatKind.CONCAT):
        return all(through(network, name, positive) for name in layer.inputs)
    return is_unsigned(layer, positive)


def prepare(network: FloatNetwork, positive: Iterable[str] = ()) -> FloatNetwork:
    """Give every sum a pointwise convolution to ride on, and every operand of a concatenation the same sign.

    Parameters
    ----------
    network
        As read.
    positive
        Tensors computed by the host that are never negative.

    Returns
    -------
    FloatNetwork
        The first operand of each ADD is a convolution of 1x1 that nothing else reads; operands of a CONCAT are all signed or
        all unsigned; global averages take in the flattening behind them; an AVERAGE_POOL whose scale others decide has a
        depthwise layer behind it.
    """
    merged = _merge_flattening(network)
    for rewrite in (_spread_vectors, _separate_sums, _separate_concatenations, _free_averages):
        merged = rewrite(merged, frozenset(positive))
    return merged


@dataclass
class _Rewriting:
    """Layers so far and names in use."""

    network: FloatNetwork
    layers: list[FloatLayer] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def result(self) -> FloatNetwork:
        """The network of these layers."""
        return replace(self.network, layers=tuple(self.layers), constants={**self.network.constants, **self.constants})

    def identity(self, tensor: str, name: str, shape: tuple[int, ...], *, depthwise: bool, unsigned: bool) -> str:
        """Append a convolution of 1x1 that changes nothing, and give the tensor it makes."""
        channels = shape[1]
        layer = diagonal(Affine.identity(channels), len(shape))
        weights, group = layer.weights, layer.group
        if not depthwise and len(shape) > 2:
            weights, group = np.eye(channels).reshape(channels, channels, *(1,) * (len(shape) - 2)), 1
        made = FloatLayer(f"/{name}", layer.kind, (tensor,), name, shape, shape, weights=weights, bias=layer.bias)
        activation = Activation.RELU if unsigned else Activation.NONE
        self.layers.append(replace(made, activation=activation, window=layer.window, group=group))
        return name

    def reshape(self, tensor: str, before: tuple[int, ...], after: tuple[int, ...], output: str) -> None:
        """Append a reshape."""
        node, constants = reshape_node(tensor, after, output, f"/{output}")
        self.constants.update(constants)
        self.layers.append(FloatLayer(f"/{output}", FloatKind.MOVE, (tensor,), output, before, after, node=node))


def _merge_flattening(network: FloatNetwork) -> FloatNetwork:
    readers = network.readers()
    merged: dict[str, FloatLayer] = {}
    for layer in network.layers:
        following = readers.get(layer.output, [])
        flattens = (
            layer.kind is FloatKind.AVERAGE_POOL
            and math.prod(layer.output_shape[2:]) == 1
            and layer.geometry.kernel_shape == layer.input_shape[2:]
            and layer.output not in network.outputs
            and len(following) == 1
            and following[0].kind is FloatKind.MOVE
            and following[0].output_shape == layer.output_shape[:2]
        )
        if flattens:
            merged[following[0].name] = replace(layer, output=following[0].output, output_shape=following[0].output_shape)
    dropped = {layer.output for layer in network.layers for made in merged.values() if made.name == layer.name}
    kept = [merged.get(layer.name, layer) for layer in network.layers if layer.output not in dropped]
    return replace(network, layers=tuple(kept))


def _spread_vectors(network: FloatNetwork, positive: frozenset[str]) -> FloatNetwork:
    """Sums of vectors become sums of images of 1x1, since only convolutions have a residual."""
    rewriting = _Rewriting(network)
    for layer in network.layers:
        if layer.kind is not FloatKind.ADD or len(layer.output_shape) > 2:
            rewriting.layers.append(layer)
            continue
        flat, image = layer.output_shape, (*layer.output_shape, 1, 1)
        operands = []
        for position, name in enumerate(layer.inputs):
            operands.append(f"{layer.output}/operand_{position}")
            rewriting.reshape(name, flat, image, operands[-1])
        summed = f"{layer.output}/image"
        made = replace(layer, inputs=tuple(operands), output=summed, input_shape=image, output_shape=image)
        rewriting.layers.append(made)
        rewriting.reshape(summed, image, flat, layer.output)
    return rewriting.result()


def _separate_sums(network: FloatNetwork, positive: frozenset[str]) -> FloatNetwork:
    rewriting, readers, producers = _Rewriting(network), network.readers(), network.producers()
    for layer in network.layers:
        if layer.kind is not FloatKind.ADD:
            rewriting.layers.append(layer)
            continue
        own, other = _order(network, layer, readers)
        shape = layer.input_shape
        if not _can_ride(producers[own], readers, network) or own == other:
            unsigned = through(network, own, positive)
            own = rewriting.identity(own, f"{layer.output}/own", shape, depthwise=False, unsigned=unsigned)
        if not _follows_scale(network, other):
            unsigned = through(network, other, positive)
            other = rewriting.identity(other, f"{layer.output}/other", shape, depthwise=True, unsigned=unsigned)
        summed = replace(layer, inputs=(own, other))
        if layer.activation is not Activation.RELU6:
            rewriting.layers.append(summed)
            continue
        # the operands share the sum's scale, and codes that end at 6 would cut them off
        inner = f"{layer.output}/sum"
        rewriting.layers.append(replace(summed, output=inner, activation=Activation.RELU))
        rewriting.identity(inner, layer.output, shape, depthwise=True, unsigned=True)
        rewriting.layers[-1] = replace(rewriting.layers[-1], activation=Activation.RELU6)
    return rewriting.result()


def _order(network: FloatNetwork, layer: FloatLayer, readers: dict[str, list[FloatLayer]]) -> tuple[str, str]:
    """The operand that becomes the convolution and the one that is its residual.

    A pointwise convolution that only the sum reads is one already. Otherwise the residual, whose scale is the sum's, is the
    one that less depends on; the other is scaled by a layer of its own.
    """
    producers = network.producers()
    first, second = layer.inputs
    riding = [name for name in (second, first) if _can_ride(producers[name], readers, network)]
    if riding:
        return riding[0], (first if riding[0] == second else second)
    costs = [(not _follows_scale(network, name), len(readers[name])) for name in (first, second)]
    return (first, second) if costs[1] <= costs[0] else (second, first)


def _can_ride(layer: FloatLayer, readers: dict[str, list[FloatLayer]], network: FloatNetwork) -> bool:
    window = layer.window
    return (
        layer.kind is FloatKind.CONV
        and window is not None
        and window.is_pointwise
        and layer.group == 1
        and set(window.strides) == {1}
        and not any(window.pads)
        and layer.activation is not Activation.RELU6
        and len(readers[layer.output]) == 1
        and layer.output not in network.outputs
    )


def _follows_scale(network: FloatNetwork, tensor: str) -> bool:
    """Whether a tensor can take any scale: made by a layer with weights or the input stage, possibly behind a max pool."""
    layer = network.producers()[tensor]
    if layer.kind is FloatKind.MAX_POOL:
        return _follows_scale(network, layer.inputs[0])
    free = layer.kind in WEIGHTED or layer.kind in (FloatKind.INPUT, FloatKind.ADD)
    return free and layer.activation is not Activation.RELU6


def _separate_concatenations(network: FloatNetwork, positive: frozenset[str]) -> FloatNetwork:
    rewriting, fixed = _Rewriting(network), _towards_outputs(network)
    for layer in network.layers:
        if layer.kind is not FloatKind.CONCAT:
            rewriting.layers.append(layer)
            continue
        producers = network.producers()
        unsigned = [through(network, name, positive) for name in layer.inputs]
        operands = []
        for position, (name, positive_codes) in enumerate(zip(layer.inputs, unsigned, strict=True)):
            operand = name
            shared = (layer.axis != 1 or layer.output in fixed) and not _follows_scale(network, name)
            if shared or (positive_codes and not all(unsigned)):
                made, shape = f"{layer.output}/operand_{position}", producers[name].output_shape
                operand = rewriting.identity(name, made, shape, depthwise=True, unsigned=all(unsigned))
            operands.append(operand)
        rewriting.layers.append(replace(layer, inputs=tuple(operands)))
    return rewriting.result()


def _free_averages(network: FloatNetwork, positive: frozenset[str]) -> FloatNetwork:
    """An average whose channels must share a scale gets a layer behind it that can have any."""
    groups = group_scales(network)
    rewriting = _Rewriting(network)
    for layer in network.layers:
        if layer.kind is not FloatKind.AVERAGE_POOL or not groups.is_uniform(layer.output):
            rewriting.layers.append(layer)
            continue
        inner = replace(layer, output=f"{layer.output}/average")
        rewriting.layers.append(inner)
        unsigned = through(network, layer.inputs[0], positive)
        rewriting.identity(inner.output, layer.output, layer.output_shape, depthwise=True, unsigned=unsigned)
    return rewriting.result()


def _towards_outputs(network: FloatNetwork) -> frozenset[str]:
    """Outputs of the model, and what becomes one by moves, pools of maxima and concatenations."""
    found = set(network.outputs)
    for layer in reversed(network.layers):
        if layer.output in found and layer.kind in (FloatKind.MOVE, FloatKind.CONCAT, FloatKind.MAX_POOL):
            found.update(layer.inputs)
    return frozenset(found)
