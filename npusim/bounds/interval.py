"""Closed intervals, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.program import Tensor

__all__ = ["Ends", "Interval", "declared_interval", "hull_of"]

Ends = tuple[int, int]
"""Smallest and largest value."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Closed intervals, element by element.

    Attributes
    ----------
    lower, upper
        Arrays of one shape, the batch axis of one sample included; infinite where nothing is known.
    """

    lower: npt.NDArray[Any]
    upper: npt.NDArray[Any]

    @property
    def hull(self) -> tuple[float, float]:
        """The smallest interval around all elements."""
        return float(self.lower.min()), float(self.upper.max())

    def by_channel(self, axis: int) -> Interval:
        """The smallest interval of each channel, int64 or float64 [channels]."""
        others = tuple(position for position in range(self.lower.ndim) if position != axis)
        return Interval(self.lower.min(axis=others), self.upper.max(axis=others))


def declared_interval(tensor: Tensor) -> Interval:
    """What a tensor's declared range alone says: int64 for integers of a finite range that int64 holds, float64 otherwise."""
    finite = tensor.is_integer and tensor.lower >= -(2**63) and tensor.upper < 2**63
    ends = (int(tensor.lower), int(tensor.upper)) if finite else (float(tensor.lower), float(tensor.upper))
    kind = np.int64 if finite else np.float64
    return Interval(np.full(tensor.shape, ends[0], kind), np.full(tensor.shape, ends[1], kind))


def hull_of(*intervals: Interval) -> Ends | None:
    """``(lower, upper)`` around intervals; None around none."""
    if not intervals:
        return None
    return int(min(np.min(one.lower) for one in intervals)), int(max(np.max(one.upper) for one in intervals))
