"""Witnesses: inputs that show where a statement fails are found and hold, and are not claimed where there are none."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from npusim import InferenceSession
from npusim.bounds import Property, Verdict, certify
from npusim.bounds.witness import STATEMENTS, NoWitness, Witness, find_model_witnesses, find_witness
from npusim.engine.reference import run_steps
from npusim.engine.second_opinion import SecondOpinion
from npusim.errors import UsageError
from npusim.kernels.requantize import weight_digits
from npusim.program import LayerKind
from support import ROOT, load_export
from support.builders import GraphBuilder
from support.rare_models import KINDS, POINT, SCALE, SHIFT, correlated_model, overflowing_model, rare_model

FLOATS, INT32, DIGITS = Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT
SECONDS = 60


def check_in_model(content: bytes, witness: Witness) -> None:
    """Run a witness again: onnxruntime on the whole model, the integers by their definition."""
    assert witness.statement is FLOATS
    assert witness.model_inputs is not None
    session = InferenceSession(content)
    layer = next(item for item in session.program.layers if item.name == witness.layer)
    theirs = SecondOpinion(session.model, [layer.output]).run(witness.model_inputs)[layer.output]
    ours = run_steps(session.program, witness.model_inputs, [layer.output])[layer.output]
    assert ours[witness.index] == witness.code
    assert theirs[witness.index] == witness.other_code
    assert witness.code != witness.other_code
    part = layer.requantization
    if layer.kind is not LayerKind.PWCONVRES:
        assert witness.code == min(max(witness.product >> witness.shift, part.clip.lower), part.clip.upper)
    assert witness.rounding is not None
    assert Fraction(witness.rounding.rounded) != witness.rounding.exact
    traced = session.trace(witness.model_inputs, list(layer.inputs))
    for name in layer.inputs:
        np.testing.assert_array_equal(traced[name], witness.layer_inputs[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_one_accumulator_at_which_float32_differs_is_reached(kind: str, depth: int) -> None:
    model = rare_model(kind, depth=depth)
    session = InferenceSession(model.content)
    witness = find_witness(session, model.layer, FLOATS, seconds=SECONDS)
    assert witness, witness
    assert isinstance(witness, Witness)
    assert (witness.accumulator, witness.accumulator + witness.bias) == (model.accumulator, POINT)
    assert (witness.code, witness.other_code) == (153, 154) or kind == "PWCONVRES"
    assert witness.rounding is not None
    assert (witness.rounding.exact, witness.rounding.rounded) == (POINT * SCALE, POINT * SCALE + 1)
    check_in_model(model.content, witness)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1])
def test_random_inputs_agree_where_a_directed_one_differs(depth: int) -> None:
    model = rare_model("FC", depth=depth, spread=8.0)
    session = InferenceSession(model.content)
    layer = session.program.layers[-1]
    runtime = SecondOpinion(session.model, [layer.output])
    generator = np.random.default_rng(7)
    for _ in range(20):
        x = generator.uniform(-2.5, 2.5, (1000, 4, 24, 1)).astype(np.float32)
        np.testing.assert_array_equal(session.run(None, {"input": x})[0], runtime.run({"input": x})[layer.output])
    witness = find_witness(session, model.layer, FLOATS, seconds=SECONDS)
    assert isinstance(witness, Witness)
    assert witness.seconds < SECONDS
    # a layer right behind the input stage is solved for; nothing is tried
    assert (witness.evaluations == 0) is (depth == 0)
    check_in_model(model.content, witness)


def test_same_seed_and_evaluations_give_the_same_witness() -> None:
    model = rare_model("GCONV", depth=2)
    found = [
        find_witness(InferenceSession(model.content), model.layer, FLOATS, seconds=1e6, evaluations=20000, seed=seed)
        for seed in (3, 3, 4)
    ]
    inputs = [item.model_inputs["input"] for item in found if isinstance(item, Witness) and item.model_inputs is not None]
    assert len(inputs) == 3
    np.testing.assert_array_equal(inputs[0], inputs[1])
    assert (inputs[0] != inputs[2]).any()


def test_search_starts_from_given_samples() -> None:
    model = rare_model("GCONV", depth=3)
    session = InferenceSession(model.content)
    found = find_witness(session, model.layer, FLOATS, seconds=SECONDS)
    assert isinstance(found, Witness)
    assert found.model_inputs is not None
    again = find_witness(session, model.layer, FLOATS, seconds=1e6, evaluations=1, samples=found.model_inputs)
    assert isinstance(again, Witness)
    np.testing.assert_array_equal(again.model_inputs["input"], found.model_inputs["input"])


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_int32_overflow(depth: int, sign: int) -> None:
    content = overflowing_model(64, 7 * sign, 8_380_000 * sign, 255, depth=depth)
    session = InferenceSession(content)
    layer = session.program.layers[-1]
    witness = find_witness(session, layer.name, INT32, seconds=SECONDS)
    assert isinstance(witness, Witness)
    assert witness.model_inputs is not None
    assert not -(2**31) <= witness.product < 2**31
    codes = session.trace(witness.model_inputs, layer.inputs[0])[layer.inputs[0]].astype(np.int64)
    assert int(codes.sum()) * 7 * sign == witness.accumulator
    wrapped = int(np.array(witness.product).astype(np.int32)) >> witness.shift
    assert witness.other_code == min(max(wrapped, 0), 255)
    assert witness.code == min(max(witness.product >> witness.shift, 0), 255)
    assert witness.limits == (-(2**31), 2**31 - 1)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize(("weight", "digit"), [(3, 0), (-2, 1), (-127, 3)])
def test_18_bit_overflow_of_a_digit(depth: int, weight: int, digit: int) -> None:
    features = 600
    session = InferenceSession(overflowing_model(features, weight, 0, 1, depth=depth))
    layer = session.program.layers[-1]
    witness = find_witness(session, layer.name, DIGITS, seconds=SECONDS)
    assert isinstance(witness, Witness)
    assert witness.model_inputs is not None
    assert witness.digit is not None
    bits = layer.weight_bits
    assert bits == {3: 4, -2: 2, -127: 8}[weight]
    codes = session.trace(witness.model_inputs, layer.inputs[0])[layer.inputs[0]].astype(np.int64)
    value = int((weight_digits(np.array([weight]), bits=bits)[witness.digit] * codes).sum())
    assert value == witness.accumulator
    assert not -(2**17) <= value < 2**17
    assert witness.other_code is None


@pytest.mark.parametrize("features", [171, 172])
def test_18_bits_hold_171_products_and_no_more(features: int) -> None:
    """171 * 255 * 3 = 130815 is within 131071, 172 * 255 * 3 = 131580 is past it."""
    session = InferenceSession(overflowing_model(features, 3, 0, 1, depth=1))
    found = find_witness(session, session.program.layers[-1].name, DIGITS, seconds=SECONDS)
    if features == 171:
        assert isinstance(found, NoWitness)
        assert found.proven
    else:
        assert isinstance(found, Witness)
        assert found.accumulator > 131071


@pytest.mark.parametrize("name", ["vibration_w8.onnx", "vibration_w4.onnx"])
def test_nothing_is_found_where_everything_is_proven(name: str) -> None:
    session = InferenceSession(ROOT / "golden" / name)
    assert find_model_witnesses(session, seconds=SECONDS) == ()
    for layer in session.program.layers:
        for statement in STATEMENTS:
            found = find_witness(session, layer.name, statement, seconds=SECONDS)
            assert isinstance(found, NoWitness)
            assert not found
            assert found.evaluations == 0
            assert found.proven


def test_accumulator_that_no_codes_give_is_no_witness() -> None:
    """All weights are even and the accumulator that would differ is odd."""
    graph = GraphBuilder((1, 8))
    codes = graph.input_stage([0.0] * 8, [1.0] * 8, [0] * 8)
    weights = np.array([[6, -2, 4, 6, 2, -4, 6, 2]]).T
    session = InferenceSession(
        graph.model(graph.fully_connected(codes, weights, np.array([POINT - 501]), [SCALE], [SHIFT], (0, 255)))
    )
    layer = session.program.layers[0]
    assert certify(session.program).steps[-1].judgements[FLOATS].verdict is Verdict.UNKNOWN
    found = find_witness(session, layer.name, FLOATS, seconds=SECONDS)
    assert isinstance(found, NoWitness)
    assert found.proven
    assert "no codes" in found.reason


def test_where_only_the_layer_can_differ_the_model_is_not_accused() -> None:
    session = InferenceSession(correlated_model(9))
    layer = session.program.layers[-1]
    found = find_witness(session, layer.name, FLOATS, seconds=1e6, evaluations=3000)
    assert isinstance(found, Witness)
    assert found.model_inputs is None
    assert found.refutation is None
    assert found.evaluations >= 3000
    first, second = found.layer_inputs[layer.inputs[0]].reshape(-1).astype(int)
    assert first - second == 9
    assert (found.accumulator, found.code, found.other_code) == (63, 153, 154)
    assert found.rounding is not None
    assert (found.rounding.exact, found.rounding.rounded) == (POINT * SCALE, POINT * SCALE + 1)


def test_all_open_statements_share_the_limits() -> None:
    content = correlated_model(9)
    session = InferenceSession(content)
    seen: list[tuple[int, int]] = []
    found = find_model_witnesses(
        session, seconds=1e6, evaluations=2000, progress=lambda done, total: seen.append((done, total))
    )
    assert [(item.layer, item.statement) for item in found] == [(session.program.layers[-1].name, FLOATS)]
    assert 2000 <= sum(item.evaluations for item in found) < 2400
    assert {total for _, total in seen} == {10**6}


def test_refutation_turns_the_verdict() -> None:
    model = rare_model("FC", depth=1)
    session = InferenceSession(model.content)
    assert certify(session.program).model[FLOATS].verdict is Verdict.UNKNOWN
    witness = find_witness(session, model.layer, FLOATS, seconds=SECONDS)
    assert isinstance(witness, Witness)
    assert witness.refutation is not None
    judged = certify(session.program, refutations=[witness.refutation]).model[FLOATS]
    assert judged.verdict is Verdict.VIOLATED
    assert f"{model.accumulator:,}" in judged.reason
    assert judged.evidence["accumulator"] == model.accumulator
    json.dumps(witness.evidence)


def test_explanation_shows_the_arithmetic() -> None:
    model = rare_model("FC", depth=0)
    witness = find_witness(InferenceSession(model.content), model.layer, FLOATS, seconds=SECONDS)
    assert isinstance(witness, Witness)
    bias = POINT - model.accumulator
    shown = f"({model.accumulator} {'-' if bias < 0 else '+'} {abs(bias)}) * {SCALE} = {POINT * SCALE}"
    assert f"{shown}, shifted right by {SHIFT} and clipped: 153; onnxruntime gives 154" in witness.explanation
    assert f"because it holds {POINT * SCALE + 1} instead of {POINT * SCALE}" in witness.explanation


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.UINT8])
def test_model_that_takes_codes_itself(dtype: int) -> None:
    graph = GraphBuilder((1, 16))
    codes = graph.node("Cast", "input", to=TensorProto.FLOAT)
    weights = np.array([[7, -3, 5, 1] * 4]).T
    proto = onnx.load_from_string(
        graph.model(graph.fully_connected(codes, weights, np.array([POINT - 4321]), [SCALE], [SHIFT], (0, 255)))
    )
    proto.graph.input[0].type.tensor_type.elem_type = dtype
    content = proto.SerializeToString()
    session = InferenceSession(content)
    witness = find_witness(session, session.program.layers[0].name, FLOATS, seconds=SECONDS)
    assert isinstance(witness, Witness)
    assert witness.model_inputs is not None
    assert witness.model_inputs["input"].dtype == helper.tensor_dtype_to_np_dtype(dtype)
    assert int((witness.model_inputs["input"].astype(np.int64) @ weights)[0, 0]) == 4321
    check_in_model(content, witness)


def test_wrong_names_are_refused() -> None:
    session = InferenceSession(ROOT / "golden" / "vibration_w8.onnx")
    with pytest.raises(UsageError, match="no layer '/nothing'; the layers are '/conv/Conv', "):
        find_witness(session, "/nothing", FLOATS)
    with pytest.raises(UsageError, match="no witness is looked for 'onnxruntime_optimized'"):
        find_witness(session, "/conv/Conv", Property.ONNXRUNTIME_OPTIMIZED)


@pytest.mark.slow
@pytest.mark.exports
def test_real_export_with_accumulators_past_two_to_the_24() -> None:
    export = load_export("H_BIGACC__qat_w4a8_oi__ts17")
    session = InferenceSession(export.model)
    found = find_model_witnesses(session, (FLOATS,), seconds=SECONDS)
    assert [item.layer for item in found] == ["/c2.0/c2.0.0/Conv", "/fc1/fc1.1/Add_output_0"]
    for witness in found:
        assert isinstance(witness, Witness)
        check_in_model(export.model.read_bytes(), witness)
