"""What a traced network consists of: operations with plain geometry, everything two-dimensional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import nn

from npusim.errors import UnsupportedError

__all__ = ["Geometry", "Operation", "OperationKind", "convolution_geometry", "fitted_pool", "pool_geometry", "single"]


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


def single(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """A size for each axis, of one number or a sequence of them.

    Examples
    --------
    >>> single(3, 2), single((3,), 1)
    ((3, 3), (3,))
    """
    if isinstance(value, int):
        return (value,) * axes
    sizes = tuple(int(item) for item in value)
    return sizes * axes if len(sizes) == 1 else sizes


def _lifted(sizes: tuple[int, ...], filler: int) -> tuple[int, int]:
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (sizes[0], filler)


def convolution_geometry(module: nn.Module, transposed: bool) -> Geometry:
    """Read it from a convolution module."""
    axes = len(module.kernel_size)
    if module.padding == "same":
        pads = tuple((size - 1) * step // 2 for size, step in zip(module.kernel_size, module.dilation, strict=True))
    elif module.padding == "valid":
        pads = (0,) * axes
    else:
        pads = tuple(module.padding)
    return Geometry(
        _lifted(tuple(module.kernel_size), 1),
        _lifted(tuple(module.stride), 1),
        _lifted(pads, 0),
        _lifted(tuple(module.dilation), 1),
        _lifted(tuple(module.output_padding), 0) if transposed else (0, 0),
        int(module.groups),
        transposed,
    )


def pool_geometry(
    kernel_shape: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...] = (0,), dilations: tuple[int, ...] = (1,)
) -> Geometry:
    """Geometry of a pool with sizes for one or two axes; what is not given is no padding and no dilation."""
    axes = len(kernel_shape)
    return Geometry(
        _lifted(kernel_shape, 1), _lifted(strides, 1), _lifted(single(pads, axes), 0), _lifted(single(dilations, axes), 1)
    )


def fitted_pool(before: tuple[int, ...], after: tuple[int, ...], label: str) -> Geometry:
    """The windows of an adaptive pool whose output divides its input.

    Raises
    ------
    UnsupportedError
        If it does not: then windows have different sizes, which the NPU has not.
    """
    if any(size % result for size, result in zip(before, after, strict=True)):
        raise UnsupportedError(
            f"{label} makes {after} of {before}, which that does not divide, so its windows differ in size; choose a divisor"
        )
    kernel = tuple(size // result for size, result in zip(before, after, strict=True))
    return pool_geometry(kernel, kernel)
