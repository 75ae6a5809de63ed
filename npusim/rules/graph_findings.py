"""Findings on the graph itself and on what the host has to compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from npusim.findings import SourcedFinding
from npusim.graph import Graph
from npusim.graph.traits import FOREIGN_QUANTIZATION, Trait, is_a
from npusim.program import HostOperation, IntegerLayer, MaxPool, Program, QuantizeStage, Step
from npusim.program.lowering.tinpu.chain import node_label

__all__ = [
    "Stage",
    "batch_findings",
    "foreign_findings",
    "graph_findings",
    "host_findings",
    "host_layers",
    "padding_findings",
    "size_findings",
    "stages_of",
]


def graph_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """All findings on a graph."""
    yield from batch_findings(graph)
    yield from size_findings(graph)
    yield from foreign_findings(graph)


def batch_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Inputs whose first axis is not 1."""
    for name in graph.inputs:
        shape = graph.types[name].shape
        if not shape or shape[0] == 1:
            continue
        fixed = isinstance(shape[0], int)
        message = f"input '{name}' has a batch of {shape[0] if fixed else 'any size'}, wanted 1"
        yield SourcedFinding(
            "batch",
            "error" if fixed else "warning",
            None,
            message,
            "export the model with batch 1",
            {"seen": shape[0], "wanted": 1},
            tensor=name,
        )


def size_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Inputs with sizes that the model leaves open."""
    for name in graph.inputs:
        shape = graph.types[name].shape
        open_axes = [] if shape is None else [axis for axis, size in enumerate(shape[1:], 1) if not isinstance(size, int)]
        if shape is not None and not open_axes:
            continue
        where = "its rank" if shape is None else f"axis {', '.join(map(str, open_axes))}"
        message = f"input '{name}' leaves {where} open, wanted fixed sizes"
        remedy = "export the model without dynamic axes"
        yield SourcedFinding("dynamic-shape", "error", None, message, remedy, {"axes": open_axes}, tensor=name)


def foreign_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Nodes of other quantization formats, which are not layers of the NPU."""
    for node in graph.nodes:
        if node.op_type in FOREIGN_QUANTIZATION:
            message = f"{node.op_type} belongs to another quantization format: no layer of the NPU is made of it"
            remedy = "quantize the model with the vendor's wrapper for the NPU instead"
            label = node_label(node)
            yield SourcedFinding("foreign-quantization", "error", label, message, remedy, node=label, tensor=node.outputs[0])


def padding_findings(program: Program) -> Iterator[SourcedFinding]:
    """Maximum pools that pad signed codes: ONNX pads with minus infinity, which no code is."""
    for layer in program.layers:
        if not isinstance(layer, MaxPool):
            continue
        window, codes = layer.window, program.tensors[layer.inputs[0]]
        if any(window.pads) and codes.lower < 0:
            message = (
                f"pads {list(window.pads)} of a maximum of signed codes: ONNX pads with minus infinity, the NPU with 0, "
                f"so that a border window of negative codes only (down to {int(codes.lower)}) gives 0 there"
            )
            remedy = "pool without padding, or put a ReLU in front, whose codes are not negative"
            evidence = {"pads": list(window.pads), "lowest_code": int(codes.lower)}
            yield SourcedFinding(
                "maxpool-padding", "warning", layer.name, message, remedy, evidence, node=layer.nodes[0], tensor=layer.output
            )


_REMEDY: Final = "replace it by a layer of the NPU, or count its time on the host"

_REMEDIES: Final = (
    (Trait.JOINS, "add the branches behind a 1x1 convolution in place of joining them, or count the copy on the host"),
    (Trait.INTERPOLATES, "use a transposed convolution, or count the copy on the host"),
    (Trait.SQUASHES, "put it behind the last layer, in the application: it does not change which output is largest"),
    (Trait.WEIGHTED, "quantize the layer too: it was left in float"),
)


def host_findings(program: Program) -> Iterator[SourcedFinding]:
    """One error for each operation that only the host computes, and one warning for each island of float."""
    if not program.layers:
        message = "the model has no layer in integers: it is not quantized for the NPU"
        remedy = "quantize it with the vendor's wrapper, and export it again"
        yield SourcedFinding("not-quantized", "error", None, message, remedy)
    outside = host_layers(program)
    for step in outside:
        if not (isinstance(step, HostOperation) and step.operator in FOREIGN_QUANTIZATION):
            yield _host_finding(step)
    yield from _islands(program, outside)


def _remedy(operator: str) -> str:
    return next((remedy for trait, remedy in _REMEDIES if is_a(operator, trait)), _REMEDY)


