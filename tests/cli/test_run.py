"""``npusim run``: what it writes, and that nothing is left or lost when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.files.arrays import read_npz
from support import ROOT
from support.builders import GraphBuilder
from support.command_line import call, check_error, checked_json, model_with_open_size, spawn

W8 = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"
CODES = "/conv/requantize/Clip_1_output_0"


@pytest.fixture(name="x", scope="module")
def golden_inputs() -> np.ndarray:
    return read_npz(INPUTS)["input"]


def test_outputs_are_those_of_a_session_in_the_declared_type(tmp_path: Path, x: np.ndarray) -> None:
    out = tmp_path / "out.npz"
    value = checked_json("run", call("run", W8, INPUTS, "-o", out, "--json"))
    arrays = read_npz(out)
    (wanted,) = InferenceSession(W8).run(None, {"input": x})
    assert list(arrays) == ["output"]
    assert arrays["output"].dtype == np.float32
    np.testing.assert_array_equal(arrays["output"], wanted)
    assert value["output"] == str(out)
    assert value["arrays"] == [
        {
            "name": "output",
            "role": "output",
            "dtype": "float32",
            "shape": [16, 4],
            "smallest": wanted.min(),
            "largest": wanted.max(),
        }
    ]
    assert value["totals"] == {"samples": 16, "layers": 7, "outputs": 1, "traced": 0}
    assert [layer["kind"] for layer in value["layers"]][:2] == ["QUANTIZE", "GCONV"]
    assert value["findings"] == []


def test_codes_are_the_same_values_as_the_device_holds_them(tmp_path: Path, x: np.ndarray) -> None:
    assert call("run", W8, INPUTS, "-o", tmp_path / "codes.npz", "--codes").code == 0
    codes = read_npz(tmp_path / "codes.npz")["output"]
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, InferenceSession(W8).run(None, {"input": x})[0])


def test_traced_tensors_are_stored_as_codes_beside_the_outputs(tmp_path: Path, x: np.ndarray) -> None:
    out = tmp_path / "out.npz"
    done = call("run", W8, INPUTS, "-o", out, "--trace", "/conv/*/Clip_1_*", "--trace", "/pointwise/Conv_output_0")
    assert (done.code, done.err) == (0, "")
    arrays = read_npz(out)
    assert list(arrays) == ["output", CODES, "/pointwise/Conv_output_0"]
    trace = InferenceSession(W8).trace({"input": x})
    assert (arrays[CODES].dtype, arrays["/pointwise/Conv_output_0"].dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(arrays[CODES], trace[CODES])
    np.testing.assert_array_equal(arrays["/pointwise/Conv_output_0"], trace["/pointwise/Conv_output_0"])
    lines = done.out.splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80
    assert lines[-1] == f"{out}: 3 arrays, 16 samples"


def test_star_keeps_every_tensor_and_the_output_stays_as_declared(tmp_path: Path, x: np.ndarray) -> None:
    out = tmp_path / "out.npz"
    value = checked_json("run", call("run", W8, INPUTS, "-o", out, "--trace", "*", "--json"))
    arrays = read_npz(out)
    trace = InferenceSession(W8).trace({"input": x})
    assert set(arrays) == set(trace)
    assert arrays["output"].dtype == np.float32
    for name, array in trace.items():
        np.testing.assert_array_equal(arrays[name], array)
    assert value["totals"]["traced"] == len(trace) - 1


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet"])
def test_every_input_format_gives_the_same(tmp_path: Path, x: np.ndarray, suffix: str) -> None:
    inputs, out = (tmp_path / "samples").with_suffix(suffix), tmp_path / "out.npz"
    flat = x.reshape(len(x), -1)
    if suffix == ".npy":
        np.save(inputs, x)
    elif suffix == ".csv":
        inputs.write_text("".join(",".join(repr(float(value)) for value in row) + "\n" for row in flat))
    else:
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(flat, columns=[f"v{index}" for index in range(flat.shape[1])]).to_parquet(inputs)
    assert call("run", W8, inputs, "-o", out).code == 0
    np.testing.assert_array_equal(read_npz(out)["output"], InferenceSession(W8).run(None, {"input": x})[0])


def test_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        assert call("run", W8, INPUTS, "-o", tmp_path / name, "--trace", "*Clip*").code == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_engines_and_threads_write_the_same_bytes(tmp_path: Path) -> None:
    for number, options in enumerate(
        ((), ("--threads", 1), ("--threads", 3), ("--engine", "fast"), ("--engine", "reference", "--threads", 2))
    ):
        assert call("run", W8, INPUTS, "-o", tmp_path / f"{number}.npz", "--trace", "*", *options).code == 0
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    arguments = ("run", W8, INPUTS, "-o", tmp_path / "out.npz")
    check_error(*arguments, "--threads", 0, code=2, kind="UsageError", says="'--threads'")
    check_error(*arguments, "--engine", "slow", code=2, kind="UsageError", says="'fast', 'reference'")


def test_engine_and_threads_reach_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []

    class Session(InferenceSession):
        def __init__(self, model: str, **options: object) -> None:
            made.append(options)
            super().__init__(model, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("npusim.cli.run.InferenceSession", Session)
    monkeypatch.setattr("npusim.cli.verify.InferenceSession", Session)
    call("run", W8, INPUTS, "-o", tmp_path / "a.npz")
    call("run", W8, INPUTS, "-o", tmp_path / "b.npz", "--threads", 2, "--engine", "reference")
    call("verify", W8, INPUTS, "--threads", 3, "--arithmetic", "npu")
    seen = [{name: options[name] for name in ("engine", "threads", "arithmetic") if name in options} for options in made]
    assert seen == [
        {"engine": "fast", "threads": None, "arithmetic": None},
        {"engine": "reference", "threads": 2, "arithmetic": None},
        {"threads": 3, "arithmetic": "npu"},
    ]


def test_model_with_open_sizes_runs_on_inputs_that_fix_them(tmp_path: Path) -> None:
    model, inputs, out = tmp_path / "open.onnx", tmp_path / "x.npz", tmp_path / "out.npz"
    model.write_bytes(model_with_open_size())
    np.savez(inputs, x=np.array([[-1.5, 2, 3], [4, -5, 6]], np.float32))
    checked_json("run", call("run", model, inputs, "-o", out, "--json"))
    np.testing.assert_array_equal(read_npz(out)["y"], np.array([[0, 2, 3], [4, 0, 6]], np.float32))


def broken_inputs(folder: Path, what: str, x: np.ndarray) -> Path:
    path = folder / "bad.npz"
    if what == "encrypted":
        path.write_bytes(b"gAAAAABk" + b"Qz9" * 50)
    elif what == "name":
        np.savez(path, accelerations=x, other=x)
    elif what == "shape":
        np.savez(path, input=x.transpose(0, 2, 1, 3))
    elif what == "nan":
        bad = x.copy()
        bad[3, 1, 5, 0] = np.nan
        np.savez(path, input=bad)
    elif what == "empty":
        np.savez(path, input=x[:0])
    elif what == "truncated":
        np.savez(path, input=x)
        path.write_bytes(path.read_bytes()[:-300])
    return path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "no such file"),
        ("encrypted", "cannot be read as a .npz archive"),
        ("name", "'accelerations'"),
        ("shape", "wanted (N, 3, 64, 1)"),
        ("nan", "nan at index (3, 1, 5, 0)"),
        ("empty", "holds no samples"),
        ("truncated", "cannot be read as a .npz archive"),
    ],
)
def test_bad_inputs_are_refused_and_an_older_output_stays(tmp_path: Path, x: np.ndarray, what: str, says: str) -> None:
    out = tmp_path / "out.npz"
    out.write_bytes(b"older")
    inputs = broken_inputs(tmp_path, what, x)
    before = sorted(tmp_path.iterdir())
    check_error("run", W8, inputs, "-o", out, "--force", code=2, kind="InputError", says=says)
    assert sorted(tmp_path.iterdir()) == before
    assert out.read_bytes() == b"older"


def test_bad_models_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model, out = tmp_path / "model.onnx", tmp_path / "out.npz"
    arguments = ("run", model, INPUTS, "-o", out)
    check_error(*arguments, code=2, kind="ModelError", says="does not exist")
    model.write_bytes(b"gAAAAABk" + b"Qz9" * 50)
    check_error(*arguments, code=2, kind="ModelError", says="encrypted")
    model.write_bytes(W8.read_bytes()[:-900])
    check_error(*arguments, code=2, kind="ModelError", says=str(model))
    graph = GraphBuilder((1, 3, 64, 1))
    model.write_bytes(graph.model(graph.node("Hardmax", "input")))
    check_error(*arguments, code=3, kind="UnsupportedError", says="Hardmax")
    assert sorted(tmp_path.iterdir()) == [model]


def test_unknown_pattern_is_refused_with_what_it_may_have_meant(tmp_path: Path) -> None:
    arguments = ("run", W8, INPUTS, "-o", tmp_path / "out.npz", "--trace")
    check_error(*arguments, "/conv/Conv_output_1", code=2, kind="UnknownTensorError", says="'/conv/Conv_output_0'")
    check_error(*arguments, "nothing*", code=2, kind="UnknownTensorError", says="no tensor 'nothing*'")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npz"
    inputs.write_bytes(INPUTS.read_bytes())
    (tmp_path / "folder.npz").mkdir()
    for place, says in (
        ("missing/out.npz", "there is no folder"),
        ("inputs.npz/out.npz", "there is no folder"),
        ("folder.npz", "is a folder"),
        ("out.npy", "end in .npz"),
        ("inputs.npz", "would be overwritten"),
    ):
        check_error("run", W8, inputs, "-o", tmp_path / place, code=2, kind="UsageError", says=says)
    assert inputs.read_bytes() == INPUTS.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.npz", "inputs.npz"]


@pytest.mark.slow
def test_disk_that_fills_up_leaves_the_older_output(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.npz"
    out.write_bytes(b"older")
    done = spawn(
        *("run", W8, INPUTS, "-o", out, "--force", "--trace", "*"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"npusim: error: {out}: cannot be written: ")
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    assert out.read_bytes() == b"older"


def test_output_is_required() -> None:
    check_error("run", W8, INPUTS, code=2, kind="UsageError", says="'-o'")
