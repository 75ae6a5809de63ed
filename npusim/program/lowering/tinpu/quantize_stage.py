"""Recognition of the stages that turn float32 values into codes, the input stage above all."""

from __future__ import annotations

import numpy as np

from npusim.graph import Node
from npusim.program.lowering.tinpu.chain import node_label, read_clips
from npusim.program.lowering.tinpu.view import NotALayer, View, read_addend, read_factor
from npusim.program.program import QuantizeStage

__all__ = ["recognise_quantize_stage"]


def recognise_quantize_stage(view: View, node: Node) -> tuple[QuantizeStage, tuple[Node, ...]]:
    """Read ``Add(offset), Mul(multiplier), Mul(2**-n), Floor, Clip`` (or with one fused multiplier) that starts at `node`.

    Nothing has to be an integer here but the saturation's bounds: the stage is computed in float32, operation by operation.

    Returns
    -------
    (stage, nodes)
        The stage and the nodes it stands for.

    Raises
    ------
    NotALayer
        When the nodes are no such stage.
    """
    offset, multiplier = np.zeros(()), np.ones(())
    nodes: list[Node] = []
    current: Node | None = node
    while current is not None and current.op_type != "Floor":
        addend, factor = read_addend(view, current), read_factor(view, current)
        if addend is not None and not nodes:
            offset = addend.astype(np.float64)
        elif factor is not None:
            multiplier = multiplier * factor.astype(np.float64)
        else:
            raise NotALayer("no floor and saturation follow")
        nodes.append(current)
        current = view.only_reader(current.outputs[0])
    if current is None or not nodes:
        raise NotALayer("no floor and saturation follow")
    nodes.append(current)
    clip, saturations = read_clips(view, current.outputs[0])
    nodes.extend(saturation for saturation, _ in saturations)
    source = next(name for name in node.inputs if view.constant(name) is None)
    stage = QuantizeStage(node_label(node), source, nodes[-1].outputs[0], tuple(nodes), offset, multiplier, clip)
    return stage, tuple(nodes)
