"""What lint finds: one finding for each broken rule, with the node, the tensor, the value seen and the value wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from npusim.bounds.widths import signed_bits
from npusim.findings import SourcedFinding
from npusim.program import Accumulating, IntegerArray, IntegerLayer, Weighted
from npusim.rules.conditions import Check
from npusim.rules.layer_properties import reason_line
from npusim.rules.layer_verdict import Broken, LayerVerdict, Placement, remedy_of
from npusim.rules.rulebook import Rulebook

__all__ = ["layer_findings"]

_UNCOVERED: Final = "ask the vendor for this configuration, or change it to a documented one (see 'npusim lint --rules')"


def layer_findings(layer: IntegerLayer, judgement: LayerVerdict, book: Rulebook) -> Iterator[SourcedFinding]:
    """The findings on a layer: broken rules, then contradictions between documents, then that no public rule covers it."""
    for broken in judgement.broken:
        yield _broken(layer, broken, judgement)
    for note in judgement.notes:
        yield SourcedFinding(
            "contradiction", "info", layer.name, note, "nothing to change", node=layer.nodes[0], tensor=layer.output
        )
    if judgement.placement is Placement.UNKNOWN and not any(not item.rule.width for item in judgement.broken):
        yield from _uncovered(layer, judgement, book)


def _broken(layer: IntegerLayer, broken: Broken, judgement: LayerVerdict) -> SourcedFinding:
    rule = broken.rule
    node, tensor, evidence = _place(layer, broken)
    message = "; ".join([rule.text, *_seen(layer, broken, judgement), *_worst(evidence)])
    vendor = (
        reason_line(str(layer.kind), judgement.properties) if rule.id.endswith(("input-channels", "output-channels")) else None
    )
    values = {check.condition.property: {"seen": check.seen, "wanted": check.wanted} for check in broken.checks}
    return SourcedFinding(
        rule.id,
        rule.severity,
        layer.name,
        message,
        remedy_of(rule.remedy, broken.checks, judgement.properties),
        {**values, **evidence, **({} if vendor is None else {"compiler_message": vendor})},
        node=node,
        tensor=tensor,
        source=rule.source.title,
        date=rule.source.dated,
        note=broken.note,
    )


def _seen(layer: IntegerLayer, broken: Broken, judgement: LayerVerdict) -> list[str]:
    """What was seen against what was wanted; of a rule with alternatives the configuration instead."""
    if len(broken.rule.require) > 1:
        return [f"this one has {_configuration(judgement)}"]
    if isinstance(layer, Weighted) and any(check.condition.property == "weight_excess" for check in broken.checks):
        return [
            f"these reach from {layer.weights.min()} to {layer.weights.max()}, the layer seems to have {layer.weight_bits} bits"
        ]
    return [f"{_label(check)} is {_shown(check.seen)}, wanted {check.wanted}" for check in broken.checks]


def _uncovered(layer: IntegerLayer, judgement: LayerVerdict, book: Rulebook) -> Iterator[SourcedFinding]:
    node, tensor = layer.nodes[0], layer.output
    if not book.knows_device:
        message = (
            f"the documents of compiler {book.compiler} do not name {book.device.title}; they do from {book.device.since} on"
        )
        source, remedy = book.device.source, f"use compiler {book.device.since} or newer"
        yield SourcedFinding(
            "compiler-version",
            "warning",
            layer.name,
            message,
            remedy,
            node=node,
            tensor=tensor,
            source=source.title,
            date=source.dated,
        )
    elif judgement.cover is None:
        configuration = _configuration(judgement)
        message = f"no public rule covers {layer.kind}{f' with {configuration}' if configuration else ''}"
        yield SourcedFinding("not-covered", "warning", layer.name, message, _UNCOVERED, node=node, tensor=tensor)


def _configuration(judgement: LayerVerdict) -> str:
    parts = [
        f"{label} {_shown(value)}"
        for label, name in (("kernel", "kernel"), ("stride", "stride"), ("weight bits", "weight_bits"))
        if (value := judgement.seen(name)) is not None
    ]
    return ", ".join(parts)


def _place(layer: IntegerLayer, broken: Broken) -> tuple[str, str, dict[str, Any]]:
    """The node and the tensor that a rule is about, and the worst channel where it is about a channel's parameter."""
    part = layer.requantization.parameters if isinstance(layer, Accumulating) else None
    names = {check.condition.property for check in broken.checks}
    if any(name.startswith("input_") for name in names):
        return layer.nodes[0], layer.inputs[0], {}
    if not isinstance(layer, Accumulating) or part is None or not broken.rule.width:
        return layer.nodes[0], layer.output, {}
    if "bias_bits" in names:
        return *_tap_of(layer, "bias"), _channel("bias", part["bias"], np.abs(part["bias"]))
    if "scale" in names:
        return *_tap_of(layer, "scale"), _channel("scale", part["scale"], np.abs(part["scale"] - 1))
    if "shift" in names:
        return *_tap_of(layer, "shift"), _channel("shift", part["shift"], np.abs(part["shift"]))
    if names & {"clip", "clip_bits"}:
        return layer.nodes[-1], layer.output, {}
    return layer.nodes[0], layer.output, {}


def _tap_of(layer: Accumulating, what: str) -> tuple[str, str]:
    """Node and tensor at which a parameter enters: the first inner tensor whose value has it."""
    values = layer.requantization.parameters[what]
    for index, tap in enumerate(layer.taps):
        if np.array_equal(tap.parameters.get(what, ()), values):
            return layer.nodes[min(index, len(layer.nodes) - 1)], tap.tensor
    return layer.nodes[-1], layer.output


def _channel(what: str, values: IntegerArray, distance: IntegerArray) -> dict[str, Any]:
    channel = int(distance.argmax())
    found: dict[str, Any] = {"channel": channel, what: int(values[channel])}
    return found | ({"bits": signed_bits(values)} if what == "bias" else {})


def _worst(evidence: Mapping[str, Any]) -> list[str]:
    return [
        f"the furthest is {evidence[what]:,} in channel {evidence['channel']}"
        for what in ("bias", "scale", "shift")
        if what in evidence
    ]


def _label(check: Check) -> str:
    return check.condition.property.replace("_", " ")


def _shown(value: object) -> str:
    return "(" + ", ".join(str(item) for item in value) + ")" if isinstance(value, tuple) else str(value)
