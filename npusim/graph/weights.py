"""How operators with weights lay them out: which axis makes outputs, which one reads inputs, and how many products they sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

from npusim.graph.graph import Node
from npusim.graph.traits import Trait, is_a

__all__ = ["input_axis", "multiplications", "output_axis", "terms_of_a_sum"]


def output_axis(node: Node) -> int:
    """The axis of the weights that runs along the outputs.

    Examples
    --------
    >>> output_axis(Node("Conv", "", ("x", "w"), ("y",))), output_axis(Node("MatMul", "", ("x", "w"), ("y",)))
    (0, 1)
    """
    if is_a(node.op_type, Trait.CONVOLUTION):
        return 1 if node.op_type == "ConvTranspose" else 0
    return 0 if node.integer("transB", 0) else 1


def input_axis(node: Node) -> int:
    """The axis of the weights that runs along the inputs (of one group)."""
    return 1 - output_axis(node)


def multiplications(node: Node, weights: Sequence[int], source: int, made: int) -> int:
    """Multiplications of one sample.

    Parameters
    ----------
    node
        A node with weights.
    weights
        Their shape.
    source, made
        Number of elements that it reads and makes.

    Examples
    --------
    >>> multiplications(Node("Conv", "", ("x", "w"), ("y",)), (4, 2, 3, 1), 16, 32)
    192
    """
    if is_a(node.op_type, Trait.CONVOLUTION):
        return (source if node.op_type == "ConvTranspose" else made) * math.prod(weights[1:])
    if node.op_type == "MatMul":
        return made * weights[0]
    return made * weights[input_axis(node)]


def terms_of_a_sum(node: Node, weights: Sequence[int]) -> int:
    """At most how many products one output of a convolution sums.

    Examples
    --------
    >>> terms_of_a_sum(Node("Conv", "", ("x", "w"), ("y",)), (4, 2, 3, 1))
    6
    """
    return weights[0] * math.prod(weights[2:]) if node.op_type == "ConvTranspose" else math.prod(weights[1:])
