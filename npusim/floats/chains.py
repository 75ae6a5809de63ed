"""What follows a tensor and belongs to the layer that makes it: arithmetic with constants, then an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from npusim.floats.network import Activation
from npusim.graph import Node
from npusim.program.lowering.floats import Affine, keeps_order, read_affine, read_saturation
from npusim.program.lowering.tinpu.view import View

__all__ = ["Chain", "follow"]


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes that compute ``activation(gain * x + offset)`` for each channel, whatever shapes they give it on the way.

    Attributes
    ----------
    affine
        Gain and offset of each channel of the first tensor.
    activation
        What comes behind.
    linear
        The tensor in front of the activation.
    output
        The last tensor.
    nodes
        All of them, in order, those that only change the shape included; none where nothing belongs to the layer.
    """

    affine: Affine
    activation: Activation
    linear: str
    output: str
    nodes: tuple[Node, ...] = ()


def follow(view: View, tensor: str, *, first: Node | None = None, axis: int = 1, arithmetic: bool = True) -> Chain:
    """Read what follows a tensor as long as each result is read once.

    Parameters
    ----------
    view
        The graph.
    tensor
        Where the chain starts.
    first
        A reader of the tensor that is the chain's first node, though others may read the tensor; by default its only reader.
    axis
        The channel axis of the tensor.
    arithmetic
        Whether gains and offsets belong to the layer; else only an activation does.
    """
    channels = view.shape(tensor)[axis]
    chain = Chain(Affine.identity(channels), Activation.NONE, tensor, tensor)
    if arithmetic:
        chain = _arithmetic(view, chain, view.shape(tensor), axis, first)
    return _activation(view, chain, None if chain.nodes else first)


def _arithmetic(view: View, chain: Chain, shape: tuple[int, ...], axis: int, first: Node | None) -> Chain:
    nodes: list[Node] = []
    node = first or view.only_reader(chain.output)
    while node is not None:
        nodes.append(node)
        if not keeps_order(view, node):
            affine = read_affine(view, node, shape, axis)
            if affine is None:
                break
            output = node.outputs[0]
            chain = replace(chain, affine=chain.affine.then(affine), linear=output, output=output, nodes=tuple(nodes))
        node = view.only_reader(node.outputs[0])
    return chain


def _activation(view: View, chain: Chain, first: Node | None) -> Chain:
    """The longest run of saturations that together are an activation."""
    nodes, lower, upper = list(chain.nodes), -np.inf, np.inf
    node = first or view.only_reader(chain.output)
    while node is not None:
        nodes.append(node)
        if not keeps_order(view, node):
            bounds = read_saturation(view, node)
            if bounds is None:
                break
            # min(max(x, low), high) behind another one
            lower, upper = (min(max(bound, bounds[0]), bounds[1]) for bound in (lower, upper))
            found = Activation.between(lower, upper)
            if found is not None:
                chain = replace(chain, activation=found, output=node.outputs[0], nodes=tuple(nodes))
        node = view.only_reader(node.outputs[0])
    return chain
