"""Values among other text: logs of consoles with boot lines, labels, indices and timestamps around the numbers.

A line is data by its form alone: an element with its index (``y[3] = -4``), a label with nothing but numbers behind it
(``out: -43, -45``), a row of labelled values (``y0=-43 y1=-45``), or numbers only, which belong to the label that ends the line
before (``Output:``). Everything else is text. What looks like damaged data is refused, and so are elements that are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from npusim.errors import InputError, UsageError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import NUMBER, Source, Token, are_bare_hex, as_array, complaint, is_number, not_finite, shown

__all__ = ["read_console", "read_matches"]

_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PREFIX: Final = re.compile(
    r"[ \t]*(?:"
    r"\[?(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])?[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,:][0-9,.]+)?Z?\]?(?:[ \t]*(?:->|>|\|))?(?![0-9])"
    r"|\[[ \t]*[0-9]+[.,][0-9]+\]"
    r"|[IDWEV] \([0-9.:]+\) [\w.-]+:(?=[ \t])"
    r"|<(?:inf|dbg|wrn|err)>(?:[ \t]*[\w.]+:(?=[ \t]))?"
    r"|\[[A-Za-z][\w .-]*\](?=[ \t:>]):?"
    r"|\[?(?:INFO|DEBUG|WARN|WARNING|ERROR|TRACE|LOG)\]?[ \t]*[:>|]?(?=[ \t])"
    r"|[A-Za-z]/[\w.-]+:(?=[ \t])"
    r"|[IDWEV]:(?=[ \t])"
    r"|[A-Z]{2,8}[0-9]?>(?=[ \t])"
    r"|\(gdb\)(?=[ \t])|>+(?=[ \t])|/[\w/]*>(?=[ \t])"
    r")[ \t]*"
)
_ELEMENT: Final = re.compile(
    rf"(?P<name>[A-Za-z_][\w.>-]*)?[ \t]*(?P<index>(?:\[[ \t]*[0-9]{{1,9}}[ \t]*\])+)[ \t]*(?:=|:|->|,)?[ \t]*"
    rf"(?P<value>{NUMBER})"
)
_COUNTED: Final = re.compile(rf"[ \t]*#?(?P<index>[0-9]{{1,9}})[ \t]*(?:[:=)]|->)[ \t]*(?P<value>{NUMBER})[ \t,;]*")
_FIELD: Final = re.compile(rf"(?P<stem>[A-Za-z][\w.]*?)[_ ]?(?P<index>[0-9]{{1,9}})[ \t]*[=:][ \t]*(?P<value>{NUMBER})[ \t,;]*")
_FIELDS: Final = re.compile(
    rf"[ \t]*(?:{_FIELD.pattern.replace('?P<stem>', '?:').replace('?P<index>', '?:').replace('?P<value>', '?:')})+"
)
_LABEL: Final = re.compile(
    r"[ \t]*(?P<label>[A-Za-z_$\"'][^\n:={}\[\]]*?|[A-Za-z_][\w.]*(?:\[[0-9]*\])?)[ \t]*(?:->|=>|[:=])(?P<rest>[^\n]*)"
)
_WRAPPED: Final = re.compile(
    r"(?:(?:np\.|numpy\.)?array|(?:torch\.)?tensor)[ \t]*\(|,?[ \t]*dtype[ \t]*=[ \t]*[\w.]+[ \t]*\)"
    r"|\((?:u?int[0-9]+_t|(?:un)?signed char|float)\)|[\[\](){};|]|[ \t]*(?://|#)[^\n]*$"
)
_SET: Final = re.compile(r"\b(?:set|sample|vector)[ _#-]*[0-9]+", re.IGNORECASE)
_COUNT: Final = re.compile(r"[0-9]+")


@dataclass(slots=True)
class _Group:
    """Numbers under one label.

    `number` is that of the set, where labels count; `open` while lines of numbers belong to it.
    """

    label: str
    position: int
    tokens: list[Token] = field(default_factory=list)
    number: int | None = None
    open: bool = True


def read_console(source: Source, *, base: int | None = None) -> tuple[DumpArray, ...]:
    r"""Read the values in a log.

    Values of a label that comes again, or that counts from 0 or 1 on, stand one after the other in one array.

    Raises
    ------
    InputError
        If there are no values, an element is missing, or a line of numbers is damaged.

    Examples
    --------
    >>> text = "boot v1\nout[0] = -43\nout[1] = 5\ndone\n"
    >>> [(array.name, array.values.tolist()) for array in read_console(Source("uart.txt", text))]
    [('out', [-43, 5])]
    """
    lines = list(_lines(source))
    groups = _elements(source, lines) or _counted(source, lines) or _labelled(source, lines, base)
    if not groups:
        raise InputError(f"{source.path}: holds no numbers that stand alone, behind a label or behind an index; give --match")
    return tuple(_joined(source, groups, base))


def read_matches(source: Source, pattern: str, *, base: int | None = None) -> tuple[DumpArray, ...]:
    r"""Read the numbers that a regular expression finds, line by line.

    Parameters
    ----------
    source
        The text.
    pattern
        Its group ``value``, else its first group, else all of it, holds numbers with separators between them; a group ``name``
        is the name of the array.
    base
        16 for hexadecimal numbers without ``0x``.

    Raises
    ------
    UsageError
        If the pattern is not a regular expression.
    InputError
        If nothing matches, or a match is not a number.

    Examples
    --------
    >>> read_matches(Source("uart.txt", "t=3 v=-43\nt=4 v=5\n"), r"v=(\S+)")[0].values
    array([-43,   5])
    """
    try:
        expression = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise UsageError(f"--match {shown(pattern)} is not a regular expression: {error}") from error
    group = "value" if "value" in expression.groupindex else min(expression.groups, 1)
    groups = dict[str, _Group]()
    for match in expression.finditer(source.text):
        name = match["name"] or "" if "name" in expression.groupindex else ""
        found = groups.setdefault(name, _Group(name, match.start()))
        found.tokens += _tokens(match[group] or "", match.start(group))
    filled = [item for item in groups.values() if item.tokens]
    if not filled:
        raise InputError(f"{source.path}: nothing matches {shown(pattern)}")
    return tuple(_array(source, item, base) for item in filled)


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    """Lines and where they start, with blanks in place of timestamps and other prefixes."""
    position = 0
    for line in source.text.splitlines(keepends=True):
        text = _ANSI.sub(lambda found: " " * len(found.group()), line.rstrip("\r\n"))
        end = 0
        while (match := _PREFIX.match(text, end)) is not None and match.end() > end:
            end = match.end()
        yield position, " " * end + text[end:]
        position += len(line)


def _elements(source: Source, lines: Sequence[tuple[int, str]]) -> list[_Group]:
    """Elements with indices in brackets, and rows of values whose labels count."""
    groups, found = list[_Group](), dict[str, tuple[_Group, int]]()
    for start, line in lines:
        parts = list(_ELEMENT.finditer(line))
        if len(parts) == 1 and _tokens(line[parts[0].end() :], 0) and _data(line[parts[0].end() :], 0, None):
            continue  # y[4]: 1 2 3 4 is a label with the length
        labels = [part["name"] or "" for part in parts]
        if not parts and _FIELDS.fullmatch(line):
            parts = list(_FIELD.finditer(line))
            labels = [part["stem"] for part in parts]
            if [int(part["index"]) for part in parts] not in (list(range(len(parts))), list(range(1, len(parts) + 1))) and (
                len(parts) != 1 or labels[0] not in found
            ):
                continue
        for part, label in zip(parts, labels, strict=True):
            index = tuple(int(text) for text in _COUNT.findall(part["index"]))
            _take_element(source, groups, found, label, index, Token(part["value"], start + part.start("value")))
    # an index that stands once, as CPU[0], is no array of elements
    return [group for group in groups if len(group.tokens) > 1]


def _take_element(
    source: Source,
    groups: list[_Group],
    found: dict[str, tuple[_Group, int]],
    label: str,
    index: tuple[int, ...],
    token: Token,
) -> None:
    """Put an element behind the one before it, or begin a set."""
    place = index[-1]
    group, last = found.get(label, (None, -1))
    first = place in (0, 1) if group is None else place in (0, 1) and place < last
    if group is None:
        group = _Group(label, token.position)
        groups.append(group)
    elif place != last + 1 and not (first or (place == 0 and (last == 0 or len(index) > 1))):
        raise source.error(
            token.position, f"element [{place}] of '{label}' where [{last + 1}] is wanted; a line is missing or damaged"
        )
    if group.tokens == [] and not first:
        raise source.error(token.position, f"'{label}' begins with element [{place}]; the beginning is missing")
    group.tokens.append(token)
    found[label] = (group, place)


def _counted(source: Source, lines: Sequence[tuple[int, str]]) -> list[_Group]:
    """Lines of an index and a value, as ``3: -4``."""
    group, last = None, -1
    for start, line in lines:
        match = _COUNTED.fullmatch(line)
        if match is None:
            continue
        place = int(match["index"])
        if group is None:
            group = _Group("", start)
        elif place != last + 1 and place not in (0, 1):
            raise source.error(start, f"element {place} where {last + 1} is wanted; a line is missing or damaged")
        group.tokens.append(Token(match["value"], start + match.start("value")))
        last = place
    return [group] if group is not None and len(group.tokens) > 1 else []


def _labelled(source: Source, lines: Sequence[tuple[int, str]], base: int | None) -> list[_Group]:
    """Lines of numbers, and of a label with numbers behind it."""
    groups = list[_Group]()
    for start, line in lines:
        tokens = _data(line, start, base)
        if tokens is not None:
            if tokens or not line.strip():
                if groups and groups[-1].open:
                    groups[-1].tokens += tokens
                elif tokens:
                    groups.append(_Group("", start, tokens))
            continue
        match = _LABEL.fullmatch(line)
        tokens = None if match is None else _data(match["rest"], start + match.start("rest"), base)
        if match is not None and tokens is not None:
            text = match["label"].strip().strip("\"'")
            continues = not tokens or match["rest"].rstrip().endswith((",", "[", "{", "(")) or _is_open(match["rest"])
            groups.append(_Group(text, start, tokens, _number(text), continues))
            continue
        _check_text(source, start, line)
        if groups:
            groups[-1].open = False
    return [group for group in groups if group.tokens]


def _is_open(text: str) -> bool:
    return sum(text.count(mark) for mark in "[{(") > sum(text.count(mark) for mark in "]})")


def _data(text: str, start: int, base: int | None) -> list[Token] | None:
    """The numbers of a piece of text that holds nothing else; None where it does."""
    plain = _WRAPPED.sub(lambda found: " " * len(found.group()), text)
    tokens = _tokens(plain, start)
    texts = [token.text for token in tokens]
    known = all(map(is_number, texts)) or are_bare_hex(texts) if texts else not plain.strip(" \t,")
    if base == 16:
        known = all(re.fullmatch(r"(?:0[xX])?[0-9a-fA-F]+", item) for item in texts)
    if not known or re.search(r",[ \t]*,|^[ \t]*,[ \t]*\S", plain):
        return None
    return tokens


def _tokens(text: str, start: int) -> list[Token]:
    return [Token(match.group(), start + match.start()) for match in re.finditer(r"[^\s,;]+", text)]


def _check_text(source: Source, start: int, line: str) -> None:
    """Refuse a line that is text only because something in it is damaged."""
    match = _LABEL.fullmatch(line)
    at = match.start("rest") if match is not None else 0
    tokens = _tokens(_WRAPPED.sub(lambda found: " " * len(found.group()), line[at:]), start + at)
    others = [token for token in tokens if not is_number(token.text)]
    few = match is None and bool(tokens) and is_number(tokens[0].text) and 2 * len(others) <= len(tokens)
    bad = [token for token in others if few or not_finite(token.text) or _is_damaged(token.text, len(tokens))]
    if bad and (few or len(others) < len(tokens) or not_finite(bad[0].text)):
        raise source.error(bad[0].position, complaint(bad[0].text, None))
    if tokens and not others:
        raise source.error(tokens[0].position, "a number is missing between two commas")


def _is_damaged(text: str, among: int) -> bool:
    """Whether a piece among numbers is like one, and no word."""
    return among > 1 and re.match(r"[+-]?[0-9.]|[?*#]+$", text) is not None


def _number(label: str) -> int | None:
    """The only number in a label, which counts sets."""
    counts = _COUNT.findall(label)
    return int(counts[0]) if len(counts) == 1 else None


def _joined(source: Source, groups: Sequence[_Group], base: int | None) -> Iterator[DumpArray]:
    """One array for each label; labels that count are one label."""
    found = dict[str, list[_Group]]()
    for group in groups:
        alike = _COUNT.sub("#", group.label) if group.number is not None else group.label
        found.setdefault(alike, []).append(group)
    for label, parts in found.items():
        if label == "" and len(parts) > 1:
            yield from (_array(source, part, base) for part in parts)
            continue
        numbers = [part.number for part in parts]
        numbered = len(parts) > 1 and None not in numbers and len(set(numbers)) > 1
        if numbered and numbers not in (list(range(len(parts))), list(range(1, len(parts) + 1))):
            raise source.error(
                parts[0].position,
                f"labels '{parts[0].label}' to '{parts[-1].label}' do not count one by one; a line is missing",
            )
        whole = _Group(_name(parts[0].label), parts[0].position, [token for part in parts for token in part.tokens])
        array = _array(source, whole, base)
        alone = parts[0].number if len(parts) == 1 and _SET.search(parts[0].label) else None
        yield array if alone is None else replace(array, set_index=alone)


def _name(label: str) -> str:
    """What of a label names the array: its last word that is not a number."""
    words = re.findall(r"[A-Za-z_$][\w.$]*", label)
    return words[-1] if words else ""


def _array(source: Source, group: _Group, base: int | None) -> DumpArray:
    if base is None and are_bare_hex([token.text for token in group.tokens]):
        base = 16
    numbers = as_array(source, group.tokens, base=base)
    place = source.line(group.tokens[0].position)
    return DumpArray(
        group.label, numbers.values, place, base=numbers.base, word_bits=numbers.word_bits, printed=numbers.printed
    )
