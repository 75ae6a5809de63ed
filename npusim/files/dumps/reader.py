"""Reading a dump in any format, which is told from its content."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError, UsageError
from npusim.files.arrays import check_readable, listed, read_npy, read_npz
from npusim.files.dumps.console import read_console, read_matches
from npusim.files.dumps.debugger_text import is_expressions, is_gdb, read_expressions, read_gdb
from npusim.files.dumps.dump import Dump, DumpArray
from npusim.files.dumps.features import FEATURES, files_of, is_feature_text, read_features, read_features_folder
from npusim.files.dumps.hex_records import is_s_record, is_ti_txt, read_s_records, read_ti_txt
from npusim.files.dumps.intel_hex import read_intel_hex
from npusim.files.dumps.json_arrays import is_json, read_json_arrays
from npusim.files.dumps.memory_lines import is_memory_text, is_octal_dump, read_memory_lines
from npusim.files.dumps.numbers import Source
from npusim.files.dumps.plain_text import is_plain_text, read_ccs_data, read_plain_text
from npusim.files.dumps.vector_sets import is_c_source, read_c_source
from npusim.files.element_types import first_of
from npusim.files.tables import read_csv
from npusim.graph import Array

__all__ = ["FORMATS", "detect_format", "read_dump"]

FORMATS: Final = (
    *("text", "c", "csv", "ccs", "bin", "ihex", "npy", "npz", FEATURES),
    *("log", "json", "memory", "gdb", "expressions", "srec", "titxt"),
)
"""Formats that can be asked for: text is numbers only, a log has text around them, memory is lines of addresses and values.

Of C source, test vectors and generated headers are told apart by their symbols.
"""

LARGEST_FILE: Final = 256 * 2**20
"""Bytes; the memory of a microcontroller is far smaller."""

_TEXT_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_dump(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    dtype: npt.DTypeLike | None = None,
    base: int | None = None,
    match: str | None = None,
) -> Dump:
    r"""Read a dump of device memory or of a console.

    Parameters
    ----------
    path
        The file; or a folder of ``input.txt`` and ``out_layerK.txt``, as PLiNIO and DORY write them.
    format
        One of `FORMATS`; by default it is told from the content. Only for raw bytes and CSV, which could be something else, the
        suffixes ``.bin`` and ``.csv`` decide as well.
    dtype
        Element type that the values are converted to, and must fit. Without it numbers are held as written, and the bytes of
        ``.bin`` and Intel hex files as bytes (`DumpArray.converted` reads them later).
    base
        16 for text with hexadecimal numbers that have no ``0x``.
    match
        A regular expression that finds the numbers in a log, see :func:`npusim.files.dumps.console.read_matches`.

    Returns
    -------
    Dump
        At least one array, or the structs of a generated header.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged or of another format; if something stands between the numbers (with line and
        column); if a value is NaN, infinite or out of the type's range; if numbers mix bases.
    UsageError
        If there is no such format or base.

    Examples
    --------
    >>> _ = Path("/tmp/uart.txt").write_text("1, 2,\n-3\n")
    >>> read_dump("/tmp/uart.txt", dtype="int8").only.values
    array([ 1,  2, -3], dtype=int8)
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"there is no dump format '{format}'; the formats are {', '.join(FORMATS)}")
    if match is not None and format not in (None, "log"):
        raise UsageError(f"a pattern finds the numbers in a log, and the format asked for is '{format}'; leave out one of them")
    if base not in (None, 10, 16):
        raise UsageError(f"base {base}: numbers are read in base 10 or 16")
    file = Path(path)
    if file.is_dir():
        return _read_folder(file, format)
    check_readable(file)
    content = _content(file)
    if match is not None:
        dump = Dump(str(file), "log", read_matches(_source(file, content), match, base=16 if base == 16 else None))
    else:
        found = detect_format(file, content) if format is None else format
        dump = _READERS[found](file, content, 16 if base == 16 else None)
    for array in dump.arrays:
        _check_values(dump, array)
    if dtype is None:
        return dump
    wanted = np.dtype(dtype)
    arrays = tuple(
        replace(array, values=_frozen(array.converted(wanted, dump.path)), raw=False, base=None, word_bits=None)
        for array in dump.arrays
    )
    return replace(dump, arrays=arrays)


def detect_format(path: Path, content: bytes) -> str:
    r"""Tell the format from the content.

    Examples
    --------
    >>> detect_format(Path("y.txt"), b"1651 1 c000 0 1\n0x0001\n"), detect_format(Path("y.txt"), b"int8_t y[1] = {1};")
    ('ccs', 'c')
    """
    suffix = path.suffix.lower()
    if content.startswith(b"\x93NUMPY"):
        return "npy"
    if content.startswith(b"PK\x03\x04"):
        return "npz"
    text = None if suffix == ".bin" else _decoded(content)
    if text is None:
        return {".npy": "npy", ".npz": "npz"}.get(suffix, "bin")
    start = text.lstrip()
    if re.match(r":[0-9a-fA-F]{10}", start) or suffix in (".hex", ".ihex"):
        return "ihex"
    if re.match(r"1651\s+\S+\s+\S+\s+\S+\s+\S+[ \t\r]*(?:\S+[ \t\r]*)?(?:\n|$)", start) or suffix == ".dat":
        return "ccs"
    if is_feature_text(start):
        return FEATURES
    if suffix == ".json" or is_json(text):
        return "json"
    known = (("srec", is_s_record), ("titxt", is_ti_txt), ("expressions", is_expressions), ("gdb", is_gdb))
    for name, is_so in known:
        if suffix not in (".c", ".h", ".csv") and is_so(start):
            return name
    if suffix in (".c", ".h") or is_c_source(text):
        return "c"
    if suffix == ".csv":
        return "csv"
    if is_octal_dump(start):
        return "memory"
    if is_plain_text(text):
        return "text"
    return "memory" if is_memory_text(text) else "log"


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{path}: has {size} bytes, more than any device's memory; save the values of one tensor")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise InputError(f"{path}: is empty; save the values of one tensor")
    return content


