"""Nothing false in any command: models on which something once was, those of their kinds that are made here, moved batches.

The right value is what onnxruntime computes without optimizations, one sample a call. Where integers are right and floats
round, the command has to say so, with the value that made them round.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession
from npusim.errors import UnsupportedError
from npusim.files.arrays import read_npz, write_arrays
from npusim.search.sampling import generate_inputs
from support import CASES, CASES_FOLDER
from support.builders import GraphBuilder
from support.command_line import Outcome, call
from support.models import model_of, outputs_of_onnxruntime
from support.moved_batches import moved_batches

Array = npt.NDArray[np.generic]

MOVED = int(os.environ.get("NPUSIM_MOVED_BATCHES", "15"))
"""Random graphs in a run; the variable asks for more."""

SAMPLES = 12
"""Of a case's inputs that are run."""

PASSED = re.compile(r"is -?[\d,]+ there, past 2\^24")
"""What a command says where onnxruntime is the one that rounds."""


def case_files() -> list[Path]:
    """Every model of the kinds that this file is about."""
    if CASES is None:
        return []
    found = (*CASES.glob("claims/*.onnx"), *CASES.glob("graphs/**/*.onnx"), *CASES.glob("reports/*/model.onnx"))
    return sorted(found)


def says_false(outcome: Outcome) -> str:
    """Words that no command may end with."""
    text = " ".join((outcome.out + outcome.err).split())
    for words in ("internal error", "Traceback", "bug in npusim", "please report"):
        if words in text:
            return text
    return ""


def run_all(model: Path, inputs: Path, folder: Path) -> dict[str, Outcome]:
    """Every command on a model."""
    golden = folder / "golden"
    calls = {
        "inspect": ("inspect", model),
        "verify": ("verify", model, inputs),
        "bounds": ("bounds", model),
        "lint": ("lint", model, "--device", "f28p55x"),
        "compare": ("compare", model, "--against", "ort", "--data", inputs),
        "run": ("run", model, inputs, "-o", folder / "fast.npz"),
        "run reference": ("run", model, inputs, "-o", folder / "reference.npz", "--engine", "reference"),
        "golden write": ("golden", "write", model, inputs, "-o", golden, "--format", "npz"),
    }
    found = {name: call(*arguments) for name, arguments in calls.items()}
    if found["golden write"].code == 0:
        found["golden verify"] = call("golden", "verify", golden)
    return found


def check_commands(found: dict[str, Outcome], *, numbers: bool = True) -> None:
    """No internal error; a difference from onnxruntime is said to be its rounding; golden folders prove themselves.

    `numbers`: NaN never becomes a code.
    """
    for name, outcome in found.items():
        assert not says_false(outcome), (name, outcome)
        assert outcome.code in ((0, 1) if numbers else (0, 1, 3)), (name, outcome)
    for name in ("verify", "compare"):
        if found[name].code == 1:
            said = " ".join(found[name].out.split())
            assert PASSED.search(said) or "(not-quantized)" in said, found[name].out
    if "golden verify" in found:
        assert found["golden verify"].code == 0, found["golden verify"]


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("model", case_files(), ids=lambda path: str(path.relative_to(CASES_FOLDER)))
def test_every_command_on_every_case(model: Path, tmp_path: Path) -> None:
    expected = model.parent / "expected.npz"
    given = next((path for path in (model.parent / "inputs.npz", model.with_suffix(".npz")) if path.exists()), None)
    inputs = tmp_path / "inputs.npz"
    if given is not None:
        write_arrays(inputs, {name: values[:SAMPLES] for name, values in read_npz(given).items()})
    else:
        # golden vectors that are searched take minutes; that search has its own tests
        write_arrays(inputs, generate_inputs(InferenceSession(model).program, SAMPLES))
    found = run_all(model, inputs, tmp_path)
    check_commands(found, numbers=model.stem != "nan_Sqrt")
    if not expected.exists():
        return
    fast, reference, right = (read_npz(path) for path in (tmp_path / "fast.npz", tmp_path / "reference.npz", expected))
    for name, values in right.items():
        assert np.array_equal(fast[name], reference[name], equal_nan=True), name
        assert np.array_equal(fast[name], values[: len(fast[name])], equal_nan=True), name


