"""Fused layers of a QDQ model as operators on codes, so that ONNX Runtime computes each of them as its optimizer would fuse it.

ONNX Runtime fuses float operations between codes only where nothing else reads their results: a graph whose inner tensors are
asked for is fused in other places than the graph itself. An operator on codes is one kernel at every level of optimization.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.graph import Array, Attribute, Node
from npusim.graph.foreign import FOREIGN_DOMAIN
from npusim.graph.onnx_writer import write_model
from npusim.kernels.qlinear import Affine, add_codes, multiply_codes
from npusim.program.direct import AffineCombination, Average, Elementwise, FusedAverage, Softmax
from npusim.program.float_multiplier import FloatMultiplier
from npusim.program.layers import (
    Accumulating,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MatrixProduct,
    Weighted,
    Window,
)
from npusim.program.lowering.operands import CODES_OF
from npusim.program.program import Program, Tensor
from npusim.program.requantization import Clip, IntegerArray

__all__ = ["OnCodes", "on_codes", "saturation_probe"]

_FLOAT, _INT32 = 1, 6
_ELEMENT_TYPES: Final[Mapping[str, int]] = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5}
_INT8, _INT32_RANGE = Clip(-128, 127), Clip(-(2**31), 2**31 - 1)
_PROBE: Final = 64
"""Products of the largest codes; their sum is below 2**24."""

_FLAT_SOFTMAX, _SOFTMAX = 12, 13
"""Operator sets before and since which a softmax goes along one axis."""


@dataclass(slots=True)
class OnCodes:
    """What takes the place of the producers of some tensors of a model.

    Attributes
    ----------
    nodes
        The last of each layer's nodes produces a tensor of the model, all before it produce new ones.
    constants
        What they read beside tensors of the model.
    written
        Names of the layers that they compute.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def quantize(self, real: str, codes: Tensor) -> None:
        """The codes that a tensor of real numbers stands for; each of them is one of the numbers that codes stand for."""
        if codes.scale is None:
            return
        steps = (("Div", np.float32(codes.scale)), ("Round", None), ("Add", np.float32(codes.zero_point)))
        source = real
        for op_type, operand in steps:
            output = f"{codes.name}/{op_type}"
            inputs = [source]
            if operand is not None:
                self.constants[f"{output}/operand"] = np.array(operand)
                inputs.append(f"{output}/operand")
            self.nodes.append(Node(op_type, output, tuple(inputs), (output,)))
            source = output
        to = _ELEMENT_TYPES[codes.dtype.name]
        self.nodes.append(Node("Cast", f"{codes.name}/Cast", (source,), (codes.name,), {"to": to}))


class _NotWritten(Exception):  # noqa: N818 - a finding: the layer stays what it is in the file
    """Raised for layers that no kernel on codes computes."""


def on_codes(program: Program, present: Collection[str], *, fused: bool, unsigned_weights: bool = False) -> OnCodes:
    """Codes that a file has as real numbers only, made of these; and the fused layers of a program as operators on codes.

    A layer ``clip(rint(f32(acc + bias) * multiplier))`` has the scale 1 for its input and its result and the multiplier for
    its weights, so that the kernel multiplies by that very float32. Layers that the arithmetic leaves to float operations
    stay as the file has them.

    Parameters
    ----------
    program
        Of a QDQ or QOperator model.
    present
        The tensors of the file.
    fused
        Write layers of the arithmetic ``ort`` as operators; otherwise they stay as they are.
    unsigned_weights
        Give weights as uint8 codes where the input has such codes: some processors add products of uint8 and int8 codes in 16
        bits, which saturates.
    """
    made = OnCodes()
    behind = {CODES_OF.format(name): name for name in present}
    for step in program.steps:
        name = step.tensors[-1]
        if name not in present and name in behind:
            made.quantize(behind[name], program.tensors[name])
        elif fused and isinstance(step, IntegerLayer):
            part = _Layer(program, step, unsigned_weights)
            try:
                part.write()
            except _NotWritten:
                continue
            made.nodes += part.nodes
            made.constants.update(part.constants)
            made.written.append(step.name)
    return made


def saturation_probe() -> tuple[bytes, dict[str, Array], int]:
    """A model that adds products of the largest uint8 and int8 codes, its input, and the exact sum."""
    nodes = (
        Node("Cast", "codes", ("input",), ("codes",), {"to": _ELEMENT_TYPES["uint8"]}),
        Node("MatMulInteger", "product", ("codes", "weights"), ("product",)),
        Node("Cast", "sum", ("product",), ("sum",), {"to": _FLOAT}),
    )
    weights = np.full((_PROBE, 1), _INT8.upper, np.int8)
    content = write_model(nodes, {"weights": weights}, inputs={"input": (1, _PROBE)}, outputs={"sum": (1, 1)})
    return content, {"input": np.full((1, _PROBE), 255, np.float32)}, _PROBE * 255 * _INT8.upper


