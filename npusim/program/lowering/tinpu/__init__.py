"""From a folded graph to the integer program: the only place that knows the patterns exporters write.

Every exporter's dialect is read into the same few layers. What is almost a layer stays a host operation and runs exactly as
the graph says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Graph, Node, TensorType
from npusim.graph.ranges import (
    EXACT_FLOAT32,
    UNKNOWN,
    ValueRange,
    range_of_codes,
    range_of_constant,
    range_of_input,
    range_of_outputs,
)
from npusim.graph.traits import Trait, is_a
from npusim.kernels.requantize import codes_dtype
from npusim.program.direct import Table
from npusim.program.input_stage import InputStage, device_stage, parameters_of
from npusim.program.intervals import Interval, layer_bounds
from npusim.program.layers import Accumulating, IntegerLayer
from npusim.program.lowering.aliases import remove_aliases
from npusim.program.lowering.batching import generalise_batch
from npusim.program.lowering.tinpu.chain import ChainReader, node_label, read_chain
from npusim.program.lowering.tinpu.layers import WEIGHTED, recognise_weighted_layer
from npusim.program.lowering.tinpu.pools import POOLS, recognise_pool
from npusim.program.lowering.tinpu.quantize_stage import recognise_quantize_stage
from npusim.program.lowering.tinpu.residual import fuse_pointwise_residuals, recognise_residual
from npusim.program.lowering.tinpu.signs import signs_that_matter
from npusim.program.lowering.tinpu.view import NotALayer, View
from npusim.program.program import HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import INT32
from npusim.program.taps import Tap

__all__ = ["Dialect", "lower"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an exporter writes layers.

    Attributes
    ----------
    read
        Reads what stands between an accumulator and its codes.
    mean
        Reads an average that is not written as a pool of the NPU; None where there are no others.
    rescaling
        Reads what makes codes of codes without a sum; None where that is left to the host.
    """

    read: ChainReader = read_chain
    mean: Callable[[View, Node, ValueRange], tuple[IntegerLayer, tuple[Node, ...]]] | None = None
    rescaling: Callable[[View, Node, ValueRange], tuple[IntegerLayer, tuple[Node, ...]]] | None = None


def lower(
    graph: Graph,
    *,
    dialect: Dialect | None = None,
    inputs: Mapping[str, ValueRange] | None = None,
    input_stage: InputStage = InputStage.GRAPH,
) -> Program:
    """Lower a folded graph with static types to a program.

    Parameters
    ----------
    graph
        A graph from :func:`npusim.graph.folding.fold`; the batch axis has size 1 or the declared size.
    dialect
        How the graph's exporter writes layers; by default as those of the NPU do.
    inputs
        Ranges of inputs that hold codes although they are declared float.
    input_stage
        Whose implementation makes codes of the model's inputs.

    Returns
    -------
    Program
        Every node of the graph is part of exactly one step.

    Raises
    ------
    UnsupportedError
        If a stage that makes codes of an input has no such implementation.
    """
    plain, aliases = remove_aliases(graph)
    general, batching = generalise_batch(plain)
    executed = {node.outputs: node for node in general.nodes}
    signed = signs_that_matter(plain)
    ranges = {name: range_of_input(plain.types[name]) for name in plain.inputs} | dict(inputs or {})
    lowering = _Lowering(View.of(plain), ranges, signed, Dialect() if dialect is None else dialect, input_stage)
    for node in plain.nodes:
        if node.outputs not in lowering.taken:
            lowering.take(node, executed[node.outputs])
    steps = _unique_names(fuse_pointwise_residuals(lowering.steps, lowering.view))
    tensors = _tensors(plain, steps, lowering.ranges, signed)
    tensors.update({name: replace(tensors[target], name=name) for name, target in aliases.items() if target in tensors})
    return Program(plain.inputs, graph.outputs, steps, tensors, general.constants, aliases, plain.opset, batching)


