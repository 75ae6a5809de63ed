"""One spatial axis made two: the same values, the same order, other shapes; what cannot have another axis is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

import npusim
from npusim.errors import UnsupportedError
from npusim.graph import Graph
from npusim.graph.folding import fold
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import infer_node, read_graph
from npusim.graph.onnx_writer import write_model
from npusim.program.lowering.tinpu.two_axes import with_two_axes
from support.builders import GraphBuilder


def folded(content: bytes) -> Graph:
    graph = read_graph(ModelFile(None, content))
    return fold(graph, infer_node, known={}, input_types={name: graph.types[name] for name in graph.inputs})


def written(graph: Graph) -> bytes:
    inputs, outputs = ({name: graph.types[name].static_shape for name in names} for names in (graph.inputs, graph.outputs))
    return write_model(graph.nodes, graph.constants, inputs=inputs, outputs=outputs, opset=graph.opset)


def convolved(graph: GraphBuilder, tensor: str, channels: int = 3) -> str:
    weights = graph.constant(np.random.default_rng(0).integers(-5, 6, (4, channels, 3)).astype(np.float32))
    return graph.node("Conv", tensor, weights, kernel_shape=[3], pads=[1, 1], strides=[1])


def start() -> tuple[GraphBuilder, str]:
    graph = GraphBuilder((1, 3, 12))
    return graph, convolved(graph, "input")


TAILS = {
    "nothing": lambda graph, x: x,
    "sum of all positions": lambda graph, x: graph.node("ReduceSum", x, graph.constant([2], np.int64), keepdims=0),
    "sum that keeps its axis": lambda graph, x: graph.node("ReduceSum", x, graph.constant([-1], np.int64), keepdims=1),
    "mean": lambda graph, x: graph.node("ReduceMean", x, axes=[2], keepdims=0),
    "maximum": lambda graph, x: graph.node("MaxPool", x, kernel_shape=[2], strides=[2]),
    "average": lambda graph, x: graph.node("AveragePool", x, kernel_shape=[3], strides=[2], pads=[1, 0]),
    "global average": lambda graph, x: graph.node("GlobalAveragePool", x),
    "padded": lambda graph, x: graph.node("Pad", x, graph.constant([0, 1, 2, 0, 3, 0], np.int64), mode="constant"),
    "flat": lambda graph, x: graph.node("Flatten", x, axis=1),
    "view": lambda graph, x: graph.node("Reshape", x, graph.constant([1, -1], np.int64)),
    "another length": lambda graph, x: graph.node("Reshape", x, graph.constant([1, 8, -1], np.int64)),
    "joined": lambda graph, x: graph.node("Concat", x, convolved(graph, "input"), axis=-1),
    "joined channels": lambda graph, x: graph.node("Concat", x, convolved(graph, "input"), axis=1),
    "squeezed": lambda graph, x: graph.node("Squeeze", graph.node("GlobalAveragePool", x), graph.constant([-1], np.int64)),
    "by channel": lambda graph, x: graph.node("Add", x, graph.constant(np.arange(4, dtype=np.float32).reshape(1, 4, 1))),
    "by position": lambda graph, x: graph.node("Mul", x, graph.constant(np.arange(12, dtype=np.float32))),
    "by one number": lambda graph, x: graph.node("Mul", x, graph.constant(np.float32(3))),
    "turned back": lambda graph, x: graph.node(
        "ConvTranspose",
        x,
        graph.constant(np.random.default_rng(1).integers(-5, 6, (4, 2, 4)).astype(np.float32)),
        kernel_shape=[4],
        strides=[2],
        pads=[1, 1],
    ),
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("keep_ends", [False, True])
def test_the_values_are_the_same(name: str, keep_ends: bool) -> None:
    graph, x = start()
    content = graph.model(TAILS[name](graph, x))
    made = written(with_two_axes(folded(content), keep_ends=keep_ends))
    first, second = npusim.InferenceSession(content), npusim.InferenceSession(made)
    samples = np.random.default_rng(2).integers(-9, 10, (5, 3, 12)).astype(np.float32)
    (wanted,) = first.run(None, {"input": samples})
    shape = second.get_inputs()[0].shape
    assert shape[1:] == ([3, 12] if keep_ends else [3, 12, 1])
    (found,) = second.run(None, {"input": samples.reshape(5, *shape[1:])})
    if keep_ends:
        assert found.shape == wanted.shape
    elif wanted.ndim == 3:
        assert found.shape == (*wanted.shape, 1)
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    tensors = second.program.tensors.values()
    assert max(len(tensor.shape) for tensor in tensors) == 4


REFUSED = {
    "channels summed": (
        lambda graph, x: graph.node("ReduceSum", x, graph.constant([1], np.int64), keepdims=0),
        "along other axes",
    ),
    "turned": (lambda graph, x: graph.node("Transpose", x, perm=[0, 2, 1]), "not known to do the same"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_have_another_axis_is_refused(name: str) -> None:
    graph, x = start()
    tail, reason = REFUSED[name]
    with pytest.raises(UnsupportedError, match=reason):
        with_two_axes(folded(graph.model(tail(graph, x))), keep_ends=False)


def test_a_model_of_two_axes_is_none_of_one() -> None:
    graph = GraphBuilder((1, 3, 6, 1))
    weights = graph.constant(np.ones((2, 3, 1, 1), np.float32))
    with pytest.raises(UnsupportedError, match="no layer has one spatial axis"):
        with_two_axes(folded(graph.model(graph.node("Conv", "input", weights, kernel_shape=[1, 1]))), keep_ends=False)
