"""Nodes that only move data, in the one form in which a float network keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from npusim.graph import Array, Node
from npusim.program.lowering.tinpu.view import View

__all__ = ["flatten_node", "join_node", "reshape_node", "slice_nodes"]


def reshape_node(source: str, shape: tuple[int, ...], output: str, name: str) -> tuple[Node, dict[str, Array]]:
    """A reshape to a fixed shape, and the constants it reads."""
    constant = f"{output}/shape"
    return Node("Reshape", name, (source, constant), (output,)), {constant: np.array(shape, np.int64)}


def flatten_node(source: str, output: str, name: str) -> Node:
    """All axes of a sample as one."""
    return Node("Flatten", name, (source,), (output,), {"axis": 1})


def join_node(sources: Sequence[str], output: str, name: str, axis: int) -> Node:
    """Tensors one behind the other along an axis."""
    return Node("Concat", name, tuple(sources), (output,), {"axis": axis})


def slice_nodes(view: View, node: Node) -> Iterator[tuple[Node, dict[str, Array]]]:
    """Each part of a Split as a slice of its own, and the constants it reads."""
    rank = len(view.shape(node.inputs[0]))
    axis, begin = node.integer("axis", 0) % rank, 0
    for output in node.outputs:
        end = begin + view.shape(output)[axis]
        constants: dict[str, Array] = {
            f"{output}/{part}": np.array([value]) for part, value in (("starts", begin), ("ends", end), ("axes", axis))
        }
        yield Node("Slice", node.name, (node.inputs[0], *constants), (output,)), constants
        begin = end
