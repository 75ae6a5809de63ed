"""The PLiNIO / MATCH family: ``clip((accumulator * multiplier + addend) >> shift)``, read by structure.

MATCH and MAUPITI annotate their nodes, NEMO and DORY write casts to integers, MATCH's own test models are typed in a way that
ONNX does not allow: all mean the same integers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from npusim.graph import Graph
from npusim.graph.traits import Trait, is_a
from npusim.kernels.requantize import codes_dtype
from npusim.program.intervals import analyse
from npusim.program.layers import Accumulating, MaxPool
from npusim.program.lowering.match.chain import Written, read_chain
from npusim.program.lowering.match.dialect import (
    default_arithmetic,
    input_range,
    is_match,
    is_typed,
    is_valid_in_integers,
    plain_graph,
)
from npusim.program.lowering.match.pools import recognise_mean
from npusim.program.lowering.match.tables import recognise_rescaling
from npusim.program.lowering.tinpu import Dialect, lower
from npusim.program.program import Program
from npusim.program.requantization import INT32

__all__ = [
    "ARITHMETICS",
    "default_arithmetic",
    "is_as_written",
    "is_match",
    "is_valid_in_integers",
    "lower_match",
    "plain_graph",
]

ARITHMETICS: Final = ("match", "match_half_up", "onnx")
"""How means are rounded: down, to nearest with halves up, or not at all, as the file says."""


def lower_match(folded: Graph, declared: Graph, arithmetic: str, input_codes: str | None = None) -> Program:
    """Lower a graph of the family.

    Parameters
    ----------
    folded
        The graph of :func:`plain_graph`, folded.
    declared
        As it was read.
    arithmetic
        One of :data:`ARITHMETICS`.
    input_codes
        Codes of the inputs; None where the file tells.

    Raises
    ------
    UnsupportedError
        If a result that nothing saturates could pass int32.

    Notes
    -----
    Outputs of files with integer types have the types that they declare.
    """
    as_written = Written(literal=arithmetic == "onnx", typed=is_typed(declared))
    program = lower(
        folded,
        dialect=Dialect(
            partial(read_chain, as_written=as_written),
            None if arithmetic == "onnx" else partial(recognise_mean, half_up=arithmetic == "match_half_up"),
            partial(recognise_rescaling, as_written=as_written),
        ),
        inputs={name: input_range(declared, name, input_codes) for name in folded.inputs},
    )
    return _with_declared_types(program, declared)


def _with_declared_types(program: Program, declared: Graph) -> Program:
    """Inputs and outputs in the element types of the file; sums that floats do not hold, in integers."""
    sums = {step.output for step in program.layers}
    shown = {}
    for name in {*program.inputs, *(name for name in declared.outputs if name in declared.types)} & set(program.tensors):
        tensor, kind = program.tensors[name], declared.types[name].dtype
        stored = codes_dtype(int(tensor.lower), int(tensor.upper)) if name in sums else tensor.stored
        if kind.kind == "f" or stored.kind in "iu":
            shown[name] = replace(tensor, dtype=kind, stored=kind if kind.kind in "iu" and name in program.inputs else stored)
    return replace(program, tensors={**program.tensors, **shown})


def is_as_written(program: Program) -> bool:
    """Whether a program of :func:`lower_match` computes what ONNX says of a file in integer types: nothing passes int32.

    Parameters
    ----------
    program
        With the arithmetic ``"onnx"``.
    """
    if any(not is_a(step.operator, Trait.MOVES) for step in program.host_operations):
        return False
    if any(not isinstance(layer, Accumulating | MaxPool) for layer in program.layers):
        return False
    ends = [bounds.hull for found in analyse(program).layers.values() for bounds in (found.partial, found.biased, found.scaled)]
    return all(INT32.lower <= lower and upper <= INT32.upper for lower, upper in ends)
