"""Float32 against integers: deciding at thresholds equals trying every integer, and the operations are the graph's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.bounds.float_proof import (
    MAXIMUM_EVALUATIONS,
    FloatOperation,
    FloatPath,
    decide,
    decide_exhaustively,
    float_path,
)
from npusim.program import Clip, LayerKind, Operator, Program, ShiftFloor
from npusim.program.accumulation import accumulate
from support.builders import DIALECTS, GraphBuilder
from support.runtime_check import runtime_tensors

FLOAT32 = np.dtype(np.float32)
CLIPS = ((0, 255), (-128, 127), (-255, 255), (0, 15), (-3, -3))


def path_of(bias: list[int], scale: list[int], shift: list[int], clip: tuple[int, int], fused: bool) -> FloatPath:
    """Add, then one multiplication or two, then floor: the two ways in which exporters write it."""
    part = ShiftFloor(np.array(bias), np.array(scale), np.array(shift), clip=Clip(*clip))
    factors = [np.ldexp(part.scale.astype(float), -part.shift.astype(np.int32))]
    if not fused:
        factors = [part.scale.astype(float), np.ldexp(1.0, -part.shift.astype(np.int32))]
    operations = (
        FloatOperation(Operator.ADD, part.bias.astype(np.float64)),
        *(FloatOperation(Operator.MULTIPLY, factor) for factor in factors),
        FloatOperation(Operator.FLOOR, factors[0]),
    )
    return FloatPath(operations, FLOAT32, part)


@st.composite
def questions(draw: st.DrawFn) -> tuple[FloatPath, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Intervals of up to 3000 integers around a code's threshold, mostly where products are 2**23 to 2**28."""
    channels = draw(st.integers(1, 3))
    scale = [draw(st.integers(-4095, 4095) | st.sampled_from([0, 1, 255, -1])) for _ in range(channels)]
    shift = [draw(st.integers(16, 21) | st.integers(0, 31)) for _ in range(channels)]
    code = [draw(st.integers(-255, 255)) for _ in range(channels)]
    middle = [(t << s) // one if one else 0 for t, s, one in zip(code, shift, scale, strict=True)]
    # float32 holds the bias, as it does in a graph
    bias = [int(np.float32(draw(st.integers(-(2**26), 2**26) | st.just(0)))) for _ in range(channels)]
    start = np.array([m - b - draw(st.integers(0, 3000)) for m, b in zip(middle, bias, strict=True)])
    path = path_of(bias, scale, shift, draw(st.sampled_from(CLIPS)), draw(st.booleans()))
    return path, start, start + np.array([draw(st.integers(0, 3000)) for _ in range(channels)])


@pytest.mark.slow
@settings(max_examples=600)
@given(questions())
def test_thresholds_decide_what_every_integer_decides(
    question: tuple[FloatPath, npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> None:
    path, lower, upper = question
    quick, slow = decide(path, lower, upper), decide_exhaustively(path, lower, upper)
    assert quick is not None
    assert bool(quick) == bool(slow)
    assert set(quick.disagreements) <= set(slow.disagreements)
    assert {place.channel for place in quick.disagreements} == {place.channel for place in slow.disagreements}
    assert quick.values == slow.values == slow.evaluations


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_wrong_accumulator_among_millions_is_found(fused: bool, sign: int) -> None:
    """81721 * 247 is 154 * 2**17 - 1, which float32 rounds up to the next code: no other accumulator below does that."""
    assert 81721 * 247 == 154 * 2**17 - 1 > 2**24
    path = path_of([0], [247 * sign], [17], (-300, 300), fused)
    wrong = 81721 * sign
    reach = (-3_000_000, wrong) if sign > 0 else (wrong, 3_000_000)
    lower, upper = (np.array([end]) for end in reach)
    found = decide(path, lower, upper)
    slow = decide_exhaustively(path, lower, upper)
    assert found is not None
    assert wrong in {place.accumulator for place in slow.disagreements}
    assert wrong in {place.accumulator for place in found.disagreements}
    assert found.evaluations < 2500 < found.values / 1000
    narrow = np.array([-80000]), np.array([80000])
    quick = decide(path, *narrow)
    assert quick
    assert decide_exhaustively(path, *narrow)


def test_code_of_the_wrong_accumulator_is_reported() -> None:
    path = path_of([100, 81700], [1, 247], [0, 17], (0, 255), False)
    found = decide(path, np.array([0, 21]), np.array([9, 21]))
    assert found is not None
    assert {(place.channel, place.accumulator, place.integer_code, place.float_code) for place in found.disagreements} == {
        (1, 21, 153, 154.0)
    }
    assert not found


def test_accumulators_that_floats_do_not_hold_are_rounded_first() -> None:
    """2**24 + 1 becomes 2**24 before anything else happens."""
    path = path_of([-(2**24)], [1], [0], (-128, 127), True)
    assert decide(path, np.array([2**24 - 100]), np.array([2**24]))
    found = decide(path, np.array([2**24 - 100]), np.array([2**24 + 1]))
    assert found is not None
    assert next(place.accumulator for place in found.disagreements) == 2**24 + 1


def test_too_many_codes_are_not_decided() -> None:
    path = path_of([0], [1], [0], (-(2**23), 2**23), True)
    assert decide(path, np.array([-(2**23)]), np.array([2**23])) is None
    assert decide(path, np.array([0]), np.array([MAXIMUM_EVALUATIONS // 4]))


def model_of(dialect: str, kind: str) -> bytes:
    """One layer whose sums run over all codes of one element, with parameters that pass 2**24 for every dialect."""
    bias, scale, shift = np.array([81600, -81650, 300000]), np.array([247, 233, 201]), np.array([17, 17, 18])
    clip = (-255, 255)
    graph = GraphBuilder((1, 1, 1, 1) if kind != "FC" else (1, 1), dialect)
    codes = graph.input_stage([0], [1], [0])
    if kind == "FC":
        return graph.model(graph.fully_connected(codes, np.array([[1, -1, 7]]), bias, scale, shift, clip))
    if kind == "AVGPOOL":
        wide = graph.convolution(codes, np.array([1, 2, 3]).reshape(3, 1, 1, 1), np.zeros(3), np.ones(3), np.zeros(3), clip)
        padded = graph.node("AveragePool", wide, kernel_shape=[3, 1], pads=[1, 0, 1, 0], count_include_pad=1)
        summed = graph.node("Round", graph.binary("Mul", padded, 3.0))
        return graph.model(graph.requantize(summed, (1, -1, 1, 1), bias, scale, shift, clip))
    weights = np.array([1, -1, 7]).reshape((1, 3, 1, 1) if kind == "TCONV" else (3, 1, 1, 1))
    return graph.model(graph.convolution(codes, weights, bias, scale, shift, clip, transposed=kind == "TCONV"))


def every_code(program: Program) -> npt.NDArray[np.float32]:
    return np.arange(-128, 128, dtype=np.float32).reshape(-1, *program.tensors["input"].shape[1:])


@pytest.mark.parametrize("kind", ["FC", "PWCONV", "TCONV", "AVGPOOL"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_operations_read_from_a_layer_are_those_of_the_graph(dialect: str, kind: str) -> None:
    model = model_of(dialect, kind)
    session = InferenceSession(model)
    layer = session.program.layers[-1]
    assert layer.kind is LayerKind(kind)
    x = every_code(session.program)
    path = float_path(layer, FLOAT32)
    codes = session.trace({"input": x}, layer.inputs[0])[layer.inputs[0]].astype(np.int64)
    accumulator = accumulate(layer, [codes]).reshape(len(x), -1).T
    theirs = np.concatenate([row[layer.output] for row in runtime_tensors(model, {"input": x})]).reshape(len(x), -1).T
    np.testing.assert_array_equal(path.float_codes(accumulator), theirs)
    ours = session.trace({"input": x}, layer.output)[layer.output].reshape(len(x), -1).T
    np.testing.assert_array_equal(path.integer_codes(accumulator), ours)
    assert (theirs != ours).any(), "the parameters are to be ones that float32 gets wrong"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_operations_of_each_dialect(dialect: str) -> None:
    layer = InferenceSession(model_of(dialect, "PWCONV")).program.layers[-1]
    found = [str(operation.operator) for operation in float_path(layer, FLOAT32).operations]
    once = dialect in ("ts17new", "dyn18vnew")
    assert found == ["add", "multiply", "floor"] if once else ["add", "multiply", "multiply", "floor"]
    pool = InferenceSession(model_of(dialect, "AVGPOOL")).program.layers[-1]
    found = [str(operation.operator) for operation in float_path(pool, FLOAT32).operations]
    assert found[:3] == ["divide", "multiply", "round"]


def test_channels_without_scale_give_one_code() -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    result = graph.fully_connected(codes, np.ones((2, 2), np.int64), np.array([5, 9]), [0, 200], [3, 3], (-128, 127))
    layer = InferenceSession(graph.model(result)).program.layers[0]
    path = float_path(layer, FLOAT32)
    accumulator = np.array([[-256, 0, 254], [-256, 0, 254]])
    np.testing.assert_array_equal(path.float_codes(accumulator), path.integer_codes(accumulator))
    assert (path.integer_codes(accumulator)[0] == 0).all()


def test_wrong_operation_is_noticed() -> None:
    """The comparison with every integer fails as it should when the float side floors too early."""
    path = path_of([0], [3], [2], (-128, 127), False)
    early = (path.operations[0], path.operations[1], path.operations[3], path.operations[2])
    broken = decide(replace(path, operations=early), np.array([-50]), np.array([50]))
    assert broken is not None
    assert not broken
