"""The rules: documents, devices, rules and covered configurations, read from the TOML files beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npusim.errors import UsageError
from npusim.rules.conditions import read_conditions
from npusim.rules.rule_types import (
    DEFAULT_COMPILER,
    Cover,
    Device,
    Limit,
    Rule,
    Rulebook,
    Source,
    devices,
    in_force,
    load_table,
    read_version,
)

__all__ = ["all_rulebooks", "rulebook"]


def rulebook(device: str, compiler: str = DEFAULT_COMPILER) -> Rulebook:
    """The rules for a device.

    Parameters
    ----------
    device
        A name from :func:`devices`.
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
    known = load_table("devices")
    if device not in known:
        raise UsageError(f"there are no rules for '{device}'; there are rules for {', '.join(known)}")
    version, sources = read_version(compiler), _sources()
    found = _device(device, known[device], sources)
    rules, covers, limits = [], [], []
    for name in found.files:
        content = load_table(name)
        rules += [_rule(item, name, sources) for item in content.get("rule", ())]
        covers += [_cover(item, name, sources) for item in content.get("cover", ())]
        limits += [_limit(item, name, sources) for item in content.get("limit", ())]
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
