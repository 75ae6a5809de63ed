"""Arrays in JSON: a list, lists by name, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import Source, Token, as_array

__all__ = ["is_json", "read_json_arrays"]

DEEPEST: Final = 32
"""Lists in lists that are followed."""


class _Number(str):
    """A number as the file writes it."""

    __slots__ = ()


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def is_json(text: str) -> bool:
    """Whether a text is a JSON list or object, or a line each."""
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("[", "{"):
        return False
    try:
        found = _values(text)
    except (ValueError, RecursionError):
        return False
    return any(isinstance(item, (dict, list)) for item in found)


def read_json_arrays(source: Source) -> tuple[DumpArray, ...]:
    """Read the lists of numbers; single numbers count only where there are no lists.

    Arrays of one name, in objects one a line, stand one after the other.

    Raises
    ------
    InputError
        If it is not JSON, or holds no numbers.

    Examples
    --------
    >>> [(array.name, array.values.tolist()) for array in read_json_arrays(Source("y.json", '{"output": [[-43], [5]]}'))]
    [('output', [-43, 5])]
    """
    try:
        values = _values(source.text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.path}: is not JSON: {error}; save it again") from error
    lists, single = dict[str, list[str]](), dict[str, list[str]]()
    for value in values:
        for name, texts, is_list in _arrays(value, "", 0):
            (lists if is_list else single).setdefault(name, []).extend(texts)
    found = lists or single
    if not found:
        raise InputError(f"{source.path}: holds no list of numbers; save the values of one tensor")
    return tuple(_array(source, name, texts) for name, texts in found.items())


def _values(text: str) -> list[Any]:
    """The value of the text, or of each line."""
    text = text.lstrip("\ufeff")
    try:
        return [_parsed(text)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [_parsed(line) for line in lines]


def _arrays(value: object, name: str, depth: int) -> Iterator[tuple[str, list[str], bool]]:
    if isinstance(value, dict) and depth < DEEPEST:
        for key, item in value.items():
            yield from _arrays(item, str(key), depth + 1)
    elif isinstance(value, _Number):
        yield name, [value], False
    elif isinstance(value, list) and depth < DEEPEST:
        texts = _flat(value, depth)
        if texts:
            yield name, texts, True
        elif texts is None:
            for item in value:
                yield from _arrays(item, name, depth + 1)


def _flat(value: object, depth: int) -> list[str] | None:
    """The numbers of nested lists; None where they hold something else."""
    if isinstance(value, _Number):
        return [value]
    if not isinstance(value, list) or depth > DEEPEST:
        return None
    parts = [_flat(item, depth + 1) for item in value]
    return None if any(part is None for part in parts) else [text for part in parts for text in part or []]


def _array(source: Source, name: str, texts: list[str]) -> DumpArray:
    numbers = as_array(source, [Token(text, 0) for text in texts])
    return DumpArray(name, numbers.values, "the file", base=numbers.base, word_bits=numbers.word_bits, printed=numbers.printed)
