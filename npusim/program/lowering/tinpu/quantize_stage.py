"""Recognition of the stages that turn float32 values into codes, the input stage above all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npusim.graph import Node
from npusim.program.lowering.tinpu.chain import node_label, read_clips
from npusim.program.lowering.tinpu.view import NotALayer, View, read_addend, read_factor
from npusim.program.program import QuantizeStage

__all__ = ["recognise_quantize_stage"]


def recognise_quantize_stage(view: View, node: Node) -> tuple[QuantizeStage, tuple[Node, ...]]:
    """Read ``Add(offset), Mul(multiplier), Mul(2**-n), Floor, Clip`` that starts at `node`, or less than that.

    One fused multiplier, divisions and Round in place of Floor are other spellings; simplifiers leave out offset and multiplier
    where they do nothing. Nothing has to be an integer here but the saturation's bounds: the stage is computed in float32,
    operation by operation.

    Returns
    -------
    (stage, nodes)
        The stage and the nodes it stands for.

    Raises
    ------
    NotALayer
        When the nodes are not such a stage.
    """
    offset, multiplier = np.zeros(()), np.ones(())
    nodes: list[Node] = []
    current: Node | None = node
    while current is not None and current.op_type not in ("Floor", "Round"):
        addend, factor = read_addend(view, current), _read_factor(view, current)
        if addend is not None and not nodes:
            offset = addend.astype(np.float64)
        elif factor is not None:
            multiplier = multiplier * factor
        else:
            raise NotALayer("no floor and saturation follow")
        nodes.append(current)
        current = next(iter(view.readers_of(current.outputs[0])), None)
    if current is None:
        raise NotALayer("no floor and saturation follow")
    nodes.append(current)
    nearest = current.op_type == "Round"
    if nearest:
        offset = offset + 0.5 / np.where(multiplier == 0, np.inf, multiplier)
    clip, saturations = read_clips(view, current.outputs[0])
    nodes.extend(saturation for saturation, _ in saturations)
    source = next(name for name in node.inputs if view.constant(name) is None)
    stage = QuantizeStage(node_label(node), source, nodes[-1].outputs[0], tuple(nodes), offset, multiplier, clip, nearest)
    return stage, tuple(nodes)


def _read_factor(view: View, node: Node) -> npt.NDArray[np.float64] | None:
    """As :func:`read_factor`, for Div by any constant: what the stage computes is the division."""
    parts = view.operand_and_constant(node)
    if node.op_type == "Div" and parts is not None and not parts[2]:
        divisor = parts[1].astype(np.float64)
        return np.reciprocal(divisor) if np.isfinite(divisor).all() and divisor.all() else None
    factor = read_factor(view, node)
    return None if factor is None else factor.astype(np.float64)
