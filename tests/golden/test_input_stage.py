"""The three implementations of the input stage, against C's rules written out in plain Python integers and fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import InferenceSession, InputError, UnsupportedError
from npusim.files.arrays import read_npz
from npusim.golden.input_stage import InputStage, compare_stages, input_stages, stage_codes, stage_parameters, values_for_codes
from npusim.program import Program, QuantizeStage
from support import ROOT, Export
from support.builders import GraphBuilder

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
    if variant is InputStage.ONNX:
        code = math.floor(product * np.float32(2.0**-shift))
    else:
        whole = math.floor(product) if variant is InputStage.C28 else int(product)
        code = max(-(2**31), min(2**31 - 1, whole)) // 2**shift
    lower, upper = (0, 255) if unsigned and variant is not InputStage.C28 else (-128, 127)
    code = max(lower, min(upper, code))
    return code % 256 if unsigned else code


def test_example_of_the_docstring() -> None:
    stage = stage_of(0, 3, 1)
    assert [codes(stage, variant, -0.5, -0.25) for variant in InputStage] == [[-1, -1], [-1, -1], [-1, 0]]


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
    assert [codes(stage, variant, 0.0) for variant in InputStage] == [[0], [-1], [0]]


def test_mspm0_differs_next_to_boundaries_of_negative_codes_only() -> None:
    stage = stage_of(0, 5, 3)
    values = [step / 16 for step in range(-64, 65)]
    onnx, c28, mspm0 = (np.array(codes(stage, variant, *values)) for variant in InputStage)
    np.testing.assert_array_equal(onnx, c28)
    products = np.array(values) * 5
    crossed = (products < 0) & (np.floor(products) != products) & ((np.floor(products) + 1) % 8 == 0)
    np.testing.assert_array_equal(mspm0 - onnx, crossed)
    assert 0 < crossed.sum() < 10


def test_c28_saturates_an_unsigned_model_to_signed_bytes() -> None:
    stage = stage_of(0, 1, 0, unsigned=True)
    values = [-1, 5, 127, 128, 200, 300]
    assert codes(stage, InputStage.ONNX, *values) == [0, 5, 127, 128, 200, 255]
    assert codes(stage, InputStage.MSPM0, *values) == [0, 5, 127, 128, 200, 255]
    assert codes(stage, InputStage.C28, *values) == [255, 5, 127, 127, 127, 127]


def test_products_beyond_int32_saturate_as_processors_convert_them() -> None:
    # 2^30 * 4095 >> 31 is 2047, but int32's largest >> 31 is 0, and its smallest -1
    stage = stage_of(0, 4095, 31)
    assert [codes(stage, variant, 2.0**30, -(2.0**30)) for variant in InputStage] == [[127, -128], [0, -1], [0, -1]]


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
    assert stage_codes(program, stage, 9 * x, InputStage.ONNX).item() == 2
    with pytest.raises(UnsupportedError, match="variants of it are not defined; use the input stage 'onnx'"):
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
    made = [stage_codes(session.program, stage, x, variant) for variant in (InputStage.ONNX, InputStage.MSPM0)]
    unequal = made[0] != made[1]
    assert mspm0.different_values == unequal.sum() > 0
    assert mspm0.different_samples == unequal.any(axis=(1, 2, 3)).sum()
    assert set(mspm0.changed) < set(np.flatnonzero(unequal.any(axis=(1, 2, 3))).tolist())
    assert mspm0.changed_outputs == len(mspm0.changed) > 0


def test_real_exports_have_all_three(export: Export) -> None:
    session = InferenceSession(export.model)
    x = export.inputs()[[0, 33, 70]]
    (stage,) = input_stages(session.program)
    onnx, c28, mspm0 = (stage_codes(session.program, stage, x, variant) for variant in InputStage)
    trace = session.trace({stage.input: x}, stage.output)
    np.testing.assert_array_equal(onnx, trace[stage.output])
    np.testing.assert_array_equal(np.clip(c28, stage.clip.lower, stage.clip.upper), onnx)
    assert np.isin(mspm0.astype(np.int64) - onnx, (0, 1)).all()
