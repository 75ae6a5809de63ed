"""The values that a search is to reach: runs of integers, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.program import IntegerArray

__all__ = ["WantedValues"]


@dataclass(frozen=True, slots=True)
class WantedValues:
    """Closed runs of wanted integers, sorted by row, then by value.

    A row is what one of the wanted values is looked for in: an output channel of a layer, for example.

    Attributes
    ----------
    rows
        int64 [k], the row of each run.
    lower, upper
        int64 [k], its ends.
    """

    rows: IntegerArray
    lower: IntegerArray
    upper: IntegerArray

    def __len__(self) -> int:
        return int(self.rows.size)

    @property
    def present(self) -> IntegerArray:
        """The rows that have any run, sorted."""
        return np.unique(self.rows)

    def select(self, chosen: IntegerArray) -> WantedValues:
        """The runs at these positions."""
        return WantedValues(self.rows[chosen], self.lower[chosen], self.upper[chosen])

    def nearest(self, values: IntegerArray) -> tuple[IntegerArray, IntegerArray]:
        """How far values are from the nearest run of their row, and which run that is.

        Parameters
        ----------
        values
            int64 [n, rows, positions] of the rows in :attr:`present`, in that order.

        Returns
        -------
        (distance, run)
            int64 in the shape of `values`: 0 inside of a run; positive when the value has to rise, negative when it has to
            fall.
        """
        order = np.searchsorted(self.present, self.rows)
        reach = max(int(np.abs(part).max(initial=0)) for part in (values, self.lower, self.upper)) + 1
        stride = 4 * reach
        offsets = np.arange(self.present.size)[:, None] * stride
        keys = values + offsets
        starts = self.lower + order * stride
        after = np.searchsorted(starts, keys, side="right")
        before = np.maximum(after - 1, 0)
        following = np.minimum(after, len(self) - 1)
        rise = np.where(after < len(self), starts[following] - keys, stride)
        fall = np.where(after > 0, np.maximum(keys - (self.upper + order * stride)[before], 0), stride)
        rises = np.abs(rise) < fall
        return np.where(rises, rise, -fall), np.where(rises, following, before)
