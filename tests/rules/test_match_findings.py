"""Findings on real models of the PLiNIO and MATCH family, each with its numbers."""

from __future__ import annotations

import numpy as np
import pytest

import npusim
import support
from npusim.graph.model_reader import read_model
from npusim.rules.match_findings import match_findings

pytestmark = pytest.mark.formats


def found(case: str, **options: str) -> dict[tuple[str, str | None], object]:
    session = npusim.InferenceSession(support.FORMATS / case / "model.onnx", **options)
    findings = list(match_findings(read_model(session.model), session.program))
    assert len({(item.rule, item.layer) for item in findings}) == len(findings)
    return {(item.rule, item.layer): item for item in findings}


def rules(case: str, **options: str) -> set[str]:
    return {rule for rule, _ in found(case, **options)} - {"coarse-multiplier"}


def test_damages_of_exporters():
    assert rules("other/plinio_match_mlp_3_32_16_8_1_w8a8") == {"dangling-input", "input-codes"}
    assert rules("other/plinio_match_emg_conv1d_w8a8_dynamo_unannotated") == {"no-annotations", "input-codes"}
    assert rules("other/plinio_match_emg_conv1d_w8a8") == {"input-codes"}


def test_files_in_onnx_integers():
    wrapped = "other/plinio_onnx_emg_conv2d_dw_w8a8_unsigned_int"
    assert rules(wrapped) == rules(wrapped, arithmetic="match") == {"wrapped-weights", "truncating-division"}
    assert len(found(wrapped)["wrapped-weights", None].evidence["nodes"]) == 5
    assert rules("other/plinio_onnx_conv2d_w8a8_signed_int") == {"truncating-division"}


def test_means_without_a_requantization():
    case = "other/plinio_match_emg_conv2d_avgpool_w8a8"
    assert rules(case) == rules(case, arithmetic="match_half_up") == {"input-codes", "mean-without-requantization"}
    assert rules(case, arithmetic="onnx") == {"input-codes"}


def test_multipliers_that_cost_percents():
    item = found("other/plinio_match_mlp_3_32_16_8_1_w8a8")["coarse-multiplier", "/l1/MatMul"]
    assert item.evidence == {"smallest": 5, "percent": 20.0, "channels": 32}
    assert ("coarse-multiplier", "/c1/Conv") not in found("other/plinio_match_emg_conv1d_w8a8_shift24default")


def test_products_beyond_int32_are_reached():
    case = "other/plinio_match_emg_conv1d_w8a8_shift24default"
    item = found(case)["int32-overflow", "/c1/Conv"]
    _, high = item.evidence["scaled"]
    assert item.evidence["attained"]
    session = npusim.InferenceSession(support.FORMATS / case / "model.onnx")
    layer = session.program.layers[0]
    channel = item.evidence["channel"]
    # the input that the extreme is reached with: its largest code where the weight is positive, 0 elsewhere
    (declared,) = session.get_inputs()
    x = np.zeros((1, *declared.shape[1:]), np.float32)
    kernel, begin = layer.weights[channel], layer.window.pads[0]
    columns = np.arange(kernel.shape[1]) + 10 * layer.window.strides[0] - begin
    x[0][:, columns] = 255 * (kernel > 0)
    added = next(tap.tensor for tap in layer.taps if tap.exact(0, channel) == int(layer.requantization.addend[channel]))
    assert int(session.trace({declared.name: x}, [added])[added][0, channel, 10]) == high > 2**31
    assert not [key for key in found("other/plinio_match_emg_conv1d_w8a8") if key[0] == "int32-overflow"]
