"""Compares a session with onnxruntime tensor by tensor, written without any of npusim's own comparison code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from npusim import InferenceSession

__all__ = ["compare_with_runtime", "runtime_tensors"]


def runtime_tensors(model: bytes, feeds: Mapping[str, npt.NDArray[np.generic]]) -> list[dict[str, npt.NDArray[np.generic]]]:
    """All tensors that nodes produce, for each sample, from onnxruntime without optimizations on one thread."""
    proto = onnx.load_from_string(model)
    declared = {output.name for output in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in declared)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    count = len(next(iter(feeds.values())))
    return [
        dict(zip(outputs, session.run(None, {name: array[i : i + 1] for name, array in feeds.items()}), strict=True))
        for i in range(count)
    ]


def compare_with_runtime(model: bytes, feeds: Mapping[str, npt.NDArray[np.generic]]) -> int:
    """Every tensor that a node of the model produces is in the trace and equals onnxruntime's; returns the values compared."""
    session = InferenceSession(model)
    trace = session.trace(feeds)
    outputs = session.run(None, feeds)
    rows = runtime_tensors(model, feeds)
    compared = 0
    for position, name in enumerate(output.name for output in session.get_outputs()):
        wanted = np.concatenate([row[name] for row in rows])
        assert outputs[position].dtype == wanted.dtype, name
        np.testing.assert_array_equal(outputs[position], wanted, err_msg=name)
    constants = set(session.program.constants)
    for name in rows[0]:
        if name in constants:
            np.testing.assert_array_equal(trace[name], rows[0][name], err_msg=name)
        else:
            wanted = np.concatenate([row[name] for row in rows])
            assert trace[name].shape == wanted.shape, name
            np.testing.assert_array_equal(trace[name], wanted, err_msg=name)
        compared += wanted.size
    assert compared
    return compared
