"""The repairs of a model, one after the other, each proven before the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Final

import numpy as np

from npusim.engine.planning import plan
from npusim.engine.session import InferenceSession
from npusim.errors import InternalMismatchError, ModelError, UnsupportedError, UsageError
from npusim.graph import Graph
from npusim.graph.folding import fold
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import infer_node, read_graph
from npusim.graph.onnx_writer import write_model
from npusim.program import IntegerLayer, Program
from npusim.program.intervals import analyse
from npusim.program.lowering.tinpu.chain import node_label
from npusim.program.lowering.tinpu.two_axes import with_two_axes
from npusim.rules.fix.channels import pad_channels, pad_input
from npusim.rules.fix.draft import Draft, Refusal
from npusim.rules.fix.rewrites import matmul_to_gemm, merge_saturations, narrow_saturations
from npusim.rules.graph_findings import stages_of
from npusim.rules.layer_properties import layer_properties
from npusim.rules.layer_verdict import judge_layer
from npusim.rules.report import LintReport, lint_model
from npusim.rules.rulebook import Rulebook
from npusim.schemas.derivation import Choice
from npusim.search.sampling import generate_inputs
from npusim.verification.equality import why_not_proven

__all__ = ["Fixed", "Repair", "fix_model"]

ONE_AXIS: Final = 3
"""Axes of a tensor of one spatial axis."""

SAMPLES: Final = 64
"""Samples on which the repaired model is run beside the original, besides the proof."""

_INPUT_RULES: Final = ("input-channels", "soft-gconv-input-channels", "pool-channels")
_AXIS_RULE: Final = "convolution-2d"
_FEATURE_RULES: Final = ("fc-features-8", "fc-features-4")

RepairName = Annotated[str, Choice(("matmul-to-gemm", "merge-clips", "narrow-clip", "pad-channels", "pad-input", "two-axes"))]


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair that was made.

    Attributes
    ----------
    repair
        What sort of repair.
    layer
        Where.
    message
        What was done.
    """

    repair: RepairName
    layer: str
    message: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """The result of repairing a model.

    Attributes
    ----------
    content
        The repaired model; None where there was nothing to repair.
    repairs
        What was done.
    left
        Layers that break a rule and could not be repaired, with the reason.
    report
        Lint of the repaired model.
    samples
        Number of samples on which both gave the same bits.
    """

    content: bytes | None
    repairs: tuple[Repair, ...]
    left: tuple[tuple[str, str], ...]
    report: LintReport
    samples: int


@dataclass
class _Workshop:
    """The graph that passed all repairs so far, with its program."""

    graph: Graph
    program: Program
    book: Rulebook
    repairs: list[Repair] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def attempt(self, repair: RepairName, layer: str, message: str, change: Callable[[Draft], None]) -> bool:
        """Make one repair on a copy, prove it, and keep it; notes the reason where that fails."""
        draft = Draft.of(self.graph)
        try:
            change(draft)
            graph, program = _replan(draft.finish())
        except (Refusal, ModelError, UnsupportedError) as reason:
            self.left[layer] = str(reason)
            return False
        reason_or_none = _not_proven(self.program, program)
        if reason_or_none is not None:
            self.left[layer] = f"the outputs are not proven equal: {reason_or_none}"
            return False
        self.graph, self.program = graph, program
        self.repairs.append(Repair(repair, layer, message))
        self.left.pop(layer, None)
        return True


def fix_model(model: ModelFile, report: LintReport) -> Fixed:
    """Repair what can be repaired without changing a bit of the outputs.

    Parameters
    ----------
    model
        The model.
    report
        What lint says about it.

    Returns
    -------
    Fixed
        The repaired model. For every input its outputs are proven to be those of the original, and on some samples they were
        compared bit by bit.

    Raises
    ------
    UnsupportedError
        If the model cannot be planned, or its inputs or outputs are not float32.
    InternalMismatchError
        If the repaired model gives another output on a sample, which the proof excludes.
    """
    if report.program is None:
        raise UnsupportedError(f"{model.label} cannot be repaired: it has no fixed program; see the findings without --fix")
    graph, program = _replan(_with_batch_1(read_graph(model)))
    for name in (*program.inputs, *program.outputs):
        if name not in graph.types or graph.types[name].dtype != np.float32:
            raise UnsupportedError(f"{model.label} cannot be repaired: '{name}' is not a float32 tensor")
    workshop = _Workshop(graph, program, report.book)
    _repair_nodes(workshop)
    _repair_channels(workshop)
    _repair_axes(workshop)
    left = tuple(workshop.left.items())
    if not workshop.repairs:
        return Fixed(None, (), left, report, 0)
    content = _write(workshop.graph)
    _compare(model, content, program)
    fixed = ModelFile(None, content)
    return Fixed(content, tuple(workshop.repairs), left, lint_model(fixed, report.book), SAMPLES)


def _not_proven(old: Program, new: Program) -> str | None:
    """Why a repaired program is not proven to compute what the other does; None where it is."""
    try:
        return why_not_proven(old, new)
    except UsageError as reason:
        return str(reason)


def _with_batch_1(graph: Graph) -> Graph:
    types = dict(graph.types)
    for name in graph.inputs:
        shape = types[name].shape
        if shape and not isinstance(shape[0], int):
            types[name] = replace(types[name], shape=(1, *shape[1:]))
    return replace(graph, types=types)


