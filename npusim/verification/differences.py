"""How the values of one layer differ from another's, gathered chunk by chunk, in the units in which they are held."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.graph import Array
from npusim.program.trace import StepKind
from npusim.schemas.derivation import Choice, Count

__all__ = ["Demand", "LayerDifferences", "Place"]


Demand = Annotated[str, Choice(("exact", "exact_given_inputs", "bounded"))]
"""What is asked of the values of a layer."""


LARGEST_COUNTED: Final = 2.0**53
"""Whole differences from here on are floats, of which no histogram is kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """The first value that differs.

    Attributes
    ----------
    sample
        Number of the sample.
    index
        Position in the sample.
    value, other
        The model's value and the other side's.
    """

    json_names: ClassVar[tuple[str, ...]] = ("sample", "index", "value=real_value", "other=real_other")

    sample: Count
    index: tuple[Count, ...]
    value: float
    other: float

    @property
    def real_value(self) -> float:
        """The model's value."""
        return float(self.value)

    @property
    def real_other(self) -> float:
        """The other side's value."""
        return float(self.other)


@dataclass(slots=True)
class LayerDifferences:
    """The values of one tensor against the same tensor of another side; a difference is the model's value minus the other's.

    Attributes
    ----------
    name
        Name of the layer.
    tensor
        The ONNX tensor compared.
    kind
        Kind of layer, QUANTIZE or HOST.
    other_name, other_tensor
        What the other side calls them; null where it has no such names.
    comparison
        ``exact``: every value has to be equal. ``exact_given_inputs``: the same with the other side's inputs of the layer,
        because a float32 sum before it may be rounded in another order. ``bounded``: such a sum itself, within its limit.
    elements
        Values compared.
    mismatches
        Values that break the demand.
    integers
        Whether all values of both sides are whole numbers, so that differences are in LSB.
    total
        Sum over parts of the samples of their sums of finite differences, which are floats; added without rounding, so that
        the order of parts does not matter.
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

    json_names: ClassVar[tuple[str, ...]] = (
        *("name", "tensor", "kind", "other_name", "other_tensor", "comparison", "elements", "mismatches", "unit"),
        *("mean_difference", "largest_difference=largest", "histogram=bins", "first_difference=first"),
    )

    name: str
    kind: StepKind
    tensor: str
    other_name: str | None = None
    other_tensor: str | None = None
    comparison: Demand = "exact"
    elements: Count = 0
    mismatches: Count = 0
    integers: bool = True
    total: Fraction = Fraction(0)
    largest: float = 0.0
    histogram: Counter[int] = field(default_factory=Counter)
    limit: float = 0.0
    carried: int = 0
    beyond_float32: int = 0
    first: Place | None = None

    @property
    def mean_difference(self) -> float:
        """The signed bias: mean of all differences, equal values included; NaN where nothing was compared."""
        return float(self.total / self.elements) if self.elements else float("nan")

    @property
    def bins(self) -> tuple[tuple[int, int], ...] | None:
        """How often each difference occurs, in ascending order; null for values that are not whole numbers."""
        return tuple((key, self.histogram[key]) for key in sorted(self.histogram)) if self.integers else None

    @property
    def unit(self) -> Literal["LSB", "value"]:
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

    def begun(self) -> LayerDifferences:
        """The same layer, with no values taken."""
        names = self.name, self.kind, self.tensor, self.other_name, self.other_tensor, self.comparison
        return LayerDifferences(*names)

    def merge(self, other: LayerDifferences) -> None:
        """Add what was taken of other samples; in which order parts of the samples are merged does not matter.

        Examples
        --------
        >>> first, second = LayerDifferences("fc", "FC", "y"), LayerDifferences("fc", "FC", "y")
        >>> first.take(np.array([[1, 5]]), np.array([[1, 5]]), 0), second.take(np.array([[4, 4]]), np.array([[4, 3]]), 1)
        (array([[False, False]]), array([[False,  True]]))
        >>> first.merge(second)
        >>> first.mismatches, first.elements, first.first.sample
        (1, 4, 1)
        """
        self.elements += other.elements
        self.mismatches += other.mismatches
        self.total += other.total
        self.largest, self.limit = max(self.largest, other.largest), max(self.limit, other.limit)
        self.carried += other.carried
        self.beyond_float32 += other.beyond_float32
        self.integers = self.integers and other.integers
        if self.integers:
            self.histogram.update(other.histogram)
        else:
            self.histogram.clear()
        if self.first is None or (other.first is not None and other.first.sample < self.first.sample):
            self.first = other.first

    def _count(self, difference: npt.NDArray[np.float64], broken: npt.NDArray[np.bool_], *, whole: bool) -> None:
        finite = np.isfinite(difference)
        self.elements += difference.size
        self.mismatches += int(np.count_nonzero(broken))
        self.total += Fraction(float(difference[finite].sum()))
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
