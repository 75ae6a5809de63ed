"""Findings: each rule on a small graph that shows it and on one that does not, their order, and what real exports show."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.comparison.findings import RULES, Finding, find_causes, load_rules, observe_codes, weight_of
from npusim.comparison.float_comparison import compare_with_float
from npusim.program.lowering.floats import Role
from support import Export, load_export
from support.builders import GraphBuilder
from support.command_line import model_with_float_layer
from support.float_pairs import INPUT_LSB, PairBuilder

SHAPE = (1, 2, 8, 1)


def start() -> tuple[GraphBuilder, str]:
    """A graph behind an input stage that hands codes on."""
    graph = GraphBuilder(SHAPE)
    return graph, graph.input_stage([0.0] * 2, [1] * 2, [0] * 2)


def convolved(
    graph: GraphBuilder,
    codes: str,
    clip: tuple[int, int] = (0, 255),
    *,
    weight: int = 100,
    bias: int = 0,
    scale: int = 1,
    shift: int = 6,
) -> str:
    """Each channel on its own, times a weight."""
    weights = np.array([[[[weight]], [[0]]], [[[0]], [[weight]]]])
    return graph.convolution(codes, weights, np.array([bias] * 2), [scale] * 2, [shift] * 2, clip)


def findings_of(graph: GraphBuilder, output: str, x: np.ndarray | None = None) -> list[Finding]:
    session = InferenceSession(graph.model(output))
    seen = None if x is None else observe_codes(session, {"input": x.astype(np.float32)})
    return list(find_causes(session.program, observations=seen))


def rules_of(graph: GraphBuilder, output: str, x: np.ndarray | None = None) -> list[str]:
    return [finding.rule for finding in findings_of(graph, output, x)]


def test_every_rule_has_words_and_a_severity() -> None:
    rules = load_rules()
    assert list(rules) == list(RULES)
    for rule in rules.values():
        assert rule.severity in ("error", "warning", "info")
        assert rule.message[0].islower() or rule.message.startswith(("{", "channel"))
        assert rule.remedy


def test_a_plain_network_shows_nothing() -> None:
    graph, codes = start()
    pooled = graph.global_average(convolved(graph, codes), 4, 1, 3, (0, 255))
    x = np.arange(16).reshape(SHAPE)
    assert rules_of(graph, graph.fully_connected(pooled, np.eye(2) * 90, np.zeros(2), [1] * 2, [6] * 2, (-128, 127)), x) == []


@pytest.mark.parametrize(
    ("area", "shift", "scale", "gain"), [(6, 2, 1, 1.5), (7, 2, 1, 1.75), (8, 3, 1, 1), (6, 10, 171, 1.002)]
)
def test_an_average_over_no_power_of_two_has_a_gain(area: int, shift: int, scale: int, gain: float) -> None:
    graph = GraphBuilder((1, 2, area, 1))
    codes = graph.input_stage([0.0] * 2, [1] * 2, [0] * 2)
    half = round(2 ** (shift - 1) / scale)
    pooled = graph.global_average(convolved(graph, codes), half, scale, shift, (0, 255))
    output = graph.fully_connected(pooled, np.eye(2), np.zeros(2), [1] * 2, [0] * 2, (0, 255))
    found = findings_of(graph, output, np.full((3, 2, area, 1), 120))
    if abs(gain - 1) < 0.01:
        assert found == []
        return
    finding = next(item for item in found if item.rule == "average_gain")
    assert finding.evidence["gain"] == gain
    assert finding.evidence["divisor"] == 4.0
    assert finding.evidence["readers"] == ["/t46_Gemm"]
    # 120 * 100 >> 6 is 187, times the gain beyond 255
    assert finding.evidence["saturated_share"] == 1.0
    assert f"{gain:.3g} times the average" in finding.message


@pytest.mark.parametrize(("bias", "rules"), [(2, []), (4, ["rounding_twice"]), (2 + 127, ["pool_offset"])])
def test_the_bias_of_an_average_holds_half_an_lsb_and_nothing_else(bias: int, rules: list[str]) -> None:
    graph, codes = start()
    found = findings_of(graph, graph.average_pool(convolved(graph, codes), [4, 1], [4, 1], [0] * 4, bias, 1, 2, (0, 255)))
    assert [finding.rule for finding in found] == rules
    if rules:
        assert found[0].evidence == {"offset": bias / 4 - 0.5, "bias": bias}


@pytest.mark.parametrize(
    ("inner", "outer", "rules"),
    [((-128, 127), (0, 255), ["signed_to_unsigned"]), ((-128, 127), (-128, 127), []), ((0, 255), (0, 255), [])],
)
def test_signed_averages_clipped_to_unsigned(inner: tuple[int, int], outer: tuple[int, int], rules: list[str]) -> None:
    graph, codes = start()
    found = findings_of(graph, graph.global_average(convolved(graph, codes, inner), 4, 1, 3, outer), np.full(SHAPE, -20))
    assert [finding.rule for finding in found] == rules
    assert [finding.evidence["clipped_share"] for finding in found] == [1.0] * len(rules)


@pytest.mark.parametrize(
    ("clip", "rules"), [((0, 6), ["clip_in_real_units"]), ((0, 127), ["lost_bit"]), ((0, 15), []), ((-8, 7), [])]
)
def test_clips_that_were_meant_otherwise(clip: tuple[int, int], rules: list[str]) -> None:
    graph, codes = start()
    assert rules_of(graph, convolved(graph, codes, clip)) == rules


def test_codes_of_nine_bits_count_where_a_layer_reads_them() -> None:
    graph, codes = start()
    wide = convolved(graph, codes, (-255, 255))
    assert rules_of(graph, wide) == []
    pooled = graph.node("MaxPool", wide, kernel_shape=[2, 1], strides=[2, 1])
    (finding,) = findings_of(graph, convolved(graph, pooled), np.full(SHAPE, 100))
    assert (finding.rule, finding.layer) == ("wide_codes", "/t12_Conv")
    assert {key: finding.evidence[key] for key in ("lower", "upper", "bits", "largest_seen")} == {
        "lower": -255,
        "upper": 255,
        "bits": 9,
        "largest_seen": 156,
    }


def test_a_residual_without_a_clip_feeds_wide_codes() -> None:
    graph, codes = start()
    rounded = graph.node(
        "Round", graph.binary("Mul", graph.node("Add", convolved(graph, codes), convolved(graph, codes, weight=3)), 1.5)
    )
    (finding,) = findings_of(graph, convolved(graph, rounded))
    assert (finding.rule, finding.evidence["upper"]) == ("wide_codes", 765)


def test_float_operations_on_codes() -> None:
    session = InferenceSession(model_with_float_layer())
    (finding,) = find_causes(session.program)
    assert (finding.rule, finding.evidence) == ("float_layer_on_codes", {"operator": "Conv", "lower": -128, "upper": 127})
    graph, codes = start()
    assert rules_of(graph, graph.node("Sigmoid", convolved(graph, codes))) == ["function_on_codes"]
    graph, codes = start()
    assert rules_of(graph, graph.node("Sigmoid", graph.binary("Mul", convolved(graph, codes), 0.037))) == []


def test_averages_on_the_host_that_are_not_rounded() -> None:
    graph, codes = start()
    pooled = graph.node("AveragePool", convolved(graph, codes), kernel_shape=[3, 1], strides=[3, 1])
    (finding,) = findings_of(graph, graph.node("Flatten", pooled))
    assert (finding.rule, finding.evidence["operator"], finding.evidence["reader"]) == (
        "fractional_codes",
        "AveragePool",
        "the output",
    )


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        ({"bias": 2**23 - 1}, []),
        ({"bias": 2**23}, ["bias_width"]),
        ({"weight": 7, "bias": -(2**15), "scale": 200}, []),
        ({"weight": 7, "bias": 2**15, "scale": 200}, ["bias_width"]),
        ({"weight": 8, "scale": 200}, ["weight_width"]),
        ({"weight": -8, "scale": 200}, []),
        ({"weight": 9, "scale": 1}, ["weight_width"]),
        ({"weight": 2, "scale": 200}, ["weight_width"]),
        ({"weight": 128}, ["weight_width"]),
    ],
)
def test_parameters_beyond_their_bits(settings: dict[str, int], rules: list[str]) -> None:
    graph, codes = start()
    assert rules_of(graph, convolved(graph, codes, **settings)) == rules


@pytest.mark.parametrize(("saturated", "severity"), [(0, None), (1, "info"), (7, "warning")])
def test_saturation_counts_what_the_clip_cuts_off(saturated: int, severity: str | None) -> None:
    x = np.full(SHAPE, 16)
    x[0, 0, :saturated] = 60
    graph, codes = start()
    # 60 * 100 >> 4 is 375, 16 * 100 >> 4 is 100
    found = findings_of(graph, convolved(graph, codes, shift=4), x)
    assert [(finding.rule, finding.severity) for finding in found] == ([("saturation", severity)] if severity else [])
    for finding in found:
        assert (finding.evidence["share"], finding.evidence["beyond"]) == (saturated / 16, 120)


def test_an_input_stage_saturates_as_well() -> None:
    graph, codes = start()
    (finding,) = findings_of(graph, convolved(graph, codes, weight=1), np.full(SHAPE, 200))
    assert (finding.rule, finding.layer, finding.severity) == ("saturation", "/t2_Add", "warning")
    assert (finding.evidence["share"], finding.evidence["rail"], finding.evidence["beyond"]) == (1.0, 127, 73)


def test_zeros_behind_a_relu_are_no_saturation() -> None:
    graph, codes = start()
    assert rules_of(graph, convolved(graph, codes), np.full(SHAPE, -100)) == []


@pytest.mark.parametrize(("other", "rules"), [(25, ["channel_range"]), (26, [])])
def test_one_channel_with_a_range_of_its_own(other: int, rules: list[str]) -> None:
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0.0] * 4, [1] * 4, [0] * 4)
    output = graph.fully_connected(codes, np.eye(4) * 64, np.zeros(4), [1] * 4, [6] * 4, (-128, 127))
    found = findings_of(graph, output, np.array([[other, 3, -100, -5]]))
    assert [finding.rule for finding in found] == rules
    if rules:
        assert (found[0].evidence["channel"], found[0].evidence["ratio"], found[0].evidence["used_bits"]) == (2, 4.0, 6.0)


PARTS: dict[str, Any] = {
    "weights": 0.1,
    "bias_and_scale": 0.1,
    "rounding": 0.9,
    "clipping": 0.0,
    "bits": 8,
    "upper": 255,
    "died": (),
    "agreed": True,
    "inputs": ("a",),
    "kind": "GCONV",
    "offset": 0.1,
}
"""A layer that is as it should be: most of what it adds is rounding."""


def compared(name: str, gain: float, **settings: Any) -> SimpleNamespace:
    """What the rules read of a layer's comparison with the float model."""
    values = {**PARTS, **settings}
    parts = {
        one: SimpleNamespace(root_mean_square_error=values[one])
        for one in ("weights", "bias_and_scale", "rounding", "clipping")
    }
    introduced = SimpleNamespace(root_mean_square_error=1.0, mean_error=values["offset"] * 0.5)
    return SimpleNamespace(
        name=name,
        kind=values["kind"],
        operator=None,
        inputs=values["inputs"],
        pair=SimpleNamespace(roles=(Role.ADDITION,) if values["kind"] == "ADD" else ()),
        weight_bits=values["bits"],
        effect=SimpleNamespace(if_float_gain_db=gain, if_float_db=20.0),
        attribution=SimpleNamespace(introduced=introduced, **parts),
        codes=SimpleNamespace(lower=0, upper=values["upper"], dead_channels=values["died"], lower_is_relu=True),
        channels=SimpleNamespace(float_smallest=np.zeros(4), float_largest=np.array([9.0, 0.9, 9.0, 1.0])),
        scales=SimpleNamespace(agreed=values["agreed"], output=0.5, bias_difference=1.4),
    )


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        ({"gain": 9.0}, []),
        ({"gain": 9.0, "bits": 4, "weights": 0.9}, ["too_few_bits"]),
        ({"gain": 2.0, "bits": 4, "weights": 0.9}, []),
        ({"gain": 9.0, "bits": 8, "weights": 0.9}, []),
        ({"gain": 9.0, "upper": 15}, ["too_few_bits"]),
        ({"gain": float("nan"), "upper": 15}, []),
        ({"gain": 9.0, "bias_and_scale": 0.9}, ["bias_off"]),
        ({"gain": 9.0, "bias_and_scale": 0.9, "weights": 0.5}, []),
        ({"gain": 9.0, "bias_and_scale": 0.9, "agreed": False}, []),
        ({"gain": 1.0, "bias_and_scale": 0.9}, []),
        ({"gain": 0.0, "kind": "ADD", "offset": -128.0}, ["zero_point"]),
        ({"gain": 0.0, "kind": "ADD", "offset": -1.0}, []),
        ({"gain": 0.0, "kind": "GCONV", "offset": -128.0}, []),
        ({"gain": 0.0, "died": (0, 1, 3)}, ["dead_channels"]),
        ({"gain": 0.0, "died": (1,)}, []),
        ({"gain": 0.0, "died": (0,), "kind": "HOST"}, []),
    ],
)
def test_what_only_the_float_model_shows(settings: dict[str, Any], rules: list[str]) -> None:
    graph, codes = start()
    session = InferenceSession(graph.model(convolved(graph, codes)))
    layer = compared(session.program.layers[0].name, **settings)
    comparison: Any = SimpleNamespace(layers=(layer,), suspicions=(), outputs=(), experiment_sqnr_db=20.0)
    found = find_causes(session.program, comparison=comparison)
    assert [finding.rule for finding in found] == rules
    for finding in found:
        assert finding.evidence["output_gain_db"] == settings["gain"]


