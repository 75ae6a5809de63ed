"""From result dataclasses to JSON objects: what ``--json`` prints is what a result's ``to_dict`` gives.

The keys of an object are the fields of its dataclass, in order; a field with the metadata `UNLISTED` is for Python only. A
class that says otherwise lists its keys, fields or properties, in ``json_names``, as ``"key=attribute"`` or
``"key=attribute.part"`` where the two differ. A class with a form of its own has a method ``json_value`` and says its schema in
``json_schema``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, Final

import numpy as np

__all__ = [
    "ANY_BY_CHANNEL",
    "BY_CHANNEL",
    "UNLISTED",
    "WHERE_KNOWN",
    "json_names",
    "json_object",
    "never_null",
    "optional_names",
]

UNLISTED: Final[Mapping[str, bool]] = {"json": False}
"""Metadata of a field that is not a key of the JSON object: ``field(metadata=UNLISTED)``."""

BY_CHANNEL: Final[Mapping[str, str]] = {"by_channel": "always"}
"""Metadata of a field with numbers for each channel: a key that is left out where these are not asked for."""

ANY_BY_CHANNEL: Final[Mapping[str, str]] = {"by_channel": "where there are any"}
"""The same of a key that is left out only where there are such numbers; where there are none, it says so."""


WHERE_KNOWN: Final[Mapping[str, str]] = {"left_out": "null"}
"""Metadata of a field that is a key only where it is not None."""


def json_names(kind: type) -> dict[str, str]:
    """The keys of the JSON object of a dataclass, in order, and the attribute that each shows.

    Examples
    --------
    >>> from npusim.findings import Finding
    >>> list(json_names(Finding))
    ['rule', 'severity', 'layer', 'message', 'remedy', 'evidence']
    """
    listed: tuple[str, ...] | None = getattr(kind, "json_names", None)
    if listed is None:
        return {item.name: item.name for item in fields(kind) if item.metadata.get("json", True)}
    pairs = (entry.partition("=") for entry in listed)
    return {key: attribute or key for key, _, attribute in pairs}


def optional_names(kind: type) -> frozenset[str]:
    """The keys of a dataclass that are left out where nothing is known, or the numbers of each channel are not asked for."""
    return frozenset(item.name for item in fields(kind) if {"by_channel", "left_out"} & set(item.metadata))


def never_null(kind: type) -> frozenset[str]:
    """The keys of a dataclass that are left out instead of being null."""
    return frozenset(item.name for item in fields(kind) if "left_out" in item.metadata)


def _is_left_out(value: Any, key: str) -> bool:  # noqa: ANN401 - any dataclass
    """Whether a key holds numbers for each channel, which are not asked for."""
    mark = next((item.metadata.get("by_channel") for item in fields(value) if item.name == key), None)
    return mark == BY_CHANNEL["by_channel"] or (mark is not None and getattr(value, key) is not None)


def json_object(value: Any, *, by_channel: bool = True) -> Any:  # noqa: ANN401 - anything a result holds
    """A value as what JSON can hold.

    Dataclasses become dictionaries; arrays, tuples and other collections lists; NumPy numbers Python's; members of
    enumerations their values; NaN and infinities, which JSON does not have, the texts ``"nan"``, ``"inf"`` and ``"-inf"``.

    Parameters
    ----------
    value
        A result, or a part of one.
    by_channel
        Whether fields marked `BY_CHANNEL` or `ANY_BY_CHANNEL` are listed.

    Examples
    --------
    >>> json_object((np.float64(0.5), np.array([1, 2]), float("nan")))
    [0.5, [1, 2], 'nan']
    """
    if isinstance(value, Enum):
        return json_object(value.value)
    if isinstance(value, np.generic):
        return json_object(value.item())
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if hasattr(value, "json_value"):
        return json_object(value.json_value(), by_channel=by_channel)
    if is_dataclass(value) and not isinstance(value, type):
        unknown = {key for key in never_null(type(value)) if getattr(value, key) is None}
        names = {key: name for key, name in json_names(type(value)).items() if key not in unknown}
        if not by_channel:
            names = {key: name for key, name in names.items() if not _is_left_out(value, key)}
        return {key: json_object(attrgetter(name)(value), by_channel=by_channel) for key, name in names.items()}
    if isinstance(value, Mapping):
        return {str(key): json_object(item, by_channel=by_channel) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return json_object(value.tolist())
    if isinstance(value, Iterable):
        return [json_object(item, by_channel=by_channel) for item in value]
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
