"""What a MOVE layer does to the places of its values: a transposition of regrouped axes, or a choice along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.floats.forward import apply_node
from npusim.floats.network import FloatLayer, FloatNetwork

__all__ = ["Chosen", "Regrouped", "move_between", "places_of"]

Int64Array = npt.NDArray[np.int64]

LARGEST_EXACT = 2**24
"""More places than float32 counts exactly are not looked at."""


@dataclass(frozen=True, slots=True)
class Regrouped:
    """``x.reshape(axes).transpose(order).reshape(result)``: every value once.

    Attributes
    ----------
    axes
        Sizes, without the batch axis; adjacent axes that stay together are one.
    order
        As NumPy's transpose takes it; sorted where only the shape changes.
    """

    axes: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def keeps_order(self) -> bool:
        """Whether it is a reshape."""
        return self.order == tuple(range(len(self.order)))


@dataclass(frozen=True, slots=True)
class Chosen:
    """``x[np.ix_(*indices)]``: slices, nearest resizes, repetitions along an axis.

    Attributes
    ----------
    indices
        For each axis, without the batch axis.
    """

    indices: tuple[Int64Array, ...]


def places_of(layer: FloatLayer, places: Int64Array, network: FloatNetwork) -> Int64Array:
    """Where each value of a MOVE layer's output comes from.

    Parameters
    ----------
    layer
        The layer.
    places
        A number for each value of its input, without the batch axis.
    network
        The layer's network.

    Returns
    -------
    ndarray
        These numbers in the places of the output, without the batch axis.

    Raises
    ------
    ValueError
        If there are more than float32 counts.
    """
    if places.size > LARGEST_EXACT:
        raise ValueError(f"layer '{layer.name}' moves {places.size} values")
    moved: Int64Array = apply_node(layer, [places[np.newaxis].astype(np.float64)], network)[0].astype(np.int64)
    return moved


def move_between(shape: Sequence[int], places: Int64Array) -> Regrouped | Chosen | None:
    """The move that brings values of an array to other places; None where it is neither of the two.

    Parameters
    ----------
    shape
        Of the array, without a batch axis.
    places
        For each value of the result its place in the flattened array.

    Examples
    --------
    >>> move_between((2, 3), np.array([[0, 3], [1, 4], [2, 5]]))
    Regrouped(axes=(2, 3), order=(1, 0))
    >>> move_between((4,), np.array([1, 3]))
    Chosen(indices=(array([1, 3]),))
    """
    regrouped = _regrouped(math.prod(shape), places.reshape(-1))
    return _chosen(tuple(shape), places) if regrouped is None else regrouped


def _regrouped(total: int, flat: Int64Array) -> Regrouped | None:
    """A nest of loops, the innermost found first: so many steps of one stride each."""
    if flat.size != total or flat.min(initial=0) != 0:
        return None
    loops: list[tuple[int, int]] = []
    left = flat
    while left.size > 1:
        stride = int(left[1] - left[0])
        steps = np.flatnonzero(left != left[0] + stride * np.arange(left.size))
        count = int(steps[0]) if steps.size else left.size
        if stride < 1 or left.size % count:
            return None
        loops.insert(0, (count, stride))
        left = left[::count]
    order = sorted(range(len(loops)), key=lambda axis: -loops[axis][1])
    axes = tuple(loops[axis][0] for axis in order)
    turned = tuple(order.index(axis) for axis in range(len(loops)))
    if math.prod(axes) != total or not np.array_equal(np.arange(total).reshape(axes).transpose(turned).reshape(-1), flat):
        return None
    return Regrouped(axes, turned)


def _chosen(shape: tuple[int, ...], places: Int64Array) -> Chosen | None:
    if places.ndim != len(shape) or not places.size:
        return None
    indices = []
    for axis, size in enumerate(shape):
        line = places[tuple(slice(None) if other == axis else 0 for other in range(places.ndim))]
        indices.append(line // math.prod(shape[axis + 1 :]) % size)
    chosen = np.arange(math.prod(shape)).reshape(shape)[np.ix_(*indices)]
    return Chosen(tuple(indices)) if np.array_equal(chosen, places) else None
