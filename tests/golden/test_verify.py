"""`golden verify`: whatever is changed in a folder is found, and said; and what it needs to be sure is demanded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.files.arrays import read_npz, write_arrays
from npusim.files.tensors import tensor_bytes
from npusim.golden.folder import FORMATS, Options, verify_folder, write_folder, writer
from npusim.golden.folder.manifest import file_entry
from npusim.schemas.objects import json_object
from support import ROOT
from support.command_line import call, check_error, checked_json
from support.golden_models import network, samples, session_of

W4 = ROOT / "golden" / "vibration_w4.onnx"


@pytest.fixture(name="written", scope="module")
def written_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "g"
    write_folder(folder, session_of("int8"), samples(), Options(formats=FORMATS))
    return folder


@pytest.fixture(name="folder")
def copied_folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "g"))


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="ascii")
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, count), encoding="ascii")


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rehash(folder: Path) -> None:
    """Make the manifest agree with the files, as someone would who wants to deceive."""

    def change(value: dict) -> None:
        value["files"] = [
            json_object(file_entry(item["path"], (folder / item["path"]).read_bytes())) for item in value["files"]
        ]

    change_manifest(folder, change)


def messages(folder: Path) -> list[str]:
    return [finding.message for finding in verify_folder(folder).findings]


def test_untouched_folder_is_proven(written: Path) -> None:
    done = call("golden", "verify", written)
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    assert words.startswith(f"proven: {written} is what it says: ")
    value = checked_json("golden_verify", call("golden", "verify", written, "--json"))
    assert value["totals"]["errors"] == 0
    assert value["totals"]["values"] == 3 * (72 + 72 + 96 + 48)
    assert value["totals"]["sets"] == 3
    assert [layer["kind"] for layer in value["layers"]] == ["QUANTIZE", "GCONV", "PWCONV"]


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("test_vector.c", "Extracted", "extracted", "'test_vector.c' was changed"),
        ("npusim_check.c", "crc ^= (bits", "crc |= (bits", "'npusim_check.c' was changed"),
        ("npusim_check.h", "bit for every set", "bit for any set", "'npusim_check.h' was changed"),
    ],
)
def test_any_change_of_a_file_is_found(folder: Path, name: str, old: str, new: str, says: str) -> None:
    try:
        edit(folder / name, old, new)
    except AssertionError:
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    (message,) = messages(folder)
    assert says in message
    assert call("golden", "verify", folder).code == 1


def change_number(folder: Path, name: str, array: str, number: int) -> None:
    """Change the first value of the array of this name that comes `number`-th in a C file."""
    text = (folder / name).read_text(encoding="ascii")
    place = [place for place in range(len(text)) if text.startswith(array, place)][number]
    start = text.index("{", place) + 1
    end = text.index(",", start)
    value = text[start:end].strip()
    other = f"{float(value.removesuffix('f')) + 1}f" if value.endswith("f") else str(1 - int(value))
    (folder / name).write_text(f"{text[:start]} {other}{text[end:]}", encoding="ascii")


@pytest.mark.parametrize(
    ("name", "array", "number"),
    [
        ("test_vector.c", "golden_output[48]", 2),
        ("test_vector.c", "model_test_input[72]", 1),
        ("npusim_check.c", "set1_input[]", 0),
        ("npusim_check.c", "set2_output[]", 0),
        ("npusim_check.c", "set0_layer1_nhwc[]", 0),
    ],
)
def test_numbers_in_c_files_are_held_against_the_model(folder: Path, name: str, array: str, number: int) -> None:
    change_number(folder, name, array, number)
    rehash(folder)
    (message,) = messages(folder)
    assert f"the file '{name}' differs in array '{array.split('[')[0]}'" in message


def test_checksums_macros_and_damage_in_c_files_are_found(folder: Path) -> None:
    text = (folder / "npusim_check.c").read_text(encoding="ascii")
    place = text.index("0x", text.index("set0_layers[NPUSIM_LAYERS]"))
    changed = "0" if text[place + 2] != "0" else "1"
    (folder / "npusim_check.c").write_text(text[: place + 2] + changed + text[place + 3 :], encoding="ascii")
    edit(folder / "user_input_config.h", "FE_NN_OUT_SIZE 48", "FE_NN_OUT_SIZE 47")
    edit(folder / "test_vector.c", "golden_output[48]", "golden_output[47]")
    rehash(folder)
    assert sorted(messages(folder)) == [
        "the file 'npusim_check.c' holds other CRC-32 sums than its sets have",
        "the file 'test_vector.c' cannot be read: array 'golden_output' holds 48 values and declares 47",
        "the file 'user_input_config.h' defines other macros than it must",
    ]


def test_missing_and_foreign_files_are_found(folder: Path) -> None:
    (folder / "user_input_config.h").unlink()
    (folder / "bin" / "notes.txt").write_text("mine")
    assert sorted(messages(folder)) == [
        "the file 'bin/notes.txt' is in the folder, and the manifest does not name it",
        "the file 'user_input_config.h' is missing",
    ]


def test_binary_and_onnx_files_are_held_against_the_model(folder: Path) -> None:
    path = next((folder / "bin" / "set_1").glob("*.nhwc.bin"))
    path.write_bytes(path.read_bytes()[::-1])
    output = session_of("int8").get_outputs()[0].name
    (folder / "test_data_set_2" / "output_0.pb").write_bytes(tensor_bytes(output, np.zeros((1, 2, 24, 1), np.float32)))
    (folder / "test_data_set_0" / "input_0.pb").write_bytes(b"no protobuf")
    rehash(folder)
    found = messages(folder)
    assert len(found) == 3
    assert f"the file 'bin/set_1/{path.name}' does not hold the values of its tensor" in found
    assert f"the file 'test_data_set_2/output_0.pb' does not hold the values of tensor '{output}'" in found
    assert any("input_0.pb: cannot be read as an ONNX tensor" in message for message in found)


def forge(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change arrays and let the manifest describe them as they are now."""
    arrays = read_npz(folder / "vectors.npz")
    change(arrays)
    write_arrays(folder / "vectors.npz", arrays)
    rehash(folder)