def _host_finding(step: HostOperation | QuantizeStage) -> SourcedFinding:
    if isinstance(step, QuantizeStage):
        message = "float values are quantized to codes in the middle of the network, on the host"
        remedy = "quantize what is in front of it too, so that codes never become float"
        label = step.nodes[0].name or step.name
        return SourcedFinding("host-quantize", "error", step.name, message, remedy, node=label, tensor=step.output)
    message = f"{step.operator} runs on the host: {step.reason}"
    label = step.node.name or step.node.outputs[0]
    return SourcedFinding(
        "host-operation",
        "error",
        step.name,
        message,
        _remedy(step.operator),
        node=label,
        tensor=step.tensors[-1],
    )


def _islands(program: Program, outside: tuple[HostOperation | QuantizeStage, ...]) -> Iterator[SourcedFinding]:
    """Connected operations in float that codes go into and that codes come out of again."""
    for group in _groups(program, outside):
        made = {name for step in group for name in step.tensors}
        codes_in = [name for step in group for name in program.inputs_of(step) if name not in made and _is_codes(program, name)]
        readers = [step for step in program.steps if isinstance(step, IntegerLayer) and made & set(step.inputs)]
        if codes_in and readers:
            names = ", ".join(step.name for step in group)
            message = (
                f"an island of float between integer layers: {names} read codes as float and give codes to '{readers[0].name}'"
            )
            remedy = "quantize these operations too, or move them behind the last layer"
            evidence = {"steps": [step.name for step in group]}
            first = group[0]
            yield SourcedFinding(
                "float-island", "warning", first.name, message, remedy, evidence, node=first.name, tensor=codes_in[0]
            )


def _groups(program: Program, outside: tuple[HostOperation | QuantizeStage, ...]) -> list[list[HostOperation | QuantizeStage]]:
    """Steps that compute in float, joined where one reads what another makes."""
    groups: list[list[HostOperation | QuantizeStage]] = []
    for step in outside:
        if isinstance(step, HostOperation) and all(_is_codes(program, name) for name in step.tensors):
            continue
        read = set(program.inputs_of(step))
        joined = [group for group in groups if any(read & set(other.tensors) for other in group)]
        merged = [other for group in joined for other in group]
        groups = [group for group in groups if group not in joined]
        groups.append([*merged, step])
    return groups


def _is_codes(program: Program, name: str) -> bool:
    return name in program.tensors and program.tensors[name].is_integer


StageRole = Literal["input", "view", "output"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the host computes by design.

    Attributes
    ----------
    step
        The step.
    role
        Why the host computes it.
    """

    json_names: ClassVar[tuple[str, ...]] = ("name", "tensor", "kind", "role")

    step: HostOperation | QuantizeStage
    role: StageRole

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.step.name

    @property
    def tensor(self) -> str:
        """The ONNX tensor that it produces."""
        return self.step.tensors[-1]

    @property
    def kind(self) -> Literal["HOST", "QUANTIZE"]:
        """What it is."""
        return "HOST" if isinstance(self.step, HostOperation) else "QUANTIZE"


def stages_of(program: Program) -> tuple[Stage, ...]:
    """What the host computes in every model."""
    found = []
    before = set(program.inputs)
    for step in program.steps:
        role = _role(step, program, before)
        if role is None or isinstance(step, IntegerLayer):
            continue
        found.append(Stage(step, role))
        if role != "output" and all(name in before for name in program.inputs_of(step)):
            before.update(step.tensors)
    return tuple(found)


def host_layers(program: Program) -> tuple[HostOperation | QuantizeStage, ...]:
    """What the host computes because the NPU does not."""
    by_design = {stage.step.name for stage in stages_of(program)}
    return tuple(step for step in program.steps if not isinstance(step, IntegerLayer) and step.name not in by_design)


def _role(step: Step, program: Program, before: set[str]) -> StageRole | None:
    if isinstance(step, IntegerLayer):
        return None
    at_input = all(name in before for name in program.inputs_of(step))
    if isinstance(step, QuantizeStage):
        return "input" if at_input else None
    if is_a(step.operator, Trait.RESHAPES):
        return "view"
    if at_input and is_a(step.operator, Trait.MOVES) and not is_a(step.operator, Trait.INTERPOLATES, Trait.ELEMENTWISE):
        return "input"
    if is_a(step.operator, Trait.AFFINE, Trait.CONVERTS) and len(program.inputs_of(step)) == 1 and _leads_out(step, program):
        return "output"
    return None


def _leads_out(step: HostOperation, program: Program) -> bool:
    """True where everything behind a step is scaling and views, up to an output of the model."""
    for name in step.tensors:
        readers = [other for other in program.steps if name in program.inputs_of(other)]
        if not readers and name not in map(program.resolve, program.outputs):
            return False
        for reader in readers:
            if not isinstance(reader, HostOperation) or not is_a(reader.operator, Trait.AFFINE, Trait.CONVERTS, Trait.RESHAPES):
                return False
            if not _leads_out(reader, program):
                return False
    return True
