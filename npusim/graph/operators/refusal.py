"""Turns what a kernel refuses into the error that callers of operators expect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from types import MappingProxyType

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator

__all__ = ["refusing_table"]


def refusing_table(operators: Mapping[str, Operator]) -> Mapping[str, Operator]:
    """Read-only table of operators whose `ValueError`, the way kernels refuse arguments, becomes `OperatorError`."""
    return MappingProxyType({op_type: _refusing(operator) for op_type, operator in operators.items()})


def _refusing(operator: Operator) -> Operator:
    @wraps(operator)
    def refusing(call: Call, *inputs: Array | None) -> Array | tuple[Array, ...]:
        try:
            return operator(call, *inputs)
        except ValueError as error:
            raise OperatorError(str(error)) from error

    return refusing
