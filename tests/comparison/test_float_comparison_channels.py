"""Codes with one scale per channel, as npusim's own quantizer makes them, are read as the layers behind read them."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npusim.comparison.alignment import align, recover_scales
from npusim.comparison.alignment.channel_scales import input_columns, known_scales
from npusim.comparison.alignment.weights import fit_batch_norm
from npusim.comparison.experiments.stages import LayerStages
from npusim.comparison.findings import find_causes
from npusim.comparison.float_comparison import compare_with_float
from npusim.comparison.layer_result import Confidence, LayerScales, channel_axis
from npusim.comparison.result import FloatComparison
from npusim.engine.session import InferenceSession
from support import ROOT

LEAST_DB = {"keywords_w8": 40, "autoencoder_w8": 35, "dense_w8": 38, "residual_w4": 24, "signed_w4a4": 14}
"""SQNR of the worst layer: 8-bit codes and weights, 4-bit weights, everything in 4 bits."""


@cache
def golden_networks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_networks", ROOT / "golden" / "networks.py")
    if spec is None or spec.loader is None:
        raise ImportError("golden/networks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def sessions(name: str) -> tuple[InferenceSession, InferenceSession]:
    network = next(one for one in golden_networks().NETWORKS if one.name == name)
    return InferenceSession(ROOT / "golden" / f"{name}.onnx"), InferenceSession(network.float_model())


def samples(name: str) -> np.ndarray:
    return next(one for one in golden_networks().NETWORKS if one.name == name).samples()


@cache
def compared(name: str) -> FloatComparison:
    quantized, reference = sessions(name)
    return compare_with_float(quantized, reference, {quantized.program.inputs[0]: samples(name)})


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST_DB)
def test_every_layer_is_close_at_the_scales_of_its_channels(name: str) -> None:
    comparison = compared(name)
    assert comparison.unpaired == ()
    assert {layer.pair.confidence for layer in comparison.layers} == {Confidence.CERTAIN}
    assert min(layer.metrics.sqnr_db for layer in comparison.layers) > LEAST_DB[name]
    assert any(layer.scales.channels is not None for layer in comparison.layers)
    for output in comparison.outputs:
        assert output.fitted_sqnr_db - output.sqnr_db < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST_DB)
def test_nothing_is_wrong_with_them(name: str) -> None:
    assert find_causes(sessions(name)[0].program, comparison=compared(name)) == ()


def test_the_gain_of_a_pool_is_in_the_scale_of_its_channels() -> None:
    quantized, _ = sessions("keywords_w8")
    comparison = compared("keywords_w8")
    pool = next(layer for layer in comparison.layers if layer.kind == "AVGPOOL")
    before = comparison.layer(pool.inputs[0])
    part = next(layer for layer in quantized.program.layers if layer.name == pool.name).requantization
    assert part is not None
    assert pool.scales.gain == 1
    assert pool.scales.channels is not None
    assert before.scales.channels is not None
    # the file declares its scales to nine digits
    np.testing.assert_allclose(pool.scales.channels, before.scales.channels * 2.0**part.shift / part.scale / 50, rtol=1e-8)
    assert pool.scales.output == np.median(pool.scales.channels)
    assert "average_gain" in {finding.rule for finding in find_causes(quantized.program)}


@pytest.mark.parametrize("name", ["keywords_w8", "residual_w4", "autoencoder_w8"])
def test_parts_of_the_error_telescope_in_every_channel(name: str) -> None:
    quantized, reference = sessions(name)
    alignment = align(quantized.program, reference.program)
    scales = recover_scales(alignment, quantized.program, reference.program)
    feeds = {quantized.program.inputs[0]: samples(name)[:4]}
    codes = quantized.trace(feeds, [*quantized.program.inputs, *(step.tensors[-1] for step in quantized.program.steps)])
    for pair in alignment.pairs:
        stages = LayerStages.of(pair, alignment, scales, quantized.program, reference.program).in_place(codes)
        real = (codes[pair.tensor] - scales[pair.step].zero_point) * scales[pair.step].over(codes[pair.tensor].shape)
        np.testing.assert_array_equal(stages.clipping.ravel(), real.ravel())
        np.testing.assert_allclose(sum(stages.parts), stages.introduced, atol=1e-12)


def test_errors_in_lsb_are_those_of_the_channel() -> None:
    for layer in compared("keywords_w8").layers:
        lsb = layer.scales.by_rows(len(layer.channels.mean_error))
        np.testing.assert_allclose(layer.channels.mean_error_lsb * lsb, layer.channels.mean_error, rtol=1e-12)
        assert layer.metrics.largest_error_lsb == layer.channels.largest_error_lsb.max()


def test_scale_over_a_shape() -> None:
    scales = LayerScales(0.5, channels=np.array([0.25, 0.75]))
    assert scales.over((8, 2, 3, 1)).tolist() == [[[0.25]], [[0.75]]]
    assert scales.over((8, 1, 2)).tolist() == [0.25, 0.75]
    assert LayerScales(0.5).over((8, 2)).tolist() == 0.5
    assert scales.by_rows(2).tolist() == [0.25, 0.75]
    assert scales.by_rows(3).tolist() == [0.5, 0.5, 0.5]
    assert [channel_axis((1, 4, 4), 4), channel_axis((1, 1, 4), 4), channel_axis((1, 3), 4)] == [1, 2, 1]


def test_scales_of_channels_without_weights_are_the_median() -> None:
    assert known_scales(np.array([1.0, np.nan, 3.0, -1.0, np.inf])).tolist() == [1.0, 2.0, 3.0, 2.0, 2.0]


def test_columns_follow_the_order_of_grouped_weights() -> None:
    quantized, _ = sessions("keywords_w8")
    layers = {layer.kind: layer for layer in quantized.program.layers}
    depthwise = layers["DWCONV"]
    channels = np.arange(1.0, 9.0)
    found = input_columns(depthwise, (8, 9), channels)
    assert found is not None
    assert found.tolist() == [[channel] * 9 for channel in channels]
    product = input_columns(layers["FC"], (6, 16), np.arange(16.0))
    assert product is not None
    assert product.tolist() == [list(np.arange(16.0))] * 6
    assert input_columns(layers["FC"], (6, 16), np.arange(5.0)) is None


def test_a_stage_with_a_scale_for_each_channel_can_take_in_a_batch_norm() -> None:
    gain, shift = np.array([2.0, -1.0, 0.5]), np.array([1.0, 0.5, -3.0])
    scales = np.array([0.01, 0.02, 0.05])
    multiplier = gain / scales
    stage = SimpleNamespace(multiplier=multiplier, offset=shift / gain + 0.5 / multiplier)
    found: Any = stage
    assert fit_batch_norm(found, gain, shift) == pytest.approx(0, abs=1e-9)
    found.offset = found.offset + 0.5 / np.abs(multiplier)
    assert fit_batch_norm(found, gain, shift) is None
    found.multiplier, found.offset = -multiplier, shift / gain - 0.5 / multiplier
    assert fit_batch_norm(found, gain, shift) is None
