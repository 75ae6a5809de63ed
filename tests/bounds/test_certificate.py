"""Certificates: verdicts on hand-built layers on both sides of each limit, and on every real export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper, numpy_helper

from npusim import InferenceSession
from npusim.bounds import Certificate, Judgement, Property, Refutation, Verdict, certify
from npusim.bounds.report import findings_of
from npusim.bounds.verdicts import conjunction, proven, unknown, violated
from npusim.errors import InternalMismatchError
from support import EXPORTS_FOLDER, ROOT, Export, export_names, load_export
from support.builders import GraphBuilder
from support.command_line import model_beyond_float32, model_with_float_layer
from support.dense_layer import fully_connected
from support.fuzz_seeds import small_tflite
from support.strategies import Network, networks

EXACT, OPTIMIZED = Property.ONNXRUNTIME_EXACT, Property.ONNXRUNTIME_OPTIMIZED
SOFT, DIGITS = Property.SOFT_INT32, Property.DIGIT_18BIT
FLOAT_ISLANDS = ("mpF", "H_CONVT2")


def judged(model: bytes, layer: int = -1) -> dict[Property, Judgement]:
    return dict(certify(InferenceSession(model).program).steps[layer].judgements)


def verdict(model: bytes, statement: Property, layer: int = -1) -> str:
    return str(judged(model, layer)[statement].verdict)


def test_partial_sums_of_exactly_two_to_the_24_are_still_exact() -> None:
    weights = np.full(1024, -128)  # -128 * -128 * 1024 == 2**24
    assert verdict(fully_connected(weights), EXACT) == "proven"
    past = judged(fully_connected(np.append(weights, 1)))[EXACT]
    assert past.verdict is Verdict.UNKNOWN
    assert past.evidence == {"channel": 0, "partial_sum": 2**24 + 127}
    assert "2^24" in past.reason


def test_bias_inside_of_the_sum_counts_as_a_partial_sum() -> None:
    weights = np.full(1000, -128)
    room = 2**24 - 128 * 128 * 1000
    for dialect, past in (("bias_in_conv", "unknown"), ("dyn18v", "proven")):
        for bias, wanted in ((room, "proven"), (room + 2, past)):
            graph = GraphBuilder((1, 1000, 1, 1), dialect)
            codes = graph.input_stage(np.zeros(1000), np.ones(1000), np.zeros(1000))
            matrix = weights.reshape(1, 1000, 1, 1)
            model = graph.model(graph.convolution(codes, matrix, np.array([bias]), [1], [20], (-128, 127)))
            # as an Add of its own the bias is rounded once, far from the next code
            assert verdict(model, EXACT) == wanted


def test_digit_accumulators_on_both_sides_of_18_bits() -> None:
    """512 weights of 2 in an unsigned digit: -128 * 2 * 512 is -2**17, which 18 bits just hold. One more goes past."""
    weights = np.append(np.full(512, 2), 4)  # the 4, whose lowest digit is 0, makes them weights of 4 bits
    assert verdict(fully_connected(weights), DIGITS) == "proven"
    found = judged(fully_connected(np.append(weights, 1)))[DIGITS]
    assert found.verdict is Verdict.VIOLATED
    assert found.evidence == {"channel": 0, "digit": 0, "value": -(2**17) - 128}


def test_signed_digit_on_both_sides_of_18_bits() -> None:
    """512 weights of -2, which are one signed digit: +2**17 is one too many."""
    assert verdict(fully_connected(np.full(511, -2)), DIGITS) == "proven"
    found = judged(fully_connected(np.full(512, -2)))[DIGITS]
    assert found.verdict is Verdict.VIOLATED
    assert found.evidence == {"channel": 0, "digit": 0, "value": 2**17}


def test_digit_past_18_bits_behind_other_layers_is_unknown() -> None:
    weights = np.full(1032, 1)
    assert verdict(fully_connected(weights), DIGITS) == "violated"
    found = judged(fully_connected(weights, layers=2))[DIGITS]
    assert found.verdict is Verdict.UNKNOWN
    assert found.evidence["value"] == -1032 * 128


@pytest.mark.parametrize(("lowest", "wanted"), [(100, "unknown"), (-100, "violated"), (0, "violated")])
def test_partial_sums_of_digits_past_18_bits(lowest: int, wanted: str) -> None:
    """With codes of 100 to 127 the sum of 1100 codes less 1100 others stays small, but not on the way there."""
    graph = GraphBuilder((1, 2200), "dyn18v")
    codes = graph.clip(graph.input_stage(np.zeros(2200), np.ones(2200), np.zeros(2200)), lowest, 127)
    weights = np.array([1, -1] * 1100).reshape(-1, 1)
    found = judged(graph.model(graph.fully_connected(codes, weights, np.zeros(1), [200], [16], (-128, 127))))[DIGITS]
    assert found.verdict == wanted
    if wanted == "unknown":
        assert abs(found.evidence["value"]) == 1100 * 127
        assert "order of adding" in found.reason
        narrow = graph.fully_connected(codes, weights * (np.arange(2200) < 2000)[:, None], np.zeros(1), [200], [16], (-9, 9))
        assert verdict(graph.model(narrow), DIGITS) == "proven"


def test_digits_of_an_average_pool_and_of_a_max_pool() -> None:
    for height, wanted in ((1024, "proven"), (1025, "violated")):
        graph = GraphBuilder((1, 1, height, 1))
        codes = graph.input_stage([0], [1], [0])
        model = graph.model(graph.global_average(codes, 512, 1, 10, (-128, 127)))
        assert verdict(model, DIGITS) == wanted
        assert verdict(model, EXACT) == "proven"
    graph = GraphBuilder((1, 1, 8, 1))
    model = graph.model(graph.node("MaxPool", graph.input_stage([0], [1], [0]), kernel_shape=[2, 1]))
    assert {str(one.verdict) for one in judged(model).values()} == {"proven"}


def test_weights_outside_of_their_bits_have_no_known_digits() -> None:
    found = judged(fully_connected(np.array([8, -7])))[DIGITS]
    assert found.verdict is Verdict.UNKNOWN
    assert "from -7 to 8" in found.reason
    assert verdict(fully_connected(np.array([7, -8])), DIGITS) == "proven"
    assert verdict(fully_connected(np.array([200, -8])), DIGITS) == "unknown"


def test_products_on_both_sides_of_int32() -> None:
    bias = 2**31 - 128  # 24 significant bits: float32 holds it
    model = fully_connected(np.array([1]), bias, 1, 24, (-128, 127))
    assert verdict(model, SOFT) == "proven"
    found = judged(fully_connected(np.array([1, 1]), bias, 1, 24, (-128, 127)))[SOFT]
    assert found.verdict is Verdict.VIOLATED
    assert found.evidence == {"channel": 0, "scaled": 2**31 + 126, "code": 127, "wrapped_code": -128}
    assert verdict(fully_connected(np.array([1]), -(2**31) + 128, 1, 24), SOFT) == "proven"
    assert verdict(fully_connected(np.array([1, 1]), -(2**31) + 128, 1, 24), SOFT) == "violated"
    assert verdict(fully_connected(np.array([1, 1]), bias, 1, 24, layers=2), SOFT) == "unknown"


def test_wrap_that_the_clip_hides_is_a_violation_all_the_same() -> None:
    found = judged(fully_connected(np.array([1]), 2**31, 2, 0, (0, 127)))[SOFT]
    assert found.verdict is Verdict.VIOLATED
    assert (found.evidence["scaled"], found.evidence["code"], found.evidence["wrapped_code"]) == (2**32 + 254, 127, 127)


def test_difference_at_an_attained_end_is_violated_and_onnxruntime_agrees() -> None:
    """127 * 7 is the largest accumulator; with the bias and the scale it is the product that float32 rounds up."""
    model = fully_connected(np.array([7]), 81721 - 889, 247, 17, (0, 255))
    found = judged(model)[EXACT]
    assert found.verdict is Verdict.VIOLATED
    assert found.evidence == {"channel": 0, "accumulator": 889, "npusim": 153, "onnxruntime": 154}
    assert verdict(fully_connected(np.array([7]), 81721 - 889, 247, 17, (0, 255), layers=2), EXACT) == "unknown"
    x = {"input": np.array([[3e38]], np.float32)}
    theirs = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, x)[0]
    assert (InferenceSession(model).run(None, x)[0].item(), theirs.item()) == (153.0, 154.0)


def test_difference_inside_of_the_interval_is_unknown_until_an_input_is_found() -> None:
    program = InferenceSession(model_beyond_float32()).program
    first, second = (step.name for step in program.layers)
    certificate = certify(program)
    found = certificate.steps[1].judgements[EXACT]
    assert found.verdict is Verdict.UNKNOWN
    assert found.evidence == {"channel": 0, "accumulator": 21, "npusim": 153, "onnxruntime": 154}
    assert certificate.model[EXACT].reason.startswith(f"layer '{first}': ")
    assert certificate.steps[2].judgements[EXACT].holds
    refutation = Refutation(first, EXACT, "sample 2 gives 153 in integers and 154 in onnxruntime", {"sample": 2})
    refuted = certify(program, refutations=[refutation])
    assert refuted.steps[1].judgements[EXACT] == violated(refutation.reason, {"sample": 2})
    assert refuted.model[EXACT].verdict is Verdict.VIOLATED
    with pytest.raises(InternalMismatchError, match=r"it is proven that .*, yet no"):
        certify(program, refutations=[Refutation(second, EXACT, "no")])


def test_scale_folded_into_weights_needs_more_room() -> None:
    weights = np.array([127, -127] * 300)
    wide = judged(fully_connected(weights, 0, 201, 16))
    assert wide[EXACT].holds
    assert wide[OPTIMIZED].verdict is Verdict.UNKNOWN
    # 300 products of 127 * 127 and 300 of 127 * 128
    assert wide[OPTIMIZED].evidence["partial_sum"] == 201 * 300 * 127 * 255
    power = judged(fully_connected(weights, 0, 128, 16))
    assert power[OPTIMIZED].holds, "a power of two costs no bits"
    assert not judged(fully_connected(weights, 7_100_000, 1, 16))[OPTIMIZED].holds
    assert judged(fully_connected(weights, 7_000_000, 1, 16))[OPTIMIZED].holds


def test_bias_may_be_added_last_when_it_is_folded() -> None:
    """Sums of -7 * 127 * 102 * 201 pass 2**24 before a bias brings them back."""
    graph = GraphBuilder((1, 102), "dyn18v")
    codes = graph.input_stage(np.zeros(102), np.ones(102), np.zeros(102))
    codes = graph.fully_connected(codes, np.eye(102, dtype=np.int64), np.zeros(102), [1], [0], (0, 127))
    for bias in (0, 10000):
        result = graph.fully_connected(codes, np.full((102, 1), -7), np.array([bias]), [201], [16], (-128, 127))
        found = judged(graph.model(result))
        assert (found[EXACT].verdict, found[OPTIMIZED].verdict) == (Verdict.PROVEN, Verdict.UNKNOWN)
        assert found[OPTIMIZED].evidence["partial_sum"] == -7 * 127 * 102 * 201


def test_as_written_is_exact_where_an_optimizer_may_not_be() -> None:
    """Inputs whose products lie next to a code's threshold, which rounding could cross, though partial sums pass 2**24."""
    generator = np.random.default_rng(0)
    weights = generator.choice([-127, 127], 600)
    graph = GraphBuilder((1, 600, 1, 1), "dyn18v")
    codes = graph.input_stage(np.zeros(600), np.ones(600), np.zeros(600))
    model = graph.model(graph.convolution(codes, weights.reshape(1, 600, 1, 1), np.zeros(1), [201], [16], (-255, 255)))
    found = judged(model)
    assert (found[EXACT].verdict, found[OPTIMIZED].verdict) == (Verdict.PROVEN, Verdict.UNKNOWN)
    x = generator.integers(-128, 128, (20000, 600)).astype(np.float32)
    products = (x @ weights.astype(np.float64)).astype(np.int64) * 201
    near = x[(np.abs(products) < 254 << 16) & ((products + 500) % 2**16 < 1000)].reshape(-1, 600, 1, 1)
    assert len(near) > 30
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    theirs = np.concatenate([runtime.run(None, {"input": row[None]})[0] for row in near])
    np.testing.assert_array_equal(InferenceSession(model).run(None, {"input": near})[0], theirs)


