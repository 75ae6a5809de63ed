"""verify and compare --against ort are one comparison: the same verdict and the same place on right and on wrong programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.engine.second_opinion import SecondOpinion
from npusim.graph import Array
from npusim.search.sampling import generate_inputs
from npusim.verification import compare_with_runtime, exact_findings, runtime, verify
from support.builders import GraphBuilder
from support.command_line import FLOAT32_SAMPLE, model_beyond_float32, model_with_float_layer, samples_for
from support.match_models import chain
from support.moved_batches import moved_batches


def dense(kind: str) -> bytes:
    """A layer whose codes a host operation handles in a way that stacked samples would not survive, but for ``plain``."""
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0.5] * 4, [900] * 4, [5] * 4)
    weights = np.random.default_rng(4).integers(-90, 91, (4, 6))
    layer = graph.fully_connected(codes, weights, np.arange(6), [1] * 6, [3] * 6, (-128, 127))
    match kind:
        case "plain":
            return graph.model(layer)
        case "flat softmax":
            flat = graph.node("Reshape", layer, graph.constant([-1], np.int64))
            return graph.model(graph.node("Softmax", flat, axis=0))
        case "moved":
            moved = graph.node("Transpose", layer, perm=[1, 0])
            return graph.model(graph.node("ReduceMean", moved, axes=[1], keepdims=0))
        case "mixed":
            scaled = graph.binary("Mul", graph.node("Transpose", layer, perm=[1, 0]), np.full((6, 1), 0.37))
            return graph.model(graph.node("MatMul", scaled, layer))
        case _:
            return graph.model(graph.node("ReduceSum", graph.binary("Mul", layer, 0.1), keepdims=0))


KINDS = ("plain", "flat softmax", "moved", "mixed", "one number")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 17])
def test_no_right_model_is_contradicted(kind: str, count: int) -> None:
    session = InferenceSession(dense(kind))
    feeds = {"input": samples_for((count, 4))}
    verified, compared = verify(session, feeds), compare_with_runtime(session, feeds)
    assert verified.ok, verified
    assert compared.ok, compared
    assert verified.samples == compared.samples == count


def layers(*, free: bool) -> bytes:
    """Two layers, with a float sum in front where `free`, and a Softmax behind."""
    if free:
        return model_with_float_layer()
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0.5] * 4, [900] * 4, [5] * 4)
    weights = np.random.default_rng(4).integers(-9, 10, (4, 6))
    layer = graph.fully_connected(codes, weights, np.arange(6), [3] * 6, [3] * 6, (-128, 127))
    return graph.model(graph.node("Softmax", graph.fully_connected(layer, weights.T, [1] * 4, [1] * 4, [6] * 4, (0, 255))))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_one_wrong_value_gives_both_the_same_verdict_and_place(data: st.DataObject) -> None:
    session = InferenceSession(layers(free=data.draw(st.booleans())))
    tensors = [name for step in session.program.steps for name in step.tensors]
    shape = session.get_inputs()[0].shape
    x = samples_for((20, *shape[1:]))
    name, sample = data.draw(st.sampled_from(tensors)), data.draw(st.integers(0, 19))

    class Wrong(SecondOpinion):
        """onnxruntime with one to a tensor added in one sample."""

        def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            found = {key: np.array(values) for key, values in super().run(feeds).items()}
            hit = (feeds["input"] == x[sample]).reshape(len(feeds["input"]), -1).all(axis=1)
            if name in found:
                found[name].reshape(len(hit), -1)[hit, 0] += 1
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "SecondOpinion", Wrong)
        verified, compared = verify(session, {"input": x}), compare_with_runtime(session, {"input": x})
    assert not verified.ok
    assert not compared.ok
    first = next(step for step in verified.steps if step.mismatches)
    assert first.first_difference is not None
    assert compared.first_differing is not None
    assert compared.first_differing.first is not None
    assert (compared.first_differing.name, compared.first_differing.first.sample) == (first.name, sample)
    assert first.first_difference.index[0] == sample
    assert exact_findings(compared)


def test_a_sum_that_float32_rounds_is_the_same_to_both() -> None:
    session = InferenceSession(model_beyond_float32())
    feeds = {"input": np.array([[FLOAT32_SAMPLE, 0, 0, 0]], np.float32)}
    verified, compared = verify(session, feeds), compare_with_runtime(session, feeds)
    assert not verified.ok
    assert not compared.ok


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moved_batches(), st.integers(1, 5))
def test_no_model_that_moves_or_mixes_the_batch_axis_is_contradicted(
    drawn: tuple[bytes, tuple[int, ...], tuple[str, ...]], count: int
) -> None:
    model, shape, used = drawn
    session = InferenceSession(model)
    feeds = {"input": samples_for((count, *shape[1:]))}
    verified = verify(session, feeds)
    assert verified.ok, (used, [step for step in verified.steps if step.mismatches])
    assert compare_with_runtime(session, feeds).ok, used


@pytest.mark.parametrize("arithmetic", ["match", "match_half_up", "onnx"])
def test_annotated_models_of_the_match_family_are_held_against_a_copy_that_onnxruntime_reads(arithmetic: str) -> None:
    """ONNX Runtime refuses the exporters' annotations; without them the file means the same."""
    session = InferenceSession(chain(3, 5, 7), arithmetic=arithmetic)
    result = verify(session, generate_inputs(session.program, 20, seed=1))
    assert result.ok
    assert result.elements


def test_a_verification_says_in_a_line_whether_all_is_equal() -> None:
    session = InferenceSession(dense("plain"))
    found = verify(session, {"input": samples_for((3, 4))})
    assert str(found).startswith("equal: 2 steps (2 exact), ")
    (first, *others) = found.steps
    found.steps = [replace(first, mismatches=2), *others]
    assert str(found).startswith("2 of ")


def test_comparisons_of_codes_are_about_the_result_of_a_step() -> None:
    (layer,) = InferenceSession(dense("plain")).program.layers
    assert len(layer.tensors) > 1
    found = runtime._with_codes(layer, np.zeros((2, 6)), np.eye(2, 6), 5)
    assert found.first_difference is not None
    assert {found.tensor, found.first_difference.tensor} == {layer.output}
    assert found.first_difference.index == (5, 0)
