"""A program as an ONNX graph, in the dialect in which the TorchScript exporter writes networks for the NPU.

The way back of lowering: ``lower(emit(program)) == program`` for a program that came from this dialect. A layer is ``Conv``
without bias, ``Add`` (bias), ``Mul`` (integer scale), ``Mul`` (2**-shift), ``Floor``, ``Clip``; a fully connected one starts
with a ``Gemm`` that adds the bias itself, an average pool with a sum that is rounded back to integers. Everything is float32:
as long as no integer passes 2**24, floats carry it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Array, Attribute, Node
from npusim.graph.folding import fold
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import infer_node, read_graph
from npusim.graph.onnx_writer import write_model
from npusim.graph.scale_metadata import write_scales
from npusim.program.layers import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MaxPool,
    ResidualConvolution,
    TransposedConvolution,
    Window,
)
from npusim.program.lowering.tinpu.two_axes import with_two_axes
from npusim.program.program import HostOperation, Program, QuantizeStage, Step
from npusim.program.requantization import Clip, IntegerArray
from npusim.program.shift_floor import ShiftFloor

__all__ = ["emit", "emit_two_axes"]

_OPERATORS: Final = frozenset(("Conv", "ConvTranspose", "Gemm", "ReduceSum", "AveragePool", "MaxPool", "GlobalAveragePool"))
"""Last parts of node names that stand for a whole layer; its other nodes get names beside it."""


def emit(program: Program, scales: Mapping[str, Array] = MappingProxyType({})) -> bytes:
    """Serialize a program as an ONNX model.

    Inner tensors get names made of the layers' names; those of the stages and host operations are kept.

    Parameters
    ----------
    program
        The program. Of its tensors only the shapes of inputs and outputs are looked at.
    scales
        Real value of one code of each tensor, one number or one for each channel, which the file keeps as metadata
        (:mod:`npusim.graph.scale_metadata`).

    Returns
    -------
    bytes
        An ONNX model of the program's operator set. The same program gives the same bytes.

    Raises
    ------
    UnsupportedError
        If a layer has an arithmetic that the dialect cannot write.
    """
    graph = _Graph({*program.inputs, *program.outputs, *(name for step in program.steps for name in _outputs(step))})
    for step in program.steps:
        if isinstance(step, QuantizeStage):
            _stage(graph, step, program.constants)
        elif isinstance(step, HostOperation):
            _keep(graph, step.node, program.constants)
        else:
            _layer(graph, step)
    for name, target in program.aliases.items():
        graph.node("Identity", f"{name}/Identity", (target,), output=name)
    inputs, outputs = ({name: program.tensors[name].shape for name in names} for names in (program.inputs, program.outputs))
    # what only moves codes has the scales of what it moves
    made = {name for step in program.steps if not isinstance(step, HostOperation) for name in _outputs(step)}
    known = {*program.inputs, *program.outputs, *made}
    metadata = write_scales({name: values for name, values in scales.items() if name in known})
    return write_model(graph.nodes, graph.constants, inputs=inputs, outputs=outputs, opset=program.opset, notes=metadata)


def emit_two_axes(content: bytes) -> bytes | None:
    """What :func:`emit` gave, with a second spatial axis of size 1 where it has one; None where it has none or cannot have two.

    The vendor's compilers take layers with two spatial axes only. The integers and their names are the same.
    """
    graph = read_graph(ModelFile(None, content))
    types = {name: graph.types[name] for name in graph.inputs}
    try:
        made = with_two_axes(fold(graph, infer_node, known={}, input_types=types), keep_ends=False)
    except UnsupportedError:
        return None
    inputs, outputs = ({name: made.types[name].static_shape for name in names} for names in (made.inputs, made.outputs))
    notes = graph.metadata.custom_metadata_map
    return write_model(made.nodes, made.constants, inputs=inputs, outputs=outputs, opset=made.opset, notes=notes)


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
        name = self.label(label)
        result = output or self.unused(f"{name}_output_0")
        self.nodes.append(Node(operator, name, tuple(inputs), (result,), dict(attributes or {})))
        return result

    def label(self, name: str) -> str:
        """A node name that nothing else has."""
        while name in self.labels:
            name += "_"
        self.labels.add(name)
        return name

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


def _outputs(step: Step) -> tuple[str, ...]:
    return step.tensors if isinstance(step, HostOperation) else (step.output,)


def _stage(graph: _Graph, stage: QuantizeStage, constants: Mapping[str, Array]) -> None:
    """The nodes of a stage; its inner tensors get other names where theirs are taken."""
    renamed: dict[str, str] = {}
    for node in stage.nodes:
        (output,) = node.outputs
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        made = replace(node, inputs=inputs)
        if output != stage.output:
            renamed[output] = graph.unused(output)
            made = replace(made, outputs=(renamed[output],))
        _keep(graph, made, constants)


def _keep(graph: _Graph, node: Node, constants: Mapping[str, Array]) -> None:
    """A node as it is, with the constants that it reads."""
    names = {name: graph.constant(name, constants[name]) for name in node.inputs if name in constants}
    label = graph.label(node.name or f"{node.op_type}_{node.outputs[0]}")
    graph.nodes.append(replace(node, name=label, inputs=tuple(names.get(name, name) for name in node.inputs)))


def _layer(graph: _Graph, layer: IntegerLayer) -> None:
    name = _prefix(layer)
    if isinstance(layer, MaxPool):
        attributes = {**_geometry(layer.window), "ceil_mode": int(layer.window.ceil_mode)}
        graph.node("MaxPool", f"{name}/MaxPool", layer.inputs, attributes, output=layer.output)
        return
    if not isinstance(layer, Accumulating):
        raise UnsupportedError(f"layer '{layer.name}' of kind {layer.kind} has no form in the NPU's dialect of ONNX")
    found = layer.requantization
    if not isinstance(found, ShiftFloor) or found.addend.any() or found.toward_zero:
        raise UnsupportedError(f"the requantization of layer '{layer.name}' has no form in the NPU's dialect of ONNX")
    tensor = _accumulate(graph, name, layer, found.bias)
    if not isinstance(layer, ResidualConvolution):
        _requantize(graph, name, layer, tensor, found, layer.output)
        return
    own = _requantize(graph, name, layer, tensor, found, "")
    summed = graph.node("Add", f"{name}/Add_1", (own, layer.inputs[1]))
    graph.clip(f"{name}/Clip_1", summed, layer.saturation, layer.output)


def _prefix(layer: IntegerLayer) -> str:
    """A layer's name without the operator of its first node: ``/features.1/Conv`` gives ``/features.1``."""
    head, _, last = layer.name.rpartition("/")
    own = {"Add"} if isinstance(layer, Add) else {"MatMul"} if _is_product(layer) else set()
    return head if head and last.split("_")[0] in _OPERATORS | own else layer.name


