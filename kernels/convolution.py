"""Float convolutions over any number of spatial axes, channels first.

Sums are accumulated in float64, rounded once to the output dtype, and do not depend on the batch, on blocking or on threads: a
convolution with one input channel per group adds its taps one by one, any other is a product of digit matrices (see
`npusim.kernels.accumulation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .accumulation import Float64Array, chunks, contract, digit_bits, rearrange, split
from .geometry import output_sizes, pad_spatial, padded_sizes, tap_slices, window_view

__all__ = ["convolve", "convolve_transpose"]

Array: TypeAlias = npt.NDArray[np.generic]


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    /,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    group: int = 1,
) -> Array:
    """Convolution (cross-correlation) of a zero-padded input.

    ``y[n, o, p] = bias[o] + sum weight[o, c, t] * x[n, c, p * stride + t * dilation]`` over the channels c of the group and
    the kernel taps t.

    Parameters
    ----------
    x
        Float array (N, C, *spatial), padded with zeros.
    weight
        Same dtype, (O, C / group, *kernel_shape).
    bias
        (O,), or None for none.
    strides, dilations, pads
        One number for each spatial axis; `pads` holds begins, then ends.
    group
        Input and output channels are divided into this many independent blocks.

    Returns
    -------
    ndarray
        (N, O, *output), dtype of `x`.

    Raises
    ------
    ValueError
        If shapes, dtypes or the group count do not fit.

    Examples
    --------
    >>> x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
    >>> convolve(x, weight, strides=(1,), dilations=(1,), pads=(0, 0))
    array([[[21., 32.]]])
    """
    _check_operands(x, weight, bias, group=group, channels=weight.shape[1] * group, features=weight.shape[0])
    kernel_shape = weight.shape[2:]
    spatial = x.shape[2:]
    windows = output_sizes(spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    accumulate = _convolve_depthwise if weight.shape[1] == 1 else _convolve_general
    y = np.empty((x.shape[0], weight.shape[0], *windows), dtype=x.dtype)
    item_bytes = 8 * int(np.prod(windows)) * max(x.shape[1] * int(np.prod(kernel_shape)), weight.shape[0])
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=item_bytes):
            padded = pad_spatial(x[part], begins=pads[: len(spatial)], sizes=sizes, value=0)
            acc = accumulate(padded, weight, windows, strides=strides, dilations=dilations, group=group)
            y[part] = _add_bias(acc, bias)
    return y


def convolve_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    /,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    output_shape: Sequence[int],
    group: int = 1,
) -> Array:
    """Transposed convolution: every input element adds its kernel, scaled, to the output, `strides` apart.

    ``y[n, o, q] = bias[o] + sum weight[c, o, t] * x[n, c, p]`` over all c, p, t with
    ``q = p * stride + t * dilation - pad_begin``.

    Parameters
    ----------
    x
        Float array (N, C, *spatial).
    weight
        Same dtype, (C, O / group, *kernel_shape).
    bias
        (O,), or None for none.
    strides, dilations, pads
        One number for each spatial axis; of `pads` only the begins are read.
    output_shape
        Spatial output sizes; outputs that no kernel reaches hold the bias.
    group
        Input and output channels are divided into this many independent blocks.

    Returns
    -------
    ndarray
        (N, O, *output_shape), dtype of `x`.

    Raises
    ------
    ValueError
        If shapes, dtypes or the group count do not fit.

    Examples
    --------
    >>> x, weight = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]])
    >>> convolve_transpose(x, weight, strides=(1,), dilations=(1,), pads=(0, 0), output_shape=(3,))
    array([[[ 1., 12., 20.]]])
    """
    features = weight.shape[1] * group
    _check_operands(x, weight, bias, group=group, channels=weight.shape[0], features=features)
    taps = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1).transpose(0, 3, 2, 1)
    y = np.empty((x.shape[0], features, *output_shape), dtype=x.dtype)
    item_bytes = 8 * max(int(np.prod(x.shape[1:])), int(np.prod(y.shape[1:])))
    kernel_shape, spatial, begins = weight.shape[2:], x.shape[2:], tuple(pads[: len(output_shape)])
    regions = list(tap_slices(spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations))
    reach = padded_sizes(
        output_shape, spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=begins + (0,) * len(begins)
    )
    window = tuple(slice(begin, begin + size) for begin, size in zip(begins, output_shape, strict=True))
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=item_bytes):
            full = _scatter(x[part], taps, regions, sizes=reach)
            y[part] = _add_bias(full[(slice(None), slice(None), *window)], bias)
    return y


def _convolve_depthwise(
    padded: Array, weight: Array, windows: Sequence[int], *, strides: Sequence[int], dilations: Sequence[int], group: int
) -> Float64Array:
    kernel_shape = weight.shape[2:]
    taps = weight.reshape(group, -1, int(np.prod(kernel_shape))).astype(np.float64)
    acc = np.zeros((padded.shape[0], group, taps.shape[1], *windows))
    trailing = (1,) * len(windows)
    slices = tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
    for tap, region in enumerate(slices):
        x = padded[(slice(None), slice(None), *region)].astype(np.float64)
        acc += taps[:, :, tap].reshape(group, -1, *trailing) * x[:, :, np.newaxis]
    return acc.reshape(padded.shape[0], -1, *windows)


def _convolve_general(
    padded: Array, weight: Array, windows: Sequence[int], *, strides: Sequence[int], dilations: Sequence[int], group: int
) -> Float64Array:
    samples, features = padded.shape[0], weight.shape[0]
    kernel_shape = weight.shape[2:]
    inner = int(np.prod(weight.shape[1:]))
    matrix = split(weight.reshape(group, features // group, inner), axes=(2,), bits=digit_bits(inner))
    image = split(padded, axes=tuple(range(1, padded.ndim)), bits=digit_bits(inner))
    image = replace(image, exponent=image.exponent.reshape(samples, 1, 1, 1))
    acc = np.empty((samples, features, *windows))
    row_bytes = 8 * samples * group * inner * int(np.prod(windows[1:]))
    extent = (kernel_shape[0] - 1) * dilations[0] + 1
    for rows in chunks(windows[0], item_bytes=row_bytes):
        block = (rows.stop - rows.start, *windows[1:])
        reach = slice(rows.start * strides[0], (rows.stop - 1) * strides[0] + extent)

        def columns(digit: Float64Array, reach: slice = reach, block: tuple[int, ...] = block) -> Float64Array:
            view = window_view(digit[:, :, reach], block, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
            return view.reshape(samples, group, inner, -1)

        acc[:, :, rows] = contract(matrix, rearrange(image, columns)).reshape(samples, features, *block)
    return acc


def _scatter(x: Array, taps: Array, regions: Sequence[tuple[slice, ...]], *, sizes: Sequence[int]) -> Float64Array:
    """Add the products of each tap (group, tap, O / group, C / group) with all positions to its region of the output."""
    samples, spatial = x.shape[0], x.shape[2:]
    group, _, outputs, inputs = taps.shape
    positions = x.reshape(samples, group, inputs, -1)
    bits = digit_bits(inputs)
    right = None if inputs == 1 else split(positions, axes=(1, 2, 3), bits=bits)
    full = np.zeros((samples, group, outputs, *sizes))
    for block in chunks(len(regions), item_bytes=full.itemsize * samples * group * outputs * positions.shape[3]):
        matrix = taps[:, block].reshape(group, -1, inputs)
        if right is None:
            products: Float64Array = matrix.astype(np.float64) * positions.astype(np.float64)
        else:
            products = contract(split(matrix, axes=(2,), bits=bits), right)
        products = products.reshape(samples, group, -1, outputs, *spatial)
        for tap, region in enumerate(regions[block]):
            full[(slice(None), slice(None), slice(None), *region)] += products[:, :, tap]
    return full.reshape(samples, group * outputs, *sizes)


def _add_bias(acc: Float64Array, bias: Array | None) -> Float64Array:
    return acc if bias is None else acc + bias.astype(np.float64).reshape(-1, *(1,) * (acc.ndim - 2))


def _check_operands(x: Array, weight: Array, bias: Array | None, *, group: int, channels: int, features: int) -> None:
    if not np.issubdtype(x.dtype, np.floating) or x.dtype != weight.dtype:
        raise ValueError(f"input and weight have dtypes {x.dtype} and {weight.dtype}, wanted one float dtype")
    if x.ndim < 3 or x.ndim != weight.ndim:
        raise ValueError(f"input and weight have shapes {x.shape} and {weight.shape}, wanted equal ranks of at least 3")
    if group < 1 or x.shape[1] != channels or channels % group or features % group:
        raise ValueError(f"input {x.shape} and weight {weight.shape} do not fit with group {group}")
    if bias is not None and bias.shape != (features,):
        raise ValueError(f"bias has shape {bias.shape}, wanted ({features},)")
