"""From a folded graph whose codes have scales and zero points to the integer program: QDQ, QOperator, and mixtures of both.

The graph is walked once to learn which tensors hold codes and which real numbers codes stand for; each layer found is given to
the arithmetic. Float operations between codes that became a layer are left out unless something else reads their results; what
became no layer runs as the graph says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.graph import Graph, Node, TensorType
from npusim.graph.foreign import CONCAT_STEP, FOREIGN_OPERATORS
from npusim.graph.ranges import UNKNOWN, ValueRange, range_of_codes, range_of_constant, range_of_input, range_of_outputs
from npusim.graph.traits import Trait, is_a
from npusim.kernels.requantize import codes_dtype
from npusim.program.layers import IntegerLayer
from npusim.program.lowering.affine import AffineForm, AffineTensor
from npusim.program.lowering.aliases import remove_aliases
from npusim.program.lowering.arithmetic import Arithmetic, LeftInFloat
from npusim.program.lowering.batching import generalise_batch
from npusim.program.lowering.operands import CODES_OF, NotAffine, Scene, label_of
from npusim.program.lowering.qdq import read_maximum, read_quantized
from npusim.program.lowering.qoperator import FUSED_OPERATORS, read_fused
from npusim.program.program import HostOperation, Program, Step, Tensor
from npusim.program.requantization import Clip

__all__ = ["is_quantized", "lower_quantized"]

INTEGER_OPERATORS: Final = frozenset(("ConvInteger", "MatMulInteger"))
"""Operators on codes whose results are sums."""

CODE_TYPES: Final = ("uint8", "int8", "uint16", "int16", "int32")


def is_quantized(graph: Graph) -> str | None:
    """``"qoperator"`` or ``"qdq"`` where a graph as read is in one of these formats, None for any other."""
    found = {node.op_type for node in graph.nodes}
    if found & (set(FUSED_OPERATORS) | INTEGER_OPERATORS):
        return "qoperator"
    return "qdq" if found & {"QuantizeLinear", "DequantizeLinear"} else None


def lower_quantized(graph: Graph, arithmetic: Arithmetic, format_name: str) -> Program:
    """Lower a folded graph with static types to a program.

    Parameters
    ----------
    graph
        A graph from :func:`npusim.graph.folding.fold`; the batch axis has size 1 or the declared size.
    arithmetic
        How layers are computed.
    format_name
        From :func:`is_quantized`.

    Raises
    ------
    UnsupportedError
        If the arithmetic has no formula for a layer.
    """
    plain, aliases = remove_aliases(graph)
    general, batching = generalise_batch(_on_reals(plain))
    executed = {node.outputs: node for node in general.nodes}
    walk = _Walk(Scene.of(plain), arithmetic, executed)
    for node in plain.nodes:
        walk.take(node)
    steps = walk.steps()
    tensors = walk.tensors(steps)
    tensors.update({name: replace(tensors[target], name=name) for name, target in aliases.items() if target in tensors})
    names = (plain.inputs, graph.outputs if not aliases else plain.outputs)
    return Program(
        names[0],
        names[1],
        steps,
        tensors,
        general.constants,
        aliases,
        plain.opset,
        batching,
        format=format_name,
        arithmetic=arithmetic.name,
    )


@dataclass
class _Found:
    """What became of a node.

    Attributes
    ----------
    layer
        A layer that gives its result in codes.
    twin
        The same operation on codes, for those who read these.
    reason
        Why it is not a layer.
    """

    node: Node
    layer: IntegerLayer | None = None
    twin: IntegerLayer | HostOperation | None = None
    reason: str = ""


@dataclass
class _Walk:
    """The state of one walk over the graph."""

    scene: Scene
    arithmetic: Arithmetic
    executed: Mapping[tuple[str, ...], Node]
    found: list[_Found] = field(default_factory=list)
    done: set[tuple[str, ...]] = field(default_factory=set)
    clips: dict[str, Clip] = field(default_factory=dict)

    def take(self, node: Node) -> None:
        """Find out what becomes of a node."""
        if node.outputs in self.done:
            return
        try:
            self.found.append(self._taken(node))
        except (NotAffine, LeftInFloat) as finding:
            self._learn(node)
            self.found.append(_Found(node, reason=str(finding)))

    def _taken(self, node: Node) -> _Found:
        scene = self.scene
        if node.op_type in FUSED_OPERATORS:
            return self._layer(node, read_fused(scene, node))
        if node.op_type == "QuantizeLinear":
            return self._layer(node, read_quantized(scene, node))
        if node.op_type == "DequantizeLinear":
            source = scene.source(node.inputs[0], node, 1, 2)
            scene.real[node.outputs[0]] = source
            return _Found(node)
        if self._keeps_codes(node):
            return self._moved(node)
        raise NotAffine("")

    def _layer(self, node: Node, form: AffineForm) -> _Found:
        layer = self.arithmetic.layer(form)
        self.scene.codes[node.outputs[0]] = form.result
        self.clips[node.outputs[0]] = form.activation.clip(form.result)
        return _Found(node, layer)

    def _learn(self, node: Node) -> None:
        """Note what codes stand for that a host operation gives."""
        try:
            if node.op_type == "QuantizeLinear":
                self.scene.codes[node.outputs[0]] = self.scene.described(node.outputs[0], node, 1, 2)
            elif node.op_type in FUSED_OPERATORS:
                result = FOREIGN_OPERATORS[node.op_type].result if node.op_type in FOREIGN_OPERATORS else 7
                described = self.scene.described(node.outputs[0], node, result - 1, result)
                self.scene.codes[node.outputs[0]] = described
        except NotAffine:
            return

    def _keeps_codes(self, node: Node) -> bool:
        """True for what moves data, and for maxima over windows: the same numbers at other places."""
        if node.op_type == "Resize":
            return node.text("mode", "nearest") == "nearest"
        return node.op_type == "MaxPool" or (is_a(node.op_type, Trait.MOVES) and node.op_type not in ("Pad", "Where"))

    def _moved(self, node: Node) -> _Found:
        scene = self.scene
        variable = [name for name in node.inputs if name and scene.constant(name) is None]
        on_codes = [scene.codes[name] for name in variable if name in scene.codes]
        sources = on_codes or [scene.real[name] for name in variable if name in scene.real]
        if not variable or len(sources) != len(variable) or not all(sources[0].with_codes_of(part) for part in sources):
            raise NotAffine("")
        if on_codes:
            moved = {name: sources[0].renamed(name, scene.shape(name)) for name in node.outputs if name}
            scene.codes.update(moved)
            if node.op_type == "MaxPool":
                return self._layer(node, read_maximum(node, sources[0], moved[node.outputs[0]]))
            return _Found(node)
        return self._twin(node, variable, sources)

    def _twin(self, node: Node, variable: list[str], sources: list[AffineTensor]) -> _Found:
        """The same operation on the codes behind real numbers, for layers that read its result."""
        scene = self.scene
        names = {name: self._twin_name(name, sources[0]) for name in node.outputs if name}
        moved = {name: sources[0].renamed(twin, scene.shape(name)) for name, twin in names.items()}
        scene.real.update(moved)
        scene.codes.update({part.name: part for part in moved.values()})
        if node.op_type == "MaxPool":
            return _Found(node, twin=self.arithmetic.layer(read_maximum(node, sources[0], moved[node.outputs[0]])))
        renamed = dict(zip(variable, (part.name for part in sources), strict=True))
        run = self.executed[node.outputs]
        twin = replace(
            run,
            inputs=tuple(renamed.get(name, name) for name in run.inputs),
            outputs=tuple(names.get(name, name) for name in run.outputs),
        )
        return _Found(node, twin=HostOperation(label_of(node), node.op_type, twin, MOVES))

    def _twin_name(self, name: str, source: AffineTensor) -> str:
        """The tensor of codes: the one that a QuantizeLinear makes of the same scale, else one that the graph does not have."""
        readers = self.scene.readers.get(name, [])
        for reader in readers:
            if reader.op_type == "QuantizeLinear" and reader.inputs[0] == name and reader.outputs not in self.done:
                try:
                    result = self.scene.described(reader.outputs[0], reader, 1, 2)
                except NotAffine:
                    continue
                if source.with_codes_of(result):
                    self.done.add(reader.outputs)
                    return reader.outputs[0]
        return CODES_OF.format(name)

    def steps(self) -> tuple[Step, ...]:
        """What runs, in order: layers, and host operations whose results are read."""
        wanted = set(self.scene.graph.outputs)
        kept: list[Step] = []
        for found in reversed(self.found):
            kept.extend(self._kept(found, wanted))
        return _unique_names(tuple(reversed(kept)))

    def _kept(self, found: _Found, wanted: set[str]) -> Iterator[Step]:
        """The steps that a node became and that something reads, the last one first; what they read is wanted then."""
        node = found.node
        if found.layer is not None:
            if found.layer.output in wanted:
                wanted.update(found.layer.inputs)
                yield found.layer
            return
        if wanted.intersection(node.outputs):
            run = self.executed[node.outputs] if self._is_standard(node) else node
            wanted.update(name for name in run.inputs if name)
            yield HostOperation(label_of(node), node.op_type, run, _reason(found))
        if found.twin is not None and wanted.intersection(found.twin.tensors):
            wanted.update(found.twin.inputs if isinstance(found.twin, IntegerLayer) else found.twin.node.inputs)
            yield found.twin

    def _is_standard(self, node: Node) -> bool:
        """True where a node was not replaced to find out how samples go through it."""
        return self.executed[node.outputs].op_type == node.op_type or node.op_type in ("Flatten", "Squeeze", "Unsqueeze")

    def tensors(self, steps: tuple[Step, ...]) -> dict[str, Tensor]:
        """Every tensor that can be asked for."""
        graph, codes = self.scene.graph, self.scene.codes
        ranges = {name: range_of_input(graph.types[name]) for name in graph.inputs}
        tensors = {name: self._tensor(name, graph.types[name], ranges[name]) for name in graph.inputs}
        for name in sorted(graph.folded):
            value = graph.constants[name]
            fixed = range_of_constant(value)
            tensors[name] = Tensor(name, value.shape, value.dtype, value.dtype, fixed.lower, fixed.upper, fixed.nan)
        for step in steps:
            if isinstance(step, HostOperation):
                known = self._ranges_of(step, ranges)
            else:
                clip, point = self.clips.get(step.tensors[-1]), int(codes[step.tensors[-1]].zero_point[0])
                part = codes[step.tensors[-1]]
                ends = (part.lower, part.upper) if clip is None else (clip.lower + point, clip.upper + point)
                known = (range_of_codes(*ends),)
            for name, value_range in zip(step.tensors, known, strict=False):
                kind = graph.types.get(name) or _type_of(codes[name])
                ranges[name] = value_range
                tensors[name] = self._tensor(name, kind, value_range)
        return tensors

    def _ranges_of(self, step: HostOperation, ranges: Mapping[str, ValueRange]) -> tuple[ValueRange, ...]:
        held = [self.scene.codes.get(name) for name in step.tensors]
        if all(part is not None for part in held):
            return tuple(range_of_codes(part.lower, part.upper) for part in held if part is not None)
        if any(name not in self.scene.graph.types for name in (*step.node.inputs, *step.tensors) if name):
            return tuple(UNKNOWN for _ in step.tensors)
        return range_of_outputs(step.node, ranges, self.scene.graph)

    def _tensor(self, name: str, kind: TensorType, known: ValueRange) -> Tensor:
        part = self.scene.codes.get(name)
        if part is None:
            whole = kind.dtype.kind == "f" and known.is_codes and name not in self.scene.graph.inputs
            stored = codes_dtype(int(known.lower), int(known.upper)) if whole else kind.dtype
            limits = (
                (-np.inf, np.inf) if kind.dtype.kind == "f" and name in self.scene.graph.inputs else (known.lower, known.upper)
            )
            return Tensor(name, kind.static_shape, kind.dtype, stored, *limits, known.nan, known.negative_zero)
        point = int(part.zero_point[0])
        lower, upper = max(int(known.lower), part.lower) - point, min(int(known.upper), part.upper) - point
        stored = _held_type(part.lower - point, part.upper - point)
        scale = float(part.scale[0])
        return Tensor(name, kind.static_shape, kind.dtype, stored, lower, upper, scale=scale, zero_point=point)


MOVES: Final = "it only moves or repeats codes"


def _reason(found: _Found) -> str:
    if found.reason:
        return f"{found.reason}; it runs as the graph says"
    if is_a(found.node.op_type, Trait.MOVES):
        return MOVES
    return "it leads from codes to real numbers" if found.node.op_type == "DequantizeLinear" else "it runs as the graph says"


def _unique_names(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    seen: dict[str, int] = {}
    for step in steps:
        seen[step.name] = seen.get(step.name, 0) + 1
    return tuple(step if seen[step.name] == 1 else replace(step, name=f"{step.name}:{step.tensors[-1]}") for step in steps)


def _held_type(lower: int, upper: int) -> np.dtype[np.generic]:
    """The smallest type that holds a range of centred codes."""
    for name in ("uint8", "int8", "int16", "int32"):
        limits = np.iinfo(name)
        if limits.min <= lower and upper <= limits.max:
            return np.dtype(name)
    return np.dtype(np.int64)


def _type_of(part: AffineTensor) -> TensorType:
    """The type of codes that the graph has no tensor for."""
    name = next(name for name in CODE_TYPES if np.iinfo(name).min <= part.lower and part.upper <= np.iinfo(name).max)
    return TensorType(np.dtype(name), part.shape)


def _on_reals(graph: Graph) -> Graph:
    """The graph with every operator on codes replaced by the one on real numbers that has the same axes."""
    return replace(graph, nodes=tuple(_counterpart(node) for node in graph.nodes))


_STANDARD: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "QLinearConv": ("Conv", (0, 3)),
    "ConvInteger": ("Conv", (0, 1)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    "MatMulInteger": ("MatMul", (0, 1)),
}


def _counterpart(node: Node) -> Node:
    op_type, places = _STANDARD.get(node.op_type, ("", ()))
    if node.op_type in FOREIGN_OPERATORS and FOREIGN_OPERATORS[node.op_type].op_type:
        counterpart = FOREIGN_OPERATORS[node.op_type]
        op_type, places = counterpart.op_type, counterpart.operands
        if op_type == "Concat":
            places = tuple(range(places[0], len(node.inputs), CONCAT_STEP))
    if not op_type:
        return node
    return Node(op_type, node.name, tuple(node.inputs[place] for place in places), node.outputs, node.attributes)
