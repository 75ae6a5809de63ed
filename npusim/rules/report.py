"""Everything that lint says about a model on a device, in one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from npusim.engine.planning import plan
from npusim.errors import UnsupportedError
from npusim.findings import SourcedFinding
from npusim.graph import Graph
from npusim.graph.model_file import ModelFile
from npusim.graph.model_reader import read_model
from npusim.program import HostOperation, IntegerLayer, Program, Step, weight_bits_of
from npusim.program.trace import StepKind, step_kind
from npusim.rules.conditions import failed_checks
from npusim.rules.cost import Memory, StepCost, peak_memory, step_cost
from npusim.rules.dialects import dialect_findings
from npusim.rules.findings import layer_findings
from npusim.rules.graph_findings import (
    Stage,
    graph_findings,
    host_findings,
    host_layers,
    padding_findings,
    stages_of,
)
from npusim.rules.layer_properties import layer_line, layer_properties, reason_line
from npusim.rules.layer_verdict import LayerVerdict, Placement, judge_layer, remedy_of
from npusim.rules.match_findings import match_findings
from npusim.rules.recognition import is_for_npu, recognition_findings
from npusim.rules.rulebook import Rulebook, Source
from npusim.schemas.derivation import Count

__all__ = ["LintReport", "LintedLayer", "lint_graph", "lint_model"]


@dataclass(frozen=True, slots=True)
class LintedLayer:
    """A layer of the network, or an operation that only the host computes, and its verdict.

    Attributes
    ----------
    step
        The layer, or the host operation that is none.
    verdict
        npu only where no rule is broken and a public document covers the layer.
    judgement
        Rules and properties; None for host operations.
    line
        The layer in the shape of the vendor's compiler warnings.
    compiler_message
        What that compiler says of its channels.
    cost
        Multiply-accumulates and memory.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name", "tensor", "kind", "operator", "nodes", "verdict", "rule", "source", "broken_rules"),
        *("line", "compiler_message", "weight_bits", "multiply_accumulates=cost.multiply_accumulates"),
        *("parameter_bytes=cost.parameter_bytes", "output_bytes=cost.output_bytes"),
    )

    step: Step
    verdict: Placement
    judgement: LayerVerdict | None
    line: str | None
    compiler_message: str | None
    cost: StepCost

    @property
    def name(self) -> str:
        """Name of the layer or operation."""
        return self.step.name

    @property
    def tensor(self) -> str:
        """The ONNX tensor that it produces."""
        return self.step.tensors[-1]

    @property
    def kind(self) -> StepKind:
        """Kind of layer, QUANTIZE or HOST."""
        return step_kind(self.step)

    @property
    def operator(self) -> str | None:
        """ONNX operator of a host operation."""
        return self.step.operator if isinstance(self.step, HostOperation) else None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ONNX nodes it stands for."""
        return self.step.nodes if isinstance(self.step, IntegerLayer) else (self.step.name,)

    @property
    def rule(self) -> str:
        """The rule or the covered configuration that decides; not-covered where there is none."""
        if self.judgement is None:
            if isinstance(self.step, IntegerLayer):
                return "other-format"
            return "host-operation" if isinstance(self.step, HostOperation) else "host-quantize"
        deciding = self.judgement.deciding
        return "not-covered" if deciding is None else deciding.id

    @property
    def source(self) -> Source | None:
        """The document behind it."""
        deciding = None if self.judgement is None else self.judgement.deciding
        return None if deciding is None else deciding.source

    @property
    def broken_rules(self) -> tuple[str, ...]:
        """Names of the rules that the layer breaks."""
        return () if self.judgement is None else tuple(item.rule.id for item in self.judgement.broken)

    @property
    def weight_bits(self) -> Count | None:
        """Inferred from the weights."""
        return weight_bits_of(self.step)


@dataclass(frozen=True, slots=True)
class LintReport:
    """What lint says about a model.

    Attributes
    ----------
    book
        The rules.
    program
        None where sizes that the model leaves open, or foreign operators, keep it from being planned.
    layers
        In execution order, without the stages.
    stages
        What the host computes by design.
    findings
        In the order of the layers.
    memory
        Peak of live tensors.
    parameter_bytes
        Of all steps.
    """

    book: Rulebook
    program: Program | None
    layers: tuple[LintedLayer, ...]
    stages: tuple[Stage, ...]
    findings: tuple[SourcedFinding, ...]
    memory: Memory | None
    parameter_bytes: int

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def verdicts(self, placement: Placement) -> int:
        """Number of layers with a verdict."""
        return sum(layer.verdict is placement for layer in self.layers)

    @property
    def multiply_accumulates(self) -> int:
        """Of all layers for one sample."""
        return sum(layer.cost.multiply_accumulates for layer in self.layers)

    @property
    def npu_share(self) -> float | None:
        """Share of the multiply-accumulates whose layers are proven to run on the NPU; None where there are none."""
        total = self.multiply_accumulates
        npu = sum(layer.cost.multiply_accumulates for layer in self.layers if layer.verdict is Placement.NPU)
        return npu / total if total else None

    def is_ok(self, *, strict: bool = False) -> bool:
        """Whether nothing is wrong: no error, and with `strict` no warning either."""
        return not self.count("error") and not (strict and self.count("warning"))


def lint_model(model: ModelFile, book: Rulebook, arithmetic: str | None = None) -> LintReport:
    """Hold a model against the rules of a device.

    Parameters
    ----------
    model
        The file.
    book
        The rules.
    arithmetic
        How integer layers are computed; None for the default of the model's format.

    Raises
    ------
    ModelError
        If the file cannot be read.
    UnsupportedError
        If it cannot be planned, and not for want of fixed sizes or because of foreign operators, which are findings.
    """
    return lint_graph(read_model(model), book, arithmetic)


def lint_graph(graph: Graph, book: Rulebook, arithmetic: str | None = None) -> LintReport:
    """As :func:`lint_model`, for a graph as read."""
    findings = list(graph_findings(graph))
    try:
        program = plan(graph, arithmetic=arithmetic)
    except UnsupportedError:
        if not any(finding.severity == "error" for finding in findings):
            raise
        return LintReport(book, None, (), (), tuple(findings), None, 0)
    on_host = {step.name for step in host_layers(program)}
    layers = []
    for step in program.steps:
        if isinstance(step, IntegerLayer) and not is_for_npu(program):
            layers.append(LintedLayer(step, Placement.HOST, None, None, None, step_cost(step, program)))
        elif isinstance(step, IntegerLayer):
            layers.append(_lint_layer(step, program, book))
            findings += layer_findings(step, layers[-1].judgement, book) if layers[-1].judgement is not None else ()
        elif step.name in on_host:
            layers.append(LintedLayer(step, Placement.HOST, None, None, None, step_cost(step, program)))
    findings += host_findings(program)
    findings += recognition_findings(program)
    findings += dialect_findings(graph, program)
    findings += match_findings(graph, program)
    findings += padding_findings(program) if is_for_npu(program) else ()
    memory = peak_memory(program)
    held = sum(step_cost(step, program).parameter_bytes for step in program.steps)
    findings += _memory_findings(book, memory, held)
    findings += _limit_findings(book, program)
    return LintReport(book, program, tuple(layers), stages_of(program), tuple(findings), memory, held)


def _lint_layer(layer: IntegerLayer, program: Program, book: Rulebook) -> LintedLayer:
    judgement = judge_layer(str(layer.kind), layer_properties(layer, program), book)
    return LintedLayer(
        layer,
        judgement.placement,
        judgement,
        layer_line(layer, program),
        reason_line(str(layer.kind), judgement.properties) if judgement.placement is Placement.HOST else None,
        step_cost(layer, program),
    )


def _memory_findings(book: Rulebook, memory: Memory, parameter_bytes: int) -> Iterator[SourcedFinding]:
    device = book.device
    for rule, what, seen, room, remedy in (
        ("flash", "parameters", parameter_bytes, device.flash, "make the network smaller, or use 4-bit weights"),
        ("ram", f"live tensors at '{memory.step}'", memory.peak_bytes, device.ram, "shrink or pool the data earlier"),
    ):
        if room is not None and seen > room:
            message = (
                f"{what} take {seen:,} bytes, {device.title} has {room:,} bytes of {rule} ({device.memory_of or 'in all'})"
            )
            evidence = {"seen": seen, "wanted": room}
            title, date = device.source.title, device.source.dated
            yield SourcedFinding(f"memory-{rule}", "error", None, message, remedy, evidence, source=title, date=date)


def _limit_findings(book: Rulebook, program: Program) -> Iterator[SourcedFinding]:
    properties = {"parameters": sum(layer.parameter_count for layer in program.layers)}
    for limit in book.limits:
        failed = failed_checks([limit.require], properties)
        if failed is not None:
            seen = "; ".join(f"{check.condition.property} is {check.seen}, wanted {check.wanted}" for check in failed)
            remedy = remedy_of(limit.remedy, failed, properties)
            title, date = limit.source.title, limit.source.dated
            evidence = {check.condition.property: {"seen": check.seen, "wanted": check.wanted} for check in failed}
            message = f"{limit.text}; {seen}"
            yield SourcedFinding(limit.id, limit.severity, None, message, remedy, evidence, source=title, date=date)
