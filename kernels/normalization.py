"""Batch normalization with given statistics, layer normalization with those of the data."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["batch_normalize", "layer_normalize"]

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


def layer_normalize(
    x: Array, scale: Array, bias: Array | None, /, *, axis: int, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Normalize each sample over its last axes: ``(x - mean) / sqrt(variance + epsilon) * scale + bias``.

    Computed in float64 and rounded once to the dtype of `x`: runtimes leave the order of the sums open.

    Parameters
    ----------
    x
        Float, any shape.
    scale, bias
        Broadcastable to the axes that are normalized; None for no bias.
    axis
        First of the axes that are normalized together; not negative.
    epsilon
        Keeps the root away from 0.

    Returns
    -------
    tuple of ndarray
        The result in shape and dtype of `x`; mean and ``1 / sqrt(variance + epsilon)`` with the normalized axes of size 1, in
        float32 (float64 for float64 data).

    Raises
    ------
    ValueError
        If `x` is not float, or a parameter does not broadcast to its last axes.

    Examples
    --------
    >>> x, one = np.array([[1.0, 3.0]], np.float32), np.ones(2, np.float32)
    >>> y, mean, inverse = layer_normalize(x, one, one, axis=1, epsilon=3.0)
    >>> y.tolist(), mean.tolist(), inverse.tolist()
    ([[0.5, 1.5]], [[2.0]], [[0.5]])
    """
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"layer normalization of dtype {x.dtype} is not implemented, wanted a float dtype")
    for name, values in (("scale", scale), ("bias", bias)):
        if values is not None and np.broadcast_shapes(x.shape[axis:], values.shape) != x.shape[axis:]:
            raise ValueError(f"{name} has shape {values.shape}, wanted {x.shape[axis:]} for an input of shape {x.shape}")
    axes = tuple(range(axis, x.ndim))
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        mean = wide.mean(axis=axes, keepdims=True)
        centred = wide - mean
        spread = np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + epsilon)
        y = centred / spread * scale.astype(np.float64)
        y = y if bias is None else y + bias.astype(np.float64)
        kept = np.result_type(np.float32, x.dtype)
        return np.asarray(y.astype(x.dtype)), np.asarray(mean.astype(kept)), np.asarray((1 / spread).astype(kept))
