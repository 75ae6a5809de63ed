"""The ONNX operators npusim can compute, each a function found by its name.

:func:`lookup` returns an operator, :data:`SUPPORTED` names them all. An operator computes exactly what ONNX defines for the
opset in its :class:`~npusim.operators.call.Call`; it never changes its inputs, but may return a view of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from npusim.operators import (
    activation,
    arithmetic,
    casting,
    comparison,
    constant,
    convolution,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)
from npusim.operators.call import Operator

__all__ = ["SUPPORTED", "lookup", "merge_tables"]


def merge_tables(*tables: Mapping[str, Operator]) -> Mapping[str, Operator]:
    """Join tables of operators into one that cannot be changed.

    Raises
    ------
    ValueError
        If two tables hold the same operator.
    """
    merged: dict[str, Operator] = {}
    for table in tables:
        twice = sorted(merged.keys() & table.keys())
        if twice:
            raise ValueError(f"operators {', '.join(twice)} are implemented twice")
        merged.update(table)
    return MappingProxyType(merged)


_OPERATORS: Final = merge_tables(
    activation.OPERATORS,
    arithmetic.OPERATORS,
    casting.OPERATORS,
    comparison.OPERATORS,
    constant.OPERATORS,
    convolution.OPERATORS,
    indexing.OPERATORS,
    linear.OPERATORS,
    normalization.OPERATORS,
    pooling.OPERATORS,
    quantization.OPERATORS,
    reduction.OPERATORS,
    resize.OPERATORS,
    shape.OPERATORS,
)

SUPPORTED: Final[frozenset[str]] = frozenset(_OPERATORS)
"""Names of the operators npusim can compute, in the default ONNX domain."""


def lookup(op_type: str) -> Operator | None:
    """The operator of this name, or None if npusim does not have it.

    Examples
    --------
    >>> lookup("Relu") is not None, lookup("LSTM") is None
    (True, True)
    """
    return _OPERATORS.get(op_type)
