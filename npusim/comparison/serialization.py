"""Frozen results as what JSON can hold."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any

import numpy as np

__all__ = ["plain"]


def plain(value: Any, *, leave_out: frozenset[str] = frozenset()) -> Any:  # noqa: ANN401 - anything a result holds
    """Dataclasses as dictionaries, arrays and tuples as lists, NumPy numbers as Python's.

    Parameters
    ----------
    value
        A result or a part of one.
    leave_out
        Names of attributes that are left out wherever they occur.

    Examples
    --------
    >>> plain((np.float64(0.5), np.array([1, 2])))
    [0.5, [1, 2]]
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in fields(value) if item.name not in leave_out]
        return {name: plain(getattr(value, name), leave_out=leave_out) for name in names}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [plain(item, leave_out=leave_out) for item in value]
    return value
