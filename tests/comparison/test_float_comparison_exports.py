"""Real exports against their float models: every layer is aligned, scales agree, parts sum, known causes are named."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import support
from npusim.comparison.alignment import align, recover_scales
from npusim.comparison.experiments.partial_runs import evaluate_real
from npusim.comparison.findings import alignment_findings
from npusim.comparison.float_comparison import compare_with_float
from npusim.comparison.layer_result import Confidence
from npusim.comparison.result import FloatComparison
from npusim.engine.session import InferenceSession
from npusim.program import HostOperation, LayerKind, Program, Weighted

LEAST_COSINE = {"8": 0.89, "4": 0.85, "2": 0.4}
"""Of the integer weights of any layer and the float ones, over all its channels; training has moved the weights."""


@cache
def float_session(path: str) -> InferenceSession:
    return InferenceSession(path)


def test_every_layer_of_every_export_is_aligned(export: support.Export) -> None:
    quantized = InferenceSession(export.model).program
    reference = float_session(str(export.float_model)).program
    alignment = align(quantized, reference)
    assert alignment.unpaired == ()
    assert alignment.unpaired_float == ()
    assert len(alignment.pairs) == len(quantized.steps)
    assert [alignment.meaning[quantized.resolve(name)] for name in quantized.outputs] == list(reference.outputs)
    assert all(pair.confidence is not Confidence.UNSURE for pair in alignment.pairs)
    for pair in alignment.pairs:
        quantized_size = np.prod(quantized.tensors[pair.tensor].shape)
        assert quantized_size == np.prod(reference.tensors[pair.float_tensor].shape)
    check_weights(alignment.pairs, quantized)
    scales = recover_scales(alignment, quantized, reference)
    assert all(np.isfinite(one.output) and one.output > 0 for one in scales.values())
    if export.row["method"] == "PTQ" and export.row["weight_bits"] == "8":
        spreads = [one.spread for one in scales.values() if one.weights is not None]
        assert max(one for one in spreads if one is not None) < 0.05


def check_weights(pairs, program: Program) -> None:
    """Every layer with weights has a counterpart whose weights fit."""
    steps = {step.name: step for step in program.steps}
    found = [pair for pair in pairs if pair.weight_correlation is not None]
    with_weights = [step for step in program.layers if isinstance(step, Weighted)]
    left_in_float = [step for step in program.host_operations if step.operator in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    assert [pair.step for pair in found] == [
        step.name for step in program.steps if step in with_weights or step in left_in_float
    ]
    for pair in found:
        step = steps[pair.step]
        bits = step.weight_bits if isinstance(step, Weighted) else 8
        assert np.median(pair.weight_correlation) >= LEAST_COSINE[str(bits)], pair.step


def load(name: str, count: int = 12) -> tuple[InferenceSession, InferenceSession, dict[str, np.ndarray]]:
    export = support.load_export(name)
    quantized = InferenceSession(export.model)
    feeds = {quantized.get_inputs()[0].name: export.inputs()[:count]}
    return quantized, float_session(str(export.float_model)), feeds


@cache
def comparison_of(name: str) -> FloatComparison:
    return compare_with_float(*load(name))


DIFFERENT = (
    "AE_CNN_TS_GEN_BASE_2K_NPU__qat_w8a8_of__ts17",
    "CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17",
    "CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi_mpF1__ts17",
    "CNN_TS_GEN_BASE_1K_NPU__qat_w2a4_oi__ts17",
    "CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi__ts17nosim",
    "H_CONVT2__ptq_w8a8_of__ts17",
    "H_MLP_BN__qat_w8a8_oi__dyn18v",
    "H_POOLS__qat_w4a8_oi__ts17",
    "H_RES_PLAIN__ptq_w8a8_of__ts17",
    "H_RES_RELU__qat_w8a8_oi__ts17",
    "RES_ADD_CNN_TS_GEN_BASE_3K__qat_w8a8_oi__ts17",
    "RES_CAT_CNN_TS_GEN_BASE_3K__qat_w8a8_of__ts17",
)
"""Every kind of layer, dialect and mixture once."""


@pytest.mark.exports
@pytest.mark.parametrize("name", DIFFERENT)
def test_the_parts_sum_to_the_whole(name: str) -> None:
    comparison = comparison_of(name)
    assert comparison
    for layer in comparison.layers:
        if layer.attribution is None:
            continue
        total = layer.attribution.total
        limit = 1e-9 * total.root_mean_square_error
        assert abs(sum(part.mean_error for part in layer.attribution.parts) - total.mean_error) <= limit
        # the same samples in both, so the error measured is the error that is taken apart
        assert total.root_mean_square_error == pytest.approx(layer.metrics.root_mean_square_error, rel=1e-9)
        assert total.mean_error == pytest.approx(layer.metrics.mean_error, rel=1e-6, abs=limit)


@pytest.mark.exports
@pytest.mark.parametrize("name", DIFFERENT)
def test_steps_on_real_valued_codes_give_the_engines_integers(name: str) -> None:
    quantized, _, feeds = load(name, 6)
    program = quantized.program
    trace = quantized.trace(feeds)
    for step in program.steps:
        inputs = [np.asarray(trace[one], np.float64) for one in program.inputs_of(step)]
        found = evaluate_real(program, step, inputs)
        expected = trace[step.tensors[-1]]
        if isinstance(step, HostOperation) and not program.tensors[step.tensors[-1]].is_integer:
            assert np.array_equal(found.astype(expected.dtype), expected), step.name
        else:
            assert np.array_equal(found, expected), step.name


@pytest.mark.exports
def test_post_training_quantization_to_8_bits_is_close() -> None:
    comparison = comparison_of("H_CONVT2__ptq_w8a8_of__ts17")
    assert min(layer.metrics.sqnr_db for layer in comparison.layers) > 35
    assert comparison.scale_agreement is not None
    assert comparison.scale_agreement < 0.005


@pytest.mark.exports
def test_the_gain_of_an_average_pool_is_the_worst_layer() -> None:
    comparison = comparison_of("CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17")
    effects = {layer.name: layer.effect.if_float_gain_db for layer in comparison.layers if layer.effect is not None}
    worst = comparison.layer(max(effects, key=effects.__getitem__))
    assert worst.kind == LayerKind.AVGPOOL
    assert worst.scales.gain == 1.5
    assert effects[worst.name] > 20
    assert comparison.scale_agreement is not None
    assert comparison.scale_agreement < 0.001


@pytest.mark.exports
def test_an_offset_that_nothing_takes_away_again_is_found() -> None:
    """The second sum of this network adds 128 to its codes."""
    comparison = comparison_of("H_RES_RELU__qat_w8a8_oi__ts17")
    layer = [one for one in comparison.layers if one.kind == LayerKind.ADD][1]
    assert layer.attribution is not None
    assert layer.attribution.bias_and_scale.share > 0.9
    assert layer.attribution.alone.total.mean_error / layer.scales.output == pytest.approx(128, abs=2)


@pytest.mark.exports
@pytest.mark.parametrize(
    ("name", "layer", "factor"),
    [
        ("CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi_mpF1__ts17", "/1a.0/1a.0.0/Conv", 31.9),
        ("H_MLP_BN__qat_w8a8_oi__dyn18v", "node_linear", 26.3),
        ("H_RES_PLAIN__ptq_w8a8_of__ts17", "/c.0/c.0.0/Conv", 7.99),
    ],
)
def test_layers_made_for_another_input_scale_are_found(name: str, layer: str, factor: float) -> None:
    findings = [one for one in alignment_findings(comparison_of(name)) if one.rule == "other_input_scale"]
    assert [one.layer for one in findings] == [layer]
    assert findings[0].evidence["factor"] == pytest.approx(factor, rel=0.01)
