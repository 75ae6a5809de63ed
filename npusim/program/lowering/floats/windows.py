"""Pools of a float graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

from npusim.graph import Node
from npusim.kernels.geometry import resolve_pads
from npusim.program.layers import Window
from npusim.program.lowering.floats.affine import Affine, read_affine
from npusim.program.lowering.floats.refusal import Refusal
from npusim.program.lowering.tinpu.view import View

__all__ = ["Average", "read_average", "read_maximum"]

ROUNDING = 2.0**-20
"""Relative error up to which a product of factors counts as one: a float32 holds a third with an error of 2**-25."""


@dataclass(frozen=True, slots=True)
class Average:
    """The window of an average whose divisor is its area, and the nodes that compute it: several for a sum and a division."""

    window: Window
    nodes: tuple[Node, ...]

    @property
    def output(self) -> str:
        """The tensor that holds the average."""
        return self.nodes[-1].outputs[0]


def read_average(view: View, node: Node) -> Average:
    """Read an AveragePool, GlobalAveragePool or ReduceMean, or a ReduceSum with a division by the area behind it.

    Raises
    ------
    Refusal
        If the divisor varies or it averages over other axes than the spatial ones.
    """
    shape = view.shape(node.inputs[0])
    if len(shape) < 3:
        raise Refusal("it averages a tensor without spatial axes")
    if node.op_type == "GlobalAveragePool":
        return Average(_whole(shape), (node,))
    if node.op_type == "ReduceMean":
        return Average(_reduced(view, node, shape), (node,))
    if node.op_type == "ReduceSum":
        window = _reduced(view, node, shape)
        return Average(window, (node, *_division(view, node, math.prod(window.kernel_shape))))
    window = _window(node, shape)
    if any(window.pads) and not node.integer("count_include_pad", 0):
        raise Refusal("its divisor varies, because padding is not counted")
    if window.ceil_mode or any(step != 1 for step in window.dilations):
        raise Refusal("its windows are dilated or partly outside of the input")
    return Average(window, (node,))


def read_maximum(view: View, node: Node) -> Window:
    """The window of a MaxPool, GlobalMaxPool, or of a ReduceMax over spatial axes.

    Raises
    ------
    Refusal
        If it gives indices as well, or reduces other axes.
    """
    shape = view.shape(node.inputs[0])
    if len(shape) < 3:
        raise Refusal("it pools a tensor without spatial axes")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Refusal("it gives the places of its maxima")
    if node.op_type == "ReduceMax":
        return _reduced(view, node, shape)
    return _whole(shape) if node.op_type == "GlobalMaxPool" else _window(node, shape)


def _division(view: View, node: Node, area: int) -> tuple[Node, ...]:
    """The arithmetic behind a sum that divides it by a number."""
    nodes: list[Node] = []
    output, total = node.outputs[0], Affine.identity(1)
    while (following := view.only_reader(output)) is not None:
        affine = read_affine(view, following)
        if affine is None or affine.offset.any() or (affine.gain != affine.gain[0]).any():
            break
        total, output = total.then(Affine(affine.gain[:1], affine.offset[:1])), following.outputs[0]
        nodes.append(following)
        if abs(float(total.gain[0]) * area - 1) <= ROUNDING:
            return tuple(nodes)
    if area == 1:
        return ()
    raise Refusal("it sums, and no division by the number of summands follows")


def _whole(shape: tuple[int, ...]) -> Window:
    rank = len(shape) - 2
    return Window(shape[2:], (1,) * rank, (0,) * (2 * rank), (1,) * rank)


def _window(node: Node, shape: tuple[int, ...]) -> Window:
    spatial = shape[2:]
    ones = (1,) * len(spatial)
    kernel_shape = node.integers("kernel_shape") or ones
    strides, dilations = node.integers("strides") or ones, node.integers("dilations") or ones
    pads = resolve_pads(
        spatial,
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=node.integers("pads"),
        auto_pad=node.text("auto_pad", "NOTSET"),
    )
    if min(pads) < 0:
        raise Refusal("it crops its input by negative padding")
    return Window(kernel_shape, strides, pads, dilations, bool(node.integer("ceil_mode", 0)))


def _reduced(view: View, node: Node, shape: tuple[int, ...]) -> Window:
    axes = node.integers("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1]:
        given = view.constant(node.inputs[1])
        axes = None if given is None else tuple(int(item) for item in given.reshape(-1))
    if not axes or min(axis % len(shape) for axis in axes) < 2:
        raise Refusal("it reduces other axes than the spatial ones")
    reduced = {axis % len(shape) for axis in axes}
    rank = len(shape) - 2
    kernel_shape = tuple(shape[axis] if axis in reduced else 1 for axis in range(2, len(shape)))
    return Window(kernel_shape, (1,) * rank, (0,) * (2 * rank), (1,) * rank)
