"""What rules ask of a layer: its shapes, its geometry and its widths, as plain values by name."""

from __future__ import annotations

import math

import numpy as np

from npusim.bounds.channels import digits_of
from npusim.bounds.widths import signed_bits, widths_of
from npusim.program import (
    Accumulating,
    AveragePool,
    FullyConnected,
    IntegerLayer,
    Program,
    Tensor,
    Weighted,
    Window,
    geometry_of,
)
from npusim.program.inspection import Codes
from npusim.rules.conditions import Value

__all__ = ["codes_of", "layer_properties"]


def layer_properties(layer: IntegerLayer, program: Program) -> dict[str, Value]:
    """The properties of a layer; those that its kind does not have are missing.

    Heights are sizes of the first spatial axis, widths of the second; pads are top, bottom, left, right. `scale`, `shift`
    and `clip` are pairs of the smallest and the largest value. Bits are those that hold every value.

    Examples
    --------
    >>> layer_properties(layer, program)["kernel"]  # doctest: +SKIP
    (5, 1)
    """
    window, group = geometry_of(layer)
    found: dict[str, Value] = {
        "kind": str(layer.kind),
        "batch": layer.input_shape[0],
        "input_axes": len(layer.input_shape),
        "input_channels": layer.input_shape[1],
        "output_channels": _output_channels(layer),
        "group": group,
    }
    if isinstance(layer, FullyConnected):
        found["input_features"] = layer.input_shape[-1]
    if window is not None:
        found.update(_geometry(layer, window))
    found.update(_widths(layer, program))
    return found


def codes_of(tensor: Tensor) -> Codes | None:
    """The integers that a tensor can hold; None for floats."""
    if not tensor.is_integer or not np.isfinite([tensor.lower, tensor.upper]).all():
        return None
    return Codes(int(tensor.lower), int(tensor.upper))


def _geometry(layer: IntegerLayer, window: Window) -> dict[str, Value]:
    axes = len(window.kernel_shape)
    kernel = window.kernel_shape
    found: dict[str, Value] = {
        "spatial_axes": axes,
        "kernel": kernel,
        "stride": window.strides,
        "dilation": window.dilations,
        "pads": tuple(pad for axis in range(axes) for pad in (window.pads[axis], window.pads[axis + axes])),
        "kernel_area": math.prod(kernel),
        "ceil_mode": window.ceil_mode,
        "is_global": _is_global(layer, window),
    }
    if axes == 2:
        found |= {
            "kernel_height": kernel[0],
            "kernel_width": kernel[1],
            "kernel_smaller_side": min(kernel),
            "input_height": layer.input_shape[2],
            "input_width": layer.input_shape[3],
        }
    return found


def _is_global(layer: IntegerLayer, window: Window) -> bool:
    return isinstance(layer, AveragePool) and window.kernel_shape == layer.input_shape[2:] and not any(window.pads)


def _widths(layer: IntegerLayer, program: Program) -> dict[str, Value]:
    found: dict[str, Value] = {}
    read = [codes_of(program.tensors[name]) for name in layer.inputs]
    known = [codes.bits for codes in read if codes is not None]
    if known:
        found |= {"input_bits": max(known), "narrow_activations": max(known) <= 4}
    if isinstance(layer, Weighted):
        found |= {"weight_bits": layer.weight_bits, "weight_excess": _weight_excess(layer)}
    if isinstance(layer, Accumulating):
        found |= _requantization(layer)
    return found


def _weight_excess(layer: Weighted) -> int:
    """0: the weights fit their inferred bits; 1: not, but they would be valid 8-bit weights; 2: they fit nowhere."""
    if digits_of(layer) is not None:
        return 0
    scale = layer.requantization.parameters.get("scale")
    if scale is None or layer.weights.min() < -128 or layer.weights.max() > 127:
        return 2
    return 1 if bool((scale == 1).all()) else 2


def _output_channels(layer: IntegerLayer) -> int:
    if isinstance(layer, Accumulating):
        return layer.accumulator_shape[layer.channel_axis]
    return layer.output_shape[1]


def _requantization(layer: Accumulating) -> dict[str, Value]:
    widths, part, clip = widths_of(layer), layer.requantization.parameters, layer.output_clip
    found: dict[str, Value] = {
        **({"bias_bits": signed_bits(part["bias"])} if "bias" in part else {}),
        **{name: _ends(part[name]) for name in ("scale", "shift") if name in part},
        "clip": (clip.lower, clip.upper),
        "clip_bits": Codes(clip.lower, clip.upper).bits,
    }
    if widths is not None:
        found["narrow_weights"] = widths.scale > 1
    if layer.residual is not None:
        inner = layer.requantization.clip
        found["inner_clip"] = (inner.lower, inner.upper)
    return found


def _ends(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[int, int]:
    return int(values.min()), int(values.max())
