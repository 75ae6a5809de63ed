"""The parts behind the choice: greedy cover, directions followed back, values moved within their codes, made-up signals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.engine.input_stages import stage_codes
from npusim.golden.choice.cover import AGAIN, LazyGreedy, greedy_order, pack, row_gains, unpack
from npusim.golden.choice.search import Evaluator, Searcher
from npusim.golden.choice.signals import move_within_codes, signal_levels
from npusim.golden.goals import Goal
from npusim.program import Accumulating, LayerKind
from npusim.program.input_stage import InputStage
from npusim.program.terms import terms_of
from npusim.search.back_projection import back_project
from npusim.search.input_codes import InputCodes
from npusim.search.sampling import generate_inputs
from support import engine_cases
from support.builders import GraphBuilder


def plain_greedy(reached: npt.NDArray[np.bool_], weights: npt.NDArray[np.int64], count: int) -> list[int]:
    """By definition: all samples looked at in every round."""
    left, chosen = weights.copy(), []
    for _ in range(count):
        gains = [-1 if number in chosen else int(left[row].sum()) for number, row in enumerate(reached)]
        chosen.append(int(np.argmax(gains)))
        left[reached[chosen[-1]]] >>= AGAIN
    return chosen


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32), samples=st.integers(1, 30), goals=st.integers(0, 40), share=st.sampled_from([0.05, 0.3, 0.9])
)
def test_lazy_greedy_chooses_what_greedy_does(seed: int, samples: int, goals: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    reached = generator.random((samples, goals)) < share
    weights = generator.integers(0, 2**20, goals)
    expected = plain_greedy(reached, weights, samples)
    assert greedy_order(pack(reached), weights, samples) == expected
    assert greedy_order(pack(reached), weights, samples // 2) == expected[: samples // 2]
    np.testing.assert_array_equal(row_gains(pack(reached), weights), [int(weights[row].sum()) for row in reached])


def test_more_may_become_known_of_a_sample() -> None:
    reached = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], np.bool_)
    greedy = LazyGreedy(pack(reached), np.array([8, 4, 64]))
    assert greedy.best(2) == [0, 1]
    greedy.replace(1, pack(np.array([[1, 0, 1]], np.bool_)))
    assert greedy.best(3) == [1, 0, 2]
    greedy.take(1)
    assert (greedy.best(3), greedy.gain(0), greedy.gain(1)) == ([0, 2], 4, 2)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("strided", lambda: engine_cases.convolution((6, 20, 1), 4, kernel=(3, 1), strides=(2, 1), pads=(2, 0, 1, 0))),
        ("dilated", lambda: engine_cases.convolution((6, 9, 8), 4, kernel=(3, 3), dilations=(2, 2), pads=(2, 2, 2, 2))),
        ("grouped", lambda: engine_cases.convolution((6, 9, 8), 4, kernel=(2, 3), group=2, pads=(1, 0, 0, 2))),
        ("depthwise", lambda: engine_cases.convolution((6, 9, 8), 6, kernel=(3, 3), group=6, strides=(2, 2))),
        ("transposed", lambda: engine_cases.transposed((4, 5, 3), 6, (3, 2), group=2, strides=(2, 2), pads=(1, 0, 0, 1))),
        ("average", lambda: engine_cases.average((4, 9, 8), (3, 2), (2, 2), (1, 0, 1, 1))),
        ("global", lambda: engine_cases.reduction((2, 3), keepdims=False)),
        ("dense", lambda: engine_cases.fully_connected(12)),
        ("sum", lambda: engine_cases.residual((4, 6, 5), plain=False)),
        ("residual", lambda: engine_cases.residual((4, 6, 5), plain=True)),
    ],
)
def test_directions_through_one_layer_are_its_weights(name: str, make: object) -> None:
    session = InferenceSession(make())
    program = session.program
    layers = [layer for layer in program.layers if isinstance(layer, Accumulating)]
    layer = next((item for item in layers if item.kind is LayerKind.ADD), layers[0])
    source = layer.inputs[0]
    stage = program.quantize_stages[0]
    assert stage.output == (source if layer.kind is not LayerKind.ADD else layer.inputs[1])
    tensors = session.trace(generate_inputs(program, 1), [item.output for item in program.layers])
    generator = np.random.default_rng(3)
    for _ in range(6):
        index = tuple(int(generator.integers(size)) for size in layer.accumulator_shape[1:])
        wanted = np.zeros((1, *layer.accumulator_shape[1:]))
        wanted[(0, *index)] = 1
        found = back_project(program, tensors, {layer.name: wanted})
        form = terms_of(layer, index)
        expected = np.zeros(int(np.prod(layer.input_shape)))
        if layer.kind is not LayerKind.ADD:
            np.add.at(expected, form.places, form.weights)
            moved = found["input"].reshape(-1)
            np.testing.assert_array_equal(moved * np.abs(expected).max(), expected * np.abs(moved).max())
        else:
            place = np.ravel_multi_index(index, layer.accumulator_shape[1:])
            assert found["input"].reshape(-1)[place] > 0


@pytest.mark.parametrize("depth", ["maximum", "transposes", "concat"])
def test_following_directions_raises_the_accumulator(depth: str) -> None:
    """Behind several layers directions promise nothing; they have to lead further than chance does."""
    graph = GraphBuilder((1, 3, 24, 1))
    generator = np.random.default_rng(5)
    codes = graph.input_stage(np.zeros(3), [64, -64, 64], [0, 0, 0])

    def layer(source: str, inputs: int, outputs: int) -> str:
        weights, bias = generator.integers(-40, 41, (outputs, inputs, 3, 1)), generator.integers(-300, 300, outputs)
        return graph.convolution(source, weights, bias, [1] * outputs, [6] * outputs, (0, 255), pads=(1, 0, 1, 0))

    first = layer(codes, 3, 8)
    if depth == "maximum":
        last = layer(graph.node("MaxPool", first, kernel_shape=[2, 1], strides=[2, 1]), 8, 6)
    elif depth == "concat":
        last = layer(graph.node("Concat", first, layer(codes, 3, 4), axis=1), 12, 6)
    else:
        last = layer(graph.node("Transpose", graph.node("Transpose", first, perm=[0, 2, 1, 3]), perm=[0, 2, 1, 3]), 8, 6)
    session = InferenceSession(graph.model(last))
    program, target = session.program, session.program.layers[-1]
    if depth == "maximum":
        target = next(item for item in reversed(program.layers) if isinstance(item, Accumulating))
    inputs = InputCodes(program)
    levels = np.repeat(inputs.limits[None] // 2, 6, axis=0)
    wanted = np.zeros((6, *target.accumulator_shape[1:]))
    wanted[np.arange(6), np.arange(6), 4] = 1
    tap = target.taps[0].tensor

    def values(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return session.trace(inputs.feeds(levels), tap)[tap][:, :, 4, 0]

    best = values(levels)[range(6), range(6)]
    for _ in range(40):
        tensors = session.trace(inputs.feeds(levels), [item.output for item in program.layers])
        directions = back_project(program, tensors, {target.name: wanted})["input"].reshape(6, -1)
        directions = directions * (generator.random(directions.shape) < generator.choice([0.1, 0.3, 1]))
        moved = np.where(directions > 0, inputs.limits, np.where(directions < 0, 0, levels))
        reached = values(moved)[range(6), range(6)]
        levels = np.where((reached > best)[:, None], moved, levels)
        best = np.maximum(reached, best)
    random = values(generator.integers(0, inputs.limits + 1, (2000, inputs.size))).max(axis=0)
    assert (best > random).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_values_move_but_their_codes_stay(bits: int) -> None:
    graph = GraphBuilder((1, 3, 40, 1))
    codes = graph.input_stage([0.3, -7.1, 2.2], [300, -251, 4095], [4, 6, 11], bits)
    model = graph.model(graph.convolution(codes, np.ones((2, 3, 1, 1), np.int64), np.zeros(2), [1, 1], [2, 2], (-128, 127)))
    session = InferenceSession(model)
    stage = session.program.quantize_stages[0]
    feeds = InputCodes(session.program)
    generator = np.random.default_rng(2)
    plain = feeds.feeds(generator.integers(0, feeds.limits + 1, (60, feeds.size)))
    moved = move_within_codes(session.program, plain, generator)
    before, after = (stage_codes(session.program, stage, part["input"], InputStage.GRAPH) for part in (plain, moved))
    np.testing.assert_array_equal(before, after)
    assert moved["input"].dtype == np.float32
    assert (moved["input"] != plain["input"]).mean() > 0.05
    evaluator = Evaluator(session)
    reached = {}
    for label, part in (("plain", plain), ("moved", moved)):
        found = unpack(evaluator.reached(part), evaluator.table.size).any(axis=0)
        reached[label] = {
            group.goal: found[group.columns].all() for group in evaluator.table.groups if group.meter.layer == stage.name
        }
    ends = (Goal.FIRST_OF_CODE, Goal.LAST_OF_CODE, Goal.LOWER_RAIL, Goal.UPPER_RAIL, Goal.MSPM0)
    assert not any(reached["plain"][goal] for goal in ends)
    assert [goal for goal in ends if not reached["moved"][goal]] == []


def test_a_search_only_improves() -> None:
    session = InferenceSession(engine_cases.convolution((3, 8, 5), 6, kernel=(3, 3), pads=(1, 1, 1, 1)))
    evaluator = Evaluator(session)
    searcher = Searcher(evaluator)
    starts = searcher.levels(generate_inputs(session.program, 4))
    before = row_gains(evaluator.reached(searcher.feeds(starts)), evaluator.weights).max()
    found = searcher.improve(starts, evaluator.weights, 300, np.random.default_rng(0))
    gains = row_gains(found.rows, evaluator.weights)
    assert gains[0] > before
    assert (np.diff(gains) <= 0).all()
    np.testing.assert_array_equal(evaluator.reached(searcher.feeds(found.levels)), found.rows)


def test_signals_fill_their_range() -> None:
    codes = InputCodes(InferenceSession(engine_cases.two_inputs()).program)
    levels = signal_levels(codes, 32, np.random.default_rng(1))
    assert levels.shape == (32, codes.size)
    assert levels.min() == 0
    assert (levels.max(axis=0) <= codes.limits).all()
    np.testing.assert_array_equal(levels, signal_levels(codes, 32, np.random.default_rng(1)))
