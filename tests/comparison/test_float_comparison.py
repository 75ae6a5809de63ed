"""A quantized network against its float network, where the error of every layer is known because it was put there."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from npusim.comparison.float_comparison import compare_with_float
from npusim.comparison.layer_result import PART_NAMES, Confidence
from npusim.comparison.result import FloatComparison, LayerComparison
from npusim.errors import InputError, UsageError
from npusim.program import LayerKind
from npusim.schemas.objects import json_object
from support.builders import DIALECTS
from support.float_pairs import (
    FIRST,
    FIRST_BIAS,
    GENERATOR,
    INPUT_LSB,
    LAST,
    LAST_BIAS,
    SECOND,
    SECOND_BIAS,
    PairBuilder,
    network,
    samples,
)


def compared(pair: PairBuilder, x: np.ndarray | None = None, **options) -> FloatComparison:
    quantized, reference = pair.models()
    return compare_with_float(quantized, reference, {"input": samples() if x is None else x}, **options)


def weighted(comparison: FloatComparison) -> list[LayerComparison]:
    return [layer for layer in comparison.layers if layer.scales.weights is not None]


def one_convolution(**changes) -> LayerComparison:
    pair = PairBuilder((3, 8, 1))
    pair.convolution(FIRST, FIRST_BIAS, **{"shift": 5, "clip": (0, 255), **changes})
    return weighted(compared(pair))[0]


def check_sums(comparison: FloatComparison) -> None:
    """The parts of every layer sum to the whole: means, shares, and means of each channel."""
    for layer in comparison.layers:
        found = layer.attribution
        if found is None:
            continue
        # sums of some thousand float64 numbers in another order: 1e-9 of the error is far above their rounding
        limit = 1e-9 * found.total.root_mean_square_error
        assert abs(sum(part.mean_error for part in found.parts) - found.total.mean_error) <= limit
        by_channel = sum(part.channel_mean_error for part in found.parts)
        np.testing.assert_allclose(by_channel, found.total.channel_mean_error, rtol=0, atol=limit)
        introduced = sum(part.mean_error for part in found.parts[1:])
        assert abs(introduced - found.introduced.mean_error) <= limit
        if found.total.root_mean_square_error > 0:
            assert abs(sum(part.share for part in found.parts) - 1) < 1e-9
        alone = found.alone
        limit = 1e-9 * alone.total.root_mean_square_error
        assert abs(sum(part.mean_error for part in alone.parts) - alone.total.mean_error) <= limit


def test_a_network_that_is_quantized_without_error_has_none() -> None:
    pair = PairBuilder((3, 8, 1))
    # no shift: nothing is rounded; small weights: nothing is clipped
    pair.convolution(np.sign(FIRST), FIRST_BIAS % 20, shift=0, clip=(-(2**15), 2**15), relu=False, weight_scale=1.0)
    comparison = compared(pair, samples() / 8 // INPUT_LSB * np.float32(INPUT_LSB))
    assert comparison
    for layer in comparison.layers:
        assert layer.metrics.sqnr_db == np.inf, layer.name
        assert layer.metrics.largest_error == 0.0
        assert layer.attribution is not None
        assert [part.largest_error for part in layer.attribution.parts] == [0.0] * 5
        assert layer.effect is not None
        assert (layer.effect.if_float_db, layer.effect.if_float_gain_db, layer.effect.if_quantized_db) == (np.inf, 0.0, np.inf)
    assert comparison.outputs[0].sqnr_db == np.inf
    assert comparison.outputs[0].worst == ()


def test_only_the_floor_errs() -> None:
    layer = one_convolution()
    found = layer.attribution
    assert found is not None
    assert found.inherited.largest_error == 0.0
    assert found.weights.largest_error == 0.0
    assert found.clipping.largest_error == 0.0
    # the half LSB in the bias is 2**-6 LSB more than what a floor behind a shift of 5 takes away
    assert found.bias_and_scale.largest_error == 2.0**-6 * layer.scales.output
    assert 0 < found.rounding.largest_error <= 0.5 * layer.scales.output
    assert layer.metrics.largest_error_lsb <= 0.5
    assert layer.scales.output == INPUT_LSB * 2.0**-4 * 2.0**5
    assert layer.scales.spread == 0.0
    assert layer.scales.weights is not None
    assert layer.scales.weights.tolist() == [2.0**-4] * 4
    assert layer.pair.confidence is Confidence.CERTAIN
    assert layer.scales.bias_input == pytest.approx(INPUT_LSB, rel=1e-12)
    assert abs(layer.scales.fitted_difference) < 0.01


def test_an_error_of_the_bias_is_found_as_one() -> None:
    plain, shifted = (one_convolution(relu=False, clip=(-255, 255), bias_change=change) for change in (0, 3 * 2**5))
    assert plain.attribution is not None
    assert shifted.attribution is not None
    change = shifted.attribution.bias_and_scale.mean_error - plain.attribution.bias_and_scale.mean_error
    assert change == 3 * shifted.scales.output
    assert shifted.attribution.weights.largest_error == 0.0
    assert shifted.attribution.clipping.largest_error == 0.0
    assert shifted.metrics.mean_error_lsb - plain.metrics.mean_error_lsb == pytest.approx(3, abs=1e-9)
    assert shifted.attribution.bias_and_scale.share > 0.9
    assert (shifted.attribution.bias_and_scale.channel_mean_error > 2.9 * shifted.scales.output).all()


def test_an_error_of_the_clip_is_found_as_one() -> None:
    wide, narrow = one_convolution(), one_convolution(clip=(0, 15))
    assert wide.attribution is not None
    assert narrow.attribution is not None
    assert wide.attribution.clipping.largest_error == 0.0
    assert narrow.attribution.clipping.share > 0.9
    assert narrow.attribution.clipping.mean_error < 0
    assert narrow.attribution.rounding.mean_error == wide.attribution.rounding.mean_error
    assert narrow.attribution.bias_and_scale.mean_error == wide.attribution.bias_and_scale.mean_error
    assert narrow.codes.share_on_upper > 0.2
    assert narrow.codes.lower_is_relu
    assert (narrow.codes.lower, narrow.codes.upper, narrow.codes.range_used) == (0, 15, 1.0)
    largest = wide.codes.largest - 15
    assert narrow.attribution.clipping.largest_error == largest * narrow.scales.output


def test_an_error_of_the_weights_is_found_as_one() -> None:
    change = np.zeros_like(FIRST)
    change[2, 1, 1, 0] = 2
    layer = one_convolution(relu=False, clip=(-255, 255), weight_change=change)
    found = layer.attribution
    assert found is not None
    assert found.clipping.largest_error == 0.0
    # only channel 2 has other weights
    others = [0, 1, 3]
    assert found.weights.channel_root_mean_square_error[others].max() == 0.0
    assert found.weights.channel_root_mean_square_error[2] > 0
    correlation = layer.pair.weight_correlation
    assert correlation is not None
    assert correlation[others] == pytest.approx(1.0, abs=1e-12)
    assert correlation[2] < 1


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True], ids=["folded", "batch_norm"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_aligned(dialect: str, norm: bool) -> None:
    pair = network(dialect, norm=norm)
    comparison = compared(pair)
    assert comparison
    assert [layer.kind for layer in comparison.layers if layer.kind != "HOST"] == [
        "QUANTIZE",
        "GCONV",
        "PWCONV",
        "AVGPOOL",
        "FC",
    ]
    assert all(layer.pair.confidence is Confidence.CERTAIN for layer in comparison.layers)
    for layer in weighted(comparison):
        assert layer.pair.weight_correlation is not None
        assert layer.pair.weight_correlation.min() == pytest.approx(1.0, abs=1e-12)
        assert layer.scales.spread == 0.0
    assert weighted(comparison)[-1].scales.output == pair.scale
    check_sums(comparison)


def test_the_last_layer_inherits_what_the_first_did() -> None:
    comparison = compared(network(clip=(0, 15)))
    first, last = comparison.layers[1], comparison.layers[-1]
    assert last.attribution is not None
    assert last.attribution.inherited.share > 0.9
    gains = {layer.name: layer.effect.if_float_gain_db for layer in comparison.layers if layer.effect is not None}
    assert max(gains, key=gains.__getitem__) == first.name
    assert gains[first.name] > 6
    check_sums(comparison)


def test_if_one_layer_alone_errs_the_output_is_right_without_it() -> None:
    """Only the first layer rounds and clips; with it in float, nothing is left."""
    pair = PairBuilder((3, 8, 1))
    pair.convolution(FIRST, FIRST_BIAS, shift=6, clip=(0, 9))
    pair.convolution(np.sign(SECOND), SECOND_BIAS % 9, shift=0, weight_scale=1.0, relu=False, clip=(-(2**15), 2**15))
    comparison = compared(pair)
    first = comparison.layers[1]
    assert first.attribution is not None
    assert comparison.layers[2].attribution is not None
    # the codes that reach it have a fraction then, which its floor takes away
    assert comparison.experiment_sqnr_db < 12
    assert first.effect is not None
    assert first.effect.if_float_gain_db > 20
    # alone quantized, it makes the same error, since all others are exact
    assert first.effect.if_quantized_db == pytest.approx(comparison.experiment_sqnr_db, abs=0.2)


def test_a_pool_with_a_gain_is_found_and_does_not_change_the_scale_behind_it() -> None:
    comparison = compared(network(length=12), samples(length=12))
    pool = next(layer for layer in comparison.layers if layer.kind == LayerKind.AVGPOOL)
    assert pool.scales.gain == 1.5
    assert pool.scales.output == pool.scales.input
    assert pool.scales.fitted_difference == pytest.approx(-1 / 3, abs=0.02)
    assert pool.attribution is not None
    assert pool.attribution.bias_and_scale.share > 0.9
    last = comparison.layers[-1]
    assert last.scales.bias_difference == pytest.approx(0, abs=1e-9)
    gains = {layer.name: layer.effect.if_float_gain_db for layer in comparison.layers if layer.effect is not None}
    assert max(gains, key=gains.__getitem__) == pool.name
    check_sums(comparison)


def test_a_layer_that_is_fed_codes_of_another_scale_shows_in_its_biases() -> None:
    pair = PairBuilder((3, 8, 1))
    pair.convolution(FIRST, FIRST_BIAS, shift=5)
    pair.scale *= 32
    pair.convolution(SECOND, SECOND_BIAS, shift=4)
    layer = weighted(compared(pair))[1]
    assert layer.scales.bias_difference == pytest.approx(31, rel=1e-9)
    assert not layer.scales.agreed
    assert layer.scales.input is not None
    assert layer.scales.output == pytest.approx(layer.scales.input * 32 * 2.0**-4 * 2.0**4, rel=1e-9)
    assert layer.attribution is not None
    assert layer.attribution.alone.bias_and_scale.share > 0.9


def test_results_do_not_depend_on_threads_or_on_how_samples_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = samples(40), np.arange(40) % 3
    first = compared(network(), x, labels=labels, threads=1)
    monkeypatch.setattr("npusim.comparison.float_comparison.ELEMENTS", 1)
    second = compared(network(), x, labels=labels, threads=2)
    for one, other in zip(first.layers, second.layers, strict=True):
        assert one.metrics.largest_error == other.metrics.largest_error
        assert one.metrics.sqnr_db == pytest.approx(other.metrics.sqnr_db, rel=1e-12)
        assert one.codes == other.codes
        assert np.array_equal(one.code_histogram.counts, other.code_histogram.counts)
        assert np.array_equal(one.error_histogram.counts, other.error_histogram.counts)
    found = [comparison.outputs[0].classification for comparison in (first, second)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].flips == found[1].flips
    assert found[0].float_accuracy == found[1].float_accuracy
    assert found[0].labelled == 40


def test_histograms_and_points_are_those_of_the_codes() -> None:
    comparison = compared(network())
    for layer in comparison.layers:
        values = comparison.samples * int(np.prod(layer.shape))
        assert layer.metrics.values == layer.code_histogram.total == layer.error_histogram.total == values
        assert len(layer.scatter.codes) == len(layer.scatter.float_values) <= 2 * 1024
        error = layer.scatter.quantized_values - layer.scatter.float_values
        assert np.abs(error).max() <= layer.metrics.largest_error


def test_the_result_as_json_and_as_a_table() -> None:
    comparison = compared(network())
    found = json.loads(json.dumps(json_object(comparison)))
    assert comparison.ok
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in comparison.layers]
    assert set(PART_NAMES) <= set(found["layers"][1]["attribution"])
    table = comparison.to_pandas()
    assert table["layer"].tolist() == [layer.name for layer in comparison.layers]
    assert table["scale"].tolist() == [layer.scales.output for layer in comparison.layers]
    shares = table[[f"share_{name}" for name in PART_NAMES]].sum(axis=1)
    assert ((shares - 1).abs() < 1e-9).tolist() == [False, True, True, True, True]
    assert table["root_mean_square_error"].iloc[0] == shares.iloc[0] == 0.0


def test_another_network_is_refused() -> None:
    quantized, reference = network().models()
    other = PairBuilder((3, 8, 1))
    other.convolution(GENERATOR.integers(-7, 8, (6, 3, 3, 1)), np.zeros(6, np.int64))
    with pytest.raises(UsageError, match="has a counterpart"):
        compare_with_float(quantized, other.models()[1], {"input": samples()})
    with pytest.raises(UsageError, match="no layers in integers"):
        compare_with_float(reference, reference, {"input": samples()})
    with pytest.raises(UsageError, match="a float model has none"):
        compare_with_float(quantized, quantized, {"input": samples()})
    longer = PairBuilder((3, 9, 1))
    longer.convolution(FIRST, FIRST_BIAS)
    with pytest.raises(UsageError, match="have shapes"):
        compare_with_float(quantized, longer.models()[1], {"input": samples()})


def test_a_model_that_computes_nothing_is_refused() -> None:
    """Sizes 1 and 0 broadcast to 0: one empty constant, and no tensor behind it has a value."""
    quantized, reference = network().models()
    proto = onnx.load_from_string(quantized)
    first = next(node for node in proto.graph.node if "input" in node.input)
    held = next(item for item in proto.graph.initializer if item.name in first.input)
    held.CopyFrom(onnx.numpy_helper.from_array(np.zeros((0, 3, 1, 1), np.float32), held.name))
    with pytest.raises(UsageError, match=r"the shape \[0, 3, 8, 1\], so there is nothing to compare"):
        compare_with_float(proto.SerializeToString(), reference, {"input": samples()})


def test_weights_that_do_not_fit_are_unsure() -> None:
    first, second = network(), PairBuilder((3, 8, 1))
    unrelated = np.random.default_rng(99).integers(-7, 8, FIRST.shape)
    second.convolution(unrelated, FIRST_BIAS, shift=5)
    second.convolution(SECOND, SECOND_BIAS, shift=4)
    second.global_average(8)
    second.fully_connected(LAST, LAST_BIAS)
    comparison = compare_with_float(first.models()[0], second.models()[1], {"input": samples()})
    assert not comparison
    assert comparison.layers[1].pair.confidence is Confidence.UNSURE
    assert comparison.layers[2].pair.confidence is Confidence.CERTAIN


def test_samples_and_labels_have_to_fit() -> None:
    quantized, reference = network().models()
    with pytest.raises(InputError, match="wanted at least one"):
        compare_with_float(quantized, reference, {"input": samples()[:0]})
    with pytest.raises(InputError, match="3 labels for 24 samples"):
        compare_with_float(quantized, reference, {"input": samples()}, labels=np.zeros(3, np.int64))
    with pytest.raises(InputError, match="input 'input' has shape"):
        compare_with_float(quantized, reference, {"input": samples(length=9)})
    with pytest.raises(InputError, match="from 0 to 2"):
        compare_with_float(quantized, reference, {"input": samples()}, labels=np.full(24, 7))
    with pytest.raises(InputError, match="one target for each value"):
        compare_with_float(quantized, reference, {"input": samples()}, labels=np.zeros(24))


def test_targets_make_a_regression() -> None:
    comparison = compared(network(), labels=np.zeros((24, 3)))
    output = comparison.outputs[0]
    assert output.regression is not None
    assert output.classification is None
    assert output.regression.float_smape == 200.0
