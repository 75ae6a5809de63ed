"""The choice of samples: reproducible, a beginning of every longer choice, and better than chance at catching wrong devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from npusim import InferenceSession
from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.golden.choice import ChosenSamples, choose_samples, measure_coverage
from npusim.search.sampling import generate_inputs
from support import ROOT, engine_cases
from support.builders import GraphBuilder
from support.models import model_of
from support.wrong_devices import caught, wrong_devices

Feeds = dict[str, npt.NDArray[np.generic]]


def network() -> bytes:
    """Two convolutions, a maximum pool, a global average and a classifier: every kind of goal in a second."""
    generator = np.random.default_rng(11)
    graph = GraphBuilder((1, 2, 24, 1))
    codes = graph.input_stage([0.5, -3.0], [90, -70], [5, 4])
    weights, bias = generator.integers(-60, 61, (8, 2, 5, 1)), generator.integers(-2000, 2000, 8)
    first = graph.convolution(codes, weights, bias, [1] * 8, [7] * 8, (0, 255), pads=(2, 0, 2, 0))
    pooled = graph.node("MaxPool", first, kernel_shape=[2, 1], strides=[2, 1])
    weights, bias = generator.integers(-7, 8, (8, 8, 3, 1)), generator.integers(-200, 200, 8)
    second = graph.convolution(pooled, weights, bias, generator.integers(128, 256, 8), [11] * 8, (0, 255), pads=(1, 0, 1, 0))
    averaged = graph.global_average(second, 4, 1, 3, (0, 255))
    weights = generator.integers(-90, 91, (8, 4))
    scores = graph.fully_connected(averaged, weights, generator.integers(-2000, 2000, 4), [1] * 4, [8] * 4, (-128, 127))
    return graph.model(scores)


@pytest.fixture(scope="module")
def session() -> InferenceSession:
    return InferenceSession(network())


@pytest.fixture(scope="module")
def chosen(session: InferenceSession) -> ChosenSamples:
    return choose_samples(session, None, 8)


@pytest.mark.slow
def test_fewer_samples_are_the_beginning_of_more(session: InferenceSession, chosen: ChosenSamples) -> None:
    fewer = choose_samples(session, None, 3)
    np.testing.assert_array_equal(fewer.inputs["input"], chosen.inputs["input"][:3])
    assert fewer.reasons == chosen.reasons[:3]
    before, after = fewer.coverage.goals, chosen.coverage.goals
    assert all(after[name].reached >= share.reached for name, share in before.items())
    assert chosen.coverage.total.reached > fewer.coverage.total.reached
    data = generate_inputs(session.program, 30, seed=4)
    picked = [choose_samples(session, data, count).indices for count in (1, 5, 12)]
    assert picked[2][:5] == picked[1]
    assert picked[1][:1] == picked[0]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_samples(session: InferenceSession, chosen: ChosenSamples) -> None:
    again = choose_samples(InferenceSession(network(), threads=1), None, 3)
    np.testing.assert_array_equal(again.inputs["input"], chosen.inputs["input"][:3])
    other = choose_samples(session, None, 3, seed=1)
    assert not np.array_equal(other.inputs["input"], again.inputs["input"])


@pytest.mark.slow
def test_what_is_said_of_chosen_samples(session: InferenceSession, chosen: ChosenSamples) -> None:
    x = chosen.inputs["input"]
    assert (x.shape, x.dtype) == ((8, 2, 24, 1), np.float32)
    assert len(np.unique(x, axis=0)) == 8
    assert chosen.indices == ()
    assert chosen.coverage == measure_coverage(session, chosen.inputs)
    assert chosen.coverage.samples == len(chosen.reasons) == 8
    assert all(reason.endswith(".") and ": first to show " in reason for reason in chosen.reasons[:4])
    classes = session.run(None, chosen.inputs)[0].argmax(axis=1)
    seen = {number for number in range(4) if any(f"class {number}" in reason for reason in chosen.reasons)}
    assert seen == set(classes.tolist())


@pytest.mark.slow
def test_chosen_samples_cover_more_than_generated_ones(session: InferenceSession, chosen: ChosenSamples) -> None:
    for seed in range(3):
        generated = measure_coverage(session, generate_inputs(session.program, 8, seed=seed)).total.reached
        assert chosen.coverage.total.reached > 1.1 * generated


def random_samples(session: InferenceSession, count: int, seed: int) -> Feeds:
    tensor = session.program.tensors["input"]
    ends = generate_inputs(session.program, 2)["input"].astype(np.float64)
    x = np.random.default_rng(seed).uniform(ends[0], ends[1], (count, *tensor.shape[1:]))
    return {"input": x.astype(np.float32)}


@pytest.mark.parametrize("count", [2, 8])
def test_chosen_samples_catch_wrong_devices_that_random_ones_do_not(
    session: InferenceSession, chosen: ChosenSamples, count: int
) -> None:
    """Wrong roundings, saturations, bytes read with the wrong sign, wrong biases, weights and channels: layer by layer."""
    devices = wrong_devices(session.program, seed=2)
    assert len({device.fault for device in devices}) >= 12
    ours = caught(session, devices, {"input": chosen.inputs["input"][:count]})
    random = [caught(session, devices, random_samples(session, count, seed)) for seed in range(5)]
    assert sum(ours.at_output) > max(sum(other.at_output) for other in random)
    assert sum(ours.at_layer) > max(sum(other.at_layer) for other in random)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vibration_w8", "vibration_w4"])
def test_samples_picked_from_data_catch_more_than_others_of_the_data(name: str) -> None:
    session = InferenceSession(ROOT / "golden" / f"{name}.onnx")
    name = session.program.inputs[0]
    with np.load(ROOT / "golden" / "vibration_inputs.npz") as arrays:
        x = next(arrays[key] for key in arrays.files if arrays[key].ndim == len(session.program.tensors[name].shape))
    picked = choose_samples(session, {name: x}, 4)
    np.testing.assert_array_equal(picked.inputs[name], x[list(picked.indices)])
    assert [reason.split(":")[0] for reason in picked.reasons] == [f"Sample {index} of the data" for index in picked.indices]
    generator = np.random.default_rng(0)
    others = [x[generator.permutation(len(x))[:4]] for _ in range(5)]
    assert picked.coverage.total.reached > max(measure_coverage(session, {name: other}).total.reached for other in others)
    devices = wrong_devices(session.program, seed=3, channels=2)
    ours = sum(caught(session, devices, picked.inputs).at_output)
    assert ours > np.mean([sum(caught(session, devices, {name: other}).at_output) for other in others])


def test_classes_are_found_that_random_inputs_never_show() -> None:
    """Four classes that compare halves of the input with a bias that only inputs near a corner overcome."""
    generator = np.random.default_rng(8)
    graph = GraphBuilder((1, 32))
    codes = graph.input_stage(np.zeros(32), np.full(32, 16), np.full(32, 4))
    hidden = graph.fully_connected(codes, np.eye(32, dtype=np.int64), np.full(32, 128), [1] * 32, [0] * 32, (0, 255))
    weights = generator.choice([-1, 1], (32, 4)) * np.array([1, 30, 30, 30])
    balance = -128 * weights.sum(axis=0) + np.array([60000, 0, 0, 0])
    session = InferenceSession(graph.model(graph.fully_connected(hidden, weights, balance, [1] * 4, [10] * 4, (-128, 127))))
    random = session.run(None, random_samples(session, 2000, 5))[0].argmax(axis=1)
    assert set(random.tolist()) == {0}
    found = choose_samples(session, None, 4)
    assert set(session.run(None, found.inputs)[0].argmax(axis=1).tolist()) == {0, 1, 2, 3}
    assert str(found.coverage.goals["class"]) == "4/4"


@pytest.mark.slow
def test_data_are_read_from_the_disk_part_by_part(session: InferenceSession, tmp_path: Path) -> None:
    x = random_samples(session, 3000, 7)["input"]
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    seen: list[tuple[int, int]] = []
    picked = choose_samples(session, {"input": mapped}, 3, progress=lambda done, count: seen.append((done, count)))
    assert seen[-1] == (3000, 3000)
    assert len(seen) > 3
    assert not isinstance(picked.inputs["input"], np.memmap)
    assert picked.indices == choose_samples(session, {"input": x}, 3).indices


def test_equal_samples_are_chosen_last(session: InferenceSession) -> None:
    x = random_samples(session, 6, 3)["input"]
    picked = choose_samples(session, {"input": np.concatenate([x, x])}, 12)
    assert sorted(picked.indices) == list(range(12))
    assert len(set(np.array(picked.indices[:6]) % 6)) == 6


@pytest.mark.slow
def test_two_inputs() -> None:
    session = InferenceSession(engine_cases.two_inputs())
    found = choose_samples(session, None, 3)
    assert {name: array.shape for name, array in found.inputs.items()} == {"input": (3, 4, 6, 1), "second": (3, 4, 6, 1)}
    assert found.coverage == measure_coverage(session, found.inputs)
    assert [row.kind for row in found.coverage.layers][:2] == ["QUANTIZE", "QUANTIZE"]
    data = generate_inputs(session.program, 9)
    picked = choose_samples(session, data, 2)
    for name, array in data.items():
        np.testing.assert_array_equal(picked.inputs[name], array[list(picked.indices)])


@pytest.mark.slow
def test_an_output_in_the_middle() -> None:
    """An error behind an output cannot show there, and an error of the output itself always does."""
    graph = GraphBuilder((1, 2, 8, 1))
    generator = np.random.default_rng(0)
    codes = graph.input_stage([0, 0], [16, 16], [4, 4])
    first = graph.convolution(codes, generator.integers(-9, 9, (3, 2, 3, 1)), np.zeros(3), [1] * 3, [3] * 3, (-128, 127))
    last = graph.convolution(first, generator.integers(-9, 9, (4, 3, 3, 1)), np.zeros(4), [1] * 4, [4] * 4, (-128, 127))
    for outputs in ((first, last), (codes, last), (last, first)):
        session = InferenceSession(graph.model(*outputs))
        found = choose_samples(session, None, 2)
        rows = {row.layer: row for row in found.coverage.layers}
        stage, earlier, later = (step.name for step in session.program.steps)
        assert ("code_error_shows" in rows[stage].goals) == (codes not in outputs)
        assert ("code_error_shows" in rows[earlier].goals) == (first not in outputs)
        assert "code_error_shows" not in rows[later].goals


def test_more_samples_than_different_inputs() -> None:
    node = helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT)
    graph = GraphBuilder((1, 1))
    scores = graph.fully_connected("x", np.array([[3, -2]]), np.array([5, 7]), [1, 1], [2, 2], (-128, 127))
    model = onnx.load_from_string(graph.model(scores))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.BOOL, (1, 1)))
    model.graph.node.insert(0, node)
    found = choose_samples(InferenceSession(model.SerializeToString()), None, 5)
    assert sorted(found.inputs["input"][:2, 0].tolist()) == [False, True]
    assert found.inputs["input"].shape == (5, 1)


def test_a_model_that_takes_codes() -> None:
    session = InferenceSession(engine_cases.integer_input_model(TensorProto.INT8))
    (found,) = choose_samples(session, None, 3).inputs.values()
    assert (len(found), found.dtype) == (3, np.int8)


def test_a_float_model_gets_samples_and_no_coverage() -> None:
    graph = GraphBuilder((1, 5))
    session = InferenceSession(graph.model(graph.node("Relu", graph.binary("Mul", "input", 2.0))))
    found = choose_samples(session, None, 70)
    assert found.inputs["input"].shape == (70, 5)
    assert found.coverage.layers == ()
    assert found.reasons[0] == "Generated."
    np.testing.assert_array_equal(choose_samples(session, None, 66).inputs["input"], found.inputs["input"][:66])
    data = {"input": np.arange(40, dtype=np.float32).reshape(8, 5)}
    assert choose_samples(session, data, 8).indices == tuple(range(8))


def test_what_cannot_be_chosen(session: InferenceSession) -> None:
    data = random_samples(session, 4, 1)
    with pytest.raises(UsageError, match=r"0 samples are to be chosen, wanted at least 1"):
        choose_samples(session, data, 0)
    with pytest.raises(UsageError, match=r"5 samples are to be chosen from 4; ask for at most 4"):
        choose_samples(session, data, 5)
    with pytest.raises(InputError, match="input"):
        choose_samples(session, {"input": data["input"][:, :1]}, 2)
    with pytest.raises(InputError, match="'input'"):
        choose_samples(session, {"x": data["input"]}, 2)


def test_a_model_without_a_batch_axis() -> None:
    node = helper.make_node("Relu", ["input"], ["output"])
    model = model_of([node], {"input": (np.float32, (3, 4))}, {"output": (np.float32, (3, 4))})
    onnx.checker.check_model(model)
    with pytest.raises(UnsupportedError, match="no batch axis of one sample"):
        choose_samples(InferenceSession(model), None, 2)
