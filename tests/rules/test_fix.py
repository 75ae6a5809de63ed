"""Repairs: outputs stay equal to the last bit, rules are kept afterwards, and what cannot be proven is not written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from npusim.engine.planning import plan
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.graph.model_file import ModelFile, open_model
from npusim.graph.onnx_reader import read_graph
from npusim.program import Accumulating, Clip, Program
from npusim.quantization import quantize
from npusim.rules import Placement, rulebook
from npusim.rules.fix import Fixed, fix_model
from npusim.rules.fix.rewrites import clips_alike
from npusim.rules.report import lint_model
from npusim.verification.equality import why_not_proven
from support.builders import DIALECTS, GraphBuilder
from support.float_networks import FloatBuilder, samples
from support.lint_models import convolution, dense, lint, requantized
from support.sketch import Sketch


def fix(model: bytes, device: str = "f28p55x") -> Fixed:
    """Repair a model; its outputs must stay equal in npusim and in onnxruntime, sample by sample."""
    file = open_model(model)
    fixed = fix_model(file, lint_model(file, rulebook(device)))
    if fixed.content is None:
        return fixed
    onnx.checker.check_model(onnx.load_from_string(fixed.content), full_check=True)
    session = InferenceSession(model)
    shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
    samples = np.random.default_rng(1).normal(0, 20, (8, *shape[1:])).astype(np.float32)
    (expected,) = session.run(None, {"input": samples})
    (found,) = InferenceSession(fixed.content).run(None, {"input": samples})
    np.testing.assert_array_equal(expected, found, strict=True)
    runtime = onnxruntime.InferenceSession(fixed.content, providers=["CPUExecutionProvider"])
    for row, sample in zip(expected, samples, strict=True):
        np.testing.assert_array_equal(runtime.run(None, {"input": sample[None]})[0][0], row)
    return fixed


def rules_left(fixed: Fixed) -> set[str]:
    return {finding.rule for finding in fixed.report.findings if finding.severity != "info"}


def names(fixed: Fixed) -> list[str]:
    return [repair.repair for repair in fixed.repairs]


def program_of(model: bytes) -> Program:
    return plan(read_graph(open_model(model)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_channels_between_layers_are_padded_in_every_dialect(dialect: str) -> None:
    sketch = Sketch(4, 12, 1)
    sketch.graph.dialect = dialect
    first = sketch.layer(sketch.weights(6, 4, 3, 1))
    second = sketch.layer(sketch.weights(8, 6, 3, 1), source=first)
    flat = sketch.graph.node("Flatten", second)
    model = sketch.finish(
        sketch.graph.fully_connected(flat, sketch.weights(64, 4), np.zeros(4), np.ones(4), np.full(4, 8), (-128, 127))
    )
    fixed = fix(model)
    assert "pad-channels" in names(fixed)
    assert rules_left(fixed) == set()
    assert [layer.verdict for layer in fixed.report.layers] == [Placement.NPU] * 3


def test_padding_goes_through_depthwise_layers_pools_residuals_and_flatten() -> None:
    sketch = Sketch(4, 12, 1)
    first = sketch.layer(sketch.weights(6, 4, 3, 1), pads=[1, 0, 1, 0])
    depthwise = sketch.layer(sketch.weights(6, 1, 3, 1), source=first, group=6, pads=[1, 0, 1, 0])
    added = sketch.graph.saturate(sketch.graph.node("Add", first, depthwise), (0, 255))
    pooled = sketch.graph.node("MaxPool", added, kernel_shape=[2, 1], strides=[2, 1])
    average = sketch.graph.average_pool(pooled, [3, 1], [1, 1], [0, 0, 0, 0], 0, 1, 2, (0, 255))
    flat = sketch.graph.node("Flatten", average)
    weights = sketch.weights(24, 4)
    fixed = fix(sketch.finish(sketch.graph.fully_connected(flat, weights, np.zeros(4), np.ones(4), np.full(4, 8), (-128, 127))))
    assert rules_left(fixed) == {"no-npu-layer"}
    assert [layer.step.name for layer in fixed.report.layers if layer.verdict is not Placement.NPU] == [
        layer.step.name for layer in fixed.report.layers if str(layer.step.tensors[-1]) == added
    ]


def test_reshape_gets_the_new_size() -> None:
    sketch = Sketch(4, 6, 1)
    first = sketch.layer(sketch.weights(5, 4, 3, 1))
    flat = sketch.graph.node("Reshape", first, sketch.graph.constant([1, 20], np.int64))
    fixed = fix(
        sketch.finish(
            sketch.graph.fully_connected(flat, sketch.weights(20, 4), np.zeros(4), np.ones(4), np.full(4, 8), (-128, 127))
        )
    )
    assert rules_left(fixed) == set()
    assert fixed.report.layers[-1].judgement is not None
    assert fixed.report.layers[-1].judgement.properties["input_features"] == 32


def test_host_appends_channels_at_the_input_once() -> None:
    sketch = Sketch(3, 12, 1)
    one, two = (sketch.layer(sketch.weights(4, 3, 3, 1)) for _ in range(2))
    fixed = fix(sketch.finish(sketch.graph.saturate(sketch.graph.node("Add", one, two), (0, 255))))
    assert names(fixed).count("pad-input") == 2
    assert rules_left(fixed) == {"no-npu-layer"}
    assert fixed.content is not None
    assert [node.op_type for node in onnx.load_from_string(fixed.content).graph.node].count("Pad") == 1
    assert [stage.role for stage in fixed.report.stages] == ["input", "input"]


@pytest.mark.parametrize(("largest", "scale", "features"), [(20, 1, 16), (7, 200, 8)])
def test_fully_connected_inputs_are_padded(largest: int, scale: int, features: int) -> None:
    fixed = fix(dense(5, 3, largest, scale))
    assert rules_left(fixed) == set()
    assert fixed.report.layers[-1].judgement is not None
    assert fixed.report.layers[-1].judgement.properties["input_features"] == features


def test_pooled_features_are_padded_in_front_of_the_pool() -> None:
    sketch = Sketch(4, 8, 1)
    average = sketch.graph.global_average(sketch.layer(sketch.weights(8, 4, 3, 1)), 0, 1, 2, (0, 255))
    weights = sketch.weights(8, 3)
    model = sketch.finish(sketch.graph.fully_connected(average, weights, np.zeros(3), np.ones(3), np.full(3, 6), (-128, 127)))
    fixed = fix(model)
    assert rules_left(fixed) == set()
    assert fixed.report.layers[0].step.tensors[-1] == lint(model).layers[0].step.tensors[-1]
    assert fixed.report.program is not None
    assert fixed.report.program.layers[0].output_shape == (1, 16, 6, 1)


def test_saturations_become_one() -> None:
    model = requantized()
    fixed = fix(model)
    assert names(fixed) == ["merge-clips"]
    assert fixed.content is not None
    before, after = (
        [node.op_type for node in onnx.load_from_string(content).graph.node if node.op_type in ("Clip", "Relu")]
        for content in (model, fixed.content)
    )
    assert (before, after) == (["Clip", "Clip", "Relu", "Clip"], ["Clip", "Clip"])
    assert fix(fixed.content).content is None


@pytest.mark.parametrize(("bias", "clip"), [(0, (-128, 127)), (120, (0, 255))])
def test_nine_bit_saturation_is_narrowed_where_no_code_leaves_8_bits(bias: int, clip: tuple[int, int]) -> None:
    graph = GraphBuilder((1, 16), "dyn18v")
    codes = graph.input_stage([0] * 16, [1] * 16, [0] * 16)
    weights = np.zeros((16, 4), np.int64)
    weights[0] = 20
    model = graph.model(graph.fully_connected(codes, weights, np.full(4, bias * 64), np.ones(4), np.full(4, 6), (-255, 255)))
    fixed = fix(model)
    assert names(fixed) == ["narrow-clip"]
    (layer,) = program_of(fixed.content or b"").layers
    assert isinstance(layer, Accumulating)
    assert layer.requantization.clip == Clip(*clip)
    assert rules_left(fixed) == set()


def test_nine_bit_saturation_that_is_reached_stays() -> None:
    graph = GraphBuilder((1, 16), "dyn18v")
    codes = graph.input_stage([0] * 16, [1] * 16, [0] * 16)
    made = graph.fully_connected(codes, np.full((16, 4), 20), np.zeros(4), np.ones(4), np.full(4, 6), (-255, 255))
    fixed = fix(graph.model(made))
    assert fixed.content is None
    assert rules_left(fixed) == {"clip-range"}


def test_matmul_and_add_become_gemm() -> None:
    fixed = fix(requantized(bias=100, dialect="nosim"))
    assert "matmul-to-gemm" in names(fixed)
    assert fixed.content is not None
    operators = [node.op_type for node in onnx.load_from_string(fixed.content).graph.node]
    assert operators.count("Gemm") == 1
    assert "MatMul" not in operators


def test_outputs_of_the_model_are_not_padded() -> None:
    fixed = fix(convolution(4, 6, (3, 1)))
    assert "pad-channels" not in names(fixed)
    ((layer, reason),) = fixed.left
    assert layer == fixed.report.layers[0].step.name
    assert "is an output of the model" in reason
    assert rules_left(fixed) == {"output-channels"}


def test_concatenated_channels_are_left_alone() -> None:
    sketch = Sketch(4, 8, 1)
    one, two = (sketch.layer(sketch.weights(6, 4, 3, 1)) for _ in range(2))
    joined = sketch.graph.node("Concat", one, two, axis=1)
    fixed = fix(sketch.finish(sketch.layer(sketch.weights(8, 12, 1, 1), source=joined)))
    assert "pad-channels" not in names(fixed)
    assert all("does not take its channels one by one" in reason for _, reason in fixed.left)
    assert len(fixed.left) == 2


@pytest.mark.parametrize("operator", ["Div", "Sigmoid"])
def test_operations_that_could_make_infinities_or_mix_stay(operator: str) -> None:
    sketch = Sketch(4, 8, 1)
    codes = sketch.layer(sketch.weights(6, 4, 3, 1))
    one = sketch.graph.constant(np.ones((1, 1, 1, 1)))
    host = sketch.graph.node(operator, one, codes) if operator == "Div" else sketch.graph.node(operator, codes)
    fixed = fix(
        sketch.finish(
            sketch.layer(sketch.weights(8, 6, 3, 1), source=sketch.graph.clip(sketch.graph.node("Floor", host), 0, 1))
        )
    )
    assert "pad-channels" not in names(fixed)
    assert fixed.left


def test_models_that_have_no_program_are_refused() -> None:
    sketch = Sketch(4)
    model = sketch.graph.model(sketch.codes, batch=2)
    report = lint(model)
    with pytest.raises(UnsupportedError, match="cannot be repaired"):
        fix_model(open_model(model), replace(report, program=None))


def test_proof_finds_every_difference() -> None:
    def variant(weight: int = 7, bias: int = 5, clip: tuple[int, int] = (0, 255), extra: int = 0, filters: int = 4) -> Program:
        graph = GraphBuilder((1, 4, 4, 1), "dyn18v")
        codes = graph.input_stage([0] * 4, [1] * 4, [0] * 4)
        first = np.full((filters, 4, 1, 1), 20)
        first[0, 0] = weight
        biases = np.concatenate([[bias], np.zeros(filters - 1)])
        one = graph.convolution(codes, first, biases, np.ones(filters), np.full(filters, 6), clip)
        second = np.full((4, filters, 1, 1), 11)
        second[:, 4:] = extra
        model = graph.model(graph.convolution(one, second, np.zeros(4), np.ones(4), np.full(4, 8), (0, 255)))
        return program_of(model)

    old = variant()
    assert why_not_proven(old, variant()) is None
    assert why_not_proven(old, variant(filters=8)) is None
    assert why_not_proven(variant(filters=8), old) is None
    for other in (variant(weight=8), variant(bias=40), variant(filters=8, extra=1), variant(clip=(0, 15))):
        assert why_not_proven(old, other) is not None
    with pytest.raises(UsageError, match="cannot be equal"):
        why_not_proven(old, program_of(convolution(4, 8, (1, 1), size=(4, 1))))


def test_saturations_that_agree_on_a_range() -> None:
    assert clips_alike(Clip(-255, 255), Clip(-128, 127), -128, 127)
    assert not clips_alike(Clip(-255, 255), Clip(-128, 127), -129, 127)
    assert not clips_alike(Clip(-255, 255), Clip(-128, 127), -128, 128)
    assert clips_alike(Clip(-129, 127), Clip(-128, 127), -128, 400)
    assert not clips_alike(Clip(-129, 127), Clip(0, 255), 0, 128)


@pytest.mark.parametrize(("channels", "repairs"), [(4, ["two-axes"]), (3, ["pad-input", "two-axes"])])
def test_layers_of_one_spatial_axis_get_two_and_the_ends_keep_theirs(channels: int, repairs: list[str]) -> None:
    graph = FloatBuilder((1, channels, 32), seed=5)
    graph.conv(8, 5)
    graph.relu()
    graph.max_pool()
    graph.conv(8, 3)
    graph.relu()
    graph.flatten()
    graph.linear(4)
    old = quantize(graph.model(), samples(graph.shape)).content
    assert "convolution-2d" in rules_left_of(old)
    file = ModelFile(None, old)
    fixed = fix_model(file, lint_model(file, rulebook("f28p55x")))
    assert names(fixed) == repairs
    assert rules_left(fixed) == set()
    assert [layer.verdict for layer in fixed.report.layers] == [Placement.NPU] * 4
    assert [stage.role for stage in fixed.report.stages].count("view") == 2
    assert fixed.content is not None
    values = samples(graph.shape)
    (first,), (second,) = (InferenceSession(model).run(None, {"input": values}) for model in (old, fixed.content))
    assert first.tobytes() == second.tobytes()


def rules_left_of(model: bytes) -> set[str]:
    found = lint_model(ModelFile(None, model), rulebook("f28p55x")).findings
    return {finding.rule for finding in found if finding.severity != "info"}
