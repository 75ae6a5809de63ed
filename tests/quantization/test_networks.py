"""Random float networks, quantized: equal to onnxruntime, layers of the NPU only, all widths kept, close to the float model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.bounds import Property, certify
from npusim.bounds.report import findings_of
from npusim.floats.forward import forward
from npusim.floats.reader import read_float_network
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.quantization import quantize
from support.float_networks import FloatBuilder, RandomNetwork, random_networks, samples
from support.quantize_checks import check_widths, signal_to_noise
from support.runtime_check import compare_with_runtime

MOVES = {"Reshape", "Flatten", "Transpose", "Concat", "Resize", "Slice"}


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(random_networks(), st.sampled_from([8, 4, 2]), st.sampled_from([8, 8, 4]), st.booleans())
def test_random_networks(network: RandomNetwork, weight_bits: int, activation_bits: int, float_output: bool) -> None:
    x = samples(network.shape, seed=network.seed)
    found = quantize(network.model, x, weight_bits, activation_bits, float_output=float_output)
    session = InferenceSession(found.content)
    check_widths(session.program, weight_bits, activation_bits)
    hosted = {step.operator for step in session.program.host_operations}
    assert hosted <= (MOVES | {"Mul"} if float_output else MOVES)
    certificate = certify(session.program)
    assert certificate.model[Property.ONNXRUNTIME_EXACT].holds
    assert [one for one in findings_of(certificate) if one.severity == "error"] == []
    compare_with_runtime(found.content, {"input": x[:4]})
    if weight_bits == 8 and activation_bits == 8:
        (wanted,) = InferenceSession(network.model, check_finite=False).run(None, {"input": x})
        (given,) = session.run(None, {"input": x})
        scale = 1.0 if float_output else next(iter(found.output_scales.values()))
        assert signal_to_noise(wanted, given * np.float64(scale)) > 20


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(random_networks())
def test_float_network_computes_what_the_graph_does(network: RandomNetwork) -> None:
    x = samples(network.shape, 3, seed=network.seed)
    read = read_float_network(read_graph(open_model(network.model)))
    session = InferenceSession(network.model)
    tensors = forward(read, {"input": x})
    for name, wanted in zip(read.outputs, session.run(None, {"input": x}), strict=True):
        np.testing.assert_allclose(tensors[name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert read.warnings == ()


def test_same_input_gives_the_same_bytes() -> None:
    graph = FloatBuilder((1, 3, 16, 1))
    graph.conv(8, 3)
    graph.relu()
    graph.global_average()
    graph.flatten()
    graph.linear(3)
    x = samples(graph.shape)
    assert quantize(graph.model(), x, 4).content == quantize(graph.model(), x, 4).content


@pytest.mark.parametrize(("bits", "floor"), [(8, 32), (4, 24), (2, 12)])
def test_a_small_network_keeps_its_signal(bits: int, floor: float) -> None:
    graph = FloatBuilder((1, 3, 32, 1), seed=3)
    graph.batch_norm()
    graph.conv(8, 5)
    graph.relu()
    graph.max_pool()
    graph.conv(16, 3)
    graph.relu()
    graph.global_average()
    graph.flatten()
    graph.linear(4)
    found = quantize(graph.model(), samples(graph.shape, 200), bits, float_output=True)
    x = samples(graph.shape, 64, seed=9)
    (wanted,) = InferenceSession(graph.model()).run(None, {"input": x})
    (given,) = InferenceSession(found.content).run(None, {"input": x})
    assert signal_to_noise(wanted, given) > floor
    assert [layer.kind for layer in found.layers] == [
        "input", "conv", "max_pool", "conv", "average_pool", "linear",
    ]  # fmt: skip
