"""The committed models: made by their script byte for byte, small, and of use as examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from npusim import InferenceSession
from npusim.bounds import certify
from npusim.bounds.report import findings_of
from npusim.files.arrays import read_npz
from npusim.golden.folder import verify_folder
from npusim.program import Accumulating, HostOperation, LayerKind, Weighted
from npusim.search.sampling import generate_inputs
from npusim.verification import verify
from support import ROOT

GOLDEN = ROOT / "golden"
NETWORKS = ("autoencoder_w8", "dense_w8", "keywords_w8", "residual_w4", "signed_w4a4", "ternary_w2")
"""Made by quantizing the float networks of golden/networks.py."""

FILES = (
    "keywords_float.onnx",
    "keywords_samples.npz",
    "vibration_inputs.npz",
    "vibration_w4.onnx",
    "vibration_w8.onnx",
    *(f"{name}.onnx" for name in NETWORKS),
)
FOLDERS = ("vibration_w4", "vibration_w8", *NETWORKS)


@pytest.mark.slow
def test_script_makes_the_committed_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(GOLDEN / "make_models.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, *FOLDERS])
    for name in (*FILES, *vector_files(tmp_path)):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    assert vector_files(tmp_path) == vector_files(GOLDEN)


def vector_files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_golden_vectors_are_what_they_say(name: str) -> None:
    found = verify_folder(GOLDEN / name, GOLDEN / f"{name}.onnx")
    assert found.findings == ()
    assert len(found.manifest["sets"]) == 4
    layers = [step for step in InferenceSession(GOLDEN / f"{name}.onnx").program.steps if not isinstance(step, HostOperation)]
    assert {layer.output for layer in layers} <= {tensor["name"] for tensor in found.manifest["tensors"]}
    if name.startswith("vibration"):
        assert found.values == 4 * (3 * 64 + 3 * 64 + 8 * 64 + 8 * 32 + 8 * 32 + 16 * 32 + 16 + 4)


def test_files_are_small() -> None:
    assert sum((GOLDEN / name).stat().st_size for name in FILES) < 200_000
    assert sum((GOLDEN / name).stat().st_size for name in vector_files(GOLDEN)) < 1_200_000


def test_networks_have_every_layer_type_and_width() -> None:
    programs = {name: InferenceSession(GOLDEN / f"{name}.onnx").program for name in NETWORKS}
    layers = [layer for program in programs.values() for layer in program.layers]
    assert {layer.kind for layer in layers} == {kind for kind in LayerKind if kind.is_of_npu}
    assert {layer.weight_bits for layer in layers if isinstance(layer, Weighted)} == {8, 4, 2}
    clips = [layer.output_clip for layer in layers if isinstance(layer, Accumulating)]
    assert {(clip.lower, clip.upper) for clip in clips} == {(0, 255), (-128, 127), (-8, 7)}
    ends = {name: program.tensors[program.outputs[0]].is_integer for name, program in programs.items()}
    assert set(ends.values()) == {True, False}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_proven_and_equal_onnxruntime(name: str) -> None:
    session = InferenceSession(GOLDEN / f"{name}.onnx")
    certificate = certify(session.program)
    assert all(judgement.holds for judgement in certificate.model.values())
    assert findings_of(certificate) == ()
    assert verify(session, generate_inputs(session.program, 16, seed=3))


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
        if isinstance(layer, Weighted):
            assert layer.weight_bits == bits
            scale = layer.requantization.scale
            assert (scale == 1).all() if bits == 8 else ((scale >= 128) & (scale <= 255)).all()
            assert (np.abs(layer.requantization.bias) < 2 ** (23 if bits == 8 else 15)).all()
    assert program.tensors["output"].stored == np.int8
