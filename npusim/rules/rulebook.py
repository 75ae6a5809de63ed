"""The rules: documents, devices, rules and covered configurations, read from the TOML files of this room."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, ClassVar, Final

from npusim.errors import UsageError
from npusim.rules.conditions import Condition, read_conditions
from npusim.schemas.derivation import Choice, Count

__all__ = [
    "DEFAULT_COMPILER",
    "Cover",
    "Device",
    "Limit",
    "Rule",
    "Rulebook",
    "Source",
    "all_rulebooks",
    "devices",
    "in_force",
    "load_table",
    "read_version",
    "rulebook",
]

DEFAULT_COMPILER: Final = "2.1"
"""The newest compiler whose user's guide the rules know."""


@dataclass(frozen=True, slots=True)
class Source:
    """A public document.

    Attributes
    ----------
    name
        How rules refer to it.
    title
        What it is, in our own words.
    kind
        What sort of document it is.
    date
        Year, month and, where known, day.
    exact
        False where the document may be older.
    note
        Why the date is what it is.
    """

    json_names: ClassVar[tuple[str, ...]] = ("title", "kind", "date=dated")

    name: str
    title: str
    kind: Annotated[str, Choice(("vendor document", "observation", "inference"))]
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
        Of a layer that breaks it.
    source
        Document.
    text
        What it says.
    remedy
        What to do where it fails.
    note
        What else documents say.
    topic
        Of rules with one topic only the one with the newest document decides.
    width
        Whether it is about the width of numbers, not about configurations.
    since, until
        Compiler versions: from `since`, before `until`.
    """

    json_names: ClassVar[tuple[str, ...]] = tuple(
        "id kinds when require verdict severity text remedy topic since until source".split()
    )

    id: str
    kinds: tuple[str, ...]
    when: tuple[Condition, ...]
    require: tuple[tuple[Condition, ...], ...]
    verdict: Annotated[str, Choice(("host", "unknown"))]
    severity: Annotated[str, Choice(("error", "warning"))]
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
    """A configuration that a document says runs on the NPU.

    Attributes
    ----------
    id
        Its name.
    kinds
        Layer kinds that it is about.
    config
        Alternatives of conditions.
    source
        Document.
    text
        What it says.
    since, until
        Compiler versions: from `since`, before `until`.
    """

    json_names: ClassVar[tuple[str, ...]] = ("id", "kinds", "config", "text", "since", "until", "source")

    id: str
    kinds: tuple[str, ...]
    config: tuple[tuple[Condition, ...], ...]
    source: Source
    text: str
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule for whole models.

    Attributes
    ----------
    id
        Its name.
    require
        Conditions, all of which have to hold.
    severity
        Where it fails.
    source
        Document.
    text
        What it says.
    remedy
        What to do where it fails.
    """

    json_names: ClassVar[tuple[str, ...]] = ("id", "require", "severity", "text", "source")

    id: str
    require: tuple[Condition, ...]
    severity: Annotated[str, Choice(("error", "warning"))]
    source: Source
    text: str
    remedy: str


@cache
def load_table(name: str) -> dict[str, Any]:
    """The content of a TOML file of this package."""
    return tomllib.loads((files("npusim.rules") / "data" / f"{name}.toml").read_text(encoding="utf-8"))


def devices() -> tuple[str, ...]:
    """Names of the devices."""
    return tuple(load_table("devices"))


