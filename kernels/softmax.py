"""Softmax in float64, rounded once; a row's result does not depend on how many rows there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .reduction import as_rows

__all__ = ["log_softmax", "softmax"]

Array: TypeAlias = npt.NDArray[Any]
Double: TypeAlias = npt.NDArray[np.float64]


def softmax(x: Array, /, *, axes: Sequence[int]) -> Array:
    """``exp(x) / sum(exp(x))``, the sum going over `axes` together.

    Parameters
    ----------
    x
        Any shape, a float dtype.
    axes
        Distinct axes, none negative.

    Returns
    -------
    numpy.ndarray
        Shape and dtype of `x`.

    Examples
    --------
    >>> softmax(np.float32([[5, 5], [0, -np.inf]]), axes=[1]).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    with np.errstate(all="ignore"):
        rows = _shifted_rows(x, axes)
        weights = np.exp(rows)
        return _restored(weights / np.add.reduce(weights, axis=1)[:, np.newaxis], x, axes)


def log_softmax(x: Array, /, *, axes: Sequence[int]) -> Array:
    """``x - ln(sum(exp(x)))``, the sum going over `axes` together; otherwise as :func:`softmax`.

    Examples
    --------
    >>> log_softmax(np.float32([[7, -np.inf]]), axes=[1]).tolist()
    [[0.0, -inf]]
    """
    with np.errstate(all="ignore"):
        rows = _shifted_rows(x, axes)
        return _restored(rows - np.log(np.add.reduce(np.exp(rows), axis=1))[:, np.newaxis], x, axes)


def _shifted_rows(x: Array, axes: Sequence[int]) -> Double:
    rows: Double = as_rows(x, axes=axes).astype(np.float64)
    highest: Double = np.maximum.reduce(rows, axis=1, initial=-np.inf)
    return rows - highest[:, np.newaxis]


def _restored(rows: Double, x: Array, axes: Sequence[int]) -> Array:
    order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
    shaped = rows.astype(x.dtype).reshape([x.shape[axis] for axis in order])
    return shaped.transpose(np.argsort(order).tolist())