def _is_product(layer: IntegerLayer) -> bool:
    """Whether a layer multiplies more than a vector for each sample by a matrix, which a Gemm cannot."""
    return isinstance(layer, FullyConnected) and len(layer.input_shape) > 2


def _geometry(window: Window) -> dict[str, Attribute]:
    return {
        "dilations": window.dilations,
        "kernel_shape": window.kernel_shape,
        "pads": window.pads,
        "strides": window.strides,
    }


def _accumulate(graph: _Graph, name: str, layer: Accumulating, bias: IntegerArray) -> str:
    """The tensor of sums; only that of a Gemm has the bias in it."""
    if isinstance(layer, Add):
        return graph.node("Add", f"{name}/Add", layer.inputs)
    if isinstance(layer, AveragePool):
        return _pool(graph, name, layer)
    if isinstance(layer, FullyConnected):
        weights = graph.floats(f"{name}.weight", layer.weights)
        if _is_product(layer):
            return graph.node("MatMul", f"{name}/MatMul", (layer.inputs[0], weights))
        offset = graph.floats(f"{name}.offset", bias, (1, -1))
        attributes: dict[str, Attribute] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        return graph.node("Gemm", f"{name}/Gemm", (layer.inputs[0], weights, offset), attributes)
    if isinstance(layer, Convolution | TransposedConvolution):
        return _convolution(graph, name, layer)
    raise UnsupportedError(f"layer '{layer.name}' of kind {layer.kind} has no form in the NPU's dialect of ONNX")


def _convolution(graph: _Graph, name: str, layer: Convolution | TransposedConvolution) -> str:
    weights = graph.floats(f"{name}.weight", layer.weights)
    attributes = {**_geometry(layer.window), "group": layer.group}
    if isinstance(layer, Convolution):
        return graph.node("Conv", f"{name}/Conv", (layer.inputs[0], weights), attributes)
    if any(layer.window.output_padding):
        attributes["output_padding"] = layer.window.output_padding
    return graph.node("ConvTranspose", f"{name}/ConvTranspose", (layer.inputs[0], weights), attributes)


def _pool(graph: _Graph, name: str, layer: AveragePool) -> str:
    """The sum of a window; an averaging node's mean, multiplied by the area, is an integer again once it is rounded."""
    window = layer.window
    if window.kernel_shape == layer.input_shape[2:] and not any(window.pads):
        axes = graph.constant(f"{name}.axes", np.arange(2, 2 + len(window.kernel_shape), dtype=np.int64))
        keepdims = int(len(layer.accumulator_shape) > 2)
        tensor = graph.node("ReduceSum", f"{name}/ReduceSum", (layer.inputs[0], axes), {"keepdims": keepdims})
    else:
        attributes = {**_geometry(window), "ceil_mode": 0, "count_include_pad": 1}
        del attributes["dilations"]  # known to AveragePool from opset 19 on
        tensor = graph.node("AveragePool", f"{name}/AveragePool", layer.inputs, attributes)
        area = graph.floats(f"{name}.area", np.array(np.prod(window.kernel_shape)))
        tensor = graph.node("Mul", f"{name}/Mul_2", (tensor, area))
    return graph.node("Round", f"{name}/Round", (tensor,))


def _requantize(graph: _Graph, name: str, layer: Accumulating, tensor: str, found: ShiftFloor, output: str) -> str:
    """``Add, Mul, Mul, Floor, Clip``; the Add is left out where the accumulating node has added the bias.

    Of a sum of two tensors only what changes something is written, so that it stays a plain residual.
    """
    rank = len(layer.accumulator_shape)
    column = tuple(-1 if axis == layer.channel_axis else 1 for axis in range(rank))
    plain = isinstance(layer, Add)
    if found.bias.any() if plain else not isinstance(layer, FullyConnected) or _is_product(layer):
        label = f"{name}/Add_1" if plain else f"{name}/Add"
        tensor = graph.node("Add", label, (tensor, graph.floats(f"{name}.offset", found.bias, column)))
    if not plain or (found.scale != 1).any() or found.shift.any():
        tensor = graph.node("Mul", f"{name}/Mul", (tensor, graph.floats(f"{name}.mult", found.scale, column)))
        power = np.ldexp(np.float32(1), -found.shift)
        tensor = graph.node("Mul", f"{name}/Mul_1", (tensor, graph.floats(f"{name}.shift_mult", power, column)))
        tensor = graph.node("Floor", f"{name}/Floor", (tensor,))
    return graph.clip(f"{name}/Clip", tensor, found.clip, output)