@pytest.mark.parametrize(
    ("sqnr", "alone", "bits", "share", "cosine", "found"),
    [
        (9.0, 6.0, 2, 0.9, 0.7, True),
        (11.0, 6.0, 2, 0.9, 0.7, False),
        (9.0, 16.0, 2, 0.9, 0.7, False),
        (9.0, 6.0, 8, 0.9, 1.0, False),
        (9.0, 6.0, 2, 0.4, 0.7, False),
        (9.0, 6.0, 2, 0.9, 0.5, False),
        (9.0, 6.0, 4, 0.9, 0.98, False),
    ],
)
def test_few_bits_that_mask_each_other_are_judged_alone(
    sqnr: float, alone: float, bits: int, share: float, cosine: float, found: bool
) -> None:
    graph, codes = start()
    session = InferenceSession(graph.model(convolved(graph, codes)))
    layer = compared(session.program.layers[0].name, 0.2, bits=bits)
    weights, whole = (SimpleNamespace(root_mean_square_error=float(np.sqrt(part))) for part in (share, 1.0))
    layer.attribution.alone = SimpleNamespace(sqnr_db=alone, weights=weights, total=whole)
    layer.pair.weight_correlation = np.full(2, cosine)
    comparison: Any = SimpleNamespace(
        layers=(layer,), suspicions=(), outputs=(), experiment_sqnr_db=sqnr, weights_float_sqnr_db=31.0
    )
    result = find_causes(session.program, comparison=comparison)
    assert [(one.rule, one.severity) for one in result] == ([("too_few_bits", "error")] if found else [])
    if found:
        assert result[0].message.startswith("2 bits for its weights leave 6.0 dB of this layer alone")
        assert "with all layers with weights in float it has 31.0 dB" in result[0].message
        assert weight_of(result[0]) == 494.0


