"""Comparison in integers: differences by hand, models of other dialects and bits, onnxruntime, and dumps of a device."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from npusim import InferenceSession
from npusim.cli.compare_exact import compare_exact
from npusim.errors import InputError, UnknownTensorError, UsageError
from npusim.files.dumps import Dump, read_dump
from npusim.quantization import quantize
from npusim.results.base import SampleSource
from npusim.verification import (
    ExactComparison,
    LayerDifferences,
    compare_models,
    compare_with_dump,
    compare_with_runtime,
    exact_findings,
    explain_element,
)
from npusim.verification.differences import Place
from npusim.verification.pairing import pair_steps
from support import ROOT, Export, load_export
from support.builders import DIALECTS, GraphBuilder
from support.command_line import FLOAT32_SAMPLE, model_beyond_float32, model_with_float_layer, samples_for
from support.float_networks import FloatBuilder, samples

SHAPE = (1, 4, 12, 1)


def network(dialect: str = "ts17", *, bits: int = 8, bias_of_second: int = 40, swapped: bool = False) -> bytes:
    """Two branches of one form that a residual adds, a pool and a classifier."""
    generator = np.random.default_rng(3)
    graph = GraphBuilder(SHAPE, dialect)
    codes = graph.input_stage(generator.normal(0, 1, 4).astype(np.float32), [300, 400, -500, 350], [5] * 4)
    weights = [generator.integers(-100, 101, (4, 4, 3, 1)) for _ in range(2)]
    if bits == 4:
        weights = [np.rint(values / 15).astype(np.int64) for values in weights]
    shift = 7 if bits == 8 else 3

    def branch(which: int) -> str:
        bias = np.array([[10, -20, 30, 64], [7, bias_of_second, 9, -64]][which])
        return graph.convolution(codes, weights[which], bias, [1] * 4, [shift] * 4, (0, 255), pads=[1, 0, 1, 0])

    branches = [branch(which) for which in ((1, 0) if swapped else (0, 1))]
    total = graph.clip(graph.node("Add", *branches), 0, 255)
    pooled = graph.global_average(total, 4, 1, 3, (0, 255))
    dense = generator.integers(-90, 91, (4, 3))
    return graph.model(graph.fully_connected(pooled, dense, np.array([5, 6, 7]), [1] * 3, [6] * 3, (-128, 127)))


def compared(first: bytes, second: bytes, samples: int = 5) -> ExactComparison:
    return compare_models(InferenceSession(first), InferenceSession(second), {"input": samples_for((samples, *SHAPE[1:]))})


def test_differences_count_what_differs_and_by_how_much() -> None:
    layer = LayerDifferences("layer", "FC", "y")
    layer.take(np.array([[1, 2], [3, 4]], np.int8), np.array([[1, 2], [3, 4]], np.float32), 0)
    layer.take(np.array([[5, 6], [7, 8]], np.int8), np.array([[5, 9], [8, 8]], np.float32), 2)
    assert (layer.elements, layer.mismatches, layer.largest, layer.unit) == (8, 2, 3.0, "LSB")
    assert dict(layer.histogram) == {0: 6, -3: 1, -1: 1}
    assert layer.mean_difference == -0.5
    assert layer.first == Place(2, (1,), 6.0, 9.0)


def test_a_value_that_is_no_number_differs_from_every_number_and_not_from_itself() -> None:
    layer = LayerDifferences("layer", "HOST", "y")
    layer.take(np.array([np.nan, 1.5, np.inf, np.nan]), np.array([np.nan, 1.5, np.inf, 2.0]), 0)
    assert (layer.mismatches, layer.largest, layer.unit) == (1, np.inf, "value")
    assert layer.bins is None


def test_other_shapes_and_no_values_are_errors() -> None:
    layer = LayerDifferences("layer", "FC", "y")
    with pytest.raises(InputError, match="only equal shapes are compared"):
        layer.take(np.zeros((2, 3)), np.zeros((3, 2)), 0)
    with pytest.raises(InputError, match="no values to compare"):
        layer.take(np.zeros((0, 3)), np.zeros((0, 3)), 0)
    assert not ExactComparison(("a", "b")).ok


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_a_network_is_equal_layer_by_layer(dialect: str) -> None:
    result = compared(network(), network(dialect))
    assert result
    assert [layer.kind for layer in result.layers] == ["QUANTIZE", "GCONV", "GCONV", "ADD", "AVGPOOL", "FC"]
    assert (result.only_model, result.only_other, result.divergence) == ((), (), None)
    assert result.elements == 5 * (4 * 12 * 4 + 4 + 3)


def test_branches_are_told_apart_by_their_weights() -> None:
    first, second = (InferenceSession(network(swapped=swapped)).program for swapped in (False, True))
    pairs = [(one.name, other.name) for one, other in pair_steps(first, second).pairs if "Conv" in one.name]
    names = [[layer.name for layer in program.layers if layer.kind == "GCONV"] for program in (first, second)]
    assert pairs == list(zip(names[0], reversed(names[1]), strict=True))
    assert compared(network(), network(swapped=True)).ok


def test_one_bias_makes_the_first_divergence_with_both_arithmetics() -> None:
    result = compared(network(), network(bias_of_second=40 + 128))
    assert not result
    names = [layer.name for layer in result.layers if layer.mismatches]
    divergence = result.divergence
    assert divergence is not None
    assert divergence.model is not None
    assert divergence.other is not None
    assert names[0] == divergence.layer.name
    assert divergence.layer.largest == 1
    assert set(divergence.layer.histogram) == {-1, 0}
    assert (divergence.model.bias, divergence.other.bias) == (40, 168)
    assert divergence.model.contributions == divergence.other.contributions
    assert divergence.other.code == divergence.model.code + 1
    finding = exact_findings(result)[0]
    assert (finding.rule, finding.severity, finding.layer) == ("mismatch", "error", names[0])
    assert finding.evidence["differing_parts"] == ["bias"]
    text = str(divergence)
    assert next(line for line in text.splitlines() if line.startswith("!! bias")).split()[-2:] == ["40", "168"]
    frame = result.to_pandas()
    assert frame["mismatches"].tolist() == [layer.mismatches for layer in result.layers]


def test_other_bits_differ_in_the_weights() -> None:
    result = compared(network(), network(bits=4))
    assert exact_findings(result)[0].evidence["differing_parts"] == ["weights", "shift"]
    assert result.divergence is not None
    assert "inputs: left A, right B" in str(result.divergence)


def test_a_layer_left_in_float_is_reported_and_the_rest_compared() -> None:
    def model(*, as_float: bool) -> bytes:
        graph = GraphBuilder(SHAPE)
        codes = graph.input_stage([0.0] * 4, [100] * 4, [3] * 4)
        weights = np.arange(-8, 8).reshape(4, 4, 1, 1)
        if as_float:
            real = graph.node("Conv", codes, graph.constant(weights + 0.3), kernel_shape=[1, 1])
            inner = graph.clip(graph.node("Floor", graph.binary("Mul", real, 0.25)), 0, 255)
        else:
            inner = graph.convolution(codes, weights, np.zeros(4), [1] * 4, [2] * 4, (0, 255))
        return graph.model(graph.node("MaxPool", inner, kernel_shape=[2, 1], strides=[2, 1]))

    result = compared(model(as_float=False), model(as_float=True))
    assert [layer.kind for layer in result.layers] == ["QUANTIZE", "MAXPOOL"]
    assert (len(result.only_model), len(result.only_other)) == (1, 1)
    assert [finding.rule for finding in exact_findings(result)] == ["mismatch", "not_compared", "not_compared"]


def test_models_that_do_not_fit_are_refused() -> None:
    graph = GraphBuilder((1, 4))
    other = graph.model(graph.input_stage([0.0] * 4, [1] * 4, [0] * 4))
    with pytest.raises(UsageError, match=r"the inputs of model are float32 \[1, 4, 12, 1\], those of other float32 \[1, 4\]"):
        compared(network(), other)
    graph = GraphBuilder(SHAPE)
    relu = graph.model(graph.node("Relu", "input"))
    with pytest.raises(UsageError, match="no layer of model has the kind and shape of a layer of other"):
        compared(network(), relu)
    graph = GraphBuilder(SHAPE)
    with pytest.raises(UsageError, match="has shape"):
        compared(network(), graph.model(graph.input_stage([0.0] * 4, [1] * 4, [0] * 4)))
    with pytest.raises(InputError, match="no samples"):
        compared(network(), network(), samples=0)


def test_onnxruntime_is_equal_where_float32_holds_the_integers() -> None:
    result = compare_with_runtime(InferenceSession(network()), {"input": samples_for((20, *SHAPE[1:]))})
    assert result.ok
    assert result.samples == 20
    assert {layer.comparison for layer in result.layers} == {"exact"}


def test_onnxruntime_past_float32_shows_what_it_rounded() -> None:
    x = np.zeros((20, 4), np.float32)
    x[17, 1] = FLOAT32_SAMPLE
    result = compare_with_runtime(InferenceSession(model_beyond_float32()), {"input": x})
    divergence = result.divergence
    assert divergence is not None
    assert divergence.model is not None
    assert divergence.layer.first == Place(17, (0,), 153.0, 154.0)
    assert divergence.model.scaled == 154 * 2**17 - 1
    assert 154.0 * 2**17 in divergence.other_values.values()
    assert "2^24" in exact_findings(result)[0].remedy
    assert "what onnxruntime" in str(divergence)


def test_onnxruntime_behind_a_float_sum_is_compared_on_its_own_inputs() -> None:
    result = compare_with_runtime(InferenceSession(model_with_float_layer()), {"input": samples_for((8, 4, 16, 1))})
    assert result.ok
    assert [layer.comparison for layer in result.layers] == ["exact", "bounded", "exact_given_inputs", "exact_given_inputs"]


def dumped(tmp_path: Path, tensors: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "dump.npz"
    np.savez(path, **tensors)
    return path


@pytest.fixture(name="run")
def run_of_network() -> tuple[InferenceSession, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A session, inputs, and the codes of every layer."""
    session = InferenceSession(network())
    feeds = {"input": samples_for((3, *SHAPE[1:]))}
    trace = session.trace(feeds)
    return session, feeds, {step.tensors[-1]: trace[step.tensors[-1]].copy() for step in session.program.steps}


