"""Resampling to another size: nearest, linear and cubic, along each axis on its own.

Coordinates are computed in float32, operation by operation, because the choice of the nearest element at a tie hangs on their
last bit and runtimes compute them so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .accumulation import Float64Array, chunks

__all__ = ["COORDINATE_MODES", "NEAREST_MODES", "AxisPlan", "nearest_plan", "resample", "resized_shape", "weighted_plan"]

Array: TypeAlias = npt.NDArray[np.generic]
Float32Array: TypeAlias = npt.NDArray[np.float32]

COORDINATE_MODES: Final = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
)
NEAREST_MODES: Final = ("ceil", "floor", "round_prefer_ceil", "round_prefer_floor", "truncate_or_ceil")
"""The last one is what the first version of the operator does: truncate when enlarging, round up when shrinking."""

TIE_TOLERANCE: Final = np.float32(1e-6)
"""A coordinate this close to the middle between two elements counts as a tie: float32 seldom hits the middle exactly."""


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Which input elements make up each output element along one axis.

    Attributes
    ----------
    axis
        The resized axis.
    taps
        (outputs, taps) input indices.
    weights
        (outputs, taps) float64; None when there is one tap of weight 1.
    outside
        (outputs,) True where the coordinate lies outside of the input and the output is to be a fixed value.
    """

    axis: int
    taps: npt.NDArray[np.intp]
    weights: Float64Array | None
    outside: npt.NDArray[np.bool_]


def resized_shape(
    shape: Sequence[int],
    *,
    axes: Sequence[int],
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    policy: str = "stretch",
) -> tuple[tuple[int, ...], tuple[np.float32, ...]]:
    """Output shape of a resize, and the scale of every axis in float32.

    Parameters
    ----------
    shape
        Input shape.
    axes
        The resized axes, each once, not negative.
    scales, sizes
        One of them, with one number for each of `axes`; a size is ``floor(float32(size * scale))``.
    policy
        With `sizes`: ``stretch`` takes them as they are; ``not_larger`` and ``not_smaller`` scale all axes by the smallest or
        largest of the wanted ratios and round half up.

    Returns
    -------
    shape, scales
        Both with one number for every axis of the input; axes that are not resized have scale 1.

    Raises
    ------
    ValueError
        If the arguments do not fit, or a size or scale is not positive.

    Examples
    --------
    >>> resized_shape((1, 1, 5), axes=(2,), scales=(1.5,))
    ((1, 1, 7), (np.float32(1.0), np.float32(1.0), np.float32(1.5)))
    """
    if (scales is None) == (sizes is None):
        raise ValueError("either scales or sizes must be given, not both")
    given = scales if scales is not None else sizes or ()
    if len(given) != len(axes) or not all(value > 0 for value in given):
        raise ValueError(f"scales or sizes are {list(given)}, wanted {len(axes)} positive numbers")
    new_shape, new_scales = list(shape), [np.float32(1)] * len(shape)
    if scales is not None:
        for axis, scale in zip(axes, scales, strict=True):
            new_scales[axis] = np.float32(scale)
            new_shape[axis] = int(np.float32(scale) * np.float32(shape[axis]))
        return tuple(new_shape), tuple(new_scales)
    ratios = [np.float32(size) / np.float32(shape[axis]) for axis, size in zip(axes, given, strict=True)]
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy is '{policy}', wanted stretch, not_larger or not_smaller")
    for axis, ratio, size in zip(axes, ratios, given, strict=True):
        common = {"stretch": ratio, "not_larger": min(ratios), "not_smaller": max(ratios)}[policy]
        new_scales[axis] = common
        rounded = int(np.floor(np.float64(common * np.float32(shape[axis])) + 0.5))
        new_shape[axis] = int(size) if policy == "stretch" else rounded
    return tuple(new_shape), tuple(new_scales)