def _replan(graph: Graph) -> tuple[Graph, Program]:
    """A graph folded, with all types, and its program."""
    types = {name: graph.types[name] for name in graph.inputs}
    return fold(graph, infer_node, known={}, input_types=types), plan(graph)


def _repair_nodes(workshop: _Workshop) -> None:
    program = workshop.program
    for repair, message, change in (
        ("merge-clips", "its saturations are one Clip", lambda draft: merge_saturations(draft, program)),
        ("narrow-clip", "it saturates to 8 bits, as no code leaves them", lambda draft: _narrow(draft, workshop.program)),
        ("matmul-to-gemm", "MatMul and Add are one Gemm", matmul_to_gemm),
    ):
        changed: list[str] = []

        def apply(draft: Draft, change: Callable[[Draft], list[str]] = change, changed: list[str] = changed) -> None:
            changed.extend(change(draft))
            if not changed:
                raise Refusal("")

        if workshop.attempt(repair, repair, message, apply):
            workshop.repairs.pop()
            workshop.repairs += [Repair(repair, layer, message) for layer in changed]
        elif not workshop.left.get(repair):
            workshop.left.pop(repair, None)


def _narrow(draft: Draft, program: Program) -> list[str]:
    return narrow_saturations(draft, program, analyse(program))


def _repair_channels(workshop: _Workshop) -> None:
    """Pad one tensor after the other, until no layer breaks a rule on channels that was not tried yet."""
    tried: set[tuple[str, str]] = set()
    while (found := next(_candidates(workshop, tried), None)) is not None:
        rule, layer, tensor, channels = found
        tried.add((rule, layer.name))
        old = workshop.program.tensors[tensor].shape[1]
        message = f"'{tensor}' has {channels} channels in place of {old}, the last ones zero"
        if workshop.attempt("pad-channels", layer.name, message, partial(pad_channels, tensor=tensor, channels=channels)):
            continue
        if any(stage.role == "input" and stage.step.tensors[-1] == tensor for stage in stages_of(workshop.program)):
            _pad_at_input(workshop, layer, tensor, channels)


def _repair_axes(workshop: _Workshop) -> None:
    """Give layers of one spatial axis two, behind the input stages, which stay what devices have for them."""
    narrow = [layer for layer in workshop.program.layers if len(layer.input_shape) == ONE_AXIS]
    first = next((layer for layer in narrow if _breaks(workshop, layer, _AXIS_RULE)), None)
    if first is None:
        return
    stages = [stage.step for stage in stages_of(workshop.program) if stage.role == "input"]
    kept = frozenset(name for stage in stages for name in stage.tensors)

    def change(draft: Draft) -> None:
        made = with_two_axes(draft.graph, keep_ends=True, kept=kept)
        draft.nodes, draft.constants = list(made.nodes), dict(made.constants)

    message = "its tensors and those of all other layers of one spatial axis have a second one of size 1"
    workshop.attempt("two-axes", first.name, message, change)


def _breaks(workshop: _Workshop, layer: IntegerLayer, rule: str) -> bool:
    found = judge_layer(str(layer.kind), layer_properties(layer, workshop.program), workshop.book)
    return any(broken.rule.id == rule for broken in found.broken)


def _pad_at_input(workshop: _Workshop, layer: IntegerLayer, tensor: str, channels: int) -> None:
    outputs = tuple(node.outputs[0] for node in workshop.graph.nodes if node_label(node) == layer.nodes[0])
    message = f"the host appends zeros to '{tensor}': {channels} channels"
    workshop.attempt("pad-input", layer.name, message, lambda draft: pad_input(draft, tensor, channels, outputs))


def _candidates(workshop: _Workshop, tried: set[tuple[str, str]]) -> Iterator[tuple[str, IntegerLayer, str, int]]:
    for layer in workshop.program.layers:
        judgement = judge_layer(str(layer.kind), layer_properties(layer, workshop.program), workshop.book)
        for broken in judgement.broken:
            rule = broken.rule.id
            if (rule, layer.name) in tried:
                continue
            if rule in _INPUT_RULES:
                yield rule, layer, layer.inputs[0], _next_multiple(layer.input_shape[1])
            elif rule == "output-channels":
                yield rule, layer, layer.output, _next_multiple(layer.output_shape[1])
            elif rule in _FEATURE_RULES:
                yield rule, layer, layer.inputs[0], 16 if rule == "fc-features-8" else 8


def _next_multiple(channels: int) -> int:
    return -(-channels // 4) * 4


def _write(graph: Graph) -> bytes:
    used = {name for node in graph.nodes for name in node.inputs}
    return write_model(
        graph.nodes,
        {name: value for name, value in graph.constants.items() if name in used},
        inputs={name: graph.types[name].static_shape for name in graph.inputs},
        outputs={name: graph.types[name].static_shape for name in graph.outputs},
        opset=graph.opset,
    )


def _compare(model: ModelFile, content: bytes, program: Program) -> None:
    """Run both on samples: the file that is to be written, read again, against the original."""
    feeds = generate_inputs(program, SAMPLES)
    # by name: a model that lists an output twice comes back with one of that name
    expected = InferenceSession(model.content).run(program.outputs, feeds)
    found = InferenceSession(content).run(program.outputs, feeds)
    for name, one, two in zip(program.outputs, expected, found, strict=True):
        if one.dtype != two.dtype or one.shape != two.shape or one.tobytes() != two.tobytes():
            raise InternalMismatchError(
                f"{model.label}: the repaired model gives another '{name}' on generated samples; nothing is written, "
                "please report it"
            )