@pytest.mark.parametrize(("scale", "severity"), [(0.52, None), (0.6, "warning"), (0.8, "error")])
def test_operands_of_two_scales(scale: float, severity: str | None) -> None:
    graph, codes = start()
    session = InferenceSession(
        graph.model(graph.clip(graph.node("Add", convolved(graph, codes), convolved(graph, codes)), 0, 255))
    )
    names = [step.name for step in session.program.steps]
    first, second = compared(names[0], 0.0), compared(names[1], 0.0)
    second.scales.output = scale
    total = compared(names[2], 0.0, kind="ADD", inputs=(names[0], names[1]), agreed=severity is None)
    comparison: Any = SimpleNamespace(layers=(first, second, total), suspicions=(), outputs=(), experiment_sqnr_db=20.0)
    found = [(finding.rule, finding.layer, finding.severity) for finding in find_causes(session.program, comparison=comparison)]
    assert found == ([("mixed_scales", names[2], severity)] if severity else [])


def test_a_channel_is_dead_where_it_dies_and_not_in_the_pool_behind() -> None:
    graph, codes = start()
    pooled = graph.node("MaxPool", convolved(graph, codes), kernel_shape=[2, 1], strides=[2, 1])
    session = InferenceSession(graph.model(pooled))
    first, second = (layer.name for layer in session.program.layers)
    layers = compared(first, 0.0, died=(0,)), compared(second, 0.0, died=(0, 2), kind="MAXPOOL", bits=None, inputs=(first,))
    comparison: Any = SimpleNamespace(layers=layers, suspicions=(), outputs=(), experiment_sqnr_db=20.0)
    found = find_causes(session.program, comparison=comparison)
    assert [(finding.layer, finding.evidence["channels"]) for finding in found] == [(first, [0]), (second, [2])]


