"""Geometry of torch's convolutions and pools, one-dimensional ones lifted to width 1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from npusim.errors import UnsupportedError
from npusim.torch.traced import Geometry

__all__ = ["convolution_geometry", "fitted_pool", "pool_geometry", "single"]


def single(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """A size for each axis, of one number or a sequence of them.

    Examples
    --------
    >>> single(3, 2), single((3,), 1)
    ((3, 3), (3,))
    """
    if isinstance(value, int):
        return (value,) * axes
    sizes = tuple(int(item) for item in value)
    return sizes * axes if len(sizes) == 1 else sizes


def _lifted(sizes: tuple[int, ...], filler: int) -> tuple[int, int]:
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (sizes[0], filler)


def convolution_geometry(module: nn.Module, transposed: bool) -> Geometry:
    """Read it from a convolution module."""
    axes = len(module.kernel_size)
    if module.padding == "same":
        pads = tuple((size - 1) * step // 2 for size, step in zip(module.kernel_size, module.dilation, strict=True))
    elif module.padding == "valid":
        pads = (0,) * axes
    else:
        pads = tuple(module.padding)
    return Geometry(
        _lifted(tuple(module.kernel_size), 1),
        _lifted(tuple(module.stride), 1),
        _lifted(pads, 0),
        _lifted(tuple(module.dilation), 1),
        _lifted(tuple(module.output_padding), 0) if transposed else (0, 0),
        int(module.groups),
        transposed,
    )


def pool_geometry(
    kernel_shape: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...] = (0,), dilations: tuple[int, ...] = (1,)
) -> Geometry:
    """Geometry of a pool with sizes for one or two axes; what is not given is no padding and no dilation."""
    axes = len(kernel_shape)
    return Geometry(
        _lifted(kernel_shape, 1), _lifted(strides, 1), _lifted(single(pads, axes), 0), _lifted(single(dilations, axes), 1)
    )


def fitted_pool(before: tuple[int, ...], after: tuple[int, ...], label: str) -> Geometry:
    """The windows of an adaptive pool whose output divides its input.

    Raises
    ------
    UnsupportedError
        If it does not: then windows have different sizes, which the NPU has not.
    """
    if any(size % result for size, result in zip(before, after, strict=True)):
        raise UnsupportedError(
            f"{label} makes {after} of {before}, which that does not divide, so its windows differ in size; choose a divisor"
        )
    kernel = tuple(size // result for size, result in zip(before, after, strict=True))
    return pool_geometry(kernel, kernel)
