"""Injected faults: a layer's codes under each of them, against Python integers, and what the rest of a program makes of it."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.engine.input_stages import stage_codes, stage_parameters
from npusim.engine.replay import run_with
from npusim.golden.faults import (
    Fault,
    FaultKind,
    FaultRunner,
    codes_without_point,
    faults_of_layer,
    faulty_codes,
    point_faults,
    run_with_fault,
    wrapped,
)
from npusim.kernels.requantize import weight_digits
from npusim.program import Accumulating, Convolution, IntegerLayer, LayerKind, Program, QuantizeStage, Weighted
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import InputStage
from support.fuzz_seeds import quantized
from support.golden_check_models import MODELS, feeds_for, session_for


def low_bits(value: int, bits: int) -> int:
    """Two's complement by division, another way than the code under test takes."""
    rest = value % 2**bits
    return rest - 2**bits if rest >= 2 ** (bits - 1) else rest


def clipped(value: int, lower: int, upper: int) -> int:
    return min(max(value, lower), upper)


def one_code(layer: IntegerLayer, kind: FaultKind | None, channel: int, acc: int, digits: list[int], residual: int) -> int:
    """A code from its accumulator, in Python integers."""
    r = layer.requantization
    bias, scale, shift = (int(values[channel % values.size]) for values in (r.bias, r.scale, r.shift))
    if kind is FaultKind.FIRST_SCALE:
        scale, shift = int(r.scale[0]), int(r.shift[0])
    if kind is FaultKind.WRAP_18:
        acc = low_bits(acc, 18)
    if kind is FaultKind.WRAP_24:
        acc = low_bits(acc, 24)
    if kind is FaultKind.DIGITS_WRAP:
        acc = sum(low_bits(digit, 18) * 4**place for place, digit in enumerate(digits))
    if kind is FaultKind.DIGITS_SATURATE:
        acc = sum(clipped(digit, -(2**17), 2**17 - 1) * 4**place for place, digit in enumerate(digits))
    product = (acc + (0 if kind is FaultKind.NO_BIAS else bias)) * scale
    if kind is FaultKind.WRAP_32:
        product = low_bits(product, 32)
    exact = Fraction(product, 2**shift)
    if kind is FaultKind.ROUND_HALF_UP:
        value = floor(exact + Fraction(1, 2))
    elif kind is FaultKind.ROUND_HALF_EVEN:
        value = round(exact)
    elif kind is FaultKind.ROUND_HALF_AWAY:
        value = floor(abs(exact) + Fraction(1, 2)) * (1 if exact > 0 else -1)
    else:
        value = int(exact) if kind is FaultKind.TOWARD_ZERO else floor(exact)
    if layer.kind is LayerKind.PWCONVRES:
        inner = (r.clip.lower, r.clip.upper)
        if kind is not FaultKind.NO_INNER:
            value = clipped(value, *((-512, 511) if kind is FaultKind.INNER_512 else inner))
        value += residual
    return value if kind is FaultKind.NO_CLIP else clipped(value, layer.output_clip.lower, layer.output_clip.upper)


def stage_oracle(program: Program, stage: QuantizeStage, values: np.ndarray, kind: FaultKind) -> np.ndarray:
    """Codes of another input stage; the roundings of the float in Python, from the product in float32."""
    if kind in (FaultKind.C28, FaultKind.MSPM0):
        return stage_codes(program, stage, values, InputStage.C28 if kind is FaultKind.C28 else InputStage.MSPM0)
    known = stage_parameters(program, stage)
    product = (values + known.offset) * known.multiplier
    shifts = np.broadcast_to(known.shift, product.shape)
    exact = [Fraction(float(product[index])) / 2 ** int(shifts[index]) for index in np.ndindex(product.shape)]
    whole = [int(value) if kind is FaultKind.TRUNCATED else round(value) for value in exact]
    codes = [clipped(value, stage.clip.lower, stage.clip.upper) for value in whole]
    return np.array(codes, program.tensors[stage.output].stored).reshape(product.shape)


