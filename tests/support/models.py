"""ONNX models from nodes, for tests, and what onnxruntime makes of them: the one place where either is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

__all__ = ["model_of", "outputs_of_onnxruntime", "type_of"]

Type = tuple[npt.DTypeLike | int, Sequence[int | str | None] | None]
"""Element type (NumPy's, or ONNX's number of it) and shape of a tensor; axes that are names or
None are open, and so is the rank where the shape is None."""


def type_of(array: npt.NDArray[Any]) -> Type:
    return array.dtype, array.shape


def model_of(
    nodes: Iterable[onnx.NodeProto],
    inputs: Mapping[str, Type],
    outputs: Mapping[str, Type | None],
    constants: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    *,
    opset: int = 17,
    microsoft: bool = False,
    initializers: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """A serialized model of these nodes; None for what onnxruntime is to find out itself.

    With `microsoft`, operators of onnxruntime's own may be among the nodes.
    """
    values = [[_value(name, kind) for name, kind in ends.items()] for ends in (inputs, outputs)]
    stored = [*initializers, *(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())]
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("com.microsoft", 1)] if microsoft else [])
    graph = helper.make_graph(list(nodes), "g", *values, stored)
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def outputs_of_onnxruntime(
    model: bytes, *feeds: Mapping[str, npt.NDArray[Any]], optimized: bool = True
) -> list[list[npt.NDArray[Any]]]:
    """All outputs for each of several inputs, on one thread and without warnings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(feed)) for feed in feeds]


def _value(name: str, kind: Type | None) -> onnx.ValueInfoProto:
    if kind is None:
        return onnx.ValueInfoProto(name=name)
    dtype, shape = kind
    number = dtype if isinstance(dtype, int) else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, number, shape)
