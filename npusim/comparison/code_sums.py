"""How codes use their range, histograms, and classes found: sums that are taken chunk by chunk and merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npusim.comparison.sums import FloatArray, check_comparable, rows_of
from npusim.errors import InputError

__all__ = ["ClassSums", "CodeSums", "Histogram", "IntegerArray"]

IntegerArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CodeSums:
    """How codes use the range ``[lower, upper]`` they are clipped to; arrays of shape ``[channels]`` or ``[1]``.

    Attributes
    ----------
    lower, upper
        The rails: the ends of the range.
    count
        Codes.
    on_lower, on_upper
        Codes equal to a rail or beyond it.
    smallest, largest
        Codes seen.

    Examples
    --------
    >>> sums = CodeSums.of(np.array([[0, 0, 64, 127]]), lower=0, upper=255)
    >>> float(sums.share_on_lower[0]), float(sums.share_on_upper[0]), float(sums.range_used[0])
    (0.5, 0.0, 0.5)
    """

    lower: int
    upper: int
    count: FloatArray
    on_lower: FloatArray
    on_upper: FloatArray
    smallest: FloatArray
    largest: FloatArray

    @classmethod
    def of(cls, codes: npt.NDArray[Any], /, *, lower: int, upper: int, channel_axis: int | None = None) -> Self:
        """Take the sums of an array of codes.

        Raises
        ------
        InputError
            If there is no value, or one is NaN or infinite.
        """
        check_comparable(codes, "codes")
        values = rows_of(codes, channel_axis)
        return cls(
            lower,
            upper,
            count=np.full(len(values), float(values.shape[1])),
            on_lower=np.count_nonzero(values <= lower, axis=1).astype(np.float64),
            on_upper=np.count_nonzero(values >= upper, axis=1).astype(np.float64),
            smallest=values.min(axis=1).astype(np.float64),
            largest=values.max(axis=1).astype(np.float64),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        if (self.lower, self.upper, len(self.count)) != (other.lower, other.upper, len(other.count)):
            raise InputError("sums over codes of another range or number of channels cannot be merged; compare equal layers")
        return type(self)(
            self.lower,
            self.upper,
            self.count + other.count,
            self.on_lower + other.on_lower,
            self.on_upper + other.on_upper,
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
        )

    def total(self) -> Self:
        """The sums over all channels."""
        return type(self)(
            self.lower,
            self.upper,
            self.count.sum(keepdims=True),
            self.on_lower.sum(keepdims=True),
            self.on_upper.sum(keepdims=True),
            self.smallest.min(keepdims=True),
            self.largest.max(keepdims=True),
        )

    @property
    def share_on_lower(self) -> FloatArray:
        """Share of the codes on the lower rail, 0 to 1."""
        return self.on_lower / self.count

    @property
    def share_on_upper(self) -> FloatArray:
        """Share of the codes on the upper rail, 0 to 1."""
        return self.on_upper / self.count

    @property
    def range_used(self) -> FloatArray:
        """Codes from the smallest to the largest seen, over the codes that there are.

        ``(largest - smallest + 1) / (upper - lower + 1)``; above 1 where codes pass the range.
        """
        return (self.largest - self.smallest + 1) / (self.upper - self.lower + 1)

    @property
    def is_dead(self) -> npt.NDArray[np.bool_]:
        """Whether a channel never changes, whatever the input."""
        result: npt.NDArray[np.bool_] = self.smallest == self.largest
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of values in bins of one width, for each channel or over all.

    Attributes
    ----------
    start, width
        Bin ``i`` holds ``start + i * width <= v < start + (i + 1) * width``.
    counts
        int64 ``[channels, bins]``, or ``[1, bins]``.
    below, above
        Values outside, int64 ``[channels]``.

    Examples
    --------
    >>> Histogram.of(np.array([0.0, 0.5, 1.0, 2.0, 7.0]), start=0.0, width=1.0, bins=2).counts
    array([[2, 1]])
    """

    start: float
    width: float
    counts: IntegerArray
    below: IntegerArray
    above: IntegerArray

    @classmethod
    def of(cls, values: npt.NDArray[Any], /, *, start: float, width: float, bins: int, channel_axis: int | None = None) -> Self:
        """Count values.

        Raises
        ------
        InputError
            If there is no value, or one is NaN or infinite.
        """
        check_comparable(values, "values")
        rows = rows_of(values, channel_axis)
        # bin 0 takes what is below, the last one what is above
        places = np.floor((rows.astype(np.float64) - start) / width)
        places = np.clip(places, -1, bins).astype(np.int64) + 1
        places += np.arange(len(rows))[:, None] * (bins + 2)
        counts = np.bincount(places.ravel(), minlength=len(rows) * (bins + 2)).reshape(len(rows), bins + 2).astype(np.int64)
        return cls(start, width, counts[:, 1:-1], counts[:, 0], counts[:, -1])

    def __add__(self, other: Self) -> Self:
        """The counts of both."""
        if (self.start, self.width, self.counts.shape) != (other.start, other.width, other.counts.shape):
            raise InputError("histograms with different bins or channels cannot be merged; use the same bins")
        return type(self)(
            self.start, self.width, self.counts + other.counts, self.below + other.below, self.above + other.above
        )

    def over_channels(self) -> Self:
        """The counts of all channels together."""
        return type(self)(
            self.start,
            self.width,
            self.counts.sum(axis=0, keepdims=True),
            self.below.sum(keepdims=True),
            self.above.sum(keepdims=True),
        )

    @property
    def edges(self) -> FloatArray:
        """Edges of the bins, ``[bins + 1]``."""
        return self.start + self.width * np.arange(self.counts.shape[1] + 1)

    @property
    def total(self) -> int:
        """Values, those outside included."""
        return int(self.counts.sum() + self.below.sum() + self.above.sum())


@dataclass(frozen=True, slots=True, eq=False)
class ClassSums:
    """Classes that were to be found against classes that were.

    Attributes
    ----------
    confusion
        int64 ``[classes, classes]``: row the true class, column the one found.

    Examples
    --------
    >>> ClassSums.of(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]), classes=2).confusion
    array([[1, 0],
           [1, 2]])
    """

    confusion: IntegerArray

    @classmethod
    def of(cls, labels: npt.NDArray[Any], found: npt.NDArray[Any], /, *, classes: int) -> Self:
        """Count pairs of classes, integers from 0 to ``classes - 1``.

        Raises
        ------
        InputError
            If the shapes differ, there is none, or a class is out of range.
        """
        if labels.shape != found.shape:
            raise InputError(f"labels have shape {labels.shape}, classes found {found.shape}; give one label a sample")
        for name, values in (("labels", labels), ("classes found", found)):
            if values.size == 0:
                raise InputError(f"there are no {name} to compare; give at least one sample")
            if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes:
                raise InputError(f"{name} are not all integers from 0 to {classes - 1}; give class numbers")
        flat = labels.ravel().astype(np.int64) * classes + found.ravel().astype(np.int64)
        return cls(np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64))

    def __add__(self, other: Self) -> Self:
        """The counts of both."""
        if self.confusion.shape != other.confusion.shape:
            raise InputError("counts over different numbers of classes cannot be merged; compare equal outputs")
        return type(self)(self.confusion + other.confusion)

    @property
    def total(self) -> int:
        """Pairs counted."""
        return int(self.confusion.sum())
