"""Reading and writing .npy and .npz: what comes back is what was written, and damage is an InputError, never anything else."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import InputError, UsageError
from npusim.files.arrays import list_npz, read_npy, read_npz, write_arrays
from npusim.files.writing import replacing

TWO = {"input": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "/features.0/Clip_output_0": np.array([[-3, 7]], np.int8)}

dtypes = st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64, np.bool_]).map(np.dtype)
any_arrays = dtypes.flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def same(seen: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    """Equal names in equal order, equal dtypes, shapes and bytes (so that NaN and -0.0 count)."""
    return list(seen) == list(wanted) and all(
        (seen[name].dtype, seen[name].shape, seen[name].tobytes()) == (value.dtype, value.shape, value.tobytes())
        for name, value in wanted.items()
    )


def npz_bytes(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, **TWO)
    return stream.getvalue()


@pytest.mark.slow
@given(st.dictionaries(names, any_arrays, min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("npz") / "arrays.npz"
    write_arrays(path, arrays)
    assert list_npz(path) == tuple(arrays)
    assert same(read_npz(path), arrays)
    first = path.read_bytes()
    write_arrays(path, {name: np.asfortranarray(value) if value.ndim else value for name, value in arrays.items()})
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["arrays.npz"]


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    write_arrays(tmp_path / "two.npz", TWO)
    with np.load(tmp_path / "two.npz", allow_pickle=False) as seen:
        assert same({name: seen[name] for name in seen.files}, TWO)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "two.npz"
    path.write_bytes(npz_bytes(save))
    assert same(read_npz(path), TWO)
    assert same(read_npz(path, ["input"]), {"input": TWO["input"]})
    assert read_npz(path)["input"].flags.writeable


@given(any_arrays, st.booleans())
def test_npy_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool) -> None:
    path = tmp_path_factory.mktemp("npy") / "array.npy"
    np.save(path, np.asfortranarray(array) if fortran and array.ndim else array)
    assert same({"": read_npy(path)}, {"": array})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_cut_anywhere_is_an_input_error(tmp_path: Path, save: Callable[..., None]) -> None:
    whole = npz_bytes(save)
    path = tmp_path / "cut.npz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.npz: .*savez"):
            read_npz(path)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_any_byte_changed_is_an_input_error_or_intact(tmp_path: Path, save: Callable[..., None], flip: int) -> None:
    whole = npz_bytes(save)
    path = tmp_path / "changed.npz"
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
        try:
            seen = read_npz(path, TWO)
        except InputError:
            refused += 1
        else:
            assert same(seen, TWO), position
    assert refused > len(whole) // 2


def test_npy_cut_anywhere_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.npy"
    np.save(path, TWO["input"])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.npy: .*save the array again"):
            read_npy(path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::SyntaxWarning")
@given(st.data())
def test_npy_with_changed_bytes_is_an_input_error_or_an_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("npy") / "changed.npy"
    np.save(path, TWO["input"])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        size = read_npy(path).nbytes
    except InputError:
        return
    assert size == TWO["input"].nbytes


@given(st.binary(max_size=300))
def test_any_other_bytes_are_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any"
    path.write_bytes(content)
    for read in (read_npy, read_npz):
        with pytest.raises(InputError):
            read(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", input=np.array([{}], dtype=object), x=TWO["input"])
    with pytest.raises(InputError, match=r"objects\.npy: holds pickled Python objects"):
        read_npy(tmp_path / "objects.npy")
    with pytest.raises(InputError, match=r"objects\.npz: array 'input': holds pickled Python objects"):
        read_npz(tmp_path / "objects.npz")
    assert same(read_npz(tmp_path / "objects.npz", ["x"]), {"x": TWO["input"]})


def test_header_that_promises_too_much_takes_no_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)})
    (tmp_path / "huge.npy").write_bytes(stream.getvalue() + b"\0" * 8)
    with pytest.raises(InputError, match="8 bytes of data, wanted 4503599627370496"):
        read_npy(tmp_path / "huge.npy")


def test_missing_and_doubled_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=TWO["input"], b=TWO["input"])
    with pytest.raises(InputError, match="holds no array 'c', only 'a', 'b'"):
        read_npz(tmp_path / "a.npz", ["a", "c"])
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", b"")
    with pytest.raises(InputError, match="several arrays of the same name"):
        list_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [read_npy, read_npz, list_npz])
def test_what_is_no_file_is_an_input_error(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "pipe", "regular file"),
    ]:
        with pytest.raises(InputError, match=message):
            read(path)


def interrupt(stream: IO[bytes]) -> None:
    stream.write(b"half")
    raise KeyboardInterrupt


def test_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    write_arrays(path, TWO)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"array 'bad' holds Python objects"):
        write_arrays(path, {**TWO, "bad": np.array([None])})
    with pytest.raises(UsageError, match=r"the name 'a\\x00b' cannot be stored"):
        write_arrays(path, {"a\0b": TWO["input"]})
    with pytest.raises(KeyboardInterrupt), replacing(path) as stream:
        interrupt(stream)
    with pytest.raises(UsageError, match=r"out\.npz: cannot be written: No space left on device"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("out.npy", TWO, "let the name end in .npz"),
        ("out.npz", {}, "there is no array to write"),
        ("missing/out.npz", TWO, "cannot be written: No such file or directory"),
        ("folder.npz", TWO, "is not a regular file"),
    ],
)
def test_refused_writes(tmp_path: Path, name: str, arrays: dict[str, np.ndarray], message: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match=message):
        write_arrays(tmp_path / name, arrays)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.npz"]


def test_devices_are_not_replaced_and_links_are_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UsageError, match="is not a regular file and is not replaced"):
        write_arrays(tmp_path / "pipe.npz", TWO)
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    write_arrays(tmp_path / "link.npz", TWO)
    assert (tmp_path / "link.npz").is_symlink()
    assert same(read_npz(tmp_path / "real.npz"), TWO)
