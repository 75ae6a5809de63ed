"""An integer network as an ONNX graph, in the dialect in which the TorchScript exporter writes networks for the NPU.

A layer is ``Conv`` without bias, ``Add`` (bias), ``Mul`` (integer scale), ``Mul`` (2**-shift), ``Floor``, ``Clip``; a fully
connected one starts with a ``Gemm`` that adds the bias itself, an average pool with a sum that is rounded back to integers.
Everything is float32: as long as no integer passes 2**24, floats carry it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.graph import Array, Attribute, Node
from npusim.onnx_writer import write_model
from npusim.program import Clip, IntegerArray, ShiftFloor, Window
from npusim.quantization.integer_network import (
    Dequantize,
    InputStage,
    IntegerNetwork,
    NodeStep,
    QuantizedKind,
    QuantizedLayer,
)

__all__ = ["emit"]

_OPERATORS: Final = frozenset(("Conv", "ConvTranspose", "Gemm", "ReduceSum", "AveragePool", "MaxPool", "GlobalAveragePool"))
"""Last parts of node names that stand for a whole layer; its other nodes get names beside it."""


def emit(network: IntegerNetwork) -> bytes:
    """Serialize an integer network as an ONNX model.

    Parameters
    ----------
    network
        The network.

    Returns
    -------
    bytes
        An ONNX model, of opset 17 unless the network's nodes need another. The same network gives the same bytes.
    """
    graph = _Graph({*network.inputs, *network.outputs, *(name for step in network.steps for name in _tensors(step))})
    for step in network.steps:
        if isinstance(step, InputStage):
            _input_stage(graph, step)
        elif isinstance(step, QuantizedLayer):
            _layer(graph, step)
        elif isinstance(step, Dequantize):
            scale = graph.constant(f"{step.name}.scale", step.scale)
            graph.node("Mul", f"{step.name}/Mul", (step.input, scale), output=step.output)
        else:
            _plain(graph, step)
    return write_model(graph.nodes, graph.constants, inputs=network.inputs, outputs=network.outputs, opset=network.opset)


@dataclass
class _Graph:
    """Nodes and constants so far; `taken` are tensor names that are spoken for."""

    taken: set[str]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def constant(self, name: str, value: Array) -> str:
        """The name of an initializer of this value; like exporters, equal ones are stored once."""
        array = np.ascontiguousarray(value).reshape(value.shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.known:
            self.known[key] = self.unused(name)
            self.constants[self.known[key]] = array
        return self.known[key]

    def floats(self, name: str, value: IntegerArray | Array, shape: tuple[int, ...] | None = None) -> str:
        """A constant of float32."""
        array = np.asarray(value).astype(np.float32)
        return self.constant(name, array if shape is None else array.reshape(shape))

    def node(
        self,
        operator: str,
        label: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        output: str = "",
    ) -> str:
        """Append a node; without `output` its result gets a name made of the label."""
        name = label
        while name in self.labels:
            name += "_"
        self.labels.add(name)
        result = output or self.unused(f"{name}_output_0")
        self.nodes.append(Node(operator, name, tuple(inputs), (result,), dict(attributes or {})))
        return result

    def unused(self, name: str) -> str:
        """A tensor name that nothing else has."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def clip(self, label: str, tensor: str, clip: Clip, output: str = "") -> str:
        """Append a Clip."""
        bounds = [self.floats(f"{label}/{side}", np.array(bound)) for side, bound in (("min", clip.lower), ("max", clip.upper))]
        return self.node("Clip", label, (tensor, *bounds), output=output)


def _tensors(step: InputStage | QuantizedLayer | NodeStep | Dequantize) -> tuple[str, ...]:
    return step.node.outputs if isinstance(step, NodeStep) else (step.output,)


def _column(rank: int) -> tuple[int, ...]:
    return (1, -1) + (1,) * (rank - 2)


def _input_stage(graph: _Graph, step: InputStage) -> None:
    column = _column(step.rank)
    tensor = graph.node("Add", f"{step.name}/Add", (step.input, graph.floats(f"{step.name}.offset", step.offset, column)))
    multiplier = graph.floats(f"{step.name}.mult", step.multiplier, column)
    tensor = graph.node("Mul", f"{step.name}/Mul", (tensor, multiplier))
    tensor = _shift(graph, step.name, tensor, step.shift, column)
    graph.clip(f"{step.name}/Clip", tensor, step.clip, step.output)


def _shift(graph: _Graph, name: str, tensor: str, shift: IntegerArray, column: tuple[int, ...]) -> str:
    power = np.ldexp(np.float32(1), -shift)
    tensor = graph.node("Mul", f"{name}/Mul_1", (tensor, graph.floats(f"{name}.shift_mult", power, column)))
    return graph.node("Floor", f"{name}/Floor", (tensor,))


