"""How the fast engine computes a convolution: which products, over which views, for which geometry."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.engine.fast.workspace import Buffer
from npusim.kernels.samples_last import (
    Call,
    PerAxis,
    Product,
    copied_views,
    dense_views,
    gathered_views,
    is_one_block,
    pointwise_views,
    product_calls,
    row_weights,
    tap_views,
)
from npusim.kernels.samples_last_depthwise import band_views, best_rows, is_evenly_spaced, single_tap_calls, tap_calls
from npusim.kernels.samples_last_taps import transposed_views
from npusim.program import Convolution, TransposedConvolution, Window

__all__ = ["Form", "convolution_calls", "form_of", "transposed_products"]

FloatArray: TypeAlias = npt.NDArray[Any]

FEW_COLUMNS: Final = 12
"""Columns of one kernel row (inner taps times channels) up to which windows are copied rather than multiplied row by row."""

DENSE_WORK: Final = 60_000
"""Multiplications up to which a depthwise layer of a single sample is one dense product, most of whose weights are zero."""

TAP_COST: Final = 12
"""What one tap costs for one output, in multiplications of a product: two passes over memory."""


class Form(StrEnum):
    """How a convolution is computed.

    POINTWISE: one element of the input for each output. BANDS: depthwise, rows of outputs at a time. TAPS: depthwise, tap by
    tap. DENSE: windows over all channels. GROUPS: tap by tap and group by group.
    """

    POINTWISE = "pointwise"
    BANDS = "bands"
    TAPS = "taps"
    DENSE = "dense"
    GROUPS = "groups"


def form_of(layer: Convolution, *, single: bool) -> Form:
    """The form that is fastest for a convolution's geometry.

    Parameters
    ----------
    layer
        A convolution.
    single
        For one sample at a time.
    """
    window, weights = layer.window, layer.weights
    channels = layer.input_shape[1]
    if layer.group == channels and channels > 1:
        if single:
            work = math.prod(layer.output_shape) * math.prod(weights.shape[2:]) * channels
            return Form.DENSE if window.dilations[-1] == 1 and work < DENSE_WORK else Form.TAPS
        rank = len(window.kernel_shape)
        _, cost = best_rows(
            layer.input_shape[2:],
            window.kernel_shape,
            layer.output_shape[2:],
            strides=window.strides,
            dilations=window.dilations,
            pads=window.pads[:rank],
        )
        taps = math.prod(layer.output_shape[2:]) * math.prod(window.kernel_shape)
        return Form.BANDS if cost < TAP_COST * taps else Form.TAPS
    if layer.group > 1:
        return Form.GROUPS
    still = all(stride == 1 for stride in window.strides) and not any(window.pads)
    return Form.POINTWISE if window.is_pointwise and still else Form.DENSE


def convolution_calls(
    layer: Convolution, weights: FloatArray, source: Buffer, out: FloatArray, bias: FloatArray | None
) -> tuple[list[Call], FloatArray | None]:
    """The calls that compute a convolution.

    Parameters
    ----------
    layer
        The layer.
    weights
        In ONNX layout, in the element type of `source` and `out`.
    source
        Its input, with at least the padding that :func:`form_of` calls for.
    out
        Accumulators ``[*spatial, channels, samples]``, written.
    bias
        ``[channels]``, to be added; None for none.

    Returns
    -------
    (calls, bias)
        The calls, and the bias if they do not add it.
    """
    window = layer.window
    single = out.shape[-1] == 1
    form = form_of(layer, single=single)
    if form is Form.BANDS:
        return _band_calls(layer, weights, source, out), bias
    rank = len(window.kernel_shape)
    padded = source.padded(window.pads[:rank], window.pads[rank:])
    x, out, weights, strides, dilations = _without_unit_axes(padded, out, weights, window)
    geometry = {"strides": strides, "dilations": dilations}
    channels = x.shape[-2]
    # not so with dilation, nor where another reader's padding lies between the elements of the inner axis
    rows_are_dense = weights.shape[-1] == 1 or (dilations[-1] == 1 and x.strides[-3] == channels * x.strides[-2])
    if form is Form.TAPS or (form is Form.DENSE and layer.group > 1 and not rows_are_dense):
        return _each_multiple(channels, weights, out, lambda own, target: _tap_calls(x, own, target, **geometry)), bias
    if form is Form.GROUPS or not rows_are_dense:
        return _group_calls(layer.group, x, weights, out, **geometry), bias
    rows = row_weights(_dense(weights, channels) if layer.group > 1 else weights)
    if single:
        products, gatherings = gathered_views(x, rows, out, **geometry, bias=bias)
        return product_calls(products, gatherings), None
    if form is Form.POINTWISE and is_one_block(x) and is_one_block(out):
        return product_calls(pointwise_views(x, rows.reshape(rows.shape[-2:]), out)), bias
    if weights.shape[1] * weights.shape[-1] <= FEW_COLUMNS and rows.ndim > 2 and rows.shape[0] > 1:
        stages = copied_views(x, rows, out, **geometry)
        return [call for products, gatherings in stages for call in product_calls(products, gatherings)], bias
    scratch = np.empty(out.shape if math.prod(rows.shape[:-2]) > 1 else 0, out.dtype)
    return product_calls(dense_views(x, rows, out, scratch, **geometry)), bias


def _each_multiple(
    channels: int, weights: FloatArray, out: FloatArray, calls: Callable[[FloatArray, FloatArray], list[Call]]
) -> list[Call]:
    """Depthwise with several outputs for each channel: the first of each, then the second of each."""
    times = weights.shape[0] // channels
    return [
        call
        for number in range(times)
        for call in calls(np.ascontiguousarray(weights[number::times, 0]), out[..., number::times, :])
    ]


def _tap_calls(x: FloatArray, weights: FloatArray, out: FloatArray, *, strides: PerAxis, dilations: PerAxis) -> list[Call]:
    if out.shape[-1] == 1:
        return single_tap_calls(x, weights, out, strides=strides, dilations=dilations)
    return tap_calls(x, weights, out, np.empty(out.shape, out.dtype), strides=strides, dilations=dilations)


def _band_calls(layer: Convolution, weights: FloatArray, source: Buffer, out: FloatArray) -> list[Call]:
    """Rows of outputs at a time; padding that lies in the buffer for other readers is read as data."""
    window = layer.window
    rank, channels = len(window.kernel_shape), layer.input_shape[1]
    pads = [pad - begin for pad, begin in zip(window.pads, source.layout.begins, strict=False)]
    geometry = {"strides": window.strides, "dilations": window.dilations, "pads": pads}
    rows, _ = best_rows(source.whole.shape[:rank], window.kernel_shape, out.shape[:rank], **geometry)
    # what a reader's padding cuts into rows is not one block of memory
    result = out if is_evenly_spaced(out) else np.empty(out.shape, out.dtype)

    def calls(own: FloatArray, target: FloatArray) -> list[Call]:
        return product_calls(band_views(source.whole, own, target, rows=rows, **geometry))

    found = _each_multiple(channels, weights, result, calls)
    return found if result is out else [*found, partial(np.copyto, out, result)]


def _group_calls(
    group: int, x: FloatArray, weights: FloatArray, out: FloatArray, *, strides: PerAxis, dilations: PerAxis
) -> list[Call]:
    """Tap by tap, each group of channels for itself."""
    taps, scratch = np.moveaxis(weights, [0, 1], [-2, -1]), np.empty(out.shape, out.dtype)
    inputs, outputs = weights.shape[1], weights.shape[0] // group
    products: list[Product] = []
    for number in range(group):
        rows, columns = slice(number * outputs, (number + 1) * outputs), slice(number * inputs, (number + 1) * inputs)
        own = np.ascontiguousarray(taps[..., rows, :])
        parts = x[..., columns, :], own, out[..., rows, :], scratch[..., rows, :]
        products += tap_views(*parts, strides=strides, dilations=dilations)
    return product_calls(products)


def _dense(weights: FloatArray, channels: int) -> FloatArray:
    """Depthwise weights as those of a convolution with all channels, zero but for the own one: one product for one sample."""
    dense = np.zeros((weights.shape[0], channels, *weights.shape[2:]), weights.dtype)
    outputs = np.arange(weights.shape[0])
    dense[outputs, outputs * channels // weights.shape[0]] = weights[:, 0]
    return dense


def _without_unit_axes(
    x: FloatArray, out: FloatArray, weights: FloatArray, window: Window
) -> tuple[FloatArray, FloatArray, FloatArray, tuple[int, ...], tuple[int, ...]]:
    """Drop spatial axes of size one, so that the axis beside the channels is one along which the kernel moves."""
    rank = len(window.kernel_shape)
    kept = [axis for axis in range(rank) if x.shape[axis] > 1 or window.kernel_shape[axis] > 1 or out.shape[axis] > 1]
    kept = kept or [rank - 1]
    dropped = [axis for axis in range(rank) if axis not in kept]
    index = tuple(0 if axis in dropped else slice(None) for axis in range(rank))
    return (
        x[index],
        out[index],
        weights.reshape(*weights.shape[:2], *(weights.shape[2 + axis] for axis in kept)),
        tuple(window.strides[axis] for axis in kept),
        tuple(window.dilations[axis] for axis in kept),
    )


def transposed_products(layer: TransposedConvolution, weights: FloatArray, x: FloatArray, out: FloatArray) -> list[Product]:
    """The products of a transposed convolution, to be run on an `out` of zeros; `x` is not padded."""
    window = layer.window
    rank = len(window.kernel_shape)
    taps = np.moveaxis(weights, [1, 0], [-2, -1])
    inputs, outputs = weights.shape[0] // layer.group, weights.shape[1]
    scratch = np.empty((*x.shape[:rank], outputs, x.shape[-1]), out.dtype)
    products: list[Product] = []
    for group in range(layer.group):
        rows, columns = slice(group * outputs, (group + 1) * outputs), slice(group * inputs, (group + 1) * inputs)
        products += transposed_views(
            x[..., columns, :],
            np.ascontiguousarray(taps[..., columns]),
            out[..., rows, :],
            scratch,
            strides=window.strides,
            dilations=window.dilations,
            pads=window.pads[:rank],
        )
    return products
