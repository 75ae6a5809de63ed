"""Resize."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.arguments import integers_of, place_of_axis
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.resize import AxisPlan, nearest_plan, resample, resized_shape, weighted_plan

__all__ = ["OPERATORS"]


def _resize(call: Call, x: Array, *inputs: Array | None) -> Array:
    if call.opset < 11:
        inputs = (None, *inputs)
    # An empty tensor is how older versions leave an input out.
    roi, scales, sizes = (given if given is not None and given.size else None for given in (*inputs, None, None, None)[:3])
    axes = tuple(place_of_axis(axis, x.ndim) for axis in call.integers("axes") or range(x.ndim))
    shape, factors = resized_shape(
        x.shape,
        axes=axes,
        scales=None if scales is None else [float(scale) for scale in scales.astype(np.float64)],
        sizes=integers_of(sizes),
        policy=call.text("keep_aspect_ratio_policy", "stretch"),
    )
    regions = _regions(call, roi, axes)
    plans = [
        _plan(call, axis, size=x.shape[axis], new_size=shape[axis], scale=factors[axis], region=regions[axis])
        for axis in axes
        if axis in regions and (shape[axis] != x.shape[axis] or factors[axis] != 1 or regions[axis] != (0.0, 1.0))
    ]
    return resample(x, plans, outside_value=call.real("extrapolation_value", 0.0))


def _regions(call: Call, roi: Array | None, axes: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Start and end of the cropped region on each axis, in units of the axis."""
    if call.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        return dict.fromkeys(axes, (0.0, 1.0))
    if roi is None or roi.shape != (2 * len(axes),):
        raise OperatorError(f"tf_crop_and_resize needs a roi of {2 * len(axes)} numbers")
    bounds = [float(bound) for bound in roi.astype(np.float64)]
    return dict(zip(axes, zip(bounds[: len(axes)], bounds[len(axes) :], strict=True), strict=True))


def _plan(call: Call, axis: int, *, size: int, new_size: int, scale: np.float32, region: tuple[float, float]) -> AxisPlan:
    first_version = call.opset < 11
    mode = call.text("mode", "nearest")
    antialias = bool(call.integer("antialias", 0))
    coordinate_mode = "asymmetric" if first_version else call.text("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        if antialias:
            raise OperatorError("antialias is given with mode 'nearest', which has no filter")
        return nearest_plan(
            axis,
            size=size,
            new_size=new_size,
            scale=scale,
            coordinate_mode=coordinate_mode,
            nearest_mode="truncate_or_ceil" if first_version else call.text("nearest_mode", "round_prefer_floor"),
            region=region,
        )
    if mode not in ("linear", "cubic"):
        raise OperatorError(f"mode is '{mode}', wanted nearest, linear or cubic")
    return weighted_plan(
        axis,
        size=size,
        new_size=new_size,
        scale=scale,
        coordinate_mode=coordinate_mode,
        region=region,
        cubic_coefficient=call.real("cubic_coeff_a", -0.75) if mode == "cubic" else None,
        antialias=antialias,
        exclude_outside=bool(call.integer("exclude_outside", 0)),
    )


def _upsample(call: Call, x: Array, scales: Array | None = None) -> Array:
    """Upsample, which opset 10 replaced by Resize: that of opset 10, its scales an attribute before opset 9."""
    given = np.asarray(call.attributes.get("scales", ()) if scales is None else scales, np.float32)
    if given.size != x.ndim or (given < 1).any():
        raise OperatorError(f"its scales are {given.tolist()}, wanted {x.ndim} numbers of at least 1")
    return _resize(replace(call, opset=10), x, given)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table({"Resize": _resize, "Upsample": _upsample})
