"""Batch normalization with given statistics."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["batch_normalize"]

Array: TypeAlias = npt.NDArray[np.generic]


def batch_normalize(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    /,
    *,
    epsilon: float = 1e-5,
) -> Array:
    """Normalize with given statistics, in the order of operations that runtimes use.

    ``gain = scale * (1 / sqrt(variance + epsilon))``, ``offset = bias - mean * gain``, ``y = x * gain + offset``; every single
    operation rounds to float32 (float64 if anything is float64).

    Parameters
    ----------
    x
        (N, C, *spatial), float.
    scale, bias, mean, variance
        (C,), or one number for every element of a sample: (C, *spatial).
    epsilon
        Keeps the root away from 0.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    Raises
    ------
    ValueError
        If a parameter has another shape or `x` is not float.

    Examples
    --------
    >>> one, two = np.ones(1, dtype=np.float32), np.full(1, 2, dtype=np.float32)
    >>> batch_normalize(np.array([[[5.0]]], dtype=np.float32), two, one, two, one, epsilon=0.0)
    array([[[7.]]], dtype=float32)
    """
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"batch normalization of dtype {x.dtype} is not implemented, wanted a float dtype")
    channels = x.shape[1:2] or (1,)
    shape = (*channels, *(1,) * (x.ndim - 2)) if scale.ndim == 1 else x.shape[1:]
    wide = np.result_type(np.float32, x, scale, bias, mean, variance)
    parameters = []
    for name, values in (("scale", scale), ("bias", bias), ("mean", mean), ("variance", variance)):
        if values.shape not in (channels, x.shape[1:]) or values.ndim != scale.ndim:
            raise ValueError(f"{name} has shape {values.shape}, wanted {channels} for an input of shape {x.shape}")
        parameters.append(values.astype(wide).reshape(shape))
    factor, addend, center, spread = parameters
    with np.errstate(all="ignore"):
        gain = factor * (wide.type(1) / np.sqrt(spread + wide.type(epsilon)))
        offset = addend - center * gain
        return np.asarray(x.astype(wide) * gain + offset).astype(x.dtype)
