"""The PLiNIO / MATCH family: ``clip((accumulator * multiplier + addend) >> shift)``, read by structure.

MATCH and MAUPITI annotate their nodes, NEMO and DORY write casts to integers, MATCH's own test models are typed in a way that
ONNX does not allow: all mean the same integers.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from npusim.graph import Graph
from npusim.program.lowering.match.chain import read_chain
from npusim.program.lowering.match.dialect import input_range, is_match, plain_graph
from npusim.program.lowering.match.pools import recognise_mean
from npusim.program.lowering.tinpu import Dialect, lower
from npusim.program.program import Program

__all__ = ["ARITHMETICS", "is_match", "lower_match", "plain_graph"]

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
    """
    ranges = {name: input_range(declared, name, input_codes) for name in folded.inputs}
    return lower(
        folded,
        dialect=Dialect(
            read_chain, None if arithmetic == "onnx" else partial(recognise_mean, half_up=arithmetic == "match_half_up")
        ),
        inputs=ranges,
    )