def oracle(layer: IntegerLayer, inputs: list[np.ndarray], kind: FaultKind | None, stored: np.dtype) -> np.ndarray:
    codes = [values.astype(np.int64) for values in inputs]
    acc = accumulate(layer, codes)
    parts = []
    if isinstance(layer, Weighted) and FaultKind.DIGITS_WRAP in faults_of_layer(layer):
        parts = [accumulate(layer, codes, digit) for digit in weight_digits(layer.weights, bits=layer.weight_bits)]
    result = np.empty(acc.shape, np.int64)
    for index in np.ndindex(acc.shape):
        residual = int(codes[1][index]) if layer.kind is LayerKind.PWCONVRES else 0
        result[index] = one_code(layer, kind, index[1], int(acc[index]), [int(part[index]) for part in parts], residual)
    bits = 8 * stored.itemsize
    if stored.kind == "u":
        return (result % 2**bits).astype(stored)
    return np.vectorize(lambda value: low_bits(int(value), bits))(result).astype(stored)


@pytest.mark.parametrize("name", MODELS)
def test_codes_under_every_fault_are_those_of_python_integers(name: str) -> None:
    session = session_for(name)
    trace = session.trace({key: values[:2] for key, values in feeds_for(name).items()})
    for layer in session.program.layers:
        kinds = faults_of_layer(layer)
        inputs = [trace[key] for key in layer.inputs]
        stored = session.program.tensors[layer.output].stored
        assert (not isinstance(layer, Accumulating)) == (kinds == ())
        found = faulty_codes(layer, inputs, kinds, stored)
        for kind in kinds:
            assert found[kind].dtype == stored
            assert np.array_equal(found[kind], oracle(layer, inputs, kind, stored)), (layer.name, kind)
        if kinds:
            assert np.array_equal(trace[layer.output], oracle(layer, inputs, None, stored))


@pytest.mark.parametrize("name", MODELS)
def test_the_rest_of_the_program_runs_as_it_should(name: str) -> None:
    session, feeds = session_for(name), feeds_for(name)
    program = session.program
    target = program.resolve(program.outputs[0])
    runner = FaultRunner(program, feeds, target)
    assert np.array_equal(runner.expected, session.trace(feeds, [target])[target])
    trace = session.trace(feeds)
    layers = {layer.name: layer for layer in program.layers}
    (stage,) = program.quantize_stages
    seen = 0
    for fault, values in runner.runs():
        if fault.step is None:
            continue
        if fault.step == stage.name:
            override = {stage.output: stage_oracle(program, stage, feeds["input"], fault.kind)}
        else:
            layer = layers[fault.step]
            stored = program.tensors[layer.output].stored
            inputs = [trace[key] for key in layer.inputs]
            override = {layer.output: faulty_codes(layer, inputs, [fault.kind], stored)[fault.kind]}
        wanted = run_with(program, feeds, override, [target])[target]
        assert (values is None) == np.array_equal(wanted, runner.expected)
        assert np.array_equal(runner.run(fault), wanted)
        if values is not None:
            seen += 1
            assert np.array_equal(values, wanted)
    assert seen > 3


def test_a_fault_in_all_layers_is_one_in_each() -> None:
    session, feeds = session_for("vibration_w8"), feeds_for("vibration_w8")
    program = session.program
    values = {"input": feeds["input"]}
    trace = session.trace(feeds)
    codes = {program.quantize_stages[0].output: trace[program.quantize_stages[0].output]}
    for layer in program.layers:
        stored = program.tensors[layer.output].stored
        if faults_of_layer(layer):
            codes[layer.output] = faulty_codes(layer, [codes[layer.inputs[0]]], [FaultKind.ROUND_HALF_UP], stored)[
                FaultKind.ROUND_HALF_UP
            ]
        else:
            codes.update(run_with(program, feeds, {layer.inputs[0]: codes[layer.inputs[0]]}, [layer.output]))
    found = run_with_fault(program, values, Fault(FaultKind.ROUND_HALF_UP, None), "output")
    assert np.array_equal(found, codes["output"])
    assert not np.array_equal(found, trace["output"])


def test_only_faults_upstream_of_the_tensor_count() -> None:
    program = session_for("vibration_w8").program
    first, later = program.layers[0], program.layers[2]
    runner = FaultRunner(program, feeds_for("vibration_w8"), first.output)
    names = {fault.step for fault, _ in runner.runs()}
    assert names == {program.quantize_stages[0].name, first.name}
    inner = FaultRunner(program, feeds_for("vibration_w8"), later.taps[0].tensor)
    assert later.name not in {fault.step for fault, _ in inner.runs()}


