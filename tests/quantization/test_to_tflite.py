"""TensorFlow Lite models that quantization writes: what the runtimes compute, every bit, and close to the float model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import npusim
from npusim import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.graph.c_header import find_model
from npusim.graph.tflite_reader import parse_tflite
from npusim.graph.tflite_writer import serialize_tflite
from npusim.program import Weighted
from npusim.quantization import QuantizedModel, quantize
from npusim.quantization.affine import choose_coding, file_axes
from npusim.quantization.scales import sample_channels
from support import EXPORTS_FOLDER, ROOT
from support.command_line import call, check_error, checked_json
from support.float_networks import FloatBuilder, RandomNetwork, random_networks, samples
from support.quantize_checks import signal_to_noise
from support.tflite_models import runtime

RUNTIMES = ("tflm", "litert_ref", "xnnpack")

WITHOUT_FLOATS = (*RUNTIMES, "litert")
"""LiteRT's DEQUANTIZE for x86 gives ``f32(f32(code * scale) + f32(-zero_point * scale))`` in vectors of 8, npusim does not."""


def feeds_of(content: bytes, seed: int, count: int = 3) -> npt.NDArray:
    """Codes of the whole range, or real values, for the only input."""
    given = InferenceSession(content).get_inputs()[0]
    random = np.random.default_rng(seed)
    shape = (count, *given.shape[1:])
    return (
        random.integers(-128, 128, shape).astype(np.int8) if "int8" in given.type else random.normal(0, 1, shape).astype("f4")
    )


def check_runtimes(content: bytes, seed: int = 0, runtimes: Sequence[str] = RUNTIMES) -> None:
    """Every runtime gives what npusim gives."""
    feeds = feeds_of(content, seed)
    for arithmetic in runtimes:
        session = InferenceSession(content, arithmetic=arithmetic)
        (wanted,) = session.run(None, {session.get_inputs()[0].name: feeds})
        rows = [runtime(content, [feeds[index : index + 1]], arithmetic) for index in range(len(feeds))]
        np.testing.assert_array_equal(np.concatenate(rows), wanted, arithmetic)


def in_floats(found: QuantizedModel, x: npt.NDArray) -> npt.NDArray:
    """The real output of a model with real ends, with the float network's axes."""
    session = InferenceSession(found.content)
    (given,) = session.run(None, {session.get_inputs()[0].name: x.transpose(file_axes(x.ndim))})
    return given.transpose(np.argsort(file_axes(given.ndim)))


@pytest.mark.slow
@pytest.mark.needs_tflite
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(random_networks(), st.booleans())
def test_random_networks(network: RandomNetwork, float_output: bool) -> None:
    x = samples(network.shape, seed=network.seed)
    found = quantize(network.model, x, to="tflite", float_output=float_output)
    check_runtimes(found.content, network.seed, RUNTIMES if float_output else WITHOUT_FLOATS)
    assert serialize_tflite(parse_tflite(found.content, "model")) == found.content
    assert found.content == quantize(network.model, x, to="tflite", float_output=float_output).content
    for layer in found.program.layers:
        if isinstance(layer, Weighted):
            assert np.abs(layer.weights).max() <= 127
    if float_output:
        (wanted,) = InferenceSession(network.model, check_finite=False).run(None, {"input": x})
        assert signal_to_noise(wanted, in_floats(found, x)) > 20


