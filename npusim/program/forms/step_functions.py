"""Functions of one integer, held as runs of equal values, in a form that equal functions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.program.requantization import FloatArray, IntegerArray

__all__ = ["LARGEST_VALUE", "StepFunction"]

LARGEST_VALUE: Final = 2**53
"""Up to here every integer is a float64 of its own."""


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A function of an integer: ``values[i]`` for arguments from ``starts[i]`` up to where the next run starts.

    Neighbouring runs have different values, so that functions that are equal on the same arguments have the same runs.

    Attributes
    ----------
    starts
        int64 [runs], strictly rising; the first is the lowest argument.
    values
        float64 [runs]. Integers are at most 2^53 in size; 0 and -0 are different values.
    last
        The highest argument.
    """

    starts: IntegerArray
    values: FloatArray
    last: int

    @classmethod
    def of(cls, starts: IntegerArray, values: npt.NDArray[np.generic], last: int) -> StepFunction:
        """From runs of which neighbours may be equal.

        Examples
        --------
        >>> StepFunction.of(np.array([0, 1, 2, 3]), np.array([7, 7, 8, 8]), 9).starts.tolist()
        [0, 2]
        """
        reals = values.astype(np.float64)
        reals = np.where(np.isnan(reals), np.nan, reals)  # one NaN stands for all
        bits = reals.view(np.int64)
        kept = np.concatenate([[True], bits[1:] != bits[:-1]])
        return cls(starts[kept], reals[kept], last)

    @classmethod
    def identity(cls, lower: int, upper: int) -> StepFunction:
        """The argument itself, for arguments within a closed interval."""
        arguments = np.arange(lower, upper + 1)
        return cls(arguments, arguments.astype(np.float64), upper)

    @property
    def key(self) -> bytes:
        """The same for equal functions of the same arguments, and for no others."""
        return self.starts.tobytes() + self.values.tobytes() + self.last.to_bytes(8, "little", signed=True)

    @property
    def is_constant(self) -> bool:
        """Whether it has one value."""
        return self.values.size == 1

    @property
    def rises(self) -> bool:
        """Whether it never falls."""
        return bool((self.values[1:] >= self.values[:-1]).all())

    @property
    def is_whole(self) -> bool:
        """Whether all its values are integers that float64 holds, and none is -0."""
        values = self.values
        plain = np.isfinite(values) & ~((values == 0) & np.signbit(values))
        return bool(plain.all() and (values == np.rint(values)).all() and (np.abs(values) <= LARGEST_VALUE).all())

    @property
    def integers(self) -> IntegerArray:
        """Its values, where all are integers."""
        return self.values.astype(np.int64)

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest value, where all are integers."""
        return int(self.values.min()), int(self.values.max())

    def then(self, function: Callable[[FloatArray], npt.NDArray[np.generic]]) -> StepFunction:
        """What a function makes of its values.

        Examples
        --------
        >>> StepFunction.identity(-2, 2).then(np.abs).values.tolist()
        [2.0, 1.0, 0.0, 1.0, 2.0]
        """
        return StepFunction.of(self.starts, function(self.values), self.last)

    def runs_unlike(self, other: StepFunction) -> IntegerArray:
        """Where it differs from another function: int64 [runs, 2], first and last argument, among those that both have."""
        lowest, highest = max(self.starts[0], other.starts[0]), min(self.last, other.last)
        points = np.unique(np.concatenate([self.starts, other.starts, [lowest]]))
        points = points[(points >= lowest) & (points <= highest)]
        mine, others = (part.values[np.searchsorted(part.starts, points, "right") - 1] for part in (self, other))
        unlike = mine.view(np.int64) != others.view(np.int64)
        ends = np.append(points[1:] - 1, highest)
        return np.stack([points[unlike], ends[unlike]], axis=1)