def raw_sums(layer: Convolution, raw: np.ndarray, padding: int, point: int) -> np.ndarray:
    """Sums of ``weight * (code - point)``, the border filled with the code `padding`, element by element in Python integers."""
    window, rank = layer.window, raw.ndim - 2
    begins, ends = window.pads[:rank], window.pads[rank:]
    wide = np.pad(raw, [(0, 0), (0, 0), *zip(begins, ends, strict=True)], constant_values=padding)
    found = np.zeros((len(raw), *layer.accumulator_shape[1:]), np.int64)
    per_group = layer.weights.shape[0] // layer.group
    for index in np.ndindex(found.shape):
        sample, channel, *place = index
        first = channel // per_group * layer.weights.shape[1]
        for tap in np.ndindex(layer.weights.shape[1:]):
            at = [
                start * stride + step * gap
                for start, stride, step, gap in zip(place, window.strides, tap[1:], window.dilations, strict=True)
            ]
            code = int(wide[(sample, first + tap[0], *at)])
            found[index] += int(layer.weights[(channel, *tap)]) * (code - point)
    return found


def test_zero_points_that_are_left_out(tmp_path: Path) -> None:
    session = InferenceSession(quantized(tmp_path, "qdq"))
    program, (given,) = session.program, session.get_inputs()
    values = np.random.default_rng(4).normal(0, 1, (2, *given.shape[1:])).astype(np.float32)
    trace = session.trace({given.name: values})
    layer = next(one for one in program.layers if isinstance(one, Convolution) and any(one.window.pads))
    source, result = program.tensors[layer.inputs[0]], program.tensors[layer.output]
    raw, inputs = trace[layer.inputs[0]].astype(np.int64), [source.as_held(trace[layer.inputs[0]])]
    points = source.zero_point, result.zero_point
    assert all(points)
    assert point_faults(layer, *points) == (FaultKind.INPUT_POINT, FaultKind.PADDING, FaultKind.OUTPUT_POINT)
    assert point_faults(layer, 0, 0) == ()
    for kind, padding, point in (
        (FaultKind.INPUT_POINT, 0, 0),
        (FaultKind.PADDING, 0, points[0]),
        (FaultKind.OUTPUT_POINT, points[0], points[0]),
    ):
        codes = layer.requantization.unclipped(raw_sums(layer, raw, padding, point), layer.channel_axis)
        added = 0 if kind is FaultKind.OUTPUT_POINT else points[1]
        lower, upper = layer.output_clip.lower + points[1], layer.output_clip.upper + points[1]
        shown = codes_without_point(layer, inputs, kind, *points) + points[1]
        assert np.array_equal(shown, np.clip(codes + added, lower, upper)), kind
        assert not np.array_equal(shown, trace[layer.output]), kind


def test_wrapping_at_the_ends() -> None:
    ends = np.array([-(2**17), 2**17 - 1, 2**17, -(2**17) - 1, 0, 2**18])
    assert wrapped(ends, 18).tolist() == [-(2**17), 2**17 - 1, -(2**17), 2**17 - 1, 0, 0]


def test_faults_say_where_they_are() -> None:
    assert str(Fault(FaultKind.NO_BIAS, "/conv/Conv")) == "in '/conv/Conv' the bias is missing"
    assert str(Fault(FaultKind.TOWARD_ZERO, None)) == "in all layers the shift rounds toward zero instead of flooring"


def test_a_stage_that_rounds_saturates_what_passes_float32() -> None:
    session = session_for("wide")
    (stage,) = session.program.quantize_stages
    largest = float(np.finfo(np.float32).max)
    values = np.stack([np.full(1024, value, np.float32) for value in (largest, -largest)])
    with np.errstate(all="raise"):
        found = run_with_fault(session.program, {"input": values}, Fault(FaultKind.ROUNDED, stage.name), stage.output)
    assert found.tolist() == [[stage.clip.upper] * 1024, [stage.clip.lower] * 1024]
