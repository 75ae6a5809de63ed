"""--arithmetic: every command that computes takes it, its JSON names it, and certificates and golden folders keep it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

import npusim
from npusim.cli.application import application
from support.command_line import call
from support.qdq_models import quantized_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return quantized_model(tmp_path / "model.onnx")


def commands(group: click.Group, names: tuple[str, ...] = ()) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = (*names, name)
        found.update(commands(command, inner) if isinstance(command, click.Group) else {" ".join(inner): command})
    return found


def test_every_command_that_computes_takes_an_arithmetic() -> None:
    without = {
        name
        for name, command in commands(application).items()
        if not any(option.name == "arithmetic" for option in command.params)
    }
    # demo computes nothing, oracle is of the NPU's arithmetic, quantize is given floats, golden verify reads it in the folder
    assert without == {"demo", "oracle", "quantize", "golden verify"}


def test_json_names_format_and_arithmetic(model: Path) -> None:
    for name, options in (("ort", ()), ("tvm", ("--arithmetic", "tvm"))):
        for command in (("inspect",), ("bounds",), ("lint", "--device", "f28p55x")):
            done = call(*command, str(model), *options, "--json")
            found = json.loads(done.out)["model"]
            assert (found["format"], found["arithmetic"]) == ("qdq", name)


def test_arithmetics_give_different_codes_at_ties(model: Path, tmp_path: Path) -> None:
    x = np.arange(-6, 6, 0.25, dtype=np.float32).repeat(3).reshape(-1, 3)
    np.save(tmp_path / "x.npy", x)
    results = {}
    for name in ("ort", "onnx", "tvm"):
        done = call("run", str(model), str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npz"), "--arithmetic", name, "--force")
        assert done.code == 0
        results[name] = np.load(tmp_path / "y.npz")["y"]
        session = npusim.InferenceSession(str(model), arithmetic=name)
        assert np.array_equal(results[name], session.run(None, {"x": x})[0])
        assert (session.format, session.arithmetic) == ("qdq", name)
    assert np.array_equal(results["ort"], results["onnx"])
    assert not np.array_equal(results["ort"], results["tvm"])


def test_unknown_arithmetics_are_refused_with_the_choices(model: Path) -> None:
    done = call("inspect", str(model), "--arithmetic", "npu")
    assert done.code == 2
    assert "there is no arithmetic 'npu' for a model of the format 'qdq'; wanted one of: ort, onnx, tvm" in done.err
    with pytest.raises(npusim.UsageError, match="wanted one of: npu"):
        npusim.InferenceSession("golden/vibration_w8.onnx", arithmetic="ort")


def test_certificates_hold_for_one_arithmetic(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    call("bounds", str(model), "-o", str(path))
    assert json.loads(path.read_text())["model"]["arithmetic"] == "ort"
    assert call("bounds", str(model), "--check", str(path)).code == 0
    other = call("bounds", str(model), "--check", str(path), "--arithmetic", "tvm", "--json")
    assert other.code == 1
    assert any("arithmetic" in finding["message"] for finding in json.loads(other.out)["findings"])


def test_lint_says_what_a_device_does_with_the_model(model: Path) -> None:
    found = json.loads(call("lint", model, "--device", "f28p55x", "--arithmetic", "tvm", "--json").out)
    finding = next(item for item in found["findings"] if item["rule"] == "other-format")
    assert "1 integer layers as C code on the CPU, none on the NPU" in finding["message"]
    assert "inferred, not measured" in finding["message"]
    assert {layer["verdict"] for layer in found["layers"]} == {"host"}


@pytest.mark.slow
def test_golden_folders_hold_codes_with_zero_points_and_their_arithmetic(model: Path, tmp_path: Path) -> None:
    done = call("golden", "write", model, "-o", tmp_path / "golden", "--samples", 3, "--arithmetic", "tvm")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "golden" / "manifest.json").read_text())
    assert (manifest["model"]["format"], manifest["model"]["arithmetic"]) == ("qdq", "tvm")
    arrays = np.load(tmp_path / "golden" / "vectors.npz")
    session = npusim.InferenceSession(str(model), arithmetic="tvm")
    key = next(tensor["key"] for tensor in manifest["tensors"] if tensor["name"] == "yq")
    given = next(tensor["key"] for tensor in manifest["tensors"] if tensor["role"] == "input")
    codes = session.trace({"x": arrays[given]}, "yq")["yq"]
    assert arrays[key].dtype == np.uint8
    assert np.array_equal(arrays[key], codes)
    assert call("golden", "verify", tmp_path / "golden").code == 0
