"""Small models of the MATCH family."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["chain"]


def chain(weight: int, factor: int, addend: int, divisor: int = 2**24) -> bytes:
    """Conv over 3 places with one weight, Mul, Add, Div, Floor, Clip to bytes, with the annotations of the exporter."""
    constants = {"w": np.full((1, 1, 3, 1), weight), "factor": factor, "addend": addend, "divisor": divisor}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["acc"], weight_bits=8, bias_bits=32),
        helper.make_node("Mul", ["acc", "factor"], ["scaled"], mult_bits=32),
        helper.make_node("Add", ["scaled", "addend"], ["added"], add_bits=32),
        helper.make_node("Div", ["added", "divisor"], ["divided"]),
        helper.make_node("Floor", ["divided"], ["floored"]),
        helper.make_node("Clip", ["floored"], ["y"], min=0.0, max=255.0, out_bits=8),
    ]
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, 1])] for name, size in (("x", 6), ("y", 4))]
    graph = helper.make_graph(nodes, "match", *ends, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    return onnx.ModelProto.SerializeToString(model)
