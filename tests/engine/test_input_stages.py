"""The implementations of the input stage, against C's rules written out in plain Python integers and fractions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim
from npusim import InferenceSession, InputError, UnsupportedError, UsageError, explain_element, verify
from npusim.engine.input_stages import compare_stages, stage_codes, stage_parameters, values_for_codes
from npusim.engine.second_opinion import SecondOpinion
from npusim.files.arrays import read_npz, write_arrays
from npusim.graph import Array
from npusim.program import Program, QuantizeStage
from npusim.program.input_stage import InputStage, input_stages
from npusim.program.intervals import analyse
from npusim.verification import compare_with_runtime, runtime
from support import ROOT, Export
from support.builders import GraphBuilder
from support.command_line import call, checked_json

W8 = ROOT / "golden" / "vibration_w8.onnx"


def stage_of(
    offset: float, multiplier: int, shift: int, *, unsigned: bool = False, dialect: str = "ts17"
) -> tuple[Program, QuantizeStage]:
    graph = GraphBuilder((1, 1), dialect)
    shaped = [np.full((1, 1), value) for value in (offset, multiplier, shift)]
    scaled = graph.scale(graph.binary("Add", "input", shaped[0]), shaped[1], shaped[2])
    codes = graph.clip(graph.node("Floor", scaled), *((0, 255) if unsigned else (-128, 127)))
    out = graph.fully_connected(codes, np.eye(1, dtype=np.int64), np.zeros(1), [1], [1], (-128, 127))
    program = InferenceSession(graph.model(out)).program
    (stage,) = input_stages(program)
    return program, stage


def codes(stage: tuple[Program, QuantizeStage], variant: InputStage, *values: float) -> list[int]:
    made = stage_codes(*stage, np.array(values, np.float32).reshape(-1, 1), variant)
    return made.ravel().tolist()


def in_c(variant: InputStage, value: float, offset: float, multiplier: int, shift: int, *, unsigned: bool) -> int:
    """What C computes, one rounding at a time; in the graph a multiplication by a power of two may underflow."""
    product = np.float32(np.float32(np.float32(value) + np.float32(offset)) * np.float32(multiplier))
    if variant is InputStage.GRAPH:
        code = math.floor(product * np.float32(2.0**-shift))
    elif variant is InputStage.TRUNCATED:
        code = max(-(2**31), min(2**31 - 1, int(product * np.float32(2.0**-shift))))
    else:
        whole = math.floor(product) if variant is InputStage.C28 else int(product)
        code = max(-(2**31), min(2**31 - 1, whole)) // 2**shift
    lower, upper = (0, 255) if unsigned and variant is not InputStage.C28 else (-128, 127)
    code = max(lower, min(upper, code))
    return code % 256 if unsigned else code


def test_example_of_the_docstring() -> None:
    stage = stage_of(0, 3, 1)
    assert [codes(stage, variant, -0.5, -0.25) for variant in InputStage] == [[-1, -1], [-1, -1], [-1, 0], [0, 0]]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20),
    offset=st.floats(-100, 100, width=32),
    multiplier=st.integers(-4095, 4095),
    shift=st.integers(0, 20),
    unsigned=st.booleans(),
)
def test_codes_are_those_of_c(values: list[float], offset: float, multiplier: int, shift: int, unsigned: bool) -> None:
    stage = stage_of(offset, multiplier, shift, unsigned=unsigned)
    for variant in InputStage:
        wanted = [in_c(variant, value, offset, multiplier, shift, unsigned=unsigned) for value in values]
        assert codes(stage, variant, *values) == wanted, variant


def test_a_negative_product_may_underflow_to_zero_in_the_graph_alone() -> None:
    stage = stage_of(-(2.0**-149), 1, 3)
    assert [codes(stage, variant, 0.0) for variant in InputStage] == [[0], [-1], [0], [0]]


def test_mspm0_differs_next_to_boundaries_of_negative_codes_only() -> None:
    stage = stage_of(0, 5, 3)
    values = [step / 16 for step in range(-64, 65)]
    onnx, c28, mspm0, _ = (np.array(codes(stage, variant, *values)) for variant in InputStage)
    np.testing.assert_array_equal(onnx, c28)
    products = np.array(values) * 5
    crossed = (products < 0) & (np.floor(products) != products) & ((np.floor(products) + 1) % 8 == 0)
    np.testing.assert_array_equal(mspm0 - onnx, crossed)
    assert 0 < crossed.sum() < 10


def test_c28_saturates_an_unsigned_model_to_signed_bytes() -> None:
    stage = stage_of(0, 1, 0, unsigned=True)
    values = [-1, 5, 127, 128, 200, 300]
    assert codes(stage, InputStage.GRAPH, *values) == [0, 5, 127, 128, 200, 255]
    assert codes(stage, InputStage.MSPM0, *values) == [0, 5, 127, 128, 200, 255]
    assert codes(stage, InputStage.C28, *values) == [255, 5, 127, 127, 127, 127]


def test_products_beyond_int32_saturate_as_processors_convert_them() -> None:
    # 2^30 * 4095 >> 31 is 2047, but int32's largest >> 31 is 0, and its smallest -1
    stage = stage_of(0, 4095, 31)
    assert [codes(stage, variant, 2.0**30, -(2.0**30)) for variant in InputStage] == [
        *([127, -128], [0, -1], [0, -1], [127, -128])
    ]


def test_parameters_are_read_from_the_graph_or_split_from_one_factor() -> None:
    for dialect, multiplier, shift, derived in (("ts17", 12, 5, False), ("ts17new", 3, 3, True)):
        program, stage = stage_of(0.25, 12, 5, dialect=dialect)
        known = stage_parameters(program, stage)
        found = (float(known.offset.item()), float(known.multiplier.item()), int(known.shift.item()), known.derived)
        assert found == (0.25, multiplier, shift, derived)


def test_a_stage_without_a_whole_multiplier_has_no_variants() -> None:
    graph = GraphBuilder((1, 1))
    scaled = graph.binary("Mul", graph.binary("Mul", "input", 1 / 3), 0.7)
    codes_name = graph.clip(graph.node("Floor", scaled), -128, 127)
    out = graph.fully_connected(codes_name, np.eye(1, dtype=np.int64), np.zeros(1), [1], [1], (-128, 127))
    program = InferenceSession(graph.model(out)).program
    (stage,) = input_stages(program)
    x = np.ones((1, 1), np.float32)
    assert stage_codes(program, stage, 9 * x, InputStage.GRAPH).item() == 2
    with pytest.raises(UnsupportedError, match="variants of it are not defined; use the input stage 'graph'"):
        stage_codes(program, stage, x, InputStage.C28)
    assert [item.undefined is not None for item in compare_stages(program, {"input": x})] == [True, True]


@pytest.mark.parametrize("variant", list(InputStage))
@pytest.mark.parametrize(("multiplier", "shift"), [(1, 0), (-1, 0), (5, 3), (-3333, 9), (4095, 12)])
def test_values_for_codes_make_these_codes(variant: InputStage, multiplier: int, shift: int) -> None:
    program, stage = stage_of(-3.75, multiplier, shift)
    wanted = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1)
    values = values_for_codes(program, stage, wanted, variant)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(stage_codes(program, stage, values, variant), wanted)


def test_codes_that_no_value_makes_are_refused() -> None:
    program, stage = stage_of(0, 1, 0, unsigned=True)
    with pytest.raises(InputError, match=r"never makes the code 130 given at index \[1, 0\]"):
        values_for_codes(program, stage, np.array([[7], [130]], np.uint8), InputStage.C28)


def test_differences_name_the_samples_whose_outputs_change() -> None:
    session = InferenceSession(W8)
    x = read_npz(ROOT / "golden" / "vibration_inputs.npz")["input"]
    c28, mspm0 = compare_stages(session.program, {"input": x})
    assert (c28.values, c28.different_values, c28.different_samples, c28.changed) == (x.size, 0, 0, ())
    (stage,) = input_stages(session.program)
    made = [stage_codes(session.program, stage, x, variant) for variant in (InputStage.GRAPH, InputStage.MSPM0)]
    unequal = made[0] != made[1]
    assert mspm0.different_values == unequal.sum() > 0
    assert mspm0.different_samples == unequal.any(axis=(1, 2, 3)).sum()
    assert set(mspm0.changed) < set(np.flatnonzero(unequal.any(axis=(1, 2, 3))).tolist())
    assert mspm0.changed_outputs == len(mspm0.changed) > 0


def test_real_exports_have_all_of_them(export: Export) -> None:
    session = InferenceSession(export.model)
    x = export.inputs()[[0, 33, 70]]
    (stage,) = input_stages(session.program)
    onnx, c28, mspm0, truncated = (stage_codes(session.program, stage, x, variant) for variant in InputStage)
    trace = session.trace({stage.input: x}, stage.output)
    np.testing.assert_array_equal(onnx, trace[stage.output])
    np.testing.assert_array_equal(np.clip(c28, stage.clip.lower, stage.clip.upper), onnx)
    for toward_zero in (mspm0, truncated):
        assert np.isin(toward_zero.astype(np.int64) - onnx, (0, 1)).all()


VARIANTS = [variant for variant in InputStage if variant is not InputStage.GRAPH]


def network(lower: int, upper: int, *, dialect: str = "ts17") -> bytes:
    """An input stage of a range, a layer, and a product on the host."""
    graph = GraphBuilder((1, 3, 4, 1), dialect)
    scaled = graph.scale(
        graph.binary("Add", "input", np.array([0.5, -2, 0.25]).reshape(1, 3, 1, 1)),
        np.array([9, -7, 11]).reshape(1, 3, 1, 1),
        np.array([2, 3, 3]).reshape(1, 3, 1, 1),
    )
    stage = graph.clip(graph.node("Floor", scaled), lower, upper)
    weights = np.random.default_rng(2).integers(-90, 91, (4, 3, 3, 1))
    layer = graph.convolution(stage, weights, np.array([3, -9, 5, 0]), [1] * 4, [6] * 4, (-128, 127), pads=[1, 0, 1, 0])
    return graph.model(layer, graph.node("Mul", stage, stage))


RANGES = [(-128, 127), (0, 255), (-8, 7), (0, 127), (-255, 255)]


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_sessions_compute_what_the_layers_make_of_the_codes_of_c(variant: InputStage, ends: tuple[int, int]) -> None:
    model = network(*ends)
    x = np.random.default_rng(1).normal(0, 60, (70, 3, 4, 1)).astype(np.float32)
    found = {engine: InferenceSession(model, engine=engine, input_stage=variant) for engine in ("fast", "reference")}
    plain = InferenceSession(model)
    traces = [session.trace({"input": x}) for session in found.values()]
    assert all(np.array_equal(traces[0][name], traces[1][name]) for name in traces[1])
    (stage,) = input_stages(plain.program)
    constants = [(0.5, 9, 2), (-2, -7, 3), (0.25, 11, 3)]
    unsigned = ends[0] == 0
    wanted = np.zeros(x.shape, np.int64)
    for place, value in np.ndenumerate(x):
        offset, multiplier, shift = constants[place[1]]
        code = in_c(variant, value, offset, multiplier, shift, unsigned=unsigned and variant is InputStage.C28)
        if variant is not InputStage.C28:
            wide = in_range(variant, value, offset, multiplier, shift)
            code = max(ends[0], min(ends[1], wide))
        wanted[place] = code
    np.testing.assert_array_equal(traces[0][stage.output], wanted)
    # the layers behind, on these codes, by onnxruntime through values from which the graph would make them
    layer, product = found["fast"].run(None, {"input": x})
    np.testing.assert_array_equal(product, (wanted * wanted).astype(np.float32))
    if ends == (-255, 255) or (wanted.min() >= ends[0] and wanted.max() <= ends[1]):
        values = values_for_codes(plain.program, stage, wanted, InputStage.GRAPH)
        np.testing.assert_array_equal(layer, plain.run(None, {"input": values})[0])
    chunks = found["fast"].run_chunks({"input": x[start : start + 9]} for start in range(0, 70, 9))
    np.testing.assert_array_equal(np.concatenate([chunk[0] for chunk in chunks]), layer)


def in_range(variant: InputStage, value: float, offset: float, multiplier: int, shift: int) -> int:
    """A code before it is saturated, toward zero, with products far below 2**31."""
    product = np.float32(np.float32(np.float32(value) + np.float32(offset)) * np.float32(multiplier))
    return int(product) >> shift if variant is InputStage.MSPM0 else int(product * np.float32(2.0**-shift))


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_computed_leaves_what_is_proven_for_that_stage(variant: InputStage, ends: tuple[int, int]) -> None:
    session = InferenceSession(network(*ends), input_stage=variant)
    found = analyse(session.program)
    x = np.random.default_rng(3).normal(0, 60, (300, 3, 4, 1)).astype(np.float32)
    x[:2] = np.finfo(np.float32).max * np.array([1, -1]).reshape(2, 1, 1, 1)
    trace = session.trace({"input": x})
    for name, interval in found.tensors.items():
        assert (trace[name] >= interval.lower).all(), name
        assert (trace[name] <= interval.upper).all(), name
    (stage,) = input_stages(session.program)
    assert trace[stage.output].min() == found.tensors[stage.output].lower.min()
    assert trace[stage.output].max() == found.tensors[stage.output].upper.max()


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_verify_gives_onnxruntime_the_codes_and_finds_a_wrong_layer(
    variant: InputStage, ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = InferenceSession(network(*ends), input_stage=variant)
    x = np.random.default_rng(4).normal(0, 60, (7, 3, 4, 1)).astype(np.float32)
    result = verify(session, {"input": x})
    assert result, result.findings
    assert result.model.input_stage == result.input_stage.variant == variant
    assert [item.variant for item in result.input_stage.differences] == VARIANTS
    assert result.every_input.verdict == "unknown"
    assert "QUANTIZE" not in {str(step.kind) for step in result.layers}
    assert compare_with_runtime(session, {"input": x})

    class Wrong(SecondOpinion):
        """onnxruntime with one added to the outputs."""

        def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            return {
                name: values + 1 if name in session.program.outputs else values for name, values in super().run(feeds).items()
            }

    monkeypatch.setattr(runtime, "SecondOpinion", Wrong)
    assert not verify(session, {"input": x})


def test_certificates_say_for_which_stage_they_hold(tmp_path: Path) -> None:
    model, certificate = tmp_path / "model.onnx", tmp_path / "certificate.json"
    model.write_bytes(network(0, 127))
    for variant in InputStage:
        said = checked_json("bounds", call("bounds", model, "--input-stage", variant, "-o", certificate, "--force", "--json"))
        assert said["model"]["input_stage"] == variant
        assert json.loads(certificate.read_text())["model"]["input_stage"] == variant
        assert call("bounds", model, "--input-stage", variant, "--check", certificate).code == 0
        exact = "proven" if variant is InputStage.GRAPH else "unknown"
        assert (said["verdicts"]["onnxruntime_exact"], said["verdicts"]["soft_int32"]) == (exact, "proven")
    assert call("bounds", model, "--check", certificate).code == 1


@pytest.mark.slow
def test_every_command_says_whose_input_stage_it_ran(tmp_path: Path) -> None:
    model, x = tmp_path / "model.onnx", tmp_path / "x.npz"
    model.write_bytes(network(-128, 127))
    write_arrays(x, {"input": np.random.default_rng(6).normal(0, 9, (5, 3, 4, 1)).astype(np.float32)})
    calls = {
        "run": ("run", model, x, "-o", tmp_path / "out.npz", "--force"),
        "verify": ("verify", model, x),
        "compare": ("compare", model, "--against", "ort", "--data", x),
        "inspect": ("inspect", model),
        "bounds": ("bounds", model),
    }
    outputs = {}
    for variant in ("graph", "mspm0"):
        for name, arguments in calls.items():
            said = checked_json(name, call(*arguments, "--input-stage", variant, "--json"))
            assert (said["ok"], said["model"]["input_stage"]) == (True, variant)
        outputs[variant] = read_npz(tmp_path / "out.npz")
    wanted = InferenceSession(model, input_stage="mspm0").run(None, read_npz(x))[0]
    assert any(np.array_equal(values, wanted) for values in outputs["mspm0"].values())
    assert any((outputs["graph"][name] != outputs["mspm0"][name]).any() for name in outputs["graph"])
    again = call("compare", model, "--against", model, "--data", x, "--input-stage", "mspm0")
    assert again.code == 0, again
    told = " ".join(call("verify", model, x, "--input-stage", "mspm0").out.split())
    assert "What follows holds for the 'mspm0' input stage" in told
    assert "Of 5 samples, these have other codes and other outputs than the graph's: c28 0 and 0, mspm0" in told


def test_models_without_an_input_stage_have_no_variants() -> None:
    graph = GraphBuilder((1, 3))
    model = graph.model(graph.node("Relu", "input"))
    with pytest.raises(UnsupportedError, match="has no input stage"):
        InferenceSession(model, input_stage="c28")
    with pytest.raises(UsageError, match="there is no input stage 'c29'; the input stages are graph, c28, mspm0, truncated"):
        InferenceSession(model, input_stage="c29")


def test_the_arithmetic_of_a_code_is_that_of_the_device() -> None:
    x = np.array([-0.5, 3.25, 7], np.float32).reshape(1, 3, 1, 1).repeat(4, axis=2)
    for variant in VARIANTS:
        session = InferenceSession(network(-128, 127), input_stage=variant)
        (stage,) = input_stages(session.program)
        made = session.trace({"input": x})[stage.output]
        for channel in range(3):
            element = explain_element(session, {"input": x}, stage.output, 0, (channel, 1, 0))
            assert element.code == made[0, channel, 1, 0]
            assert element.operations[-1].result == element.code


@pytest.mark.slow
def test_golden_folders_of_every_stage_prove_themselves(tmp_path: Path) -> None:
    x = read_npz(ROOT / "golden" / "vibration_inputs.npz")["input"][:2]
    for variant in InputStage:
        folder = tmp_path / variant
        session = InferenceSession(W8, input_stage=variant)
        npusim.write_golden(session, folder, x, sets=2, formats=("npz",))
        assert json.loads((folder / "manifest.json").read_text())["input_stage"]["variant"] == variant.recorded
        assert npusim.verify_golden(folder)
        stored = read_npz(folder / "vectors.npz")
        (output,) = session.run(None, {"input": stored["input"]})
        np.testing.assert_array_equal(stored[session.get_outputs()[0].name], output)