@pytest.mark.cases
def test_the_cases_are_there() -> None:
    assert len(case_files()) >= 40


def network() -> tuple[GraphBuilder, str]:
    """An input stage and a convolution."""
    graph = GraphBuilder((1, 3, 6, 1))
    codes = graph.input_stage([0.5] * 3, [900] * 3, [5] * 3)
    weights = np.random.default_rng(0).integers(-90, 91, (4, 3, 3, 1))
    layer = graph.convolution(codes, weights, np.array([3, -9, 5, 0]), [1] * 4, [4] * 4, (-128, 127), pads=[1, 0, 1, 0])
    return graph, layer


def pooled(*, used: bool) -> bytes:
    graph, layer = network()
    pool = graph.node("MaxPool", layer, kernel_shape=[2, 1], strides=[2, 1], outputs=2)
    places = graph.node("Cast", graph.nodes[-1].output[1], to=TensorProto.FLOAT)
    if not used:
        graph.nodes.pop()
    return graph.model(*([pool, places] if used else [pool]))


def constant_beside(value: npt.ArrayLike) -> bytes:
    graph, layer = network()
    return graph.model(layer, graph.constant(value))


def input_beside() -> bytes:
    graph, layer = network()
    return graph.model("input", layer, graph.constant([1.5]))


def partial_sums() -> bytes:
    """Products of one sign first: partial sums pass 2^24 where the sum itself is small."""
    graph = GraphBuilder((1, 4096))
    codes = graph.input_stage([0] * 4096, [1] * 4096, [0] * 4096)
    weights = np.repeat([[127], [-127]], 2048, axis=0).astype(np.int64)
    weights[::7] -= np.sign(weights[::7])
    return graph.model(graph.fully_connected(codes, weights, np.zeros(1), [1], [0], (-128, 127)))


def half() -> bytes:
    """A float16 graph whose sums pass 2,048."""
    graph = GraphBuilder((1, 4, 6, 1))
    codes = graph.input_stage([0] * 4, [1] * 4, [0] * 4)
    weights = np.random.default_rng(3).integers(60, 128, (4, 4, 3, 1))
    layer = graph.convolution(codes, weights, np.zeros(4), [1] * 4, [7] * 4, (-512, 511))
    converted = [numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float16), one.name) for one in graph.initializers]
    kind = (np.float16, (1, 4, 6, 1))
    return model_of(graph.nodes, {"input": kind}, {layer: (np.float16, (1, 4, 4, 1))}, initializers=converted)