def test_measured_effects_come_first_then_severity_then_order() -> None:
    graph, codes = start()
    first = convolved(graph, codes, (0, 127))
    second = convolved(graph, first, (0, 6))
    third = convolved(graph, second, (0, 127))
    session = InferenceSession(graph.model(third))
    names = [layer.name for layer in session.program.layers]
    assert [finding.layer for finding in find_causes(session.program)] == [names[1], names[0], names[2]]
    layers = (compared(names[0], 0.1), compared(names[1], 1.0), compared(names[2], 4.0))
    comparison: Any = SimpleNamespace(layers=layers, suspicions=(), outputs=(), experiment_sqnr_db=20.0)
    found = find_causes(session.program, comparison=comparison)
    assert [(finding.layer, finding.evidence["output_gain_db"]) for finding in found] == [
        (names[2], 4.0),
        (names[1], 1.0),
        (names[0], 0.1),
    ]


GENERATOR = np.random.default_rng(6)
WEIGHTS = GENERATOR.integers(-60, 100, (4, 2, 1, 1)), GENERATOR.integers(-100, 100, (4, 3))


def float_output(
    factor: float = 1.0, area: int = 8, stage: float = 1.0, divide: bool = False
) -> tuple[InferenceSession, bytes, dict[str, np.ndarray]]:
    """A network whose last node multiplies by `factor` times what fits and whose input stage does by `stage` times that."""
    pair = PairBuilder((2, area, 1))
    if stage != 1:
        pair.quantized = GraphBuilder((1, 2, area, 1))
        pair.codes = pair.quantized.input_stage([INPUT_LSB / stage / 2] * 2, [stage / INPUT_LSB] * 2, [0] * 2)
    pair.convolution(WEIGHTS[0], np.array([900, -700, 400, 1200]), shift=7)
    pair.global_average(area)
    pair.fully_connected(WEIGHTS[1], np.array([900, -700, 400]), weight_scale=2.0**-8, shift=7)
    scale = np.float32(factor * pair.scale)
    output = pair.quantized.binary("Div", pair.codes, 1 / scale) if divide else pair.quantized.binary("Mul", pair.codes, scale)
    x = np.random.default_rng(1).integers(-50, 50, (40, 2, area, 1)) * INPUT_LSB
    model = pair.quantized.model(output)
    return InferenceSession(model), pair.reference.model(pair.values), {"input": x.astype(np.float32)}