def test_average_of_sums_that_floats_divide_and_multiply_back() -> None:
    graph = GraphBuilder((1, 2, 13, 7))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    model = graph.model(graph.average_pool(codes, [13, 7], [1, 1], [0, 0, 0, 0], 45, 180, 14, (-128, 127)))
    found = judged(model)[EXACT]
    assert found.holds
    assert f"{2 * (91 * 255 + 1):,} accumulator values" in found.reason


def test_float_layers_leave_the_model_open_but_not_the_layers_behind() -> None:
    certificate = certify(InferenceSession(model_with_float_layer()).program)
    verdicts = {step.kind: str(step.judgements[EXACT].verdict) for step in certificate.steps}
    assert verdicts == {"QUANTIZE": "proven", "HOST": "unknown", "PWCONV": "proven"}
    assert certificate.model[EXACT].verdict is Verdict.UNKNOWN
    assert "Conv is computed by the host in floats" in certificate.model[EXACT].reason
    assert certificate.model[SOFT].holds


def test_function_behind_the_last_layer_leaves_the_model_open() -> None:
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0] * 4, [1] * 4, [0] * 4)
    dense = graph.fully_connected(codes, np.ones((4, 4), np.int64), np.zeros(4), [1], [2], (-128, 127))
    certificate = certify(InferenceSession(graph.model(graph.node("Sigmoid", dense))).program)
    assert [step.kind for step in certificate.steps if not step.judgements[EXACT].holds] == ["HOST"]
    assert not certificate.model[EXACT].holds


