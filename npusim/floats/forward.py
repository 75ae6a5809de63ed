"""Running a float network on samples, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from npusim.floats.columns import accumulate, sum_windows, to_matrix
from npusim.floats.network import FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array
from npusim.graph.operators import evaluate_node
from npusim.kernels.pooling import max_pool
from npusim.program.lowering.floats import reshapes

__all__ = ["apply_node", "forward", "forward_layer", "pool_maxima"]


def forward(network: FloatNetwork, feeds: Mapping[str, Array]) -> dict[str, FloatArray]:
    """Compute every tensor of a network.

    Parameters
    ----------
    network
        The network.
    feeds
        Inputs by name, [N, ...].

    Returns
    -------
    dict
        float64 arrays [N, ...] by tensor name, the inputs included.
    """
    tensors = {name: np.asarray(feeds[name], np.float64) for name in network.inputs}
    for layer in network.layers:
        tensors[layer.output] = forward_layer(layer, [tensors[name] for name in layer.inputs], network)
    return tensors


def forward_layer(layer: FloatLayer, inputs: list[FloatArray], network: FloatNetwork) -> FloatArray:
    """Compute one layer of a network from its inputs."""
    first = inputs[0]
    match layer.kind:
        case FloatKind.INPUT:
            gain, offset = (value.reshape(-1, *(1,) * (first.ndim - 2)) for value in layer.parameters)
            result = first * gain + offset
        case FloatKind.CONV | FloatKind.CONV_TRANSPOSE | FloatKind.LINEAR:
            weights, bias = layer.parameters
            result = accumulate(layer, first, to_matrix(layer, weights))
            result += bias.reshape(-1, *(1,) * (result.ndim - 2))
        case FloatKind.AVERAGE_POOL:
            sums = sum_windows(first, layer.geometry) / math.prod(layer.geometry.kernel_shape)
            result = sums.reshape(first.shape[0], *layer.output_shape[1:])
        case FloatKind.MAX_POOL:
            result = pool_maxima(layer, first)
        case FloatKind.ADD:
            result = first + inputs[1]
        case FloatKind.CONCAT:
            result = np.concatenate(inputs, axis=layer.axis)
        case _:
            result = apply_node(layer, inputs, network)
    return layer.activation.apply(result)


def pool_maxima(layer: FloatLayer, values: FloatArray) -> FloatArray:
    """The largest value of each window."""
    window = layer.geometry
    return max_pool(
        values,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        ceil_mode=window.ceil_mode,
    )


def apply_node(layer: FloatLayer, inputs: list[FloatArray], network: FloatNetwork) -> FloatArray:
    """Run the node of a MOVE or HOST layer; what is more than a reshape runs sample by sample, in the graph's float32."""
    node = layer.node
    if node is None:
        raise ValueError(f"layer '{layer.name}' of kind {layer.kind} has no node")
    if reshapes(node):
        return inputs[0].reshape(inputs[0].shape[0], *layer.output_shape[1:])
    rows = []
    for index in range(inputs[0].shape[0]):
        sample = {name: part[index : index + 1].astype(np.float32) for name, part in zip(layer.inputs, inputs, strict=True)}
        values: dict[str, Array] = {**network.constants, **sample}
        rows.append(np.asarray(evaluate_node(node, values, network.opset)[0], np.float64))
    return np.concatenate(rows)