def test_a_dump_with_all_layers_is_equal_or_diverges_at_the_first_wrong_one(run: Any, tmp_path: Path) -> None:
    session, feeds, tensors = run
    assert compare_with_dump(session, feeds, read_dump(dumped(tmp_path, tensors))).ok
    names = list(tensors)
    tensors[names[2]][1, 3, 5, 0] ^= 4
    tensors[names[-1]] += 1
    result = compare_with_dump(session, feeds, read_dump(dumped(tmp_path, tensors)))
    assert [layer.mismatches for layer in result.layers] == [0, 0, 1, 0, 0, tensors[names[-1]].size]
    assert result.divergence is not None
    first = result.divergence.layer.first
    assert first is not None
    assert (first.sample, first.index, abs(first.value - first.other)) == (1, (3, 5, 0), 4)
    assert result.divergence.model is not None
    assert result.divergence.model.code == first.value
    assert exact_findings(result)[0].remedy.startswith("its inputs are equal")


def test_a_console_dump_of_the_output_is_matched_by_its_size(run: Any, tmp_path: Path) -> None:
    session, feeds, tensors = run
    output = list(tensors)[-1]
    path = tmp_path / "uart.txt"
    path.write_text(" ".join(str(code) for code in tensors[output].ravel()), encoding="utf-8")
    result = compare_with_dump(session, feeds, read_dump(path))
    assert [layer.tensor for layer in result.layers] == [output]
    assert result.ok
    path.write_text(" ".join(str(code + 1) for code in tensors[output].ravel()), encoding="utf-8")
    wrong = compare_with_dump(session, feeds, read_dump(path))
    assert wrong.mismatches == 9
    assert exact_findings(wrong)[0].remedy.startswith("save the layer's input")


