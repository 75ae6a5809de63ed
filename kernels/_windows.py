"""Windows over channels-first data, axis by axis: the geometry that the integer kernels share."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["AnyInteger", "Axis", "Index", "PerAxis", "axes_of", "meets_data", "met_by", "padded_spatially", "window_count"]

AnyInteger = TypeVar("AnyInteger", bound=np.integer[Any])
PerAxis: TypeAlias = Sequence[int]
"""One integer for each spatial axis; for pads all begins, then all ends."""
Index: TypeAlias = tuple[slice | EllipsisType, ...]
"""Index of spatial positions, all of them in every sample and channel."""


class Axis(NamedTuple):
    """Geometry along one spatial axis."""

    size: int
    kernel: int
    stride: int
    begin: int
    end: int
    dilation: int

    @property
    def reach(self) -> int:
        """Number of positions from the first tap to the last, both included."""
        return (self.kernel - 1) * self.dilation + 1


def axes_of(x: npt.NDArray[Any], *, kernel_shape: PerAxis, strides: PerAxis, pads: PerAxis, dilations: PerAxis) -> list[Axis]:
    """Geometry axis by axis; refuses what does not have the axes of the data or is out of range."""
    sizes = x.shape[2:]
    rank = len(sizes)
    geometry = f"kernel {list(kernel_shape)}, strides {list(strides)}, pads {list(pads)}, dilations {list(dilations)}"
    if rank < 1 or not rank == len(kernel_shape) == len(strides) == len(dilations) or len(pads) != 2 * rank:
        raise ValueError(f"{geometry} do not fit data {x.shape}, which has {rank} spatial axes")
    if min(*sizes, *kernel_shape, *strides, *dilations) < 1 or min(pads) < 0:
        raise ValueError(f"{geometry} with data {x.shape}: pads must be at least 0, all others at least 1")
    return [Axis(*values) for values in zip(sizes, kernel_shape, strides, pads[:rank], pads[rank:], dilations, strict=True)]


def window_count(axis: Axis, *, ceil_mode: bool = False) -> int:
    """Number of windows along an axis."""
    room = axis.size + axis.begin + axis.end - axis.reach
    count = (room + (axis.stride - 1 if ceil_mode else 0)) // axis.stride + 1
    if ceil_mode and (count - 1) * axis.stride >= axis.begin + axis.size:
        count -= 1
    if count < 1:
        raise ValueError(
            f"a kernel that reaches over {axis.reach} is larger than {axis.begin}+{axis.size}+{axis.end} padded data"
        )
    return count


def meets_data(axis: Axis, window: int) -> bool:
    """True unless all taps of the window lie in the padding."""
    first = window * axis.stride - axis.begin
    return any(0 <= first + tap * axis.dilation < axis.size for tap in range(axis.kernel))


def met_by(tap: PerAxis, axes: Sequence[Axis], counts: PerAxis) -> Index:
    """Index of the positions that one tap meets while the window moves to each of its places."""
    firsts = [k * axis.dilation for k, axis in zip(tap, axes, strict=True)]
    parts = zip(firsts, axes, counts, strict=True)
    return (..., *(slice(first, first + (count - 1) * axis.stride + 1, axis.stride) for first, axis, count in parts))


def padded_spatially(x: npt.NDArray[AnyInteger], pads: PerAxis, value: int) -> npt.NDArray[AnyInteger]:
    """`x` with its spatial axes padded by `value`."""
    rank = x.ndim - 2
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=value)