@pytest.mark.parametrize(
    ("settings", "severity", "cause", "says"),
    [
        ({}, None, "", ""),
        ({"factor": 1.02}, None, "", ""),
        ({"factor": 2.0}, "warning", "scales", "agree on 2 times less, so this factor alone is off"),
        ({"factor": 0.5}, "warning", "scales", "agree on 2 times more, so this factor alone is off"),
        ({"factor": 2.0, "divide": True}, "warning", "scales", "this factor alone is off"),
        ({"area": 6}, "info", "average_gain", "the finding average_gain explains it: the gain of 1.5 of"),
        ({"stage": 2.0}, "warning", "scales", "one LSB of '/t2_Add' counts as 2 times its value in the biases behind it"),
    ],
)
def test_a_factor_that_does_not_fit_the_last_codes(
    settings: dict[str, Any], severity: str | None, cause: str, says: str
) -> None:
    session, reference, feeds = float_output(**settings)
    comparison = compare_with_float(session, reference, feeds)
    found = [one for one in find_causes(session.program, comparison=comparison) if one.rule == "output_scale"]
    assert [(one.severity, one.evidence["cause"]) for one in found] == ([(severity, cause)] if severity else [])
    for one in found:
        output, evidence = comparison.outputs[0], one.evidence
        assert evidence["lost_db"] == pytest.approx(output.fitted_sqnr_db - output.sqnr_db)
        # 2**-5 * 2**-4 * 2**7 * 2**-8 * 2**7
        assert evidence["written"] == pytest.approx(settings.get("factor", 1) / 8)
        assert evidence["fitted"] == pytest.approx(evidence["written"] * evidence["ratio"])
        if severity == "warning":
            assert evidence["output_gain_db"] == evidence["lost_db"]
        assert says in one.message
        assert f"multiply the output by {evidence['ratio']:.4g}" in one.remedy
        values, wanted = (model.run(None, feeds)[0].astype(np.float64) for model in (session, InferenceSession(reference)))
        better = 10 * np.log10((wanted**2).sum() / ((wanted - evidence["ratio"] * values) ** 2).sum())
        assert better == pytest.approx(evidence["fitted_sqnr_db"])


