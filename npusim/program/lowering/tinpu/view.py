"""Questions that recognition asks of a folded graph, and the single nodes a requantization chain is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Graph, Node

__all__ = ["NotALayer", "View", "is_integral", "per_channel", "read_addend", "read_clip", "read_factor"]


class NotALayer(Exception):  # noqa: N818 - a finding that decides between two lowerings, never an error the user sees
    """Why a node and those behind it are not a layer of the NPU; the reason completes "runs on the host because ..."."""

    def __init__(self, reason: str, nodes: tuple[Node, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nodes = nodes


@dataclass(frozen=True, slots=True)
class View:
    """A folded graph with the look-ups recognition needs."""

    graph: Graph
    readers: Mapping[str, list[Node]]

    @classmethod
    def of(cls, graph: Graph) -> View:
        """Prepare the look-ups of a graph."""
        return cls(graph, graph.consumers())

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a tensor for one sample."""
        return self.graph.types[name].static_shape

    def constant(self, name: str) -> Array | None:
        """The value of a constant tensor, None for any other."""
        return self.graph.constants.get(name)

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a tensor; None when there are more, none, or when the tensor is an output of the model."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.graph.outputs else None

    def readers_of(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, each once."""
        return tuple({node.outputs: node for node in self.readers.get(name, [])}.values())

    def is_shared(self, name: str) -> bool:
        """Whether a tensor is an output of the model, or more than one node reads it."""
        return name in self.graph.outputs or len(self.readers_of(name)) > 1

    def operand_and_constant(self, node: Node) -> tuple[str, Array, bool] | None:
        """Split a two-input node into its variable operand, its constant and whether the constant stands first."""
        if len(node.inputs) != 2:
            return None
        first, second = self.constant(node.inputs[0]), self.constant(node.inputs[1])
        if first is None and second is not None:
            return node.inputs[0], second, False
        if first is not None and second is None:
            return node.inputs[1], first, True
        return None


def is_integral(values: Array | npt.NDArray[np.float64]) -> bool:
    """True when every element is a finite whole number."""
    if values.dtype.kind in "iub":
        return True
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())


def per_channel(value: Array, shape: tuple[int, ...], axis: int) -> npt.NDArray[np.float64] | None:
    """Read a constant as one float64 for each channel.

    Parameters
    ----------
    value
        Constant that the graph broadcasts against a tensor of `shape`.
    shape
        Shape of that tensor.
    axis
        Its channel axis.

    Returns
    -------
    float64 [channels] or None
        None when the constant varies along another axis or would change the shape.
    """
    if value.ndim > len(shape):
        return None
    sizes = (1,) * (len(shape) - value.ndim) + value.shape
    if any(size != 1 for position, size in enumerate(sizes) if position != axis) or sizes[axis] not in (1, shape[axis]):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), (shape[axis],)).copy()


def read_addend(view: View, node: Node) -> Array | None:
    """The constant c of ``x + c``, for Add and for Sub of a constant; None for any other node."""
    parts = view.operand_and_constant(node)
    if parts is None or node.op_type not in ("Add", "Sub"):
        return None
    _, constant, constant_first = parts
    if node.op_type == "Add":
        return constant
    return None if constant_first else np.negative(constant)


def read_factor(view: View, node: Node) -> Array | None:
    """The constant m of ``x * m``, for Mul and for Div by powers of two (their reciprocals are exact); else None."""
    parts = view.operand_and_constant(node)
    if parts is None:
        return None
    _, constant, constant_first = parts
    if node.op_type == "Mul":
        return constant
    if node.op_type != "Div" or constant_first or constant.dtype.kind != "f":
        return None
    mantissa, _ = np.frexp(np.abs(constant))
    return np.reciprocal(constant) if bool((mantissa == 0.5).all()) else None


def read_clip(view: View, node: Node) -> tuple[float, float] | None:
    """The bounds of a saturation: Clip, Relu, or Min / Max against one constant number; None for any other node.

    A missing bound is infinite.
    """
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type == "Clip":
        return _clip_bounds(view, node)
    if node.op_type in ("Min", "Max"):
        parts = view.operand_and_constant(node)
        if parts is None or parts[1].size != 1 or parts[1].ndim > len(view.shape(parts[0])):
            return None
        bound = float(parts[1].item())
        return (-np.inf, bound) if node.op_type == "Min" else (bound, np.inf)
    return None


def _clip_bounds(view: View, node: Node) -> tuple[float, float] | None:
    bounds = []
    for position, attribute, missing in ((1, "min", -np.inf), (2, "max", np.inf)):
        bound: object = node.attributes.get(attribute, missing)
        if len(node.inputs) > position and node.inputs[position]:
            bound = view.constant(node.inputs[position])
        if isinstance(bound, np.ndarray) and bound.size == 1:
            bound = bound.item()
        if not isinstance(bound, (int, float)):
            return None
        bounds.append(float(bound))
    return bounds[0], bounds[1]
