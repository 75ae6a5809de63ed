"""``npusim compare`` with a float model: tables, JSON, files, exit codes, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.command_line import call, check_error, checked_json
from support.float_pairs import FIRST, FIRST_BIAS, GENERATOR, PairBuilder, network, samples


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A quantized model and its float model as files."""
    paths = tmp_path / "model.onnx", tmp_path / "float.onnx"
    for path, content in zip(paths, network(length=12).models(), strict=True):
        path.write_bytes(content)
    return paths


def data(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **{"x": samples(length=12), **arrays})
    return path


def test_the_table_names_the_layer_and_the_cause(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = call("compare", pair[0], "--against", pair[1], "--data", data(tmp_path, label=np.arange(24) % 3))
    assert outcome.code == 0
    marked = [line for line in outcome.out.splitlines() if line.startswith("!!")]
    assert len(marked) == 1
    assert "AVGPOOL" in marked[0]
    assert "scale " in marked[0]
    assert "warning (average_gain)" in outcome.out
    assert "accuracy on 24 labelled samples" in outcome.out
    assert "5 layers aligned (5 certain), 24 samples, parts and gains on 24 of them" in " ".join(outcome.out.split())
    assert all(len(line) <= 80 for line in outcome.out.splitlines())


def test_json(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = call("compare", pair[0], "--against", pair[1], "--data", data(tmp_path), "--json")
    found = checked_json("compare", outcome)
    assert found["comparison"] == "float"
    assert found["totals"]["layers"] == found["totals"]["paired_layers"] == 5
    assert found["totals"]["samples"] == 24
    assert found["against"]["path"] == str(pair[1])
    assert found["findings"][0]["rule"] == "average_gain"
    assert found["findings"][0]["evidence"]["output_gain_db"] > 3
    assert all("channels" not in layer and "by_channel" not in layer["scales"] for layer in found["layers"])
    assert found["layers"][3]["scales"]["gain"] == 1.5
    parts = found["layers"][1]["attribution"]
    assert sum(parts[name]["share"] for name in ("inherited", "weights", "bias_and_scale", "rounding", "clipping")) == (
        pytest.approx(1)
    )


def test_json_with_channels(pair: tuple[Path, Path]) -> None:
    found = checked_json("compare", call("compare", pair[0], "--against", pair[1], "--json", "--channels", "--samples", "8"))
    layer = found["layers"][1]
    assert len(layer["channels"]["sqnr_db"]) == len(layer["scales"]["by_channel"]) == 4
    assert found["inputs"] == {"path": None, "seed": 0}
    assert found["totals"]["samples"] == 8


def test_files_are_written_and_not_overwritten(pair: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "layers.csv"
    arguments = ("compare", pair[0], "--against", pair[1], "--samples", "8", "--csv", table)
    assert call(*arguments).code == 0
    lines = table.read_text().splitlines()
    assert lines[0].startswith("layer,kind,tensor,float_tensor")
    assert len(lines) == 6
    check_error(*arguments, code=2, kind="UsageError", says="exists already")
    assert call(*arguments, "--force").code == 0
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".onnx", ".csv")]


def test_the_array_that_fits_is_taken(pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, recorded=samples(length=12), times=np.arange(24.0), label=np.full(24, 99))
    found = checked_json("compare", call("compare", pair[0], "--against", pair[1], "--data", path, "--json"))
    # 99 is not a class of this output: the labels beside the samples are left alone
    assert found["outputs"][0]["classification"]["float_accuracy"] is None


def test_labels_that_are_given_have_to_fit(pair: tuple[Path, Path], tmp_path: Path) -> None:
    labels = tmp_path / "labels.npy"
    np.save(labels, np.full(24, 99))
    arguments = ("compare", pair[0], "--against", pair[1], "--data", data(tmp_path), "--labels", labels)
    check_error(*arguments, code=2, kind="InputError", says="from 0 to 2")


def test_a_float_model_of_another_network(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = PairBuilder((3, 12, 1))
    other.convolution(GENERATOR.integers(-7, 8, (6, 3, 3, 1)), np.zeros(6, np.int64))
    path = tmp_path / "other.onnx"
    path.write_bytes(other.models()[1])
    check_error("compare", pair[0], "--against", path, code=2, kind="UsageError", says="give the float model of this network")


def test_a_layer_without_a_counterpart_is_an_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shorter = PairBuilder((3, 12, 1))
    shorter.convolution(FIRST, FIRST_BIAS, shift=5, weight_scale=2.0 ** -np.array([4, 5, 4, 6]))
    path = tmp_path / "shorter.onnx"
    path.write_bytes(shorter.models()[1])
    outcome = call("compare", pair[0], "--against", path, "--json")
    assert outcome.code == 1
    found = checked_json("compare", outcome)
    assert [item["kind"] for item in found["unpaired"]] == ["PWCONV", "AVGPOOL", "FC"]
    assert {finding["rule"] for finding in found["findings"] if finding["severity"] == "error"} == {
        "unpaired_layer",
        "unpaired_output",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tensor", "t"), "are for dumps"),
        (("--labels", "y.npy"), "give both"),
        (("--data", "x.npz", "--seed", "1"), "for generated samples"),
        (("--csv", "missing/out.csv"), "make it first"),
    ],
)
def test_wrong_usage(pair: tuple[Path, Path], options: tuple[str, ...], says: str) -> None:
    check_error("compare", pair[0], "--against", pair[1], *options, code=2, kind="UsageError", says=says)


def test_channels_are_for_json(pair: tuple[Path, Path]) -> None:
    outcome = call("compare", pair[0], "--against", pair[1], "--channels")
    assert outcome.code == 2
    assert "--channels is for --json" in outcome.err


def test_nothing_is_said_on_stderr_for_short_work(pair: tuple[Path, Path]) -> None:
    assert call("compare", pair[0], "--against", pair[1], "--samples", "8").err == ""


def test_samples_without_the_width_of_a_signal_are_taken_and_announced_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    whole = call("compare", pair[0], "--against", pair[1], "--data", data(tmp_path), "--json")
    path = tmp_path / "flat.npz"
    np.savez(path, samples(length=12)[..., 0])
    outcome = call("compare", pair[0], "--against", pair[1], "--data", path, "--json")
    assert outcome.code == whole.code
    assert outcome.err.count("has shape (24, 3, 12) and is read as (N, 3, 12, 1)") == 1
    assert checked_json("compare", outcome)["layers"] == checked_json("compare", whole)["layers"]
