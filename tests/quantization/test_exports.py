"""Quantization after training against the vendor's exports of the same networks; benchmarks/QUANTIZE.md has all of them."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.quantization import quantize
from support import load_export
from support.quantize_checks import check_widths, signal_to_noise

REALISTIC = 64


@pytest.mark.exports
@pytest.mark.parametrize(
    ("name", "bits", "gain", "floor"),
    [
        ("H_RES_RELU__ptq_w8a8_oi__ts17", 8, 20.0, 30.0),
        ("H_MLP_BN__ptq_w4a8_oi__ts17", 4, 15.0, 20.0),
        ("CNN_TS_GEN_BASE_1K_NPU__ptq_w2a8_oi__ts17", 2, 15.0, 15.0),
    ],
)
def test_output_is_nearer_to_the_float_model(name: str, bits: int, gain: float, floor: float) -> None:
    export = load_export(name)
    x = export.inputs()[:REALISTIC]
    with np.load(export.folder / "calibration" / f"{export.network}.npz") as arrays:
        calibration = arrays["input"].astype(np.float32)
    content = quantize(export.float_model, calibration, bits).content
    check_widths(InferenceSession(content).program, bits)
    wanted, theirs, ours = (run(model, x) for model in (export.float_model, export.model, content))
    noise = [signal_to_noise(wanted, best_scale(wanted, given) * given) for given in (ours, theirs)]
    assert noise[0] > floor
    assert noise[0] - noise[1] > gain


def run(model: object, x: np.ndarray) -> np.ndarray:
    session = InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: x})[0].astype(np.float64)


def best_scale(wanted: np.ndarray, given: np.ndarray) -> float:
    return float((wanted * given).sum() / max(np.square(given).sum(), 1e-30))
