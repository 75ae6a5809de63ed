"""Layers in the words of the vendor's compiler, so that its warnings can be found for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from npusim.program import IntegerLayer, Program, Weighted, geometry_of
from npusim.rules.conditions import Properties
from npusim.rules.properties import codes_of

__all__ = ["layer_line", "reason_line"]

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
    """The compiler's sentence on channels that are no multiple of 4; None where they are.

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
