r"""Arrays as debuggers print expressions: gdb's ``$1 = {-43, 5 <repeats 3 times>}`` and strings, the expression view of CCS."""

from __future__ import annotations

import re
from typing import Final

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import NUMBER, Source, Token, as_array

__all__ = ["is_expressions", "is_gdb", "read_expressions", "read_gdb"]

_GDB: Final = re.compile(
    r"^[ \t]*(?:\(gdb\)[ \t]*)?(?P<name>\$[0-9]+|[A-Za-z_][\w.>-]*)[ \t]*=[ \t]*(?:\([^()\n]*\)[ \t]*)?(?=[{\"'])(?![{]\")",
    re.MULTILINE,
)
_PART: Final = re.compile(
    rf"(?P<gap>[+-]?[0-9]*\.\.\.)|(?P<number>{NUMBER})(?:[ \t]*'(?:\\[^']{{1,3}}|\\'|[^'\n])')?"
    r"|(?P<text>\"(?:\\.|[^\"\\])*\")|(?P<char>'(?:\\[^']{1,3}|\\'|[^'\n])')"
    r"|(?P<repeats><repeats (?P<times>[0-9]{1,7}) times>)|(?P<open>\{)|(?P<close>\})|(?P<mark>[,\s]+|\[[0-9]+\][ \t]*=)"
)
_ESCAPE: Final = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)|(.)", re.DOTALL)
_NAMED: Final = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "e": 27}

_ELEMENT: Final = re.compile(
    rf"^[ \t]*\[(?P<index>[0-9]+)\][ \t]*\t[ \t]*(?P<type>[A-Za-z][\w \t]*?)[ \t]*\t[ \t]*(?P<value>{NUMBER})"
    rf"(?:[ \t]+'[^\t\n]*')?[ \t]*(?:\([^\t\n]*\))?[ \t]*(?:\t|\r?$)",
    re.MULTILINE,
)
_HEAD: Final = re.compile(r"^[ \t]*(?P<name>[A-Za-z_][\w.>-]*)[ \t]*\t[^\t\n]*\[[0-9]+\]", re.MULTILINE)


def is_gdb(text: str) -> bool:
    """Whether a text has an array, or a string, as gdb prints it."""
    match = _GDB.search(text)
    return match is not None and (match["name"].startswith("$") or text[match.end()] == '"' or "(gdb)" in text)


def is_expressions(text: str) -> bool:
    """Whether a text has elements as the expression view of CCS copies them."""
    return _ELEMENT.search(text) is not None


def read_gdb(source: Source) -> tuple[DumpArray, ...]:
    r"""Read the arrays that gdb printed; repeated elements are written out, characters are their bytes as int8 codes or uint8.

    Raises
    ------
    InputError
        If an array is cut off, as gdb does it beyond 200 elements, or holds something else.

    Examples
    --------
    >>> read_gdb(Source("gdb.txt", "$1 = {-43, 5 <repeats 3 times>}"))[0].values
    array([-43,   5,   5,   5])
    """
    arrays = tuple(_printed(source, match) for match in _GDB.finditer(source.text))
    if not arrays:
        raise InputError(f"{source.path}: holds no array that gdb printed, as '$1 = {{1, 2}}'")
    return arrays


def _printed(source: Source, match: re.Match[str]) -> DumpArray:
    position, depth = match.end(), 0
    tokens, last = list[Token](), list[Token]()
    is_text = source.text[position] in "\"'"
    while (part := _PART.match(source.text, position)) is not None:
        if is_text and part["mark"] is not None and "\n" in part["mark"] and not part["mark"].startswith(","):
            break
        position = part.end()
        depth += (part["open"] is not None) - (part["close"] is not None)
        if part["gap"] is not None:
            raise source.error(part.start(), "gdb left out the rest; save the array again behind 'set print elements 0'")
        if part["number"] is not None:
            last = [Token(part["number"], part.start())]
            tokens += last
        elif part["text"] is not None or part["char"] is not None:
            text = part["text"] or part["char"]
            last = [Token(str(code), part.start()) for code in _codes(text[1:-1])]
            tokens += last
        elif part["repeats"] is not None:
            if not last:
                raise source.error(part.start(), "a repetition of nothing")
            tokens += last[-1:] * (int(part["times"]) - 1)
        if part["close"] is not None and depth == 0:
            break
    if depth or not tokens:
        raise source.error(position, "the array is not closed or holds something else than numbers; print it again")
    numbers = as_array(source, tokens)
    name = "" if match["name"].startswith("$") else match["name"]
    place = source.line(match.start())
    return DumpArray(name, numbers.values, place, base=numbers.base, word_bits=numbers.word_bits, printed=numbers.printed)


def _codes(text: str) -> list[int]:
    """The bytes of a C string."""
    codes = []
    for escaped, plain in _ESCAPE.findall(text):
        if plain:
            codes += list(plain.encode("latin-1", errors="replace"))
        elif escaped[0] == "x":
            codes.append(int(escaped[1:], 16))
        elif escaped[0] in "01234567":
            codes.append(int(escaped, 8) & 0xFF)
        else:
            codes.append(_NAMED.get(escaped, ord(escaped) & 0xFF))
    return codes


def read_expressions(source: Source) -> tuple[DumpArray, ...]:
    r"""Read the elements of the expression view of CCS: index, type, value and address with tabs between them.

    Raises
    ------
    InputError
        If indices do not follow each other from 0 on.

    Examples
    --------
    >>> text = "y\tsigned char[2]\t[...]\t0xA800\n\t[0]\tsigned char\t-43 '.'\t0xA800\n\t[1]\tsigned char\t5 '.'\t0xA801\n"
    >>> (array,) = read_expressions(Source("ccs.txt", text))
    >>> array.name, array.values
    ('y', array([-43,   5]))
    """
    heads = [(match.start(), match["name"]) for match in _HEAD.finditer(source.text)]
    arrays, tokens, start = list[DumpArray](), list[Token](), 0

    def finish() -> None:
        numbers = as_array(source, tokens)
        name = next((name for at, name in reversed(heads) if at <= start), "")
        known = (numbers.values, source.line(start), numbers.base, numbers.word_bits)
        values, place, base, bits = known
        arrays.append(DumpArray(name, values, place, base=base, word_bits=bits, printed=numbers.printed))

    for match in _ELEMENT.finditer(source.text):
        index = int(match["index"])
        if index == 0 and tokens:
            finish()
            tokens = []
        if index == 0:
            start = match.start()
        if index != len(tokens):
            raise source.error(
                match.start(), f"element [{index}] where [{len(tokens)}] is wanted; open all elements and copy again"
            )
        tokens.append(Token(match["value"], match.start("value")))
    if not tokens:
        raise InputError(f"{source.path}: holds no elements")
    finish()
    return tuple(arrays)
