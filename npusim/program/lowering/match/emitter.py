"""A program as an ONNX file of the PLiNIO / MATCH family, with the annotations that its exporter writes.

A layer is ``Conv`` or ``MatMul`` without bias, ``Mul`` (integer multiplier of each channel), ``Add`` (bias times multiplier),
``Div`` by a power of two, ``Floor``, ``Clip``; all tensors are float32 and hold integers, in opset 10, in which bounds of a
clip are attributes. Output channels whose weights have fewer bits stand in branches of their own, which a ``Concat`` joins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Array, Attribute, Node
from npusim.graph.onnx_writer import write_model
from npusim.program.layers import (
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MaxPool,
    ResidualConvolution,
    TransposedConvolution,
    Weighted,
    Window,
)
from npusim.program.lowering.floats import flatten_node
from npusim.program.program import HostOperation, Program, QuantizeStage, Step
from npusim.program.requantization import Clip, IntegerArray
from npusim.program.shift_floor import ShiftFloor

__all__ = ["OPSET", "emit_match", "in_match_form", "old_node"]

OPSET: Final = 10

LARGEST_PRODUCT: Final = 2**31
"""Kernels of the family multiply in int32."""

FINE: Final = 7
"""Multipliers get at least so many bits where int32 has room: then no rounding of them can matter."""


def in_match_form(program: Program, bits: Mapping[str, IntegerArray]) -> tuple[Step, ...]:
    """The steps of a program for the NPU as those of the family, which give the same codes.

    Shifts of a layer's channels become one, average pools depthwise convolutions of ones, and kernels with dilations kernels
    with zeros. Layers whose channels have weights of several widths become one layer for each width.

    Parameters
    ----------
    program
        As quantization drafts it; without stages, which the family leaves to the application.
    bits
        Widths of the weights of each output channel by the layer's output, where they differ; those of one width lie together.

    Raises
    ------
    UnsupportedError
        If the family has no form for a step.
    """
    steps: list[Step] = []
    for step in program.steps:
        if isinstance(step, QuantizeStage):
            raise UnsupportedError(f"stage '{step.name}' makes codes of real numbers, which files of the family do not")
        if isinstance(step, HostOperation | MaxPool):
            steps.append(step)
        elif isinstance(step, AveragePool):
            steps += _as_convolution(step)
        elif isinstance(step, Weighted) and step.output in bits:
            steps += _branches(step, bits[step.output])
        elif isinstance(step, Weighted):
            steps.append(_aligned(_undilated(step)))
        else:
            raise UnsupportedError(f"layer '{step.name}' of kind {step.kind} has no form in files of the family")
    return tuple(steps)


def emit_match(program: Program, signed: Mapping[str, bool]) -> bytes:
    """Serialize a program whose steps :func:`in_match_form` gave.

    Parameters
    ----------
    program
        The program.
    signed
        Whether each input holds s8 codes; otherwise it holds u8. The file's metadata say so, in PLiNIO's words.

    Raises
    ------
    UnsupportedError
        If a constant has no float32.
    """
    graph = _Graph()
    for step in program.steps:
        if isinstance(step, HostOperation):
            graph.keep(step.node, program.constants)
        elif isinstance(step, MaxPool):
            attributes = {**_geometry(step.window), "ceil_mode": int(step.window.ceil_mode)}
            graph.nodes.append(Node("MaxPool", step.name, step.inputs, (step.output,), attributes))
        elif isinstance(step, IntegerLayer):
            graph.layer(step)
    inputs, outputs = ({name: program.tensors[name].shape for name in names} for names in (program.inputs, program.outputs))
    notes = {name: f"{{'precision': 8, 'signed': {signed[name]}}}" for name in program.inputs}
    return write_model(graph.nodes, graph.constants, inputs=inputs, outputs=outputs, opset=OPSET, notes=notes)


def old_node(node: Node, factors: Sequence[int]) -> tuple[Node, dict[str, Array]]:
    """A node as opset 10 writes it, with the constants that it reads beside those it had.

    Parameters
    ----------
    node
        One that moves data.
    factors
        How often each axis is repeated, for a resize.
    """
    if node.op_type != "Resize":
        return node, {}
    name = f"{node.outputs[0]}/scales"
    made = Node("Resize", node.name, (node.inputs[0], name), node.outputs, {"mode": "nearest"})
    return made, {name: np.array(factors, np.float32)}


@dataclass
class _Graph:
    """Nodes and constants so far."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def keep(self, node: Node, constants: Mapping[str, Array]) -> None:
        """A node that moves codes."""
        self.nodes.append(node)
        self.constants.update({name: constants[name] for name in node.inputs if name in constants})

    def layer(self, layer: IntegerLayer) -> None:
        """A sum and its requantization, and a residual behind it."""
        if not isinstance(layer, Weighted) or not isinstance(layer.requantization, ShiftFloor):
            raise UnsupportedError(f"layer '{layer.name}' of kind {layer.kind} has no form in files of the family")
        found = layer.requantization
        weights = f"{layer.output}.weight"
        self.constants[weights] = _float32(layer.weights, layer.name)
        operator, attributes = _operator(layer)
        tensor = self.node(operator, layer.name, (layer.inputs[0], weights), attributes)
        column = [-1 if axis == layer.channel_axis else 1 for axis in range(len(layer.accumulator_shape))]
        addend = found.bias * found.scale + found.addend
        factors = self.value(layer.name, _float32(found.scale, layer.name).reshape(column))
        tensor = self.node("Mul", layer.name, (tensor, factors), {"mult_bits": 32})
        added = self.value(layer.name, _float32(addend, layer.name).reshape(column))
        tensor = self.node("Add", layer.name, (tensor, added), {"add_bits": 32})
        divisor = np.ldexp(np.float32(1), found.shift[:1]).astype(np.float32)
        if not isinstance(layer, ResidualConvolution):
            self._divided(layer.name, tensor, divisor, found.clip, layer.output)
            return
        own = self._divided(layer.name, tensor, divisor, found.clip)
        one, name = np.ones((), np.float32), f"{layer.name}/sum"
        tensor = self.node("Add", name, (own, layer.inputs[1]), {"add_bits": 32})
        tensor = self.node("Mul", name, (tensor, self.value(name, one)), {"mult_bits": 32})
        self._divided(name, tensor, one, layer.saturation, layer.output)

    def _divided(self, name: str, tensor: str, divisor: Array, clip: Clip, output: str = "") -> str:
        tensor = self.node("Div", name, (tensor, self.value(name, divisor)))
        tensor = self.node("Floor", name, (tensor,))
        bits = (clip.upper - clip.lower).bit_length()
        bounds: dict[str, Attribute] = {"max": float(clip.upper), "min": float(clip.lower), "out_bits": bits}
        return self.node("Clip", name, (tensor,), bounds, output=output)

    def value(self, layer: str, value: Array) -> str:
        """A constant, as a node."""
        return self.node("Constant", layer, (), {"value": value})

    def node(
        self,
        operator: str,
        layer: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        output: str = "",
    ) -> str:
        """Append a node; without `output` its result gets a name made of the layer's."""
        number = sum(node.name.startswith(f"{layer}/{operator}") for node in self.nodes)
        name = f"{layer}/{operator}{f'_{number}' if number else ''}"
        self.nodes.append(Node(operator, name, tuple(inputs), (output or f"{name}_output_0",), dict(attributes or {})))
        return self.nodes[-1].outputs[0]