def ranged(values: list[int], samples: int = 12) -> list[Finding]:
    """Findings about a stage of one LSB for 1, on small samples and on one sample for each of `values`, which fills it."""
    graph, codes = start()
    small = np.random.default_rng(3).uniform(-100, 100, (samples, *SHAPE[1:]))
    x = np.concatenate([small, *(np.full(SHAPE, value) for value in values)])
    return findings_of(graph, convolved(graph, codes, weight=1), np.random.default_rng(3).permutation(x))


def test_samples_outside_of_the_input_range_come_first() -> None:
    graph, codes = start()
    x = np.random.default_rng(3).uniform(-100, 100, (70, *SHAPE[1:]))
    x[5, 0, 0], x[66] = 200, -1000
    x = x.astype(np.float32)
    found = findings_of(graph, convolved(graph, codes, (0, 6)), x)
    assert [finding.rule for finding in found[:2]] == ["input_range", "clip_in_real_units"]
    evidence = found[0].evidence
    assert (found[0].layer, found[0].severity, weight_of(found[0])) == ("/t2_Add", "warning", float("inf"))
    assert (evidence["count"], evidence["samples"], evidence["listed"]) == (2, 70, "5, 66")
    # -1000 is 872 below -128, 200 is 73 above 127; the stage's floor takes half an LSB of what it rounds
    first, second = evidence["worst"]
    assert (first["sample"], first["clipped_share"], first["beyond"]) == (66, 1.0, 872)
    assert (second["sample"], second["clipped_share"], second["beyond"]) == (5, 1 / 16, 73)
    assert first["error_share"] + second["error_share"] == evidence["error_share"] > 0.999
    energy = ((np.clip(np.floor(x), -128, 127) - (x.astype(np.float64) - 0.5)) ** 2).reshape(70, -1).sum(axis=1)
    assert second["error_share"] == pytest.approx(energy[5] / energy.sum())
    assert json.loads(json.dumps(dict(evidence))) == dict(evidence)


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ([], []),
        ([127], []),
        ([127 + 60], ["saturation"]),
        ([127 + 70], ["input_range", "saturation"]),
        ([-128 - 70], ["input_range", "saturation"]),
        ([500] * 6, ["input_range", "saturation"]),
        ([500] * 12, ["saturation"]),
    ],
)
def test_samples_outside_of_the_range_are_few_and_far(values: list[int], rules: list[str]) -> None:
    assert [finding.rule for finding in ranged(values)] == rules


