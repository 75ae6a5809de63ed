"""What kind of thing a node of a float graph is."""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import numpy as np

from npusim.graph import Node
from npusim.graph.traits import Trait, operators_with
from npusim.program.layers import Accumulating, Add, MaxPool, Weighted
from npusim.program.lowering.floats.affine import read_affine, read_saturation
from npusim.program.lowering.tinpu.view import View
from npusim.program.program import Step

__all__ = [
    "Role",
    "computes_in_integers",
    "is_weighted",
    "keeps_order",
    "means_the_same_everywhere",
    "reshapes",
    "role_of",
    "role_of_operator",
    "roles_of_step",
]


class Role(Enum):
    """What a node is.

    WEIGHTED layers, AVERAGE and MAXIMUM pools (a SUM of windows is a part of an average when a division follows); ADDITION of
    two tensors; AFFINE arithmetic with constants for each channel; SATURATION between constant bounds; RESHAPE keeps all
    elements in their order; MOVE moves or repeats data; JOIN and SPLIT tensors; RENAMING of a tensor or of its type; OTHER is
    everything else.
    """

    WEIGHTED = auto()
    AVERAGE = auto()
    SUM = auto()
    MAXIMUM = auto()
    ADDITION = auto()
    AFFINE = auto()
    SATURATION = auto()
    RESHAPE = auto()
    MOVE = auto()
    JOIN = auto()
    SPLIT = auto()
    RENAMING = auto()
    OTHER = auto()


_BY_TRAIT: Final = MappingProxyType(
    {
        Trait.WEIGHTED: Role.WEIGHTED,
        Trait.AVERAGES: Role.AVERAGE,
        Trait.MAXIMUM: Role.MAXIMUM,
        Trait.JOINS: Role.JOIN,
    }
)

_ROLES: Final = MappingProxyType(
    {
        **{name: role for trait, role in _BY_TRAIT.items() for name in operators_with(trait)},
        "ReduceSum": Role.SUM,
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), Role.RESHAPE),
        **dict.fromkeys(("Transpose", "Slice", "Gather", "Tile", "Expand", "DepthToSpace", "SpaceToDepth"), Role.MOVE),
        "Split": Role.SPLIT,
        **dict.fromkeys(("Identity", "Cast"), Role.RENAMING),
    }
)

_SAME_IN_EVERY_OPSET: Final = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Relu", "Sigmoid", "Tanh"))


def role_of(view: View, node: Node) -> Role:
    """The role of a node; arithmetic whose constants differ within a channel is OTHER."""
    known = _ROLES.get(node.op_type)
    if known is not None:
        return known
    if node.op_type == "Resize" and node.text("mode", "nearest") == "nearest":
        return Role.MOVE
    variable = [name for name in node.inputs if name and view.constant(name) is None]
    if node.op_type in ("Add", "Sum") and len(variable) == len(node.inputs) == 2:
        return Role.ADDITION
    if len(variable) == 1 and read_saturation(view, node) is not None:
        return Role.SATURATION
    if len(variable) == 1 and read_affine(view, node) is not None:
        return Role.AFFINE
    return Role.OTHER


def keeps_order(view: View, node: Node) -> bool:
    """Whether a node only gives its elements another shape, samples still on the first axis."""
    if not reshapes(node):
        return False
    shapes = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    return all(len(shape) >= 2 and shape[0] == 1 for shape in shapes) and np.prod(shapes[0]) == np.prod(shapes[1])


def role_of_operator(node: Node) -> Role:
    """The role of a node as far as its operator tells; OTHER where it depends on what the node reads."""
    return _ROLES.get(node.op_type, Role.OTHER)


def is_weighted(node: Node) -> bool:
    """Whether a node is a convolution or a matrix product."""
    return _ROLES.get(node.op_type) is Role.WEIGHTED


def reshapes(node: Node) -> bool:
    """Whether a node only gives its elements another shape."""
    return _ROLES.get(node.op_type) is Role.RESHAPE


def computes_in_integers(node: Node) -> bool:
    """Whether a node shows that a graph is quantized already."""
    return node.op_type in ("QuantizeLinear", "DequantizeLinear", "Floor")


def means_the_same_everywhere(node: Node) -> bool:
    """Whether a node means the same in every operator set."""
    return node.op_type in _SAME_IN_EVERY_OPSET


def roles_of_step(step: Step) -> tuple[Role, ...]:
    """What an integer layer may be in a float model; nothing for other steps and for layers that sum up nothing."""
    match step:
        case Weighted():
            return (Role.WEIGHTED,)
        case Add():
            return (Role.ADDITION,)
        case MaxPool():
            return (Role.MAXIMUM,)
        case Accumulating() if step.mean_of is not None:
            return Role.AVERAGE, Role.SUM
        case _:
            return ()
