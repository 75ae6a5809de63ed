"""Moving single weights for the sake of the outputs: derivatives against exact differences, and what stays kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from npusim.bounds import Property, certify
from npusim.floats.forward import forward
from npusim.floats.network import WEIGHTED, FloatKind
from npusim.floats.reader import read_float_network
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.program import Clip
from npusim.quantization import quantize_network
from npusim.quantization.model import Options
from npusim.quantization.prepare import prepare
from npusim.quantization.quantizer import Quantizer
from npusim.quantization.refine import _Refinement
from support.float_networks import FloatBuilder, samples

WIDE = Clip(-(2**50), 2**50)


def builder(kind: str) -> FloatBuilder:
    graph = FloatBuilder((1, 4, 12, 1), seed=2)
    graph.conv(8, 3)
    if kind == "pools":
        graph.relu()
        graph.max_pool()
        graph.conv(8, 3, group=8)
    else:
        graph.conv(4, 3)
        graph.relu()
    graph.global_average()
    graph.flatten()
    graph.linear(3)
    return graph


def walked(graph: FloatBuilder, bits: int = 4) -> Quantizer:
    network = prepare(read_float_network(read_graph(open_model(graph.model()))))
    x = samples(graph.shape, 16)
    quantizer = Quantizer(network, forward(network, {"input": x}), Options(bits))
    quantizer.walk()
    return quantizer


@pytest.mark.parametrize("kind", ["pools", "plain"])
def test_derivatives_are_differences_where_nothing_is_rounded(kind: str) -> None:
    quantizer = walked(builder(kind))
    found = _Refinement(quantizer)
    found.requantizations = {
        name: replace(one, scale=one.scale * 0 + 1, shift=one.shift * 0, clip=WIDE)
        for name, one in found.requantizations.items()
    }
    starts = {
        layer.output: quantizer.codes[layer.output] for layer in quantizer.network.layers if layer.kind is FloatKind.INPUT
    }
    codes = found.forward(starts)
    lost = found._lost(codes)
    rng = np.random.default_rng(0)
    for layer in quantizer.network.layers:
        if layer.kind not in WEIGHTED or (kind == "pools" and layer.input_shape[1] == 4):
            continue  # in front of a pool a step can make another value the largest
        weights, before = found.weights[layer.name], found.requantizations[layer.name]
        for value, direction in enumerate(np.eye(lost.shape[1])):
            told = found._derivatives(layer, codes, direction)
            for place in rng.integers(0, told.shape[1], 4).tolist():
                moved = weights.copy()
                bias = before.bias.copy()
                if place < weights.size:
                    moved.reshape(-1)[place] += 1
                else:
                    bias[place - weights.size] += 1
                found.weights[layer.name], found.requantizations[layer.name] = moved, replace(before, bias=bias)
                change = lost[:, value] - found._lost(found.forward(starts))[:, value]
                found.weights[layer.name], found.requantizations[layer.name] = weights, before
                np.testing.assert_allclose(told[:, place], change, rtol=1e-6, atol=1e-9 * np.abs(lost).max())


def test_the_derivative_of_a_maximum_goes_to_the_first_that_is_largest() -> None:
    quantizer = walked(builder("pools"))
    (pool,) = [layer for layer in quantizer.network.layers if layer.kind is FloatKind.MAX_POOL]
    values, made = quantizer.codes[pool.inputs[0]], quantizer.codes[pool.output]
    slope = np.random.default_rng(0).integers(-5, 6, made.shape).astype(np.float64)
    (found,) = _Refinement(quantizer)._shares(pool, quantizer.codes, slope)
    kernel, stride = pool.geometry.kernel_shape[0], pool.geometry.strides[0]
    wanted = np.zeros_like(values)
    for sample, channel, place in np.ndindex(made.shape[:3]):
        first = place * stride
        largest = first + int(values[sample, channel, first : first + kernel, 0].argmax())
        wanted[sample, channel, largest, 0] += slope[sample, channel, place, 0]
    assert (found == wanted).all()


def test_a_refined_network_loses_less_and_keeps_its_widths() -> None:
    graph = builder("pools")
    network = read_float_network(read_graph(open_model(graph.model())))
    x = samples(graph.shape, 64)
    plain = quantize_network(network, x, Options(4))
    refined = quantize_network(network, x, Options(4, refine=True))
    assert refined.layers[-1].sqnr > plain.layers[-1].sqnr
    assert certify(refined.program).model[Property.ONNXRUNTIME_EXACT].holds
    assert refined.content == quantize_network(network, x, Options(4, refine=True)).content
    assert all(np.abs(layer.weights).max() <= 7 for layer in refined.program.layers if hasattr(layer, "weights"))
