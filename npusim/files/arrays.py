"""NumPy's .npy and .npz files, read without trusting them and written so that no half-written file can be left.

Reading checks a file's claims before it believes them: the checksums, the sizes, and that no pickled object has to be run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np

from npusim.errors import InputError, UsageError
from npusim.files.writing import replacing
from npusim.graph import Array

__all__ = [
    "StoredArray",
    "StoredRows",
    "check_growth",
    "check_readable",
    "list_npz",
    "listed",
    "read_npy",
    "read_npz",
    "reading",
    "row_blocks",
    "rows_of",
    "sha256_of",
    "write_arrays",
    "writing_arrays",
]

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

LARGEST_WHOLE: Final = 16 * 2**20
"""Bytes up to which the array of a .npy file is read at once."""

BLOCK_BYTES: Final = 4 * 2**20
"""Bytes of larger arrays that are looked at or read at a time."""

LARGEST_UNPACKED: Final = 256 * 2**20
LARGEST_GROWTH: Final = 100
"""Bytes that a compressed file may always unpack to, and how many times its size otherwise."""

LARGEST_HEAD: Final = 10_000
"""Bytes of the header of a .npy file, as NumPy limits them."""

_HEAD_START: Final = 12
"""Bytes in which the length of the header stands."""


def check_readable(path: Path) -> None:
    """Make sure that there is a file to read.

    Raises
    ------
    InputError
        If the path does not exist, is a directory or is not a regular file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; check the path (it is relative to {Path.cwd()})") from None
    except (OSError, ValueError) as error:
        # a name that is too long or holds a null character, a loop of links, a folder that may not be entered
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read: {reason}; check the path") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a directory, wanted a file; give the file itself")
    if not stat.S_ISREG(mode):
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
    with reading(path, "a .npy file", "save the array again with numpy.save"), path.open("rb") as stream:
        found = os.fstat(stream.fileno())
        head = _read_head(stream, found.st_size, str(path))
        if head.bytes > LARGEST_WHOLE and not head.fortran_order:
            return StoredArray(path, stream, head)
        return _read_values(stream, head)


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


def read_npz(
    path: str | os.PathLike[str],
    names: Iterable[str] | None = None,
    accept: Callable[[str, tuple[int, ...]], None] | None = None,
) -> dict[str, Array]:
    """Read arrays from a .npz archive; arrays that are not asked for are not touched.

    Parameters
    ----------
    path
        The archive.
    names
        The arrays to read; None for all of them.
    accept
        Called with the name and the shape of each array before it is unpacked, and raises where it is not wanted.

    Returns
    -------
    dict
        The arrays by name, in the order asked for.

    Raises
    ------
    InputError
        If the file is missing, is not a zip archive, is truncated or damaged, lacks a name, an array holds pickled objects, or
        a small file would fill the memory.
    """
    path = Path(path)
    present = list_npz(path)
    wanted = present if names is None else tuple(names)
    for name in wanted:
        if name not in present:
            raise InputError(f"{path}: holds no array '{name}', only {listed(present)}; save it under that name")
    with _open_npz(path) as archive:
        check_growth(path, sum(archive.getinfo(f"{name}.npy").file_size for name in wanted))
        return {name: _read_member(path, archive, name, accept) for name in wanted}