Condition = Callable[[Export], bool]


def _always(_: Export) -> bool:
    return True


def _eight_bits(export: Export) -> bool:
    return export.row["weight_bits"] == "8"


def _has(text: str) -> Condition:
    return lambda export: text in export.name


STRUCTURE: dict[str, dict[str, Condition]] = {
    "CNN_AUDIO_DSCNN": {"average_gain": _eight_bits},
    "CNN_TS_GEN_BASE_1K_NPU": {"average_gain": _eight_bits, "float_layer_on_codes": _has("_mpF")},
    "CNN_TS_GEN_BASE_6K_NPU": {"weight_width": _has("qat_w4")},
    "HAR_TINIE_CNN_2K": {"average_gain": _eight_bits},
    "H_AVGPOOL_SIGNED": dict.fromkeys(("pool_offset", "rounding_twice", "signed_to_unsigned", "wide_codes"), _always),
    "H_BIGACC": {"bias_width": _has("_w4a8_")},
    "H_BN_NEG": {"pool_offset": _always, "wide_codes": _always, "weight_width": _has("qat_w4")},
    "H_CONVT2": {"float_layer_on_codes": _has("_oi_")},
    "H_DWPW": {"pool_offset": _always, "wide_codes": _always},
    "H_GCONV": {"pool_offset": _always, "wide_codes": _always, "average_gain": _eight_bits},
    "H_MLP_BN": {"lost_bit": _always},
    "H_POOLS": {"rounding_twice": _always, "average_gain": _eight_bits},
    "H_RES_PLAIN": {"wide_codes": _always},
    "H_RES_RELU": {"wide_codes": _always},
    "RES_ADD_CNN_TS_GEN_BASE_3K": {"wide_codes": _always, "average_gain": _eight_bits},
    "RES_CAT_CNN_TS_GEN_BASE_3K": {"average_gain": _eight_bits},
}
"""Which network shows what, and in which of its exports. All others show nothing, nor do these show anything else."""


def test_each_export_shows_its_findings_and_no_others(export: Export) -> None:
    wanted = {rule for rule, condition in STRUCTURE.get(export.network, {}).items() if condition(export)}
    program = InferenceSession(export.model).program
    found = find_causes(program)
    assert {finding.rule for finding in found} == wanted
    names = {step.name for step in program.steps}
    for finding in found:
        assert finding.layer in names
        assert "{" not in finding.message + finding.remedy
        assert json.loads(json.dumps(dict(finding.evidence))) == dict(finding.evidence)


@pytest.mark.exports
@pytest.mark.parametrize(
    ("name", "gains"),
    [
        ("CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi__ts17", [48 / 32]),
        ("CNN_AUDIO_DSCNN__qat_w8a8_oi__ts17", [125 / 64]),
        ("HAR_TINIE_CNN_2K__qat_w8a8_oi__ts17", [56 / 32]),
        ("RES_ADD_CNN_TS_GEN_BASE_3K__ptq_w8a8_oi__ts17", [7 / 4, 31 / 16]),
        ("H_POOLS__ptq_w8a8_oi__ts17", [9 / 8]),
    ],
)
def test_the_gain_of_an_export_is_its_area_over_a_power_of_two(name: str, gains: list[float]) -> None:
    found = find_causes(InferenceSession(load_export(name).model).program)
    assert sorted(finding.evidence["gain"] for finding in found if finding.rule == "average_gain") == sorted(gains)


