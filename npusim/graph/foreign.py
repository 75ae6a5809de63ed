"""ONNX Runtime's quantized operators (domain com.microsoft): which there are, and what their results look like.

ONNX has no schema for them. Each is an operator of ONNX on codes: its results have the shape that operator gives, and the
element type of the zero point of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph.graph import Node, TensorType

__all__ = ["FOREIGN_DOMAIN", "FOREIGN_OPERATORS", "Counterpart", "foreign_types"]

FOREIGN_DOMAIN: Final = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The ONNX operator that a quantized one stands for.

    Attributes
    ----------
    op_type
        Its name; empty where the result has the shape of the first operand.
    operands
        Where the operands stand among the inputs; those of Concat are found by their distance.
    result
        Where the zero point of the result stands; its element type is the result's.
    attributes
        Attributes of the ONNX operator that the quantized one has as well.
    """

    op_type: str
    operands: tuple[int, ...]
    result: int
    attributes: tuple[str, ...] = ()


_WINDOW: Final = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

FOREIGN_OPERATORS: Final[Mapping[str, Counterpart]] = MappingProxyType(
    {
        "QuantizeLinear": Counterpart("", (0,), 2),
        "DequantizeLinear": Counterpart("", (0,), 1),
        "QGemm": Counterpart("Gemm", (0, 3), 8, ("alpha", "transA", "transB")),
        "QLinearAdd": Counterpart("Add", (0, 3), 7),
        "QLinearMul": Counterpart("Mul", (0, 3), 7),
        "QLinearAveragePool": Counterpart("AveragePool", (0,), 4, _WINDOW),
        "QLinearGlobalAveragePool": Counterpart("GlobalAveragePool", (0,), 4),
        "QLinearLeakyRelu": Counterpart("LeakyRelu", (0,), 4, ("alpha",)),
        "QLinearSigmoid": Counterpart("Sigmoid", (0,), 4),
        "QLinearSoftmax": Counterpart("Softmax", (0,), 4, ("axis",)),
        "QLinearConcat": Counterpart("Concat", (2,), 1, ("axis",)),
    }
)
"""Every operator of the domain that npusim reads."""

CONCAT_STEP: Final = 3
"""QLinearConcat has scale and zero point of the result, then tensor, scale and zero point of each operand."""


def foreign_types(
    node: Node,
    types: Mapping[str, TensorType],
    infer: Callable[[Node, Mapping[str, TensorType]], tuple[TensorType | None, ...]],
) -> tuple[TensorType | None, ...]:
    """Types of the outputs of an operator in :data:`FOREIGN_OPERATORS`.

    Parameters
    ----------
    node
        The node.
    types
        Types of at least the node's inputs.
    infer
        Types of the outputs of an ONNX operator on floats.

    Raises
    ------
    ModelError
        If inputs are missing or do not fit each other.
    UnsupportedError
        If its data is channels last.
    """
    counterpart = FOREIGN_OPERATORS[node.op_type]
    if node.integer("channels_last", 0):
        raise UnsupportedError(
            f"{node} works on data with the channels last, which npusim does not read; export the model with channels first"
        )
    operands = counterpart.operands
    if counterpart.op_type == "Concat":
        operands = tuple(range(operands[0], len(node.inputs), CONCAT_STEP))
    if not operands or max(operands) >= len(node.inputs) or not all(node.inputs[place] for place in operands):
        raise ModelError(f"{node} has {len(node.inputs)} inputs, which are too few; the model is damaged, export it again")
    dtype = _result_type(node, counterpart, types)
    if not counterpart.op_type:
        return (TensorType(dtype, types[node.inputs[0]].shape),)
    names = tuple(node.inputs[place] for place in operands)
    attributes = {name: value for name, value in node.attributes.items() if name in counterpart.attributes}
    plain = Node(counterpart.op_type, node.name, names, node.outputs, attributes)
    found = infer(plain, {name: replace(types[name], dtype=np.dtype(np.float32)) for name in names})
    return tuple(None if kind is None else replace(kind, dtype=dtype) for kind in found)


def _result_type(node: Node, counterpart: Counterpart, types: Mapping[str, TensorType]) -> np.dtype[np.generic]:
    place = counterpart.result
    if place < len(node.inputs) and node.inputs[place]:
        return types[node.inputs[place]].dtype
    if counterpart.op_type == "Gemm":
        # without scale and zero point of the result QGemm gives real numbers
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if node.op_type == "QuantizeLinear" else types[node.inputs[0]].dtype
