"""Reads the attributes that describe how a window moves over the spatial axes of an input."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call
from npusim.kernels.geometry import resolve_pads

__all__ = ["Window", "spatial_sizes", "window_of"]


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a window, one number for each spatial axis; `pads` holds begins, then ends."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    ceil_mode: bool


def spatial_sizes(x: Array) -> tuple[int, ...]:
    """Sizes of the spatial axes of an input (N, C, *spatial).

    Raises
    ------
    OperatorError
        If there is no spatial axis.
    """
    if x.ndim < 3:
        raise OperatorError(f"its input has shape {x.shape}, wanted (N, C, ...) with at least one spatial axis")
    return tuple(x.shape[2:])


def window_of(call: Call, x: Array, kernel_shape: tuple[int, ...]) -> Window:
    """Window geometry from the attributes of a convolution or pool, `auto_pad` made explicit.

    Raises
    ------
    ValueError
        If an attribute does not fit the input.
    """
    spatial = spatial_sizes(x)
    strides = call.integers("strides") or (1,) * len(spatial)
    dilations = call.integers("dilations") or (1,) * len(spatial)
    pads = resolve_pads(
        spatial,
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=call.integers("pads"),
        auto_pad=call.text("auto_pad", "NOTSET"),
    )
    return Window(kernel_shape, strides, dilations, pads, bool(call.integer("ceil_mode", 0)))