def nearest_plan(
    axis: int,
    *,
    size: int,
    new_size: int,
    scale: np.float32,
    coordinate_mode: str,
    nearest_mode: str,
    region: tuple[float, float] = (0.0, 1.0),
) -> AxisPlan:
    """Plan that takes the nearest input element; the modes say which one at a tie, or always the lower or upper neighbour.

    Raises
    ------
    ValueError
        If a mode is unknown.

    Examples
    --------
    >>> plan = nearest_plan(
    ...     0, size=2, new_size=4, scale=np.float32(2), coordinate_mode="asymmetric", nearest_mode="round_prefer_floor"
    ... )
    >>> plan.taps[:, 0]
    array([0, 0, 1, 1])
    """
    source = _coordinates(size=size, new_size=new_size, scale=scale, mode=coordinate_mode, region=region)
    base = np.floor(source)
    fraction = source - base
    if nearest_mode in ("round_prefer_ceil", "round_prefer_floor"):
        is_tie = np.abs(fraction - np.float32(0.5)) <= TIE_TOLERANCE
        taps = base + np.where(is_tie, nearest_mode == "round_prefer_ceil", fraction > 0.5)
    elif nearest_mode == "ceil" or (nearest_mode == "truncate_or_ceil" and scale < 1):
        taps = np.ceil(source)
    elif nearest_mode in ("floor", "truncate_or_ceil"):
        taps = base
    else:
        raise ValueError(f"nearest_mode is '{nearest_mode}', wanted one of {', '.join(NEAREST_MODES[:-1])}")
    inside = np.clip(taps, 0, size - 1).astype(np.intp)
    return AxisPlan(axis, inside[:, np.newaxis], None, _outside(source, size=size, mode=coordinate_mode))


