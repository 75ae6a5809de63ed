"""From result dataclasses to JSON schemas (draft 2020-12): types from annotations, descriptions from docstrings."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from npusim.schemas.objects import json_names, never_null, optional_names

__all__ = [
    "Axes",
    "Choice",
    "Count",
    "Finite",
    "Maximum",
    "Minimum",
    "NotEmpty",
    "Pattern",
    "Rules",
    "Sha256",
    "derive_schema",
    "summary_of",
]


@dataclass(frozen=True, slots=True)
class Minimum:
    """Annotation: a number is not smaller."""

    value: int


@dataclass(frozen=True, slots=True)
class Maximum:
    """Annotation: a number is not larger."""

    value: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """Annotation: a text fits a regular expression."""

    value: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Annotation: a value is one of these; a function gives values that stand in files."""

    values: tuple[str | int, ...] | Callable[[], tuple[str | int, ...]]


@dataclass(frozen=True, slots=True)
class Rules:
    """Annotation: rules and severities of the findings in a list are among these, where any are given."""

    values: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """Annotation: a list has at least one entry."""


@dataclass(frozen=True, slots=True)
class Finite:
    """Annotation: a float is never NaN or infinite, so that it is always a number in JSON."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Annotation: an array has this many axes; without it, one."""

    count: int


Count = Annotated[int, Minimum(0)]
Sha256 = Annotated[str, Pattern("^[0-9a-f]{64}$")]

NUMBER: Final[Mapping[str, Any]] = {
    "description": "A number; NaN and infinities as strings.",
    "oneOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
}
_NULL: Final[Mapping[str, Any]] = {"type": "null"}
_PLAIN: Final[Mapping[type, str]] = {str: "string", bool: "boolean", int: "integer"}


def derive_schema(title: str, description: str, kinds: Sequence[type]) -> dict[str, Any]:
    """The schema of a JSON object that is one of some dataclasses.

    Parameters
    ----------
    title, description
        What the object is.
    kinds
        The dataclasses; objects of other classes in them are defined under ``$defs`` by the names of their classes.

    Raises
    ------
    TypeError
        If a field has a type that no JSON value stands for, or no description.
    """
    definitions: dict[str, Any] = {}
    references = [_reference(kind, definitions) for kind in kinds]
    root = references[0] if len(references) == 1 else {"oneOf": references}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "description": description}
    return {**head, **root, "$defs": {name: definitions[name] for name in sorted(definitions)}}


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference to a dataclass, which is defined where it was not yet."""
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        own: Mapping[str, Any] | None = getattr(kind, "json_schema", None)
        if own is not None:
            definitions[name] = {"description": summary_of(kind), **own}
            return {"$ref": f"#/$defs/{name}"}
        definitions[name] = {
            "type": "object",
            "description": summary_of(kind),
            "properties": {key: _property(kind, name, definitions) for key, name in json_names(kind).items()},
            "required": [name for name in json_names(kind) if name not in optional_names(kind)],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _property(kind: type, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an attribute, or of a part of one, with its description."""
    name, _, part = name.partition(".")
    made = getattr(kind, name, None)
    if isinstance(made, property):
        hint = get_type_hints(made.fget, include_extras=True)["return"]
        text = " ".join((inspect.getdoc(made.fget) or "").split("\n\n")[0].split())
    else:
        hint = get_type_hints(kind, include_extras=True)[name]
        text = _descriptions(kind).get(name, "")
    if part:
        return _property(hint, part, definitions)
    if not text:
        raise TypeError(f"{kind.__name__}.{name} has no description")
    if name in never_null(kind):
        (hint,) = (item for item in get_args(hint) if item is not type(None))
    return {"description": text, **_schema(hint, definitions)}


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - any type annotation
    """The schema of a type annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:], definitions)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union([_schema(item, definitions) for item in arguments if item is not type(None)], type(None) in arguments)
    if hint is type(None):
        return dict(_NULL)
    if hint is Any:
        return {}
    if hint is float:
        definitions["number"] = dict(NUMBER)
        return {"$ref": "#/$defs/number"}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is np.ndarray:
        return _array(arguments, 1, definitions)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = _schema(arguments[1], definitions)
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(arguments, definitions)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if isinstance(hint, type) and is_dataclass(hint):
        return _reference(hint, definitions)
    raise TypeError(f"no JSON schema is known for {hint}")


def _annotated(hint: Any, marks: Sequence[object], definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    choice = next((mark.values for mark in marks if isinstance(mark, Choice)), None)
    if choice is not None:
        return {"enum": list(choice() if callable(choice) else choice)}
    rules = next((mark for mark in marks if isinstance(mark, Rules)), None)
    if rules is not None:
        found = _schema(hint, definitions)
        given = {"rule": rules.values, "severity": rules.severities}
        narrowed = {key: {"enum": list(values)} for key, values in given.items() if values}
        return {**found, "items": {**found["items"], "properties": narrowed}}
    axes = next((mark.count for mark in marks if isinstance(mark, Axes)), None)
    if axes is not None:
        return _array(get_args(hint), axes, definitions)
    found = {"type": "number"} if any(isinstance(mark, Finite) for mark in marks) else _schema(hint, definitions)
    for mark in marks:
        if isinstance(mark, Minimum):
            found = {**found, "minimum": mark.value}
        elif isinstance(mark, NotEmpty):
            found = {**found, "minItems": 1}
        elif isinstance(mark, Maximum):
            found = {**found, "maximum": mark.value}
        elif isinstance(mark, Pattern):
            found = {**found, "pattern": mark.value}
    return found


def _union(parts: Sequence[dict[str, Any]], nullable: bool) -> dict[str, Any]:
    if (
        len(parts) == 1
        and set(parts[0]) <= {"type", "minimum", "maximum", "pattern", "items", "minItems", "maxItems"}
        and nullable
    ):
        return {**parts[0], "type": [parts[0]["type"], "null"]}
    listed = [*parts, *([dict(_NULL)] if nullable else [])]
    if all(set(part) == {"type"} for part in listed):
        return {"type": [part["type"] for part in listed]}
    return {"oneOf": listed}


def _sequence(arguments: Sequence[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A list of one type, or of as many values as a tuple has."""
    if not arguments:
        return {"type": "array", "maxItems": 0}
    if len(arguments) == 1 or arguments[-1] is Ellipsis:
        items = _schema(arguments[0], definitions)
        return {"type": "array", **({"items": items} if items else {})}
    if len(set(arguments)) != 1:
        raise TypeError(f"no JSON schema is known for a tuple of {arguments}")
    size = len(arguments)
    return {"type": "array", "items": _schema(arguments[0], definitions), "minItems": size, "maxItems": size}


def _array(arguments: Sequence[Any], axes: int, definitions: dict[str, Any]) -> dict[str, Any]:
    """A NumPy array as nested lists."""
    kind = get_args(arguments[1])[0]
    found = _schema(int if issubclass(kind, np.integer) else float, definitions)
    for _ in range(axes):
        found = {"type": "array", "items": found}
    return found


def summary_of(kind: type) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


@cache
def _descriptions(kind: type) -> Mapping[str, str]:
    """What the sections ``Attributes`` of a class and its bases say of each name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        match = re.search(r"^Attributes\n-+\n(.*?)(?=^\S+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
        if match is None:
            continue
        for names, described in re.findall(r"^(\S[^\n]*)\n((?:[ ]+[^\n]*\n?|\n)+)", match[1], re.MULTILINE):
            found.update(dict.fromkeys((name.strip() for name in names.split(",")), " ".join(described.split())))
    return found
