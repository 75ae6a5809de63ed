"""Layers of float16 tensors run on the host as onnxruntime computes them: in float32, rounded where they leave the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession
from npusim.bounds import certify
from npusim.verification import verify
from support.builders import GraphBuilder
from support.models import outputs_of_onnxruntime


def network(weights: int, *, keep_inputs: bool) -> bytes:
    """Input stage, convolution, pool and fully connected layer, all tensors float16 but, if asked for, those of the edges."""
    graph = GraphBuilder((1, 4, 8, 1), "dyn18v")
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    kernel = np.random.default_rng(weights).integers(-weights, weights + 1, (4, 4, 3, 1))
    codes = graph.convolution(codes, kernel, np.arange(4), np.ones(4), np.full(4, 6), (-128, 127))
    pooled = graph.node("MaxPool", codes, kernel_shape=[2, 1], strides=[2, 1])
    flat = graph.node("Flatten", pooled)
    matrix = np.random.default_rng(7).integers(-weights, weights + 1, (12, 3))
    model = onnx.load_from_string(graph.model(graph.fully_connected(flat, matrix, [1, 2, 3], [1] * 3, [7] * 3, (-128, 127))))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    if not keep_inputs:
        for info in (*model.graph.input, *model.graph.output):
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
        return bytes(model.SerializeToString())
    result = model.graph.output[0].name
    for node in model.graph.node:
        node.input[:] = ["half" if name == "input" else name for name in node.input]
        node.output[:] = ["last" if name == result else name for name in node.output]
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["last"], [result], to=TensorProto.FLOAT))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("keep_inputs", [False, True])
@pytest.mark.parametrize("weights", [3, 30, 127])
def test_the_host_computes_float16(weights: int, keep_inputs: bool) -> None:
    model = network(weights, keep_inputs=keep_inputs)
    x = np.random.default_rng(1).normal(0, 3, (24, 4, 8, 1)).astype(np.float32 if keep_inputs else np.float16)
    wanted = np.concatenate([row[0] for row in outputs_of_onnxruntime(model, *({"input": x[i : i + 1]} for i in range(24)))])
    for engine in ("fast", "reference"):
        session = InferenceSession(model, engine=engine)
        assert not session.program.layers
        assert not session.program.quantize_stages
        (found,) = session.run(None, {"input": x})
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    assert verify(session, {"input": x})
    assert certify(session.program).verdicts.onnxruntime_exact == "unknown"
    reasons = [step.reason for step in session.program.host_operations if step.operator in ("Conv", "Gemm", "MaxPool")]
    assert len(reasons) == 3
    assert all("computes in float16" in reason for reason in reasons)


def test_verify_finds_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(network(30, keep_inputs=False))
    x = np.random.default_rng(1).normal(0, 3, (8, 4, 8, 1)).astype(np.float16)
    assert verify(session, {"input": x})
    constants = dict(session.program.constants)
    name = next(name for name, value in constants.items() if value.shape == (4, 4, 3, 1))
    monkeypatch.setitem(session.program.constants, name, constants[name] + np.float16(1))  # type: ignore[arg-type]
    assert not verify(session, {"input": x})