@dataclass(frozen=True, slots=True)
class Device:
    """What is public of a device; null where nothing is.

    Attributes
    ----------
    name
        As the option ``--device`` takes it.
    title
        In words.
    npu
        Whether it has an NPU.
    processor
        The CPU.
    megahertz
        Its clock.
    flash, ram
        Bytes.
    memory_of
        Which member of the family has this memory.
    since
        The compiler version that first mentions it.
    source
        Document.
    files
        Files of rules for it.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name", "title", "npu", "processor", "megahertz"),
        *("flash_bytes=flash", "ram_bytes=ram", "memory_of"),
    )

    name: Annotated[str, Choice(devices)]
    title: str
    npu: bool
    processor: str | None
    megahertz: Count | None
    flash: Count | None
    ram: Count | None
    memory_of: str | None
    since: str
    source: Source
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """What is public of a device: all rules for it and a compiler version.

    Attributes
    ----------
    device
        The device.
    compiler
        Version of the compiler.
    rules
        For layers.
    covers
        Configurations that a document says run on the NPU.
    limits
        For whole models.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name=device.name", "title=device.title", "npu=device.npu", "processor=device.processor"),
        *("megahertz=device.megahertz", "flash_bytes=device.flash", "ram_bytes=device.ram", "memory_of=device.memory_of"),
        *("compiler", "rules", "covered=covers", "limits"),
    )

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
        If the text is not a version.

    Examples
    --------
    >>> read_version("2.1.0")
    (2, 1)
    """
    parts = text.split(".")
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UsageError(f"'{text}' is not a compiler version; give one like {DEFAULT_COMPILER}")
    numbers = [int(part) for part in parts]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def in_force(since: str, until: str, version: tuple[int, ...]) -> bool:
    """Whether a version is from `since` on and before `until`; empty texts set no limit."""
    return (not since or read_version(since) <= version) and (not until or version < read_version(until))


def rulebook(device: str, compiler: str = DEFAULT_COMPILER) -> Rulebook:
    """The rules for a device.

    Parameters
    ----------
    device
        A name from :func:`devices`, in any case.
    compiler
        Version of the vendor's compiler, for example ``"2.1"`` or ``"2.0.0"``.

    Raises
    ------
    UsageError
        If there is no such device, or the version is none.

    Examples
    --------
    >>> [rule.id for rule in rulebook("soft").rules if rule.topic == "bias-width"]
    ['bias-width', 'bias-width-narrow', 'bias-width-by-activations']
    """
    known, name = load_table("devices"), device.lower()
    if name not in known:
        raise UsageError(f"there are no rules for '{device}'; there are rules for {', '.join(known)}")
    version, sources = read_version(compiler), _sources()
    found = _device(name, known[name], sources)
    rules, covers, limits = [], [], []
    for file in found.files:
        content = load_table(file)
        rules += [_rule(item, file, sources) for item in content.get("rule", ())]
        covers += [_cover(item, file, sources) for item in content.get("cover", ())]
        limits += [_limit(item, file, sources) for item in content.get("limit", ())]
    return Rulebook(
        found,
        compiler,
        tuple(rule for rule in rules if in_force(rule.since, rule.until, version)),
        tuple(cover for cover in covers if in_force(cover.since, cover.until, version)),
        tuple(limits),
    )


def all_rulebooks(compiler: str = DEFAULT_COMPILER) -> tuple[Rulebook, ...]:
    """The rules of every device."""
    return tuple(rulebook(device, compiler) for device in devices())


def _sources() -> Mapping[str, Source]:
    return {name: Source(name, **table) for name, table in load_table("sources").items()}


def _device(name: str, table: Mapping[str, Any], sources: Mapping[str, Source]) -> Device:
    return Device(
        name=name,
        title=table["title"],
        npu=table["npu"],
        processor=table.get("processor"),
        megahertz=table.get("megahertz"),
        flash=table.get("flash"),
        ram=table.get("ram"),
        memory_of=table.get("memory_of"),
        since=table.get("since", ""),
        source=sources[table["source"]],
        files=tuple(table["rules"]),
    )


def _rule(table: Mapping[str, Any], file: str, sources: Mapping[str, Source]) -> Rule:
    place = f"rule '{table['id']}' in {file}.toml"
    return Rule(
        id=table["id"],
        kinds=tuple(table["kinds"]),
        when=read_conditions(table.get("when", {}), place),
        require=tuple(read_conditions(item, place) for item in table["require"]),
        verdict=table["verdict"],
        severity=table["severity"],
        source=sources[table["source"]],
        text=table["text"],
        remedy=table["remedy"],
        note=table.get("note", ""),
        topic=table.get("topic", ""),
        width=table.get("width", False),
        since=table.get("since", ""),
        until=table.get("until", ""),
    )


def _cover(table: Mapping[str, Any], file: str, sources: Mapping[str, Source]) -> Cover:
    place = f"cover '{table['id']}' in {file}.toml"
    return Cover(
        id=table["id"],
        kinds=tuple(table["kinds"]),
        config=tuple(read_conditions(item, place) for item in table["config"]),
        source=sources[table["source"]],
        text=table["text"],
        since=table.get("since", ""),
        until=table.get("until", ""),
    )


def _limit(table: Mapping[str, Any], file: str, sources: Mapping[str, Source]) -> Limit:
    return Limit(
        id=table["id"],
        require=read_conditions(table["require"], f"limit '{table['id']}' in {file}.toml"),
        severity=table["severity"],
        source=sources[table["source"]],
        text=table["text"],
        remedy=table["remedy"],
    )
