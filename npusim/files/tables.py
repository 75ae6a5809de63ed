"""Tables of numbers, one sample a row: .csv and .parquet files; and the tables that commands write."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, printable
from npusim.files.arrays import check_growth, check_readable, reading
from npusim.graph import Array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv_bytes", "read_csv", "read_parquet"]


LONGEST_CELL = 40
"""Characters of a wrong cell that a message shows."""

LONGEST_LINE: Final = 2**25
"""Characters of a line of a .csv file; a longer one is some other file."""

LARGEST_NUMBER: Final = 8
"""Bytes of a number in a column."""


def read_csv(path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    """Read a file of numbers separated by commas, semicolons or tabs, whichever its first line has; one sample a line.

    The first line is a header when none of its cells is a number. Every other line must have the same number of cells, each of
    them a finite decimal number. Blank lines may only stand at the end.

    Parameters
    ----------
    path
        The file, in UTF-8.

    Returns
    -------
    ndarray
        float64 of shape (lines, columns): each number is rounded once, to the nearest float64.

    Raises
    ------
    InputError
        If the file is missing or not UTF-8, holds no numbers, text in a cell, NaN or infinity, lines of different length, or
        a first line that could be pandas' column numbers as well as a sample.
    """
    path = Path(path)
    check_readable(path)
    rows: list[npt.NDArray[np.float64]] = []
    width = blank_line = 0
    for line, cells, separator in _csv_lines(path):
        if len(cells) <= 1 and not "".join(cells).strip():
            blank_line = blank_line or line
            continue
        if blank_line:
            raise InputError(f"{path}: line {blank_line} is blank, yet more lines follow; remove it or fill it")
        if not width:
            width = len(cells)
            if _is_header(cells, path):
                continue
        if len(cells) != width:
            seen = f"line {line} has {len(cells)} columns, wanted {width} as in the first line"
            raise InputError(f"{path}: {seen}; write every sample in full")
        rows.append(_parse_row(cells, path, line, separator))
    if not rows:
        raise InputError(f"{path}: holds no samples; write one sample a line")
    return np.stack(rows)


def read_parquet(path: str | os.PathLike[str]) -> list[tuple[str, Array]]:
    """Read the columns of a Parquet file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list of tuple
        Name and values of each column, in the order of the file: integers or floats, one element a row; at least one column.

    Raises
    ------
    InputError
        If the file is missing or damaged, pyarrow is not installed, or a column is not numeric or
        lacks values, or there are no columns.
    """
    import pandas as pd

    path = Path(path)
    check_readable(path)
    try:
        with reading(path, "a Parquet file", "save it again with DataFrame.to_parquet"):
            from pyarrow.parquet import read_metadata

            held = read_metadata(path)
            check_growth(path, held.num_rows * held.num_columns * LARGEST_NUMBER)
            frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise InputError(f"{path}: Parquet files need pyarrow; pip install '.[parquet]', or save as .npz or .csv") from error
    if not len(frame.columns):
        raise InputError(f"{path}: holds no columns; write one column for each value of a sample")
    return [(str(label), _numbers(frame.iloc[:, at], path)) for at, label in enumerate(frame.columns)]


def csv_bytes(table: pd.DataFrame) -> bytes:
    r"""A table as a CSV file that a spreadsheet shows and does not run.

    Names come from models. A text that begins like a formula (``=``, ``+``, ``-``, ``@``) gets an apostrophe in front, and
    characters that are not printable are written as Python writes them. Numbers stay as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> csv_bytes(pd.DataFrame({"layer": ["=1+1", "conv"], "error": [-1, 2]}))
    b"layer,error\n'=1+1,-1\nconv,2\n"
    """
    shown = table.map(lambda cell: _harmless(cell) if isinstance(cell, str) else cell)
    return shown.rename(columns=lambda name: _harmless(str(name))).to_csv(index=False, lineterminator="\n").encode()


def _harmless(text: str) -> str:
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@")) else shown


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str], str]]:
    """Number of the line, its cells and what separates them, for each line."""
    with (
        reading(path, "CSV", "save it as comma-separated numbers in UTF-8"),
        path.open(newline="", encoding="utf-8-sig") as lines,
    ):
        separator = _separator(lines.readline(LONGEST_LINE))
        lines.seek(0)
        reader = csv.reader(_bounded(path, lines), delimiter=separator, strict=True)
        for cells in reader:
            yield reader.line_num, cells, separator


def _bounded(path: Path, lines: TextIO) -> Iterator[str]:
    """The lines of a text file, of which none may fill the memory."""
    number = 0
    while line := lines.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise InputError(f"{path}: line {number} has {LONGEST_LINE} characters or more; is it a CSV file? Save it as .npy")
        yield line


_SEPARATORS: Final[Mapping[str, str]] = MappingProxyType({";": "semicolons", ",": "commas", "\t": "tabs"})
"""What can stand between numbers. Semicolons first: spreadsheets write them where the comma is the decimal sign."""


def _separator(line: str) -> str:
    return next((item for item in _SEPARATORS if item in line), ",")


def _numbers(column: pd.Series[Any], path: Path) -> Array:
    """A column's values, if all of them are there and are numbers."""
    dtype: Any = column.dtype
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: column '{column.name}' is {dtype}, wanted numbers; drop it or convert it before saving")
    missing = column.isna().to_numpy(dtype=bool)
    if missing.any():
        row = int(missing.argmax())
        raise InputError(f"{path}: column '{column.name}' has no number in row {row} (counted from 0); fill it or drop the row")
    # pandas' own nullable types keep their NumPy counterpart in numpy_dtype.
    return column.to_numpy(dtype=getattr(dtype, "numpy_dtype", dtype))


def _is_header(cells: list[str], path: Path) -> bool:
    """Whether the first line names columns instead of holding a sample."""
    names = cells if cells[0].strip() else cells[1:]
    if len(names) > 1 and names == [str(column) for column in range(len(names))]:
        raise InputError(
            f"{path}: line 1 counts from 0 to {len(names) - 1}, as pandas writes column numbers; remove it "
            "(to_csv(header=False, index=False)), or, if it is a sample, write its numbers with a decimal point"
        )
    return all(_number(cell) is None for cell in cells)


def _parse_row(cells: list[str], path: Path, line: int, separator: str) -> npt.NDArray[np.float64]:
    """The numbers of one line."""
    # Text becomes None here, None becomes NaN in the array, and so all that is wrong is found by one test.
    row = np.array([_number(cell) for cell in cells], dtype=np.float64)
    if not np.isfinite(row).all():
        column = int(np.isfinite(row).argmin())
        cell = cells[column].strip()
        seen = f"is {cell[:LONGEST_CELL]!r}{'...' if len(cell) > LONGEST_CELL else ''}" if cell else "is empty"
        raise InputError(
            f"{path}: line {line}, column {column + 1} {seen}, wanted a finite number, "
            f"with {_SEPARATORS[separator]} between numbers"
        )
    return row


def _number(cell: str) -> float | None:
    """The cell's value, or None for text; underscores, which Python would allow between digits, are text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
