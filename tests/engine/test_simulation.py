"""Running in parts changes no result, whatever the model makes of its first axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession
from npusim.engine import simulation
from npusim.engine.simulation import input_specs, simulate
from npusim.errors import InputError
from npusim.files.arrays import write_arrays
from npusim.files.datasets import InputSpec
from npusim.results.simulation import run_to_archive
from support.builders import GraphBuilder
from support.command_line import model_with_open_size


def integer_model(dialect: str) -> bytes:
    graph = GraphBuilder((1, 4, 8, 1), dialect)
    codes = graph.input_stage([0.5] * 4, [900] * 4, [4] * 4)
    weights = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 1))
    return graph.model(graph.convolution(codes, weights, np.arange(4), np.ones(4), np.full(4, 8), (0, 255)))


def model_that_mixes_samples() -> bytes:
    graph = GraphBuilder((1, 6))
    return graph.model(graph.node("ReduceSum", graph.node("Relu", "input"), graph.constant([0], np.int64), keepdims=1))


@pytest.mark.parametrize("count", [1, 3, 65, 130, 200])
def test_parts_give_what_one_run_gives(count: int) -> None:
    reports: list[tuple[int, int]] = []
    for model in (integer_model("ts17"), integer_model("nosim"), model_that_mixes_samples()):
        session = InferenceSession(model)
        shape = tuple(int(size) for size in session.get_inputs()[0].shape[1:])
        feeds = {"input": np.random.default_rng(1).normal(0, 2, (count, *shape)).astype(np.float32)}
        reports.clear()
        found = simulate(session, feeds, patterns=["*"], progress=lambda done, total: reports.append((done, total)))
        assert found.samples == count
        assert reports[-1] == (count, count)
        (output,) = session.run(None, feeds)
        name = session.get_outputs()[0].name
        np.testing.assert_array_equal(found.outputs[name], output)
        assert found.outputs[name].dtype == output.dtype
        trace = session.trace(feeds)
        assert set(found.arrays) == set(trace)
        for tensor, values in found.traced.items():
            np.testing.assert_array_equal(values, trace[tensor])
            assert values.dtype == trace[tensor].dtype
        assert found.steps == session.program.steps


def model_with_a_constant_output() -> bytes:
    graph = GraphBuilder((1, 6))
    model = onnx.load_from_string(graph.model(graph.node("Relu", "input")))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "fixed"))
    model.graph.node.append(helper.make_node("Identity", ["fixed"], ["constant"]))
    model.graph.output.append(helper.make_tensor_value_info("constant", TensorProto.FLOAT, [3]))
    return model.SerializeToString()


@pytest.mark.parametrize("kept", [1, 700, 10**9])
@pytest.mark.parametrize(
    "model", [integer_model("ts17"), model_that_mixes_samples(), model_with_open_size(), model_with_a_constant_output()]
)
def test_an_archive_of_parts_is_the_archive_of_the_whole(
    model: bytes, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "PART_BYTES", kept)
    session = InferenceSession(model)
    shape = tuple(int(size) if isinstance(size, int) else 4 for size in session.get_inputs()[0].shape[1:])
    feeds = {session.get_inputs()[0].name: np.random.default_rng(1).normal(0, 2, (33, *shape)).astype(np.float32)}
    reports: list[tuple[int, int]] = []
    parts, whole = tmp_path / "parts.npz", tmp_path / "whole.npz"
    done = run_to_archive(
        session, feeds, str(parts), patterns=["*"], progress=lambda done, total: reports.append((done, total))
    )
    wanted = simulate(session, feeds, patterns=["*"]).arrays
    write_arrays(whole, wanted)
    assert parts.read_bytes() == whole.read_bytes()
    assert {item.name: (item.smallest, item.largest) for item in done.arrays} == {
        name: (values.min().item(), values.max().item()) for name, values in wanted.items()
    }
    assert reports[-1] == (33, 33)
    assert reports == sorted(reports)


def test_samples_are_counted_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "PART_BYTES", 1)
    x = np.zeros((20, 4, 8, 1), np.float32)
    x[17, 2, 3, 0] = np.nan
    with pytest.raises(InputError, match=r"17"):
        run_to_archive(InferenceSession(integer_model("ts17")), {"input": x}, str(tmp_path / "o.npz"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_is_reported_for_every_part(threads: int) -> None:
    reports: list[tuple[int, int]] = []
    session = InferenceSession(integer_model("ts17"), threads=threads)
    feeds = {"input": np.zeros((20_000, 4, 8, 1), np.float32)}
    simulate(session, feeds, progress=lambda done, total: reports.append((done, total)))
    assert len(reports) >= 4
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert reports[-1] == (20_000, 20_000)
    assert {total for _, total in reports} == {20_000}


def test_codes_are_small_integers_with_the_same_values() -> None:
    session = InferenceSession(integer_model("ts17"))
    feeds = {"input": np.random.default_rng(2).normal(0, 2, (5, 4, 8, 1)).astype(np.float32)}
    (codes,) = simulate(session, feeds, codes=True).outputs.values()
    (floats,) = simulate(session, feeds).outputs.values()
    assert (codes.dtype, floats.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(codes, floats)


def test_input_specs_say_what_the_model_declares() -> None:
    assert input_specs(InferenceSession(integer_model("ts17"))) == [InputSpec("input", np.dtype(np.float32), (1, 4, 8, 1))]
    assert input_specs(InferenceSession(model_with_open_size())) == [InputSpec("x", np.dtype(np.float32), (1, "length"))]
