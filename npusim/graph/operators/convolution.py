"""Conv and ConvTranspose on floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.graph.operators.window import spatial_sizes, window_of
from npusim.kernels.convolution import convolve, convolve_transpose
from npusim.kernels.transposed_geometry import resolve_transposed

__all__ = ["OPERATORS"]


def _convolution(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    window = window_of(call, x, _kernel_shape(call, weight))
    return convolve(
        x,
        weight,
        bias,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        group=call.integer("group", 1),
    )


def _transposed_convolution(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    spatial = spatial_sizes(x)
    strides = call.integers("strides") or (1,) * len(spatial)
    dilations = call.integers("dilations") or (1,) * len(spatial)
    pads, output_shape = resolve_transposed(
        spatial,
        kernel_shape=_kernel_shape(call, weight),
        strides=strides,
        dilations=dilations,
        pads=call.integers("pads"),
        auto_pad=call.text("auto_pad", "NOTSET"),
        output_padding=call.integers("output_padding"),
        output_shape=call.integers("output_shape"),
    )
    return convolve_transpose(
        x,
        weight,
        bias,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_shape=output_shape,
        group=call.integer("group", 1),
    )


def _kernel_shape(call: Call, weight: Array) -> tuple[int, ...]:
    kernel_shape = tuple(weight.shape[2:])
    named = call.integers("kernel_shape") or kernel_shape
    if named != kernel_shape:
        raise OperatorError(f"kernel_shape is {named}, but the weight has shape {weight.shape}")
    return kernel_shape


OPERATORS: Final[Mapping[str, Operator]] = refusing_table({"Conv": _convolution, "ConvTranspose": _transposed_convolution})
