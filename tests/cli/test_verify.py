"""``npusim verify``: what it reports when everything agrees, when something does not, and when it cannot compare."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from npusim.verification import Difference, StepComparison, Verification
from support import ROOT, Export
from support.builders import GraphBuilder
from support.command_line import (
    FLOAT32_SAMPLE,
    call,
    check_error,
    checked_json,
    model_beyond_float32,
    model_with_float_layer,
    model_with_open_size,
)

W8 = ROOT / "golden" / "vibration_w8.onnx"
W4 = ROOT / "golden" / "vibration_w4.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"

KINDS = ["QUANTIZE", "GCONV", "MAXPOOL", "DWCONV", "PWCONV", "AVGPOOL", "FC"]


@pytest.fixture(name="differing")
def differing_model(tmp_path: Path) -> tuple[Path, Path]:
    """A model and five samples, the third of which float32 gets wrong."""
    model, inputs = tmp_path / "beyond.onnx", tmp_path / "beyond.npz"
    model.write_bytes(model_beyond_float32())
    x = np.zeros((5, 4), np.float32)
    x[2, 1] = FLOAT32_SAMPLE
    np.savez(inputs, input=x)
    return model, inputs


@pytest.mark.parametrize("model", [W8, W4], ids=["w8", "w4"])
def test_golden_models_agree_on_generated_and_on_given_samples(model: Path) -> None:
    generated = checked_json("verify", call("verify", model, "--samples", 7, "--json"))
    assert generated["ok"] is True
    assert generated["inputs"] == {"path": None, "seed": 0}
    assert generated["totals"]["samples"] == 7
    given = checked_json("verify", call("verify", model, INPUTS, "--json"))
    assert given["inputs"] == {"path": str(INPUTS), "seed": None}
    for value, samples in ((generated, 7), (given, 16)):
        assert [layer["kind"] for layer in value["layers"]] == KINDS
        assert {layer["comparison"] for layer in value["layers"]} == {"exact"}
        assert value["findings"] == []
        assert value["layers"][1]["name"] == "/conv/Conv"
        assert value["layers"][1]["tensor"] == "/conv/requantize/Clip_1_output_0"
        # Conv, Add, Mul, Mul, Floor, Clip, Relu, Clip of 8 channels and 64 steps
        assert value["layers"][1]["elements"] == samples * 8 * 8 * 64
        assert value["totals"]["elements"] == sum(layer["elements"] for layer in value["layers"])
        assert value["totals"]["mismatches"] == 0
        assert value["onnxruntime"]["optimizations_agree"] is True
        assert value["onnxruntime"]["outputs"] == samples * 4


def test_seed_decides_the_samples() -> None:
    first, second, other = (call("verify", W8, "--samples", 9, "--seed", seed, "--json") for seed in (3, 3, 4))
    assert first.out == second.out
    assert checked_json("verify", other)["inputs"]["seed"] == 4


def test_text_names_every_layer_and_ends_with_a_verdict() -> None:
    done = call("verify", W8, INPUTS)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines[2:9]] == KINDS
    assert max(len(line) for line in lines) <= 80
    assert "!!" not in done.out
    verdict = " ".join(" ".join(lines[9:]).split())
    runtime = r"onnxruntime [0-9.]+ with optimizations agrees"
    stage, _, verdict = verdict.partition("equal: ")
    others = "c28 0 and 0, mspm0 12 and 9, truncated 16 and 16"
    assert stage == (
        "What follows holds for the graph's input stage. Of 16 samples, these have other codes and other outputs than the "
        f"graph's: {others}. "
    )
    assert re.fullmatch(rf"7 layers, 185,408 values, 16 samples; {runtime}; proven equal for every input", verdict)


def test_the_model_is_one_that_float32_gets_wrong() -> None:
    product = (7 * FLOAT32_SAMPLE + 81700) * 247
    assert product > 2**24
    assert product >> 17 == 153
    assert int(np.floor(np.float32(product) * np.float32(2.0**-17))) == 154


def test_mismatch_is_found_located_and_explained(differing: tuple[Path, Path]) -> None:
    value = checked_json("verify", call("verify", *differing, "--json"))
    assert value["ok"] is False
    stage, first, second = value["layers"]
    assert stage["mismatches"] == 0
    # in the three saturations; what comes before them is beyond float32
    assert (first["kind"], first["mismatches"], first["largest_difference"]) == ("FC", 3, 1.0)
    difference = first["first_difference"]
    assert difference == {"tensor": difference["tensor"], "index": [2, 0], "npusim": 153, "onnxruntime": 154}
    assert first["beyond_float32"] > 0
    # 2 * 153 * 200 >> 10 = 59, 2 * 154 * 200 >> 10 = 60: the difference flows on, through every inner tensor too
    assert second["mismatches"] == 5  # Gemm, Mul, Mul, Floor, Clip
    assert value["totals"] == {"samples": 5, "layers": 3, "differing_layers": 2, "elements": 5 * 68, "mismatches": 8}
    assert [finding["layer"] for finding in value["findings"]] == [first["name"], second["name"]]
    assert "2^24" in value["findings"][0]["remedy"]
    assert f"'{first['name']}' first" in value["findings"][1]["remedy"]
    assert value["findings"][0]["evidence"] == first["first_difference"]


def test_mismatch_stands_out_in_the_table(differing: tuple[Path, Path]) -> None:
    done = call("verify", *differing)
    assert done.code == 1
    lines = done.out.splitlines()
    marked = [index for index, line in enumerate(lines) if line.startswith("!!")]
    assert [lines[index].split()[2:] for index in marked] == [
        ["FC", "exact", "140", "3", "1"],
        ["FC", "exact", "100", "5", "400"],
    ]
    assert lines[marked[0] + 1].endswith("at [2, 0]: npusim 153, onnxruntime 154")
    assert lines[2].startswith("   /")
    text = " ".join(done.out.split())
    assert "NOT EQUAL: 8 of 340 values differ, in 2 of 3 layers, 5 samples" in text
    assert "beyond float32: " in text


def test_what_is_proven_beyond_the_samples_is_told(differing: tuple[Path, Path], tmp_path: Path) -> None:
    proven = checked_json("verify", call("verify", W8, "--samples", 7, "--json"))["every_input"]
    every_layer = {"verdict": "proven", "reason": "it holds in each of 7 layers"}
    assert proven == {**every_layer, "onnxruntime_optimized": every_layer}
    # agreement on samples is not a proof: without the third one nothing differs
    model, inputs = differing
    np.savez(inputs, input=np.zeros((2, 4), np.float32))
    value = checked_json("verify", call("verify", model, inputs, "--json"))
    assert value["ok"] is True
    assert value["every_input"]["verdict"] == "unknown"
    text = " ".join(call("verify", model, inputs).out.split())
    assert f"; not proven for every input: layer '{value['layers'][1]['name']}': an accumulator of 21 in channel 0" in text
    # at the end of an interval the input is known to exist
    graph = GraphBuilder((1, 1))
    dense = graph.fully_connected(graph.input_stage([0], [1], [0]), np.array([[7]]), [81721 - 889], [247], [17], (0, 255))
    end = tmp_path / "end.onnx"
    end.write_bytes(graph.model(dense))
    np.savez(inputs, input=np.zeros((2, 1), np.float32))
    assert "; NOT equal for every input: layer " in " ".join(call("verify", end, inputs).out.split())


def test_what_is_proven_only_without_optimizations_is_told(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 600))
    codes = graph.input_stage([0] * 600, [1] * 600, [0] * 600)
    dense = graph.fully_connected(codes, np.full((600, 1), 7), np.zeros(1), [201], [16], (-128, 127))
    model, inputs = tmp_path / "wide.onnx", tmp_path / "wide.npz"
    model.write_bytes(graph.model(dense))
    np.savez(inputs, input=np.zeros((2, 600), np.float32))
    value = checked_json("verify", call("verify", model, inputs, "--json"))
    assert value["every_input"]["verdict"] == "proven"
    assert value["every_input"]["onnxruntime_optimized"]["verdict"] == "unknown"
    text = " ".join(call("verify", model, inputs).out.split())
    assert text.endswith("; proven equal for every input, without optimizations")


def test_float_layers_are_compared_within_their_proven_limit(tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    model.write_bytes(model_with_float_layer())
    done = call("verify", model, "--json")
    value = checked_json("verify", done)
    comparisons = {layer["kind"]: layer["comparison"] for layer in value["layers"]}
    assert value["layers"][1]["kind"] == "HOST"
    assert value["layers"][1]["comparison"] == "bounded"
    assert 0 < value["layers"][1]["limit"] < 1e-3
    assert value["layers"][0]["limit"] is None
    assert comparisons["PWCONV"] == "exact_given_inputs"
    text = " ".join(call("verify", model).out.split())
    assert "bounded: a float32 operation whose order of rounding is free" in text
    assert "exact given inputs: a float32 sum before the layer" in text
    assert "equal (1 layer within the limit of float rounding): " in text


def replace_verify(monkeypatch: pytest.MonkeyPatch, result: Verification) -> None:
    monkeypatch.setattr("npusim.results.verification.compare_every_tensor", lambda session, feeds, cluster, progress: result)


def test_onnxruntime_that_disagrees_with_itself_is_told_but_is_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    step = StepComparison("/a", "FC", "b", elements=12)
    replace_verify(monkeypatch, Verification(2, [step], optimized_mismatches=3, outputs=8, onnxruntime="1.2.3"))
    value = checked_json("verify", call("verify", W8, "--json"))
    assert value["ok"] is True
    assert value["onnxruntime"] == {
        "version": "1.2.3",
        "optimizations_agree": False,
        "outputs": 8,
        "optimized_mismatches": 3,
    }
    text = " ".join(call("verify", W8).out.split())
    assert "onnxruntime 1.2.3 with optimizations differs from itself without in 3 of 8 output values; proven" in text


def test_comparison_of_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_verify(monkeypatch, Verification(onnxruntime="1.2.3"))
    done = call("verify", W8, "--json")
    assert done.code == 1
    value = checked_json("verify", done)
    assert [finding["rule"] for finding in value["findings"]] == ["nothing_compared"]
    assert "no value was compared" in call("verify", W8).out


def test_values_that_json_lacks_are_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Difference("b", (0, 1), float("nan"), float("-inf"))
    step = StepComparison("/a", "HOST", "b", elements=2, mismatches=1, largest_difference=float("inf"), first_difference=first)
    replace_verify(monkeypatch, Verification(1, [step], outputs=1, onnxruntime="1.2.3"))
    layer = checked_json("verify", call("verify", W8, "--json"))["layers"][0]
    assert layer["largest_difference"] == "inf"
    assert (layer["first_difference"]["npusim"], layer["first_difference"]["onnxruntime"]) == ("nan", "-inf")
    assert "npusim nan, onnxruntime -inf" in call("verify", W8).out


def test_large_numbers_are_never_cut_and_long_names_are(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "/backbone/" + "stage/" * 20 + "Conv"
    first = Difference("t", (123456, 7), 2**40 + 1, -(2**40))
    step = StepComparison(
        name, "PWCONVRES", "t", "exact_given_inputs", 10**13 + 1, 10**12 + 1, 2.0**41 + 1, first_difference=first
    )
    replace_verify(monkeypatch, Verification(10**6, [step], outputs=1, onnxruntime="1.2.3"))
    done = call("verify", W8)
    row = " ".join(line for line in done.out.splitlines() if line.startswith("!!"))
    assert row.split()[1] == "/bac.../Conv"
    for number in ("10,000,000,000,001", "1,000,000,000,001", str(2**41 + 1)):
        assert number in row
    assert f"npusim {2**40 + 1}, onnxruntime {-(2**40)}" in done.out


def test_only_one_way_of_choosing_samples() -> None:
    check_error("verify", W8, INPUTS, "--samples", 4, code=2, kind="UsageError", says="--samples and --seed are for generated")
    check_error("verify", W8, "--samples", 0, code=2, kind="UsageError", says="'--samples'")
    check_error("verify", W8, "--seed", -1, code=2, kind="UsageError", says="'--seed'")


def test_model_with_a_batch_of_its_own_needs_inputs(tmp_path: Path) -> None:
    graph = GraphBuilder((4, 8))
    model, inputs = tmp_path / "fixed.onnx", tmp_path / "fixed.npy"
    model.write_bytes(graph.model(graph.node("Relu", "input"), batch=4))
    check_error("verify", model, code=2, kind="UsageError", says="give INPUTS")
    np.save(inputs, np.ones((4, 8), np.float32))
    assert checked_json("verify", call("verify", model, inputs, "--json"))["totals"]["elements"] == 32


def test_model_with_open_sizes_cannot_be_verified(tmp_path: Path) -> None:
    model = tmp_path / "open.onnx"
    model.write_bytes(model_with_open_size())
    check_error("verify", model, code=3, kind="UnsupportedError", says="leaves sizes open")


def test_real_exports_agree_on_generated_samples(export: Export) -> None:
    value = checked_json("verify", call("verify", export.model, "--samples", 3, "--json"))
    assert value["ok"] is True
    assert value["onnxruntime"]["optimizations_agree"] is True
    lines = call("verify", export.model, "--samples", 3).out.splitlines()
    assert max(len(line) for line in lines) <= 80
    rows = [line for line in lines if re.search(r"  (exact|bounded|exact given inputs) +[0-9,]+ +0 +\S+$", line)]
    assert len(rows) == value["totals"]["layers"]
