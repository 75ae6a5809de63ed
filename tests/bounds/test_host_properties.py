"""What is said of host operations: proven only where NaN, zeros of both signs and conversions leave one result."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.bounds.certificate import certify
from npusim.bounds.verdicts import Property, Verdict
from npusim.program import HostOperation
from support.builders import GraphBuilder
from support.models import model_of


def graph_of() -> tuple[GraphBuilder, str]:
    graph = GraphBuilder((1, 2, 4, 1))
    return graph, graph.input_stage(np.zeros(2), np.ones(2), np.zeros(2))


def verdicts(model: bytes) -> dict[str, Verdict]:
    """The verdict on each step, by operator or kind."""
    program = InferenceSession(model).program
    steps = zip(program.steps, certify(program).steps, strict=True)
    return {
        step.operator if isinstance(step, HostOperation) else judged.kind: judged.judgements[Property.ONNXRUNTIME_EXACT].verdict
        for step, judged in steps
    }


def test_a_root_of_negative_codes_may_be_nan_and_what_selects_it_is_assumed() -> None:
    graph, codes = graph_of()
    found = verdicts(graph.model(graph.node("Relu", graph.node("Sqrt", codes))))
    assert found["Sqrt"] is Verdict.PROVEN
    assert found["Relu"] is Verdict.UNKNOWN


def test_a_root_of_codes_that_are_not_negative_is_proven() -> None:
    graph, codes = graph_of()
    found = verdicts(graph.model(graph.node("Relu", graph.node("Sqrt", graph.node("Relu", codes)))))
    assert set(found.values()) == {Verdict.PROVEN}


def test_a_stage_behind_nan_is_assumed() -> None:
    graph, codes = graph_of()
    scaled = graph.binary("Mul", graph.node("Sqrt", codes), 16.0)
    stage = graph.clip(graph.node("Floor", scaled), 0, 255)
    program = InferenceSession(graph.model(stage)).program
    last = certify(program).steps[-1]
    assert (last.kind, last.judgements[Property.ONNXRUNTIME_EXACT].verdict) == ("QUANTIZE", Verdict.UNKNOWN)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, Verdict.UNKNOWN), (300.0, Verdict.PROVEN)])
def test_the_sign_of_a_zero_decides_a_reciprocal(shift: float, verdict: Verdict) -> None:
    graph, codes = graph_of()
    moved = graph.node("Round", graph.binary("Add", graph.binary("Mul", codes, 0.5), shift))
    assert verdicts(graph.model(graph.node("Reciprocal", moved)))["Reciprocal"] is verdict


def test_a_reciprocal_of_a_negative_zero_is_minus_infinity_in_both_engines() -> None:
    graph, codes = graph_of()
    model = graph.model(graph.node("Reciprocal", graph.node("Round", graph.binary("Mul", codes, 0.5))))
    x = np.array([-1, 0, 2, -2, -1, 1, 0, 5], np.float32).reshape(1, 2, 4, 1)
    expected = np.array([-np.inf, np.inf, 1, -1, -np.inf, np.inf, np.inf, 0.5], np.float32).reshape(x.shape)
    for engine in ("fast", "reference"):
        session = InferenceSession(model, engine=engine)
        (result,) = session.run(None, {session.get_inputs()[0].name: x})
        assert np.array_equal(result, expected), engine


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PROVEN), (1.5, Verdict.UNKNOWN)])
def test_a_conversion_is_proven_where_the_type_holds_the_numbers(factor: float, verdict: Verdict) -> None:
    graph, codes = graph_of()
    converted = graph.node("Cast", graph.binary("Mul", codes, factor), to=3)
    program = InferenceSession(graph.model(graph.node("Cast", converted, to=1))).program
    judged = [step.judgements[Property.ONNXRUNTIME_EXACT].verdict for step in certify(program).steps]
    assert judged[-2] is verdict


@pytest.mark.parametrize(("upper", "verdict"), [(0, Verdict.UNKNOWN), (255, Verdict.VIOLATED)])
def test_a_difference_that_the_last_saturation_may_hide_is_not_violated(upper: int, verdict: Verdict) -> None:
    graph = GraphBuilder((1, 4, 1, 1))
    codes = graph.clip(graph.node("Floor", graph.binary("Mul", "input", 1.0)), -128, 127)
    other = graph.clip(graph.node("Floor", graph.binary("Mul", "residual", 1.0)), 0, 1)
    weights = np.full((4, 4, 1, 1), 127)
    inner = graph.convolution(codes, weights, np.full(4, 48043), [177] * 4, [17] * 4, (-512, 511))
    result = graph.clip(graph.node("Add", inner, other), 0, upper)
    inputs = dict.fromkeys(("input", "residual"), (np.float32, graph.input_shape))
    model = model_of(graph.nodes, inputs, {result: (np.float32, None)}, initializers=graph.initializers)
    program = InferenceSession(model).program
    (judged,) = [step.judgements[Property.ONNXRUNTIME_EXACT] for step in certify(program).steps if step.kind == "PWCONVRES"]
    assert judged.verdict is verdict, judged.reason