def test_a_dump_with_the_channels_last_says_so(run: Any, tmp_path: Path) -> None:
    session, feeds, tensors = run
    tensor = list(tensors)[1]
    path = tmp_path / "codes.npy"
    np.save(path, np.moveaxis(tensors[tensor], 1, -1).ravel())
    assert compare_with_dump(session, feeds, read_dump(path), tensor=tensor, layout="nhwc").ok
    wrong = compare_with_dump(session, feeds, read_dump(path), tensor=tensor)
    assert not wrong.ok
    assert exact_findings(wrong)[0].remedy.endswith("--layout nhwc")
    with pytest.raises(InputError, match="fits 4 tensors"):
        compare_with_dump(session, feeds, read_dump(path))
    with pytest.raises(UsageError, match="no layout"):
        compare_with_dump(session, feeds, read_dump(path), layout="chw")
    with pytest.raises(UnknownTensorError):
        compare_with_dump(session, feeds, read_dump(path), tensor="nowhere")
    with pytest.raises(InputError, match="for all 2 sets"):
        compare_with_dump(session, {"input": feeds["input"][:2]}, read_dump(path), tensor=tensor)


def printed(
    session: InferenceSession, against: InferenceSession | Dump | None, feeds: dict[str, np.ndarray], *, as_json: bool
) -> tuple[int, str]:
    stream = io.StringIO()
    with redirect_stdout(stream):
        code = compare_exact(session, against, feeds, SampleSource(None, 0), quiet=True, as_json=as_json)
    return code, stream.getvalue()


