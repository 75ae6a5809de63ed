"""Small readers and checks that many operators need."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

from npusim.errors import OperatorError
from npusim.graph.graph import Array

__all__ = ["Numeric", "check_same_type", "integers_of", "place_of_axis"]

Numeric: TypeAlias = npt.NDArray[Any]
"""An input whose dtype is known only when the operator runs; type checkers let it take part in arithmetic."""


def integers_of(x: Array | None) -> tuple[int, ...] | None:
    """The elements of a small integer input (axes, sizes, pads); None where it is left out."""
    return None if x is None else tuple(int(item) for item in x.reshape(-1))


def place_of_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; a scalar counts as having one axis.

    Raises
    ------
    OperatorError
        If there is no such axis.

    Examples
    --------
    >>> place_of_axis(-1, 4)
    3
    """
    axes = max(rank, 1)
    if not -axes <= axis < axes:
        raise OperatorError(f"axis {axis} does not exist in {rank} dimensions")
    return axis % axes


def check_same_type(*inputs: Array) -> None:
    """Refuse operands of different dtypes, which NumPy would promote and ONNX forbids.

    Raises
    ------
    OperatorError
        Naming the dtypes.
    """
    dtypes = {str(x.dtype): None for x in inputs}
    if len(dtypes) > 1:
        raise OperatorError(f"its inputs are {' and '.join(dtypes)}, wanted one element type; insert a Cast")
