"""All metrics of error, each in one place: definition, formula, and what it is where the formula says nothing.

Metrics are computed from the sums of :mod:`npusim.comparison.sums`, which are taken chunk by chunk and merged, so that any
number of samples fits in bounded memory. With sums over channels a metric has one entry for each channel, else one entry.

Where a formula divides by zero, these rules hold:

* no error at all: SQNR is +inf, cosine and R2 are 1, SMAPE is 0, also for a reference of zeros;
* a reference of zeros with an error: SQNR is -inf, cosine is 0, SMAPE is 200;
* a constant reference with an error: R2 is -inf.

What cannot be compared is never "no difference": different shapes, no values, NaN and infinity raise `InputError` when the
sums are taken.
"""

from __future__ import annotations

import math

import numpy as np

from npusim.comparison.code_sums import ClassSums, CodeSums, Histogram
from npusim.comparison.sums import ErrorSums, FloatArray

__all__ = [
    "ClassSums",
    "CodeSums",
    "ErrorSums",
    "FloatArray",
    "Histogram",
    "accuracy",
    "best_scale",
    "cosine",
    "fitted_sqnr_db",
    "largest_error",
    "mean_absolute_error",
    "mean_error",
    "quantile",
    "r_squared",
    "root_mean_square_error",
    "smape",
    "sqnr_db",
]


def sqnr_db(sums: ErrorSums, /) -> FloatArray:
    """Signal to quantization noise ratio in dB, ``10 log10(sum r^2 / sum e^2)``, ``[channels]``.

    +inf without any error, -inf where the reference is zero and the approximation is not.

    Examples
    --------
    >>> sqnr_db(ErrorSums.of(np.array([10.0, 0.0]), np.array([9.0, 0.0])))
    array([20.])
    """
    with np.errstate(divide="ignore"):
        ratio = 10 * (np.log10(sums.reference_energy) - np.log10(np.where(sums.error_energy > 0, sums.error_energy, 1.0)))
    result: FloatArray = np.where(sums.error_energy > 0, ratio, np.inf)
    return result


def cosine(sums: ErrorSums, /) -> FloatArray:
    """Cosine of the angle between reference and approximation, ``sum r a / sqrt(sum r^2 sum a^2)``, ``[channels]``.

    1 where both are zero, 0 where one of them is.

    Examples
    --------
    >>> cosine(ErrorSums.of(np.array([3.0, 4.0]), np.array([4.0, 3.0])))
    array([0.96])
    """
    bottom = np.sqrt(sums.reference_energy) * np.sqrt(sums.approximation_energy)
    result = np.divide(sums.product, bottom, out=np.zeros_like(bottom), where=bottom > 0)
    both_zero = (sums.reference_energy == 0) & (sums.approximation_energy == 0)
    return np.clip(np.where(both_zero, 1.0, result), -1.0, 1.0)


def mean_error(sums: ErrorSums, /) -> FloatArray:
    """Signed mean error (bias), ``sum e / count``, ``[channels]``; positive where the approximation is too large.

    Examples
    --------
    >>> mean_error(ErrorSums.of(np.array([1.0, 2.0]), np.array([2.0, 4.0])))
    array([1.5])
    """
    return sums.error / sums.count


def mean_absolute_error(sums: ErrorSums, /) -> FloatArray:
    """Mean absolute error, ``sum |e| / count``, ``[channels]``."""
    return sums.absolute_error / sums.count


def root_mean_square_error(sums: ErrorSums, /) -> FloatArray:
    """Root of the mean squared error, ``sqrt(sum e^2 / count)``, ``[channels]``."""
    return np.sqrt(sums.error_energy / sums.count)


def largest_error(sums: ErrorSums, /) -> FloatArray:
    """Largest absolute error, ``max |e|``, ``[channels]``."""
    return sums.largest_error


def r_squared(sums: ErrorSums, /) -> FloatArray:
    """Coefficient of determination, ``1 - sum e^2 / sum (r - mean r)^2``, ``[channels]``.

    1 without any error; -inf where the reference is constant and there is an error.

    Examples
    --------
    >>> r_squared(ErrorSums.of(np.array([1.0, 3.0]), np.array([1.0, 2.0])))
    array([0.5])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        unexplained = np.where(sums.error_energy > 0, sums.error_energy / sums.reference_deviation, 0.0)
    result: FloatArray = 1 - unexplained
    return result


def smape(sums: ErrorSums, /) -> FloatArray:
    """Symmetric mean absolute percentage error, ``100 / count * sum 2 |e| / (|r| + |a|)``, 0 to 200, ``[channels]``.

    A pair of zeros counts as no error.

    Examples
    --------
    >>> smape(ErrorSums.of(np.array([1.0, 0.0]), np.array([3.0, 0.0])))
    array([50.])
    """
    return 100 * sums.relative_error / sums.count


def best_scale(sums: ErrorSums, /) -> FloatArray:
    """The factor ``s`` that minimises ``sum (r - s a)^2``: ``sum r a / sum a^2``, ``[channels]``; NaN where ``a`` is zero.

    With codes as the approximation and real values as the reference it is the scale of the codes by least squares.

    Examples
    --------
    >>> best_scale(ErrorSums.of(np.array([0.5, 1.0]), np.array([1.0, 2.0])))
    array([0.5])
    """
    empty = np.full_like(sums.product, np.nan)
    return np.divide(sums.product, sums.approximation_energy, out=empty, where=sums.approximation_energy > 0)


def fitted_sqnr_db(sums: ErrorSums, /) -> FloatArray:
    """SQNR in dB with the best common scale, ``10 log10(1 / (1 - c^2))`` for the cosine ``c``, ``[channels]``.

    What is left of the error when the approximation is multiplied by `best_scale`. 0 where that is zero or unknown.

    Examples
    --------
    >>> fitted_sqnr_db(ErrorSums.of(np.array([1.0, 0.0]), np.array([5.0, 5.0]))).round(4)
    array([3.0103])
    """
    both_zero = (sums.reference_energy == 0) & (sums.approximation_energy == 0)
    energy = sums.reference_energy * sums.approximation_energy
    left = np.divide(energy - sums.product**2, energy, out=np.ones_like(energy), where=energy > 0)
    with np.errstate(divide="ignore"):
        result: FloatArray = np.where(both_zero, np.inf, -10 * np.log10(np.clip(left, 0.0, 1.0)))
    return result


def quantile(values: FloatArray, share: float, /) -> float:
    """The smallest of some values that at least a share of them do not exceed: number ``ceil(share * count)`` in order.

    No two values are mixed, so that infinite ones do no harm.

    Examples
    --------
    >>> quantile(np.array([30.0, 10.0, np.inf, 20.0]), 0.5)
    20.0
    """
    return float(np.sort(values)[max(math.ceil(share * values.size) - 1, 0)])


def accuracy(sums: ClassSums, /) -> float:
    """Share of the samples whose class was found, ``trace(confusion) / sum(confusion)``, 0 to 1.

    Examples
    --------
    >>> accuracy(ClassSums.of(np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1]), classes=2))
    0.75
    """
    return float(np.trace(sums.confusion) / sums.confusion.sum())
