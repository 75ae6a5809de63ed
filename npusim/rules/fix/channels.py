"""Padding channels with zeros: from one tensor along everything that has the same channels, until weights absorb them.

A channel that is added is made by filters of zeros, and every weight that reads it is zero: no sum and no code of the model
changes. Nothing is added to the model's own inputs and outputs.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from npusim.graph import Array, Node
from npusim.graph.rounding_limits import is_free
from npusim.graph.traits import SampleAxis, Trait, is_a, operators_with, traits_of
from npusim.graph.weights import input_axis, output_axis
from npusim.rules.fix.draft import Draft, Refusal

__all__ = ["pad_channels", "pad_input"]

CHANNELWISE: Final = operators_with(Trait.ELEMENTWISE) & (
    operators_with(Trait.SUM)
    | operators_with(Trait.DIFFERENCE)
    | operators_with(Trait.PRODUCT)
    | operators_with(Trait.QUOTIENT)
    | operators_with(Trait.ROUNDS)
    | operators_with(Trait.LIMITS)
    | operators_with(Trait.RENAMES)
)
"""Operators that keep added zeros apart and finite."""


def pad_channels(draft: Draft, tensor: str, channels: int) -> None:
    """Give a tensor more channels (axis 1), and everything that has to follow.

    Parameters
    ----------
    draft
        The graph; it is changed, also where the repair is refused half-way.
    tensor
        A tensor of shape [1, C, ...].
    channels
        New number of channels, at least C.

    Raises
    ------
    Refusal
        If the channels would reach an input or output of the model, or an operation that mixes them in another way.
    """
    wanted = {tensor: channels}
    open_tensors, done = [tensor], set()
    while open_tensors:
        current = open_tensors.pop()
        if current in done:
            continue
        done.add(current)
        if current in draft.graph.outputs:
            raise Refusal(f"'{current}' is an output of the model")
        producer = draft.producer(current)
        if producer is None:
            raise Refusal(f"its channels come from the model's input '{current}'")
        for node in (producer, *draft.readers(current)):
            for other, size in _follow(draft, node, current, wanted[current]).items():
                if wanted.setdefault(other, size) != size:
                    raise Refusal(f"'{other}' would need {wanted[other]} and {size} channels")
                open_tensors.append(other)
    _apply(draft, wanted)


def pad_input(draft: Draft, tensor: str, channels: int, readers: tuple[str, ...]) -> None:
    """Add channels of zeros to codes that the host makes at the input, for certain readers.

    Raises
    ------
    Refusal
        If the tensor is an input of the model.
    """
    padded = _padded_copy(draft, tensor, channels)
    for reader in draft.readers(tensor):
        if reader.outputs[0] in readers:
            _widen_reader(draft, reader, tensor, channels)
            now = draft.current(reader)
            draft.change(now, inputs=tuple(padded if name == tensor else name for name in now.inputs))


def _padded_copy(draft: Draft, tensor: str, channels: int) -> str:
    """The tensor that a Pad makes of another one; several readers share it."""
    shape = draft.shape(tensor)
    pads = np.array([0] * len(shape) + [0, channels - shape[1]] + [0] * (len(shape) - 2), np.int64)
    for node in draft.readers(tensor):
        if (
            traits_of(node.op_type).samples is SampleAxis.PADDED
            and node.inputs[1] in draft.constants
            and np.array_equal(draft.constants[node.inputs[1]], pads)
        ):
            return node.outputs[0]
    producer = draft.producer(tensor)
    if producer is None:
        raise Refusal(f"'{tensor}' is an input of the model")
    padded = draft.new_name(f"{tensor}/npusim_padded")
    amounts = draft.constant(f"{tensor}/npusim_pads", pads)
    node = Node("Pad", draft.new_name(f"{tensor}/npusim_pad"), (tensor, amounts), (padded,), {"mode": "constant"})
    draft.nodes.insert(draft.index(producer) + 1, node)
    return padded


def _follow(draft: Draft, node: Node, tensor: str, channels: int) -> dict[str, int]:
    """The other tensors of a node that get more channels with one of them; none where its weights absorb them."""
    made = node.outputs[0]
    if is_a(node.op_type, Trait.CONVOLUTION):
        group = node.integer("group", 1)
        if group == 1:
            return {}
        if group != draft.shape(node.inputs[0])[1] or group != draft.shape(made)[1] or output_axis(node) != 0:
            raise Refusal(f"{node} has groups that are not channels")
        return {node.inputs[0]: channels, made: channels}
    if is_a(node.op_type, Trait.WEIGHTED):
        if len(draft.shape(node.inputs[0])) != 2 or node.inputs[1] not in draft.constants:
            raise Refusal(f"{node} is not a plain fully connected layer")
        return {}
    if node.op_type in CHANNELWISE:
        return _follow_elementwise(draft, node, tensor, channels)
    if is_a(node.op_type, Trait.MAXIMUM, Trait.AVERAGES) or (is_a(node.op_type, Trait.REDUCES) and is_free(node)):
        if 1 in _reduced_axes(draft, node):
            raise Refusal(f"{node} reduces channels")
        return {node.inputs[0]: channels, made: channels}
    if is_a(node.op_type, Trait.RESHAPES):
        return _follow_view(draft, node, tensor, channels)
    raise Refusal(f"{node} does not take its channels one by one")


def _follow_elementwise(draft: Draft, node: Node, tensor: str, channels: int) -> dict[str, int]:
    shape = draft.shape(tensor)
    variable = [name for name in (*node.inputs, node.outputs[0]) if name and name not in draft.constants]
    if any(draft.shape(name) != shape for name in variable):
        raise Refusal(f"{node} spreads one operand over another")
    if is_a(node.op_type, Trait.QUOTIENT) and node.inputs[1] not in draft.constants:
        raise Refusal(f"{node} may divide by added zeros")
    for name in node.inputs:
        if name in draft.constants:
            _channel_axis(draft.constants[name], shape, node)
    return dict.fromkeys(variable, channels)


def _follow_view(draft: Draft, node: Node, tensor: str, channels: int) -> dict[str, int]:
    source, made = draft.shape(node.inputs[0]), draft.shape(node.outputs[0])
    if len(source) < 2 or len(made) != 2 or source[0] != 1 or made != (1, math.prod(source)):
        raise Refusal(f"{node} rearranges channels")
    area = math.prod(source[2:])
    if tensor == node.inputs[0]:
        return {node.inputs[0]: channels, node.outputs[0]: channels * area}
    if channels % area:
        raise Refusal(f"{node} spreads {area} values of each channel")
    return {node.inputs[0]: channels // area, node.outputs[0]: channels}


def _apply(draft: Draft, wanted: dict[str, int]) -> None:
    for node in list(draft.nodes):
        reads = [name for name in node.inputs if name in wanted]
        made = node.outputs[0]
        if made in wanted:
            _widen_producer(draft, node, wanted[made])
        elif reads:
            _widen_reader(draft, node, reads[0], wanted[reads[0]])
        current = draft.current(node)
        weighted = is_a(node.op_type, Trait.WEIGHTED) and node.integer("group", 1) == 1
        if made in wanted and reads and weighted:
            _widen_reader(draft, current, reads[0], wanted[reads[0]])


def _widen_producer(draft: Draft, node: Node, channels: int) -> None:
    """More outputs of a node: filters of zeros, neutral constants, another group or shape."""
    old = draft.shape(node.outputs[0])
    if is_a(node.op_type, Trait.CONVOLUTION):
        node = draft.set_constant(node, 1, _padded(draft.constants[node.inputs[1]], output_axis(node), channels, 0))
        if len(node.inputs) > 2 and node.inputs[2]:
            node = draft.set_constant(node, 2, _padded(draft.constants[node.inputs[2]], 0, channels, 0))
        if node.integer("group", 1) != 1:
            draft.change(node, attributes={**node.attributes, "group": channels})
    elif is_a(node.op_type, Trait.WEIGHTED):
        node = draft.set_constant(node, 1, _padded(draft.constants[node.inputs[1]], output_axis(node), channels, 0))
        if len(node.inputs) > 2 and node.inputs[2] and draft.constants[node.inputs[2]].size > 1:
            draft.set_constant(node, 2, _padded(draft.constants[node.inputs[2]], -1, channels, 0))
    elif node.op_type in CHANNELWISE:
        neutral = 1 if is_a(node.op_type, Trait.PRODUCT, Trait.QUOTIENT) else 0
        for position, name in enumerate(node.inputs):
            if name in draft.constants:
                axis_or_none = _channel_axis(draft.constants[name], old, node)
                if axis_or_none is not None:
                    node = draft.set_constant(node, position, _padded(draft.constants[name], axis_or_none, channels, neutral))
    elif node.op_type == "Reshape":
        draft.set_constant(node, 1, np.array([1, channels], np.int64))


def _widen_reader(draft: Draft, node: Node, tensor: str, channels: int) -> None:
    """More inputs of a layer: weights of zero."""
    if node.inputs[0] != tensor or not is_a(node.op_type, Trait.WEIGHTED):
        raise Refusal(f"{node} does not weigh its channels")
    if node.integer("group", 1) != 1:
        raise Refusal(f"{node} has groups")
    draft.set_constant(node, 1, _padded(draft.constants[node.inputs[1]], input_axis(node), channels, 0))


def _padded(value: Array, axis: int, size: int, filling: int) -> Array:
    widths = [(0, 0)] * value.ndim
    widths[axis] = (0, size - value.shape[axis])
    return np.pad(value, widths, constant_values=filling)


def _channel_axis(value: Array, shape: tuple[int, ...], node: Node) -> int | None:
    """The axis of a constant that runs along the channels; None for one value for all of them."""
    sizes = (1,) * (len(shape) - value.ndim) + value.shape
    if len(sizes) != len(shape) or any(size != 1 for axis, size in enumerate(sizes) if axis != 1):
        raise Refusal(f"{node} has a constant that varies within a channel")
    return None if sizes[1] == 1 else 1 - (len(shape) - value.ndim)


def _reduced_axes(draft: Draft, node: Node) -> set[int]:
    if not is_a(node.op_type, Trait.REDUCES):
        return set()
    given = node.integers("axes")
    if given is None and len(node.inputs) > 1 and node.inputs[1] in draft.constants:
        given = tuple(int(item) for item in draft.constants[node.inputs[1]].reshape(-1))
    rank = len(draft.shape(node.inputs[0]))
    return set(range(rank)) if given is None else {axis % rank for axis in given}
