"""Arrays built element by element from a rule that says where each element comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from hypothesis.extra import numpy as hnp

__all__ = ["at", "built", "numbered", "shapes"]

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """Every element another number, so that a wrong source is seen."""
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def built(shape: tuple[int, ...], x: np.ndarray, source: Callable[[tuple[int, ...]], tuple[int, ...]]) -> np.ndarray:
    """The array of this shape whose element at an index is the element of `x` at ``source(index)``."""
    wanted = np.empty(shape, x.dtype)
    for index in product(*map(range, shape)):
        wanted[index] = x[source(index)]
    return wanted


def at(index: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    """The index with another place on one axis."""
    return (*index[:axis], value, *index[axis + 1 :])
