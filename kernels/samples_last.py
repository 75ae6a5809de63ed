"""Fast kernels on activations whose last axis holds the samples: ``[*spatial, channels, samples]``, float32 or float64.

Every weighted layer becomes matrix products with the samples as the long side, which is what BLAS is fastest at whatever the
number of channels: for one output position, the window of the input is a matrix ``[taps * channels, samples]`` that already
lies in memory, so nothing is copied. Pools and requantization are element-wise over contiguous memory.

Everything that is the same in every run is fixed once: views of a pair of arrays (`*_views`), and the NumPy calls on them
(`*_calls`). Running a layer is making its calls, as often as new values lie in the arrays.

Float BLAS is exact on integers as long as every partial sum stays below 2**24 (float32) or 2**53 (float64), in whatever
order and with or without fused multiply-add; the caller has proven that before it chose the element type. The simple twins,
which tests compare with, are in :mod:`npusim.kernels.integer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

__all__ = [
    "Call",
    "FloatArray",
    "Gathering",
    "PerAxis",
    "Product",
    "channel_rows",
    "copied_views",
    "dense_views",
    "gathered_views",
    "is_one_block",
    "pointwise_views",
    "product_calls",
    "product_onto",
    "requantize_calls",
    "row_weights",
    "tap_views",
]

FloatArray: TypeAlias = npt.NDArray[Any]
PerAxis: TypeAlias = Sequence[int]
Call: TypeAlias = Callable[[], object]
"""A NumPy function with all its arguments."""

Product: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]
"""``(left, right, result, target)``: the product goes to `result`, and is added to `target` where there is one."""

Gathering: TypeAlias = tuple[FloatArray, FloatArray]
"""``(copy, view)``: `view` is copied into `copy` before the products."""


COPIED_BYTES = 2**19
"""Size of the copies made at a time: a part of the second-level cache."""


def product_calls(products: Sequence[Product], gatherings: Sequence[Gathering] = (), /) -> list[Call]:
    """The calls for products: ``result = left @ right``, then ``target += result`` where a target is given.

    Usually `left` holds weights, broadcast over positions, and `right` one matrix ``[taps * channels, samples]`` for each.

    Examples
    --------
    >>> result = np.empty((1, 1))
    >>> (multiply,) = product_calls([(np.array([[2.0, 3.0]]), np.array([[1.0], [10.0]]), result, None)])
    >>> multiply().tolist(), result.tolist()
    ([[32.0]], [[32.0]])
    """
    calls: list[Call] = [partial(np.copyto, copy, view) for copy, view in gatherings]
    for left, right, result, target in products:
        # of two plain matrices the older function makes less ado
        plain = left.ndim == right.ndim == 2 and all(array.flags.c_contiguous for array in (left, right, result))
        calls.append(partial(np.dot if plain else np.matmul, left, right, result))
        if target is not None:
            calls.append(partial(np.add, target, result, target))
    return calls


def row_weights(weights: FloatArray, /) -> FloatArray:
    """Rearrange convolution weights ``[out, in, *kernel]`` to ``[*outer kernel, out, inner kernel * in]``, contiguous.

    Examples
    --------
    >>> row_weights(np.arange(4.0).reshape(1, 2, 2)).tolist()
    [[0.0, 2.0, 1.0, 3.0]]
    """
    rank = weights.ndim - 2
    moved = np.moveaxis(weights, [0, 1], [rank - 1, rank + 1])
    return np.ascontiguousarray(moved.reshape(*moved.shape[: rank - 1], weights.shape[0], -1))


def dense_views(
    x: FloatArray, w: FloatArray, out: FloatArray, scratch: FloatArray, /, *, strides: PerAxis, dilations: PerAxis
) -> list[Product]:
    """Products of a convolution with all input channels: one for each kernel row, at all output positions.

    ``out[o] = sum over a of w[a] @ window(x, o, a)``, where a runs over the kernel's outer positions and a window is the inner
    kernel axis together with the channels: consecutive memory, hence a matrix without a copy.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]``, its inner spatial axis, channels and samples dense.
    w
        As from :func:`row_weights`.
    out
        ``[*spatial, out channels, samples]``.
    scratch
        Of the shape of `out`.
    strides, dilations
        One number for each spatial axis; the inner dilation is 1.
    """
    rank = len(strides)
    channels, samples = x.shape[rank:]
    shape = (*out.shape[:rank], w.shape[-1], samples)
    steps = (*(step * stride for step, stride in zip(x.strides, strides, strict=False)), *x.strides[rank:])
    if w.shape[-1] != channels and (w.shape[-1] % channels or x.strides[rank - 1] != channels * x.strides[rank]):
        raise ValueError(f"weights of {w.shape[-1]} columns need {channels} channels in dense memory")
    products: list[Product] = []
    for position in product(*(range(size) for size in w.shape[: rank - 1])):
        corner = tuple(index * dilation for index, dilation in zip(position, dilations, strict=False))
        products.append(product_onto(w[position], as_strided(x[corner], shape, steps, writeable=False), out, scratch, products))
    return products


def is_one_block(x: FloatArray, /) -> bool:
    """True when the positions and samples of ``[*spatial, channels, samples]`` lie in one piece for each channel.

    Examples
    --------
    >>> is_one_block(np.zeros((3, 4, 6, 5)).transpose(1, 2, 0, 3)), is_one_block(np.zeros((4, 6, 3, 5)))
    (True, False)
    """
    sizes, steps = (*x.shape[:-2], x.shape[-1]), (*x.strides[:-2], x.strides[-1])
    expected = x.itemsize
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        if size > 1 and step != expected:
            return False
        expected *= size
    return True


def channel_rows(x: FloatArray, /) -> FloatArray:
    """View ``[*spatial, channels, samples]``, each channel in one piece, as ``[channels, positions * samples]``.

    Parameters
    ----------
    x
        For which :func:`is_one_block` is true.
    """
    return as_strided(x, (x.shape[-2], math.prod(x.shape[:-2]) * x.shape[-1]), (x.strides[-2], x.itemsize))


def pointwise_views(x: FloatArray, w: FloatArray, out: FloatArray, /) -> list[Product]:
    """Convolution with a kernel of one element where channels lie outermost: all positions and samples are one product.

    Parameters
    ----------
    x, out
        ``[*spatial, channels, samples]``, each channel in one piece (:func:`is_one_block`).
    w
        ``[out channels, channels]``.
    """
    return [(w, channel_rows(x), channel_rows(out), None)]


def gathered_views(
    x: FloatArray, w: FloatArray, out: FloatArray, /, *, strides: PerAxis, dilations: PerAxis, bias: FloatArray | None
) -> tuple[list[Product], list[Gathering]]:
    """Convolution of a single sample: its windows are copied to rows, so that all positions are one product.

    With one sample, a matrix for each position would have one column; a product of ``[positions, taps * channels]`` with the
    weights is worth the copy. The bias rides along as the weight of a column of ones.

    Parameters
    ----------
    x, w, out
        As for :func:`dense_views`, with one sample.
    strides, dilations
        One number for each spatial axis; the inner dilation is 1.
    bias
        ``[out channels]``, added to the result; None for none.
    """
    rank = len(strides)
    outer, columns = w.shape[: rank - 1], w.shape[-1]
    taps, positions = math.prod(outer) * columns, out.shape[:rank]
    rows = np.ones((*positions, taps + (bias is not None)), x.dtype)
    places = as_strided(
        rows, (*positions, *outer, columns), (*rows.strides[:rank], *np.empty((*outer, columns), x.dtype).strides)
    )
    steps = tuple(step * stride for step, stride in zip(x.strides, strides, strict=False))
    moves = tuple(step * dilation for step, dilation in zip(x.strides, dilations[: rank - 1], strict=False))
    view = as_strided(x, places.shape, (*steps, *moves, x.strides[rank]), writeable=False)
    matrix = np.moveaxis(w, rank - 1, -1).reshape(-1, w.shape[rank - 1])
    if bias is not None:
        matrix = np.concatenate([matrix, bias[None]])
    result = out[..., 0]
    if result.flags.c_contiguous:
        rows, result = rows.reshape(-1, rows.shape[-1]), result.reshape(-1, result.shape[-1])
    return [(rows, np.ascontiguousarray(matrix), result, None)], [(places, view)]


def copied_views(
    x: FloatArray, w: FloatArray, out: FloatArray, /, *, strides: PerAxis, dilations: PerAxis
) -> list[tuple[list[Product], list[Gathering]]]:
    """Convolution with few channels: windows are copied so that all kernel rows are one product, a few output rows at a time.

    One kernel row of few channels is a matrix with few columns, for which a product of its own is not worth the call. The
    copies of a few rows stay in the cache.

    Parameters
    ----------
    x, w, out
        As for :func:`dense_views`.
    strides, dilations
        One number for each spatial axis; the inner dilation is 1.

    Returns
    -------
    list of (products, gatherings)
        To be run one after the other.
    """
    rank = len(strides)
    outer, columns, samples = w.shape[: rank - 1], w.shape[-1], out.shape[-1]
    matrix = np.ascontiguousarray(np.moveaxis(w, rank - 1, 0).reshape(w.shape[rank - 1], -1))
    taps = tuple(step * dilation for step, dilation in zip(x.strides, dilations[: rank - 1], strict=False))
    steps = tuple(step * stride for step, stride in zip(x.strides, strides, strict=False))
    row_bytes = math.prod(out.shape[1:rank]) * matrix.shape[1] * samples * x.itemsize
    rows = max(1, min(out.shape[0], COPIED_BYTES // row_bytes))
    copies = np.empty((rows, *out.shape[1:rank], *outer, columns, samples), x.dtype)
    stages: list[tuple[list[Product], list[Gathering]]] = []
    for start in range(0, out.shape[0], rows):
        copy = copies[: out.shape[0] - start]
        view = as_strided(x[start * strides[0] :], copy.shape, (*steps, *taps, *x.strides[rank:]), writeable=False)
        windows = copy.reshape(*copy.shape[:rank], -1, samples)
        stages.append(([(matrix, windows, out[start : start + rows], None)], [(copy, view)]))
    return stages


def tap_views(
    x: FloatArray, w: FloatArray, out: FloatArray, scratch: FloatArray, /, *, strides: PerAxis, dilations: PerAxis
) -> list[Product]:
    """Products of a convolution tap by tap, for geometries whose windows are not matrices: inner dilation, groups.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]`` (of one group).
    w
        ``[*kernel, out channels, channels]``.
    out, scratch
        ``[*spatial, out channels, samples]`` (of that group).
    strides, dilations
        One number for each spatial axis.
    """
    rank = len(strides)
    products: list[Product] = []
    for tap in product(*(range(size) for size in w.shape[:rank])):
        window = tuple(
            slice(index * dilation, index * dilation + (count - 1) * stride + 1, stride)
            for index, dilation, count, stride in zip(tap, dilations, out.shape, strides, strict=False)
        )
        products.append(product_onto(w[tap], x[window], out, scratch, products))
    return products


def product_onto(w: FloatArray, view: FloatArray, out: FloatArray, scratch: FloatArray, before: Sequence[Product]) -> Product:
    """``out = w @ view`` for the first of a layer's products, ``out += w @ view`` by way of `scratch` for those after it."""
    return (w, view, scratch, out) if before else (w, view, out, None)


def requantize_calls(
    y: FloatArray,
    /,
    *,
    operations: Sequence[tuple[np.ufunc, FloatArray | None]],
    lower: FloatArray,
    upper: FloatArray,
) -> list[Call]:
    """The calls for operations one after the other and ``clip(y, lower, upper)``, all in place.

    Parameters
    ----------
    y
        Accumulators ``[*spatial, channels, samples]``; already times the multiplier where that was folded into the weights.
    operations
        NumPy functions, those of two operands with the second one: ``[channels, 1]``, or of any shape that broadcasts to `y`.
    lower, upper
        Ends of the codes, arrays without axes in the element type of `y` (plain numbers would be converted at every call).
    """
    calls: list[Call] = [
        partial(function, y, y) if operand is None else partial(function, y, operand, y) for function, operand in operations
    ]
    return [*calls, partial(y.clip, lower, upper, y)]
