"""The committed models: made by their script byte for byte, small, and of use as examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from npusim import InferenceSession
from npusim.array_files import read_npz
from support import ROOT

GOLDEN = ROOT / "golden"
FILES = ("vibration_inputs.npz", "vibration_w4.onnx", "vibration_w8.onnx")


def test_script_makes_the_committed_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(GOLDEN / "make_models.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == list(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_files_are_small() -> None:
    assert sum((GOLDEN / name).stat().st_size for name in FILES) < 100_000


@pytest.mark.parametrize("bits", [8, 4])
def test_every_channel_uses_its_range(bits: int) -> None:
    session = InferenceSession(GOLDEN / f"vibration_w{bits}.onnx")
    trace = session.trace({"input": read_npz(GOLDEN / "vibration_inputs.npz")["input"]})
    for layer in trace.layers:
        codes = np.moveaxis(layer.output, 1, 0).reshape(layer.output.shape[1], -1).astype(np.int64)
        saturated = (codes == 127) | (codes == -128) | (codes == 255)
        assert saturated.mean() < 0.05, layer.name
        assert (codes == 0).mean() < 0.45, layer.name
        assert (np.ptp(codes, axis=1) >= 25).all(), layer.name
        if layer.kind in ("GCONV", "DWCONV", "PWCONV"):
            assert codes.max() >= 240, layer.name


@pytest.mark.parametrize("bits", [8, 4])
def test_model_is_of_the_documented_form(bits: int) -> None:
    path = GOLDEN / f"vibration_w{bits}.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = InferenceSession(path)
    program = session.program
    assert [str(layer.kind) for layer in program.layers] == ["GCONV", "MAXPOOL", "DWCONV", "PWCONV", "AVGPOOL", "FC"]
    assert program.host_operations == ()
    assert (program.quantize_stages[0].multiplier < 0).sum() == 1
    for layer in program.layers:
        if layer.weights is not None and layer.requantization is not None:
            assert layer.weight_bits == bits
            scale = layer.requantization.scale
            assert (scale == 1).all() if bits == 8 else ((scale >= 128) & (scale <= 255)).all()
            assert (np.abs(layer.requantization.bias) < 2 ** (23 if bits == 8 else 15)).all()
    assert program.tensors["output"].stored == np.int8