def _operator(layer: Weighted) -> tuple[str, dict[str, Attribute]]:
    widths: dict[str, Attribute] = {"weight_bits": layer.weight_bits, "bias_bits": 32}
    if isinstance(layer, FullyConnected):
        return "MatMul", widths
    if isinstance(layer, Convolution):
        return "Conv", {**_geometry(layer.window), "group": layer.group, **widths}
    if isinstance(layer, TransposedConvolution):
        attributes = {**_geometry(layer.window), "group": layer.group, **widths}
        if any(layer.window.output_padding):
            attributes["output_padding"] = layer.window.output_padding
        return "ConvTranspose", attributes
    raise UnsupportedError(f"layer '{layer.name}' of kind {layer.kind} has no form in files of the family")


def _geometry(window: Window) -> dict[str, Attribute]:
    return {
        "dilations": window.dilations,
        "kernel_shape": window.kernel_shape,
        "pads": window.pads,
        "strides": window.strides,
    }


def _float32(values: IntegerArray, layer: str) -> Array:
    found = values.astype(np.float32)
    if not np.array_equal(found.astype(np.int64), values):
        raise UnsupportedError(f"layer '{layer}' has constants that no float32 holds, in which files of the family keep them")
    return found


def _as_convolution(pool: AveragePool) -> list[Step]:
    """An average pool as a depthwise convolution of ones, and a reshape where it drops axes."""
    channels, window = pool.input_shape[1], pool.window
    drops = len(pool.output_shape) < len(pool.input_shape)
    shape = (*pool.output_shape[:2], *(1,) * (len(pool.input_shape) - 2)) if drops else pool.output_shape
    output = f"{pool.output}/pooled" if drops else pool.output
    made = Convolution(
        name=pool.name,
        inputs=pool.inputs,
        output=output,
        input_shape=pool.input_shape,
        output_shape=shape,
        nodes=(),
        accumulator_shape=shape,
        channel_axis=1,
        requantization=pool.requantization,
        taps=(),
        weights=np.ones((channels, 1, *window.kernel_shape), np.int64),
        weight_bits=2,
        window=replace(window, dilations=(1,) * len(window.kernel_shape), ceil_mode=False),
        group=channels,
    )
    if not drops:
        return [_aligned(made)]
    node = flatten_node(output, pool.output, f"{pool.name}/Flatten")
    return [_aligned(made), HostOperation(node.name, node.op_type, node, "")]


