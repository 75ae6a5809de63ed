"""Padding by any number of elements, also a negative one, which removes elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["pad"]

Array: TypeAlias = npt.NDArray[Any]


def pad(x: Array, /, *, begins: Sequence[int], ends: Sequence[int], mode: str, value: float = 0) -> Array:
    """Pad every axis; negative amounts remove elements first, then the positive ones are added.

    Parameters
    ----------
    x
        Any shape.
    begins, ends
        Elements to add before and behind, one number for each axis.
    mode
        ``constant`` (`value`), ``edge`` (the outermost element), ``reflect`` (mirrored about the outermost element, which is
        not repeated) or ``wrap`` (as if the data were periodic).
    value
        What ``constant`` fills in, in the dtype of `x`.

    Raises
    ------
    ValueError
        If the mode is unknown, more elements are removed than there are, or an empty axis is to be continued.

    Examples
    --------
    >>> pad(np.array([1, 2, 3]), begins=[2], ends=[-1], mode="reflect").tolist()
    [1, 2, 1, 2]
    """
    crops = tuple(slice(max(-begin, 0), size + min(end, 0)) for size, begin, end in zip(x.shape, begins, ends, strict=True))
    if any(crop.start > crop.stop for crop in crops):
        raise ValueError(f"pads {[*begins, *ends]} remove more elements than shape {list(x.shape)} has")
    kept = x[crops]
    before, behind = [max(begin, 0) for begin in begins], [max(end, 0) for end in ends]
    if mode == "constant":
        sizes = [first + size + last for first, size, last in zip(before, kept.shape, behind, strict=True)]
        padded = np.full(sizes, value, x.dtype)
        padded[tuple(slice(first, first + size) for first, size in zip(before, kept.shape, strict=True))] = kept
        return padded
    for axis, (first, last) in enumerate(zip(before, behind, strict=True)):
        if first or last:
            kept = np.take(kept, _sources(kept.shape[axis], first, last, mode), axis=axis)
    return kept


def _sources(size: int, first: int, last: int, mode: str) -> npt.NDArray[np.int64]:
    """Which element of an axis each padded position shows."""
    if size == 0:
        raise ValueError(f"an axis without elements cannot be padded in mode '{mode}'")
    positions = np.arange(-first, size + last)
    match mode:
        case "edge":
            return np.clip(positions, 0, size - 1)
        case "wrap":
            return positions % size
        case "reflect":
            period = max(2 * (size - 1), 1)
            phase = positions % period
            return np.minimum(phase, period - phase) if size > 1 else phase
    raise ValueError(f"padding mode '{mode}' is not constant, edge, reflect or wrap")
