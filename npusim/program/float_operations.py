"""Operations on floats, one after the other: what a graph does behind an accumulator, and what a fast engine may do instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

__all__ = ["FloatOperation", "Operator"]


class Operator(StrEnum):
    """The floating-point operations between an accumulator and its code; ROUND is half to even, TRUNCATE toward zero."""

    DIVIDE = "divide"
    ROUND = "round"
    ADD = "add"
    MULTIPLY = "multiply"
    FLOOR = "floor"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class FloatOperation:
    """One operation; `operand` is float64 [channels], and unused by ROUND, FLOOR and TRUNCATE."""

    operator: Operator
    operand: npt.NDArray[np.float64]

    @property
    def ufunc(self) -> np.ufunc:
        """The NumPy function that computes it."""
        match self.operator:
            case Operator.DIVIDE:
                return np.true_divide
            case Operator.ROUND:
                return np.rint
            case Operator.ADD:
                return np.add
            case Operator.MULTIPLY:
                return np.multiply
            case Operator.FLOOR:
                return np.floor
            case Operator.TRUNCATE:
                return np.trunc
            case _:
                assert_never(self.operator)

    def apply(self, value: npt.NDArray[Any], dtype: np.dtype[np.floating[Any]]) -> npt.NDArray[Any]:
        """The result for values ``[channels, n]``, rounded to an element type in which the operand is exact.

        Examples
        --------
        >>> half = FloatOperation(Operator.MULTIPLY, np.array([0.5]))
        >>> half.apply(np.array([[3.0, 4.0]], np.float32), np.dtype(np.float32)).tolist()
        [[1.5, 2.0]]
        """
        if self.ufunc.nin == 1:
            return np.asarray(self.ufunc(value))
        return np.asarray(self.ufunc(value, self.operand.astype(dtype)[:, None]))