@pytest.mark.parametrize("other", ["same", "bias", "bits", "onnxruntime", "dump"])
def test_what_is_printed_keeps_to_the_schema(other: str, run: Any, tmp_path: Path) -> None:
    _, feeds, tensors = run
    path = tmp_path / "model.onnx"
    path.write_bytes(network())
    session = InferenceSession(path)
    models = {"same": network("nosim"), "bias": network(bias_of_second=300), "bits": network(bits=4)}
    against: InferenceSession | Dump | None = InferenceSession(models[other]) if other in models else None
    if other == "dump":
        against = read_dump(dumped(tmp_path, tensors))
    code, text = printed(session, against, feeds, as_json=True)
    value = json.loads(text)
    schema = json.loads((ROOT / "npusim" / "schemas" / "compare.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(value)
    assert code == (1 if other in ("bias", "bits") else 0)
    assert value["ok"] is (code == 0)
    for layer in value["layers"]:
        assert sum(count for _, count in layer["histogram"]) == layer["elements"]
        assert sum(count for key, count in layer["histogram"] if key) == layer["mismatches"]
    same, table = printed(session, against, feeds, as_json=False)
    assert same == code
    assert ("NOT EQUAL" in table) is (code == 1)
    assert ("first difference" in table) is (code == 1)


@pytest.mark.exports
@pytest.mark.parametrize(
    ("network_name", "exporters"),
    [
        ("CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi", ("ts17new", "ts17nosim", "ts18v", "dyn18v", "dyn18vnew")),
        ("CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi_mp842", ("dyn18v",)),
        ("CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi_auto", ("dyn18v",)),
        ("CNN_TS_GEN_BASE_6K_NPU__qat_w8a8_oi", ("ts17new", "ts18v", "dyn18v", "dyn18vnew")),
        ("RES_ADD_CNN_TS_GEN_BASE_3K__qat_w8a8_oi", ("dyn18vnew",)),
        ("H_POOLS__qat_w8a8_oi", ("dyn18v",)),
        ("H_RES_RELU__qat_w8a8_oi", ("dyn18v",)),
        ("H_AVGPOOL_SIGNED__qat_w8a8_oi", ("dyn18v",)),
    ],
)
def test_exporters_of_one_network_are_equal_layer_by_layer(network_name: str, exporters: tuple[str, ...]) -> None:
    first = load_export(f"{network_name}__ts17")
    session = InferenceSession(first.model)
    feeds = {session.get_inputs()[0].name: first.inputs()}
    for exporter in exporters:
        result = compare_models(session, InferenceSession(load_export(f"{network_name}__{exporter}").model), feeds)
        assert result.ok, (exporter, str(result))
        assert (result.only_model, result.only_other) == ((), ())
        assert len(result.layers) == len(session.program.layers) + len(session.program.quantize_stages)


def test_every_export_is_equal_to_onnxruntime(export: Export) -> None:
    session = InferenceSession(export.model)
    result = compare_with_runtime(session, {session.get_inputs()[0].name: export.inputs()[[0, 70]]})
    assert result.ok, str(result.divergence)
    assert result.samples == 2


def test_two_roundings_of_one_sum_are_named() -> None:
    graph = FloatBuilder((1, 8), seed=1)
    graph.linear(64)
    content = quantize(graph.model(), samples(graph.shape), to="tflite").content
    first, second = (InferenceSession(content, arithmetic=name) for name in ("tflm", "tflm_single"))
    feeds = {"input": np.random.default_rng(2).integers(-128, 128, (400, 8)).astype(np.int8)}
    result = compare_models(first, second, feeds)
    assert not result.ok
    finding = exact_findings(result)[0]
    assert finding.evidence["differing_parts"] == ["rounding"]
    assert finding.layer == first.program.layers[0].name
    assert "half_away(" in finding.remedy
    assert "against half_up(" in finding.remedy
    assert "choose the arithmetic that the device has" in finding.remedy


def test_elements_of_models_with_zero_points_are_those_of_the_file() -> None:
    graph = FloatBuilder((1, 3, 8, 6), seed=2)
    graph.conv(4, 3)
    graph.average_pool()
    graph.conv(2, 1)
    session = InferenceSession(quantize(graph.model(), samples(graph.shape), to="tflite").content)
    feeds = {"input": np.random.default_rng(1).integers(-128, 128, (2, 8, 6, 3)).astype(np.int8)}
    for layer in session.program.layers:
        codes = session.trace(feeds, layer.output)[layer.output]
        for index in ((0, 0, 0), tuple(size - 1 for size in codes.shape[1:])):
            found = explain_element(session, feeds, layer.name, 1, index)
            assert found.code == codes[(1, *index)], layer
            assert found.index == index
            assert str(found.code) in str(found).splitlines()[-1]


def test_values_that_the_other_side_cannot_hold_count_where_they_differ() -> None:
    layer = LayerDifferences("layer", "FC", "y")
    ours, theirs = np.array([2**24 + 1, 2**24 + 2, 5, 6]), np.array([2**24, 2**24 + 2, 5, 7])
    broken = layer.take(ours, theirs, 0, beyond=np.array([True, True, False, False]))
    assert broken.tolist() == [False, False, False, True]
    assert (layer.beyond_float32, layer.mismatches) == (1, 1)
