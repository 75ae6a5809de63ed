"""The parts that a witness is found with: exact solutions, failing values, linear forms, input codes, the search itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.bounds import Interval, Property, analyse
from npusim.bounds.channels import channel_bounds
from npusim.bounds.float_proof import Disagreement, FloatPath, decide_exhaustively
from npusim.bounds.witness import failing_values
from npusim.bounds.witness.failing_values import failing_digits, failing_in_floats, failing_in_int32
from npusim.bounds.witness.layer_solution import LayerSolver
from npusim.bounds.witness.observation import observation
from npusim.bounds.witness.results import _decimal
from npusim.errors import ModelError
from npusim.graph import TensorType
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import extract
from npusim.program import Accumulating, Clip, FloatOperation, Operator, ShiftFloor
from npusim.program.accumulation import accumulate
from npusim.program.terms import terms_of
from npusim.search.budget import Budget
from npusim.search.changes import Changes
from npusim.search.combination import combine
from npusim.search.input_codes import InputCodes
from npusim.search.sampling import generate_inputs
from npusim.search.toward_values import Search
from npusim.search.wanted_values import WantedValues
from support import ROOT
from support.builders import GraphBuilder
from support.strategies import Network, networks


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_combination_is_found_exactly_where_there_is_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 4))
    weights, lower, room = (
        np.array(data.draw(st.lists(st.integers(*ends), min_size=count, max_size=count)), np.int64)
        for ends in ((-12, 12), (-4, 3), (0, 4))
    )
    upper = lower + room
    sums = {int(np.dot(weights, x)) for x in product(*(range(a, b + 1) for a, b in zip(lower, upper, strict=True)))}
    for target in range(min(sums) - 2, max(sums) + 3):
        x = combine(weights, lower, upper, target)
        assert (x is not None) is (target in sums)
        if x is not None:
            assert int(np.dot(weights, x)) == target
            assert ((lower <= x) & (x <= upper)).all()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 9, 127, 255]), st.sampled_from([3, 40, 2000]))
def test_combination_of_many_codes(seed: int, largest: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.integers(-largest, largest + 1, count)
    lower = generator.integers(-255, 1, count)
    upper = lower + generator.integers(0, 256, count)
    wanted = int(np.dot(weights, generator.integers(lower, upper + 1)))
    x = combine(weights, lower, upper, wanted)
    assert x is not None
    assert int(np.dot(weights, x)) == wanted
    assert ((lower <= x) & (x <= upper)).all()


@settings(max_examples=60)
@given(networks())
def test_linear_forms_equal_the_accumulator(network: Network) -> None:
    generator = np.random.default_rng(network.seed)
    program = InferenceSession(network.model).program
    for layer in program.layers:
        if not isinstance(layer, Accumulating):
            continue
        codes = {name: generator.integers(-100, 100, program.tensors[name].shape) for name in layer.inputs}
        inputs = [codes[name] for name in layer.inputs]
        accumulator = accumulate(layer, inputs)
        for flat in generator.integers(0, accumulator.size, 6):
            index = tuple(int(item) for item in np.unravel_index(flat, accumulator.shape[1:]))
            form = terms_of(layer, index)
            chosen = [inputs[number].reshape(-1)[place] for number, place in zip(form.inputs, form.places, strict=True)]
            assert int(np.dot(form.weights, chosen)) == accumulator[(0, *index)]


@pytest.mark.slow
@settings(max_examples=60)
@given(networks())
def test_every_value_that_occurs_is_solved_for(network: Network) -> None:
    """Codes of random model inputs give an accumulator; the solver finds codes for it, in range and with that accumulator."""
    session = InferenceSession(network.model)
    program = session.program
    found = analyse(program)
    trace = session.trace(generate_inputs(program, 3, seed=network.seed))
    for layer in program.layers:
        if not isinstance(layer, Accumulating):
            continue
        for statement in (Property.ONNXRUNTIME_EXACT, Property.DIGIT_18BIT):
            watched = observation(layer, statement)
            if statement is Property.DIGIT_18BIT and watched.digits is None:
                continue
            # a residual may hide what is behind it, which is tested with the witnesses
            watched = replace(watched, residual=None)
            values = watched.values(trace)[2]
            row, position = (int(item) for item in np.unravel_index(network.seed % values.size, values.shape))
            value = int(values[row, position])
            single = WantedValues(np.array([row]), np.array([value]), np.array([value]))
            solver = LayerSolver(found.layers[layer.name], watched, single)
            solution = next(solver.solutions(0))
            codes = [solution.inputs[name] for name in layer.inputs]
            place = solution.place
            assert accumulate(layer, codes, watched.weights(place.digit))[(0, *place.index)] == value
            for part, box in zip(codes, found.layers[layer.name].inputs, strict=True):
                assert ((box.lower <= part) & (part <= box.upper)).all()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_failing_values_are_all_that_floats_get_wrong(seed: int) -> None:
    generator = np.random.default_rng(seed)
    bias, scale, shift = generator.integers(-(10**6), 10**6, 3), generator.integers(-255, 256, 3), generator.integers(9, 20, 3)
    operations = (
        FloatOperation(Operator.ADD, bias.astype(float)),
        FloatOperation(Operator.MULTIPLY, scale.astype(float)),
        FloatOperation(Operator.MULTIPLY, 2.0**-shift),
        FloatOperation(Operator.FLOOR, bias.astype(float)),
    )
    clip = Clip(*sorted(generator.integers(-30000, 30000, 2).tolist()))
    path = FloatPath(operations, np.dtype(np.float32), ShiftFloor(bias, scale, shift, clip=clip))
    middle = generator.integers(-2 * 10**6, 2 * 10**6, 3)
    lower, upper = middle - generator.integers(0, 1500, 3), middle + generator.integers(0, 1500, 3)
    wanted = [(place.channel, place.accumulator) for place in decide_exhaustively(path, lower, upper).disagreements]
    found = found_in_floats(path, Interval(lower, upper))
    rows = zip(found.rows, found.lower, found.upper, strict=True)
    listed = [(int(row), value) for row, first, last in rows for value in range(first, last + 1)]
    assert listed == sorted(wanted)
    check_nearest(found, listed, generator)


def found_in_floats(path: FloatPath, interval: Interval) -> WantedValues:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failing_values, "float_path", lambda layer, dtype: path)
        found = failing_in_floats(SimpleNamespace(layer=None, accumulator=interval), path.dtype)
    assert found is not None
    return found


def check_nearest(failing: WantedValues, listed: list[tuple[int, int]], generator: np.random.Generator) -> None:
    if not listed:
        return
    values = np.array([value for _, value in listed])
    asked = generator.integers(values.min() - 50, values.max() + 50, (2, failing.present.size, 20))
    distance, run = failing.nearest(asked)
    for number, row in enumerate(failing.present):
        own = np.array([value for other, value in listed if other == row])
        np.testing.assert_array_equal(
            np.abs(distance[:, number]), np.abs(own - asked[:, number, :, None]).min(axis=2), err_msg="distance"
        )
        assert np.isin(asked[:, number] + distance[:, number], own).all()
        assert (failing.rows[run[:, number]] == row).all()


def test_failing_values_of_a_known_channel() -> None:
    """(a + 0) * 247 >> 17: only 81721 * 247 = 154 * 2^17 - 1 is rounded across a multiple of 2^17."""
    scale, shift = np.array([247]), np.array([17])
    operations = (
        FloatOperation(Operator.MULTIPLY, scale.astype(float)),
        FloatOperation(Operator.MULTIPLY, 2.0**-shift),
        FloatOperation(Operator.FLOOR, scale.astype(float)),
    )
    path = FloatPath(operations, np.dtype(np.float32), ShiftFloor(np.array([0]), scale, shift, clip=Clip(0, 255)))
    found = found_in_floats(path, Interval(np.array([-(2**17)]), np.array([2**17])))
    assert (found.rows.tolist(), found.lower.tolist(), found.upper.tolist()) == ([0], [81721], [81721])
    assert decide_exhaustively(path, np.array([81721]), np.array([81721])).disagreements == (
        Disagreement(0, 81721, 153, 154.0),
    )


@pytest.mark.parametrize("scale", [255, -255, 1, 0])
def test_int32_limits_are_exact(scale: int) -> None:
    part = ShiftFloor(np.array([-7]), np.array([scale]), np.array([20]), clip=Clip(0, 255))
    reach = Interval(np.array([-(2**34)]), np.array([2**34]))
    found = failing_in_int32(SimpleNamespace(accumulator=reach, layer=SimpleNamespace(requantization=part)))
    ends = sorted((*found.lower.tolist(), *found.upper.tolist()))
    if scale == 0:
        assert ends == []
        return
    assert (ends[0], ends[-1]) == (-(2**34), 2**34)

    def fits(value: int) -> bool:
        return -(2**31) <= (value - 7) * scale < 2**31

    assert [fits(value) for value in (ends[1], ends[1] + 1, ends[2] - 1, ends[2])] == [False, True, True, False]


def test_digit_limits_are_exact() -> None:
    reach = Interval(np.array([-(2**17), 0]), np.array([2**17 - 1, 2**17]))
    found = failing_digits(SimpleNamespace(digits=(reach, Interval(reach.lower - 1, reach.upper))))
    assert list(zip(found.rows.tolist(), found.lower.tolist(), found.upper.tolist(), strict=True)) == [
        (1, 2**17, 2**17),
        (2, -(2**17) - 1, -(2**17) - 1),
        (3, 2**17, 2**17),
    ]


@pytest.mark.slow
@settings(max_examples=60)
@given(networks())
def test_levels_stand_for_the_codes_of_the_input_stage(network: Network) -> None:
    session = InferenceSession(network.model)
    codes = InputCodes(session.program)
    stage = session.program.quantize_stages[0]
    generator = np.random.default_rng(network.seed)
    levels = generator.integers(0, codes.limits + 1, (3, codes.size))
    feeds = codes.feeds(levels)
    traced = session.trace(feeds, stage.output)[stage.output].astype(np.int64).reshape(3, -1)
    moving = np.broadcast_to(stage.multiplier != 0, session.program.tensors["input"].shape).reshape(-1)
    np.testing.assert_array_equal((traced - stage.clip.lower)[:, moving], levels[:, moving])
    np.testing.assert_array_equal(codes.levels(feeds), levels)


def test_search_finds_a_sum_and_keeps_to_its_budget() -> None:
    """Values are weighted sums of the levels; the only failing one is far from what random levels give."""
    weights = np.array([31, -17, 5, 3, 2, 1, 11, -7])
    limits = np.full(8, 255)

    def evaluate(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (levels @ weights).reshape(-1, 1, 1), np.zeros((len(levels), 1, 1), np.int64)

    def search(value: int, budget: Budget) -> Search:
        goal = WantedValues(np.array([0]), np.array([value]), np.array([value]))
        return Search(evaluate, goal, limits, budget, seed=1, starts=np.zeros((0, 8), np.int64), elements=1)

    wanted = int((limits * np.maximum(weights, 0)).sum()) - 4
    hit = next(iter(search(wanted, Budget(60))))
    assert int(hit.levels @ weights) == wanted
    assert (hit.row, hit.position) == (0, 0)
    assert ((hit.levels >= 0) & (hit.levels <= limits)).all()
    budget = Budget(1e6, 1000)
    beyond = search(wanted + 10, budget)
    assert list(beyond) == []
    assert 1000 <= budget.used < 1500
    assert beyond.nearest == 6


def test_search_does_not_stop_at_hits_that_are_refused() -> None:
    """Whoever goes on asking gets other hits."""

    def evaluate(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return levels[:, :1, None], np.zeros((len(levels), 1, 1), np.int64)

    goal = WantedValues(np.array([0]), np.array([77]), np.array([77]))
    budget = Budget(1e6, 5000)
    hits = list(Search(evaluate, goal, np.full(3, 255), budget, seed=0, starts=np.zeros((0, 3), np.int64), elements=1))
    assert len(hits) > 5
    assert {int(hit.levels[0]) for hit in hits} == {77}


def test_shares_of_a_budget() -> None:
    whole = Budget(100.0, 90)
    part = whole.share(3)
    assert (part.evaluations, part.spent) == (30, False)
    assert part.seconds <= 100 / 3
    part.take(30)
    assert (part.spent, whole.used, whole.spent) == (True, 30, False)
    assert whole.share(2).evaluations == 30


def test_changes_stay_within_the_limits() -> None:
    limits = np.array([0, 1, 255, 15])
    changes = Changes(np.random.default_rng(0), limits, 64)
    parents = changes.fresh()
    for _ in range(30):
        children = changes.children(parents[3], parents)
        assert ((children >= 0) & (children <= limits)).all()
        assert (children != parents[3]).any()


def test_part_of_a_model_computes_the_same() -> None:
    content = (ROOT / "golden" / "vibration_w8.onnx").read_bytes()
    session = InferenceSession(content)
    layer = session.program.layers[2]
    tensor = session.program.tensors[layer.inputs[0]]
    part = extract(session.model, {layer.inputs[0]: TensorType(tensor.dtype, tensor.shape)}, [layer.output])
    nodes = onnx.load_from_string(part.content).graph.node
    assert (nodes[0].op_type, len(nodes)) == ("Conv", len(layer.nodes))
    trace = session.trace(generate_inputs(session.program, 4), [layer.inputs[0], layer.output])
    (theirs,) = InferenceSession(part.content).run(None, {layer.inputs[0]: trace[layer.inputs[0]].astype(np.float32)})
    np.testing.assert_array_equal(theirs, trace[layer.output])


def test_part_of_a_model_needs_its_inputs() -> None:
    graph = GraphBuilder((1, 4))
    model = ModelFile(None, graph.model(graph.node("Relu", graph.node("Neg", "input"))))
    with pytest.raises(ModelError, match="tensor 'input' of the model given as bytes is needed for 't2_Relu'"):
        extract(model, {}, ["t2_Relu"])
    part = onnx.load_from_string(extract(model, {"t1_Neg": TensorType(np.dtype(np.float32), (1, 4))}, ["t2_Relu"]).content)
    assert [item.name for item in part.graph.input] == ["t1_Neg"]
    assert [node.op_type for node in part.graph.node] == ["Relu"]


def test_channel_bounds_of_a_network_have_no_failing_values() -> None:
    session = InferenceSession(ROOT / "golden" / "vibration_w4.onnx")
    for bounds in analyse(session.program).layers.values():
        found = failing_in_floats(channel_bounds(bounds), np.dtype(np.float32))
        assert found is not None
        assert len(found) == 0
        assert len(failing_digits(channel_bounds(bounds))) == 0


@given(st.integers(-(2**40), 2**40), st.integers(0, 30))
@example(0, 0)
@example(0, 3)
@example(-1, 2)
def test_decimals_of_dyadic_fractions_are_exact(numerator: int, power: int) -> None:
    value = Fraction(numerator, 2**power)
    text = _decimal(value)
    assert Fraction(text) == value
    assert text.startswith("-") == (value < 0)
