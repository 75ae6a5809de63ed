"""What rules ask of a layer: shapes, geometry and widths by name, and the layer in the words of the vendor's compiler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

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
from npusim.rules.conditions import Properties, Value

__all__ = ["codes_of", "layer_line", "layer_properties", "reason_line"]


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


_NARROW: Final[Mapping[tuple[int, int], int]] = MappingProxyType({(-8, 7): 4, (0, 15): 4, (-2, 1): 2, (0, 3): 2})


def layer_line(layer: IntegerLayer, program: Program) -> str:
    """One line in the shape of the compiler's warnings: data as [H, W, C], kernel as [kH, kW].

    Of convolutions and pools the shape of the line is public; a fully connected layer is written as a 1x1 kernel on [1, 1, C].

    Examples
    --------
    >>> layer_line(layer, program)  # doctest: +SKIP
    'GCONV layer config: 8-bit input [93, 1, 14], ... 8-bit kernel [4, 1], strides [2, 1], padding [(0, 0), (0, 0)]'
    """
    window, _ = geometry_of(layer)
    axes = 0 if window is None else len(window.kernel_shape)
    kernel = (1, 1) if window is None else (*window.kernel_shape, *(1,) * (2 - axes))
    strides = (1, 1) if window is None else (*window.strides, *(1,) * (2 - axes))
    pads = [(0, 0), (0, 0)]
    if window is not None:
        pads[:axes] = [(window.pads[axis], window.pads[axis + axes]) for axis in range(axes)]
    # pools have no weights; the compiler's word for their window is a kernel, of the width of the data
    bits = layer.weight_bits if isinstance(layer, Weighted) else _bits(program, layer.inputs[0])
    return (
        f"{layer.kind} layer config: {_bits(program, layer.inputs[0])}-bit input {_channels_last(layer.input_shape)}, "
        f"{_bits(program, layer.output)}-bit output {_channels_last(layer.output_shape)}, "
        f"{bits}-bit kernel {list(kernel)}, strides {list(strides)}, padding {pads}"
    )


def reason_line(kind: str, properties: Properties) -> str | None:
    """The compiler's sentence on channels that are not a multiple of 4; None where they are.

    Examples
    --------
    >>> reason_line("GCONV", {"input_channels": 14, "output_channels": 8})
    'GCONV does not support 14 input channels. Please change to multiples of 4.'
    """
    wrong = [
        f"{count} {side} channels"
        for side in ("input", "output")
        if isinstance(count := properties.get(f"{side}_channels"), int) and count % 4 and (kind, side) != ("FCONV", "input")
    ]
    if kind == "FC" or not wrong:
        return None
    return f"{kind} does not support {' and '.join(wrong)}. Please change to multiples of 4."


def _bits(program: Program, name: str) -> int:
    """8 for all codes that fit, except where their range is exactly that of a narrower integer; 32 for floats."""
    codes = codes_of(program.tensors[name])
    if codes is None:
        return 32
    return _NARROW.get((codes.lower, codes.upper), max(8, codes.bits))


def _channels_last(shape: tuple[int, ...]) -> list[int]:
    """[H, W, C] of a tensor [N, C, H, W]; missing axes are 1."""
    channels, spatial = shape[1] if len(shape) > 1 else 1, shape[2:]
    if len(shape) == 3:
        spatial = (shape[2], 1)
    return [*(spatial if spatial else (1, 1)), channels]
