"""Programs run from the middle: given tensors take the place of computed ones, and only what depends on them is run."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import InferenceSession, InputError, UsageError
from npusim.engine.replay import BLOCKS, Restarts, program_from, run_with
from npusim.engine.runner import ReferenceRunner
from npusim.errors import UnknownTensorError
from npusim.files.arrays import read_npz
from support import ROOT, Export
from support.builders import GraphBuilder
from support.match_models import chain
from support.sketch import Sketch

W4 = ROOT / "golden" / "vibration_w4.onnx"
POOLED, POINTWISE = "/pool/MaxPool_output_0", "/pointwise/requantize/Clip_1_output_0"
ACCUMULATOR = "/pointwise/Conv_output_0"


@pytest.fixture(name="session", scope="module")
def golden_session() -> InferenceSession:
    return InferenceSession(W4)


@pytest.fixture(name="x", scope="module")
def golden_inputs() -> np.ndarray:
    return read_npz(ROOT / "golden" / "vibration_inputs.npz")["input"]


def equal(results: dict[str, np.ndarray], trace: object) -> bool:
    return all(array.dtype == trace[name].dtype and array.tobytes() == trace[name].tobytes() for name, array in results.items())


def test_every_result_given_as_it_is_changes_nothing(session: InferenceSession, x: np.ndarray) -> None:
    trace = session.trace({"input": x})
    for step in session.program.steps:
        name = step.tensors[-1]
        results = run_with(session.program, {}, {name: trace[name]})
        assert list(results) == ["output"]
        assert equal(results, trace), name


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("name", ["vibration_w4", "keywords_w8", "autoencoder_w8"])
def test_one_plan_starts_behind_any_step(name: str, engine: str) -> None:
    program = InferenceSession(ROOT / "golden" / f"{name}.onnx").program
    restarts, generator, steps = Restarts(program, engine), np.random.default_rng(0), program.steps
    count = BLOCKS[0] + 1
    for index in range(len(steps) - 1):
        made = {name for step in steps[: index + 1] for name in step.tensors} | set(program.inputs)
        alive = made & {name for step in steps[index + 1 :] for name in program.inputs_of(step)}
        held = {}
        for tensor in map(program.tensors.__getitem__, sorted(alive)):
            shape = (count, *tensor.shape[1:])
            values = generator.normal(0, 9, shape)
            if tensor.is_integer:
                values = generator.integers(int(tensor.lower), int(tensor.upper) + 1, shape)
            held[tensor.name] = values.astype(tensor.stored)
        results = [step.tensors[-1] for step in steps[index + 1 :]]
        for wanted in (results[:1], results[-1:], results):
            found = restarts.run(index, held, wanted)
            rest = program_from(program, held, wanted)
            right = ReferenceRunner(rest, count).run(held, wanted)
            assert {name: array.tobytes() for name, array in found.items()} == {
                name: right[name].tobytes() for name in wanted
            }, steps[index].name


def test_without_overrides_it_is_a_run(session: InferenceSession, x: np.ndarray) -> None:
    names = [POOLED, ACCUMULATOR, "input", "output"]
    results = run_with(session.program, {"input": x}, {}, names)
    assert list(results) == names
    assert equal(results, session.trace({"input": x}, names))


def test_what_is_given_is_what_later_layers_read() -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    first = graph.fully_connected(codes, 2 * np.eye(2, dtype=np.int64), np.zeros(2), [1, 1], [0, 0], (-128, 127))
    second = graph.fully_connected(first, np.array([[1, 0], [10, 1]]), np.zeros(2), [1, 1], [0, 0], (-128, 127))
    program = InferenceSession(graph.model(second)).program
    x = np.array([[1, 2], [3, 4]], np.float32)
    given = np.array([[5, 6], [7, 8]], np.int8)
    # [5, 6] @ [[1, 0], [10, 1]] is [65, 6]
    assert run_with(program, {"input": x}, {first: given})[second].tolist() == [[65, 6], [87, 8]]
    assert run_with(program, {}, {codes: given})[second].tolist() == [[127, 12], [127, 16]]
    assert run_with(program, {}, {codes: given}, [codes, first])[first].tolist() == [[10, 12], [14, 16]]


def test_an_input_can_be_given_in_place_of_itself(session: InferenceSession, x: np.ndarray) -> None:
    wanted = session.run(None, {"input": x[:2]})[0]
    np.testing.assert_array_equal(run_with(session.program, {"input": x}, {"input": x[:2]})["output"], wanted)


def test_only_what_depends_on_the_given_is_run(session: InferenceSession) -> None:
    left = program_from(session.program, [POOLED], ["output"])
    assert [step.name for step in left.steps] == [step.name for step in session.program.steps[3:]]
    assert left.inputs == (POOLED,)
    assert program_from(session.program, [POOLED], [POOLED]).steps == ()


def test_a_branch_that_nothing_gives_still_needs_the_input() -> None:
    sketch = Sketch(2, 8, 1)
    left = sketch.layer(sketch.weights(2, 2, 1, 1), clip=(-128, 127))
    right = sketch.layer(sketch.weights(2, 2, 1, 1), clip=(-128, 127))
    total = sketch.graph.clip(sketch.graph.node("Add", left, right), -128, 127)
    session = InferenceSession(sketch.finish(total))
    x = np.linspace(-2, 2, 3 * 16, dtype=np.float32).reshape(3, 2, 8, 1)
    trace = session.trace({"input": x})
    results = run_with(session.program, {"input": x}, {left: trace[left]})
    assert equal(results, trace)
    with pytest.raises(InputError, match="input 'input' is missing"):
        run_with(session.program, {}, {left: trace[left]})


def test_what_cannot_be_given_is_refused(session: InferenceSession, x: np.ndarray) -> None:
    program, codes = session.program, np.zeros((2, 8, 32, 1), np.int64)
    with pytest.raises(UnknownTensorError, match="no tensor 'pool'"):
        run_with(program, {"input": x}, {"pool": codes})
    with pytest.raises(UsageError, match=f"'{ACCUMULATOR}' is computed inside of a step"):
        run_with(program, {"input": x}, {ACCUMULATOR: codes})
    with pytest.raises(UsageError, match=f"'{ACCUMULATOR}' comes from step '/pointwise/Conv', whose result is given"):
        run_with(program, {"input": x}, {POINTWISE: np.zeros((2, 16, 32, 1), np.uint8)}, [ACCUMULATOR])
    with pytest.raises(InputError, match=r"has shape \[2, 8, 31, 1\], wanted \[N, 8, 32, 1\]"):
        run_with(program, {}, {POOLED: codes[:, :, :31]})
    with pytest.raises(InputError, match="1 of 512 values of dtype int64 are not exactly representable in uint8"):
        run_with(program, {}, {POOLED: codes - np.eye(1, 512, dtype=np.int64).reshape(codes.shape)})
    with pytest.raises(InputError, match="element type float64, wanted float32"):
        run_with(program, {"input": x.astype(np.float64)}, {})


@pytest.mark.parametrize("value", [0.5, 256.0, -1.0, 1e30])
def test_inputs_that_hold_codes_are_checked_as_in_a_run(value: float) -> None:
    """They were once cut off to whole numbers of the type, without a word."""
    session = InferenceSession(chain(3, 5, 7))
    given = session.get_inputs()[0]
    x = np.full((2, *given.shape[1:]), 1, np.float32)
    assert run_with(session.program, {given.name: x}, {})
    x[1] = value
    for run in (lambda: session.run(None, {given.name: x}), lambda: run_with(session.program, {given.name: x}, {})):
        with pytest.raises(InputError, match=r"it holds codes, whole numbers from 0 to 255"):
            run()


def test_real_exports_from_the_codes_of_their_input_stage(export: Export) -> None:
    session = InferenceSession(export.model)
    name = session.get_inputs()[0].name
    x = export.inputs()[[0, 70]]
    stages = [stage.output for stage in session.program.quantize_stages if stage.input == name]
    trace = session.trace({name: x}, [*stages, *session.program.outputs])
    results = run_with(session.program, {}, {stage: trace[stage] for stage in stages})
    assert stages
    assert equal(results, trace)
