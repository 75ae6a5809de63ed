"""A float network means the same however it is written: quantized models, pairs of layers and errors do not depend on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.comparison.float_comparison import compare_with_float
from npusim.floats import FloatNetwork, read_float_network
from npusim.graph import Array
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.program import Accumulating, Weighted
from npusim.quantization import QuantizedModel, quantize
from support.float_networks import samples
from support.spellings import Function, functions

CHECKS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def spelled(function: Function, data: st.DataObject) -> tuple[bytes, Array]:
    graph = function.spelled(lambda names: data.draw(st.sampled_from(names)))
    return graph.model(), samples(graph.shape, seed=function.seed)


def read(model: bytes) -> FloatNetwork:
    return read_float_network(read_graph(open_model(model)))


def kinds(found: QuantizedModel) -> list[tuple[str, int | None]]:
    """What the layers are, without reshapes between one and two dimensions."""
    return [(layer.kind, layer.weight_bits) for layer in found.layers if layer.kind != "move"]


def plain(function: Function) -> tuple[bytes, Array]:
    """The first spelling of everything: one dimension, Mul and Add, Relu or Clip, pools, Gemm."""
    graph = function.spelled(lambda names: names[0])
    return graph.model(), samples(graph.shape, seed=function.seed)


def weights_and_biases(network: FloatNetwork) -> list[Array]:
    return [
        array.reshape(array.shape[:3]) for layer in network.layers for array in (layer.weights, layer.bias) if array is not None
    ]


@pytest.mark.slow
@CHECKS
@given(functions(jitter=False), st.data())
def test_dyadic_networks_are_equal_to_the_bit(function: Function, data: st.DataObject) -> None:
    (one, x), (other, wide) = plain(function), spelled(function, data)
    first, second = quantize(one, x), quantize(other, wide)
    assert kinds(first) == kinds(second)
    for mine, theirs in zip(weights_and_biases(read(one)), weights_and_biases(read(other)), strict=True):
        assert np.array_equal(mine, theirs)
    sessions = [InferenceSession(found.content) for found in (first, second)]
    layers = [session.program.layers for session in sessions]
    assert [layer.kind for layer in layers[0]] == [layer.kind for layer in layers[1]]
    for mine, theirs in zip(*layers, strict=True):
        if isinstance(mine, Accumulating) and isinstance(theirs, Accumulating):
            assert mine.requantization == theirs.requantization
        if isinstance(mine, Weighted) and isinstance(theirs, Weighted):
            assert mine.weights.ravel().tolist() == theirs.weights.ravel().tolist()
    results = [session.run(None, {"input": values})[0].ravel() for session, values in zip(sessions, (x, wide), strict=True)]
    assert np.array_equal(*results)


@pytest.mark.slow
@CHECKS
@given(functions(jitter=True), st.data())
def test_any_networks_have_the_same_layers_and_errors(function: Function, data: st.DataObject) -> None:
    (one, x), (other, wide) = plain(function), spelled(function, data)
    quantized = quantize(one, x)
    assert kinds(quantized) == kinds(quantize(other, wide))
    found = [compare_with_float(quantized.content, reference, {"input": x}) for reference in (one, other)]
    for comparison in found:
        assert comparison.unpaired == ()
        assert comparison.unpaired_float == ()
    first, second = ([layer for layer in comparison.layers if layer.kind != "HOST"] for comparison in found)
    assert [layer.name for layer in first] == [layer.name for layer in second]
    for mine, theirs in zip(first, second, strict=True):
        # two float models differ by roundings to float32, which count beside the error that is measured
        apart = 2.0**-19 * 10 ** (mine.metrics.sqnr_db / 20)
        assert abs(mine.metrics.sqnr_db - theirs.metrics.sqnr_db) <= 20 * np.log10(1 + apart), mine.name


@pytest.mark.slow
@CHECKS
@given(functions(jitter=True), st.data())
def test_a_quantized_model_is_held_against_its_own_source(function: Function, data: st.DataObject) -> None:
    model, x = spelled(function, data)
    quantized = quantize(model, x)
    comparison = compare_with_float(quantized.content, model, {"input": x})
    assert comparison.unpaired == ()
    assert comparison.unpaired_float == ()
    tensors = [layer.tensor for layer in comparison.layers]
    assert tensors == [layer.tensor for layer in quantized.layers]
