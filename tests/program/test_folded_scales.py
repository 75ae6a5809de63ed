"""Scales that a simplifier has folded into weights are found again: layers and integers are those of the export."""

from __future__ import annotations

import doctest
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.bounds import certify
from npusim.graph import Node
from npusim.program import Accumulating, Program, ShiftFloor, Weighted
from npusim.program.lowering.floats import along_outputs
from npusim.program.lowering.tinpu import unfolding
from npusim.program.lowering.tinpu.unfolding import unfold
from npusim.verification import verify
from support import Export
from support.builders import GraphBuilder
from support.command_line import call, checked_json
from support.engine_check import every_tensor, reference_tensors, samples_for
from support.runtime_check import compare_with_runtime


def by_runtime(model: bytes, level: str = "ORT_ENABLE_BASIC") -> bytes:
    """A model after onnxruntime's own offline optimization."""
    with tempfile.TemporaryDirectory() as place:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(Path(place) / "optimized.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def by_onnxsim(model: bytes) -> bytes:
    simplified, _ = onnxsim.simplify(onnx.load_from_string(model))
    return bytes(simplified.SerializeToString())


SIMPLIFIERS: dict[str, Callable[[bytes], bytes]] = {"onnxruntime": by_runtime, "onnxsim": by_onnxsim}


def test_examples() -> None:
    assert doctest.testmod(unfolding).attempted == 4


@st.composite
def folded(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights, bias, scale and shift of a layer of 2, 4 or 8 bits."""
    channels, terms = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    largest = draw(st.sampled_from([1, 7, 9, 127, 255]))
    integers = st.integers(-largest, largest)
    weights = draw(st.lists(st.lists(integers, min_size=terms, max_size=terms), min_size=channels, max_size=channels))
    each = {"min_size": channels, "max_size": channels}
    bias = draw(st.lists(st.integers(-(2**15), 2**15), **each))
    scale = draw(st.lists(st.integers(1, 255), **each)) if largest < 10 else [1] * channels
    shift = draw(st.lists(st.integers(0, 20), **each))
    return np.array(weights), np.array(bias), np.array(scale), np.array(shift)


@given(folded())
def test_what_was_folded_is_taken_apart_exactly(layer: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    weights, bias, scale, shift = layer
    factor = np.ldexp(scale.astype(np.float64), -shift)
    found = unfold(weights * factor[:, None], bias * factor)
    if found is None:
        # a channel whose integers are multiples of a number that its scale has no room for, beside one of few bits
        assert not all(Fraction(int(one)).numerator < 128 for one in scale)
        return
    for channel, real in enumerate(factor):
        unit = Fraction(int(found.scale[channel]), 2 ** int(found.shift[channel]))
        for own, given_ in zip(found.weights[channel], weights[channel], strict=True):
            assert int(own) * unit == int(given_) * Fraction(float(real))
        addend = Fraction(int(found.addend[channel]), 2 ** int(found.shift[channel]))
        assert int(found.bias[channel]) * unit + addend == int(bias[channel]) * Fraction(float(real))
    assert ((found.scale >= 0) & (found.scale <= 4095) & (found.shift >= 0) & (found.shift <= 31)).all()
    assert np.abs(found.weights).max(initial=0) <= 255


@pytest.mark.parametrize("values", [[0.1, 0.2], [np.pi, 1.0], [np.nan, 1.0], [np.inf, 1.0], [2.0**-40, 1.0], [1e30, 1.0]])
def test_floats_are_left_alone(values: list[float]) -> None:
    assert unfold(np.array([values]), np.zeros(1)) is None


def test_a_bias_that_was_rounded_becomes_an_addend() -> None:
    factor = 201 * 2.0**-12
    found = unfold(np.array([[7.0, -3.0]]) * factor, np.array([1000 * factor + 2.0**-12]))
    assert found is not None
    assert found.weights.tolist() == [[7, -3]]
    assert (found.scale[0], found.shift[0], found.bias[0], found.addend[0]) == (201, 12, 0, 201001)


def network(bits: int) -> bytes:
    """Every kind of layer with weights, in the dialect whose biases stand apart."""
    random, largest = np.random.default_rng(bits), 2 ** (bits - 1) - 1

    def weights(*shape: int) -> np.ndarray:
        return random.integers(-largest, largest + 1, shape)

    def numbers(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scale = np.ones(count, int) if bits == 8 else random.integers(128, 256, count)
        return random.integers(-900, 900, count), scale, random.integers(7, 10, count) + (0 if bits == 8 else 5)

    graph = GraphBuilder((1, 4, 12, 1), "dyn18v")
    codes = graph.input_stage([0.25, -0.5, 0, 1], [2000, -1500, 4095, 777], [6, 6, 7, 5])
    codes = graph.convolution(codes, weights(8, 4, 3, 1), *numbers(8), (0, 255), pads=[1, 0, 1, 0])
    codes = graph.convolution(codes, weights(8, 1, 3, 1), *numbers(8), (-128, 127), group=8, pads=[1, 0, 1, 0])
    codes = graph.convolution(codes, weights(8, 2, 3, 1), *numbers(4), (0, 255), group=2, transposed=True)
    codes = graph.convolution(codes, weights(4, 4, 1, 1), *numbers(4), (-128, 127))
    flat = graph.node("Flatten", codes)
    result = graph.fully_connected(flat, weights(56, 3), *numbers(3), (-128, 127))
    return graph.model(result, output_shapes=[(1, 3)])


def weighted(program: Program) -> list[Weighted]:
    return [layer for layer in program.layers if isinstance(layer, Weighted)]


@pytest.mark.parametrize("simplify", SIMPLIFIERS)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_simplified_networks_keep_their_layers(bits: int, simplify: str) -> None:
    model = network(bits)
    session, other = InferenceSession(model), InferenceSession(SIMPLIFIERS[simplify](model))
    program = other.program
    assert [layer.kind for layer in program.layers] == [layer.kind for layer in session.program.layers]
    assert sum(layer.is_folded for layer in weighted(program)) >= 3
    feeds = samples_for(program, 20)
    np.testing.assert_array_equal(session.run(None, feeds)[0], other.run(None, feeds)[0])
    compare_with_runtime(SIMPLIFIERS[simplify](model), {name: values[:6] for name, values in feeds.items()})
    fast, slow = every_tensor(program, other._static.runner, feeds), reference_tensors(program, feeds)  # type: ignore[union-attr]
    assert all(np.array_equal(fast[name], slow[name]) for name in slow)
    assert verify(other, feeds)


@pytest.mark.slow
@pytest.mark.parametrize("simplify", SIMPLIFIERS)
def test_simplified_exports_keep_their_layers(export: Export, simplify: str) -> None:
    content = export.model.read_bytes()
    program, other = (InferenceSession(model).program for model in (content, SIMPLIFIERS[simplify](content)))
    assert sorted(layer.kind for layer in program.layers) == sorted(layer.kind for layer in other.layers)
    assert len(program.quantize_stages) == len(other.quantize_stages)


def dense(weights: np.ndarray, scale: int, shift: int) -> bytes:
    """One fully connected layer whose scale is folded in: Gemm, Floor, Clip."""
    graph = GraphBuilder((1, len(weights)), "dyn18v")
    codes = graph.input_stage([0] * len(weights), [1] * len(weights), [0] * len(weights))
    folded_weights = graph.constant(np.ldexp(weights * float(scale), -shift))
    bias = graph.constant(np.ldexp(np.full(weights.shape[1], 3.0 * scale), -shift))
    result = graph.clip(graph.node("Floor", graph.node("Gemm", codes, folded_weights, bias)), -128, 127)
    return graph.model(result)


def test_folded_partial_sums_count_for_what_is_proven() -> None:
    """127 * 7 * 128 * 64 terms is below 2^24, 251 times that is not: the graph's own sums are of the folded weights."""
    weights = np.full((128, 2), 7)
    weights[0, 1] = 6
    small, large = (InferenceSession(dense(weights, scale, 16)).program for scale in (129, 251))
    (layer,) = large.layers
    assert isinstance(layer, Accumulating)
    assert isinstance(layer.requantization, ShiftFloor)
    assert layer.is_folded
    assert (layer.requantization.scale == 251).all()
    assert certify(small).verdicts.onnxruntime_exact == "proven"
    statement = certify(large)
    assert statement.verdicts.onnxruntime_exact == "unknown"
    assert "partial sums" in statement.reasons.onnxruntime_exact


def test_inspect_and_lint_say_so(tmp_path: Path) -> None:
    (tmp_path / "plain.onnx").write_bytes(network(4))
    (tmp_path / "folded.onnx").write_bytes(by_onnxsim(network(4)))
    for command in (("inspect",), ("lint", "--device", "f28p55x")):
        for name, count in (("plain", 0), ("folded", 1)):
            outcome = call(command[0], tmp_path / f"{name}.onnx", *command[1:], "--json")
            rules = [item["rule"] for item in checked_json(command[0], outcome)["findings"]]
            assert rules.count("folded-scale") == count
    assert "folded the scale" in call("inspect", tmp_path / "folded.onnx").out


@pytest.mark.parametrize("divisor", [1, 3, 5, 7])
@pytest.mark.parametrize("scale", [129, 201, 255])
def test_a_common_divisor_of_the_weights_does_not_go_into_a_scale_beyond_8_bits(divisor: int, scale: int) -> None:
    """Weights that are all multiples of 3, times 129: the greatest factor 387 is no scale of 8 bits, the weights keep the 3."""
    weights = divisor * np.array([[1, -1, 0, 1]])
    found = unfold(weights * np.array([scale / 1024]), np.array([7 * divisor * scale / 1024]))
    assert found is not None
    assert found.scale.max() <= 255
    assert np.abs(found.weights).max() <= 7
    exact = [
        Fraction(int(value) * int(found.scale[0]), 2 ** int(found.shift[0])) for value in (*found.weights[0], found.bias[0])
    ]
    assert exact == [Fraction(int(value) * scale, 1024) for value in (*weights[0], 7 * divisor)]
    assert not found.addend.any()


@pytest.mark.parametrize(
    ("operator", "attributes", "shape", "axis"),
    [
        ("Conv", {}, (3, 5, 2, 2), 0),
        ("ConvTranspose", {}, (5, 3, 2, 2), 1),
        ("MatMul", {}, (5, 3), 1),
        ("Gemm", {}, (5, 3), 1),
        ("Gemm", {"transB": 1}, (3, 5), 0),
    ],
)
def test_values_of_outputs_lie_along_the_axis_of_the_outputs(
    operator: str, attributes: dict[str, int], shape: tuple[int, ...], axis: int
) -> None:
    """Three outputs: multiplied with the weights, each output's weights get its own value."""
    node = Node(operator, "n", ("x", "w"), ("y",), attributes)
    found = np.ones(shape) * along_outputs(node, np.array([2.0, 3.0, 5.0]), len(shape))
    for channel, value in enumerate((2.0, 3.0, 5.0)):
        assert (np.take(found, channel, axis=axis) == value).all()
