"""``npusim verify --directed``: an input that differs is found, compared, reported and stored; nothing else is claimed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.cli.progress import INTERVAL, SparseLines
from support import ROOT, load_export
from support.command_line import call, check_error, checked_json, spawn
from support.rare_models import POINT, SCALE, RareModel, correlated_model, rare_model

W8 = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"


@pytest.fixture(name="rare", scope="module")
def rare_model_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RareModel]:
    """A model that differs at one accumulator of its second layer."""
    model = rare_model("FC", depth=1, spread=8.0)
    path = tmp_path_factory.mktemp("rare") / "rare.onnx"
    path.write_bytes(model.content)
    return path, model


@pytest.fixture(name="correlated")
def correlated_model_file(tmp_path: Path) -> Path:
    """A model whose second layer would differ for codes that it never gets."""
    path = tmp_path / "correlated.onnx"
    path.write_bytes(correlated_model(9))
    return path


def finding(value: dict[str, Any], rule: str) -> dict[str, Any]:
    (found,) = [item for item in value["findings"] if item["rule"] == rule]
    return found


def test_input_that_differs_is_found_compared_and_reported(rare: tuple[Path, RareModel]) -> None:
    path, model = rare
    plain = checked_json("verify", call("verify", path, "--json"))
    assert (plain["ok"], plain["directed"]) == (True, None)
    started = time.monotonic()
    done = call("verify", path, "--directed", "--json")
    assert time.monotonic() - started < 60
    assert done.code == 1
    value = checked_json("verify", done)
    assert value["totals"]["samples"] == 65
    (searched,) = value["directed"]["layers"]
    assert (searched["name"], searched["found"]) == (model.layer, "model_input")
    assert value["directed"] | {"layers": []} == {
        "seconds": 45.0,
        "seed": 0,
        "evaluations": searched["evaluations"],
        "samples": 1,
        "output": None,
        "layers": [],
    }
    found = finding(value, "directed_input")
    assert (found["severity"], found["layer"]) == ("error", model.layer)
    evidence = found["evidence"]
    assert evidence["index"] == [64, 0]
    assert (evidence["accumulator"], evidence["bias"], evidence["scale"]) == (
        model.accumulator,
        POINT - model.accumulator,
        SCALE,
    )
    assert (evidence["product"], evidence["npusim"], evidence["onnxruntime"]) == (POINT * SCALE, 153, 154)
    assert (evidence["rounding"]["exact"], evidence["rounding"]["rounded"]) == (POINT * SCALE, POINT * SCALE + 1)
    mismatch = finding(value, "mismatch")
    assert (mismatch["layer"], mismatch["evidence"]["index"]) == (model.layer, [64, 0])
    assert value["every_input"]["verdict"] == "violated"


def test_text_names_the_sample_and_the_arithmetic(rare: tuple[Path, RareModel]) -> None:
    path, model = rare
    done = call("verify", path, "--samples", 8, "--directed")
    assert (done.code, done.err) == (1, "")
    text = " ".join(done.out.split())
    assert f"directed, sample 8: '{model.layer}': " in text
    assert f"= {POINT * SCALE}, shifted right by 17 and clipped: 153; onnxruntime gives 154, because it holds" in text
    assert "directed: 1 model input found; -o WITNESS.npz stores what is found" in text
    assert "NOT equal for every input: layer" in text
    assert max(len(line) for line in done.out.splitlines()) <= 80


def test_stored_input_shows_it_again(rare: tuple[Path, RareModel], tmp_path: Path) -> None:
    path, model = rare
    stored = tmp_path / "witness.npz"
    done = call("verify", path, "--directed", "-o", stored, "--json")
    assert checked_json("verify", done)["directed"]["output"] == str(stored)
    again = checked_json("verify", call("verify", path, stored, "--json"))
    assert (again["ok"], again["totals"]["samples"]) == (False, 1)
    assert finding(again, "mismatch")["evidence"]["index"] == [0, 0]
    # and as a starting point it is found at once
    seeded = checked_json("verify", call("verify", path, stored, "--directed", "--seed", 5, "--json"))
    assert seeded["inputs"] == {"path": str(stored), "seed": None}
    assert seeded["directed"]["seed"] == 5
    assert seeded["directed"]["layers"][0]["evaluations"] < 200
    assert seeded["totals"]["samples"] == 2
    session = InferenceSession(path)
    with np.load(stored) as arrays:
        assert list(arrays) == ["input"]
        tensor = session.program.layers[-1].taps[0].tensor
        accumulator = session.trace({"input": arrays["input"]}, tensor)[tensor]
    assert accumulator[0, 0] in (model.accumulator, POINT)


@pytest.mark.slow
def test_inputs_of_the_layer_alone_are_a_warning(correlated: Path, tmp_path: Path) -> None:
    stored = tmp_path / "witness.npz"
    done = call("verify", correlated, "--directed", "--seconds", 1, "-o", stored, "--json")
    assert done.code == 0
    value = checked_json("verify", done)
    assert (value["totals"]["samples"], value["directed"]["samples"], value["every_input"]["verdict"]) == (64, 0, "unknown")
    assert value["directed"]["layers"][0]["found"] == "layer_input"
    assert value["directed"]["evaluations"] > 0
    layer = InferenceSession(correlated).program.layers[-1]
    (found,) = value["findings"]
    assert (found["rule"], found["severity"], found["layer"]) == ("directed_layer_input", "warning", layer.name)
    assert found["evidence"]["layer_inputs"] == {layer.inputs[0]: 0}
    assert found["evidence"]["file"] == str(stored)
    with np.load(stored) as arrays:
        codes = arrays[layer.inputs[0]].astype(int)
    assert codes[0, 0] - codes[0, 1] == 9
    text = " ".join(call("verify", correlated, "--directed", "--seconds", 1).out.split())
    assert "none leads there, so whether the model differs is not known" in text
    assert "directed: 1 layer input found; -o WITNESS.npz stores what is found" in text
    assert "equal: 3 layers" in text


def test_nothing_to_search_where_everything_is_proven(tmp_path: Path) -> None:
    stored = tmp_path / "witness.npz"
    done = call("verify", W8, INPUTS, "--directed", "-o", stored, "--json")
    value = checked_json("verify", done)
    assert value["ok"] is True
    assert (value["directed"]["layers"], value["directed"]["evaluations"], value["directed"]["output"]) == ([], 0, None)
    assert not stored.exists()
    text = " ".join(call("verify", W8, "--directed").out.split())
    assert "directed: every layer is proven equal for every input, so there is nothing to search" in text


@pytest.mark.slow
def test_search_without_success_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, correlated: Path) -> None:
    """Without the solution at the layer, nothing is found: the model never gets there."""
    monkeypatch.setattr("npusim.bounds.witness.task.Task.solve", lambda task, budget: (None, task.failing))
    done = call("verify", correlated, "--directed", "--seconds", 1, "--json")
    assert done.code == 0
    value = checked_json("verify", done)
    (searched,) = value["directed"]["layers"]
    assert (searched["found"], value["findings"]) == ("none", [])
    assert f"none of {searched['evaluations']:,} inputs tried in 1 seconds shows it" in searched["message"]
    assert "directed: '" in (text := " ".join(call("verify", correlated, "--directed", "--seconds", 0).out.split()))
    assert "inputs tried in 0 seconds shows it; the nearest came within" in text


def test_options_of_the_search_need_the_search(tmp_path: Path) -> None:
    check_error("verify", W8, "--seconds", 3, code=2, kind="UsageError", says="give --directed as well")
    check_error("verify", W8, "-o", tmp_path / "w.npz", code=2, kind="UsageError", says="give --directed as well")
    check_error("verify", W8, "--directed", "--seconds", -1, code=2, kind="UsageError", says="'--seconds'")
    check_error(
        "verify", W8, "--directed", "-o", tmp_path / "w.npy", code=2, kind="UsageError", says="let the name end in .npz"
    )
    missing = tmp_path / "missing" / "w.npz"
    check_error("verify", W8, "--directed", "-o", missing, code=2, kind="UsageError", says="there is no folder")
    check_error("verify", W8, INPUTS, "--directed", "-o", INPUTS, code=2, kind="UsageError", says="is read as well")
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    check_error("verify", W8, "--directed", "-o", folder, code=2, kind="UsageError", says="is a folder")


@pytest.mark.slow
def test_as_users_call_it(rare: tuple[Path, RareModel], tmp_path: Path) -> None:
    path, _ = rare
    done = spawn("verify", path, "--directed", "-q", "-o", tmp_path / "w.npz", cwd=tmp_path)
    assert (done.code, done.err) == (1, "")
    assert (tmp_path / "w.npz").exists()


def test_progress_counts_seconds() -> None:
    class Stream:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    now, stream = [0.0], Stream()
    lines = SparseLines("directed search", stream, lambda: now[0], unit="seconds")
    now[0] = INTERVAL
    lines(10, 45)
    assert stream.text == "npusim: directed search: 10 of 45 seconds, 35 s left\n"


@pytest.mark.slow
@pytest.mark.exports
def test_real_export_with_large_accumulators_differs() -> None:
    export = load_export("H_BIGACC__qat_w4a8_oi__ts17")
    started = time.monotonic()
    done = call("verify", export.model, export.inputs_file, "--directed", "--json")
    assert time.monotonic() - started < 60
    value = checked_json("verify", done)
    assert done.code == 1
    assert [layer["found"] for layer in value["directed"]["layers"]] == ["model_input", "model_input"]
    assert value["totals"]["samples"] == 76
    samples = [item["evidence"]["index"][0] for item in value["findings"] if item["rule"] == "directed_input"]
    assert samples == [74, 75]