@pytest.mark.exports
def test_a_residual_of_two_scales_saturates_what_follows() -> None:
    export = load_export("H_RES_PLAIN__qat_w8a8_oi__ts17")
    session = InferenceSession(export.model)
    feeds = {session.get_inputs()[0].name: export.inputs()[:64]}
    found = find_causes(session.program, observations=observe_codes(session, feeds))
    wide = next(finding for finding in found if finding.rule == "wide_codes")
    assert wide.layer == "/dqaddrelublock_5/Add_1"
    assert wide.evidence["reader"] == "/c.0/c.0.0/Conv"
    assert wide.evidence["smallest_seen"] < -1000
    saturated = next(finding for finding in found if finding.rule == "saturation")
    assert (saturated.layer, saturated.severity) == ("/c.0/c.0.0/Conv", "warning")
    assert saturated.evidence["share"] > 0.6


@pytest.mark.exports
@pytest.mark.parametrize(
    ("name", "rule", "layer", "gain"),
    [
        ("CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_oi__ts17", "average_gain", "/features.5/reduce_sum/ReduceSum", 30),
        ("HAR_TINIE_CNN_2K__ptq_w8a8_oi__ts17", "average_gain", "/layers.7/reduce_sum/ReduceSum", 20),
        ("H_AVGPOOL_SIGNED__ptq_w8a8_oi__ts17", "signed_to_unsigned", "/ap/ap.0/AveragePool", 20),
        ("H_RES_RELU__ptq_w8a8_oi__ts17", "zero_point", "/addrelublock_6/Add", 30),
        ("H_CONVT2__ptq_w8a8_oi__ts17", "float_layer_on_codes", "/t1/ConvTranspose", 50),
        ("CNN_TS_GEN_BASE_1K_NPU__ptq_w4a8_oi__ts17", "too_few_bits", "/1a.0/1a.0.0/Conv", 5),
    ],
)
def test_what_costs_most_at_the_output_comes_first(name: str, rule: str, layer: str, gain: float) -> None:
    export = load_export(name)
    session = InferenceSession(export.model)
    feeds = {session.get_inputs()[0].name: export.inputs()[:64]}
    comparison = compare_with_float(session, export.float_model, feeds)
    found = find_causes(session.program, observations=observe_codes(session, feeds), comparison=comparison)
    assert all(json.loads(json.dumps(dict(finding.evidence))) == dict(finding.evidence) for finding in found)
    first = found[0]
    assert (first.rule, first.layer) == (rule, layer)
    assert first.evidence["output_gain_db"] > gain


def all_findings(export: Export, samples: int) -> list[Finding]:
    session = InferenceSession(export.model)
    feeds = {session.get_inputs()[0].name: export.inputs()[:samples]}
    comparison = compare_with_float(session, export.float_model, feeds)
    return list(find_causes(session.program, observations=observe_codes(session, feeds), comparison=comparison))


@pytest.mark.exports
@pytest.mark.parametrize(
    ("name", "severity", "says"),
    [
        ("FC_CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17", "warning", "2.55 times its value in the biases behind it"),
        ("REG_TS_GEN_BASE_2K_NPU__ptq_w8a8_of__ts17", "warning", "the batch norm that it takes in has other statistics"),
        ("CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17", "info", "the finding average_gain explains it: the gain of 1.5"),
        ("CNN_TS_GEN_BASE_6K_NPU__ptq_w8a8_of__ts17", None, ""),
        ("H_AVGPOOL_SIGNED__ptq_w8a8_of__ts17", None, ""),
    ],
)
def test_the_factor_of_a_float_output(name: str, severity: str | None, says: str) -> None:
    found = all_findings(load_export(name), 64)
    scales = [finding for finding in found if finding.rule == "output_scale"]
    assert [finding.severity for finding in scales] == ([] if severity is None else [severity])
    for finding in scales:
        assert says in finding.message
        assert finding.evidence["lost_db"] > 8
        assert (finding is found[0]) == (severity == "warning")
    assert "input_range" not in {finding.rule for finding in found}


@pytest.mark.exports
def test_the_extreme_samples_of_an_export_come_first() -> None:
    first = all_findings(load_export("CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17"), 74)[0]
    assert (first.rule, first.severity, first.layer) == ("input_range", "warning", "/oss_1/oss_1.0/Add")
    assert set(first.evidence["listed"].split(", ")) <= {str(sample) for sample in range(64, 74)}
    assert first.evidence["worst"][0]["sample"] == 73
