"""A model whose data lies in a second file, as torch's exporter writes it by default: every command, from any folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

from npusim import InferenceSession, ModelError
from npusim.files.arrays import write_arrays
from npusim.graph import external_data
from npusim.graph.model_file import ModelFile, open_model
from npusim.graph.onnx_reader import read_graph
from support.builders import GraphBuilder
from support.command_line import call, check_error, checked_json
from support.float_networks import FloatBuilder, samples

SHAPE = (1, 4, 8, 1)


def network(dialect: str) -> bytes:
    """One input stage and two layers whose saturations are two nodes each, which ``lint --fix`` merges."""
    graph = GraphBuilder(SHAPE, dialect)
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    for seed in (0, 1):
        weights = np.random.default_rng(seed).integers(-127, 128, (4, 4, 3, 1))
        codes = graph.clip(graph.convolution(codes, weights, np.arange(4), np.ones(4), np.full(4, 8), (-255, 255)), 0, 255)
    return graph.model(codes)


def put_outside(content: bytes, path: Path, location: str = "sub/weights.bin") -> None:
    """Write a model whose every tensor, in initializers and attributes, lies in another file."""
    model, data = onnx.load_from_string(content), bytearray()
    values = [entry.t for node in model.graph.node for entry in node.attribute if entry.HasField("t")]
    for tensor in [*model.graph.initializer, *values]:
        raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data
        tensor.raw_data = raw
        set_external_data(tensor, location, offset=len(data), length=len(raw))
        tensor.ClearField("raw_data")
        data += raw
    path.write_bytes(model.SerializeToString())
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / location).write_bytes(data)


@pytest.fixture(name="place", params=["ts17", "nosim"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one model in both forms; the working folder is another one that holds wrong data of the same name."""
    (tmp_path / "elsewhere" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere" / "sub" / "weights.bin").write_bytes(bytes(100000))
    (tmp_path / "models").mkdir()
    content = network(request.param)
    (tmp_path / "models" / "whole.onnx").write_bytes(content)
    put_outside(content, tmp_path / "models" / "model.onnx")
    x = np.random.default_rng(5).normal(0, 2, (6, *SHAPE[1:])).astype(np.float32)
    write_arrays(tmp_path / "models" / "x.npz", {"input": x})
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "models"


def test_the_commands_say_what_they_say_of_one_file(place: Path, tmp_path: Path) -> None:
    model, whole, x, out = place / "model.onnx", place / "whole.onnx", place / "x.npz", tmp_path / "out"
    out.mkdir()
    for number, file in enumerate((model, whole)):
        assert call("run", file, x, "-o", out / f"{number}.npz", "--trace", "*").code == 0
    with np.load(out / "0.npz") as one, np.load(out / "1.npz") as other:
        assert sorted(one) == sorted(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for arguments in (
        ("inspect", model),
        ("verify", model, x),
        ("bounds", model, "-o", out / "certificate.json"),
        ("bounds", model, "--check", out / "certificate.json"),
        ("compare", model, "--against", "ort", "--data", x),
        ("compare", model, "--against", whole, "--data", x),
    ):
        outcome = call(*arguments)
        assert outcome.code == 0, (arguments, outcome.err)
    one, other = (checked_json("inspect", call("inspect", file, "--json")) for file in (model, whole))
    assert one["layers"] == other["layers"]


@pytest.mark.slow
def test_golden_folders_hold_the_data(place: Path, tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    assert call("golden", "write", place / "model.onnx", place / "x.npz", "-o", golden).code == 0
    assert call("golden", "verify", golden, "--model", place / "model.onnx").code == 0
    shutil.rmtree(place / "sub")
    assert call("golden", "verify", golden).code == 0
    assert InferenceSession(str(golden / "model.onnx")).program.layers


def test_lint_repairs_it(place: Path, tmp_path: Path) -> None:
    outcome = call("lint", place / "model.onnx", "--device", "f28p55x", "--fix", tmp_path / "fixed.onnx")
    assert "merge-clips" in outcome.out, outcome
    with np.load(place / "x.npz") as x:
        feeds = {"input": x["input"]}
    sessions = [InferenceSession(str(path)) for path in (tmp_path / "fixed.onnx", place / "whole.onnx")]
    np.testing.assert_array_equal(*(session.run(None, feeds)[0] for session in sessions))


def test_sarif_states_no_hash_of_a_file_that_is_not_the_whole_model(place: Path) -> None:
    for name, stated in (("model.onnx", False), ("whole.onnx", True)):
        outcome = call("lint", place / name, "--device", "f28p55x", "--format", "sarif")
        assert ("sha-256" in outcome.out) is stated


def test_hashes_cover_the_data(place: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.json"
    assert call("bounds", place / "model.onnx", "-o", certificate).code == 0
    before, data = open_model(place / "model.onnx"), place / "sub" / "weights.bin"
    assert before.external
    assert not open_model(place / "whole.onnx").external
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert open_model(place / "model.onnx").sha256 != before.sha256
    assert call("bounds", place / "model.onnx", "--check", certificate).code == 1


def test_float_networks_are_quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = FloatBuilder((1, 3, 16, 1), seed=4)
    graph.conv(8, 3)
    graph.relu()
    graph.flatten()
    graph.linear(3)
    (tmp_path / "whole.onnx").write_bytes(graph.model())
    put_outside(graph.model(), tmp_path / "float.onnx")
    write_arrays(tmp_path / "x.npz", {"input": samples(graph.shape)})
    monkeypatch.chdir("/")
    for name in ("float", "whole"):
        assert call("quantize", tmp_path / f"{name}.onnx", "--calibration", tmp_path / "x.npz", "-o", tmp_path / name).code == 0
    assert (tmp_path / "float").read_bytes() == (tmp_path / "whole").read_bytes()
    assert call("compare", tmp_path / "float", "--against", tmp_path / "float.onnx", "--data", tmp_path / "x.npz").code == 0


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin"])
def test_data_outside_of_the_folder_is_refused(place: Path, location: str) -> None:
    model = onnx.load(place / "model.onnx", load_external_data=False)
    (place.parent / "outside.bin").write_bytes(bytes(100000))
    values = [entry.t for node in model.graph.node for entry in node.attribute if entry.HasField("t")]
    next(item for item in [*model.graph.initializer, *values][-1].external_data if item.key == "location").value = location
    (place / "bad.onnx").write_bytes(model.SerializeToString())
    check_error("inspect", place / "bad.onnx", code=2, kind="ModelError", says="external data")


def test_data_that_is_not_there_or_not_enough(place: Path) -> None:
    content, data = (place / "model.onnx").read_bytes(), place / "sub" / "weights.bin"
    with pytest.raises(ModelError, match="external file; give its path"):
        InferenceSession(content)
    with pytest.raises(ModelError, match="open the model by its path"):
        read_graph(ModelFile(None, content))
    with pytest.raises(ModelError, match="more than the 200 bytes"):
        external_data.embed(content, str(place / "model.onnx"), 200)
    data.write_bytes(data.read_bytes()[:-1])
    check_error("inspect", place / "model.onnx", code=2, kind="ModelError", says="external data")
    data.unlink()
    check_error("inspect", place / "model.onnx", code=2, kind="ModelError", says="put the data file beside the .onnx file")


def test_what_is_not_a_model_comes_back_as_it_is() -> None:
    for content in (b"location of the file", network("ts17"), onnx.ModelProto(producer_name="location").SerializeToString()):
        assert external_data.embed(content, None, 0) is content


def test_tensors_of_subgraphs_and_functions_are_found() -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "value")
    set_external_data(tensor, "weights.bin")
    inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner)
    function = onnx.helper.make_function("here", "f", [], ["y"], [node], [onnx.helper.make_opsetid("", 17)])
    for model in (
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [])),
        onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []), functions=[function]),
    ):
        with pytest.raises(ModelError, match="'value' in an external file"):
            external_data.embed(model.SerializeToString(), None, 100)
