"""A copy of a file of the family that ONNX Runtime takes, for a second opinion: without what ONNX does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from npusim.graph import Array, Graph, Node
from npusim.program.layers import AveragePool
from npusim.program.lowering.match.dialect import is_valid_in_integers, plain_graph, without_types
from npusim.program.lowering.match.input_stage import quantizer_nodes
from npusim.program.program import Program

__all__ = ["RuntimeCopy", "runtime_copy"]

_IN_DOUBLES: Final = frozenset(
    ("Mul", "Add", "Sub", "Div", "Floor", "Identity", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat")
)
"""What ONNX Runtime computes in float64; the rest runs in float32 between casts."""

_FLOAT32, _FLOAT64 = 1, 11


@dataclass(frozen=True, slots=True)
class RuntimeCopy:
    """A graph in float32 that gives the same integers, tensor by tensor.

    Attributes
    ----------
    nodes, constants
        The graph; inputs and outputs are those of the file.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]


def runtime_copy(graph: Graph, program: Program) -> RuntimeCopy | None:
    """What ONNX Runtime is to run in place of a file; None where that is the file itself.

    Annotations are left out. Integers stand in float64, and products in float32, which holds sums up to 2**24. Means and
    quotients are floored where the program's arithmetic does so.

    Parameters
    ----------
    graph
        The graph as read.
    program
        Its program.
    """
    literal = program.arithmetic == "onnx"
    stages = quantizer_nodes(program)
    if literal and is_valid_in_integers(graph) and not stages:
        return None
    if literal:
        plain = plain_graph(graph, program.arithmetic)
        return _behind_stages(RuntimeCopy(plain.nodes, plain.constants), stages, program)
    plain = without_types(graph, bytes_are_signed=True)
    means = {layer.output for layer in program.layers if isinstance(layer, AveragePool)}
    half_up = program.arithmetic == "match_half_up"
    nodes = [part for node in plain.nodes for part in _floored(node, means, program, half_up=half_up)]
    copy = _in_doubles(_floored_clips(nodes), {**plain.constants, _HALF: np.array(0.5)}, plain.inputs, plain.outputs)
    return _behind_stages(copy, stages, program)


def _behind_stages(copy: RuntimeCopy, stages: Mapping[str, tuple[Node, ...]], program: Program) -> RuntimeCopy:
    """The same with the input quantizers of a program in front, in float32; the rest reads their codes."""
    if not stages:
        return copy
    codes = {name: nodes[-1].outputs[0] for name, nodes in stages.items()}
    first = [node for nodes in stages.values() for node in nodes]
    needed = {name: program.constants[name] for node in first for name in node.inputs if name in program.constants}
    rest = [replace(node, inputs=tuple(codes.get(name, name) for name in node.inputs)) for node in copy.nodes]
    return RuntimeCopy((*first, *rest), {**copy.constants, **needed})


_HALF: Final = "npusim/half"


def _floored(node: Node, means: set[str], program: Program, *, half_up: bool) -> Iterator[Node]:
    """A node with a floor behind it where its result is a mean or a quotient that the program holds in integers."""
    name = node.outputs[0]
    held = program.tensors.get(name)
    if name not in means and not (node.op_type == "Div" and held is not None and held.is_integer):
        yield node
        return
    inner = f"{name}/real"
    yield replace(node, outputs=(inner,))
    if half_up and name in means:
        yield Node("Add", f"{name}/half", (inner, _HALF), (f"{name}/raised",), {})
        inner = f"{name}/raised"
    yield Node("Floor", f"{name}/floor", (inner,), (name,), {})


def _floored_clips(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes, with a floor in front of each saturation of a quotient: NEMO writes none."""
    quotients = set()
    for node in nodes:
        if node.op_type == "Div" or (node.op_type == "Identity" and node.inputs[0] in quotients):
            quotients.add(node.outputs[0])
        if node.op_type != "Clip" or node.inputs[0] not in quotients:
            yield node
            continue
        whole = f"{node.inputs[0]}/whole"
        yield Node("Floor", f"{whole}/floor", (node.inputs[0],), (whole,), {})
        yield replace(node, inputs=(whole, *node.inputs[1:]))


def _in_doubles(
    nodes: Iterable[Node], constants: Mapping[str, Array], inputs: Sequence[str], outputs: Sequence[str]
) -> RuntimeCopy:
    """Nodes in float64, with casts around those that run in float32; inputs and outputs of the graph are float32."""
    made = dict(constants)
    found = [Node("Cast", f"{name}/cast", (name,), (_wide(name),), {"to": _FLOAT64}) for name in inputs]
    for node in nodes:
        value = node.attributes.get("value")
        if isinstance(value, np.ndarray) and not node.inputs:
            made[node.outputs[0]] = value
            continue
        names = tuple(_wide(name) if name in inputs else name for name in node.inputs)
        if node.op_type in _IN_DOUBLES:
            found.append(replace(node, inputs=names))
        else:
            found.extend(_in_floats(node, names, made))
    last = {name: f"{name}/wide" for name in outputs}
    turned = [
        replace(
            node,
            name="",
            inputs=tuple(last.get(name, name) for name in node.inputs),
            outputs=tuple(last.get(name, name) for name in node.outputs),
        )
        for node in found
    ]
    turned += [Node("Cast", f"{name}/last", (wide,), (name,), {"to": _FLOAT32}) for name, wide in last.items()]
    return RuntimeCopy(tuple(turned), made)


def _in_floats(node: Node, names: Sequence[str], made: dict[str, Array]) -> Iterator[Node]:
    operands = []
    for name in names:
        constant = made.get(name)
        if not name or (constant is not None and constant.dtype.kind != "f"):
            operands.append(name)
            continue
        narrow = f"{name}/{node.outputs[0]}/float32"
        if constant is not None:
            made[narrow] = constant.astype(np.float32)
        else:
            yield Node("Cast", narrow, (name,), (narrow,), {"to": _FLOAT32})
        operands.append(narrow)
    results = tuple(f"{name}/float32" for name in node.outputs)
    yield replace(node, inputs=tuple(operands), outputs=results)
    for narrow, name in zip(results, node.outputs, strict=True):
        yield Node("Cast", f"{name}/cast", (narrow,), (name,), {"to": _FLOAT64})


def _wide(name: str) -> str:
    return f"{name}/wide_input"