def test_arrays_are_held_against_their_checksums(folder: Path) -> None:
    name = session_of("int8").program.layers[0].output

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name][1, 2, 3, 0] ^= 4

    forge(folder, change)
    first, second = messages(folder)
    assert f"array '{name}' in vectors.npz has the CRC-32 " in first
    assert (
        f"1 of 288 values of tensor '{name}' are not what the model computes, the first in set 1 at index [2, 3, 0]" in second
    )


def test_arrays_with_fitting_checksums_are_held_against_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder forged throughout: every file agrees with every other, only the model says something else."""
    right = writer.compute_vectors

    def wrong(*arguments: object, **options: object) -> object:
        vectors = right(*arguments, **options)
        vectors.tensors[-1].values[2, 1, 5, 0] ^= 1
        return vectors

    monkeypatch.setattr(writer, "compute_vectors", wrong)
    write_folder(folder, session_of("int8"), samples(), Options(formats=FORMATS), force=True)
    monkeypatch.undo()
    found = messages(folder)
    name = session_of("int8").get_outputs()[0].name
    assert any(
        f"1 of 144 values of tensor '{name}' are not what the model computes, the first in set 2 at index [1, 5, 0]" in text
        for text in found
    )
    assert any("'test_vector.c' differs in array 'golden_output'" in text for text in found)


def test_wrong_inputs_end_the_verification(folder: Path) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["input"][0, 0, 0, 0] += 1

    forge(folder, change)
    found = verify_folder(folder)
    assert [finding.rule for finding in found.findings] == ["tensor"]
    assert found.values == 0
    forge(folder, lambda arrays: arrays.pop("input"))
    assert messages(folder) == ["vectors.npz holds no array 'input'"]


def test_arrays_of_another_shape_or_name_are_found(folder: Path) -> None:
    name = session_of("int8").program.layers[0].output

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].astype(np.int16)
        arrays["more"] = np.zeros(1, np.int8)

    forge(folder, change)
    found = messages(folder)
    assert f"array '{name}' is int16[3, 4, 24, 1] in vectors.npz, the manifest says uint8[3, 4, 24, 1]" in found
    assert "vectors.npz holds 'more', which the manifest does not name" in found


def test_damaged_archive_is_a_finding(folder: Path) -> None:
    content = (folder / "vectors.npz").read_bytes()
    (folder / "vectors.npz").write_bytes(content[: len(content) // 2])
    found = messages(folder)
    assert len(found) == 2
    assert "cannot be read as a .npz archive" in found[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value["certificate"]["verdicts"].update(soft_int32="violated"), "the manifest cites the verdicts"),
        (lambda value: value["input_stage"]["differences"][1].update(changed_outputs=0), "how input stages differ"),
        (lambda value: value["coverage"].update(samples=9), "the sets cover something else"),
        (lambda value: value["tensors"][2].update(kind="FC"), "is described by kind 'FC' instead of 'GCONV'"),
        (lambda value: value["tensors"].pop(2), "is computed from the model and missing"),
        (lambda value: value["tensors"][2]["set_crc32_channels_last"].reverse(), "other CRC-32 sums of channels-last"),
        (lambda value: value.update(module="other"), "defines other macros"),
        (lambda value: value.update(layers=["nowhere"]), None),
    ],
)
def test_what_the_manifest_says_is_proven(folder: Path, change: Callable[[dict], object], says: str | None) -> None:
    change_manifest(folder, change)
    if says is None:
        check_error("golden_verify", folder, code=2, kind="UnknownTensorError", says="no tensor 'nowhere'")
    else:
        assert any(says in text for text in messages(folder)), messages(folder)


def test_vectors_of_later_versions_are_compared_but_for_coverage(folder: Path) -> None:
    def change(value: dict) -> None:
        value["npusim"] = "9.1"
        value["coverage"] = {"new": "form"}

    change_manifest(folder, change)
    assert messages(folder) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff", "cannot be read as JSON"),
        (b"[]", "it lacks the number 'golden'"),
        (b'{"golden": 2, "npusim": "3.0"}', "is of format 2, written by npusim 3.0; npusim 0.1.0 reads format 1"),
        (b'{"golden": 1, "npusim": "3.0"}', "is damaged: it has no 'model', wanted dict"),
    ],
)
def test_manifests_that_cannot_be_used_are_refused(folder: Path, content: bytes, says: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    check_error("golden_verify", folder, code=2, kind="InputError", says=says)


def test_paths_out_of_the_folder_and_wrong_entries_are_refused(folder: Path) -> None:
    change_manifest(folder, lambda value: value["files"][0].update(path="../../secret"))
    check_error("golden_verify", folder, code=2, kind="InputError", says="names the file '../../secret'")
    change_manifest(folder, lambda value: value["files"][0].update(path=7))
    check_error("golden_verify", folder, code=2, kind="InputError", says="entry 0 of 'files' has a wrong 'path', wanted str")
    change_manifest(folder, lambda value: value["files"][0].update(path="x"))
    change_manifest(folder, lambda value: value.update(layers=[["*"]]))
    check_error("golden_verify", folder, code=2, kind="InputError", says="'layers' is not a list of texts")


@pytest.mark.parametrize(
    ("coverage", "says"),
    [
        ("all", "it has a wrong 'coverage', wanted dict"),
        ({"total": [1, 2]}, "'coverage' has a wrong 'total', wanted dict"),
        ({"total": {"reached": 1}}, "the total of 'coverage' has no 'possible', wanted int"),
    ],
)
def test_a_coverage_of_another_form_is_refused(folder: Path, coverage: object, says: str) -> None:
    change_manifest(folder, lambda value: value.update(coverage=coverage))
    check_error("golden_verify", folder, code=2, kind="InputError", says=says)


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    check_error("golden_verify", tmp_path / "no", code=2, kind="InputError", says="there is no such folder")
    check_error("golden_verify", tmp_path, code=2, kind="InputError", says="holds no manifest.json")


def test_the_model_must_be_the_one_of_the_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("golden", "verify", folder, "--model", W4)
    assert done.code == 1
    assert "the manifest says" in " ".join(done.out.split())
    monkeypatch.setattr(writer, "LARGEST_COPY", 10)
    path = tmp_path / "m.onnx"
    path.write_bytes(network("int8"))
    manifest = write_folder(tmp_path / "h", InferenceSession(path), samples(), Options())
    assert manifest["model"]["file"] == "m.onnx"
    assert manifest["model"]["copy"] is None
    check_error("golden_verify", tmp_path / "h", code=2, kind="UsageError", says="holds no copy of the model 'm.onnx'")
    assert call("golden", "verify", tmp_path / "h", "--model", path).code == 0


def test_files_of_versions_with_other_code_around_the_same_numbers_are_proven(folder: Path) -> None:
    """What a later harness does otherwise is not a matter of the numbers, as long as the hashes are those of the manifest."""
    edit(folder / "npusim_check.c", "#define NPUSIM_FLOAT 5", "#define NPUSIM_FLOAT 5\n#define NPUSIM_DOUBLE 6")
    edit(folder / "npusim_check.h", "#define NPUSIM_NHWC 1", "#define NPUSIM_NHWC 1\n#define NPUSIM_CHWN 2")
    edit(folder / "test_vector.c", "Golden vectors", "Our golden vectors")
    assert len(messages(folder)) == 3
    rehash(folder)
    assert messages(folder) == []