def made(kind: str) -> FloatBuilder:
    """A network with what no random one has."""
    graph = FloatBuilder((1, 4, 8, 8) if kind not in ("vectors", "rows") else (1, 6), seed=3)
    match kind:
        case "groups":
            graph.conv(8, 3, group=2)
            graph.relu()
            graph.conv_transpose(6, 3, 2, pad=1, group=2)
        case "flatten":
            graph.conv(3, 3)
            graph.flatten()
            graph.linear(4)
        case "kept flatten":
            graph.conv(3, 3)
            graph.flatten()
        case "transpose":
            graph.conv(4, 3)
            graph.node("Transpose", shape=(1, 8, 8, 4), perm=[0, 3, 2, 1])
            graph.conv(2, 3)
        case "shuffle":
            graph.conv(4, 3)
            shape = graph.constant([1, 2, 2, 8, 8], np.int64)
            graph.node("Reshape", shape, shape=(1, 2, 2, 8, 8))
            graph.node("Transpose", shape=(1, 2, 2, 8, 8), perm=[0, 2, 1, 3, 4])
            graph.node("Reshape", graph.constant([1, 4, 8, 8], np.int64), shape=(1, 4, 8, 8))
            graph.conv(2, 1)
        case "resize":
            graph.conv(3, 3)
            scales = graph.constant([1, 1, 2, 3])
            how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            graph.node("Resize", "", scales, shape=(1, 3, 16, 24), **how)
            graph.conv(2, 1)
        case "slice":
            graph.conv(3, 3)
            values = ([1, 7], [3, 1], [1, 2], [1, -2])
            graph.node("Slice", *(graph.constant(value, np.int64) for value in values), shape=(1, 2, 3, 8))
            graph.conv(2, 1)
        case "depth to space":
            graph.conv(8, 3)
            graph.node("DepthToSpace", shape=(1, 2, 16, 16), blocksize=2)
            graph.conv(2, 1)
        case "functions":
            graph.conv(4, 3)
            graph.node("Sigmoid")
            graph.conv(4, 3)
            graph.node("LeakyRelu", alpha=0.1)
            graph.conv(4, 1)
            graph.node("HardSwish")
            graph.global_average()
            graph.flatten()
            graph.linear(5)
            graph.node("Softmax", axis=1)
        case "gate":
            before = graph.conv(4, 3)
            graph.global_average()
            graph.conv(4, 1)
            graph.node("Sigmoid")
            graph.node("Mul", before, shape=(1, 4, 8, 8))
        case "pads":
            pads = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]}
            graph.node("MaxPool", shape=(1, 4, 4, 4), **pads)
            graph.node("AveragePool", shape=(1, 4, 2, 2), count_include_pad=1, **(pads | {"pads": [1, 1, 0, 0]}))
            graph.conv(3, 3)
        case "vectors":
            graph.batch_norm()
            before = graph.linear(5)
            graph.relu(6.0)
            graph.linear(5)
            graph.add(before)
        case "rows":
            graph.linear(4)
            graph.node("Tanh")
    return graph


KINDS = (
    *("groups", "flatten", "kept flatten", "transpose", "shuffle", "resize", "slice", "depth to space", "functions", "gate"),
    *("pads", "vectors", "rows"),
)


@pytest.mark.needs_tflite
@pytest.mark.parametrize("kind", KINDS)
def test_made_networks(kind: str) -> None:
    graph = made(kind)
    x = samples(graph.shape, 40, seed=5)
    found = quantize(graph.model(20 if kind == "functions" else 17), x, to="tflite", float_output=True)
    check_runtimes(found.content)
    (wanted,) = InferenceSession(graph.model(20 if kind == "functions" else 17), check_finite=False).run(None, {"input": x})
    assert signal_to_noise(wanted, in_floats(found, x)) > 20
    assert all(layer.sqnr > 15 for layer in found.layers)


def test_layers_are_operators_of_the_format() -> None:
    graph = made("flatten")
    found = quantize(graph.model(), samples(graph.shape), to="tflite")
    file = parse_tflite(found.content, "model")
    # the product's weights are turned, not the data
    assert [operator.name for operator in file.operators] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    first, last = (file.tensors[index] for index in (*file.inputs, *file.outputs))
    assert (first.type, first.shape, last.type, last.shape) == ("INT8", (1, 8, 8, 4), "INT8", (1, 4))
    weights = file.tensors[file.operators[0].inputs[1]]
    assert (len(weights.scales), weights.axis, set(weights.zero_points)) == (3, 0, {0})
    ends = [operator.name for operator in parse_tflite(quantize(graph.model(), samples(graph.shape), to="tflite",
            float_output=True).content, "model").operators]  # fmt: skip
    assert (ends[0], ends[-1]) == ("QUANTIZE", "DEQUANTIZE")


