"""How the fast engine computes a convolution: which products, over which views, for which geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.samples_last import (
    Gathering,
    Product,
    copied_views,
    dense_views,
    gathered_views,
    multiply_views,
    row_weights,
    tap_views,
)
from npusim.kernels.samples_last_depthwise import BLOCK, add_taps, banded_weights, depthwise_taps, depthwise_views
from npusim.kernels.samples_last_taps import transposed_views
from npusim.layer import IntegerLayer, Window

__all__ = ["bind_convolution", "bind_stages", "transposed_products"]

FloatArray: TypeAlias = npt.NDArray[Any]
Stage: TypeAlias = tuple[Sequence[Product], Sequence[Gathering]]

FEW_COLUMNS: Final = 12
"""Columns of one kernel row (inner taps times channels) up to which windows are copied rather than multiplied row by row."""

DENSE_WORK: Final = 300_000
"""Multiplications up to which a depthwise layer of a single sample is one dense product, most of whose weights are zero."""


def bind_convolution(
    layer: IntegerLayer, weights: FloatArray, window: Window, x: FloatArray, out: FloatArray
) -> Callable[[], None]:
    """A call without arguments that computes a convolution, in the form that is fastest for its geometry.

    Parameters
    ----------
    layer
        The layer; its groups and channels count.
    weights
        In ONNX layout, in the element type of `x` and `out`.
    window
        Kernel, strides and dilations; padding is in `x` already.
    x
        Padded input ``[*spatial, channels, samples]``.
    out
        Accumulators ``[*spatial, channels, samples]``, written.
    """
    x, out, weights, strides, dilations = _without_unit_axes(x, out, weights, window)
    scratch = np.empty(out.shape, out.dtype)
    channels = x.shape[-2]
    # not so with dilation, nor where another reader's padding lies between the elements of the inner axis
    rows_are_dense = weights.shape[-1] == 1 or (dilations[-1] == 1 and x.strides[-3] == channels * x.strides[-2])
    if layer.group == channels and channels > 1:
        if out.shape[-1] > 1:
            return bind_stages([(_depthwise_products(x, weights, out, scratch, strides, dilations), [])])
        if rows_are_dense and math.prod(out.shape) * weights[0].size * channels < DENSE_WORK:
            dense = row_weights(_dense(weights, channels))
            return bind_stages([gathered_views(x, dense, out, strides=strides, dilations=dilations)])
        return _bind_depthwise_taps(x, weights, out, scratch, strides, dilations)
    if layer.group == 1 and rows_are_dense:
        if out.shape[-1] == 1:
            return bind_stages([gathered_views(x, row_weights(weights), out, strides=strides, dilations=dilations)])
        if weights.shape[1] * weights.shape[-1] <= FEW_COLUMNS and weights.ndim > 3 and weights.shape[2] > 1:
            return bind_stages(copied_views(x, row_weights(weights), out, strides=strides, dilations=dilations))
        return bind_stages([(dense_views(x, row_weights(weights), out, scratch, strides=strides, dilations=dilations), [])])
    taps = np.moveaxis(weights, [0, 1], [-2, -1])
    inputs, outputs = weights.shape[1], weights.shape[0] // layer.group
    products = []
    for group in range(layer.group):
        rows, columns = slice(group * outputs, (group + 1) * outputs), slice(group * inputs, (group + 1) * inputs)
        own = np.ascontiguousarray(taps[..., rows, :])
        products += tap_views(
            x[..., columns, :], own, out[..., rows, :], scratch[..., rows, :], strides=strides, dilations=dilations
        )
    return bind_stages([(products, [])])


def bind_stages(stages: Sequence[Stage]) -> Callable[[], None]:
    """A call without arguments that runs products, one stage after the other."""

    def run() -> None:
        for products, gatherings in stages:
            multiply_views(products, gatherings)

    return run


def _bind_depthwise_taps(
    x: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Callable[[], None]:
    channels, outer, length = x.shape[-2], out.shape[: len(strides) - 1], out.shape[len(strides) - 1]
    multiplier = weights.shape[0] // channels
    parts = []
    for number in range(multiplier):
        own = slice(number, None, multiplier)
        taps = depthwise_taps(x[..., 0], weights[own, 0], length, outer=outer, strides=strides, dilations=dilations)
        parts.append((taps, out[..., own, 0], scratch[..., own, 0]))

    def run() -> None:
        for taps, result, spare in parts:
            add_taps(taps, result, spare)

    return run


def _dense(weights: FloatArray, channels: int) -> FloatArray:
    """Depthwise weights as those of a convolution with all channels, zero but for the own one: one product for one sample."""
    dense = np.zeros((weights.shape[0], channels, *weights.shape[2:]), weights.dtype)
    outputs = np.arange(weights.shape[0])
    dense[outputs, outputs * channels // weights.shape[0]] = weights[:, 0]
    return dense


def _depthwise_products(
    x: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[Product]:
    channels, length, inner = x.shape[-2], out.shape[len(strides) - 1], len(strides) - 1
    multiplier = weights.shape[0] // channels
    products: list[Product] = []
    for number in range(multiplier):
        own, result, spare = (
            weights[number::multiplier, 0],
            out[..., number::multiplier, :],
            scratch[..., number::multiplier, :],
        )
        for start, stop, block in _stretches(length):
            bands = banded_weights(own, stride=strides[-1], dilation=dilations[-1], block=block)
            stretch = (*(slice(None),) * inner, slice(start, stop))
            products += depthwise_views(
                x, bands, result[stretch], spare[stretch], strides=strides, dilations=dilations, start=start
            )
    return products


def _stretches(length: int) -> list[tuple[int, int, int]]:
    """Cut a row into whole blocks and a rest: (start, stop, block)."""
    whole = length // BLOCK * BLOCK
    stretches = [(0, whole, BLOCK)] if whole else []
    return [*stretches, (whole, length, length - whole)] if whole < length else stretches


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


def transposed_products(
    layer: IntegerLayer, weights: FloatArray, window: Window, x: FloatArray, out: FloatArray
) -> list[Product]:
    """The products of a transposed convolution, to be run on an `out` of zeros; `x` is not padded."""
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
