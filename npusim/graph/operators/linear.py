"""MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.linear import gemm, matmul

__all__ = ["OPERATORS"]


def _matmul(_call: Call, a: Array, b: Array) -> Array:
    return matmul(a, b)


def _gemm(call: Call, a: Array, b: Array, c: Array | None = None) -> Array:
    return gemm(
        a,
        b,
        c,
        alpha=call.real("alpha", 1.0),
        beta=call.real("beta", 1.0),
        transpose_a=bool(call.integer("transA", 0)),
        transpose_b=bool(call.integer("transB", 0)),
    )


OPERATORS: Final[Mapping[str, Operator]] = refusing_table({"Gemm": _gemm, "MatMul": _matmul})
