"""Coverage: goals are what their definitions say, and nothing that an input reaches is ever called unreachable."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.engine.input_stages import stage_codes
from npusim.engine.reference import finish_layer, run_step, run_steps
from npusim.golden.choice import measure_coverage
from npusim.golden.choice.cover import unpack
from npusim.golden.choice.search import Evaluator
from npusim.golden.goals import Coverage, Goal, GoalTable
from npusim.golden.goals.coverage import BOTH, Share
from npusim.golden.goals.effects import EffectMeter
from npusim.program import Accumulating, IntegerLayer
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import InputStage
from npusim.schemas.objects import json_object
from npusim.search.sampling import generate_inputs
from support import Export, engine_cases
from support.builders import GraphBuilder
from support.dense_layer import fully_connected
from support.mixed_strategies import MixedNetwork, mixed_networks
from support.strategies import Network, networks

EXACT = (
    Goal.LOWER_RAIL,
    Goal.UPPER_RAIL,
    Goal.NEGATIVE,
    Goal.POSITIVE,
    Goal.FIRST_OF_CODE,
    Goal.LAST_OF_CODE,
    Goal.TIE,
    Goal.SIGN,
)
"""Goals for which the proof says exactly what exists, for a layer whose accumulators are all integers of an interval."""


def reached_of(session: InferenceSession, feeds: dict[str, npt.NDArray[np.generic]]) -> tuple[GoalTable, npt.NDArray[np.bool_]]:
    evaluator = Evaluator(session)
    return evaluator.table, unpack(evaluator.with_effects(feeds, evaluator.reached(feeds)), evaluator.table.size)


def group_of(table: GoalTable, layer: str, goal: Goal) -> slice:
    return next(group.columns for group in table.groups if group.meter.layer == layer and group.goal is goal)


def clamp(value: int, lower: int, upper: int) -> int:
    return min(max(value, lower), upper)


def definitions(total: int, scale: int, shift: int, lower: int, upper: int) -> dict[Goal, bool]:
    """The goals of one value, by fractions; `total` is the accumulator with the bias."""
    exact = Fraction(total * scale, 2**shift)
    code = exact.numerator // exact.denominator
    final = clamp(code, lower, upper)

    def other(value: int) -> bool:
        return clamp(value, lower, upper) != final

    step = Fraction(abs(scale), 2**shift)
    before, behind = (int((exact + way * step).__floor__()) for way in (-1, 1))
    fraction = exact - code
    return {
        Goal.LOWER_RAIL: code < lower,
        Goal.UPPER_RAIL: code > upper,
        Goal.NEGATIVE: exact < 0,
        Goal.POSITIVE: exact > 0,
        Goal.FIRST_OF_CODE: other(before),
        Goal.LAST_OF_CODE: other(behind),
        Goal.TIE: fraction == Fraction(1, 2) and other(code + 1),
        Goal.ROUNDING: fraction >= Fraction(1, 2) and other(code + 1),
        Goal.TRUNCATION: exact < 0 and fraction > 0 and other(code + 1),
        Goal.SIGN: final < 0 if lower < 0 else final > 127,
    }


@pytest.mark.slow
@settings(max_examples=150)
@given(
    bias=st.integers(-300, 300),
    scale=st.integers(-9, 40),
    shift=st.integers(0, 9),
    clip=st.sampled_from([(0, 255), (-128, 127), (-255, 255), (0, 15), (3, 3), (-8, 7)]),
    weight=st.integers(0, 3),
)
def test_the_proof_says_exactly_which_goals_exist(
    bias: int, scale: int, shift: int, clip: tuple[int, int], weight: int
) -> None:
    """One code of -128 to 127 times a weight: every input is tried, and every value is checked by its definition."""
    session = InferenceSession(fully_connected(np.array([weight]), bias, scale, shift, clip))
    codes = np.arange(-128, 128)
    table, reached = reached_of(session, {"input": (codes + 0.5).astype(np.float32)[:, None]})
    layer = session.program.layers[-1].name
    wanted = [definitions(int(code) * weight + bias, scale, shift, *clip) for code in codes]
    for goal in (*EXACT, Goal.ROUNDING, Goal.TRUNCATION):
        columns = group_of(table, layer, goal)
        found = reached[:, columns][:, 0]
        assert found.tolist() == [value[goal] for value in wanted], goal
        possible = bool(table.possible[columns][0])
        assert possible or not found.any(), goal
        if goal in EXACT and weight == 1 and scale:
            assert possible == found.any(), goal


def residual_definitions(layer: IntegerLayer, total: int, channel: int, residual: int) -> dict[Goal, bool]:
    part, inner, outer = layer.requantization, layer.requantization.clip, layer.output_clip
    scale, shift = int(part.scale[channel]), int(part.shift[channel])

    def final(code: int) -> int:
        return clamp(clamp(code, inner.lower, inner.upper) + residual, outer.lower, outer.upper)

    code = total * scale >> shift
    unclipped = clamp(code + residual, outer.lower, outer.upper)
    return {
        Goal.LOWER_RAIL: clamp(code, inner.lower, inner.upper) + residual < outer.lower,
        Goal.UPPER_RAIL: clamp(code, inner.lower, inner.upper) + residual > outer.upper,
        Goal.INNER_LOWER: code < inner.lower and unclipped != final(code),
        Goal.INNER_UPPER: code > inner.upper and unclipped != final(code),
        Goal.FIRST_OF_CODE: final(total * scale - abs(scale) >> shift) != final(code),
        Goal.LAST_OF_CODE: final(total * scale + abs(scale) >> shift) != final(code),
        Goal.SIGN: final(code) < 0 if outer.lower < 0 else final(code) > 127,
    }


def test_goals_of_a_layer_with_a_residual() -> None:
    session = InferenceSession(engine_cases.residual((4, 6, 5), plain=True))
    layer = next(item for item in session.program.layers if item.kind == "PWCONVRES")
    feeds = generate_inputs(session.program, 8)
    table, reached = reached_of(session, feeds)
    tensors = run_steps(session.program, feeds, [*layer.tensors, *layer.inputs])
    biased = next(tap for tap in layer.taps if tap.addend is not None)
    totals = tensors[biased.tensor] - (biased.addend - layer.requantization.bias).reshape(-1, 1, 1)
    for sample in range(8):
        wanted: dict[Goal, list[bool]] = {}
        for channel in range(totals.shape[1]):
            values = zip(totals[sample, channel].ravel(), tensors[layer.inputs[1]][sample, channel].ravel(), strict=True)
            each = [residual_definitions(layer, int(total), channel, int(residual)) for total, residual in values]
            for goal in each[0]:
                wanted.setdefault(goal, []).append(any(item[goal] for item in each))
        for goal, expected in wanted.items():
            assert reached[sample, group_of(table, layer.name, goal)].tolist() == expected, goal


def check_sound(session: InferenceSession, feeds: dict[str, npt.NDArray[np.generic]]) -> None:
    table, reached = reached_of(session, feeds)
    wrong = reached.any(axis=0) & ~table.possible
    assert [(group.meter.layer, group.goal) for group in table.groups if wrong[group.columns].any()] == []


@pytest.mark.slow
@settings(max_examples=40)
@given(networks())
def test_nothing_reached_is_called_unreachable(network: Network) -> None:
    session = InferenceSession(network.model)
    check_sound(session, generate_inputs(session.program, 8, seed=network.seed))


@settings(max_examples=20)
@given(mixed_networks())
def test_nothing_reached_is_called_unreachable_in_branched_networks(network: MixedNetwork) -> None:
    session = InferenceSession(network.model)
    check_sound(session, generate_inputs(session.program, 8, seed=1))


def test_nothing_reached_is_called_unreachable_in_an_export(export: Export) -> None:
    session = InferenceSession(str(export.model))
    x = export.inputs()[[0, 20, 40, 64, 66, 68, 70, 72]]
    evaluator = Evaluator(session)
    reached = unpack(evaluator.reached({session.program.inputs[0]: x}), evaluator.table.size)
    assert not (reached.any(axis=0) & ~evaluator.table.possible).any()


def test_errors_that_show_are_those_of_a_wrong_bias_and_of_wrong_codes() -> None:
    """Each error is also made by changing the program and running all of it."""
    session = InferenceSession(engine_cases.convolution((3, 8, 5), 4, kernel=(3, 3), pads=(1, 1, 1, 1)))
    program = session.program
    feeds = generate_inputs(program, 7)
    table, reached = reached_of(session, feeds)
    right = run_steps(program, feeds, program.outputs)[program.outputs[0]]
    effects = [meter for meter in table.meters if isinstance(meter, EffectMeter)]
    assert effects
    for meter in effects:
        step = meter.step
        for goal in meter.possible:
            columns = reached[:, group_of(table, meter.layer, goal)].reshape(7, 2, len(meter.channels))
            for row, change in enumerate((1, -1)):
                for position, channel in enumerate(meter.channels):
                    wrong = _run_wrong(session, step, goal, channel, change, feeds)
                    shows = (wrong != right).reshape(7, -1).any(axis=1)
                    np.testing.assert_array_equal(columns[:, row, position], shows)


def _run_wrong(session: InferenceSession, step, goal: Goal, channel: int, change: int, feeds) -> npt.NDArray[np.generic]:
    program = session.program
    values = dict(feeds)
    for item in program.steps:
        made = run_step(program, item, values, set())
        if item is step and goal is Goal.SUM_SHOWS:
            codes = [values[name].astype(np.int64) for name in item.inputs]
            accumulator = accumulate(item, codes)
            accumulator[:, channel] += change
            made = finish_layer(item, accumulator, codes, set(), program)
        elif item is step:
            tensor = program.tensors[item.output]
            wrong = made[item.output].astype(np.int64)
            wrong[:, channel] += change
            made[item.output] = np.clip(wrong, tensor.lower, tensor.upper).astype(tensor.stored)
        values.update(made)
    return values[program.outputs[0]]


def test_input_stage_goals_are_what_the_nearest_floats_become() -> None:
    session = InferenceSession(engine_cases.convolution((2, 6, 1), 3, kernel=(3, 1)))
    stage = session.program.quantize_stages[0]
    x = generate_inputs(session.program, 40)["input"]
    table, reached = reached_of(session, {"input": x})
    codes = stage_codes(session.program, stage, x, InputStage.GRAPH).astype(int)
    around = [
        stage_codes(session.program, stage, np.nextafter(x, np.float32(end)), InputStage.GRAPH) for end in (-np.inf, np.inf)
    ]
    lowest, highest = np.minimum(*around), np.maximum(*around)
    mspm0 = stage_codes(session.program, stage, x, InputStage.MSPM0)
    wanted = {
        Goal.FIRST_OF_CODE: lowest < codes,
        Goal.LAST_OF_CODE: highest > codes,
        Goal.MSPM0: mspm0 != codes,
        Goal.SIGN: codes < 0,
    }
    for goal, expected in wanted.items():
        columns = group_of(table, stage.name, goal)
        np.testing.assert_array_equal(reached[:, columns], expected.reshape(40, 2, -1).any(axis=2))


def test_a_pool_over_equal_values_shows_nothing() -> None:
    session = InferenceSession(engine_cases.maximum((3, 8, 6), (2, 2), strides=(2, 2)))
    layer = next(item for item in session.program.layers if not isinstance(item, Accumulating))
    constant = np.zeros((1, 3, 8, 6), np.float32)
    table, reached = reached_of(session, {"input": constant})
    columns = group_of(table, layer.name, Goal.WINDOW)
    before = session.trace({"input": constant}, layer.inputs[0])[layer.inputs[0]]
    assert reached[0, columns].tolist() == [len(np.unique(plane)) > 1 for plane in before[0]]
    _, reached = reached_of(session, generate_inputs(session.program, 8))
    assert reached[:, columns].any(axis=0).all()


def test_rows_and_json() -> None:
    session = InferenceSession(fully_connected(np.array([3, -2]), 5, 1, 4, (-128, 127)))
    samples = {"input": np.array([[127.5, -127.5], [-127.5, 127.5]], np.float32)}
    coverage = measure_coverage(session, samples)
    row = next(row for row in coverage.layers if row.kind == "FC")
    assert row.accumulator is not None
    assert row.accumulator.seen == (-638, 637)
    assert row.accumulator.proven == (3 * -128 - 2 * 127, 3 * 127 + 2 * 128)
    assert row.accumulator.share == (637 + 638) / (637 + 638)
    assert row.goals["sign_change"] == Share(1, 1, 0)
    # 8 bits hold (637 + 5) >> 4 and (-638 + 5) >> 4
    assert row.goals["upper_rail"] == Share(0, 0, 1)
    assert str(row.goals["upper_rail"]) == "-"
    assert row.goals["upper_rail"].share == 1.0
    found = json_object(coverage)
    assert found["samples"] == 2
    assert [item["name"] for item in found["layers"]] == [item.layer for item in coverage.layers]
    assert found["layers"][1]["accumulator"] == {"seen": [-638, 637], "proven": [-638, 637], "share": 1.0}
    total = sum(share["reached"] for name, share in found["goals"].items() if name not in BOTH)
    assert found["total"]["reached"] == total == coverage.total.reached


def test_more_samples_never_cover_less() -> None:
    session = InferenceSession(engine_cases.residual((4, 6, 5), plain=False))
    samples = generate_inputs(session.program, 12)
    found = [measure_coverage(session, {"input": samples["input"][:count]}) for count in range(1, 13)]
    for before, after in pairwise(found):
        for old, new in zip(before.layers, after.layers, strict=True):
            assert all(new.goals[name].reached >= share.reached for name, share in old.goals.items())
            assert old.accumulator is None or new.accumulator.share >= old.accumulator.share


def test_a_float_model_has_no_rows() -> None:
    graph = GraphBuilder((1, 3))
    session = InferenceSession(graph.model(graph.node("Relu", graph.binary("Mul", "input", 2.0))))
    coverage = measure_coverage(session, {"input": np.ones((4, 3), np.float32)})
    assert coverage == Coverage(4, ())
    assert coverage.total == Share(0, 0, 0)


@pytest.mark.parametrize("name", ["c28", "mspm0"])
def test_where_implementations_of_the_stage_cannot_differ(name: str) -> None:
    """A signed stage saturates like c28; an unsigned one has no negative codes that truncation could change."""
    graph = GraphBuilder((1, 2))
    codes = graph.clip(graph.node("Floor", graph.scale("input", 3.0, 2)), 0, 255)
    unsigned = graph.model(graph.fully_connected(codes, np.array([[1], [2]]), np.array([0]), [1], [3], (0, 255)))
    share = measure_coverage(InferenceSession(unsigned), {"input": np.full((1, 2), 200, np.float32)}).layers[0].goals[name]
    assert share == (Share(2, 2, 0) if name == "c28" else Share(0, 0, 2))
