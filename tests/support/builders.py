"""Builds small TINPU graphs in every exporter's dialect, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from support.models import model_of

__all__ = ["DIALECTS", "GraphBuilder"]

DIALECTS = ("ts17", "ts17new", "dyn18v", "dyn18vnew", "nosim", "bias_in_conv", "constant_first", "min_max")
"""The exporters' dialects, and three spellings that mean the same but that no exporter was seen to write."""


@dataclass
class GraphBuilder:
    """Appends nodes one after the other; every method returns the name of the tensor it made."""

    input_shape: tuple[int, ...]
    dialect: str = "ts17"
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"t{self.count}_{stem}"

    def constant(self, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        name = self.name("c")
        array = np.asarray(value, dtype)
        if self.dialect in ("nosim", "ts17new"):
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [self.name(op_type) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=f"/{names[0]}", **attributes))
        return names[0]

    def binary(self, op_type: str, source: str, constant: npt.ArrayLike) -> str:
        other = self.constant(constant)
        return self.node(op_type, *((other, source) if self.dialect == "constant_first" else (source, other)))

    def clip(self, source: str, lower: float, upper: float) -> str:
        if self.dialect == "min_max":
            return self.binary("Min", self.binary("Max", source, lower), upper)
        return self.node("Clip", source, self.constant(lower), self.constant(upper))

    def input_stage(self, offset: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, bits: int = 8) -> str:
        rank = len(self.input_shape)
        shaped = [np.asarray(value, np.float64).reshape(1, -1, *(1,) * (rank - 2)) for value in (offset, multiplier, shift)]
        current = self.binary("Add", "input", shaped[0])
        current = self.scale(current, shaped[1], shaped[2])
        return self.clip(self.node("Floor", current), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def scale(self, source: str, scale: npt.ArrayLike, shift: npt.ArrayLike) -> str:
        factor = np.ldexp(1.0, -np.asarray(shift, np.int64))
        if self.dialect in ("ts17new", "dyn18vnew"):
            return self.binary("Mul", source, np.asarray(scale) * factor)
        return self.binary("Mul", self.binary("Mul", source, scale), factor)

    def requantize(
        self,
        source: str,
        shape: Sequence[int],
        bias: npt.ArrayLike | None,
        scale: npt.ArrayLike,
        shift: npt.ArrayLike,
        clip: tuple[int, int],
    ) -> str:
        """Add, Mul, Mul, Floor and the saturations, per-channel values shaped like `shape`."""
        if bias is not None:
            source = self.binary("Add", source, np.asarray(bias).reshape(shape))
        current = self.scale(source, np.asarray(scale).reshape(shape), np.asarray(shift).reshape(shape))
        return self.saturate(self.node("Floor", current), clip)

    def saturate(self, source: str, clip: tuple[int, int]) -> str:
        if clip[0] == 0 and self.dialect in ("ts17", "ts17new", "nosim"):
            wide = self.clip(source, -clip[1], clip[1])
            return self.clip(self.node("Relu", wide), 0, clip[1])
        return self.clip(source, *clip)

    def convolution(
        self,
        source: str,
        weights: npt.NDArray[np.int64],
        bias: npt.NDArray[np.int64],
        scale: npt.ArrayLike,
        shift: npt.ArrayLike,
        clip: tuple[int, int],
        *,
        transposed: bool = False,
        **geometry: object,
    ) -> str:
        rank = weights.ndim - 2
        inputs = [source, self.constant(weights)]
        fused = self.dialect == "bias_in_conv"
        if fused:
            inputs.append(self.constant(bias))
        attributes = {"kernel_shape": list(weights.shape[2:]), **geometry}
        accumulated = self.node("ConvTranspose" if transposed else "Conv", *inputs, **attributes)
        shape = (1, -1, *(1,) * rank)
        return self.requantize(accumulated, shape, None if fused else bias, scale, shift, clip)

    def fully_connected(
        self,
        source: str,
        weights: npt.NDArray[np.int64],
        bias: npt.NDArray[np.int64],
        scale: npt.ArrayLike,
        shift: npt.ArrayLike,
        clip: tuple[int, int],
    ) -> str:
        """`weights` are [in, out]."""
        row = np.asarray(bias).reshape(1, -1)
        if self.dialect.startswith("ts17"):
            accumulated, separate = self.node("Gemm", source, self.constant(weights), self.constant(row)), None
        elif self.dialect.startswith("dyn"):
            accumulated, separate = self.node("Gemm", source, self.constant(weights.T), transB=1), row
        else:
            accumulated, separate = self.node("MatMul", source, self.constant(weights)), row
        return self.requantize(accumulated, (1, -1), separate, scale, shift, clip)

    def global_average(self, source: str, bias: int, scale: int, shift: int, clip: tuple[int, int]) -> str:
        axes = self.constant([2, 3], np.int64)
        summed = self.node("Round", self.node("ReduceSum", source, axes, keepdims=0))
        return self.requantize(summed, (1, 1), [bias], [scale], [shift], clip)

    def average_pool(
        self,
        source: str,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        bias: int,
        scale: int,
        shift: int,
        clip: tuple[int, int],
    ) -> str:
        pooled = self.node("AveragePool", source, kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=1)
        summed = self.node("Round", self.binary("Mul", pooled, float(np.prod(kernel))))
        return self.requantize(summed, (1, 1), [bias], [scale], [shift], clip)

    def model(self, *outputs: str, output_shapes: Sequence[Sequence[int] | None] = (), batch: int | str = 1) -> bytes:
        shapes = [*output_shapes, *[None] * (len(outputs) - len(output_shapes))]
        return model_of(
            self.nodes,
            {"input": (np.float32, (batch, *self.input_shape[1:]))},
            {name: (np.float32, shape) for name, shape in zip(outputs, shapes, strict=True)},
            opset=self.opset,
            initializers=self.initializers,
        )