KINDS: dict[str, Callable[[], bytes]] = {
    "second output of a pool, used": lambda: pooled(used=True),
    "second output of a pool, unused": lambda: pooled(used=False),
    "an initializer is an output": lambda: constant_beside([[1, 2]]),
    "a scalar is an output": lambda: constant_beside(3),
    "an input is an output": input_beside,
    "partial sums past 2^24": partial_sums,
    "float16": half,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_made_here(kind: str, tmp_path: Path) -> None:
    model, inputs = tmp_path / "model.onnx", tmp_path / "inputs.npz"
    model.write_bytes(KINDS[kind]())
    session = InferenceSession(model)
    (taken,) = session.get_inputs()
    shape = tuple(taken.shape)[1:]
    values = np.random.default_rng(1).normal(0, 2, (5, *shape))
    if kind in ("partial sums past 2^24", "float16"):
        values = np.random.default_rng(1).integers(60, 128, (5, *shape))
    x = values.astype(np.float16 if kind == "float16" else np.float32)
    write_arrays(inputs, {taken.name: x})
    found = run_all(model, inputs, tmp_path)
    check_commands(found)
    rounds = kind == "partial sums past 2^24"
    quantized = bool(session.program.layers or session.program.quantize_stages)
    assert found["verify"].code == int(rounds or not quantized)
    assert found["golden write"].code == int(not quantized)
    rows = outputs_of_onnxruntime(model.read_bytes(), *({taken.name: x[at : at + 1]} for at in range(5)), optimized=False)
    written = read_npz(tmp_path / "fast.npz")
    for place, output in enumerate(session.get_outputs()):
        parts = [row[place] for row in rows]
        whole = output.name in session.program.constants
        right = parts[0] if whole else np.concatenate(parts)
        assert rounds or np.array_equal(written[output.name], right), output.name


def test_outputs_of_constants_and_inputs_in_onnx_test_layout(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(input_beside())
    write_arrays(tmp_path / "x.npz", {"input": np.random.default_rng(1).normal(0, 2, (3, 3, 6, 1)).astype(np.float32)})
    written = call("golden", "write", model, tmp_path / "x.npz", "-o", tmp_path / "golden", "--format", "onnx")
    assert written.code == 0, written
    assert call("golden", "verify", tmp_path / "golden").code == 0
    stored = TensorProto()
    stored.ParseFromString((tmp_path / "golden" / "test_data_set_2" / "output_2.pb").read_bytes())
    assert numpy_helper.to_array(stored).tolist() == [1.5]


def test_a_float_network_hands_out_its_input(tmp_path: Path) -> None:
    weights = np.random.default_rng(4).normal(0, 0.5, (4, 3)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    kinds = {"x": (np.float32, (1, 4))}, {"y": (np.float32, (1, 3)), "x": None, "w": None}
    model = tmp_path / "float.onnx"
    outputs = {name: kind or {"x": (np.float32, (1, 4)), "w": (np.float32, (4, 3))}[name] for name, kind in kinds[1].items()}
    model.write_bytes(model_of([node], kinds[0], outputs, {"w": weights}))
    write_arrays(tmp_path / "x.npz", {"x": np.random.default_rng(5).normal(0, 1, (40, 4)).astype(np.float32)})
    outcome = call("quantize", model, "--calibration", tmp_path / "x.npz", "-o", tmp_path / "q.onnx", "--json")
    assert outcome.code == 0, outcome
    assert [one["layer"] for one in json.loads(outcome.out)["findings"] if "left out" in one["message"]] == ["x", "w"]


def test_lint_names_padded_maxima(tmp_path: Path) -> None:
    model = tmp_path / "pool.onnx"
    for lower, wanted in ((-128, True), (0, False)):
        graph = GraphBuilder((1, 4, 6, 1))
        codes = graph.input_stage([0.5] * 4, [900] * 4, [5] * 4)
        layer = graph.convolution(codes, np.ones((4, 4, 1, 1), np.int64), np.zeros(4), [1] * 4, [3] * 4, (lower, 127))
        model.write_bytes(graph.model(graph.node("MaxPool", layer, kernel_shape=[2, 1], strides=[2, 1], pads=[1, 0, 1, 0])))
        told = json.loads(call("lint", model, "--device", "f28p55x", "--json").out)
        assert ("maxpool-padding" in {one["rule"] for one in told["findings"]}) is wanted


@pytest.mark.slow
@given(moved_batches(), st.integers(1, 4))
@settings(max_examples=MOVED)
def test_golden_folders_of_moved_batches(tmp_path_factory: pytest.TempPathFactory, drawn: tuple, samples: int) -> None:
    content, shape, used = drawn
    folder = tmp_path_factory.mktemp("moved")
    model = folder / "model.onnx"
    model.write_bytes(content)
    try:
        InferenceSession(content)
    except UnsupportedError:
        return
    inputs = np.random.default_rng(samples).normal(0, 2, (samples, *shape[1:])).astype(np.float32)
    write_arrays(folder / "x.npz", {"input": inputs})
    written = call("golden", "write", model, folder / "x.npz", "-o", folder / "golden", "--format", "npz,onnx", "--quiet")
    assert written.code == 0, (used, written)
    checked = call("golden", "verify", folder / "golden")
    assert checked.code == 0, (used, checked)


@pytest.mark.cases
def test_scales_that_no_tensors_can_share_are_refused(tmp_path: Path) -> None:
    model = CASES_FOLDER / "claims" / "quantize_crash.onnx"
    outcome = call("quantize", model, "--calibration", model.with_suffix(".npz"), "-o", tmp_path / "q.onnx", "--quiet")
    assert outcome.code == 3
    assert "share their scales" in outcome.err
    assert not says_false(outcome)
