"""What rules consist of: documents, rules, covered configurations, limits, devices; and compiler versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from npusim.errors import UsageError
from npusim.rules.conditions import Condition

__all__ = ["DEFAULT_COMPILER", "Cover", "Device", "Limit", "Rule", "Rulebook", "Source", "in_force", "read_version"]

DEFAULT_COMPILER: Final = "2.1"
"""The newest compiler whose user's guide the rules know."""


@dataclass(frozen=True, slots=True)
class Source:
    """A public document.

    Attributes
    ----------
    name
        How rules refer to it.
    title, kind
        What it is, in our own words; ``vendor document``, ``observation`` or ``inference``.
    date
        Year, month and, where known, day.
    exact
        False where the document may be older.
    note
        Why the date is what it is.
    """

    name: str
    title: str
    kind: str
    date: str
    exact: bool = True
    note: str = ""

    @property
    def dated(self) -> str:
        """The date in words."""
        return self.date if self.exact else f"{self.date} or earlier"


@dataclass(frozen=True, slots=True)
class Rule:
    """What has to hold for a layer to be offloaded.

    Attributes
    ----------
    id
        Name of the rule.
    kinds
        Layer kinds that it is about.
    when
        Conditions under which it applies.
    require
        Alternatives, of which one has to hold; none at all: what `when` describes is refused.
    verdict, severity
        ``host`` or ``unknown``, and ``error`` or ``warning``, where it fails.
    source
        Document.
    text, remedy, note
        What it says, what to do where it fails, what else documents say.
    topic
        Of rules with one topic only the one with the newest document decides.
    width
        Whether it is about the width of numbers, not about configurations.
    since, until
        Compiler versions: from `since`, before `until`.
    """

    id: str
    kinds: tuple[str, ...]
    when: tuple[Condition, ...]
    require: tuple[tuple[Condition, ...], ...]
    verdict: str
    severity: str
    source: Source
    text: str
    remedy: str
    note: str
    topic: str
    width: bool
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Cover:
    """A configuration that a document says runs on the NPU: alternatives of conditions, with its document."""

    id: str
    kinds: tuple[str, ...]
    config: tuple[tuple[Condition, ...], ...]
    source: Source
    text: str
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What has to hold for a whole model."""

    id: str
    require: tuple[Condition, ...]
    severity: str
    source: Source
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Device:
    """What is public of a device; memory sizes in bytes, None where nothing is public."""

    name: str
    title: str
    npu: bool
    processor: str | None
    megahertz: int | None
    flash: int | None
    ram: int | None
    memory_of: str | None
    since: str
    source: Source
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All rules for a device and a compiler version."""

    device: Device
    compiler: str
    rules: tuple[Rule, ...]
    covers: tuple[Cover, ...]
    limits: tuple[Limit, ...]

    @property
    def knows_device(self) -> bool:
        """False where the compiler version is older than the device's first mention."""
        return in_force(self.device.since, "", read_version(self.compiler))


def read_version(text: str) -> tuple[int, ...]:
    """A version as integers, without zeros at its end.

    Raises
    ------
    UsageError
        If the text is no version.

    Examples
    --------
    >>> read_version("2.1.0")
    (2, 1)
    """
    parts = text.split(".")
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UsageError(f"'{text}' is no compiler version; give one like {DEFAULT_COMPILER}")
    numbers = [int(part) for part in parts]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def in_force(since: str, until: str, version: tuple[int, ...]) -> bool:
    """Whether a version is from `since` on and before `until`; empty texts set no limit."""
    return (not since or read_version(since) <= version) and (not until or version < read_version(until))
