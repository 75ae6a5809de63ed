"""Recognition of residuals: the sum of two tensors of codes, alone (ADD) or behind a pointwise convolution (PWCONVRES)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npusim.graph import Node
from npusim.graph.ranges import ValueRange
from npusim.program.layers import Add, Convolution, LayerKind, ResidualConvolution
from npusim.program.lowering.tinpu.chain import ChainReader, node_label, read_chain
from npusim.program.lowering.tinpu.view import NotALayer, View
from npusim.program.program import Step
from npusim.program.shift_floor import ShiftFloor
from npusim.program.taps import ArithmeticTap, ResidualTap

__all__ = ["fuse_pointwise_residuals", "recognise_residual"]


def recognise_residual(
    view: View, node: Node, ranges: Mapping[str, ValueRange], read: ChainReader = read_chain
) -> tuple[Add, tuple[Node, ...]]:
    """Read the sum of two tensors of codes and what turns it into codes again.

    Returns
    -------
    (layer, nodes)
        A layer of kind ADD and the nodes it stands for.

    Raises
    ------
    NotALayer
        With the reason, when the node is not such a sum.
    """
    shapes = [view.shape(name) for name in node.inputs]
    if not all(name in ranges and ranges[name].is_codes for name in node.inputs):
        raise NotALayer("an operand is not proven to hold integers", (node,))
    if shapes[0] != shapes[1] or len(shapes[0]) < 2:
        raise NotALayer("its operands have different shapes", (node,))
    try:
        chain = read(view, node.outputs[0], shapes[0], 1)
    except NotALayer as finding:
        raise NotALayer(finding.reason, (node, *finding.nodes)) from None
    layer = Add(
        name=node_label(node),
        inputs=node.inputs,
        output=chain.output,
        input_shape=shapes[0],
        output_shape=view.shape(chain.output),
        accumulator_shape=shapes[0],
        channel_axis=1,
        requantization=chain.requantization,
        taps=chain.taps,
        nodes=tuple(node_label(part) for part in (node, *chain.nodes)),
    )
    return layer, (node, *chain.nodes)


def fuse_pointwise_residuals(steps: Sequence[Step], view: View) -> tuple[Step, ...]:
    """Make one PWCONVRES of a pointwise convolution and the plain residual that is the only reader of its codes.

    The NPU saturates the convolution's own result, adds the residual and saturates again, without a second scale: only a
    residual that neither shifts nor scales the sum has that form. When both operands qualify, the one computed last is
    taken, so that the other is ready.
    """
    fused = list(steps)
    for step in steps:
        if not isinstance(step, Add) or not _is_plain(step):
            continue
        convolution = _pointwise_operand(fused, step, view)
        if convolution is not None:
            fused[fused.index(step)] = _fuse(convolution, step)
            fused.remove(convolution)
    return tuple(fused)


def _is_plain(layer: Add) -> bool:
    last = layer.requantization
    return not last.operations and bool((last.gain == 1).all())


def _pointwise_operand(steps: Sequence[Step], residual: Add, view: View) -> Convolution | None:
    candidates = [
        step
        for step in steps
        if isinstance(step, Convolution)
        and step.kind is LayerKind.PWCONV
        and step.output in residual.inputs
        and view.only_reader(step.output) is not None
    ]
    return candidates[-1] if candidates and residual.inputs[0] != residual.inputs[1] else None


def _fuse(convolution: Convolution, residual: Add) -> ResidualConvolution:
    part = convolution.requantization
    other = residual.inputs[1] if residual.inputs[0] == convolution.output else residual.inputs[0]
    own = [] if not isinstance(part, ShiftFloor) else [ArithmeticTap(convolution.output, part, True, part.clip)]
    return ResidualConvolution(
        name=convolution.name,
        inputs=(convolution.inputs[0], other),
        output=residual.output,
        input_shape=convolution.input_shape,
        output_shape=residual.output_shape,
        nodes=(*convolution.nodes, *residual.nodes),
        accumulator_shape=convolution.accumulator_shape,
        channel_axis=convolution.channel_axis,
        requantization=part,
        taps=(
            *convolution.taps,
            *own,
            *(ResidualTap(tap.tensor, tap.saturation, handed_out=tap.handed_out) for tap in residual.taps),
        ),
        weights=convolution.weights,
        weight_bits=convolution.weight_bits,
        window=convolution.window,
        group=convolution.group,
        saturation=residual.requantization.clip,
    )
