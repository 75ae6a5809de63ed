"""``npusim golden check``: right dumps pass in every format, wrong ones are explained, bad ones are refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from npusim.golden.faults import Fault, FaultKind, run_with_fault
from npusim.program import Batching
from support import ROOT
from support.command_line import call, check_error, checked_json
from support.dump_files import intel_hex, npy, npz, save, words
from support.golden_check_models import feeds_for, session_for, write_golden

MODEL = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"
LAYER = "/conv/requantize/Clip_1_output_0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_golden(tmp_path_factory.mktemp("golden") / "vectors")


def traced(name: str) -> np.ndarray:
    return session_for("vibration_w8").trace(feeds_for("vibration_w8"), [name])[name]


def text(values: np.ndarray) -> str:
    return ", ".join(str(value) for value in values.ravel().tolist())


def written(values: np.ndarray) -> dict[str, tuple[str, str | bytes]]:
    """A tensor of 8-bit codes in every format."""
    flat = np.ascontiguousarray(values).ravel()
    wide = flat.astype("<i2")
    c_type = f"{flat.dtype}_t"
    return {
        "text": ("a.txt", text(flat)),
        "hexadecimal": ("a.txt", "\n".join(words(flat))),
        "words": ("a.txt", " ".join(words(wide, "0x{:04X}"))),
        "c": ("a.c", f"{c_type} y[{flat.size}] = {{ {text(flat)}, }};"),
        "ccs": ("a.dat", f"1651 2 c000 0 {flat.size:x}\n" + "\n".join(map(str, flat.tolist()))),
        "ccs words": ("a.dat", f"1651 1 c000 0 {flat.size:x}\n" + "\n".join(words(wide, "0x{:04X}"))),
        "ccs packed": ("a.dat", f"1651 1 c000 0 {flat.size // 4:x}\n" + "\n".join(words(flat.view("<u4"), "0x{:08X}"))),
        "bin": ("a.bin", flat.tobytes()),
        "bin of words": ("a.bin", wide.tobytes()),
        "intel hex": ("a.hex", intel_hex(flat.tobytes())),
        "intel hex of words": ("a.hex", intel_hex(wide.tobytes(), 0x9000, unit=2)),
        "npy": ("a.npy", npy(values)),
        "npz": ("a.npz", npz(anything=values)),
        "csv": ("a.csv", text(flat)),
    }


FORMATS = list(written(np.zeros(4, np.int8)))


@pytest.mark.parametrize("kind", FORMATS)
def test_right_outputs_pass_in_every_format(folder: Path, tmp_path: Path, kind: str) -> None:
    name, content = written(traced("output")[2])[kind]
    arguments = ("--dump", save(tmp_path / name, content), "--set", 2)
    for source in ((folder,), (MODEL, "--inputs", INPUTS)):
        outcome = call("golden", "check", *source, *arguments)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        assert "4 values, all equal" in outcome.out


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_right_layers_pass_in_every_format(folder: Path, tmp_path: Path, kind: str, layout: str) -> None:
    values = traced(LAYER)[:1]
    held = np.moveaxis(values, 1, -1) if layout == "nhwc" else values
    name, content = written(held)[kind]
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / name, content), "--tensor", LAYER, "--layout", layout)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "512 values, all equal" in outcome.out


def test_all_sets_in_one_dump(folder: Path, tmp_path: Path) -> None:
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / "a.txt", text(traced("output"))), "--json")
    value = checked_json("golden_check", outcome)
    assert value["ok"] is True
    assert value["totals"] == {"tensors": 1, "values": 24, "differing": 0, "explained": 0}
    assert value["layers"][0]["sets"] == [0, 1, 2, 3, 4, 5]


def test_test_vectors_are_compared_set_by_set(folder: Path, tmp_path: Path) -> None:
    vector = folder / "test_vector.c"
    for source in (folder, MODEL):
        outcome = call("golden", "check", source, "--dump", vector)
        assert outcome.code == 0, outcome
        assert "0-5" in outcome.out
    content = vector.read_text(encoding="ascii")
    start = content.rindex("golden_output")
    first = content.index("\n", start) + 1
    damaged = content[:first] + "99" + content[content.index(",", first) :]
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / "test_vector.c", damaged), "--json")
    value = checked_json("golden_check", outcome)
    assert value["totals"]["differing"] == 1
    assert (value["layers"][0]["first"]["set_index"], value["layers"][0]["first"]["seen"]) == (5, 99)
    only = call("golden", "check", folder, "--dump", tmp_path / "test_vector.c", "--set", 4, "--json")
    assert checked_json("golden_check", only)["layers"][0]["sets"] == [4]


def test_test_vectors_of_2024(folder: Path, tmp_path: Path) -> None:
    feeds, outputs = feeds_for("vibration_w8")["input"], traced("output")
    parts = [
        f"float32_t features_ok_{index}[192] = {{{', '.join(f'{value:.9g}' for value in feeds[index].ravel())}}};\n"
        f"int8_t output_ok_{index}[4] = {{{text(outputs[index])}}};\n"
        for index in range(2)
    ]
    path = save(tmp_path / "test_vectors.c", "".join(parts))
    for source in (folder, MODEL):
        outcome = call("golden", "check", source, "--dump", path, "--json")
        assert checked_json("golden_check", outcome)["totals"] == {"tensors": 1, "values": 8, "differing": 0, "explained": 0}


def test_many_tensors_in_one_archive(folder: Path, tmp_path: Path) -> None:
    value = checked_json("golden_check", call("golden", "check", folder, "--dump", folder / "vectors.npz", "--json"))
    assert [layer["kind"] for layer in value["layers"]] == [
        "INPUT",
        "QUANTIZE",
        "GCONV",
        "MAXPOOL",
        "DWCONV",
        "PWCONV",
        "AVGPOOL",
        "FC",
    ]
    program, feeds = session_for("vibration_w8").program, feeds_for("vibration_w8")
    names = [layer.output for layer in program.layers]
    fault = Fault(FaultKind.ROUND_HALF_UP, "/conv/Conv")
    wrong = {name: run_with_fault(program, feeds, fault, name) for name in (names[0], names[1], "output")}
    arrays = npz(**{name.replace("/", "_"): values for name, values in wrong.items()})
    value = checked_json("golden_check", call("golden", "check", folder, "--dump", save(tmp_path / "a.npz", arrays), "--json"))
    for layer in value["layers"]:
        assert str(fault) in [cause["message"] for cause in layer["causes"]]
    assert [layer["tensor"] for layer in value["layers"]] == [names[0], names[1], "output"]


def test_a_wrong_device_is_explained(folder: Path, tmp_path: Path) -> None:
    program = session_for("vibration_w8").program
    fault = Fault(FaultKind.NO_BIAS, "/pointwise/Conv")
    path = save(tmp_path / "a.txt", text(run_with_fault(program, feeds_for("vibration_w8"), fault, "output")))
    value = checked_json("golden_check", call("golden", "check", folder, "--dump", path, "--json"))
    (cause,) = value["layers"][0]["causes"]
    assert (cause["cause"], cause["layer"], cause["message"]) == ("missing_bias", "/pointwise/Conv", str(fault))
    assert cause["explained"] == cause["differing"] == value["totals"]["differing"] == value["totals"]["explained"] > 10
    assert [finding["rule"] for finding in value["findings"]] == ["differs", "missing_bias"]
    outcome = call("golden", "check", folder, "--dump", path)
    assert outcome.code == 1
    assert "Explained by:\n  * in '/pointwise/Conv' the bias is missing" in outcome.out
    assert all(len(line) <= 80 for line in outcome.out.splitlines() if str(path) not in line)


def test_a_wrong_layout_is_explained(folder: Path, tmp_path: Path) -> None:
    name, content = written(np.moveaxis(traced(LAYER)[3], 0, -1))["bin"]
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / name, content), "--tensor", LAYER, "--set", 3)
    assert outcome.code == 1
    assert "the dump is laid out with the channels last (NHWC), not first" in outcome.out
    assert "give --layout nhwc" in outcome.out


def test_random_values_stay_unexplained(folder: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-128, 128, (6, 4))
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / "a.txt", text(values)))
    assert outcome.code == 1
    assert "Unexplained: none of " in outcome.out
    assert "First difference in the values from line 1: set 0, value 0, which is output[0]" in " ".join(outcome.out.split())


def test_dumps_of_another_length(folder: Path, tmp_path: Path) -> None:
    right = traced("output")[0]
    cases = {
        "12": "1 value, wanted 4 for tensor 'output' (24 for all 6 sets): they are 1/4 of that; save all values",
        text(
            right[:3]
        ): "3 values, wanted 4 for tensor 'output' (24 for all 6 sets): that is not a multiple; these are the first 3 right",
        text(
            np.tile(right, 2)
        ): "8 values, wanted 4 for tensor 'output' (24 for all 6 sets): they are 2 times as many; the right values",
        "7, "
        + text(
            right
        ): "5 values, wanted 4 for tensor 'output' (24 for all 6 sets): that is not a multiple; the right values are in",
    }
    for content, says in cases.items():
        path = save(tmp_path / "a.txt", content)
        check_error("golden_check", folder, "--dump", path, code=2, kind="InputError", says=says)
    path = save(tmp_path / "a.bin", b"123")
    says = "3 bytes, wanted 4 for tensor 'output' of int8 (24 for all 6 sets): that is not a multiple"
    check_error("golden_check", folder, "--dump", path, code=2, kind="InputError", says=says)


def test_wrong_usage(folder: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", text(traced("output")[0]))

    def fails(says: str, *arguments: object, kind: str = "UsageError") -> None:
        check_error("golden_check", *arguments, code=2, kind=kind, says=says)

    fails("there is no set 6; there are 6, counted from 0", folder, "--dump", path, "--set", 6)
    fails("there is no tensor 'outptu'", folder, "--dump", path, "--tensor", "outptu", kind="UnknownTensorError")
    fails("holds no inputs that the device ran on; give them with --inputs", MODEL, "--dump", path)
    fails("leave out --inputs", folder, "--dump", path, "--inputs", INPUTS)
    fails("leave out --input-stage", folder, "--dump", path, "--input-stage", "c28")
    fails("--model goes with a golden folder", MODEL, "--dump", path, "--model", MODEL)
    fails("there is no element type 'int7'", folder, "--dump", path, "--dtype", "int7")
    fails("Missing option '--dump'", folder)
    fails("holds no manifest.json", tmp_path, "--dump", path, kind="InputError")
    fails("no such file", folder, "--dump", tmp_path / "none.txt", kind="InputError")
    fails("they are 1/4 of that", folder, "--dump", save(tmp_path / "b.txt", "out: 1"), kind="InputError")
    fails("300 at index", folder, "--dump", save(tmp_path / "c.txt", "1 300 2 3"), "--dtype", "int8", kind="InputError")
    two = save(tmp_path / "d.c", "int8_t a[4] = {1, 2, 3, 4}; int8_t b[4] = {1, 2, 3, 4};")
    fails("holds 2 arrays, array 'a' (line 1), array 'b' (line 1)", folder, "--dump", two, kind="InputError")


def test_inputs_in_a_test_vector_must_fit(tmp_path: Path) -> None:
    cases = {
        "float model_test_input[2] = {1, 2}; int8_t golden_output[4] = {1, 2, 3, 4};": "2 values, wanted 192 for input 'input'",
        "float features_a_0[1] = {1}; int8_t output_b_1[1] = {1}; float features_b_2[1] = {1};": "a set lacks its input",
    }
    for content, says in cases.items():
        check_error("golden_check", MODEL, "--dump", save(tmp_path / "a.c", content), code=2, kind="InputError", says=says)


def test_values_out_of_the_type_without_a_type_are_differences(folder: Path, tmp_path: Path) -> None:
    outcome = call("golden", "check", folder, "--dump", save(tmp_path / "a.txt", "1 300 2 3"))
    assert outcome.code == 1
    unsigned = save(tmp_path / "b.txt", text(traced("output").astype(np.int64) & 0xFF))
    value = checked_json("golden_check", call("golden", "check", folder, "--dump", unsigned, "--json"))
    assert value["ok"]
    assert value["layers"][0]["reading"] == "the numbers are unsigned ones of 8 bits"


def test_logs_from_standard_input_and_by_a_pattern(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = traced("output")[2].ravel().tolist()
    log = "boot v1\n" + "".join(f"[00:01.{i}] t={i} y[{i}] = {v}\n" for i, v in enumerate(codes))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(log.encode())))
    outcome = call("golden", "check", folder, "--dump", "-", "--set", 2)
    assert outcome.code == 0
    assert outcome.out.endswith("- (log): 4 values, all equal\n")
    path = save(tmp_path / "a.txt", "".join(f"v{i}x {v} ok {v + 1}\n" for i, v in enumerate(codes)))
    assert call("golden", "check", folder, "--dump", path, "--set", 2, "--match", r"x (\S+)").code == 0
    assert call("golden", "check", folder, "--dump", path, "--set", 2, "--match", r"ok (\S+)").code == 1


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", text(traced("output")[0]))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    vectors = copy / "vectors.npz"
    content = bytearray(vectors.read_bytes())
    content[-200] ^= 1
    vectors.write_bytes(content)
    check_error(
        "golden_check",
        copy,
        "--dump",
        path,
        code=2,
        kind="InputError",
        says="is not the file that manifest.json",
    )
    shutil.copy(folder / "vectors.npz", vectors)
    other = ROOT / "golden" / "vibration_w4.onnx"
    says = "is not the model of"
    check_error("golden_check", copy, "--dump", path, "--model", other, code=2, kind="InputError", says=says)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="ascii"))
    manifest["model"]["copy"] = None
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="ascii")
    check_error("golden_check", copy, "--dump", path, code=2, kind="UsageError", says="holds no copy of its model")
    assert call("golden", "check", copy, "--dump", path, "--model", MODEL).code == 0


@pytest.mark.slow
def test_another_input_stage_is_found_in_a_test_vector(tmp_path: Path) -> None:
    path = write_golden(tmp_path / "vectors", "--input-stage", "mspm0")
    assert call("golden", "check", path, "--dump", path / "test_vector.c").code == 0
    assert call("golden", "check", MODEL, "--dump", path / "test_vector.c", "--input-stage", "mspm0").code == 0
    value = checked_json("golden_check", call("golden", "check", MODEL, "--dump", path / "test_vector.c", "--json"))
    (layer,) = value["layers"]
    assert "input_stage_mspm0" in [cause["cause"] for cause in (*layer["causes"], *layer["possible"])]


def test_an_output_without_a_batch_axis(tmp_path: Path) -> None:
    model = save(tmp_path / "model.onnx", session_for("one_by_one").model.content)
    feeds = feeds_for("one_by_one")
    np.savez(tmp_path / "inputs.npz", **feeds)
    (name,) = session_for("one_by_one").program.outputs
    assert session_for("one_by_one").program.batching is Batching.SINGLE
    values = session_for("one_by_one").trace(feeds, [name])[name]
    path = save(tmp_path / "a.txt", " ".join(f"{value:g}" for value in values.ravel()))
    value = checked_json(
        "golden_check", call("golden", "check", model, "--inputs", tmp_path / "inputs.npz", "--dump", path, "--json")
    )
    assert (value["layers"][0]["sets"], value["totals"]["differing"]) == ([0, 1, 2, 3, 4, 5], 0)


def test_help_has_an_example() -> None:
    outcome = call("golden", "check", "--help")
    assert outcome.code == 0
    assert "Example: npusim golden check" in outcome.out