@dataclass
class _Lowering:
    """The state of one walk over the graph."""

    view: View
    ranges: dict[str, ValueRange]
    signed: frozenset[str]
    dialect: Dialect
    input_stage: InputStage
    steps: list[Step] = field(default_factory=list)
    taken: set[tuple[str, ...]] = field(default_factory=set)
    blame: dict[tuple[str, ...], str] = field(default_factory=dict)
    taps: set[str] = field(default_factory=set)

    def take(self, node: Node, executed: Node) -> None:
        """Append the step that starts at a node."""
        try:
            step, nodes = self.recognise(node)
        except NotALayer as finding:
            self._leave_on_host(node, executed, finding)
            return
        handed_out = [part.outputs[0] for part in nodes if part.outputs[0] != step.output and self._is_handed_out(part, nodes)]
        if not self.signed.isdisjoint(handed_out):
            self._leave_on_host(
                node, executed, NotALayer("a sign of zero of its inner tensors matters, which codes have not", nodes)
            )
            return
        if isinstance(step, Accumulating):
            taps = tuple(replace(tap, handed_out=True) if tap.tensor in handed_out else tap for tap in step.taps)
            step = replace(step, taps=taps)
            self.ranges.update({tap.tensor: self._range_of_tap(tap) for tap in taps if tap.handed_out})
            self.taps.update(tap.tensor for tap in taps)
        if (
            isinstance(step, QuantizeStage)
            and self.input_stage is not InputStage.GRAPH
            and step.input in self.view.graph.inputs
        ):
            known = parameters_of(step, self.view.constant, self.view.shape, handed_out=bool(handed_out))
            step = device_stage(step, self.input_stage, known)
        self.steps.append(step)
        self.taken.update(part.outputs for part in nodes)
        self.ranges[step.output] = self._range_of(step)

    def _as_device(self, stage: QuantizeStage, *, handed_out: bool) -> QuantizeStage:
        """A stage as the device that is asked for computes it, where it makes codes of an input."""
        if self.input_stage is InputStage.GRAPH or stage.input not in self.view.graph.inputs:
            return stage
        known = parameters_of(stage, self.view.constant, self.view.shape, handed_out=handed_out)
        return device_stage(stage, self.input_stage, known)

    def _is_handed_out(self, part: Node, nodes: Sequence[Node]) -> bool:
        """Whether a node's result is an output of the model, or is read outside of these nodes."""
        name, own = part.outputs[0], {other.outputs for other in nodes}
        return name in self.view.graph.outputs or any(reader.outputs not in own for reader in self.view.readers_of(name))

    def _range_of_tap(self, tap: Tap) -> ValueRange:
        """What is known of an inner tensor that others read: little, but that it is a number, and whether it is whole."""
        clip = tap.saturation
        if clip is not None and clip.lower >= -EXACT_FLOAT32 and clip.upper <= EXACT_FLOAT32:
            return range_of_codes(clip.lower, clip.upper)
        return ValueRange(-np.inf, np.inf, tap.is_whole, negative_zero=True)

    def recognise(self, node: Node) -> tuple[IntegerLayer | QuantizeStage, tuple[Node, ...]]:
        """Read a layer or a quantize stage that starts at a node."""
        view, source = self.view, self.ranges.get(node.inputs[0], UNKNOWN) if node.inputs else UNKNOWN
        if any(view.graph.types[name].dtype == np.float16 for name in (*node.inputs, *node.outputs) if name):
            raise NotALayer("it computes in float16, which rounds integers past 2048; export the model in float32", (node,))
        if node.op_type in WEIGHTED:
            return recognise_weighted_layer(view, node, source, self.dialect.read)
        if node.op_type in POOLS:
            return self._recognise_pool(node, source)
        if node.outputs in self.blame:
            raise NotALayer("")
        variable = [name for name in node.inputs if name and view.constant(name) is None]
        if node.op_type == "Add" and len(variable) == 2:
            return recognise_residual(view, node, self.ranges, self.dialect.read)
        # a stage takes floats: inner tensors of layers are integers
        if any(name in self.taps for name in variable):
            raise NotALayer("")
        if self.dialect.rescaling is not None and len(variable) == 1:
            known = self.ranges.get(variable[0], UNKNOWN)
            if known.is_codes:
                return self.dialect.rescaling(view, node, known)
        starts_at_input = variable[:1] and variable[0] in view.graph.inputs
        if len(variable) == 1 and (starts_at_input or not self.ranges.get(variable[0], UNKNOWN).is_codes):
            stage, nodes = recognise_quantize_stage(view, node)
            if stage.output not in self.signed:
                return stage, nodes
        raise NotALayer("")

    def _recognise_pool(self, node: Node, source: ValueRange) -> tuple[IntegerLayer, tuple[Node, ...]]:
        try:
            return recognise_pool(self.view, node, source)
        except NotALayer:
            if self.dialect.mean is None:
                raise
            return self.dialect.mean(self.view, node, source)

    def _leave_on_host(self, node: Node, executed: Node, finding: NotALayer) -> None:
        reason = self.blame.get(node.outputs) or _reason(node, finding)
        for part in finding.nodes:
            if part is not node:
                self.blame.setdefault(part.outputs, f"it belongs to {node}, which is not a layer of the NPU: {finding.reason}")
        self.steps.append(HostOperation(node_label(node), node.op_type, executed, reason))
        found = range_of_outputs(node, self.ranges, self.view.graph)
        self.ranges.update({name: value for name, value in zip(node.outputs, found, strict=False) if name})
        types = self.view.graph.types
        if any(types[name].dtype == np.float16 for name in (*node.inputs, *node.outputs) if name):
            self.ranges.update({name: UNKNOWN for name in node.outputs if name and types[name].dtype.kind == "f"})

    def _range_of(self, step: IntegerLayer | QuantizeStage) -> ValueRange:
        if isinstance(step, QuantizeStage):
            return range_of_codes(step.codes_range.lower, step.codes_range.upper)
        if isinstance(step, Table):
            return range_of_codes(int(step.values.min()), int(step.values.max()))
        if not isinstance(step, Accumulating):
            return self.ranges[step.inputs[0]]
        if step.output_clip == INT32:
            return self._range_of_sums(step)
        return range_of_codes(step.output_clip.lower, step.output_clip.upper)

    def _range_of_sums(self, step: Accumulating) -> ValueRange:
        """What a layer can give that nothing saturates."""
        known = [self.ranges[name] for name in step.inputs]
        boxes = [
            Interval(np.full(self.view.shape(name), int(one.lower)), np.full(self.view.shape(name), int(one.upper)))
            for name, one in zip(step.inputs, known, strict=True)
        ]
        lower, upper = (int(end) for end in layer_bounds(step, tuple(boxes)).floored.hull)
        if lower < INT32.lower or upper > INT32.upper:
            raise UnsupportedError(
                f"layer '{step.name}' can give values from {lower} to {upper}, beyond int32, and nothing saturates them: add a "
                "clip behind it, or quantize to fewer bits"
            )
        return range_of_codes(lower, upper)