def _undilated(layer: Weighted) -> Weighted:
    """A convolution with zeros in its kernel instead of dilations, as PLiNIO writes them."""
    if not isinstance(layer, Convolution | TransposedConvolution) or all(step == 1 for step in layer.window.dilations):
        return layer
    window = layer.window
    sizes = [(size - 1) * step + 1 for size, step in zip(window.kernel_shape, window.dilations, strict=True)]
    weights = np.zeros((*layer.weights.shape[:2], *sizes), layer.weights.dtype)
    weights[(slice(None), slice(None), *(slice(None, None, step) for step in window.dilations))] = layer.weights
    wide = replace(window, kernel_shape=tuple(sizes), dilations=(1,) * len(sizes))
    return replace(layer, weights=weights, window=wide)


def _branches(layer: Weighted, bits: IntegerArray) -> list[Step]:
    """A layer for each width of weights, and what joins their channels again."""
    if isinstance(layer, TransposedConvolution) or (isinstance(layer, Convolution) and layer.group != 1):
        raise UnsupportedError(f"layer '{layer.name}' has groups or is transposed, and its channels cannot be parted")
    widths = list(dict.fromkeys(bits.tolist()))
    if any(np.ptp(np.flatnonzero(bits == width)) >= (bits == width).sum() for width in widths):
        raise UnsupportedError(f"channels of layer '{layer.name}' with weights of one width do not lie together")
    steps: list[Step] = []
    made = []
    found = layer.requantization
    if not isinstance(found, ShiftFloor):
        raise UnsupportedError(f"layer '{layer.name}' has no requantization of the family")
    for number, width in enumerate(widths):
        chosen = bits == width
        count = int(chosen.sum())
        weights = layer.weights[:, chosen] if isinstance(layer, FullyConnected) else layer.weights[chosen]
        part = ShiftFloor(found.bias[chosen], found.scale[chosen], found.shift[chosen], clip=found.clip)
        axis = layer.channel_axis
        shape = tuple(count if place == axis else size for place, size in enumerate(layer.output_shape))
        made.append(f"{layer.output}/{number}")
        steps.append(
            _aligned(
                _undilated(
                    replace(
                        layer,
                        name=f"{layer.name}.{number}",
                        output=made[-1],
                        output_shape=shape,
                        accumulator_shape=shape,
                        weights=weights,
                        weight_bits=int(width),
                        requantization=part,
                    )
                )
            )
        )
    node = Node("Concat", f"{layer.name}/Concat", tuple(made), (layer.output,), {"axis": layer.channel_axis})
    steps.append(HostOperation(node.name, node.op_type, node, ""))
    return steps


def _aligned(layer: Weighted) -> Weighted:
    """A layer whose channels share one shift: multipliers of the others take up the difference."""
    found = layer.requantization
    if not isinstance(found, ShiftFloor) or found.addend.any() or found.toward_zero:
        raise UnsupportedError(f"the requantization of layer '{layer.name}' has no form in files of the family")
    axis = 1 if isinstance(layer, FullyConnected | TransposedConvolution) else 0
    silent = _silent(layer, axis)
    bias, scale, shift = (np.where(silent, 0, part) for part in (found.bias, found.scale, found.shift))
    # a channel without weights has one code, whatever its shift
    held = np.clip((found.bias * found.scale) >> found.shift, found.clip.lower, found.clip.upper)
    common = int(shift.max())
    factor = np.where(silent, 1, scale << (common - shift))
    reach = np.abs(layer.weights).sum(axis=tuple(place for place in range(layer.weights.ndim) if place != axis))
    if isinstance(layer, TransposedConvolution):
        reach = np.tile(reach, layer.group)
    largest = int(((reach * 255 + np.abs(bias)) * factor).max())
    extra = 0
    if (factor[~silent] > 1).any():
        smallest = int(factor[~silent].min())
        while smallest << extra < 1 << FINE and largest << (extra + 1) < LARGEST_PRODUCT and common + extra < 31:
            extra += 1
    factor, common = np.where(silent, 1, factor << extra), common + extra
    addend = np.where(silent, held << common, bias * factor)
    nothing = np.zeros_like(factor)
    plain = bool((factor == 1).all())
    made = ShiftFloor(
        addend if plain else nothing,
        factor,
        np.full_like(factor, common),
        nothing if plain else addend,
        clip=found.clip,
    )
    return replace(layer, requantization=made)


def _silent(layer: Weighted, axis: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Output channels without weights."""
    others = tuple(place for place in range(layer.weights.ndim) if place != axis)
    silent = np.asarray(~layer.weights.any(axis=others))
    if isinstance(layer, TransposedConvolution) and layer.group > 1:
        parts = layer.weights.reshape(layer.group, -1, *layer.weights.shape[1:])
        silent = ~parts.any(axis=(1, *range(3, parts.ndim))).reshape(-1)
    return silent
