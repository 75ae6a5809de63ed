"""Averages that the family leaves without a requantization: MATCH and DORY floor them."""

from __future__ import annotations

import math

import numpy as np

from npusim.graph import Node
from npusim.graph.ranges import ValueRange
from npusim.program.layers import AveragePool
from npusim.program.lowering.match.chain import read_divided
from npusim.program.lowering.tinpu.chain import Chain, node_label
from npusim.program.lowering.tinpu.pools import pool_window
from npusim.program.lowering.tinpu.view import NotALayer, View
from npusim.program.requantization import Clip, IntegerArray
from npusim.program.scale_divide import ScaleDivide

__all__ = ["recognise_mean"]


def recognise_mean(
    view: View, node: Node, source_range: ValueRange, *, half_up: bool = False
) -> tuple[AveragePool, tuple[Node, ...]]:
    """Read an average over windows as the floor of the mean, or as the mean rounded half up.

    Raises
    ------
    NotALayer
        If its input does not hold codes, or its windows do not all have as many elements.
    """
    if not source_range.is_codes or node.op_type not in ("AveragePool", "GlobalAveragePool"):
        raise NotALayer(f"its input '{node.inputs[0]}' is not proven to hold integers", (node,))
    shape = view.shape(node.inputs[0])
    window = pool_window(node, shape)
    padded = any(window.pads) and not node.integer("count_include_pad", 0)
    if padded or window.ceil_mode or any(step != 1 for step in window.dilations):
        raise NotALayer("its windows do not all have as many elements", (node,))
    result = view.shape(node.outputs[0])
    count = np.full(shape[1], math.prod(window.kernel_shape), np.int64)
    chain = _requantized(view, node, count)
    if chain is None:
        clip = Clip(int(source_range.lower), int(source_range.upper))
        mean = ScaleDivide(np.ones_like(count), count // 2 if half_up else np.zeros_like(count), count, clip=clip)
        chain = Chain(mean, (), node.outputs[0], ())
    layer = AveragePool(
        name=node_label(node),
        inputs=(node.inputs[0],),
        output=chain.output,
        input_shape=shape,
        output_shape=view.shape(chain.output),
        nodes=tuple(node_label(part) for part in (node, *chain.nodes)),
        accumulator_shape=result,
        channel_axis=1,
        requantization=chain.requantization,
        taps=chain.taps,
        window=window,
    )
    return layer, (node, *chain.nodes)


def _requantized(view: View, node: Node, count: IntegerArray) -> Chain | None:
    """A requantization of its own behind the mean; None where the mean itself is what is floored."""
    try:
        chain = read_divided(view, node.outputs[0], view.shape(node.outputs[0]), 1, np.zeros_like(count), count)
    except NotALayer:
        return None
    return chain if chain.nodes else None
