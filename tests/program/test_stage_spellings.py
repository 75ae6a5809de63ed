"""Stages that make codes of floats, in every spelling that exporters and simplifiers leave, and the layer behind them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from npusim import InferenceSession, UnsupportedError
from npusim.bounds import certify
from npusim.engine.input_stages import stage_codes, stage_parameters, values_for_codes
from npusim.program import Program
from npusim.program.input_stage import InputStage
from npusim.search.input_codes import InputCodes
from support.builders import GraphBuilder
from support.command_line import call
from support.engine_check import every_tensor, reference_tensors, samples_for
from support.runtime_check import compare_with_runtime

FLT_MAX = float(np.finfo(np.float32).max)

SPELLINGS: dict[str, tuple[tuple[tuple[str, float | None], ...], tuple[tuple[float, float], ...]]] = {
    "floor": ((("Floor", None),), ((-128, 127),)),
    "round": ((("Mul", 1.5), ("Round", None)), ((-128, 127),)),
    "round alone": ((("Round", None),), ((0, 255),)),
    "round of a negative factor": ((("Add", 0.25), ("Mul", -3.0), ("Round", None)), ((-128, 127),)),
    "division": ((("Div", 0.3), ("Floor", None)), ((-128, 127),)),
    "division and round": ((("Sub", 0.5), ("Div", -0.7), ("Round", None)), ((-128, 127),)),
    "division by a power of two": ((("Mul", 40.0), ("Div", 16.0), ("Floor", None)), ((-128, 127),)),
    "largest floats": ((("Mul", 3.0), ("Floor", None)), ((-FLT_MAX, FLT_MAX), (-128, 127))),
    "largest float above": ((("Mul", 3.0), ("Floor", None)), ((0, FLT_MAX), (-FLT_MAX, 255))),
}


def network(spelling: str) -> bytes:
    """The stage, and one convolution whose saturation is spelled alike."""
    operations, clips = SPELLINGS[spelling]
    graph = GraphBuilder((1, 4, 8, 1), "dyn18v")
    current = "input"
    for operator, constant in operations:
        current = graph.node(operator, current) if constant is None else graph.binary(operator, current, constant)
    for lower, upper in clips:
        current = graph.clip(current, lower, upper)
    weights = np.random.default_rng(3).integers(-127, 128, (4, 4, 3, 1))
    codes = graph.convolution(current, weights, np.arange(4) - 2, np.ones(4), np.full(4, 8), clips[0])
    for lower, upper in clips[1:]:
        codes = graph.clip(codes, lower, upper)
    return graph.model(codes)


def feeds_for(program: Program) -> dict[str, np.ndarray]:
    """Random values, halves and the ends of float32 among them."""
    feeds = samples_for(program, 24)
    values = feeds["input"]
    values[8] = np.random.default_rng(1).integers(-300, 300, values[8].shape) / 2
    values[9] = np.random.default_rng(2).choice(np.array([FLT_MAX, -FLT_MAX, 1e-42, -0.0], np.float32), values[9].shape)
    return feeds


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_stage_and_layer_are_found(spelling: str) -> None:
    model = network(spelling)
    session = InferenceSession(model)
    program = session.program
    assert [layer.kind for layer in program.layers] == ["GCONV"]
    assert not program.host_operations
    (stage,) = program.quantize_stages
    assert stage.nearest is ("round" in spelling)
    feeds = feeds_for(program)
    compare_with_runtime(model, feeds)
    fast, slow = every_tensor(program, session._static.runner, feeds), reference_tensors(program, feeds)  # type: ignore[union-attr]
    assert all(np.array_equal(fast[name], slow[name]) for name in slow)
    assert certify(program).verdicts.onnxruntime_exact == "proven"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_values_in_the_middle_of_a_code_become_it(spelling: str) -> None:
    """What is described of a stage (half a code is part of the offset where it rounds to nearest) fits what it computes."""
    program = InferenceSession(network(spelling)).program
    (stage,) = program.quantize_stages
    codes = np.arange(stage.clip.lower, stage.clip.lower + 64).reshape(2, 4, 8, 1)
    values = values_for_codes(program, stage, codes, InputStage.GRAPH)
    np.testing.assert_array_equal(stage_codes(program, stage, values, InputStage.GRAPH), codes)
    levels = np.arange(32)[None] + np.zeros((1, 32), np.int64)
    made = stage_codes(program, stage, InputCodes(program).feeds(levels)["input"], InputStage.GRAPH)
    np.testing.assert_array_equal(made.reshape(-1), levels[0] + stage.clip.lower)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_devices_implement_offset_multiplier_and_shift(spelling: str) -> None:
    program = InferenceSession(network(spelling)).program
    (stage,) = program.quantize_stages
    if spelling in ("floor", "division by a power of two", "largest floats", "largest float above"):
        known = stage_parameters(program, stage)
        values = feeds_for(program)["input"][:8]
        np.testing.assert_array_equal(np.ldexp(known.multiplier, -known.shift), stage.multiplier)
        if stage.clip.lower == -128:
            np.testing.assert_array_equal(
                stage_codes(program, stage, values, InputStage.C28), stage_codes(program, stage, values, InputStage.GRAPH)
            )
    else:
        with pytest.raises(UnsupportedError, match="not an offset, a whole multiplier and a shift"):
            stage_parameters(program, stage)


def test_inspect_says_what_is_rounded(tmp_path: object) -> None:
    for spelling, formula in (("round", "clip(round((x + offset)"), ("floor", "clip(floor((x + offset)")):
        path = f"{tmp_path}/{spelling}.onnx"
        onnx.save_model(onnx.load_from_string(network(spelling)), path)
        outcome = call("inspect", path)
        assert formula in " ".join(outcome.out.split()), outcome


def test_divisions_by_zero_and_of_a_constant_are_no_stage() -> None:
    for first in (False, True):
        constant = numpy_helper.from_array(np.array(4 if first else 0, np.float32), "c")
        ends = [numpy_helper.from_array(np.array(end, np.float32), name) for end, name in ((-128, "lo"), (127, "hi"))]
        nodes = [
            helper.make_node("Div", ["c", "x"] if first else ["x", "c"], ["d"]),
            helper.make_node("Floor", ["d"], ["f"]),
            helper.make_node("Clip", ["f", "lo", "hi"], ["y"]),
        ]
        kinds = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 4)) for name in "xy"]
        model = helper.make_model(
            helper.make_graph(nodes, "g", kinds[:1], kinds[1:], [constant, *ends]),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        program = InferenceSession(model.SerializeToString()).program
        assert all(stage.nodes[0].op_type == "Floor" for stage in program.quantize_stages)


def test_a_product_of_codes_does_not_begin_a_stage() -> None:
    """A stage makes codes of floats; what is computed of codes is an operation of the host, and only its result is floored."""
    graph = GraphBuilder((1, 2, 4, 1))
    product = graph.binary("Mul", graph.input_stage([0, 0], [16, 16], [2, 2]), 0.25)
    program = InferenceSession(graph.model(graph.clip(graph.node("Floor", product), -128, 127))).program
    assert [step.operator for step in program.host_operations] == ["Mul"]
    assert [stage.input for stage in program.quantize_stages] == ["input", product]


@pytest.mark.parametrize("first", [False, True])
def test_a_difference_from_a_constant_is_no_offset(first: bool) -> None:
    """x - c adds -c; c - x turns the sign around, which no offset does."""
    graph = GraphBuilder((1, 2, 4, 1))
    constant = graph.constant(3.0)
    difference = graph.node("Sub", *((constant, "input") if first else ("input", constant)))
    scaled = graph.node("Floor", graph.binary("Mul", difference, 0.25))
    program = InferenceSession(graph.model(graph.clip(scaled, -128, 127))).program
    assert [stage.offset.reshape(-1).tolist() for stage in program.quantize_stages if stage.input == "input"] == (
        [] if first else [[-3.0]]
    )
