"""Codes that are scaled, divided or saturated again without a sum: branches of residuals, two requantizations in a row."""

from __future__ import annotations

from typing import Final

import numpy as np

from npusim.graph import Node
from npusim.graph.ranges import ValueRange
from npusim.program.direct import Table
from npusim.program.lowering.match.chain import MEANT, Written, read_chain
from npusim.program.lowering.tinpu.chain import node_label
from npusim.program.lowering.tinpu.view import NotALayer, View
from npusim.program.requantization import INT32

__all__ = ["recognise_rescaling"]

MAXIMUM_CODES: Final = 2**17
"""Tables of more entries are not made."""


def recognise_rescaling(
    view: View, node: Node, source_range: ValueRange, *, as_written: Written = MEANT
) -> tuple[Table, tuple[Node, ...]]:
    """Read what makes codes of codes, the same for all channels, as a table.

    Raises
    ------
    NotALayer
        If the nodes are nothing of that kind, or the codes going in are too many.
    """
    variable = [name for name in node.inputs if name and view.constant(name) is None]
    if len(variable) != 1 or not source_range.is_codes or node.op_type == "Cast":
        raise NotALayer("")
    (source,) = variable
    lower, upper = int(source_range.lower), int(source_range.upper)
    shape = view.shape(source)
    if upper - lower >= MAXIMUM_CODES or len(shape) < 2:
        raise NotALayer("")
    chain = read_chain(view, source, shape, 1, as_written=as_written, first=node)
    if not chain.nodes or view.shape(chain.output) != shape:
        raise NotALayer("")
    codes = np.arange(lower, upper + 1)
    part = chain.requantization
    found = part.unclipped(np.broadcast_to(codes, (shape[1], codes.size)))
    if (found != found[0]).any() or not _is_within_int32(found):
        raise NotALayer("its scale is not the same for all channels, or its result passes int32")
    return (
        Table(
            name=node_label(node),
            inputs=(source,),
            output=chain.output,
            input_shape=shape,
            output_shape=shape,
            nodes=tuple(node_label(part) for part in chain.nodes),
            label=", ".join(part.op_type for part in chain.nodes),
            lowest=lower,
            values=part.clip.apply(found[0]),
        ),
        chain.nodes,
    )


def _is_within_int32(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    return bool((values >= INT32.lower).all() and (values <= INT32.upper).all())
