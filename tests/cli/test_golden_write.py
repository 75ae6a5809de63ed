"""``npusim golden write``: its options, what it says, and that folders are never lost, never overwritten, never half there."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from npusim.files.arrays import read_npz
from npusim.golden.folder import read_manifest, writer
from npusim.schemas import load_schema
from support import ROOT
from support.builders import GraphBuilder
from support.command_line import call, check_error, checked_json, model_with_open_size
from support.golden_models import network, samples, session_of

W8 = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"


@pytest.fixture(name="model", scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    path.write_bytes(network("int8"))
    return path


@pytest.fixture(name="data")
def data_file(tmp_path: Path) -> Path:
    np.save(tmp_path / "data.npy", samples().inputs["input"])
    return tmp_path / "data.npy"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_given_samples_become_sets(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "g"
    value = checked_json("golden_write", call("golden", "write", model, data, "-o", out, "--json"))
    jsonschema.Draft202012Validator(load_schema("manifest")).validate(value["manifest"])
    assert value["manifest"] == read_manifest(out)
    assert value["output"] == str(out)
    assert value["totals"]["sets"] == 3
    assert value["totals"]["files"] == len(tree(out))
    assert value["manifest"]["model"]["file"] == "net.onnx"
    assert [(item["origin"], item["sample"], item["reason"]) for item in value["manifest"]["sets"]] == [
        ("data", number, None) for number in range(3)
    ]
    np.testing.assert_array_equal(read_npz(out / "vectors.npz")["input"], samples().inputs["input"])
    assert value["differences"] == value["manifest"]["input_stage"]["differences"]
    assert call("golden", "verify", out).code == 0


def test_text_names_tensors_coverage_and_differences(model: Path, data: Path, tmp_path: Path) -> None:
    done = call("golden", "write", model, data, "-o", tmp_path / "g")
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    assert "tensor kind role dtype shape crc32 input - input float32 3x3x24x1 " in words
    assert "coverage: the sets reach " in words
    assert "input stage c28: another code than the graph's for 0 of 216 values in the sets" in words
    assert f"{tmp_path / 'g'}: 3 sets, 7 files, " in words
    assert max(len(line) for line in done.out.splitlines()[:6]) <= 80


@pytest.mark.slow
def test_of_more_samples_the_best_are_chosen(model: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("golden", "write", model, data, "--samples", 2, "--layers", "none")
    value = checked_json("golden_write", call(*arguments, "-o", tmp_path / "g", "--json"))
    chosen = [item["sample"] for item in value["manifest"]["sets"]]
    assert len(set(chosen)) == 2
    assert all(item["origin"] == "data" and item["reason"] for item in value["manifest"]["sets"])
    np.testing.assert_array_equal(read_npz(tmp_path / "g" / "vectors.npz")["input"], samples().inputs["input"][chosen])
    assert value["differences"][1]["samples"] == 3
    assert value["manifest"]["input_stage"]["differences"][1]["samples"] == 2
    done = call(*arguments, "-o", tmp_path / "h")
    assert "values in INPUTS, which changes the outputs of " in " ".join(done.out.split())
    assert call("golden", "verify", tmp_path / "g").code == 0
    text = (tmp_path / "g" / "test_vector.c").read_text()
    assert [f"//Set: {number} (Index: {sample}): Extracted Features\n" in text for number, sample in enumerate(chosen)] == [
        True
    ] * 2


@pytest.mark.slow
def test_without_inputs_samples_are_made_and_the_seed_decides(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0.5], [30, -50], [1, 2])
    path = tmp_path / "small.onnx"
    path.write_bytes(
        graph.model(graph.fully_connected(codes, np.array([[3, 1], [-2, 7]]), [5, 9], [1, 1], [2, 2], (-128, 127)))
    )
    folders_of = {}
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = call("golden", "write", path, "-o", tmp_path / place, "--samples", 3, "--seed", seed)
        assert done.code == 0
        folders_of[place] = tree(tmp_path / place)
    assert folders_of["a"] == folders_of["b"]
    assert folders_of["a"]["vectors.npz"] != folders_of["c"]["vectors.npz"]
    manifest = read_manifest(tmp_path / "c")
    assert (manifest["seed"], [item["origin"] for item in manifest["sets"]]) == (2, ["made"] * 3)
    assert all(item["reason"] for item in manifest["sets"])
    assert call("golden", "verify", tmp_path / "c").code == 0
    np.save(tmp_path / "zero.npy", np.zeros((2, 2), np.float32))
    value = checked_json(
        "golden_write",
        call("golden", "write", path, tmp_path / "zero.npy", "--directed", "--samples", 3, "-o", tmp_path / "d", "--json"),
    )
    assert {item["origin"] for item in value["manifest"]["sets"]} == {"made"}


def test_codes_become_values_that_make_them(model: Path, tmp_path: Path) -> None:
    program = session_of("int8").program
    stage, output = program.quantize_stages[0].output, program.outputs[0]
    codes = np.random.default_rng(1).integers(-128, 128, (2, 3, 24, 1)).astype(np.int8)
    np.savez(tmp_path / "codes.npz", **{stage: codes})
    for variant in ("onnx", "c28", "mspm0"):
        out = tmp_path / variant
        done = call("golden", "write", model, tmp_path / "codes.npz", "--codes", "--input-stage", variant, "-o", out)
        assert done.code == 0, done.err
        arrays = read_npz(out / "vectors.npz")
        np.testing.assert_array_equal(arrays[stage], codes)
        assert arrays["input"].dtype == np.float32
        assert "#define SKIP_NORMALIZE" in (out / "user_input_config.h").read_text()
        assert read_manifest(out)["input_stage"]["from_codes"] is True
        np.testing.assert_array_equal(arrays[output], read_npz(tmp_path / "onnx" / "vectors.npz")[output])
        assert call("golden", "verify", out).code == 0


def test_options_reach_the_folder(model: Path, data: Path, tmp_path: Path) -> None:
    hidden = session_of("int8").program.layers[0].output
    arguments = ("--format", "bin, c", "--layers", hidden, "--module-name", "pump", "--skip-normalize")
    assert call("golden", "write", model, data, "-o", tmp_path / "g", *arguments).code == 0
    manifest = read_manifest(tmp_path / "g")
    assert manifest["formats"] == ["c", "npz", "bin"]
    assert manifest["layers"] == [hidden]
    assert manifest["module"] == "pump"
    assert "tvmgen_pump_run" in (tmp_path / "g" / "npusim_check.c").read_text()


def test_wrong_usage_is_refused_before_any_work(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "g"
    for arguments, says in (
        (("--format", "c,pdf"), "--format 'c,pdf': wanted some of c, npz, onnx, bin"),
        (("--format", ""), "wanted some of c, npz, onnx, bin"),
        (("--layers", "none", "--layers", "*"), "--layers none stands alone"),
        (("--module-name", "my-net"), "--module-name 'my-net': wanted letters"),
        (("--samples", 0), "0 is not in the range"),
        (("--input-stage", "c29"), "'c29' is not one of"),
        (("--format", "onnx", "--input-stage", "c28"), "leave onnx out of --format"),
    ):
        check_error("golden_write", model, data, "-o", out, *arguments, code=2, kind="UsageError", says=says)
    check_error("golden_write", model, "-o", out, "--codes", code=2, kind="UsageError", says="INPUTS, which is missing")
    check_error("golden_write", model, data, code=2, kind="UsageError", says="Missing option '-o'")
    check_error("golden_write", model, data, "-o", tmp_path / "no" / "g", code=2, kind="UsageError", says="there is no folder")
    check_error("golden_write", model, tmp_path / "x.npy", "-o", out, code=2, kind="InputError", says="no such file")
    path = tmp_path / "open.onnx"
    path.write_bytes(model_with_open_size())
    check_error("golden_write", path, "-o", out, code=3, kind="UnsupportedError", says="leaves sizes open")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["data.npy", "open.onnx"]


def test_a_folder_that_exists_is_replaced_only_on_demand(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "g"
    out.mkdir()
    assert call("golden", "write", model, data, "-o", out, "--format", "npz").code == 0
    before = tree(out)
    check_error("golden_write", model, data, "-o", out, code=2, kind="UsageError", says="exists already; name another folder")
    assert tree(out) == before
    assert call("golden", "write", model, data, "-o", out, "--force").code == 0
    assert tree(out).keys() > before.keys()
    (out / "notes.txt").write_text("mine")
    check_error(
        "golden_write", model, data, "-o", out, "--force", code=2, kind="UsageError", says="holds 'notes.txt', which is not"
    )
    assert (out / "notes.txt").read_text() == "mine"


def test_what_golden_write_has_not_written_is_never_replaced(model: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    check_error("golden_write", model, data, "-o", other, "--force", code=2, kind="UsageError", says="it may be something else")
    check_error("golden_write", model, data, "-o", data, "--force", code=2, kind="UsageError", says="is not a folder")
    assert (other / "thesis.tex").read_text() == "years of work"
    out = tmp_path / "g"
    assert call("golden", "write", model, data, "-o", out).code == 0
    for name, arguments in (("model.onnx", (out / "model.onnx", data)), ("vectors.npz", (model, out / "vectors.npz"))):
        check_error("golden_write", *arguments, "-o", out, "--force", code=2, kind="UsageError", says=f"{name}', which is read")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["check_source", "input_config", "check_contents"])
def test_a_failure_leaves_the_old_folder_and_nothing_else(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    out = tmp_path / "g"
    assert call("golden", "write", model, data, "-o", out).code == 0
    before = tree(out)

    def fail(*arguments: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, place, fail)
    for target in (out, tmp_path / "new"):
        done = call("golden", "write", model, data, "-o", target, "--force")
        assert done.code == 2
        assert "cannot be written: No space left on device" in done.err
    assert tree(out) == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["data.npy", "g"]


def test_what_was_written_is_read_back_first(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = writer.input_config
    monkeypatch.setattr(writer, "input_config", lambda vectors: right(vectors).replace("SIZE 48", "SIZE 47"))
    done = call("golden", "write", model, data, "-o", tmp_path / "g")
    assert done.code == 1
    assert "what was written is not what was computed" in done.err
    assert [item.name for item in tmp_path.iterdir()] == ["data.npy"]


def test_a_symbolic_link_to_a_folder_is_followed(model: Path, data: Path, tmp_path: Path) -> None:
    assert call("golden", "write", model, data, "-o", tmp_path / "g", "--format", "npz").code == 0
    (tmp_path / "link").symlink_to(tmp_path / "g")
    assert call("golden", "write", model, data, "-o", tmp_path / "link", "--force").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "g" / "test_vector.c").exists()


def test_group_shows_its_commands() -> None:
    done = call("golden", "--help")
    assert done.code == 0
    for command in ("write", "verify"):
        assert f"\n  {command}  " in done.out
    assert "a command is missing; see 'npusim golden --help'" in call("golden").err
    assert json.loads(call("golden", "burn", "--json").out)["error"]["message"].startswith("No such command 'burn'")


def test_codes_that_no_value_makes_are_refused(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.full((1, 3, 24, 1), 128, np.int64))
    arguments = (model, tmp_path / "codes.npy", "--codes", "-o", tmp_path / "g")
    check_error("golden_write", *arguments, code=2, kind="InputError", says="72 of 72 values of dtype int64 are not exactly")
    graph = GraphBuilder((1, 2))
    (tmp_path / "relu.onnx").write_bytes(graph.model(graph.node("Relu", "input")))
    arguments = (tmp_path / "relu.onnx", tmp_path / "codes.npy", "--codes", "-o", tmp_path / "g")
    check_error("golden_write", *arguments, code=3, kind="UnsupportedError", says="has no input stage")
    graph = GraphBuilder((1, 2))
    narrow = graph.input_stage([0, 0], [3, 5], [1, 1], bits=4)
    (tmp_path / "narrow.onnx").write_bytes(graph.model(narrow))
    np.save(tmp_path / "codes.npy", np.array([[7, 8]], np.int8))
    arguments = (tmp_path / "narrow.onnx", tmp_path / "codes.npy", "--codes", "-o", tmp_path / "g")
    says = "codes.npy: input stage '/t2_Add' (onnx) never makes the code 8 given at index [0, 1]; its codes lie from -8 to 7"
    check_error("golden_write", *arguments, code=2, kind="InputError", says=says)
    assert not (tmp_path / "g").exists()
