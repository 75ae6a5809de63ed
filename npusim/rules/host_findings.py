"""Findings on what the host has to compute: host operations, and islands of float between integer layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from npusim.findings import SourcedFinding
from npusim.graph.traits import FOREIGN_QUANTIZATION, Trait, is_a
from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage
from npusim.rules.stages import host_layers

__all__ = ["host_findings"]

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
