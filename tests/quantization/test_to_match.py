"""Files of the MATCH dialect that quantization writes: the program that was meant, in the exporter's own words."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession, lint, verify
from npusim.errors import UnsupportedError, UsageError
from npusim.floats.forward import forward
from npusim.floats.reader import read_float_network
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.kernels import input_quantizer
from npusim.kernels.input_quantizer import quantize_input
from npusim.program import Weighted
from npusim.quantization import QuantizedModel, quantize
from npusim.quantization.channel_widths import choose_widths
from support import FORMATS_FOLDER
from support.command_line import call, checked_json
from support.float_networks import FloatBuilder, RandomNetwork, random_networks, samples
from support.quantize_checks import signal_to_noise

RANGES = {8: (-128, 127), 4: (-8, 7), 2: (-2, 1)}


def codes_of(found: QuantizedModel, x: npt.NDArray) -> npt.NDArray[np.float32]:
    """Samples as the quantizer in front of the only input gives them."""
    ((low, high),) = found.input_alpha.values()
    return quantize_input(x, low, high, 8)


def real_output(found: QuantizedModel, x: npt.NDArray) -> npt.NDArray[np.float64]:
    session = InferenceSession(found.content)
    (codes,) = session.run(None, {session.get_inputs()[0].name: codes_of(found, x)})
    (scale,) = found.output_scales.values()
    return codes.astype(np.float64) * scale


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(random_networks(), st.sampled_from([8, 4, 2, "mixed"]), st.booleans())
def test_random_networks(network: RandomNetwork, weight_bits: int | str, positive: bool) -> None:
    """That layers are read as they were meant, and give the codes that were found, is a check of quantization itself."""
    x = samples(network.shape, seed=network.seed)
    x = np.abs(x) if positive else x
    found = quantize(network.model, x, weight_bits, to="match")
    session = InferenceSession(found.content)
    assert (session.format, session.arithmetic) == ("match", "match")
    for layer in session.program.layers:
        if isinstance(layer, Weighted):
            low, high = RANGES[layer.weight_bits]
            assert low <= layer.weights.min() <= layer.weights.max() <= high
            assert np.unique(layer.requantization.shift).size == 1
    assert verify(session, {"input": codes_of(found, x[:4])})
    assert found.content == quantize(network.model, x, weight_bits, to="match").content
    if weight_bits == 8:
        (wanted,) = InferenceSession(network.model, check_finite=False).run(None, {"input": x})
        assert signal_to_noise(wanted, real_output(found, x)) > 20


def deep(seed: int = 1) -> FloatBuilder:
    graph = FloatBuilder((1, 3, 16, 16), seed)
    graph.conv(8, 3)
    graph.relu()
    graph.conv(12, 3)
    graph.relu()
    graph.max_pool()
    graph.conv(24, 3, group=12)
    graph.relu()
    graph.conv(10, 1)
    graph.relu()
    graph.average_pool()
    graph.flatten()
    graph.linear(16)
    graph.relu()
    graph.linear(5)
    return graph


def test_the_file_speaks_as_the_exporter_does() -> None:
    graph = FloatBuilder((1, 3, 8, 8), seed=2)
    before = graph.conv(4, 3)
    graph.conv(4, 1)
    graph.add(before)
    graph.relu()
    graph.flatten()
    graph.linear(2)
    found = quantize(graph.model(), np.abs(samples(graph.shape)), to="match")
    model = onnx.load_model_from_string(found.content)
    chain = ["Conv", "Constant", "Mul", "Constant", "Add", "Constant", "Div", "Floor", "Clip"]
    residual = ["Add", "Constant", "Mul", "Constant", "Div", "Floor", "Clip"]
    linear = ["MatMul", *chain[1:]]
    assert [node.op_type for node in model.graph.node] == [*chain, *chain, *residual, "Reshape", *linear]
    assert model.opset_import[0].version == 10
    attributes = [{item.name: onnx.helper.get_attribute_value(item) for item in node.attribute} for node in model.graph.node]
    assert (attributes[0]["weight_bits"], attributes[0]["bias_bits"]) == (8, 32)
    assert (attributes[2]["mult_bits"], attributes[4]["add_bits"]) == (32, 32)
    assert attributes[8] == {"min": -128.0, "max": 127.0, "out_bits": 8}
    assert attributes[24] == {"min": 0.0, "max": 255.0, "out_bits": 8}
    values = [item["value"] for item in attributes if "value" in item]
    assert [list(value.dims) for value in values[:3]] == [[1, 4, 1, 1], [1, 4, 1, 1], [1]]
    # without the note, a negative bound of an inner clip would say that the input is signed
    assert {item.key: item.value for item in model.metadata_props} == {"input": "{'precision': 8, 'signed': False}"}
    session = InferenceSession(found.content)
    assert (session.program.tensors["input"].lower, session.program.tensors["input"].upper) == (0, 255)
    assert [finding.rule for finding in lint(session, "F28P55x").findings if finding.rule == "input-codes"] == []


@pytest.mark.slow
def test_mixed_precision_stands_in_branches() -> None:
    graph = deep()
    x = np.abs(samples(graph.shape, 64))
    found = quantize(graph.model(), x, "mixed", to="match")
    session = InferenceSession(found.content)
    widths = [layer.weight_bits for layer in session.program.layers if isinstance(layer, Weighted)]
    assert set(widths) == {8, 4, 2}
    assert "Concat" in [step.operator for step in session.program.host_operations]
    counted = [report.channel_bits for report in found.layers if report.channel_bits]
    assert [sum(bits.values()) for bits in counted] == [8, 12, 24, 10, 16, 5]
    assert any(len(bits) > 1 for bits in counted)
    assert verify(session, {"input": codes_of(found, x[:4])})
    (wanted,) = InferenceSession(graph.model(), check_finite=False).run(None, {"input": x})
    noise = [signal_to_noise(wanted, real_output(quantize(graph.model(), x, bits, to="match"), x)) for bits in (2, "mixed", 8)]
    assert noise[0] < noise[1] < noise[2]


@settings(max_examples=8)
@given(st.integers(0, 1000))
def test_channels_change_places_and_nothing_else(seed: int) -> None:
    graph = deep(seed)
    x = samples(graph.shape, 8, seed)
    network = read_float_network(read_graph(open_model(graph.model())))
    found = choose_widths(network, forward(network, {"input": x}))
    given, wanted = (forward(one, {"input": x})[network.outputs[0]] for one in (found.network, network))
    np.testing.assert_allclose(given, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    for bits in found.bits.values():
        assert bits.tolist() == sorted(bits.tolist(), reverse=True)


def test_silent_channels_dilations_pools_and_resizes() -> None:
    graph = FloatBuilder((1, 2, 16, 1), seed=7)
    graph.conv(6, 3)
    first = graph.constants[graph.nodes[0].input[1]]
    first[1] = 0
    graph.relu()
    weights = graph.constant(graph.random.normal(0, 0.4, (4, 6, 3, 1)))
    geometry = {"kernel_shape": [3, 1], "dilations": [2, 1], "pads": [2, 0, 2, 0]}
    graph.node("Conv", weights, shape=(1, 4, 16, 1), **geometry)
    graph.relu(6.0)
    how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    graph.node("Resize", "", graph.constant([1, 1, 2, 1]), shape=(1, 4, 32, 1), **how)
    graph.conv(3, 3, stride=2)
    graph.average_pool(2)
    graph.global_average()
    x = samples(graph.shape)
    found = quantize(graph.model(), x, to="match")
    (wanted,) = InferenceSession(graph.model(), check_finite=False).run(None, {"input": x})
    assert signal_to_noise(wanted, real_output(found, x)) > 25
    assert [layer.window.kernel_shape for layer in InferenceSession(found.content).program.layers][1] == (5, 1)


def test_what_is_refused() -> None:
    graph = FloatBuilder((1, 3, 8, 8))
    graph.conv(4, 3)
    graph.node("Softmax", axis=1)
    with pytest.raises(UnsupportedError, match="softmax belongs into the application"):
        quantize(graph.model(), samples(graph.shape), to="match")
    plain = deep().model()
    for more, says in (({"float_output": True}, "give codes"), ({"weight_bits": "mixed", "to": "tinpu"}, "MATCH family")):
        with pytest.raises(UsageError, match=says):
            quantize(plain, samples((1, 3, 16, 16)), **{"to": "match", **more})


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    (tmp_path / "float.onnx").write_bytes(deep().model())
    np.save(tmp_path / "x.npy", np.abs(samples((1, 3, 16, 16))))
    given = (
        "quantize",
        tmp_path / "float.onnx",
        "--calibration",
        tmp_path / "x.npy",
        "--to",
        "match",
        "--weight-bits",
        "mixed",
    )
    value = checked_json("quantize", call(*given, "-o", tmp_path / "mixed.onnx", "--json"))
    assert value["quantized"]["format"] == "match"
    (ends,) = value["input_alpha"].values()
    assert ends == [0.0, float(np.abs(samples((1, 3, 16, 16))).max())]
    assert value["layers"][1]["channel_bits"] != {}
    outcome = call(*given, "-o", tmp_path / "again.onnx")
    assert outcome.code == 0, outcome.err
    assert "Codes of input input are: floor(255 / (" in outcome.out
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "mixed.onnx").read_bytes()


def test_examples() -> None:
    assert doctest.testmod(input_quantizer).failed == 0


@pytest.mark.formats
@pytest.mark.parametrize("path", sorted(FORMATS_FOLDER.glob("other/plinio_*")), ids=lambda path: path.name)
def test_the_input_quantizer_is_that_of_plinio(path: Path) -> None:
    known = json.loads((path / "meta.json").read_text()).get("input_quantizer")
    with np.load(path / "io.npz") as stored:
        if known is None or "x_float" not in stored:
            return
        low, high = (known["inf"], known["sup"]) if "sup" in known else (0.0, known["clip_val"])
        shift = 128 if stored["x_int"].min() < 0 and low == 0 else 0
        np.testing.assert_array_equal(quantize_input(stored["x_float"], low, high, 8) - shift, stored["x_int"])
