"""QDQ networks of many kinds of layers, written node by node: every float operation between codes, as exporters write them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["QdqBuilder", "qdq_network"]


class QdqBuilder:
    """A graph whose tensors are codes of one element type, each with a scale and a zero point of its own."""

    def __init__(self, dtype: str, shape: tuple[int, ...], seed: int) -> None:
        self.random, self.dtype, self.shape = np.random.default_rng(seed), np.dtype(dtype), shape
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.count = 0

    def name(self, label: str) -> str:
        self.count += 1
        return f"{label}_{self.count}"

    def constant(self, label: str, value: np.ndarray) -> str:
        name = self.name(label)
        self.arrays[name] = value
        return name

    def node(self, op_type: str, *inputs: str, **attributes: object) -> str:
        output = self.name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], output, **attributes))
        return output

    def codes(self, real: str, scale: float) -> str:
        """Real numbers behind codes."""
        limits = np.iinfo(self.dtype)
        middle = (int(limits.min) + int(limits.max) + 1) // 2
        point = np.array(middle + self.random.integers(-9, 10), self.dtype)
        ends = self.constant("scale", np.array(scale, np.float32)), self.constant("zero_point", point)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", real, *ends), *ends)

    def weights(self, shape: tuple[int, ...], axis: int) -> str:
        values = self.random.integers(-127, 128, shape).astype(np.int8)
        scales = self.random.uniform(0.002, 0.01, shape[axis]).astype(np.float32)
        points = np.zeros(shape[axis], np.int8)
        parts = [self.constant(label, value) for label, value in (("w", values), ("scale", scales), ("zero_point", points))]
        return self.node("DequantizeLinear", *parts, axis=axis)

    def model(self, output: str, shape: tuple[int, ...], opset: int) -> bytes:
        given, made = ("input", self.shape), (output, shape)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (given, made)]
        constants = [numpy_helper.from_array(value, name) for name, value in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "qdq", ends[:1], ends[1:], constants)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString())


def qdq_network(dtype: str, seed: int = 0, *, opset: int = 17) -> bytes:
    """Convolutions, a sum, a product, means, a maximum, functions, a concatenation and a matrix."""
    graph = QdqBuilder(dtype, (1, 2, 8, 8), seed)
    unit = 0.03 if np.dtype(dtype).itemsize == 1 else 0.0001
    first = graph.codes("input", unit)
    bias = graph.constant("bias", graph.random.normal(0, 0.5, 4).astype(np.float32))
    wide = graph.codes(graph.node("Conv", first, graph.weights((4, 2, 3, 3), 0), bias, pads=[1] * 4), 1.3 * unit)
    deep = graph.codes(graph.node("Conv", wide, graph.weights((4, 1, 3, 3), 0), group=4, pads=[1] * 4), 0.9 * unit)
    total = graph.codes(graph.node("Add", wide, deep), 1.1 * unit)
    mean = graph.codes(graph.node("AveragePool", total, kernel_shape=[2, 2], strides=[2, 2]), 0.7 * unit)
    largest = graph.codes(graph.node("MaxPool", deep, kernel_shape=[2, 2], strides=[2, 2]), 0.8 * unit)
    product = graph.codes(graph.node("Mul", mean, largest), 1.7 * unit)
    shares = graph.codes(graph.node("Sigmoid", product), 0.3 * unit)
    joined = graph.codes(graph.node("Concat", product, shares, axis=1), 1.9 * unit)
    flat = graph.node("Flatten", graph.codes(graph.node("GlobalAveragePool", joined), 0.6 * unit))
    return graph.model(graph.codes(graph.node("MatMul", flat, graph.weights((8, 5), 1)), unit), (1, 5), opset)