def _decoded(content: bytes) -> str | None:
    """The text, or None for binary data."""
    encoding = next((name for mark, name in _TEXT_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if all(item.isprintable() or item in "\t\r\n\f\v\x1b" for item in text) else None


def _source(path: Path, content: bytes) -> Source:
    """The text of a file that was asked to be read as text, whatever it holds."""
    encoding = next((name for mark, name in _TEXT_MARKS if content.startswith(mark)), "utf-8")
    return Source(str(path), content.decode(encoding, errors="replace"))


def _read_text(path: Path, content: bytes, base: int | None) -> Dump:
    return Dump(str(path), "text", read_plain_text(_source(path, content), base=base))


def _read_log(path: Path, content: bytes, base: int | None) -> Dump:
    return Dump(str(path), "log", read_console(_source(path, content), base=base))


def _of_text(name: str, read: Callable[[Source], tuple[DumpArray, ...]]) -> Callable[[Path, bytes, int | None], Dump]:
    """A reader of text that says its base itself."""
    return lambda path, content, _base: Dump(str(path), name, read(_source(path, content)))


def _read_features(path: Path, content: bytes, _base: int | None) -> Dump:
    return Dump(str(path), FEATURES, (read_features(_source(path, content)),))


def _read_folder(folder: Path, format_name: str | None) -> Dump:
    if format_name not in (None, FEATURES):
        raise UsageError(f"{folder} is a folder, and a folder is read as '{FEATURES}' only; name one file")
    dump = read_features_folder(folder, [read_features(_source(path, _content(path))) for path in files_of(folder)])
    for array in dump.arrays:
        _check_values(dump, array)
    return dump


def _read_c(path: Path, content: bytes, base: int | None) -> Dump:
    return read_c_source(_source(path, content), base=base)


def _read_csv(path: Path, _content: bytes, _base: int | None) -> Dump:
    table = read_csv(path)
    whole = bool((table == np.floor(table)).all()) and bool((np.abs(table) <= 2.0**53).all())
    values: Array = table.astype(np.int64) if whole else table
    return Dump(str(path), "csv", (DumpArray("", values, "line 1", base=10 if whole else None),))


def _read_ccs(path: Path, content: bytes, _base: int | None) -> Dump:
    return Dump(str(path), "ccs", read_ccs_data(_source(path, content)))


def _read_bin(path: Path, content: bytes, _base: int | None) -> Dump:
    return Dump(str(path), "bin", (DumpArray("", np.frombuffer(content, np.uint8), "byte 0", raw=True),))


def _read_hex(path: Path, content: bytes, _base: int | None) -> Dump:
    arrays, notes = read_intel_hex(_source(path, content))
    return Dump(str(path), "ihex", arrays, notes=notes)


def _read_npy(path: Path, _content: bytes, _base: int | None) -> Dump:
    return Dump(str(path), "npy", (DumpArray("", read_npy(path), "the file"),))


def _read_npz(path: Path, _content: bytes, _base: int | None) -> Dump:
    arrays = read_npz(path)
    if not arrays:
        raise InputError(f"{path}: holds {listed(())}; save the values of one tensor")
    return Dump(str(path), "npz", tuple(DumpArray(name, values, "the archive") for name, values in arrays.items()))


_READERS: Final[dict[str, Callable[[Path, bytes, int | None], Dump]]] = {
    "text": _read_text,
    "c": _read_c,
    "csv": _read_csv,
    "ccs": _read_ccs,
    "bin": _read_bin,
    "ihex": _read_hex,
    "npy": _read_npy,
    "npz": _read_npz,
    FEATURES: _read_features,
    "log": _read_log,
    "json": _of_text("json", read_json_arrays),
    "memory": _of_text("memory", read_memory_lines),
    "gdb": _of_text("gdb", read_gdb),
    "expressions": _of_text("expressions", read_expressions),
    "srec": _of_text("srec", read_s_records),
    "titxt": _of_text("titxt", read_ti_txt),
}


def _check_values(dump: Dump, array: DumpArray) -> None:
    """Refuse what is not numbers, and numbers that are not finite."""
    values: np.ndarray[Any, np.dtype[Any]] = array.values
    where = f"{dump.path}: {array.described}"
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise InputError(f"{where}: has dtype {values.dtype}, wanted integers or floats of at most 64 bits")
    if values.size == 0:
        raise InputError(f"{where}: holds no values")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{where}: {first_of(values, ~np.isfinite(values))} is not a finite number")
    _frozen(values)


def _frozen(values: Array) -> Array:
    values.setflags(write=False)
    return values
