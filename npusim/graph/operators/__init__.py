"""The ONNX operators npusim can compute, each a function found by its name.

A node is computed with :func:`evaluate_node`; :func:`lookup` returns an operator, :data:`SUPPORTED` names them all. An
operator computes exactly what ONNX defines for the opset in its :class:`~npusim.graph.operators.call.Call`; it never changes
its inputs, but may return a view of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from npusim.errors import NpusimError, OperatorError, UnsupportedError
from npusim.graph.graph import Array, Node
from npusim.graph.operators import (
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
    quantized,
    recurrent,
    reduction,
    resize,
    shape,
)
from npusim.graph.operators.call import Call, Operator

__all__ = ["SUPPORTED", "evaluate_node", "lookup", "merge_tables", "why_unsupported"]


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
    quantized.OPERATORS,
    recurrent.OPERATORS,
    reduction.OPERATORS,
    resize.OPERATORS,
    shape.OPERATORS,
)

SUPPORTED: Final[frozenset[str]] = frozenset(_OPERATORS)
"""Names of the operators npusim can compute: those of the default ONNX domain, and quantized ones of com.microsoft."""


def lookup(op_type: str) -> Operator | None:
    """The operator of this name, or None if npusim does not have it.

    Examples
    --------
    >>> lookup("Relu") is not None, lookup("Loop") is None
    (True, True)
    """
    return _OPERATORS.get(op_type)


_REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DynamicQuantizeLinear": "is dynamic quantization: scale and zero point follow from the data of each run, so no device "
        "has fixed integers for it; quantize the model statically, with calibration data",
    }
)
"""Operators that have no exact integers, and what to do instead."""


def why_unsupported(op_type: str) -> str:
    """What is wrong with an operator that :func:`lookup` does not find; follows the node in a sentence."""
    return _REFUSED.get(op_type, "uses an operator that npusim does not support; rewrite the layer or leave it out")


def evaluate_node(node: Node, values: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    """Compute the outputs of one node from the values of its inputs.

    Raises
    ------
    UnsupportedError
        If the operator refuses its attributes or inputs; the message names the node.
    """
    operator = lookup(node.op_type)
    if operator is None:
        raise UnsupportedError(f"{node} {why_unsupported(node.op_type)}")
    call = Call(opset, node.attributes, len(node.outputs))
    try:
        result = operator(call, *(values[name] if name else None for name in node.inputs))
    except OperatorError as error:
        advice = "" if ";" in str(error) else "; check this node, or export the model again"
        raise OperatorError(f"{node} cannot be computed: {error}{advice}") from None
    except NpusimError:
        raise
    except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise UnsupportedError(f"{node} cannot be computed from its inputs: {error}") from error
    return result if isinstance(result, tuple) else (result,)
