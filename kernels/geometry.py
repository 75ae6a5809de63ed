"""Spatial geometry of convolutions and pools, for any number of spatial axes.

A window of `kernel_shape` taps, `dilations` apart, moves over the padded input in steps of `strides`. All functions take one
number per spatial axis, outermost axis first; `pads` holds first the begins, then the ends of all axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "kernel_extents",
    "output_sizes",
    "pad_spatial",
    "padded_sizes",
    "resolve_pads",
    "split_pads",
    "tap_slices",
    "window_view",
]

ScalarT = TypeVar("ScalarT", bound=np.generic)


def kernel_extents(*, kernel_shape: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Input positions a window spans on each axis: ``(kernel - 1) * dilation + 1``.

    Examples
    --------
    >>> kernel_extents(kernel_shape=(3, 3), dilations=(1, 2))
    (3, 5)
    """
    return tuple((kernel - 1) * dilation + 1 for kernel, dilation in zip(kernel_shape, dilations, strict=True))


def resolve_pads(
    input_sizes: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> tuple[int, ...]:
    """Explicit pads of a convolution or pool.

    ``SAME_UPPER`` and ``SAME_LOWER`` pad so that an axis gives ``ceil(size / stride)`` outputs; of an odd total the larger half
    lies at the end (upper) or at the beginning (lower).

    Parameters
    ----------
    input_sizes
        Sizes of the spatial axes.
    kernel_shape, strides, dilations
        Window geometry, one number for each axis, all at least 1.
    pads
        Begins, then ends; None means no padding. Only ``NOTSET`` reads it.
    auto_pad
        ``NOTSET``, ``VALID``, ``SAME_UPPER`` or ``SAME_LOWER``; an empty string means ``NOTSET``.

    Returns
    -------
    tuple of int
        Begins of all axes, then ends of all axes.

    Raises
    ------
    ValueError
        If a list has the wrong length, a number is out of range, or `auto_pad` is unknown.

    Examples
    --------
    >>> resolve_pads((5,), kernel_shape=(4,), strides=(1,), dilations=(1,), auto_pad="SAME_UPPER")
    (1, 2)
    """
    axes = len(input_sizes)
    for name, values in (("kernel_shape", kernel_shape), ("strides", strides), ("dilations", dilations)):
        _check_list(name, values, count=axes, lowest=1)
    if auto_pad in ("NOTSET", ""):
        explicit = tuple(pads) if pads is not None else (0,) * (2 * axes)
        _check_list("pads", explicit, count=2 * axes, lowest=0)
        return explicit
    if auto_pad == "VALID":
        return (0,) * (2 * axes)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad is '{auto_pad}', wanted NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    extents = kernel_extents(kernel_shape=kernel_shape, dilations=dilations)
    totals = [
        max(0, (-(-size // stride) - 1) * stride + extent - size)
        for size, stride, extent in zip(input_sizes, strides, extents, strict=True)
    ]
    return split_pads(totals, larger_at_end=auto_pad == "SAME_UPPER")


def split_pads(totals: Sequence[int], *, larger_at_end: bool) -> tuple[int, ...]:
    """Begins then ends of paddings given as one total for each axis; of an odd total one side is larger by one.

    Examples
    --------
    >>> split_pads((3,), larger_at_end=True)
    (1, 2)
    """
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return tuple(small + large if larger_at_end else large + small)


def output_sizes(
    input_sizes: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Output sizes of a convolution or pool: ``(size + pads - extent) // stride + 1``.

    With `ceil_mode` the division rounds up, so the last window may reach past the padding; a window that would start in the
    padding at the end or beyond it is dropped.

    Raises
    ------
    ValueError
        If the window is larger than the padded input.

    Examples
    --------
    >>> output_sizes((4,), kernel_shape=(2,), strides=(2,), dilations=(1,), pads=(0, 1))
    (2,)
    >>> output_sizes((5,), kernel_shape=(2,), strides=(2,), dilations=(1,), pads=(0, 0), ceil_mode=True)
    (3,)
    """
    axes = len(input_sizes)
    extents = kernel_extents(kernel_shape=kernel_shape, dilations=dilations)
    sizes = []
    for axis, (size, stride, extent) in enumerate(zip(input_sizes, strides, extents, strict=True)):
        room = size + pads[axis] + pads[axis + axes] - extent
        if room < 0:
            raise ValueError(
                f"a window of extent {extent} does not fit into spatial axis {axis} of padded size {room + extent}"
            )
        count = room // stride + 1
        if ceil_mode:
            count = -(-room // stride) + 1
            if (count - 1) * stride >= size + pads[axis]:
                count -= 1
        sizes.append(count)
    return tuple(sizes)


def padded_sizes(
    input_sizes: Sequence[int],
    windows: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> tuple[int, ...]:
    """Sizes an input needs, padding included, so that every one of `windows` windows an axis lies inside.

    These are the padded input sizes, except that with ``ceil_mode`` the last window may need more.
    """
    axes = len(input_sizes)
    extents = kernel_extents(kernel_shape=kernel_shape, dilations=dilations)
    return tuple(
        max(size + pads[axis] + pads[axis + axes], (windows[axis] - 1) * strides[axis] + extents[axis])
        for axis, size in enumerate(input_sizes)
    )


def pad_spatial(
    x: npt.NDArray[ScalarT],
    /,
    *,
    begins: Sequence[int],
    sizes: Sequence[int],
    value: float | int,
    first_axis: int = 2,
) -> npt.NDArray[ScalarT]:
    """Put `x` at `begins` into an array filled with `value` whose spatial axes have `sizes`.

    Parameters
    ----------
    x
        Any dtype; its spatial axes are `first_axis` and the following ones.
    begins, sizes
        Padding before the data and total size, for each spatial axis.
    value
        What the padding holds; must be representable in the dtype of `x`.
    first_axis
        2 for channels first (N, C, ...), 1 for channels last (N, ..., C).

    Returns
    -------
    ndarray
        Same dtype as `x`; `x` itself where nothing is added.
    """
    last_axis = first_axis + len(sizes)
    inner = x.shape[first_axis:last_axis]
    if inner == tuple(sizes):
        return x
    padded = np.full((*x.shape[:first_axis], *sizes, *x.shape[last_axis:]), value, dtype=x.dtype)
    region = tuple(slice(begin, begin + size) for begin, size in zip(begins, inner, strict=True))
    padded[(slice(None),) * first_axis + region] = x
    return padded


def tap_slices(
    windows: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Iterator[tuple[slice, ...]]:
    """For each kernel tap in row-major order, the slices of the padded spatial axes that hold that tap of every window.

    Parameters
    ----------
    windows
        Number of windows (the output size) on each axis.

    Examples
    --------
    >>> list(tap_slices((3,), kernel_shape=(2,), strides=(2,), dilations=(1,)))
    [(slice(0, 5, 2),), (slice(1, 6, 2),)]
    """
    for tap in product(*(range(kernel) for kernel in kernel_shape)):
        yield tuple(
            slice(index * dilation, index * dilation + (count - 1) * stride + 1, stride)
            for index, dilation, count, stride in zip(tap, dilations, windows, strides, strict=True)
        )


def window_view(
    padded: npt.NDArray[ScalarT],
    /,
    windows: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    first_axis: int = 2,
) -> npt.NDArray[ScalarT]:
    """Read-only view of all windows, without a copy.

    Returns
    -------
    ndarray
        The axes before `first_axis`, then the kernel axes, then the window axes, then the axes behind the spatial ones: for
        channels first ``(N, C, *kernel_shape, *windows)``.

    Raises
    ------
    ValueError
        If a window would reach past the array.
    """
    last_axis = first_axis + len(windows)
    needed = padded_sizes(
        (0,) * len(windows),
        windows,
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=(0,) * (2 * len(windows)),
    )
    if any(size < wanted for size, wanted in zip(padded.shape[first_axis:last_axis], needed, strict=True)):
        raise ValueError(f"windows need spatial sizes of {needed}, got an array of shape {padded.shape}")
    steps = padded.strides[first_axis:last_axis]
    taps = tuple(step * dilation for step, dilation in zip(steps, dilations, strict=True))
    moves = tuple(step * stride for step, stride in zip(steps, strides, strict=True))
    return np.lib.stride_tricks.as_strided(
        padded,
        shape=(*padded.shape[:first_axis], *kernel_shape, *windows, *padded.shape[last_axis:]),
        strides=(*padded.strides[:first_axis], *taps, *moves, *padded.strides[last_axis:]),
        writeable=False,
    )


def _check_list(name: str, values: Sequence[int], *, count: int, lowest: int) -> None:
    if len(values) != count:
        raise ValueError(f"{name} is {list(values)}, wanted {count} numbers")
    if min(values, default=lowest) < lowest:
        raise ValueError(f"{name} is {list(values)}, wanted numbers of at least {lowest}")
