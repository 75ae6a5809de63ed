"""``npusim quantize``: the file it writes, the object it prints, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.files.arrays import write_arrays
from npusim.quantization import quantize
from npusim.verification import verify
from support.command_line import call, check_error, checked_json
from support.float_networks import FloatBuilder, samples


@pytest.fixture(name="folder")
def float_model(tmp_path: Path) -> Path:
    graph = FloatBuilder((1, 3, 16, 1), seed=4)
    graph.batch_norm()
    graph.conv(8, 3)
    graph.relu()
    graph.global_average()
    graph.flatten()
    graph.linear(3)
    (tmp_path / "float.onnx").write_bytes(graph.model())
    write_arrays(tmp_path / "windows.npz", {"input": samples(graph.shape)})
    return tmp_path


def arguments(folder: Path, *more: object) -> tuple[object, ...]:
    return "quantize", folder / "float.onnx", "--calibration", folder / "windows.npz", "-o", folder / "out.onnx", *more


def refuse(given: Sequence[object], kind: str, says: str) -> None:
    check_error("quantize", *given[1:], code=2, kind=kind, says=says)


def test_file_is_that_of_the_library(folder: Path) -> None:
    outcome = call(*arguments(folder, "--weight-bits", "4", "--output", "float"))
    assert outcome.code == 0, outcome.err
    x = samples((1, 3, 16, 1))
    content = (folder / "out.onnx").read_bytes()
    assert content == quantize(folder / "float.onnx", x, 4, float_output=True).content
    assert verify(InferenceSession(content), {"input": x})
    lines = outcome.out.splitlines()
    assert [line.split()[:2] for line in lines[2:6]] == [["1", "input"], ["2", "conv"], ["3", "average_pool"], ["4", "linear"]]
    assert lines[-1] == f"Written: {folder / 'out.onnx'}, {len(content):,} bytes"
    assert max(len(line) for line in lines[:6]) <= 80


def test_object(folder: Path) -> None:
    value = checked_json("quantize", call(*arguments(folder, "--activation-bits", "4", "--json")))
    assert value["ok"] is True
    assert (value["weight_bits"], value["activation_bits"], value["output"]) == (8, 4, "int")
    assert value["quantized"]["path"] == str(folder / "out.onnx")
    assert value["totals"] == {
        "layers": 4, "host_operations": 0, "bytes": (folder / "out.onnx").stat().st_size, "parameter_bytes": 239, "warnings": 0,
    }  # fmt: skip
    assert [layer["kind"] for layer in value["layers"]] == ["INPUT", "CONV", "AVERAGE_POOL", "LINEAR"]
    assert [layer["weight_bits"] for layer in value["layers"]] == [None, 8, None, 8]
    (scale,) = value["output_scales"].values()
    (codes,) = InferenceSession(folder / "out.onnx").run(None, {"input": samples((1, 3, 16, 1))})
    (wanted,) = InferenceSession(folder / "float.onnx").run(None, {"input": samples((1, 3, 16, 1))})
    np.testing.assert_allclose(codes * scale, wanted, atol=0.2 * np.abs(wanted).max())


def test_what_is_kept_in_float_is_said(tmp_path: Path) -> None:
    graph = FloatBuilder((1, 3, 16, 1))
    graph.conv(4, 3)
    graph.node("Sigmoid")
    (tmp_path / "float.onnx").write_bytes(graph.model())
    write_arrays(tmp_path / "windows.npz", {"input": samples(graph.shape)})
    outcome = call(*arguments(tmp_path))
    assert outcome.code == 0
    assert "warning: Sigmoid '/n1/Sigmoid'" in outcome.out
    value = checked_json("quantize", call(*arguments(tmp_path, "--json", "--force")))
    kept = [(finding["rule"], finding["severity"]) for finding in value["findings"] if finding["layer"] == "/n1/Sigmoid"]
    assert kept[0] == ("kept_in_float", "warning")
    assert value["totals"]["host_operations"] == 1


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    (folder / "out.onnx").write_bytes(b"precious")
    refuse(arguments(folder), "UsageError", "exists already; name another file, or overwrite it with --force")
    assert (folder / "out.onnx").read_bytes() == b"precious"
    assert call(*arguments(folder, "--force")).code == 0
    assert (folder / "out.onnx").read_bytes() != b"precious"


def test_the_float_model_is_never_overwritten(folder: Path) -> None:
    before = (folder / "float.onnx").read_bytes()
    given = [*arguments(folder, "--force")]
    given[given.index(folder / "out.onnx")] = folder / "float.onnx"
    refuse(given, "UsageError", "is read as well")
    assert (folder / "float.onnx").read_bytes() == before


def test_bad_samples_write_nothing(folder: Path) -> None:
    write_arrays(folder / "windows.npz", {"input": samples((1, 3, 16, 1)) * 0})
    refuse(arguments(folder), "InputError", "all zeros")
    write_arrays(folder / "windows.npz", {"input": samples((1, 3, 12, 1))})
    refuse(arguments(folder), "InputError", "(48, 3, 12, 1)")
    assert not (folder / "out.onnx").exists()


def test_a_missing_folder_is_refused_before_any_work(folder: Path) -> None:
    given = [*arguments(folder)]
    given[given.index(folder / "out.onnx")] = folder / "none" / "out.onnx"
    refuse(given, "UsageError", "there is no folder")