@dataclass(slots=True)
class _Layer:
    """The nodes of one layer."""

    program: Program
    layer: IntegerLayer
    unsigned_weights: bool
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def write(self) -> None:
        layer = self.layer
        match layer:
            case Accumulating(requantization=FloatMultiplier() as requantization):
                self._sum(layer, requantization)
            case Elementwise(combination=AffineCombination() as combination):
                self._pair(layer, combination)
            case Average(averaging=FusedAverage() as average):
                self._average(layer, average)
            case Softmax():
                self._softmax(layer)
            case _:
                raise _NotWritten

    def _tensor(self, name: str) -> Tensor:
        return self.program.tensors[self.program.resolve(name)]

    def _value(self, label: str, value: Array) -> str:
        name = f"{self.layer.output}/npusim/{label}"
        self.constants[name] = value
        return name

    def _described(self, label: str, scale: float | Array, zero_point: int, dtype: np.dtype[np.generic]) -> list[str]:
        """Scale and zero point among the inputs of an operator."""
        return [
            self._value(f"{label}_scale", np.asarray(scale, np.float32)),
            self._value(f"{label}_zero_point", np.full(np.shape(scale), zero_point, dtype)),
        ]

    def _own(self, label: str, name: str) -> list[str]:
        """A tensor's own scale and zero point."""
        tensor = self._tensor(name)
        if tensor.scale is None:
            raise _NotWritten
        return self._described(label, tensor.scale, tensor.zero_point, tensor.dtype)

    def _node(self, op_type: str, inputs: list[str], output: str, attributes: Mapping[str, Attribute], *, foreign: bool) -> str:
        name = f"{output}/{op_type}"
        self.nodes.append(Node(op_type, name, tuple(inputs), (output,), attributes, FOREIGN_DOMAIN if foreign else ""))
        return output

    def _finish(
        self, op_type: str, inputs: list[str], clip: Clip, attributes: Mapping[str, Attribute], *, foreign: bool
    ) -> None:
        """The operator, and behind it a saturation that is narrower than its element type."""
        tensor = self._tensor(self.layer.output)
        limits = np.iinfo(np.dtype(tensor.dtype.name))
        allowed = Clip(clip.lower + tensor.zero_point, clip.upper + tensor.zero_point)
        if allowed == Clip(int(limits.min), int(limits.max)):
            self._node(op_type, inputs, self.layer.output, attributes, foreign=foreign)
            return
        inner = f"{self.layer.output}/npusim"
        self._node(op_type, inputs, f"{inner}/codes", attributes, foreign=foreign)
        self._node("Cast", [f"{inner}/codes"], f"{inner}/floats", {"to": _FLOAT}, foreign=False)
        ends = [
            self._value(label, np.array(end, np.float32)) for label, end in (("lower", allowed.lower), ("upper", allowed.upper))
        ]
        self._node("Max", [f"{inner}/floats", ends[0]], f"{inner}/raised", {}, foreign=False)
        self._node("Min", [f"{inner}/raised", ends[1]], f"{inner}/clipped", {}, foreign=False)
        to = _ELEMENT_TYPES[tensor.dtype.name]
        self._node("Cast", [f"{inner}/clipped"], self.layer.output, {"to": to}, foreign=False)

    def _same_types(self, *names: str) -> None:
        """The kernels of ONNX Runtime have operands and result of one element type."""
        kinds = {self._tensor(name).dtype for name in (*names, self.layer.output)}
        if len(kinds) != 1 or next(iter(kinds)).name not in ("uint8", "int8"):
            raise _NotWritten

    def _sum(self, layer: Accumulating, requantization: FloatMultiplier) -> None:
        source = layer.inputs[0]
        self._same_types(source)
        found = self._tensor(source)
        if isinstance(layer, AveragePool):
            inputs = [source, *self._own("x", source), *self._own("y", layer.output)]
            self._finish("QLinearGlobalAveragePool", inputs, layer.output_clip, {"channels_last": 0}, foreign=True)
            return
        factors = requantization.multiplier
        inputs = [source, *self._described("x", 1.0, found.zero_point, found.dtype)]
        result = self._described("y", 1.0, self._tensor(layer.output).zero_point, found.dtype)
        if isinstance(layer, MatrixProduct):
            second = self._tensor(layer.inputs[1])
            inputs += [layer.inputs[1], *self._described("w", float(factors[0]), second.zero_point, second.dtype)]
            self._finish("QLinearMatMul", [*inputs, *result], layer.output_clip, {}, foreign=False)
            return
        if not isinstance(layer, Weighted):
            raise _NotWritten
        inputs += self._weights(layer, factors, signed=found.dtype == np.int8)
        bias = requantization.bias
        if not _INT32_RANGE.lower <= bias.min(initial=0) <= bias.max(initial=0) <= _INT32_RANGE.upper:
            raise _NotWritten
        added = self._value("bias", bias.astype(np.int32))
        match layer:
            case Convolution(window=window, group=group):
                attributes = {**_geometry(window), "dilations": window.dilations, "group": group}
                self._finish("QLinearConv", [*inputs, *result, added], layer.output_clip, attributes, foreign=False)
            case FullyConnected() if len(layer.input_shape) == 2:
                self._finish("QGemm", [*inputs, added, *result], layer.output_clip, {"transB": 0}, foreign=True)
            case FullyConnected() if not bias.any():
                self._finish("QLinearMatMul", [*inputs, *result], layer.output_clip, {}, foreign=False)
            case _:
                raise _NotWritten

    def _weights(self, layer: Weighted, factors: Array, *, signed: bool) -> list[str]:
        """Codes, scale of each channel and zero point."""
        weights, lowest = layer.weights, int(layer.weights.min(initial=0))
        if _within(weights, _INT8) and (signed or not self.unsigned_weights):
            return [self._value("w", weights.astype(np.int8)), *self._described("w", factors, 0, np.dtype(np.int8))]
        point = max(128, -lowest) if _within(weights, _INT8) else -lowest
        if signed or not _within(weights + point, Clip(0, 255)):
            raise _NotWritten
        codes = (weights + point).astype(np.uint8)
        return [self._value("w", codes), *self._described("w", factors, point, np.dtype(np.uint8))]

    def _pair(self, layer: Elementwise, combination: AffineCombination) -> None:
        names: dict[object, str] = {add_codes: "QLinearAdd", multiply_codes: "QLinearMul"}
        op_type = names.get(combination.formula)
        if op_type is None:
            raise _NotWritten
        self._same_types(*layer.inputs)
        dtype = self._tensor(layer.output).dtype
        variable = list(layer.inputs)
        operands: list[str] = []
        for label, affine in (("a", combination.first), ("b", combination.second)):
            is_constant = layer.constant is not None and layer.constant_first == (label == "a")
            name = self._constant_codes(label, layer.constant, affine, dtype) if is_constant else variable.pop(0)
            operands += [name, *self._described(label, affine.scale, affine.zero_point, dtype)]
        result = self._described("y", combination.result.scale, combination.result.zero_point, dtype)
        self._finish(op_type, [*operands, *result], combination.clip, {}, foreign=True)

    def _constant_codes(self, label: str, centred: IntegerArray | None, affine: Affine, dtype: np.dtype[np.generic]) -> str:
        if centred is None or (affine.lower, affine.upper) != (np.iinfo(dtype.name).min, np.iinfo(dtype.name).max):
            raise _NotWritten
        return self._value(label, (centred + affine.zero_point).astype(dtype))

    def _average(self, layer: Average, average: FusedAverage) -> None:
        source = layer.inputs[0]
        self._same_types(source)
        attributes = {
            **_geometry(average.window),
            "ceil_mode": int(average.window.ceil_mode),
            "count_include_pad": int(average.count_include_pad),
        }
        inputs = [source, *self._own("x", source), *self._own("y", layer.output)]
        self._finish("QLinearAveragePool", inputs, average.clip, attributes, foreign=True)

    def _softmax(self, layer: Softmax) -> None:
        source = layer.inputs[0]
        self._same_types(source)
        limits = Clip(layer.result.lower - layer.result.zero_point, layer.result.upper - layer.result.zero_point)
        attributes = {"axis": layer.axis, "opset": _FLAT_SOFTMAX if layer.flat else _SOFTMAX}
        inputs = [source, *self._own("x", source), *self._own("y", layer.output)]
        self._finish("QLinearSoftmax", inputs, limits, attributes, foreign=True)


def _geometry(window: Window) -> dict[str, Attribute]:
    return {"kernel_shape": window.kernel_shape, "strides": window.strides, "pads": window.pads}


def _within(values: IntegerArray, clip: Clip) -> bool:
    return bool(clip.lower <= values.min(initial=0) and values.max(initial=0) <= clip.upper)
