"""Random networks whose host operations move, flatten, broadcast or mix the batch axis, so that samples cannot be stacked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from support.builders import GraphBuilder

__all__ = ["moved_batches"]

FIRST = 3
"""Channels of the input."""


@dataclass
class _Network:
    graph: GraphBuilder
    current: str
    shape: tuple[int, ...]
    used: list[str] = field(default_factory=list)

    def move(self, operator: str, name: str, shape: tuple[int, ...]) -> None:
        self.used.append(operator)
        self.current, self.shape = name, shape


def _integers(graph: GraphBuilder, values: list[int]) -> str:
    return graph.constant(values, np.int64)


@st.composite
def moved_batches(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...], tuple[str, ...]]:
    """A model, the shape of its input, and the operations behind its layer.

    An input stage and a layer, then one to five operations drawn from those that treat the first axis like any other.
    """
    dense = draw(st.booleans())
    shape = (1, FIRST) if dense else (1, FIRST, 4, 1)
    graph = GraphBuilder(shape)
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    codes = graph.input_stage([0.5] * FIRST, [900, 700, 1100], [5] * FIRST)
    if dense:
        weights = generator.integers(-90, 91, (FIRST, 4))
        layer = graph.fully_connected(codes, weights, [3, -9, 5, 0], [1] * 4, [3] * 4, (-128, 127))
        network = _Network(graph, layer, (1, 4))
    else:
        weights = generator.integers(-90, 91, (4, FIRST, 3, 1))
        layer = graph.convolution(codes, weights, [3, -9, 5, 0], [1] * 4, [4] * 4, (-128, 127), pads=[1, 0, 1, 0])
        network = _Network(graph, layer, (1, 4, 4, 1))
    for _ in range(draw(st.integers(1, 5))):
        _append(network, draw, generator)
    return graph.model(network.current), shape, tuple(network.used)


def _append(network: _Network, draw: st.DrawFn, generator: np.random.Generator) -> None:
    graph, name, shape = network.graph, network.current, network.shape
    size, rank = int(np.prod(shape)), len(shape)
    kinds = ["flatten", "scale", "softmax", "unsqueeze", "relu"]
    if rank:
        kinds += ["transpose", "mean", "sum", "max", "broadcast", "concat", "slice", "squeeze", "expand", "tile", "gather"]
        kinds += ["split", "argmax", "normalize"]
    if rank == 2:
        kinds += ["matmul", "gemm", "self product"]
    kind = draw(st.sampled_from(kinds))
    axis = draw(st.integers(0, rank - 1)) if rank else 0
    match kind:
        case "flatten":
            target = draw(st.sampled_from([[size], [size, 1], [1, size], [1, 1, size]]))
            network.move(kind, graph.node("Reshape", name, _integers(graph, target)), tuple(target))
        case "scale":
            network.move(kind, graph.binary("Mul", name, 0.37), shape)
        case "relu":
            network.move(kind, graph.node("Relu", name), shape)
        case "softmax" if rank:
            network.move(kind, graph.node("Softmax", name, axis=axis), shape)
        case "unsqueeze":
            target = (1, *shape)
            network.move(kind, graph.node("Unsqueeze", name, _integers(graph, [0])), target)
        case "transpose":
            order = draw(st.permutations(range(rank)))
            network.move(kind, graph.node("Transpose", name, perm=list(order)), tuple(shape[item] for item in order))
        case "mean" | "max":
            keep = draw(st.booleans())
            left = tuple(1 if at == axis else n for at, n in enumerate(shape) if keep or at != axis)
            operator = "ReduceMean" if kind == "mean" else "ReduceMax"
            network.move(kind, graph.node(operator, name, axes=[axis], keepdims=int(keep)), left)
        case "sum":
            keep = draw(st.booleans())
            left = tuple(1 if at == axis else n for at, n in enumerate(shape) if keep or at != axis)
            network.move(kind, graph.node("ReduceSum", name, _integers(graph, [axis]), keepdims=int(keep)), left)
        case "broadcast":
            other = generator.normal(0, 1, (draw(st.sampled_from([1, 2])), *(1,) * (rank - 1), 1))
            network.move(kind, graph.binary("Add", name, other), (other.shape[0], *shape))
        case "concat":
            joined = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            network.move(kind, graph.node("Concat", name, name, axis=axis), joined)
        case "slice" if shape[axis] > 1:
            parts = [_integers(graph, [value]) for value in (1, shape[axis], axis)]
            network.move(kind, graph.node("Slice", name, *parts), (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :]))
        case "squeeze" if shape[axis] == 1:
            left = (*shape[:axis], *shape[axis + 1 :])
            network.move(kind, graph.node("Squeeze", name, _integers(graph, [axis])), left)
        case "expand":
            target = (draw(st.integers(1, 2)), *shape)
            network.move(kind, graph.node("Expand", name, _integers(graph, list(target))), target)
        case "tile":
            times = [2 if at == axis else 1 for at in range(rank)]
            network.move(
                kind, graph.node("Tile", name, _integers(graph, times)), (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            )
        case "gather":
            rows = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=3))
            taken = graph.node("Gather", name, _integers(graph, rows), axis=axis)
            network.move(kind, taken, (*shape[:axis], len(rows), *shape[axis + 1 :]))
        case "split" if shape[axis] % 2 == 0:
            graph.node("Split", name, outputs=2, axis=axis)
            half = graph.nodes[-1].output[draw(st.integers(0, 1))]
            network.move(kind, half, (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :]))
        case "argmax":
            found = graph.node("ArgMax", name, axis=axis, keepdims=1)
            network.move(kind, graph.node("Cast", found, to=1), (*shape[:axis], 1, *shape[axis + 1 :]))
        case "normalize":
            scale = graph.constant(np.full(shape[axis:], 0.7))
            network.move(kind, graph.node("LayerNormalization", name, scale, axis=axis), shape)
        case "matmul":
            weights = generator.normal(0, 0.3, (shape[1], 3))
            network.move(kind, graph.node("MatMul", name, graph.constant(weights)), (shape[0], 3))
        case "gemm":
            weights = generator.normal(0, 0.3, (shape[0], 3))
            network.move(kind, graph.node("Gemm", name, graph.constant(weights), transA=1), (shape[1], 3))
        case "self product":
            turned = graph.node("Transpose", name, perm=[1, 0])
            network.move(kind, graph.node("MatMul", turned, name), (shape[1], shape[1]))
