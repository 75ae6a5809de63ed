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
    matrix = weight.reshape(group, weight.shape[0] // group, -1).swapaxes(1, 2)
    y = np.empty((x.shape[0], features, *output_shape), dtype=x.dtype)
    item_bytes = 8 * max(matrix.shape[0] * matrix.shape[1] * int(np.prod(x.shape[2:])), int(np.prod(y.shape[1:])))
    with np.errstate(all="ignore"):
        for part in chunks(x.shape[0], item_bytes=item_bytes):
            products = _channel_products(x[part], matrix)
            acc = _scatter(
                products.reshape(-1, features, *weight.shape[2:], *x.shape[2:]),
                output_shape,
                begins=pads[: len(output_shape)],
                strides=strides,
                dilations=dilations,
            )
            y[part] = _add_bias(acc, bias)
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


def _channel_products(x: Array, matrix: Array) -> Float64Array:
    """Contract the channels of each position: (N, C, *spatial) with (group, rows, C / group) to (N, group, rows, positions)."""
    group, _, inner = matrix.shape
    positions = x.reshape(x.shape[0], group, inner, -1)
    if inner == 1:
        products: Float64Array = matrix.astype(np.float64) * positions.astype(np.float64)
        return products
    bits = digit_bits(inner)
    return contract(split(matrix, axes=(2,), bits=bits), split(positions, axes=(1, 2, 3), bits=bits))


def _scatter(
    products: Float64Array,
    output_shape: Sequence[int],
    *,
    begins: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Float64Array:
    """Add products (N, O, *kernel_shape, *spatial) up where they land in the output."""
    axes = len(output_shape)
    kernel_shape, spatial = products.shape[2 : 2 + axes], products.shape[2 + axes :]
    reach = padded_sizes(
        output_shape, spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=(*begins, *(0,) * axes)
    )
    full = np.zeros((*products.shape[:2], *reach))
    slices = tap_slices(spatial, kernel_shape=kernel_shape, strides=strides, dilations=dilations)
    for tap, region in zip(np.ndindex(*kernel_shape), slices, strict=True):
        full[(slice(None), slice(None), *region)] += products[(slice(None), slice(None), *tap)]
    window = tuple(slice(begin, begin + size) for begin, size in zip(begins, output_shape, strict=True))
    return full[(slice(None), slice(None), *window)]


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
