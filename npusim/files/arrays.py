"""NumPy's .npy and .npz files, read without trusting them and written so that no half-written file can be left.

Reading checks a file's claims before it believes them: the checksums, the sizes, and that no pickled object has to be run.
"""

from __future__ import annotations

import csv
import io
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from npusim.errors import InputError, UsageError
from npusim.files.writing import replacing
from npusim.graph import Array

__all__ = ["check_readable", "list_npz", "listed", "read_npy", "read_npz", "reading", "write_arrays"]

_READ_FAILURES = (
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    csv.Error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Python's and NumPy's readers raise on files that are damaged, encrypted or something else."""


def check_readable(path: Path) -> None:
    """Make sure that there is a file to read.

    Raises
    ------
    InputError
        If the path does not exist, is a directory or is not a regular file.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory, wanted a file; name one of the files in it")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path (it is relative to {Path.cwd()})")
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file; save the data to a file first")


@contextmanager
def reading(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Turn whatever a file reader raises inside the block into an `InputError` that names the file.

    Parameters
    ----------
    path
        The file that is being read.
    kind
        What it is read as, for example ``"a .npz archive"``.
    advice
        What the user can do about it.
    """
    try:
        yield
    except _READ_FAILURES as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read as {kind}: {cause}; {advice}") from error


def read_npy(path: str | os.PathLike[str]) -> Array:
    """Read the array in a .npy file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Array
        The array with the shape and dtype that the file declares.

    Raises
    ------
    InputError
        If the file is missing, is not a .npy file, is truncated or damaged, or holds pickled objects.
    """
    path = Path(path)
    check_readable(path)
    with reading(path, "a .npy file", "save the array again with numpy.save"):
        return _parse_npy(path.read_bytes(), str(path))


def list_npz(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of the arrays in a .npz archive, in the order of the archive.

    Raises
    ------
    InputError
        If the file is missing, is not a zip archive, is truncated, or holds two arrays of the same name.
    """
    path = Path(path)
    check_readable(path)
    with _open_npz(path) as archive:
        names = tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    if len(set(names)) != len(names):
        raise InputError(f"{path}: holds several arrays of the same name among {listed(names)}; save it again with numpy.savez")
    return names


def read_npz(path: str | os.PathLike[str], names: Iterable[str] | None = None) -> dict[str, Array]:
    """Read arrays from a .npz archive; arrays that are not asked for are not touched.

    Parameters
    ----------
    path
        The archive.
    names
        The arrays to read; None for all of them.

    Returns
    -------
    dict
        The arrays by name, in the order asked for.

    Raises
    ------
    InputError
        If the file is missing, is not a zip archive, is truncated or damaged, lacks a name, or an array holds pickled objects.
    """
    path = Path(path)
    present = list_npz(path)
    wanted = present if names is None else tuple(names)
    for name in wanted:
        if name not in present:
            raise InputError(f"{path}: holds no array '{name}', only {listed(present)}; save it under that name")
    with _open_npz(path) as archive:
        return {name: _read_member(path, archive, name) for name in wanted}


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays to a .npz archive that appears whole or not at all.

    The same arrays in the same order give the same bytes: members are stored uncompressed in C order with a fixed time stamp
    (1 January 1980, the earliest a zip archive knows).

    Parameters
    ----------
    path
        The archive to write, ending in ``.npz``; an existing file is replaced.
    arrays
        Arrays by name, in the order in which they are to be stored.

    Raises
    ------
    UsageError
        If there is nothing to write, an array holds Python objects, a name cannot be stored, or the file cannot be written.

    Examples
    --------
    >>> write_arrays("/tmp/outputs.npz", {"output": np.array([[3, -1]], np.int8)})
    >>> read_npz("/tmp/outputs.npz")
    {'output': array([[ 3, -1]], dtype=int8)}
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UsageError(f"{path}: arrays are written as .npz archives; let the name end in .npz")
    if not arrays:
        raise UsageError(f"{path}: there is no array to write")
    with replacing(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(_member(path, name, array), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def listed(names: Iterable[str]) -> str:
    """Names as a message shows them."""
    return ", ".join(f"'{name}'" for name in names) or "no arrays at all"


def _member(path: Path, name: str, array: Array) -> zipfile.ZipInfo:
    """The archive's entry for an array: a fixed time stamp, and plain permissions as on Unix wherever it is written."""
    if array.dtype.hasobject:
        raise UsageError(
            f"{path}: array '{name}' holds Python objects (dtype {array.dtype}), which are not written; convert it"
        )
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    if member.filename != f"{name}.npy":
        raise UsageError(f"{path}: the name {name!r} cannot be stored in a zip archive; rename the array")
    member.create_system = 3
    member.external_attr = 0o644 << 16
    return member


@contextmanager
def _open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz archive; damage that is met inside the block becomes an `InputError` too."""
    with reading(path, "a .npz archive", "save the arrays again with numpy.savez"), zipfile.ZipFile(path) as archive:
        yield archive


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> Array:
    with reading(path, f"a .npz archive (array '{name}')", "save the arrays again with numpy.savez"):
        return _parse_npy(archive.read(f"{name}.npy"), f"{path}: array '{name}'")


def _parse_npy(content: bytes, where: str) -> Array:
    """The array in the bytes of a .npy file; the size is compared with the header's promise before any memory is taken."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read_header is None:
        raise InputError(
            f"{where}: is in version {version} of the .npy format, wanted 1.0 or 2.0; save it again with numpy.save"
        )
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise InputError(f"{where}: holds pickled Python objects (dtype {dtype}), which are never loaded; save plain numbers")
    start = stream.tell()
    seen, wanted = len(content) - start, math.prod(shape) * dtype.itemsize
    if seen != wanted:
        raise InputError(
            f"{where}: is truncated or damaged: {seen} bytes of data, wanted {wanted} for shape {shape} of {dtype}; "
            "save the array again"
        )
    if wanted == 0:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran_order else "C").copy(order="C")
