"""Recognition of pools over integers: average pooling with its requantization, and max pooling."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from npusim.graph import Node
from npusim.graph.ranges import ValueRange
from npusim.kernels.geometry import resolve_pads
from npusim.program.layers import AveragePool, IntegerLayer, MaxPool, Window
from npusim.program.lowering.tinpu.chain import Chain, node_label, read_chain
from npusim.program.lowering.tinpu.view import NotALayer, View, read_factor
from npusim.program.requantization import INT32
from npusim.program.shift_floor import ShiftFloor
from npusim.program.taps import ArithmeticTap, MeanTap, Tap

__all__ = ["POOLS", "pool_window", "recognise_pool"]

POOLS: Final = frozenset(("AveragePool", "GlobalAveragePool", "ReduceSum", "ReduceMean", "MaxPool", "GlobalMaxPool"))
"""Operators that can be a pool of the NPU."""

LARGEST_SUM: Final = 2**22
"""Below it ``round(float32(float32(sum / area) * area))`` is the sum again: two roundings move it by less than a half."""


def recognise_pool(view: View, node: Node, source_range: ValueRange) -> tuple[IntegerLayer, tuple[Node, ...]]:
    """Read an AVGPOOL or MAXPOOL layer that starts at `node`.

    Returns
    -------
    (layer, nodes)
        The layer and all the nodes it stands for.

    Raises
    ------
    NotALayer
        With the reason, when the node or those behind it are not such a layer.
    """
    if not source_range.is_codes:
        raise NotALayer(f"its input '{node.inputs[0]}' is not proven to hold integers", (node,))
    try:
        if node.op_type in ("MaxPool", "GlobalMaxPool"):
            return _max_pool(view, node), (node,)
        return _average_pool(view, node, source_range)
    except NotALayer as finding:
        raise NotALayer(finding.reason, (node, *finding.nodes)) from None


def _max_pool(view: View, node: Node) -> MaxPool:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise NotALayer("it also returns the positions of its maxima")
    shape, result = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    return MaxPool(
        name=node_label(node),
        inputs=(node.inputs[0],),
        output=node.outputs[0],
        input_shape=shape,
        output_shape=result,
        window=pool_window(node, shape),
        nodes=(node_label(node),),
    )


def _average_pool(view: View, node: Node, source_range: ValueRange) -> tuple[AveragePool, tuple[Node, ...]]:
    shape = view.shape(node.inputs[0])
    window = _reduced_window(view, node, shape) if node.op_type.startswith("Reduce") else pool_window(node, shape)
    if window.ceil_mode or any(step != 1 for step in window.dilations):
        raise NotALayer("its windows are dilated or partly outside of the input")
    area = math.prod(window.kernel_shape)
    if area * max(abs(source_range.lower), abs(source_range.upper)) >= LARGEST_SUM:
        raise NotALayer("its sums could pass 2^22, from where float32 averages do not give them back")
    taps: tuple[Tap, ...] = ()
    nodes: tuple[Node, ...] = ()
    tensor = node.outputs[0]
    if node.op_type != "ReduceSum":
        if any(window.pads) and not node.integer("count_include_pad", 0):
            raise NotALayer("its divisor varies, because padding is not counted")
        taps, nodes, tensor = _multiplied_back(view, node, area)
    following = next((reader for reader in view.readers_of(tensor) if reader.op_type == "Round"), None)
    if following is not None:
        taps, nodes, tensor = (*taps, _tap(view, tensor, node)), (*nodes, following), following.outputs[0]
    elif node.op_type != "ReduceSum":
        raise NotALayer("its average times the area is not rounded back to an integer", nodes)
    chain = _chain(view, tensor, nodes)
    layer = AveragePool(
        name=node_label(node),
        inputs=(node.inputs[0],),
        output=chain.output,
        input_shape=shape,
        output_shape=view.shape(chain.output),
        accumulator_shape=view.shape(tensor),
        channel_axis=1,
        window=window,
        requantization=chain.requantization,
        taps=(*taps, *chain.taps),
        nodes=tuple(node_label(part) for part in (node, *nodes, *chain.nodes)),
    )
    return layer, (node, *nodes, *chain.nodes)


def _chain(view: View, tensor: str, nodes: tuple[Node, ...]) -> Chain:
    try:
        return read_chain(view, tensor, view.shape(tensor), 1)
    except NotALayer as finding:
        raise NotALayer(finding.reason, (*nodes, *finding.nodes)) from None


def _multiplied_back(view: View, node: Node, area: int) -> tuple[tuple[Tap, ...], tuple[Node, ...], str]:
    """The averaging node's own tensor, and the multiplication that turns its mean into the sum again."""
    following = next((reader for reader in view.readers_of(node.outputs[0]) if _is_product(view, reader, area)), None)
    if following is None:
        raise NotALayer(f"its average is not multiplied by the area {area} and rounded, so fractions flow on")
    return (_tap(view, node.outputs[0], node, divisor=area),), (following,), following.outputs[0]


