"""Sums over a reference and an approximation of it, from which metrics are computed; taken chunk by chunk and merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError

__all__ = ["ErrorSums", "FloatArray", "check_comparable", "rows_of"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorSums:
    """Sums over pairs of a reference ``r`` and an approximation ``a`` of it; the error is ``e = a - r``.

    Each attribute is a float64 array of shape ``[channels]``, or ``[1]`` where channels are not told apart.

    Attributes
    ----------
    count
        Pairs.
    reference_mean, reference_deviation
        Mean of ``r`` and ``sum (r - mean)^2``, merged without cancellation.
    reference_energy, approximation_energy, error_energy
        ``sum r^2``, ``sum a^2``, ``sum e^2``.
    product
        ``sum r a``.
    error, absolute_error, largest_error
        ``sum e``, ``sum |e|``, ``max |e|``.
    relative_error
        ``sum 2 |e| / (|r| + |a|)``, a term of zeros counting as zero.

    Examples
    --------
    >>> sums = ErrorSums.of(np.array([3.0, 4.0]), np.array([3.0, 3.0])) + ErrorSums.of(np.array([0.0]), np.array([0.0]))
    >>> float(sums.error_energy[0]), float(sums.reference_energy[0]), sums.total_count
    (1.0, 25.0, 3)
    """

    count: FloatArray
    reference_mean: FloatArray
    reference_deviation: FloatArray
    reference_energy: FloatArray
    approximation_energy: FloatArray
    error_energy: FloatArray
    product: FloatArray
    error: FloatArray
    absolute_error: FloatArray
    largest_error: FloatArray
    relative_error: FloatArray

    @classmethod
    def of(cls, reference: npt.NDArray[Any], approximation: npt.NDArray[Any], /, *, channel_axis: int | None = None) -> Self:
        """Take the sums of two arrays.

        Parameters
        ----------
        reference, approximation
            Numbers in arrays of the same shape, at least one of them.
        channel_axis
            The axis that tells channels apart; None for one entry over all.

        Raises
        ------
        InputError
            If the shapes differ, there is no value, or one is NaN or infinite.
        """
        r, a = _comparable_rows(reference, approximation, channel_axis)
        e = a - r
        magnitude = np.abs(e)
        mean = r.mean(axis=1)
        bottom = np.abs(r) + np.abs(a)
        relative = np.divide(2 * magnitude, bottom, out=np.zeros_like(bottom), where=bottom > 0)
        return cls(
            count=np.full(len(r), float(r.shape[1])),
            reference_mean=mean,
            reference_deviation=_energy(r - mean[:, None]),
            reference_energy=_energy(r),
            approximation_energy=_energy(a),
            error_energy=_energy(e),
            product=np.einsum("ij,ij->i", r, a),
            error=e.sum(axis=1),
            absolute_error=magnitude.sum(axis=1),
            largest_error=magnitude.max(axis=1),
            relative_error=relative.sum(axis=1),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        if self.count.shape != other.count.shape:
            raise InputError(
                f"sums over {len(self.count)} and over {len(other.count)} channels cannot be merged; compare equal shapes"
            )
        return type(self)._merged([self, other])

    def total(self) -> Self:
        """The sums over all channels, in arrays of shape ``[1]``."""
        parts = [self._channel(index) for index in range(len(self.count))]
        return type(self)._merged(parts)

    @property
    def total_count(self) -> int:
        """Pairs over all channels."""
        return int(self.count.sum())

    def _channel(self, index: int) -> Self:
        return type(self)(**{item.name: getattr(self, item.name)[index : index + 1] for item in fields(self)})

    @classmethod
    def _merged(cls, parts: Sequence[Self]) -> Self:
        count = _summed([part.count for part in parts])
        mean = _summed([part.count * part.reference_mean for part in parts]) / count
        between = _summed([part.count * (part.reference_mean - mean) ** 2 for part in parts])
        sums = {
            item.name: _summed([getattr(part, item.name) for part in parts])
            for item in fields(cls)
            if item.name not in ("reference_mean", "largest_error")
        }
        sums["reference_deviation"] = sums["reference_deviation"] + between
        largest = np.max([part.largest_error for part in parts], axis=0)
        return cls(reference_mean=mean, largest_error=largest, **sums)


def _comparable_rows(
    reference: npt.NDArray[Any], approximation: npt.NDArray[Any], channel_axis: int | None
) -> tuple[FloatArray, FloatArray]:
    """Both arrays as float64 ``[channels, values]``."""
    if reference.shape != approximation.shape:
        raise InputError(
            f"the reference has shape {reference.shape}, what is compared with it {approximation.shape}; nothing is reshaped "
            "or broadcast to compare"
        )
    check_comparable(reference, "the reference")
    check_comparable(approximation, "what is compared")
    return (
        rows_of(reference, channel_axis).astype(np.float64, copy=False),
        rows_of(approximation, channel_axis).astype(np.float64, copy=False),
    )


def rows_of(values: npt.NDArray[Any], channel_axis: int | None) -> npt.NDArray[Any]:
    """Values as ``[channels, values]``, or ``[1, values]`` where channels are not told apart."""
    if channel_axis is None:
        return values.reshape(1, -1)
    if not -values.ndim <= channel_axis < values.ndim:
        raise InputError(f"there is no channel axis {channel_axis} in an array of shape {values.shape}; name one of its axes")
    return np.moveaxis(values, channel_axis, 0).reshape(values.shape[channel_axis], -1)


def check_comparable(values: npt.NDArray[Any], what: str) -> None:
    """Make sure that there are values, and that they are finite numbers.

    Raises
    ------
    InputError
        If not; `what` names them.
    """
    if values.size == 0:
        raise InputError(f"{what} has shape {values.shape} and no value; a comparison of nothing is refused")
    if values.dtype.kind not in "iuf":
        raise InputError(f"{what} has element type {values.dtype}, wanted numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        # one pass over the values: their sum is finite only if all of them are
        suspicious = values.dtype.kind == "f" and not math.isfinite(float(values.sum()))
    if suspicious and not np.isfinite(values).all():
        raise InputError(f"{what} holds NaN or infinity, which cannot be compared; look at what produced it")


def _energy(values: FloatArray) -> FloatArray:
    result: FloatArray = np.einsum("ij,ij->i", values, values)
    return result


def _summed(parts: Sequence[FloatArray]) -> FloatArray:
    result: FloatArray = np.sum(parts, axis=0)
    return result
