"""What a traced network consists of: operations with plain geometry, everything two-dimensional."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Geometry", "Operation", "OperationKind"]


class OperationKind(StrEnum):
    """Operations that a network may consist of, before any are fused."""

    INPUT = "input"
    BATCH_NORM = "batch norm"
    CONVOLUTION = "convolution"
    LINEAR = "linear"
    RELU = "relu"
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    ADD = "add"
    CONCAT = "concat"
    FLATTEN = "flatten"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Windows of a convolution or pool in two dimensions; the second one has size 1 in one-dimensional networks.

    Attributes
    ----------
    kernel_shape, strides, pads, dilations
        Rows, columns. Padding is the same on both sides of an axis.
    output_padding
        Rows and columns that a transposed convolution appends.
    group
        Convolution groups.
    transposed
        Whether it is a transposed convolution.
    """

    kernel_shape: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)
    output_padding: tuple[int, int] = (0, 0)
    group: int = 1
    transposed: bool = False

    @property
    def area(self) -> int:
        """Elements of a window."""
        return self.kernel_shape[0] * self.kernel_shape[1]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a traced network.

    Attributes
    ----------
    name
        Name of the module, or of the call where no module makes it.
    kind
        What it does.
    inputs
        Names of the operations it reads.
    shape
        Shape of its result for one sample, without the batch axis, as the network sees it.
    module
        The module with its parameters: of convolutions, linear layers and batch norms.
    geometry
        Windows of convolutions and pools.
    ceiling
        Where RELU saturates, 6 for ReLU6; None where it does not.
    """

    name: str
    kind: OperationKind
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    module: Any = None
    geometry: Geometry | None = None
    ceiling: float | None = None