def _is_product(view: View, node: Node, area: int) -> bool:
    factor = read_factor(view, node)
    return factor is not None and factor.size == 1 and float(factor.reshape(())) == area


def _tap(view: View, tensor: str, node: Node, divisor: int = 1) -> Tap:
    channels = view.shape(tensor)[1]
    nothing, one = np.zeros(channels, np.int64), np.ones(channels, np.int64)
    if node.op_type == "ReduceSum":
        return ArithmeticTap(tensor, ShiftFloor(nothing, one, nothing, clip=INT32), False)
    if divisor > 1 or node.outputs[0] == tensor:
        return MeanTap(tensor, divisor, 1)
    area = _area_of(view, tensor)
    return MeanTap(tensor, area, area)


def _area_of(view: View, tensor: str) -> int:
    factor = read_factor(view, view.graph.producers()[tensor])
    return 1 if factor is None else int(factor.reshape(()))


def pool_window(node: Node, shape: tuple[int, ...]) -> Window:
    """The geometry of a pooling node on an input of this shape."""
    spatial = shape[2:]
    if node.op_type.startswith("Global"):
        return Window(spatial, (1,) * len(spatial), (0,) * (2 * len(spatial)), (1,) * len(spatial))

    def sizes(name: str) -> tuple[int, ...]:
        return node.integers(name) or (1,) * len(spatial)

    kernel_shape, strides, dilations = sizes("kernel_shape"), sizes("strides"), sizes("dilations")
    resolved = resolve_pads(
        spatial,
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=node.integers("pads"),
        auto_pad=node.text("auto_pad", "NOTSET"),
    )
    reach = [(size - 1) * step for size, step in zip(kernel_shape, dilations, strict=True)]
    if any(not 0 <= pad <= most for pad, most in zip(resolved, reach * 2, strict=True)):
        raise NotALayer("its padding is negative or wider than a window, so a window may see no data")
    return Window(kernel_shape, strides, resolved, dilations, bool(node.integer("ceil_mode", 0)))


def _reduced_window(view: View, node: Node, shape: tuple[int, ...]) -> Window:
    given = node.integers("axes")
    if given is None and len(node.inputs) > 1 and node.inputs[1]:
        constant = view.constant(node.inputs[1])
        given = None if constant is None else tuple(int(item) for item in constant.reshape(-1))
    if not given:
        raise NotALayer("it does not reduce the spatial axes only")
    axes = {axis % len(shape) for axis in given}
    if min(axes) < 2:
        raise NotALayer("it does not reduce the spatial axes only")
    spatial = range(2, len(shape))
    kernel_shape = tuple(shape[axis] if axis in axes else 1 for axis in spatial)
    return Window(kernel_shape, (1,) * len(spatial), (0,) * (2 * len(spatial)), (1,) * len(spatial))