def weighted_plan(
    axis: int,
    *,
    size: int,
    new_size: int,
    scale: np.float32,
    coordinate_mode: str,
    region: tuple[float, float] = (0.0, 1.0),
    cubic_coefficient: float | None = None,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> AxisPlan:
    """Plan that interpolates linearly, or cubically where `cubic_coefficient` is given.

    Input elements beyond the border repeat the border, or do not count if `exclude_outside`. When shrinking, `antialias` widens
    the interpolation kernel by ``1 / scale``.

    Raises
    ------
    ValueError
        If the coordinate mode is unknown.

    Examples
    --------
    >>> plan = weighted_plan(0, size=2, new_size=4, scale=np.float32(2), coordinate_mode="asymmetric")
    >>> plan.weights
    array([[1. , 0. ],
           [0.5, 0.5],
           [1. , 0. ],
           [0.5, 0.5]])
    """
    source = _coordinates(size=size, new_size=new_size, scale=scale, mode=coordinate_mode, region=region)
    squeeze = min(float(scale), 1.0) if antialias else 1.0
    radius = 1 if cubic_coefficient is None else 2
    first = int(np.floor(-radius / squeeze)) + 1
    base = np.floor(source.astype(np.float64))[:, np.newaxis]
    taps = base + np.arange(first, 2 - first)
    distances = np.abs(taps - source.astype(np.float64)[:, np.newaxis]) * squeeze
    weights = np.maximum(0.0, 1.0 - distances) if cubic_coefficient is None else _cubic(distances, cubic_coefficient)
    if exclude_outside:
        weights = np.where((taps < 0) | (taps >= size), 0.0, weights)
    if antialias or exclude_outside:
        total = weights.sum(axis=1, keepdims=True)
        # Nothing counts for a coordinate far outside, whose output is a fixed value anyway.
        weights = weights / np.where(total == 0, 1.0, total)
    inside = np.clip(taps, 0, size - 1).astype(np.intp)
    return AxisPlan(axis, inside, weights, _outside(source, size=size, mode=coordinate_mode))


def resample(x: Array, plans: Sequence[AxisPlan], /, *, outside_value: float = 0.0) -> Array:
    """Apply plans, one for each resized axis.

    Weighted sums are taken in float64, axis by axis, and rounded once to the dtype of `x`.

    Raises
    ------
    ValueError
        If an integer array is to be interpolated.

    Examples
    --------
    >>> plan = weighted_plan(0, size=2, new_size=4, scale=np.float32(2), coordinate_mode="asymmetric")
    >>> resample(np.array([1.0, 3.0]), [plan])
    array([1., 2., 3., 3.])
    """
    if any(plan.weights is not None for plan in plans):
        if not np.issubdtype(x.dtype, np.floating):
            raise ValueError(f"interpolating dtype {x.dtype} is not implemented, wanted a float dtype")
        shape = list(x.shape)
        for plan in plans:
            shape[plan.axis] = len(plan.taps)
        y: Array = np.empty(shape, dtype=x.dtype)
        whole = x.ndim == 0 or any(plan.axis == 0 for plan in plans)
        item_bytes = 8 * int(np.prod([max(pair) for pair in zip(x.shape[1:], shape[1:], strict=True)]))
        with np.errstate(all="ignore"):
            for part in [slice(None)] if whole else chunks(x.shape[0], item_bytes=item_bytes):
                values = x[part].astype(np.float64)
                for plan in plans:
                    values = _interpolate(values, plan)
                y[part] = values
    else:
        y = x
        for plan in plans:
            y = y.take(plan.taps[:, 0], axis=plan.axis)
    for plan in plans:
        if plan.outside.any():
            mask = plan.outside.reshape(-1, *(1,) * (y.ndim - plan.axis - 1))
            y = np.where(mask, np.asarray(outside_value).astype(y.dtype), y)
    return y


def _interpolate(values: Float64Array, plan: AxisPlan) -> Float64Array:
    weights = np.ones(plan.taps.shape) if plan.weights is None else plan.weights
    total: Float64Array = np.zeros(())
    for tap in range(plan.taps.shape[1]):
        weight = weights[:, tap].reshape(-1, *(1,) * (values.ndim - plan.axis - 1))
        total = total + values.take(plan.taps[:, tap], axis=plan.axis) * weight
    return total


def _cubic(distance: Float64Array, a: float) -> Float64Array:
    """Cubic convolution kernel at non-negative distances; `a` is its slope at distance 1."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    kernel: Float64Array = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return kernel


def _coordinates(*, size: int, new_size: int, scale: np.float32, mode: str, region: tuple[float, float]) -> Float32Array:
    """Input coordinate of every output element along an axis."""
    one, half = np.float32(1), np.float32(0.5)
    index = np.arange(new_size, dtype=np.float32)
    last = np.float32(size - 1)
    if mode == "asymmetric":
        return index / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new_size > 1):
        return (index + half) / scale - half
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(new_size) / (scale * np.float32(size))
        offset = np.float32(size) / np.float32(2) * (one - adjustment)
        return (np.float64(offset) + (index.astype(np.float64) + 0.5) / np.float64(scale) - 0.5).astype(np.float32)
    if mode == "pytorch_half_pixel" or (mode == "align_corners" and new_size == 1):
        return np.zeros(new_size, dtype=np.float32)
    if mode == "align_corners":
        return index * last / np.float32(new_size - 1)
    if mode != "tf_crop_and_resize":
        raise ValueError(f"coordinate_transformation_mode is '{mode}', wanted one of {', '.join(COORDINATE_MODES)}")
    start, end = np.float32(region[0]), np.float32(region[1])
    if new_size == 1:
        return np.full(1, half * (start + end) * last, dtype=np.float32)
    return start * last + index * (end - start) * last / np.float32(new_size - 1)


def _outside(source: Float32Array, *, size: int, mode: str) -> npt.NDArray[np.bool_]:
    if mode != "tf_crop_and_resize":
        return np.zeros(source.shape, dtype=np.bool_)
    return (source < 0) | (source > size - 1)
