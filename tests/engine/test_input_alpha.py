"""The quantizer that PLiNIO leaves out of its files: with its range, sessions and commands take real samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession, certify, verify, verify_golden, write_golden
from npusim.errors import InputError, UsageError
from npusim.kernels.input_quantizer import quantize_input
from npusim.quantization import quantize
from support import FORMATS_FOLDER
from support.command_line import call, check_error, checked_json
from support.float_networks import FloatBuilder, samples


@pytest.fixture(name="made", scope="module")
def made_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, float]:
    graph = FloatBuilder((1, 2, 12), seed=3)
    graph.conv(4, 3)
    graph.relu()
    graph.flatten()
    graph.linear(3)
    x = np.abs(samples(graph.shape))
    found = quantize(graph.model(), x, to="match")
    path = tmp_path_factory.mktemp("alpha") / "model.onnx"
    found.save(path)
    return path, x, found.input_alpha["input"][1]


def test_real_samples_give_what_their_codes_give(made: tuple[Path, np.ndarray, float]) -> None:
    path, x, alpha = made
    beyond = np.concatenate([x, -x, 3 * x])
    (wanted,) = InferenceSession(path).run(None, {"input": quantize_input(beyond, 0, alpha, 8)})
    for given in (alpha, (0.0, alpha), {"input": alpha}):
        session = InferenceSession(path, input_alpha=given)
        np.testing.assert_array_equal(session.run(None, {"input": beyond})[0], wanted)
        assert session.input_alpha == {"input": (0.0, alpha)}
    reference = InferenceSession(path, input_alpha=alpha, engine="reference")
    np.testing.assert_array_equal(reference.run(None, {"input": beyond})[0], wanted)
    assert verify(session, {"input": beyond[:5]})
    assert (session.program.tensors["input/codes"].lower, session.program.tensors["input/codes"].upper) == (0, 254)
    assert certify(session)


def test_golden_folders_remember_it(made: tuple[Path, np.ndarray, float], tmp_path: Path) -> None:
    path, x, alpha = made
    assert write_golden(InferenceSession(path, input_alpha=alpha), tmp_path / "golden", {"input": x[:3]}, sets=3)
    manifest = json.loads((tmp_path / "golden" / "manifest.json").read_text())
    assert manifest["model"]["input_alpha"] == {"input": [0.0, alpha]}
    assert verify_golden(tmp_path / "golden", path)
    manifest["model"]["input_alpha"] = {"input": [0.0, 2 * alpha]}
    (tmp_path / "golden" / "manifest.json").write_text(json.dumps(manifest))
    assert not verify_golden(tmp_path / "golden", path)


def test_every_command_takes_it(made: tuple[Path, np.ndarray, float], tmp_path: Path) -> None:
    path, x, alpha = made
    np.save(tmp_path / "x.npy", x[:4])
    np.save(tmp_path / "codes.npy", quantize_input(x[:4], 0, alpha, 8))
    real = ("--input-alpha", str(alpha))
    assert call("run", path, tmp_path / "x.npy", *real, "-o", tmp_path / "real.npz").code == 0
    assert call("run", path, tmp_path / "codes.npy", "--input-codes", "u8", "-o", tmp_path / "codes.npz").code == 0
    with np.load(tmp_path / "real.npz") as one, np.load(tmp_path / "codes.npz") as other:
        for name in other.files:
            np.testing.assert_array_equal(one[name], other[name])
    assert checked_json("verify", call("verify", path, tmp_path / "x.npy", *real, "--json"))["ok"] is True
    for command in ("inspect", "bounds"):
        assert "input/codes" in call(command, path, *real, "--json").out


def test_what_does_not_fit_is_said(made: tuple[Path, np.ndarray, float]) -> None:
    path, x, alpha = made
    with pytest.raises(InputError, match="codes"):
        InferenceSession(path).run(None, {"input": x})
    for wrong in (0.0, -1.0, float("nan"), (1.0, 2.0), {"other": 1.0}):
        with pytest.raises(UsageError, match="input_alpha"):
            InferenceSession(path, input_alpha=wrong)
    graph = FloatBuilder((1, 2, 12))
    graph.conv(3, 3)
    with pytest.raises(UsageError, match="no quantizer of PLiNIO's"):
        InferenceSession(graph.model(), input_alpha=alpha)
    check_error("run", path, path, "--input-alpha", "1,2,3", code=2, kind="UsageError", says="two with a comma")


@pytest.mark.formats
@pytest.mark.parametrize("path", sorted(FORMATS_FOLDER.glob("other/plinio_*")), ids=lambda path: path.name)
def test_real_files_take_their_own_samples(path: Path) -> None:
    known = json.loads((path / "meta.json").read_text()).get("input_quantizer")
    with np.load(path / "io.npz") as stored:
        if known is None or "x_float" not in stored or path.name.endswith("_int"):
            return
        real, codes = stored["x_float"][:4], stored["x_int"][:4]
    alpha = (known["inf"], known["sup"]) if "sup" in known else known["clip_val"]
    asked = "s8" if "sup" in known else None
    plain, whole = (InferenceSession(path / "model.onnx", input_codes=asked, **more) for more in ({}, {"input_alpha": alpha}))
    name = plain.get_inputs()[0].name
    np.testing.assert_array_equal(whole.run(None, {name: real})[0], plain.run(None, {name: codes})[0])
    assert verify(whole, {name: real[:2]})
