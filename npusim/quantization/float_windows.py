"""Pools of a float graph that the NPU can compute."""

from __future__ import annotations

from npusim.graph import Node
from npusim.kernels.geometry import resolve_pads
from npusim.lowering.view import View
from npusim.program import Window
from npusim.quantization.refusal import Refusal

__all__ = ["read_average_pool", "read_max_pool"]


def read_average_pool(view: View, node: Node) -> Window:
    """The window of an average whose divisor is its area.

    Raises
    ------
    Refusal
        If the divisor varies or it averages over other axes than the spatial ones.
    """
    shape = view.shape(node.inputs[0])
    if len(shape) < 3:
        raise Refusal("it averages a tensor without spatial axes")
    if node.op_type == "GlobalAveragePool":
        return _whole(shape)
    if node.op_type == "ReduceMean":
        return _reduced(view, node, shape)
    window = _window(node, shape)
    if any(window.pads) and not node.integer("count_include_pad", 0):
        raise Refusal("its divisor varies, because padding is not counted")
    if window.ceil_mode or any(step != 1 for step in window.dilations):
        raise Refusal("its windows are dilated or partly outside of the input")
    return window


def read_max_pool(view: View, node: Node) -> Window:
    """The window of a max pool.

    Raises
    ------
    Refusal
        If it gives indices as well.
    """
    shape = view.shape(node.inputs[0])
    if len(shape) < 3:
        raise Refusal("it pools a tensor without spatial axes")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Refusal("it gives the places of its maxima")
    return _whole(shape) if node.op_type == "GlobalMaxPool" else _window(node, shape)


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
        raise Refusal("it averages over other axes than the spatial ones")
    reduced = {axis % len(shape) for axis in axes}
    if not node.integer("keepdims", 1) and len(reduced) < len(shape) - 2:
        raise Refusal("it drops some of the spatial axes")
    rank = len(shape) - 2
    kernel_shape = tuple(shape[axis] if axis in reduced else 1 for axis in range(2, len(shape)))
    return Window(kernel_shape, (1,) * rank, (0,) * (2 * rank), (1,) * rank)