def test_model_without_layers_proves_nothing() -> None:
    graph = GraphBuilder((1, 4))
    certificate = certify(InferenceSession(graph.model(graph.node("Relu", "input"))).program)
    assert {str(judgement.verdict) for judgement in certificate.model.values()} == {"unknown"}


@pytest.mark.parametrize(("scale", "wanted"), [(1, "proven"), (4095, "unknown")])
def test_sum_with_a_residual_past_two_to_the_24_is_not_exact(scale: int, wanted: str) -> None:
    graph = GraphBuilder((1, 2, 1, 1), "dyn18v")
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    wide = graph.convolution(codes, np.full((1, 2, 1, 1), 127), [0], [scale], [0], (1 - 2**24, 2**24 - 1))
    other = graph.convolution(codes, np.ones((1, 2, 1, 1), np.int64), [0], [1], [0], (-255, 255))
    model = graph.model(graph.saturate(graph.node("Add", other, wide), (-128, 127)))
    assert certify(InferenceSession(model).program).steps[-1].kind == "PWCONVRES"
    found = judged(model)[EXACT]
    assert found.verdict == wanted
    assert ("residual" in found.reason) == (wanted == "unknown")


def in_element_type(model: bytes, dtype: type) -> bytes:
    """The same graph in another float type."""
    proto = onnx.load_from_string(model)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    return bytes(proto.SerializeToString())


