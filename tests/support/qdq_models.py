"""QDQ models made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["quantized_model"]


def quantized_model(path: Path) -> Path:
    """A QDQ model of one layer; its multiplier of 1/4 makes ties, which arithmetics round differently."""
    arrays = {
        "sx": np.array(0.5, np.float32),
        "zx": np.array(128, np.uint8),
        "w": np.array([[1, 2, 3], [-1, 1, 2], [2, 0, -3]], np.int8),
        "sw": np.array(0.25, np.float32),
        "zw": np.array(0, np.int8),
        "b": np.array([1, 2, 3], np.int32),
        "sb": np.array(0.125, np.float32),
        "zb": np.array(0, np.int32),
        "sy": np.array(0.5, np.float32),
        "zy": np.array(127, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wr"]),
        helper.make_node("DequantizeLinear", ["b", "sb", "zb"], ["br"]),
        helper.make_node("Gemm", ["xr", "wr", "br"], ["yr"], name="layer"),
        helper.make_node("QuantizeLinear", ["yr", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]),
    ]
    shaped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    graph = helper.make_graph(
        nodes, "qdq", shaped[:1], shaped[1:], [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
