"""Pads and output sizes of transposed convolutions, which ONNX lets a model give in three ways."""

from __future__ import annotations

from collections.abc import Sequence

from .geometry import kernel_extents, resolve_pads, split_pads

__all__ = ["resolve_transposed"]


def resolve_transposed(
    input_sizes: Sequence[int],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pads to cut off and spatial output sizes of a transposed convolution.

    The full output of an axis has ``(size - 1) * stride + output_padding + extent`` elements. Explicit pads are cut off. With
    an explicit output shape, and with ``SAME_*`` (``size * stride`` outputs, or the full output where that is smaller), the
    pads follow from the sizes: of an odd total the larger half lies at the end for ``SAME_UPPER``, at the beginning otherwise.
    An output shape may exceed the full output by less than a stride; nothing is cut off then.

    Parameters
    ----------
    input_sizes
        Sizes of the spatial axes.
    kernel_shape, strides, dilations, pads, auto_pad
        As in `npusim.kernels.geometry.resolve_pads`.
    output_padding
        Elements appended to each axis; None means 0.
    output_shape
        Wanted spatial sizes; None when they follow from the pads.

    Returns
    -------
    pads, output_sizes
        Begins then ends; one size for each spatial axis.

    Raises
    ------
    ValueError
        If a list has the wrong length or a number is out of range; if nothing is left of an axis, or it is to exceed the
        full output by a stride or more.

    Examples
    --------
    >>> resolve_transposed((3,), kernel_shape=(3,), strides=(2,), dilations=(1,), pads=(1, 1), output_padding=(1,))
    ((1, 1), (6,))
    """
    axes = len(input_sizes)
    extra = tuple(output_padding) if output_padding is not None else (0,) * axes
    wanted = tuple(output_shape) if output_shape is not None else None
    for name, values in (("output_padding", extra), ("output_shape", wanted or extra)):
        if len(values) != axes or min(values) < 0:
            raise ValueError(f"{name} is {list(values)}, wanted {axes} numbers of at least 0")
    explicit = resolve_pads(
        input_sizes, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad
    )
    extents = kernel_extents(kernel_shape=kernel_shape, dilations=dilations)
    full = [
        (size - 1) * stride + more + extent
        for size, stride, more, extent in zip(input_sizes, strides, extra, extents, strict=True)
    ]
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(min(size * stride, most) for size, stride, most in zip(input_sizes, strides, full, strict=True))
    if wanted is None:
        sizes = tuple(size - explicit[axis] - explicit[axis + axes] for axis, size in enumerate(full))
        if min(sizes) < 1:
            raise ValueError(f"pads {list(explicit)} leave nothing of an output of sizes {full}")
        return explicit, sizes
    totals = [max(0, size - kept) for size, kept in zip(full, wanted, strict=True)]
    if any(kept - size >= stride for size, kept, stride in zip(full, wanted, strides, strict=True)):
        raise ValueError(f"output_shape is {list(wanted)}, a stride or more larger than the full output of sizes {full}")
    return split_pads(totals, larger_at_end=auto_pad == "SAME_UPPER"), wanted