def test_other_floats_hold_other_integers() -> None:
    model = fully_connected(np.array([7]), 81721 - 889, 247, 17, (0, 255))
    assert verdict(model, EXACT) == "violated"
    assert verdict(in_element_type(model, np.float64), EXACT) == "proven"
    assert verdict(fully_connected(np.full(1025, -128)), EXACT) == "unknown"
    assert verdict(in_element_type(fully_connected(np.full(1025, -128)), np.float64), EXACT) == "proven"
    half = judged(in_element_type(fully_connected(np.array([7])), np.float16))[EXACT]
    assert half.verdict is Verdict.UNKNOWN
    assert "float16" in half.reason


def test_conjunction_names_the_worst() -> None:
    assert conjunction([("a", proven("x")), ("b", unknown("y")), ("c", violated("z", {}))]).verdict is Verdict.VIOLATED
    assert conjunction([("a", unknown("y")), ("b", unknown("z"))]).reason == "layer 'a': y; and 1 more"
    assert conjunction([("a", proven("x")), ("b", proven("y"))]).holds


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_random_networks_within_float32_are_proven(network: Network) -> None:
    """The strategy keeps every product below 2**24: there is nothing to be left unknown."""
    certificate = certify(InferenceSession(network.model).program)
    assert certificate.model[EXACT].holds, certificate.model[EXACT].reason
    assert certificate.model[OPTIMIZED].holds, certificate.model[OPTIMIZED].reason
    assert certificate.model[SOFT].holds