def test_zero_is_a_code_and_relu_starts_at_the_lowest() -> None:
    values = sample_channels(np.array([[0.5, 1.0, 2.0, 0.25]]).reshape(4, 1, 1)).together()
    found = choose_coding(values)
    assert found.zero_point == -128
    assert found.scale <= np.float32(2 / 255)
    assert choose_coding(sample_channels(np.zeros((4, 1, 1))).together()).scale == 1.0
    limited = choose_coding(sample_channels(np.linspace(0, 20, 99).reshape(-1, 1, 1)).together(), largest=6.0)
    assert limited.scale * 255 <= 6.0 + 1e-6


@pytest.mark.parametrize("ending", [".h", ".cc", ".tflite"])
def test_command_writes_the_model_and_c_source(tmp_path: Path, ending: str) -> None:
    graph = made("vectors")
    (tmp_path / "float.onnx").write_bytes(graph.model())
    np.save(tmp_path / "x.npy", samples(graph.shape))
    given = ("quantize", tmp_path / "float.onnx", "--calibration", tmp_path / "x.npy", "--to", "tflite")
    target = tmp_path / f"2 model{ending}"
    value = checked_json("quantize", call(*given, "-o", target, "--json"))
    written, wanted = target.read_bytes(), quantize(graph.model(), samples(graph.shape), to="tflite").content
    assert (written if ending == ".tflite" else find_model(written, "x")) == wanted
    assert (value["quantized"]["format"], value["quantized"]["arithmetic"]) == ("tflite", "tflm")
    assert InferenceSession(target).model.sha256 == value["quantized"]["sha256"]
    if ending != ".tflite":
        assert b"const unsigned char model_2_model[]" in written
        assert (b'extern "C"' in written) == (ending == ".cc")


def test_what_is_refused(tmp_path: Path) -> None:
    graph = FloatBuilder((1, 3, 8, 8))
    graph.conv(4, 3)
    graph.node("Erf")
    with pytest.raises(UnsupportedError, match=r"Erf .*is not written as TensorFlow Lite"):
        quantize(graph.model(), samples(graph.shape), to="tflite")
    with pytest.raises(UsageError, match="8 bits"):
        quantize(made("rows").model(), samples((1, 6)), 4, to="tflite")
    with pytest.raises(UsageError, match=r"\.onnx"):
        npusim.quantize(made("rows").model(), samples((1, 6)), output=tmp_path / "model.tflite")
    (tmp_path / "float.onnx").write_bytes(made("rows").model())
    np.save(tmp_path / "x.npy", samples((1, 6)))
    more = ("--calibration", tmp_path / "x.npy", "--to", "tflite", "-o", tmp_path / "out.onnx")
    check_error(
        "quantize", tmp_path / "float.onnx", *more, code=2, kind="UsageError", says="TensorFlow Lite models are written to"
    )


@pytest.mark.needs_tflite
def test_the_keyword_network() -> None:
    x = np.random.default_rng(1).normal(0, 1, (48, 1, 20, 10)).astype(np.float32)
    model = (ROOT / "golden" / "keywords_float.onnx").read_bytes()
    found = quantize(model, x, to="tflite", float_output=True)
    check_runtimes(found.content)
    check_runtimes(quantize(model, x, to="tflite").content)
    (wanted,) = InferenceSession(model, check_finite=False).run(None, {"input": x})
    assert signal_to_noise(wanted, in_floats(found, x)) > 35


@pytest.mark.slow
@pytest.mark.exports
@pytest.mark.needs_tflite
@pytest.mark.parametrize("path", sorted(EXPORTS_FOLDER.glob("float/*.onnx")), ids=lambda path: path.stem)
def test_real_float_models(path: Path) -> None:
    with np.load(EXPORTS_FOLDER / "calibration" / f"{path.stem}.npz") as stored:
        x = stored["input"][:64].astype(np.float32)
    found = quantize(path, x, to="tflite")
    check_runtimes(found.content, runtimes=["tflm"])
    assert min(layer.sqnr for layer in found.layers) > 10
