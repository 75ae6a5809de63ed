"""The verdict on a layer: which rules it breaks, which public configuration covers it, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from npusim.rules.conditions import Check, Properties, Value, failed_checks
from npusim.rules.rulebook import Cover, Rule, Rulebook

__all__ = ["Broken", "LayerVerdict", "Placement", "judge_layer", "remedy_of", "split_kernel"]


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
        Its properties, from :func:`npusim.rules.layer_properties.layer_properties`.
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


LARGEST_KERNEL: Final = 7
"""Side of a kernel that every document allows."""

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def remedy_of(template: str, checks: Sequence[Check], properties: Properties) -> str:
    """Fill in a rule's remedy.

    Parameters
    ----------
    template
        Text with ``{seen}``, ``{wanted}``, ``{missing}`` (of the first check), ``{split}`` (smaller kernels in place of the
        largest side) and ``{dense}`` (the kernel that a dilated one reaches over).
    checks
        What failed.
    properties
        Of the layer.

    Examples
    --------
    >>> from npusim.rules.conditions import failed_checks, read_conditions
    >>> failed = failed_checks([read_conditions({"input_channels": {"multiple_of": 4}}, "example")], {"input_channels": 14})
    >>> remedy_of("pad channels {seen} to {wanted}: +{missing} filters", failed, {})
    'pad channels 14 to 16: +2 filters'
    """
    seen, wanted = _numbers(checks)
    return template.format(
        seen=seen,
        wanted=wanted,
        missing=wanted - seen,
        split=split_kernel(_side(properties)),
        dense=_dense(properties),
    )


def split_kernel(side: int) -> str:
    """Smaller kernels, one behind the other, that reach over as much as one of `side`.

    Kernels of k elements, n of them, reach over ``n * (k - 1) + 1``.

    Examples
    --------
    >>> split_kernel(9), split_kernel(15)
    ('two kernels of 5', 'three kernels of 6')
    """
    count = 2
    while (size := math.ceil((side - 1) / count) + 1) > LARGEST_KERNEL:
        count += 1
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else count} kernels of {size}"


def _numbers(checks: Sequence[Check]) -> tuple[int, int]:
    """What was seen, and the nearest value that would do."""
    for check in checks:
        seen, argument = check.seen, check.condition.argument
        if isinstance(seen, int) and isinstance(argument, int) and not isinstance(argument, bool):
            return seen, -(-seen // argument) * argument if check.condition.test == "multiple_of" else argument
    for check in checks:
        if isinstance(check.seen, int):
            return check.seen, check.seen
    return 0, 0


def _side(properties: Properties) -> int:
    sides = [properties.get("kernel_height", 1), properties.get("kernel_width", 1)]
    return max([2, *(side for side in sides if isinstance(side, int))])


def _dense(properties: Properties) -> str:
    kernel, dilation = properties.get("kernel", ()), properties.get("dilation", ())
    if not isinstance(kernel, tuple) or not isinstance(dilation, tuple):
        return ""
    return "x".join(str((size - 1) * step + 1) for size, step in zip(kernel, dilation, strict=True))