def check_growth(path: Path, unpacked: int) -> None:
    """Refuse a compressed file that unpacks to far more than measured data does, before any memory is taken.

    Raises
    ------
    InputError
        If it is more than `LARGEST_GROWTH` times the file and than `LARGEST_UNPACKED` bytes.
    """
    packed = path.stat().st_size
    if unpacked > max(LARGEST_UNPACKED, LARGEST_GROWTH * packed):
        raise InputError(
            f"{path}: unpacks from {packed:,} to {unpacked:,} bytes, as no measured data does; if it is what you want, save it "
            "uncompressed as .npy"
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, which is not held as a whole."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def row_blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """An array in parts along its first axis that fit a cache rather than the memory, each with the number of its first row."""
    if array.nbytes <= BLOCK_BYTES or array.ndim == 0:
        yield 0, array
        return
    rows = max(BLOCK_BYTES * len(array) // array.nbytes, 1)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


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
    layout = {name: (np.shape(array), np.asarray(array).dtype) for name, array in arrays.items()}
    with writing_arrays(path, layout) as append:
        for name, array in arrays.items():
            append(name, np.asarray(array))


@contextmanager
def writing_arrays(
    path: str | os.PathLike[str], layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> Iterator[Callable[[str, Array], None]]:
    """Write arrays to a .npz archive part by part, many arrays at the same time; the archive appears whole or not at all.

    Members are not compressed, so their places are known before their values. The archive is byte for byte that of
    :func:`write_arrays`.

    Parameters
    ----------
    path
        The archive to write, ending in ``.npz``; an existing file is replaced.
    layout
        Shape and dtype of each whole array, in the order in which they are to be stored.

    Yields
    ------
    callable
        Takes the name of an array and its next values along the first axis.

    Raises
    ------
    UsageError
        As :func:`write_arrays`.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UsageError(f"{path}: arrays are written as .npz archives; let the name end in .npz")
    if not layout:
        raise UsageError(f"{path}: there is no array to write")
    members = _laid_out(path, layout)
    with replacing(path) as stream:

        def append(name: str, values: Array) -> None:
            member = members[name]
            stream.seek(member.end)
            member.take(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, stream)

        for member in members.values():
            stream.seek(member.end)
            member.take(memoryview(member.head), stream)
        yield append
        with zipfile.ZipFile(stream, "w") as archive:
            for member in members.values():
                if member.written != member.entry.file_size:
                    raise ValueError(f"{member.written} bytes of {member.entry.filename}, wanted {member.entry.file_size}")
                member.entry.CRC = member.crc
                stream.seek(member.entry.header_offset)
                stream.write(member.entry.FileHeader(zip64=True))
                archive.filelist.append(member.entry)
                archive.start_dir = member.end


@dataclass(slots=True)
class _Member:
    """An array of an archive that is being written: its entry, the start of its .npy file, and how far it has come."""

    entry: zipfile.ZipInfo
    head: bytes
    begin: int
    written: int = 0
    crc: int = 0

    @property
    def end(self) -> int:
        """Where the next bytes go."""
        return self.begin + self.written

    def take(self, content: memoryview, stream: IO[bytes]) -> None:
        """Write the next bytes."""
        stream.write(content)
        self.crc = zlib.crc32(content, self.crc)
        self.written += len(content)


def _laid_out(path: Path, layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> dict[str, _Member]:
    members, offset = {}, 0
    for name, (shape, dtype) in layout.items():
        entry, head = _entry(path, name, dtype), io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        entry.header_offset, entry.CRC = offset, 0
        entry.file_size = entry.compress_size = len(head.getvalue()) + math.prod(shape) * dtype.itemsize
        members[name] = _Member(entry, head.getvalue(), offset + len(entry.FileHeader(zip64=True)))
        offset = members[name].begin + entry.file_size
    return members


def listed(names: Iterable[str]) -> str:
    """Names as a message shows them."""
    return ", ".join(f"'{name}'" for name in names) or "no arrays at all"


def _entry(path: Path, name: str, dtype: np.dtype[Any]) -> zipfile.ZipInfo:
    """The archive's entry for an array: a fixed time stamp, and plain permissions as on Unix wherever it is written."""
    if dtype.hasobject:
        raise UsageError(f"{path}: array '{name}' holds Python objects (dtype {dtype}), which are not written; convert it")
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


def _read_member(
    path: Path, archive: zipfile.ZipFile, name: str, accept: Callable[[str, tuple[int, ...]], None] | None
) -> Array:
    entry, where = archive.getinfo(f"{name}.npy"), f"{path}: array '{name}'"
    with (
        reading(path, f"a .npz archive (array '{name}')", "save the arrays again with numpy.savez"),
        archive.open(entry) as stream,
    ):
        head = _read_head(stream, entry.file_size, where)
        if accept is not None:
            accept(name, head.shape)
        values = _read_values(stream, head)
        stream.read(1)  # past the end, where the checksum is looked at
        return values


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header of a .npy file promises, and the file has the size for."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    start: int
    where: str

    @property
    def bytes(self) -> int:
        """Bytes of values."""
        return math.prod(self.shape) * self.dtype.itemsize


def _read_head(stream: IO[bytes], size: int, where: str) -> _Head:
    """The header of a .npy file of `size` bytes, compared with that size before any memory is taken."""
    start = stream.read(_HEAD_START)
    version = np.lib.format.read_magic(io.BytesIO(start))
    reader = {
        (1, 0): (np.lib.format.read_array_header_1_0, "<H", 10),
        (2, 0): (np.lib.format.read_array_header_2_0, "<I", 12),
    }.get(version)
    if reader is None:
        raise InputError(
            f"{where}: is in version {version} of the .npy format, wanted 1.0 or 2.0; save it again with numpy.save"
        )
    read_header, kind, fixed = reader
    (length,) = struct.unpack(kind, start[8:fixed])
    if length > LARGEST_HEAD:
        raise InputError(f"{where}: is damaged: its header has {length} bytes, wanted at most {LARGEST_HEAD}; save it again")
    whole = io.BytesIO(start + stream.read(fixed + length - len(start)))
    whole.seek(8)
    shape, fortran_order, dtype = read_header(whole)
    if dtype.hasobject:
        raise InputError(f"{where}: holds pickled Python objects (dtype {dtype}), which are never loaded; save plain numbers")
    head = _Head(shape, fortran_order, dtype, fixed + length, where)
    if size - head.start != head.bytes:
        raise InputError(
            f"{where}: is truncated or damaged: {size - head.start} bytes of data, wanted {head.bytes} for shape {shape} of "
            f"{dtype}; save the array again"
        )
    return head


def _read_values(stream: IO[bytes], head: _Head) -> Array:
    """The values behind a header, in C order."""
    values: Array = np.empty(head.shape[::-1] if head.fortran_order else head.shape, head.dtype)
    if head.bytes:
        rest = values.reshape(-1).view(np.uint8).data
        while len(rest):
            part = stream.read(min(len(rest), BLOCK_BYTES))
            if not part:
                raise InputError(f"{head.where}: is truncated: {len(rest)} bytes are missing; save the array again")
            rest[: len(part)] = part
            rest = rest[len(part) :]
    return np.asarray(values.T, order="C") if head.fortran_order else values


class StoredArray(np.memmap[Any, np.dtype[Any]]):
    """The array of a large .npy file, in the file: parts along the first axis are read when they are asked for.

    It is an ordinary array, mapped from the file. Pages of a mapping stay in memory when they have been read, which a slice
    ``array[start:stop]`` avoids: it is an array of its own, read from the file.
    """

    _place: tuple[Path, int, tuple[int, ...]] | None

    def __new__(cls, path: Path, stream: IO[bytes], head: _Head) -> StoredArray:
        """Map the values behind a header."""
        made = cast(StoredArray, super().__new__(cls, stream, head.dtype, "r", head.start, head.shape))
        made._place = (path, head.start, _state(stream))
        return made

    def __array_finalize__(self, source: object) -> None:
        """Arrays made of this one are not in the file."""
        super().__array_finalize__(source)
        self._place = None

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - as NumPy declares it
        """Elements; a slice of rows is read from the file."""
        if self._place is None or not isinstance(index, slice) or index.step not in (None, 1):
            return super().__getitem__(index)
        start, stop, _ = index.indices(len(self))
        return self.rows(start, stop).read()

    def rows(self, start: int, stop: int) -> StoredRows:
        """Where some rows are; of an array that is in the file."""
        if self._place is None:
            raise ValueError("the array is not in a file")
        path, begin, state = self._place
        shape = (max(stop - start, 0), *self.shape[1:])
        return StoredRows(path, begin + start * self.strides[0], shape, self.dtype, state)

    @property
    def is_stored(self) -> bool:
        """Whether this is the array of the file, not one that was made of it."""
        return self._place is not None


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of the array of a .npy file, which another process that sees the file can read as well.

    Attributes
    ----------
    path
        The file.
    begin
        Where in it the rows begin.
    shape, dtype
        Of the rows.
    state
        Of the file when it was opened. The numbers of device and file, which come first, differ between machines.
    """

    path: Path
    begin: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    state: tuple[int, ...]

    def read(self, *, elsewhere: bool = False) -> Array:
        """The values.

        Parameters
        ----------
        elsewhere
            Whether this may be another machine than the one that opened the file.

        Raises
        ------
        InputError
            If the file cannot be read, or is not the one that was opened.
        """
        advice = "save the array again with numpy.save; workers on other machines need the file under the same path"
        with reading(self.path, "a .npy file", advice), self.path.open("rb") as stream:
            if _state(stream)[2 * elsewhere :] != self.state[2 * elsewhere :]:
                raise InputError(f"{self.path}: was changed while it was read; run again when nothing writes to it")
            stream.seek(self.begin)
            return _read_values(stream, _Head(self.shape, False, self.dtype, self.begin, str(self.path)))


def rows_of(array: Array, start: int, stop: int) -> Array | StoredRows:
    """Some rows of an array: where they are, of one that is in a file, else their values."""
    if isinstance(array, StoredArray) and array.is_stored:
        rows = array.rows(start, min(stop, len(array)))
        return replace(rows, path=rows.path.absolute())
    return array[start:stop]


def _state(stream: IO[bytes]) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
