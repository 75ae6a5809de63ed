"""What `golden write` puts into a folder: each number against the model, against onnxruntime, and byte for byte again."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest

from npusim import InferenceSession, UnsupportedError, UsageError
from npusim.engine.input_stages import stage_codes
from npusim.engine.replay import run_with
from npusim.errors import UnknownTensorError
from npusim.files.arrays import read_npz
from npusim.files.dumps import read_dump
from npusim.files.tensors import read_tensor_file
from npusim.golden.choice import Origin, Samples
from npusim.golden.folder import FORMATS, Options, read_manifest, verify_folder, write_folder
from npusim.program.input_stage import InputStage, input_stages
from npusim.schemas import load_schema
from support import Export, load_exports
from support.builders import GraphBuilder
from support.golden_models import KINDS, network, samples, session_of

EVERYTHING = Options(formats=FORMATS)
NAMES = {
    "manifest.json",
    "model.onnx",
    "npusim_check.c",
    "npusim_check.h",
    "test_vector.c",
    "user_input_config.h",
    "vectors.npz",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_folder_holds_what_the_model_computes(tmp_path: Path, kind: str) -> None:
    session, x = session_of(kind), samples(kind).inputs
    manifest = write_folder(tmp_path / "g", session, samples(kind), EVERYTHING)
    assert manifest == json.loads((tmp_path / "g" / "manifest.json").read_text()) == read_manifest(tmp_path / "g")
    jsonschema.Draft202012Validator(load_schema("manifest")).validate(manifest)
    hashed = hashlib.sha256(network(kind)).hexdigest()
    identity = {"file": None, "sha256": hashed, "format": "tinpu", "arithmetic": "npu", "copy": "model.onnx"}
    assert manifest["model"] == identity
    arrays, trace = read_npz(tmp_path / "g" / "vectors.npz"), session.trace(x)
    results = {step.tensors[-1] for step in session.program.steps}
    assert set(arrays) == {"input"} | results
    for item in manifest["tensors"]:
        array = arrays[item["key"]]
        assert array.dtype == (kind if item["role"] == "output" else array.dtype)
        np.testing.assert_array_equal(array, trace[item["name"]])
        assert (item["shape"], item["dtype"], item["layout"]) == ([*array.shape], array.dtype.name, "NCHW")
        assert item["crc32"] == f"{zlib.crc32(array.tobytes()):08x}"
        assert item["set_crc32"] == [f"{zlib.crc32(values.tobytes()):08x}" for values in array]
        last = np.moveaxis(array, 1, -1)
        assert item["set_crc32_channels_last"] == [f"{zlib.crc32(values.tobytes()):08x}" for values in last]
        for layout, order in (("NCHW", array), ("NHWC", last)):
            for number in range(3):
                path = tmp_path / "g" / item["binary"][layout].format(set=number)
                assert path.read_bytes() == order[number].tobytes()
    kinds = [(item["role"], item["kind"], item["check_layer"]) for item in manifest["tensors"]]
    middle = [("input", None, None), ("codes", "QUANTIZE", 0), ("layer", "GCONV", 1)]
    assert kinds == [
        *middle,
        *([("layer", "PWCONV", 2), ("output", "HOST", 3)] if kind == "float32" else [("output", "PWCONV", 2)]),
    ]
    files = contents(tmp_path / "g")
    assert {item["path"] for item in manifest["files"]} == files.keys() - {"manifest.json"}
    for item in manifest["files"]:
        assert item["sha256"] == hashlib.sha256(files[item["path"]]).hexdigest()
        assert item["bytes"] == len(files[item["path"]])
    assert files["model.onnx"] == network(kind)
    assert verify_folder(tmp_path / "g").findings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_reader_of_dumps_reads_the_test_vectors(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path / "g", session_of(kind), samples(kind), Options())
    arrays = read_npz(tmp_path / "g" / "vectors.npz")
    output = arrays[session_of(kind).get_outputs()[0].name]
    dump = read_dump(tmp_path / "g" / "test_vector.c")
    assert [(array.set_index, array.active) for array in dump.arrays] == [
        (number, number == 0) for number in range(3) for _ in range(2)
    ]
    for array in dump.arrays:
        wanted = {"model_test_input": arrays["input"], "golden_output": output}[array.name][array.set_index].ravel()
        wanted = wanted.view(np.int8) if kind == "uint8" and array.name == "golden_output" else wanted
        np.testing.assert_array_equal(array.values.astype(wanted.dtype), wanted)


def test_the_same_model_and_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_folder(tmp_path / place, InferenceSession(network("int8")), samples(), EVERYTHING)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second
    assert all(str(tmp_path).encode() not in content for content in first.values())


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_passes_the_test_data_sets(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path / "g", session_of(kind), samples(kind), Options(formats=("onnx",)))
    runtime = onnxruntime.InferenceSession(tmp_path / "g" / "model.onnx", providers=["CPUExecutionProvider"])
    for number in range(3):
        folder = tmp_path / "g" / f"test_data_set_{number}"
        assert sorted(path.name for path in folder.iterdir()) == ["input_0.pb", "output_0.pb"]
        name, values = read_tensor_file(folder / "input_0.pb")
        assert (name, values.dtype, values.shape) == ("input", np.float32, (1, 3, 24, 1))
        output, wanted = read_tensor_file(folder / "output_0.pb")
        (seen,) = runtime.run([output], {name: values})
        assert (seen.dtype, seen.tobytes()) == (wanted.dtype, wanted.tobytes())


def test_formats_decide_what_is_there(tmp_path: Path) -> None:
    for formats, names in (
        (("c",), NAMES),
        (("npz",), {"manifest.json", "model.onnx", "vectors.npz"}),
        (("onnx",), {"manifest.json", "model.onnx", "vectors.npz", "test_data_set_0", "test_data_set_1", "test_data_set_2"}),
        (("bin",), {"manifest.json", "model.onnx", "vectors.npz", "bin"}),
    ):
        folder = tmp_path / formats[0]
        manifest = write_folder(folder, session_of("int8"), samples(), Options(formats=formats))
        assert {path.name for path in folder.iterdir()} == names
        assert set(manifest["formats"]) == {*formats, "npz"}
        assert verify_folder(folder)


def test_layers_are_those_asked_for(tmp_path: Path) -> None:
    session = session_of("int8")
    stage, hidden, output = (step.tensors[-1] for step in session.program.steps)
    accumulator = session.program.layers[0].taps[0].tensor
    for number, (patterns, wanted) in enumerate(
        (((), []), (("*",), [hidden]), ((hidden,), [hidden]), ((accumulator, hidden), [accumulator, hidden]))
    ):
        folder = tmp_path / str(number)
        manifest = write_folder(folder, session, samples(), Options(patterns=patterns))
        assert [item["name"] for item in manifest["tensors"]] == ["input", stage, *wanted, output]
        assert manifest["layers"] == list(patterns)
        assert verify_folder(folder)
    with pytest.raises(UnknownTensorError, match="no tensor 'conv'"):
        write_folder(tmp_path / "new", session, samples(), Options(patterns=("conv",)))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("variant", [InputStage.C28, InputStage.MSPM0])
def test_goldens_come_from_the_input_stage_asked_for(tmp_path: Path, variant: InputStage) -> None:
    session, x = session_of("int8"), samples().inputs["input"]
    manifest = write_folder(tmp_path / "g", session, samples(), Options(variant=variant))
    arrays = read_npz(tmp_path / "g" / "vectors.npz")
    (stage,) = input_stages(session.program)
    codes = stage_codes(session.program, stage, x, variant)
    np.testing.assert_array_equal(arrays[stage.output], codes)
    (output,) = session.program.outputs
    np.testing.assert_array_equal(arrays[output], run_with(session.program, {}, {stage.output: codes})[output])
    changed = (arrays[output] != session.run(None, {"input": x})[0]).any(axis=(1, 2, 3)).sum()
    said = {item["variant"]: item["changed_outputs"] for item in manifest["input_stage"]["differences"]}
    assert said[variant] == changed
    assert bool(changed > 0) is (variant is InputStage.MSPM0)
    assert manifest["input_stage"]["parameters_derived"] is False
    assert verify_folder(tmp_path / "g")
    with pytest.raises(UsageError, match="leave onnx out of --format"):
        write_folder(tmp_path / "h", session, samples(), Options(variant=variant, formats=("onnx",)))


def test_application_that_makes_the_codes_hands_them_over(tmp_path: Path) -> None:
    session = session_of("int8")
    manifest = write_folder(tmp_path / "g", session, samples(), Options(from_codes=True, module="motor"))
    assert manifest["input_stage"]["from_codes"] is True
    source = (tmp_path / "g" / "npusim_check.c").read_text()
    assert "tvmgen_motor_run(&inputs, &outputs)" in source
    assert '#define NPUSIM_MODEL_HEADER "tvmgen_motor.h"' in source
    assert "#define NPUSIM_INPUT_FIELD input\n" in source
    header = (tmp_path / "g" / "npusim_check.h").read_text()
    assert "typedef int8_t npusim_motor_input;" in header
    assert "#define SKIP_NORMALIZE\n" in (tmp_path / "g" / "user_input_config.h").read_text()
    assert verify_folder(tmp_path / "g")


def test_models_that_c_files_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [3, 5], [1, 1])
    more = graph.fully_connected(codes, np.eye(2, dtype=np.int64), np.zeros(2), [1, 1], [1, 1], (-128, 127))
    session = InferenceSession(graph.model(codes, more))
    given = Samples({"input": np.ones((1, 2), np.float32)}, (Origin(False, 0),), {})
    with pytest.raises(UnsupportedError, match=r"hold one input and one output, the model's outputs are '.*leave c out"):
        write_folder(tmp_path / "g", session, given, Options())
    assert list(tmp_path.iterdir()) == []
    manifest = write_folder(tmp_path / "g", session, given, Options(formats=("onnx", "bin")))
    assert [item["role"] for item in manifest["tensors"]] == ["input", "output", "output"]


def test_outputs_of_the_same_values_are_told_apart_and_given_ones_alone_refused(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [3, 5], [1, 1])
    again, copied = graph.node("Identity", codes), graph.node("Identity", "input")
    given = Samples({"input": np.ones((1, 2), np.float32)}, (Origin(False, 0),), {})
    options = Options(formats=("onnx",))
    manifest = write_folder(tmp_path / "g", InferenceSession(graph.model(codes, again)), given, options)
    assert [item["name"] for item in manifest["tensors"]] == ["input", codes, again]
    for number in (0, 1):
        name, values = read_tensor_file(tmp_path / "g" / "test_data_set_0" / f"output_{number}.pb")
        assert (name, values.tolist()) == ((codes, again)[number], [[1.0, 2.0]])
    write_folder(tmp_path / "h", InferenceSession(graph.model(codes, copied)), given, options)
    name, values = read_tensor_file(tmp_path / "h" / "test_data_set_0" / "output_1.pb")
    assert (name, values.tolist()) == (copied, [[1.0, 1.0]])
    with pytest.raises(UnsupportedError, match=r"no output of .* is computed from an input"):
        write_folder(tmp_path / "i", InferenceSession(graph.model(copied)), given, options)
    assert not (tmp_path / "i").exists()


def test_model_without_an_input_stage_has_no_variants(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    session = InferenceSession(graph.model(graph.node("Relu", "input")))
    given = Samples({"input": np.array([[1.5, -2]], np.float32)}, (Origin(False, 0),), {})
    for options in (Options(variant=InputStage.C28), Options(from_codes=True)):
        with pytest.raises(UnsupportedError, match="has no input stage"):
            write_folder(tmp_path / "g", session, given, options)
    manifest = write_folder(tmp_path / "g", session, given, Options())
    assert manifest["input_stage"]["differences"] == []
    assert "golden_output[2] = {\n1.5f, 0.0f,\n}" in (tmp_path / "g" / "test_vector.c").read_text()


@pytest.mark.slow
@pytest.mark.exports
def test_real_exports_write_and_verify(tmp_path: Path) -> None:
    for number, export in enumerate(load_exports()[::30]):
        check_export(tmp_path / str(number), export, list(InputStage)[number % 3], from_codes=number % 2 == 1)


def check_export(folder: Path, export: Export, variant: InputStage, *, from_codes: bool) -> None:
    session = InferenceSession(export.model)
    inputs = {session.get_inputs()[0].name: export.inputs()[[1, 65]]}
    given = Samples(inputs, (Origin(False, 1), Origin(False, 65)), {})
    manifest = write_folder(folder, session, given, Options(variant=variant, from_codes=from_codes))
    assert manifest["model"]["file"] == export.model.name
    if variant is InputStage.GRAPH:
        output = read_npz(folder / "vectors.npz")[session.get_outputs()[0].name]
        np.testing.assert_array_equal(output, export.expected()[[1, 65]])
    assert [finding.rule for finding in verify_folder(folder).findings] == ["coverage"]
