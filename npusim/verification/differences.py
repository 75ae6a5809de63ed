"""How the values of one layer differ from another's, gathered chunk by chunk, in the units in which they are held."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.graph import Array

__all__ = ["LayerDifferences", "Place"]


LARGEST_COUNTED: Final = 2.0**53
"""Whole differences from here on are floats, of which no histogram is kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """An element that differs.

    Attributes
    ----------
    sample
        Number of the sample.
    index
        Position in it.
    value, other
        The model's value and the other side's.
    """

    sample: int
    index: tuple[int, ...]
    value: float
    other: float


@dataclass(slots=True)
class LayerDifferences:
    """The values of one tensor against the same tensor of another side; a difference is the model's value minus the other's.

    Attributes
    ----------
    name, kind, tensor
        The layer of the model, its kind, and the tensor compared.
    other_name, other_tensor
        What the other side calls them; None where it has no such names.
    comparison
        ``exact``: every value has to be equal. ``exact_given_inputs``: the same with the other side's inputs of the layer,
        because a float32 sum before it may be rounded in another order. ``bounded``: such a sum itself, within its limit.
    elements, mismatches
        Values compared, and values that break the demand.
    integers
        Whether all values of both sides are whole numbers, so that differences are in LSB.
    total
        Sum of all finite differences.
    largest
        Largest magnitude of a difference, infinite where only one side is NaN or infinite.
    histogram
        For whole numbers: how often each difference occurs, 0 included.
    limit
        For ``bounded``: the largest limit of any element.
    carried
        For layers behind a free order of rounding: values that differ end to end, because their inputs already do.
    beyond_float32
        Values that onnxruntime could hold only rounded, because they stand for integers past 2**24; they count as equal.
    first
        The first element in order that breaks the demand.

    Examples
    --------
    >>> layer = LayerDifferences("fc", "FC", "y")
    >>> layer.take(np.array([[1, 5, 9]]), np.array([[1, 6, 7]]), 0)
    >>> layer.mismatches, sorted(layer.histogram.items()), layer.mean_difference
    (2, [(-1, 1), (0, 1), (2, 1)], 0.3333333333333333)
    """

    name: str
    kind: str
    tensor: str
    other_name: str | None = None
    other_tensor: str | None = None
    comparison: str = "exact"
    elements: int = 0
    mismatches: int = 0
    integers: bool = True
    total: float = 0.0
    largest: float = 0.0
    histogram: Counter[int] = field(default_factory=Counter)
    limit: float = 0.0
    carried: int = 0
    beyond_float32: int = 0
    first: Place | None = None

    @property
    def mean_difference(self) -> float:
        """The signed bias: mean of all differences, equal values included; NaN where nothing was compared."""
        return self.total / self.elements if self.elements else float("nan")

    @property
    def unit(self) -> str:
        """``LSB`` for whole numbers, else ``value``."""
        return "LSB" if self.integers else "value"

    def take(
        self,
        ours: Array,
        theirs: Array,
        start: int,
        *,
        samples: int | None = None,
        limits: npt.NDArray[np.float64] | None = None,
        beyond: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Compare some samples.

        Parameters
        ----------
        ours, theirs
            Values of both sides, samples on the first axis.
        start
            Number of the first sample.
        samples
            How many samples these are, where the first axis may be none of samples; then it is one sample.
        limits
            Differences that are allowed.
        beyond
            Values that the other side cannot hold, whatever it computes.

        Returns
        -------
        bool array
            Which values break the demand.

        Raises
        ------
        InputError
            If the shapes differ, or there are no values.
        """
        if ours.shape != theirs.shape:
            raise InputError(
                f"'{self.tensor}' has shape {list(ours.shape)} here and '{self.other_tensor or self.tensor}' has "
                f"{list(theirs.shape)} on the other side; only equal shapes are compared"
            )
        if not ours.size:
            raise InputError(f"'{self.tensor}' holds no values to compare; give at least one sample")
        difference, same = _differences(ours, theirs)
        if beyond is not None:
            self.beyond_float32 += int((beyond & ~same).sum())
            difference, same = np.where(beyond, 0.0, difference), same | beyond
        if limits is not None:
            self.limit = max(self.limit, float(limits.max(initial=0.0)))
        broken = ~same if limits is None else ~(same | (np.abs(difference) <= limits))
        self._count(difference, broken, whole=_whole(ours) and _whole(theirs))
        if self.first is None and broken.any():
            place = tuple(int(item) for item in np.argwhere(broken)[0])
            stacked = ours.ndim > 0 and (samples is None or len(ours) == samples)
            sample, index = (place[0], place[1:]) if stacked else (0, place)
            self.first = Place(sample + start, index, ours[place].item(), theirs[place].item())
        return broken

    def as_json(self) -> dict[str, Any]:
        """Plain data; the histogram as pairs in ascending order, None for values that are no whole numbers."""
        first = self.first
        place = (
            None
            if first is None
            else {"sample": first.sample, "index": list(first.index), "value": float(first.value), "other": float(first.other)}
        )
        return {
            "name": self.name,
            "tensor": self.tensor,
            "kind": self.kind,
            "other_name": self.other_name,
            "other_tensor": self.other_tensor,
            "comparison": self.comparison,
            "elements": self.elements,
            "mismatches": self.mismatches,
            "unit": self.unit,
            "mean_difference": self.mean_difference,
            "largest_difference": self.largest,
            "histogram": [[key, self.histogram[key]] for key in sorted(self.histogram)] if self.integers else None,
            "first_difference": place,
        }

    def _count(self, difference: npt.NDArray[np.float64], broken: npt.NDArray[np.bool_], *, whole: bool) -> None:
        finite = np.isfinite(difference)
        self.elements += difference.size
        self.mismatches += int(np.count_nonzero(broken))
        self.total += float(difference[finite].sum())
        sizes = np.where(np.isnan(difference), np.inf, np.abs(difference))
        self.largest = max(self.largest, float(sizes.max()))
        self.integers = self.integers and whole and bool((np.abs(difference[finite]) < LARGEST_COUNTED).all())
        if self.integers:
            values, counts = np.unique(difference[finite].astype(np.int64), return_counts=True)
            self.histogram.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        else:
            self.histogram.clear()


def _differences(ours: Array, theirs: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Ours minus theirs, 0 where both are NaN or the same infinity, and where both are the same."""
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    same = (ours == theirs) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        difference = np.subtract(left, right)
    return np.where(same, 0.0, difference), same


def _whole(values: Array) -> bool:
    if values.dtype.kind in "iub":
        return True
    return bool((np.isfinite(values) & (values == np.floor(values))).all())
