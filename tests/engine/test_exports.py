"""Every real export: outputs, every inner tensor, layers, batches and formats, all for equality."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from npusim import InferenceSession
from npusim.graph.rounding_limits import is_free
from npusim.program import (
    Accumulating,
    ArithmeticTap,
    HostOperation,
    IntegerLayer,
    LayerKind,
    Program,
    QuantizeStage,
    Weighted,
    geometry_of,
    weight_bits_of,
)
from npusim.verification import verify
from support import EXPORTS_FOLDER, Export, load_export, load_exports
from support.runtime_check import runtime_tensors

FLOAT_LAYERS = ("mpF", "H_CONVT2")
"""Exports that keep a convolution in float, whose sums may be rounded in any order."""

PAST_FLOAT32 = 2**24


def feeds_of(session: InferenceSession, export: Export, count: int | None = None) -> dict[str, np.ndarray]:
    return {session.get_inputs()[0].name: export.inputs()[:count]}


def free_tensors(program: Program) -> set[str]:
    """Tensors whose values may depend on the order in which floats are summed."""
    free: set[str] = set()
    for step in program.steps:
        starts = isinstance(step, HostOperation) and is_free(step.node)
        starts = starts and not program.tensors[step.tensors[0]].is_integer
        if starts or any(name in free for name in program.inputs_of(step)):
            free.update(step.tensors)
    return free


def test_outputs_equal_the_expected_ones(export: Export) -> None:
    session = InferenceSession(str(export.model))
    (output,) = session.run(None, feeds_of(session, export))
    expected = export.expected()
    assert output.dtype == expected.dtype
    if export.network == "H_CONVT2":
        return  # its outputs are float sums: test_the_only_freedom_is_the_order_of_float_sums
    np.testing.assert_array_equal(output, expected)


def test_every_tensor_equals_onnxruntime(export: Export) -> None:
    session = InferenceSession(str(export.model))
    feeds = feeds_of(session, export)
    trace = session.trace(feeds)
    program, free = session.program, free_tensors(session.program)
    assert bool(free) == any(mark in export.name for mark in FLOAT_LAYERS)
    rows = runtime_tensors(export.model.read_bytes(), feeds)
    for name in rows[0]:
        ours = trace[name]
        if program.resolve(name) in program.constants:
            np.testing.assert_array_equal(ours, rows[0][name], err_msg=name)
            continue
        theirs = np.concatenate([row[name] for row in rows])
        assert ours.shape == theirs.shape
        if name in free:
            continue
        if "H_BIGACC" in export.name or "CNN_LENET5__qat_w4a8" in export.name:
            # past 2**24 onnxruntime's float32 cannot hold the integer; everywhere else, and for all codes, equality
            held = small_enough(program, name, ours)
            ours, theirs = ours[held], theirs[held]
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def small_enough(program: Program, name: str, values: np.ndarray) -> np.ndarray:
    for layer in program.layers:
        for tap in layer.taps if isinstance(layer, Accumulating) else ():
            if tap.tensor == name and isinstance(tap, ArithmeticTap) and tap.clip is None:
                return np.abs(values.astype(np.float64)) * 2.0 ** int(tap.part.shift.max()) <= PAST_FLOAT32
    return np.ones(values.shape, bool)


def test_the_verification_finds_everything_equal(export: Export) -> None:
    session = InferenceSession(str(export.model))
    result = verify(session, feeds_of(session, export))
    assert result.ok, [step for step in result.steps if step.mismatches]
    assert result.samples == 74
    bounded = {step.kind for step in result.steps if step.comparison == "bounded"}
    assert bounded <= {"HOST", "CONSTANT"}
    if not any(mark in export.name for mark in FLOAT_LAYERS):
        assert "HOST" not in bounded
        assert result.optimized_mismatches == 0


def test_integer_parameters_become_integer_layers(export: Export) -> None:
    """Counted on the ONNX file itself: a Conv, Gemm, MatMul or pool whose weights are integers is a layer, any other is not."""
    program = InferenceSession(str(export.model)).program
    layers = {node: layer for layer in program.layers for node in layer.nodes}
    model = onnx.load(export.model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    counted = 0
    for node in model.graph.node:
        label = node.name or node.output[0]
        if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose"):
            integral = bool((constants[node.input[1]] == np.floor(constants[node.input[1]])).all())
            assert (label in layers) == integral, label
            counted += integral
        elif node.op_type in ("ReduceSum", "AveragePool", "MaxPool"):
            assert label in layers
            counted += 1
    residuals = sum(layer.kind in (LayerKind.ADD, LayerKind.PWCONVRES) for layer in program.layers)
    assert len(program.layers) == counted + residuals
    declared = {"2": {2}, "4": {4}, "8": {8}}[export.row["weight_bits"]] if not export.row["mixed_precision"] else {2, 4, 8}
    for layer in program.layers:
        if isinstance(layer, Weighted):
            assert layer.weight_bits in declared
            assert layer.weights.dtype == np.int64
        if isinstance(layer, Accumulating):
            assert layer.requantization.bias.dtype == layer.requantization.scale.dtype == np.int64
            assert (layer.requantization.shift >= 0).all()
            assert (layer.requantization.shift <= 31).all()
            if weight_bits_of(layer) == 8:
                assert (layer.requantization.scale == 1).all()
    multiply_accumulates = sum(layer.multiply_accumulates for layer in program.layers if isinstance(layer, Weighted))
    if not any(mark in export.name for mark in FLOAT_LAYERS):
        assert multiply_accumulates == int(export.row["macs"])


def test_the_input_stage_comes_first(export: Export) -> None:
    program = InferenceSession(str(export.model)).program
    first = program.steps[0]
    assert isinstance(first, QuantizeStage)
    assert first.input in program.inputs


def test_many_samples_equal_single_ones(export: Export) -> None:
    session = InferenceSession(str(export.model))
    (name,) = (argument.name for argument in session.get_inputs())
    x = export.inputs()
    (whole,) = session.run(None, {name: x})
    single = np.concatenate([session.run(None, {name: x[index : index + 1]})[0] for index in range(len(x))])
    np.testing.assert_array_equal(whole, single)
    for count in (2, 7):
        np.testing.assert_array_equal(session.run(None, {name: x[:count]})[0], single[:count])
    repeated = np.concatenate([x] * 14)[:1000]
    if int(export.row["macs"]) < 2_000_000:
        np.testing.assert_array_equal(session.run(None, {name: repeated})[0], np.concatenate([single] * 14)[:1000])


def test_watching_inner_tensors_changes_nothing(export: Export) -> None:
    session = InferenceSession(str(export.model))
    feeds = feeds_of(session, export, 7)
    everything = session.trace(feeds)
    (output,) = (argument.name for argument in session.get_outputs())
    np.testing.assert_array_equal(everything[output], session.run(None, feeds)[0])
    for step in session.program.steps:
        alone = session.trace(feeds, step.tensors[0])
        assert list(alone) == [step.tensors[0]]
        np.testing.assert_array_equal(alone[step.tensors[0]], everything[step.tensors[0]])
        assert alone[step.tensors[0]].dtype == everything[step.tensors[0]].dtype


def large_exports() -> Iterable[str]:
    return [export.name for export in load_exports() if int(export.row["macs"]) >= 2_000_000]


@pytest.mark.exports
def test_a_thousand_samples_of_the_large_networks() -> None:
    names = {load_export(name).network: name for name in large_exports()}
    assert names
    for name in names.values():
        export = load_export(name)
        session = InferenceSession(str(export.model))
        (argument,) = session.get_inputs()
        x = export.inputs()
        wanted = session.run(None, {argument.name: x[:10]})[0]
        result = session.run(None, {argument.name: np.concatenate([x[:10]] * 100)})[0]
        np.testing.assert_array_equal(result, np.concatenate([wanted] * 100))


@pytest.mark.exports
def test_the_only_freedom_is_the_order_of_float_sums() -> None:
    for export in load_exports():
        if export.network != "H_CONVT2":
            continue
        session = InferenceSession(str(export.model))
        feeds = feeds_of(session, export)
        (output,) = session.run(None, feeds)
        expected = export.expected().astype(np.float64)
        trace = session.trace(feeds)
        operations = [step for step in session.program.host_operations if step.operator == "ConvTranspose"]
        assert len(operations) == 2
        # two layers of at most 32 products each, rounded in any order: bounded by the size of the products
        constants = session.program.constants
        first, second = (np.abs(constants[step.node.inputs[1]]).sum(axis=(0, 2, 3)).max() for step in operations)
        largest = float(np.abs(trace[operations[0].node.inputs[0]]).max()) * float(first) * float(second)
        assert np.abs(output - expected).max() <= 100 * 2.0**-24 * largest
        for step in session.program.steps:
            if isinstance(step, IntegerLayer):
                assert trace[step.output].dtype in (np.uint8, np.int8, np.int32)


@pytest.mark.slow
@pytest.mark.exports
def test_dialects_of_one_network_have_one_normal_form() -> None:
    groups: dict[str, list[Export]] = {}
    for export in load_exports():
        groups.setdefault(export.name.rpartition("__")[0], []).append(export)
    compared = 0
    for members in groups.values():
        first, *others = [InferenceSession(str(export.model)).program.layers for export in members]
        for other in others:
            compared += 1
            assert [layer.kind for layer in other] == [layer.kind for layer in first]
            for ours, wanted in zip(other, first, strict=True):
                assert (geometry_of(ours), weight_bits_of(ours)) == (geometry_of(wanted), weight_bits_of(wanted))
                if isinstance(wanted, Weighted):
                    np.testing.assert_array_equal(ours.weights, wanted.weights)
                for part in ("bias", "scale", "shift"):
                    if isinstance(wanted, Accumulating):
                        np.testing.assert_array_equal(getattr(ours.requantization, part), getattr(wanted.requantization, part))
    assert compared >= 20


@pytest.mark.exports
def test_the_production_model_equals_the_vendors_own_outputs() -> None:
    folder = EXPORTS_FOLDER.parent / "device"
    with np.load(folder / "motor_fault_ai.npz", allow_pickle=False) as arrays:
        inputs, expected = arrays["input"], arrays["output"]
    session = InferenceSession(str(folder / "motor_fault_ai.onnx"))
    (output,) = session.run(None, {"input": inputs})
    assert len(output) == 66
    np.testing.assert_array_equal(output, expected)
    assert [layer.kind for layer in session.program.layers] == ["GCONV", "MAXPOOL", "FC"]
