"""Text tables that fit a terminal of 80 columns and never cut a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npusim.cli.output import one_line

__all__ = ["Column", "Row", "render_table", "shorten"]

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

    Only cells of a column that shrinks are shortened, in the middle; everything else is printed whole, even if the lines
    then pass the width. Marked rows start with ``!!``. Control characters, which names in a model may hold, become spaces.

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
    height = max(len(title) for title in titles)
    stacked = zip(*([""] * (height - len(title)) + title for title in titles), strict=True)
    lines = [margin + _line(title, columns, sizes) for title in stacked]
    for row, line in zip(rows, cells, strict=True):
        lines.append(("!! " if row.marked else margin) + _line(line, columns, sizes))
        lines.extend(f"{margin}  {one_line(note)}" for note in row.notes)
    return lines


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
