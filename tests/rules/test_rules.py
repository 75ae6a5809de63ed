"""The rules on both sides: a small network that keeps a rule, and one that breaks it."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.errors import UsageError
from npusim.rules import Placement, devices, rulebook
from npusim.rules.conditions import failed_checks, read_conditions
from npusim.rules.rulebook import read_version
from support.builders import GraphBuilder
from support.lint_models import convolution, dense, last_layer, lint, pool
from support.sketch import Sketch


def transposed_model() -> bytes:
    return convolution(4, 8, (2, 1), transposed=True, strides=[2, 1])


def residual(clip: tuple[int, int] = (0, 255), kernel: tuple[int, int] = (1, 1)) -> bytes:
    """A convolution whose codes are added to its input's."""
    sketch = Sketch(4, 8, 1)
    own = sketch.layer(sketch.weights(4, 4, *kernel), pads=[kernel[0] // 2, 0, kernel[0] // 2, 0])
    return sketch.finish(sketch.graph.saturate(sketch.graph.node("Add", own, sketch.codes), clip))


def matrix_product(rank: int) -> bytes:
    sketch = Sketch(*(1,) * (rank - 2), 16)
    shape = (1, -1) if rank == 2 else (1, 1, -1)
    made = sketch.graph.node("MatMul", sketch.codes, sketch.graph.constant(sketch.weights(16, 4)))
    return sketch.finish(sketch.graph.requantize(made, shape, np.zeros(4), np.ones(4), np.full(4, 6), (-128, 127)))


def convolution_1d() -> bytes:
    return convolution(4, 8, (3,), size=(32,))


HOST, NPU, UNKNOWN = Placement.HOST, Placement.NPU, Placement.UNKNOWN

CASES = {
    "input channels 4": (convolution(4, 8, (3, 1)), NPU, None),
    "input channels 3": (convolution(3, 8, (3, 1)), HOST, "input-channels"),
    "output channels 12": (convolution(4, 12, (3, 1)), NPU, None),
    "output channels 14": (convolution(4, 14, (3, 1)), HOST, "output-channels"),
    "3x3": (convolution(4, 8, (3, 3), size=(8, 8)), NPU, None),
    "5x5": (convolution(4, 8, (5, 5), size=(8, 8)), UNKNOWN, "not-covered"),
    "9x9": (convolution(4, 8, (9, 9), size=(12, 12)), HOST, "gconv-kernel-both"),
    "1x15": (convolution(4, 8, (1, 15), size=(1, 32)), NPU, None),
    "stride 2x1": (convolution(4, 8, (3, 1), strides=[2, 1]), NPU, None),
    "stride 4x1": (convolution(4, 8, (3, 1), strides=[4, 1]), UNKNOWN, "not-covered"),
    "dilation 2": (convolution(4, 8, (3, 1), dilations=[2, 1]), UNKNOWN, "dilation-1"),
    "two groups": (convolution(8, 8, (3, 1), group=2), UNKNOWN, "grouped-convolution"),
    "one spatial axis": (convolution_1d(), UNKNOWN, "convolution-2d"),
    "first 5x1": (convolution(1, 8, (5, 1), pads=[2, 0, 2, 0]), NPU, None),
    "first 10x4": (convolution(1, 8, (10, 4), size=(20, 8), strides=[2, 2]), NPU, None),
    "first 3x3": (convolution(1, 8, (3, 3), size=(8, 8)), UNKNOWN, "not-covered"),
    "first 3x8": (convolution(1, 8, (3, 8), size=(8, 9)), UNKNOWN, "not-covered"),
    "first 3x9": (convolution(1, 8, (3, 9), size=(8, 9)), HOST, "fconv-kernel-width"),
    "first 5x1 stride 2 on 128": (
        convolution(1, 8, (5, 1), size=(128, 1), strides=[2, 1], pads=[2, 0, 2, 0]),
        UNKNOWN,
        "not-covered",
    ),
    "first 5x1 stride 2 on 256": (
        convolution(1, 8, (5, 1), size=(256, 1), strides=[2, 1], pads=[2, 0, 2, 0]),
        HOST,
        "fconv-refused",
    ),
    "first with 6 outputs": (convolution(1, 6, (5, 1)), HOST, "output-channels"),
    "pointwise": (convolution(4, 8, (1, 1)), NPU, None),
    "pointwise on one channel": (convolution(1, 8, (1, 1)), HOST, "pwconv-one-channel"),
    "pointwise stride 2": (convolution(4, 8, (1, 1), strides=[2, 1]), HOST, "pwconv-stride"),
    "depthwise 3x3": (convolution(4, 4, (3, 3), size=(8, 8), group=4), NPU, None),
    "depthwise 9x1": (convolution(4, 4, (9, 1), group=4), NPU, None),
    "depthwise 5x3": (convolution(4, 4, (5, 3), size=(8, 8), group=4), UNKNOWN, "dwconv-kernel"),
    "depthwise stride 2": (convolution(4, 4, (3, 1), group=4, strides=[2, 1]), UNKNOWN, "not-covered"),
    "depthwise 6 channels": (convolution(6, 6, (3, 1), group=6), HOST, "input-channels"),
    "two filters for each channel": (convolution(4, 8, (3, 1), group=4), HOST, "dwconv-group"),
    "max 4x4": (pool("max", 4, (8, 8), (4, 4), (4, 4)), NPU, None),
    "max 8x1": (pool("max", 4, (16, 1), (8, 1), (4, 1)), NPU, "contradiction"),
    "max 5x2": (pool("max", 4, (8, 8), (5, 2), (2, 2)), HOST, "maxpool-kernel"),
    "max 6 channels": (pool("max", 6, (8, 8), (2, 2), (2, 2)), HOST, "pool-channels"),
    "global average of 3": (pool("global", 4, (3, 1), (), ()), NPU, None),
    "global average of 2": (pool("global", 4, (2, 1), (), ()), HOST, "avgpool-area"),
    "average 3x1": (pool("average", 4, (8, 1), (3, 1), (1, 1)), NPU, None),
    "average 2x2": (pool("average", 4, (8, 8), (2, 2), (2, 2)), UNKNOWN, "not-covered"),
    "16 features": (dense(16, 3), NPU, None),
    "15 features": (dense(15, 3), HOST, "fc-features-8"),
    "8 features of 4 bits": (dense(8, 3, largest=7, scale=200), NPU, None),
    "7 features of 4 bits": (dense(7, 3, largest=7, scale=200), HOST, "fc-features-4"),
    "2-bit weights": (dense(16, 3, largest=1, scale=200), UNKNOWN, "not-covered"),
    "matrix product 2-D": (matrix_product(2), NPU, None),
    "matrix product 3-D": (matrix_product(3), HOST, "fc-input-2d"),
    "residual on 3x1": (residual(kernel=(3, 1)), HOST, "no-npu-layer"),
    "residual on 1x1": (residual(), UNKNOWN, "inner-clip"),
    "transposed": (transposed_model(), UNKNOWN, "not-covered"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict(name: str) -> None:
    model, verdict, rule = CASES[name]
    layer, rules = last_layer(model)
    assert layer.verdict is verdict
    assert rules == set() if rule is None else rule in rules
    if verdict is not NPU:
        assert layer.judgement is not None
        deciding = layer.judgement.deciding
        assert ("not-covered" if deciding is None else deciding.id) == rule


@pytest.mark.parametrize(
    ("model", "verdict", "rule", "remedy"),
    [
        (convolution(4, 8, (9, 1)), HOST, "gconv-kernel-height-7", "kernel height 9: two kernels of 5"),
        (convolution(4, 8, (7, 1)), NPU, None, None),
        (pool("max", 4, (16, 1), (8, 1), (4, 1)), HOST, "maxpool-kernel-4", None),
        (convolution(4, 4, (9, 1), group=4), NPU, None, None),
        (convolution(4, 4, (5, 1), group=4), UNKNOWN, "not-covered", None),
    ],
)
def test_older_compiler_has_the_older_rules(model: bytes, verdict: Placement, rule: str | None, remedy: str | None) -> None:
    layer, rules = last_layer(model, compiler="2.0")
    assert layer.verdict is verdict
    assert rules == (set() if rule is None else {rule})
    if remedy is not None:
        assert [finding.remedy for finding in lint(model, compiler="2.0").findings] == [remedy]


def test_newer_document_decides_and_the_older_is_noted() -> None:
    (finding,) = lint(convolution(4, 8, (9, 1))).findings
    assert (finding.rule, finding.severity) == ("contradiction", "info")
    assert "2026-03 or earlier) says: a generic convolution's kernel is at most 7 high" in finding.message
    assert finding.message.endswith("2026-04) decides")


def test_remedies_hold_numbers() -> None:
    (inputs,) = lint(convolution(14, 16, (3, 1))).findings
    assert inputs.remedy == "pad channels 14 to 16: +2 filters"
    assert inputs.evidence["input_channels"] == {"seen": 14, "wanted": "a multiple of 4"}
    assert inputs.evidence["compiler_message"] == "GCONV does not support 14 input channels. Please change to multiples of 4."
    assert inputs.node is not None
    assert inputs.tensor is not None
    assert inputs.source is not None
    assert inputs.date == "2025-10-31"
    (features,) = lint(dense(12, 3)).findings
    assert features.remedy == "FC input 12 < 16: pad with zeros"


def test_layer_line_has_the_compilers_shape() -> None:
    layer, _ = last_layer(convolution(14, 14, (4, 1), size=(93, 1), strides=[2, 1], clip=(-128, 127)))
    assert layer.line == (
        "GCONV layer config: 8-bit input [93, 1, 14], 8-bit output [45, 1, 14], 8-bit kernel [4, 1], strides [2, 1], "
        "padding [(0, 0), (0, 0)]"
    )
    assert layer.compiler_message == (
        "GCONV does not support 14 input channels and 14 output channels. Please change to multiples of 4."
    )


def test_soft_library_takes_any_configuration_of_a_pattern() -> None:
    assert last_layer(convolution(4, 6, (5, 5), size=(8, 8), strides=[3, 3]), "soft")[0].verdict is NPU
    assert last_layer(convolution(3, 8, (3, 1)), "soft")[0].verdict is UNKNOWN
    assert last_layer(residual(kernel=(3, 1)), "soft")[0].verdict is HOST


def test_am13e2_names_only_8_bit_weights_and_only_from_compiler_2_1() -> None:
    assert last_layer(dense(16, 3), "am13e2")[0].verdict is NPU
    assert last_layer(dense(16, 3, largest=7, scale=200), "am13e2")[1] == {"am13e2-weight-bits"}
    layer, rules = last_layer(dense(16, 3), "am13e2", "2.0")
    assert (layer.verdict, rules) == (UNKNOWN, {"compiler-version"})


def test_mspm0_documents_disagree_on_weights() -> None:
    layer, rules = last_layer(dense(16, 3, largest=7, scale=200), "mspm0g5187")
    assert (layer.verdict, rules) == (NPU, {"contradiction"})
    assert last_layer(dense(16, 3), "mspm0g5187")[1] == set()


def test_bias_follows_the_weights_and_the_older_document_is_noted() -> None:
    graph = GraphBuilder((1, 16))
    codes = graph.input_stage([0] * 16, [1] * 16, [0] * 16, bits=4)
    weights = np.full((16, 4), 20)
    made = graph.fully_connected(codes, weights, np.full(4, 40000), np.ones(4), np.full(4, 12), (-128, 127))
    layer, rules = last_layer(graph.model(made))
    assert (layer.verdict, rules) == (NPU, {"contradiction"})


@pytest.mark.parametrize("device", devices())
def test_rules_are_well_formed(device: str) -> None:
    book = rulebook(device)
    names = [item.id for item in (*book.rules, *book.covers, *book.limits)]
    assert len(names) == len(set(names))
    assert {rule.verdict for rule in book.rules} == {"host", "unknown"}
    assert {rule.severity for rule in book.rules} == {"error", "warning"}
    for rule in book.rules:
        assert rule.severity == "error" or rule.verdict == "unknown"
        assert rule.kinds
        assert rule.text
        assert rule.remedy
        assert read_version(rule.since or "1") <= (2, 1)


@pytest.mark.slow
def test_no_verdict_npu_without_a_covered_configuration() -> None:
    for model, _, _ in CASES.values():
        for device in devices():
            for layer in lint(model, device).layers:
                if layer.verdict is NPU:
                    assert layer.judgement is not None
                    assert layer.judgement.cover is not None
                    assert not layer.judgement.broken


def test_conditions() -> None:
    def holds(table: dict[str, object], **properties: object) -> bool:
        return failed_checks([read_conditions(table, "test")], properties) is None  # type: ignore[arg-type]

    assert holds({"a": {"multiple_of": 4}}, a=8)
    assert not holds({"a": {"multiple_of": 4}}, a=6)
    assert holds({"a": {"at_least": 3, "at_most": 5}}, a=5)
    assert not holds({"a": {"at_least": 3, "at_most": 5}}, a=6)
    assert holds({"a": {"one_of": [[1, 1], [2, 1]]}}, a=(2, 1))
    assert not holds({"a": {"one_of": [[1, 1], [2, 1]]}}, a=(1, 2))
    assert holds({"a": {"within": [0, 31]}}, a=(0, 31))
    assert not holds({"a": {"within": [0, 31]}}, a=(0, 32))
    assert holds({"a": {"equals_property": "b"}}, a=4, b=4)
    assert not holds({"a": {"equals_property": "b"}}, a=4, b=8)
    assert not holds({"a": {"equals": 0}})
    assert failed_checks([], {}) == ()
    with pytest.raises(UsageError, match="there is no test 'about'"):
        read_conditions({"a": {"about": 4}}, "test")
    with pytest.raises(UsageError, match="has no test"):
        read_conditions({"a": 4}, "test")


def test_versions() -> None:
    assert read_version("2.1.0") == read_version("2.1") == (2, 1)
    assert read_version("1.10") > read_version("1.9")
    for wrong in ("", "two", "2.", "2.x", "-1"):
        with pytest.raises(UsageError, match="not a compiler version"):
            read_version(wrong)
    with pytest.raises(UsageError, match="no rules for 'f28'"):
        rulebook("f28")