def certified(export: Export) -> Certificate:
    return certify(InferenceSession(str(export.model)).program)


def test_exports_are_proven_exact_but_for_the_known_ones(export: Export) -> None:
    certificate = certified(export)
    open_ones = [(step.kind, step.name) for step in certificate.steps if not step.judgements[EXACT].holds]
    if export.network == "H_BIGACC":
        assert {kind for kind, _ in open_ones} == {"GCONV", "FC"}
    else:
        assert {kind for kind, _ in open_ones} <= {"HOST"}
        assert bool(open_ones) == any(mark in export.name for mark in FLOAT_ISLANDS)
    assert certificate.model[SOFT].holds
    for step in certificate.steps:
        assert Verdict.VIOLATED not in {judgement.verdict for judgement in step.judgements.values()}


@pytest.mark.exports
def test_the_first_dense_layer_of_lenet_can_leave_18_bits() -> None:
    for name in ("CNN_LENET5__qat_w8a8_oi__ts17", "CNN_LENET5__ptq_w4a8_oi__ts17"):
        certificate = certified(load_export(name))
        open_ones = [step for step in certificate.steps if not step.judgements[DIGITS].holds]
        assert [step.kind for step in open_ones] == ["FC"]
        assert open_ones[0] is next(step for step in certificate.steps if step.kind == "FC")
        assert open_ones[0].judgements[DIGITS].evidence["value"] > 2**17


@pytest.mark.slow
@pytest.mark.exports
def test_the_table_of_the_benchmark_is_that_of_the_exports(tmp_path: Path) -> None:
    script, output = ROOT / "benchmarks" / "bounds_exports.py", tmp_path / "BOUNDS.md"
    environment = {**os.environ, "NPUSIM_EXPORTS": str(EXPORTS_FOLDER)}
    done = subprocess.run([sys.executable, script, "-o", output], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith(f"{len(export_names())} exports in ")
    assert output.read_text(encoding="utf-8") == (ROOT / "benchmarks" / "BOUNDS.md").read_text(encoding="utf-8")


@pytest.mark.exports
def test_the_only_bias_wider_than_its_bits_is_that_of_the_big_accumulator() -> None:
    for name, wanted in (("H_BIGACC__qat_w4a8_oi__ts17", ["bias_width"]), ("CNN_LENET5__qat_w4a8_oi__ts17", [])):
        found = findings_of(certified(load_export(name)))
        assert [finding.rule for finding in found if finding.severity == "error"] == wanted


def test_what_layers_of_tensorflow_lite_compute_inside_is_not_examined() -> None:
    """A softmax adds up exponentials in integers of its own; a Reshape adds up nothing."""
    certificate = certify(InferenceSession(small_tflite()).program)
    found = {part.name: part.judgements[Property.ACCUMULATOR_INT32].verdict for part in certificate.steps}
    assert found.pop("z") is Verdict.UNKNOWN
    assert set(found) == {"c", "c:channels_last", "r", "y"}
    assert set(found.values()) == {Verdict.PROVEN}
