"""What goes to stdout and stderr: JSON objects, tables that fit a terminal, paragraphs, one-line errors."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from npusim.cli.paths import as_given
from npusim.errors import NpusimError, count
from npusim.findings import Finding
from npusim.graph.model_file import open_model
from npusim.results.base import Failure, FailureReason, ModelIdentity, Result
from npusim.results.not_quantized import NOT_QUANTIZED
from npusim.schemas.objects import json_object

__all__ = [
    "Column",
    "Row",
    "count",
    "failure",
    "json_text",
    "note",
    "number",
    "one_line",
    "paragraph",
    "print_json",
    "print_not_quantized",
    "render_table",
    "shorten",
    "terminal_width",
]


def terminal_width() -> int:
    """Columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def note(sentence: str) -> None:
    """Say something on stderr that is worth knowing and stops nothing."""
    click.echo(f"npusim: {one_line(sentence)}", err=True)


def paragraph(text: str, width: int) -> str:
    """Break a text into lines; words, names above all, are never broken."""
    return textwrap.fill(one_line(text), max(width, 20), break_long_words=False, break_on_hyphens=False)


def number(value: float) -> str:
    """A number in full: whole ones as integers, float32 values with the digits that tell them from all other float32 values.

    Examples
    --------
    >>> number(3.0), number(0.25), number(float(np.float32(0.1))), number(float("nan"))
    ('3', '0.25', '0.1', 'nan')
    """
    if value % 1 == 0 and abs(value) < 2**63:
        return str(int(value))
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return str(single) if float(single) == value else repr(float(value))


def one_line(text: str) -> str:
    """A text without line breaks and control characters, which names in a model may hold."""
    return as_given("".join(char if char.isprintable() else " " for char in " ".join(text.split())))


def failure(model: str | None, kind: str, message: str, exit_code: int) -> Failure:
    """The JSON object of a command that could not do its work."""
    shown = None if model is None else ModelIdentity(model, _sha256(model))
    return Failure(model=shown, error=FailureReason(kind, message, exit_code))


def print_json(value: object) -> None:
    """Print a result as one JSON object; NaN and infinities, which JSON does not have, as "nan", "inf" and "-inf"."""
    click.echo(as_given(json_text(value)))


def json_text(value: object) -> str:
    """A result as the text of one JSON object."""
    plain = value.to_dict() if isinstance(value, Result) else json_object(value)
    return json.dumps(plain, indent=2, allow_nan=False)


def _sha256(path: str) -> str | None:
    try:
        return open_model(path).sha256
    except NpusimError:
        return None


SHORTEST_NAME = 12
"""Names are not shortened below this; a table that needs more room than there is gets wider instead."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    title
        One or more lines.
    right
        Flush right, as numbers are.
    shrinks
        Whether its cells may be shortened.
    """

    title: str
    right: bool = False
    shrinks: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells, whether it is marked as the one to look at, and lines that follow it."""

    cells: tuple[str, ...]
    marked: bool = False
    notes: tuple[str, ...] = ()


def render_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[str]:
    """Lay out a table as lines of text, the title line first.

    Only cells of a column that shrinks are shortened, in the middle. What is then still wider than the terminal is cut into
    tables one below the other, each with the first column; only a table of two columns may pass the width. Marked rows start
    with ``!!``. Control characters, which names in a model may hold, become spaces.

    Examples
    --------
    >>> render_table([Column("name", shrinks=True), Column("n", right=True)], [Row(("abc", "7")), Row(("de", "10"))], 80)
    ['name   n', 'abc    7', 'de    10']
    """
    cells = [[one_line(cell) for cell in row.cells] for row in rows]
    titles = [column.title.split("\n") for column in columns]
    sizes = [max(len(text) for text in (*title, *(line[index] for line in cells))) for index, title in enumerate(titles)]
    margin = "   " if any(row.marked for row in rows) else ""
    excess = len(margin) + sum(sizes) + 2 * (len(columns) - 1) - width
    for index, column in enumerate(columns):
        if column.shrinks and excess > 0:
            kept = min(sizes[index], max(sizes[index] - excess, SHORTEST_NAME))
            excess -= sizes[index] - kept
            sizes[index] = kept
    lines: list[str] = []
    for chosen in _cut(sizes, width - len(margin)):
        shown, wide, last = (
            [columns[index] for index in chosen],
            [sizes[index] for index in chosen],
            chosen[-1] == len(sizes) - 1,
        )
        height = max(len(titles[index]) for index in chosen)
        stacked = zip(*([""] * (height - len(titles[index])) + titles[index] for index in chosen), strict=True)
        lines += [""] * bool(lines)
        lines += [margin + _line(title, shown, wide) for title in stacked]
        for row, line in zip(rows, cells, strict=True):
            lines.append(("!! " if row.marked else margin) + _line([line[index] for index in chosen], shown, wide))
            lines.extend(f"{margin}  {one_line(note)}" for note in row.notes if last)
    return lines


def _cut(sizes: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each table: as many as fit beside the first.

    Examples
    --------
    >>> _cut([4, 10, 10, 10], 30), _cut([4, 10, 10, 10], 80)
    ([[0, 1, 2], [0, 3]], [[0, 1, 2, 3]])
    """
    tables = [[0]]
    for index in range(1, len(sizes)):
        used = sum(sizes[one] + 2 for one in tables[-1])
        if len(tables[-1]) > 1 and used + sizes[index] > width:
            tables.append([0])
        tables[-1].append(index)
    return tables


def _line(cells: Sequence[str], columns: Sequence[Column], sizes: Sequence[int]) -> str:
    padded = (
        cell.rjust(size) if column.right else (shorten(cell, size) if column.shrinks else cell).ljust(size)
        for cell, column, size in zip(cells, columns, sizes, strict=True)
    )
    return "  ".join(padded).rstrip()


def shorten(text: str, width: int) -> str:
    """Leave out the middle of a text that is too long.

    Examples
    --------
    >>> shorten("/features/3/Conv", 11)
    '/fea...Conv'
    """
    if len(text) <= width:
        return text
    kept = max(width - 3, 2)
    return f"{text[: kept // 2]}...{text[-(kept - kept // 2) :]}"


def print_not_quantized(findings: Sequence[Finding], width: int) -> None:
    """Say that nothing of a model is quantized, where that was found."""
    for finding in findings:
        if finding.rule == NOT_QUANTIZED:
            click.echo(paragraph(f"{finding.severity} ({finding.rule}): {finding.message}; {finding.remedy}.", width))