def _reason(node: Node, finding: NotALayer) -> str:
    if node.op_type in WEIGHTED or node.op_type in POOLS:
        return f"no layer of the NPU: {finding.reason}"
    if is_a(node.op_type, Trait.MOVES) and not is_a(node.op_type, Trait.ELEMENTWISE):
        return "it only moves or repeats data; no layer type of the NPU does that"
    return "no layer type of the NPU computes it; the host does, in the graph's element type"


def _unique_names(steps: Iterable[Step]) -> tuple[Step, ...]:
    listed = tuple(steps)
    count = Counter(step.name for step in listed)
    return tuple(step if count[step.name] == 1 else replace(step, name=f"{step.name}:{step.tensors[-1]}") for step in listed)


def _tensors(
    graph: Graph, steps: Iterable[Step], ranges: Mapping[str, ValueRange], signed: frozenset[str]
) -> dict[str, Tensor]:
    tensors = {}
    for name in graph.inputs:
        kind = graph.types[name]
        # whether a float is a number at all is checked when it comes in, and so are codes
        is_open = kind.dtype.kind == "f" and not ranges[name].is_codes
        tensors[name] = _tensor(name, kind, replace(ranges[name], lower=-np.inf, upper=np.inf) if is_open else ranges[name])
    for name in sorted(graph.folded | (set(graph.outputs) & graph.constants.keys())):
        value = graph.constants[name]
        known = range_of_constant(value)
        tensors[name] = Tensor(name, value.shape, value.dtype, value.dtype, known.lower, known.upper, known.nan)
    for step in steps:
        for name in step.tensors:
            found = _tensor(name, graph.types[name], ranges.get(name, UNKNOWN))
            # codes have one zero only
            keeps_sign = isinstance(step, HostOperation) and name in signed and found.negative_zero
            tensors[name] = replace(found, stored=found.dtype) if keeps_sign else found
        if isinstance(step, Accumulating):
            tensors.update({tap.tensor: _tap_tensor(tap, graph.types[tap.tensor]) for tap in step.taps})
    return tensors


def _tensor(name: str, kind: TensorType, known: ValueRange) -> Tensor:
    """A tensor, held in the type of its codes where it is proven to hold integers, else in the graph's own."""
    if kind.dtype == np.float16:
        return Tensor(name, kind.static_shape, kind.dtype, np.dtype(np.float32), -np.inf, np.inf, True, True)
    codes = kind.dtype.kind == "f" and known.is_codes
    stored = codes_dtype(int(known.lower), int(known.upper)) if codes else kind.dtype
    return Tensor(name, kind.static_shape, kind.dtype, stored, known.lower, known.upper, known.nan, known.negative_zero)


def _tap_tensor(tap: Tap, kind: TensorType) -> Tensor:
    if not tap.is_whole:
        return Tensor(tap.tensor, kind.static_shape, kind.dtype, kind.dtype, -np.inf, np.inf)
    clip = tap.saturation
    if clip is not None and clip.lower > -(2**31) and clip.upper < 2**31:
        return _tensor(tap.tensor, kind, range_of_codes(clip.lower, clip.upper))
    return Tensor(tap.tensor, kind.static_shape, kind.dtype, np.dtype(np.int64), -np.inf, np.inf)
