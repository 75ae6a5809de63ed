"""Maximum and average pools over any number of spatial axes, channels first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .accumulation import Float64Array, chunks
from .geometry import output_sizes, pad_spatial, padded_sizes, tap_slices

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool", "max_pool_indices"]

Array: TypeAlias = npt.NDArray[np.generic]
ScalarT = TypeVar("ScalarT", bound=np.generic)


def max_pool(
    x: npt.NDArray[ScalarT],
    /,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
) -> npt.NDArray[ScalarT]:
    """Largest element of every window; padding never wins.

    Parameters
    ----------
    x
        (N, C, *spatial), float or integer.
    kernel_shape, strides, dilations, pads
        One number for each spatial axis; `pads` holds begins, then ends.
    ceil_mode
        Whether a last window may reach past the padding, see `npusim.kernels.geometry.output_sizes`.

    Returns
    -------
    ndarray
        (N, C, *output), dtype of `x`; a window with a NaN gives NaN.

    Raises
    ------
    ValueError
        If the window is larger than the padded input.

    Examples
    --------
    >>> x = np.array([[[1, 3, 2]]], dtype=np.int8)
    >>> max_pool(x, kernel_shape=(2,), strides=(1,), dilations=(1,), pads=(0, 1))
    array([[[3, 3, 2]]], dtype=int8)
    """
    spatial = x.shape[2:]
    windows = output_sizes(
        spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads, ceil_mode=ceil_mode
    )
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    y = np.full((*x.shape[:2], *windows), _lowest(x.dtype), dtype=x.dtype)
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=x.itemsize * x.shape[1] * int(np.prod(sizes))):
            padded = pad_spatial(x[part], begins=pads[: len(spatial)], sizes=sizes, value=_lowest(x.dtype))
            for region in tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations):
                np.maximum(y[part], padded[(slice(None), slice(None), *region)], out=y[part])
    return y


def max_pool_indices(
    x: Array,
    /,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
    column_major: bool = False,
) -> npt.NDArray[np.int64]:
    """Where the largest element of every window lies, as an index into all of `x` flattened; the first one of equals.

    Parameters
    ----------
    x, kernel_shape, strides, dilations, pads, ceil_mode
        As in `max_pool`.
    column_major
        Whether the first instead of the last spatial axis runs fastest in the index; sample and channel lie outside either way.

    Returns
    -------
    ndarray of int64
        (N, C, *output). A window with a NaN gives the first NaN.

    Raises
    ------
    ValueError
        If the window is larger than the padded input, or holds only padding and so has no index.

    Examples
    --------
    >>> x = np.array([[[1, 3, 3]]], dtype=np.int8)
    >>> max_pool_indices(x, kernel_shape=(2,), strides=(1,), dilations=(1,), pads=(0, 0))
    array([[[1, 1]]])
    """
    spatial = x.shape[2:]
    windows = output_sizes(
        spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads, ceil_mode=ceil_mode
    )
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    begins = pads[: len(spatial)]
    order: Literal["F", "C"] = "F" if column_major else "C"
    positions = np.arange(int(np.prod(spatial)), dtype=np.int64).reshape((1, 1, *spatial), order=order)
    where = pad_spatial(positions, begins=begins, sizes=sizes, value=-1)
    index = np.empty((*x.shape[:2], *windows), dtype=np.int64)
    for part in chunks(x.shape[0], item_bytes=8 * x.shape[1] * int(np.prod(sizes))):
        padded = pad_spatial(x[part], begins=begins, sizes=sizes, value=_lowest(x.dtype))
        regions = tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
        index[part] = _first_largest(padded, where, regions, shape=(*padded.shape[:2], *windows))
    if index.size and index.min() < 0:
        raise ValueError("a window holds only padding, so its largest element has no index")
    planes = np.arange(x.shape[0] * x.shape[1], dtype=np.int64) * positions.size
    index += planes.reshape(*x.shape[:2], *(1,) * len(spatial))
    return index


def average_pool(
    x: Array,
    /,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Array:
    """Mean of every window: ``float32(sum) / float32(count)``, the sum taken in float64.

    On integer-valued data whose sums stay below 2^24 the quotient is the only rounding.

    Parameters
    ----------
    x
        (N, C, *spatial), float.
    kernel_shape, strides, dilations, pads, ceil_mode
        As in `max_pool`.
    count_include_pad
        Whether the padding counts as zeros in the mean; what ``ceil_mode`` adds behind the padding never counts.

    Returns
    -------
    ndarray
        (N, C, *output), dtype of `x`; float64 data is divided in float64, float16 data is rounded after a float32 division.

    Raises
    ------
    ValueError
        If `x` is not float or the window is larger than the padded input.

    Examples
    --------
    >>> x = np.array([[[1.0, 3.0, 8.0]]])
    >>> average_pool(x, kernel_shape=(2,), strides=(2,), dilations=(1,), pads=(0, 1))
    array([[[2., 8.]]])
    """
    _check_float(x)
    spatial = x.shape[2:]
    axes = len(spatial)
    windows = output_sizes(
        spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads, ceil_mode=ceil_mode
    )
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    counted = pads if count_include_pad else (0,) * (2 * axes)
    inside = np.ones([size + counted[axis] + counted[axis + axes] for axis, size in enumerate(spatial)])
    begins = [pads[axis] - counted[axis] for axis in range(axes)]
    ones = pad_spatial(inside[np.newaxis, np.newaxis], begins=begins, sizes=sizes, value=0)
    count = _window_sums(ones, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
    y = np.empty((*x.shape[:2], *windows), dtype=x.dtype)
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=8 * x.shape[1] * int(np.prod(sizes))):
            padded = pad_spatial(x[part], begins=pads[:axes], sizes=sizes, value=0)
            total = _window_sums(padded, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
            y[part] = _divide(total, count, dtype=x.dtype)
    return y


def global_average_pool(x: Array, /) -> Array:
    """Mean over all spatial axes, each kept with size 1; rounded like `average_pool`.

    Examples
    --------
    >>> global_average_pool(np.array([[[1.0, 3.0, 8.0]]]))
    array([[[4.]]])
    """
    _check_float(x)
    flat = x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))
    y = np.empty(flat.shape[:2], dtype=x.dtype)
    count = np.array(float(flat.shape[2]))
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=8 * flat.shape[1] * flat.shape[2]):
            y[part] = _divide(flat[part].astype(np.float64).sum(axis=2), count, dtype=x.dtype)
    return y.reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


def global_max_pool(x: npt.NDArray[ScalarT], /) -> npt.NDArray[ScalarT]:
    """Largest element over all spatial axes, each kept with size 1.

    Examples
    --------
    >>> global_max_pool(np.array([[[1.0, 3.0, 2.0]]]))
    array([[[3.]]])
    """
    y: npt.NDArray[ScalarT] = np.max(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    return y


def _first_largest(
    padded: Array, where: npt.NDArray[np.int64], regions: Iterator[tuple[slice, ...]], *, shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Position of the largest element of each window, -1 where there is only padding."""
    best = np.zeros(shape, dtype=padded.dtype)
    index = np.full(shape, -1, dtype=np.int64)
    for region in regions:
        candidate = padded[(slice(None), slice(None), *region)]
        position = where[(slice(None), slice(None), *region)]
        # A NaN is the only thing that differs from itself.
        larger = np.greater(candidate, best) | ((candidate != candidate) & (best == best))
        taken = (position >= 0) & ((index < 0) | larger)
        np.copyto(best, candidate, where=taken)
        np.copyto(index, np.broadcast_to(position, index.shape), where=taken)
    return index


def _window_sums(
    padded: Array, windows: Sequence[int], *, kernel_shape: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Float64Array:
    total = np.zeros((*padded.shape[:2], *windows))
    for region in tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations):
        total += padded[(slice(None), slice(None), *region)].astype(np.float64)
    return total


def _divide(total: Float64Array, count: Float64Array, *, dtype: np.dtype[np.generic]) -> Array:
    wide = np.result_type(dtype, np.float32)
    return np.asarray(total.astype(wide) / count.astype(wide)).astype(dtype)


def _lowest(dtype: np.dtype[np.generic]) -> float | int:
    if np.issubdtype(dtype, np.floating):
        return -np.inf
    if np.issubdtype(dtype, np.integer):
        return int(np.iinfo(dtype.name).min)
    raise ValueError(f"a maximum pool of dtype {dtype} is not implemented")


def _check_float(x: Array) -> None:
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"an average pool of dtype {x.dtype} is not implemented, wanted a float dtype")
