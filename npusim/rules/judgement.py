"""The verdict on a layer: which rules it breaks, which documents disagree, and which public configuration covers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from npusim.rules.conditions import Check, Properties, Value, failed_checks
from npusim.rules.rule_types import Cover, Rule, Rulebook

__all__ = ["Broken", "LayerVerdict", "Placement", "judge_layer"]


class Placement(StrEnum):
    """Where a layer runs: on the NPU, on the host CPU, or not known from public rules."""

    NPU = "npu"
    HOST = "host"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a layer breaks, with what was seen against what was wanted; `note` says what other documents say."""

    rule: Rule
    checks: tuple[Check, ...]
    note: str


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """The verdict on a layer.

    Attributes
    ----------
    placement
        The verdict. ``npu`` only where no rule is broken and a public configuration covers the layer.
    broken
        Rules that fail.
    cover
        The documented configuration with the newest source; None where there is none.
    notes
        Where documents contradict each other without changing the verdict.
    properties
        What the rules were held against.
    """

    placement: Placement
    broken: tuple[Broken, ...]
    cover: Cover | None
    notes: tuple[str, ...]
    properties: Properties

    @property
    def deciding(self) -> Rule | Cover | None:
        """The rule or configuration behind the verdict; None where no public rule covers the layer."""
        wanted = [item.rule for item in self.broken if item.rule.verdict == self.placement]
        return wanted[0] if wanted else self.cover

    def seen(self, name: str) -> Value | None:
        """A property."""
        return self.properties.get(name)


def judge_layer(kind: str, properties: Properties, book: Rulebook) -> LayerVerdict:
    """Hold a layer against the rules.

    Parameters
    ----------
    kind
        Its layer kind.
    properties
        Its properties, from :func:`npusim.rules.properties.layer_properties`.
    book
        The rules of the device and the compiler version.

    Returns
    -------
    LayerVerdict
        Of rules on one topic the one with the newest document decides; what the others say instead is noted.
    """
    applicable = [rule for rule in book.rules if kind in rule.kinds and _applies(rule, properties)]
    broken: list[Broken] = []
    notes: list[str] = []
    for rule in applicable:
        newest = _newest(rule, applicable)
        if newest is not rule:
            continue
        checks = failed_checks(rule.require, properties)
        dissent = _dissent(rule, applicable, properties, fails=checks is not None)
        if checks is not None:
            broken.append(Broken(rule, checks, " ".join(part for part in (rule.note, dissent) if part)))
        elif dissent:
            notes.append(dissent)
    cover = _cover(kind, properties, book)
    return LayerVerdict(_placement(broken, cover, book), tuple(broken), cover, tuple(notes), properties)


def _applies(rule: Rule, properties: Properties) -> bool:
    """A rule on what a layer does not have, such as the height of a kernel with one axis, says nothing of it."""
    asked = {condition.property for alternative in rule.require for condition in alternative}
    return failed_checks([rule.when], properties) is None and asked <= properties.keys()


def _newest(rule: Rule, rules: Sequence[Rule]) -> Rule:
    if not rule.topic:
        return rule
    return max((other for other in rules if other.topic == rule.topic), key=lambda other: other.source.date)


def _dissent(rule: Rule, rules: Sequence[Rule], properties: Properties, *, fails: bool) -> str:
    """What older documents say on the topic of a rule where they come to another result."""
    if not rule.topic:
        return ""
    other = [
        f"an older document ({older.source.title}, {older.source.dated}) says: {older.text}; "
        f"the newer one ({rule.source.title}, {rule.source.dated}) decides"
        for older in rules
        if older is not rule
        and older.topic == rule.topic
        and ((failed_checks(older.require, properties) is not None) != fails or (fails and older.verdict != rule.verdict))
    ]
    return " ".join(other)


def _cover(kind: str, properties: Properties, book: Rulebook) -> Cover | None:
    fitting = [item for item in book.covers if kind in item.kinds and failed_checks(item.config, properties) is None]
    return max(fitting, key=lambda item: item.source.date) if fitting else None


def _placement(broken: Sequence[Broken], cover: Cover | None, book: Rulebook) -> Placement:
    if any(item.rule.verdict == Placement.HOST for item in broken):
        return Placement.HOST
    if broken or cover is None or not book.knows_device:
        return Placement.UNKNOWN
    return Placement.NPU