def _layer(graph: _Graph, layer: QuantizedLayer) -> None:
    name = _prefix(layer.name)
    if layer.kind is QuantizedKind.MAX_POOL:
        attributes = {**_geometry(layer.window), "ceil_mode": int(bool(layer.window and layer.window.ceil_mode))}
        graph.node("MaxPool", f"{name}/MaxPool", (layer.input,), attributes, output=layer.output)
        return
    if layer.requantization is None:
        raise ValueError(f"layer '{layer.name}' of kind {layer.kind} has no requantization")
    requantization = layer.requantization
    if layer.kind is QuantizedKind.LINEAR:
        tensor, rest = _gemm(graph, name, layer, requantization.bias), replace(requantization, bias=requantization.bias * 0)
    else:
        accumulate = _pool if layer.kind is QuantizedKind.AVERAGE_POOL else _convolution
        tensor, rest = accumulate(graph, name, layer), requantization
    if layer.residual is None:
        _requantize(graph, name, layer, tensor, rest, layer.output)
        return
    own = _requantize(graph, name, layer, tensor, rest, "")
    summed = graph.node("Add", f"{name}/Add_1", (own, layer.residual.tensor))
    graph.clip(f"{name}/Clip_1", summed, layer.residual.clip, layer.output)


def _prefix(name: str) -> str:
    """A layer's name without the operator of its first node: ``/features.1/Conv`` gives ``/features.1``."""
    head, _, last = name.rpartition("/")
    return head if head and last.split("_")[0] in _OPERATORS else name


def _geometry(window: Window | None) -> dict[str, Attribute]:
    if window is None:
        raise ValueError("a layer with a window is wanted")
    return {
        "dilations": window.dilations,
        "kernel_shape": window.kernel_shape,
        "pads": window.pads,
        "strides": window.strides,
    }


def _gemm(graph: _Graph, name: str, layer: QuantizedLayer, bias: IntegerArray) -> str:
    if layer.weights is None:
        raise ValueError(f"layer '{layer.name}' of kind {layer.kind} has no weights")
    weights = graph.floats(f"{name}.weight", layer.weights)
    offset = graph.floats(f"{name}.offset", bias, (1, -1))
    attributes: dict[str, Attribute] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return graph.node("Gemm", f"{name}/Gemm", (layer.input, weights, offset), attributes)


def _convolution(graph: _Graph, name: str, layer: QuantizedLayer) -> str:
    if layer.weights is None or layer.window is None:
        raise ValueError(f"layer '{layer.name}' of kind {layer.kind} has no weights or no window")
    weights = graph.floats(f"{name}.weight", layer.weights)
    attributes = {**_geometry(layer.window), "group": layer.group}
    if layer.kind is QuantizedKind.CONV:
        return graph.node("Conv", f"{name}/Conv", (layer.input, weights), attributes)
    if any(layer.window.output_padding):
        attributes["output_padding"] = layer.window.output_padding
    return graph.node("ConvTranspose", f"{name}/ConvTranspose", (layer.input, weights), attributes)


def _pool(graph: _Graph, name: str, layer: QuantizedLayer) -> str:
    """The sum of a window; an averaging node's mean, multiplied by the area, is an integer again once it is rounded."""
    if layer.window is None:
        raise ValueError(f"layer '{layer.name}' of kind {layer.kind} has no window")
    if layer.over_all:
        axes = graph.constant(f"{name}.axes", np.arange(2, 2 + len(layer.window.kernel_shape), dtype=np.int64))
        tensor = graph.node("ReduceSum", f"{name}/ReduceSum", (layer.input, axes), {"keepdims": int(layer.rank > 2)})
    else:
        attributes = {**_geometry(layer.window), "ceil_mode": 0, "count_include_pad": 1}
        del attributes["dilations"]  # known to AveragePool from opset 19 on
        tensor = graph.node("AveragePool", f"{name}/AveragePool", (layer.input,), attributes)
        area = graph.floats(f"{name}.area", np.array(np.prod(layer.window.kernel_shape)))
        tensor = graph.node("Mul", f"{name}/Mul_2", (tensor, area))
    return graph.node("Round", f"{name}/Round", (tensor,))


def _requantize(graph: _Graph, name: str, layer: QuantizedLayer, tensor: str, found: ShiftFloor, output: str) -> str:
    """``Add, Mul, Mul, Floor, Clip``; the Add is left out where the accumulating node has added the bias."""
    column = _column(layer.rank)
    if layer.kind is not QuantizedKind.LINEAR:
        tensor = graph.node("Add", f"{name}/Add", (tensor, graph.floats(f"{name}.offset", found.bias, column)))
    tensor = graph.node("Mul", f"{name}/Mul", (tensor, graph.floats(f"{name}.mult", found.scale, column)))
    tensor = _shift(graph, name, tensor, found.shift, column)
    return graph.clip(f"{name}/Clip", tensor, found.clip, output)


def _plain(graph: _Graph, step: NodeStep) -> None:
    names = {name: graph.constant(name, value) for name, value in step.constants.items()}
    inputs = tuple(names.get(name, name) for name in step.node.inputs)
    label = step.node.name or f"{step.node.op_type}_{step.node.outputs[0]}"
    while label in graph.labels:
        label += "_"
    graph.labels.add(label)
    graph.nodes.append(replace(step.node, name=label, inputs=inputs))
