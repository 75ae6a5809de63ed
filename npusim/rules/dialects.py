"""Whether a file is written as exporters were seen to write: their versions, and how they spell layers.

Exporters change. A file of a version that was not read may be read right all the same, and mostly is; but who relies on it
should know, and know what is new. What was read is data: ``data/dialects.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from npusim.findings import SourcedFinding
from npusim.graph import Graph
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, HostOperation, IntegerLayer, Program, QuantizeStage
from npusim.rules.recognition import is_for_npu
from npusim.rules.rulebook import load_table

__all__ = ["dialect_findings"]

SHOWN: Final = 3
"""Spellings named in a message; the evidence has all."""


def dialect_findings(graph: Graph, program: Program) -> Iterator[SourcedFinding]:
    """One finding for a file of the wrapper's exporter that is written in another way than those that were read.

    Parameters
    ----------
    graph
        As read.
    program
        Its program.
    """
    table = load_table("dialects")
    exporters = [one for one in table["exporter"] if one["producer"] == graph.metadata.producer_name]
    if not exporters or not is_for_npu(program) or not _looks_quantized(graph):
        return
    spellings = _new_spellings(graph, program, {line for one in table["spelling"] for line in one["layers"]})
    unread = [step for step in program.host_operations if _rounds(step) and step.operator not in table["host_rounding"]]
    new = [*_new_of_exporter(graph, exporters), *_described(spellings, unread)]
    if not new:
        return
    # a stage that is not the input's is the end of a layer whose beginning was not read
    halves = [stage for stage in program.quantize_stages if stage.name in spellings and stage.input not in program.inputs]
    first = next((step for step in program.steps if step.name in spellings), unread[0] if unread else None)
    yield SourcedFinding(
        "unknown-dialect",
        "warning" if unread or halves else "info",
        None,
        f"the file looks like one of TI's quantization wrapper, but is none of the dialects that were read: {'; '.join(new)}",
        "look with 'npusim inspect' whether every layer was found; 'npusim verify' shows whether the arithmetic is right",
        {
            "producer": f"{graph.metadata.producer_name} {graph.producer_version}".strip(),
            "opset": graph.opset,
            "read": [f"{one['title']} {', '.join(one['versions'])}, opset {_listed(one['opsets'])}" for one in exporters],
            "new_spellings": sorted(set(spellings.values())),
            "unread": [step.name for step in unread],
        },
        node=None if first is None else first.name,
        tensor=None if first is None else first.tensors[-1],
    )


def _looks_quantized(graph: Graph) -> bool:
    """Whether something is rounded down and then saturated, or scaled and rounded; no float network does that."""
    readers = graph.consumers()
    return any(
        is_a(node.op_type, Trait.ROUNDS)
        and any(is_a(reader.op_type, Trait.LIMITS) for reader in readers.get(node.outputs[0], ()))
        for node in graph.nodes
    )


def _new_of_exporter(graph: Graph, exporters: Sequence[Mapping[str, Any]]) -> list[str]:
    """What no exporter that was read writes, of version, opset and names; held against the one whose names are most alike."""
    named = [one for one in exporters if any(node.name.startswith(one["names"]) for node in graph.nodes)]
    nearest = named[0] if named else None
    if nearest is None:
        starts = " or ".join(f"'{one['names']}'" for one in exporters)
        return [f"no node's name begins with {starts}"]
    new = []
    version = ".".join(graph.producer_version.split("+")[0].split(".")[:2])
    if version not in nearest["versions"]:
        seen = graph.producer_version or "no version"
        new.append(f"{nearest['title']}, {seen}, where {_listed(nearest['versions'])} was read")
    if graph.opset not in nearest["opsets"]:
        new.append(f"opset {graph.opset}, where {_listed(nearest['opsets'])} was read of {nearest['title']}")
    return new


def _new_spellings(graph: Graph, program: Program, known: set[str]) -> dict[str, str]:
    """Layers and quantize stages in a spelling that was not read, by name; of folded scales another finding speaks."""
    operators: dict[str, str] = {}
    for node in graph.nodes:
        operators.setdefault(node.name or node.outputs[0], node.op_type)
        operators.setdefault(node.outputs[0], node.op_type)
    found = {}
    for step in program.steps:
        if isinstance(step, HostOperation) or (isinstance(step, Accumulating) and step.is_folded):
            continue
        line = " ".join(_operators_of(step, operators))
        if line not in known:
            found[step.name] = line
    return found


def _operators_of(step: IntegerLayer | QuantizeStage, operators: Mapping[str, str]) -> list[str]:
    if isinstance(step, QuantizeStage):
        return [node.op_type for node in step.nodes]
    return [operators[name] for name in step.nodes if name in operators]


def _rounds(step: HostOperation) -> bool:
    return is_a(step.operator, Trait.ROUNDS)


def _described(spellings: Mapping[str, str], unread: Sequence[HostOperation]) -> list[str]:
    lines = sorted(set(spellings.values()))
    told = [f"a layer written {line}" for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        told.append(f"{len(lines) - SHOWN} more such")
    if unread:
        more = f" and {len(unread) - 1} more are" if len(unread) > 1 else " is"
        told.append(f"{unread[0].operator} '{unread[0].name}'{more} part of no layer")
    return told


def _listed(values: Sequence[object]) -> str:
    return " and ".join(str(value) for value in values)
