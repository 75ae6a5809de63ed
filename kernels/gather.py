"""Picking slices by tuples of indices."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["gather_nd"]

Array: TypeAlias = npt.NDArray[Any]


def gather_nd(x: Array, indices: npt.NDArray[np.integer[Any]], /, *, batch_dims: int) -> Array:
    """Slices ``x[b, i_1, ..., i_k]`` for each index tuple on the last axis of `indices`.

    Parameters
    ----------
    x
        Shape ``[*batch, *sizes]``.
    indices
        Shape ``[*batch, *positions, k]`` with k up to the number of sizes; negative indices count from the end.
    batch_dims
        How many leading axes `x` and `indices` share.

    Returns
    -------
    numpy.ndarray
        Shape ``[*batch, *positions, *sizes[k:]]``, dtype of `x`.

    Raises
    ------
    IndexError
        If an index is outside of its axis.

    Examples
    --------
    >>> gather_nd(np.array([[1, 2], [3, 4]]), np.array([[0, 1], [1, 0]]), batch_dims=0).tolist()
    [2, 3]
    """
    batch, depth = math.prod(x.shape[:batch_dims]), indices.shape[-1]
    tuples = indices.reshape(batch, math.prod(indices.shape[batch_dims:-1]), depth)
    first = np.broadcast_to(np.arange(batch)[:, np.newaxis], tuples.shape[:2])
    picked = x.reshape(batch, *x.shape[batch_dims:])[(first, *np.moveaxis(tuples, -1, 0))]
    return np.reshape(picked, (*indices.shape[:-1], *x.shape[batch_dims + depth :]))
