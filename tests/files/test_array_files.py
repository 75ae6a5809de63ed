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
from npusim.files import arrays
from npusim.files.arrays import StoredArray, list_npz, read_npy, read_npz, write_arrays, writing_arrays
from npusim.files.datasets import InputSpec, read_inputs
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


PARTS = {
    "a": np.arange(24, dtype=np.int8).reshape(4, 3, 2),
    "ä/b": np.asfortranarray(np.arange(20, dtype=np.float64).reshape(4, 5)),
    "empty": np.zeros((4, 0), np.float32),
    "flags": np.array([True, False, True, True]),
    "half": np.arange(4, dtype=np.float16),
    "number": np.array(3, np.uint64),
}


def test_arrays_written_in_parts_are_those_written_at_once_and_as_zipfile_writes_them(tmp_path: Path) -> None:
    write_arrays(tmp_path / "once.npz", PARTS)
    with zipfile.ZipFile(tmp_path / "wanted.npz", "w") as archive:
        for name, array in PARTS.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"))
    with writing_arrays(tmp_path / "parts.npz", {name: (array.shape, array.dtype) for name, array in PARTS.items()}) as append:
        append("number", PARTS["number"])
        for start, stop in ((0, 1), (1, 3), (3, 4)):
            for name, array in PARTS.items():
                if array.ndim:
                    append(name, array[start:stop])
    wanted = (tmp_path / "wanted.npz").read_bytes()
    assert (tmp_path / "once.npz").read_bytes() == wanted
    assert (tmp_path / "parts.npz").read_bytes() == wanted


def test_an_array_that_is_not_whole_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted"), writing_arrays(tmp_path / "o.npz", {"a": ((4,), np.dtype(np.int8))}):
        pass
    assert not list(tmp_path.iterdir())


@pytest.fixture(name="stored")
def stored_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(arrays, "LARGEST_WHOLE", 100)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 100)
    np.save(tmp_path / "a.npy", np.arange(600, dtype=np.float32).reshape(20, 5, 6))
    return tmp_path / "a.npy"


def test_a_large_array_stays_in_its_file(stored: Path) -> None:
    wanted, found = np.load(stored), read_npy(stored)
    assert isinstance(found, StoredArray)
    for index in (slice(3, 9), slice(None), slice(18, 40), slice(-3, None), slice(9, 3), slice(1, 9, 2), 4, [7, 2, 2], (2, 3)):
        part = found[index]
        np.testing.assert_array_equal(part, wanted[index])
        assert part.dtype == wanted.dtype
    assert not isinstance(found[3:9], np.memmap)
    np.testing.assert_array_equal(np.asarray(found), wanted)
    np.testing.assert_array_equal((found * 2)[1:3], (wanted * 2)[1:3])


def test_a_file_that_changes_while_it_is_read_is_noticed(stored: Path) -> None:
    found = read_npy(stored)
    np.save(stored, np.zeros((20, 5, 6), np.float32))
    os.utime(stored, ns=(1, 1))
    with pytest.raises(InputError, match="was changed while it was read"):
        found[2:4]


def test_values_that_are_not_finite_are_counted_over_all_parts(stored: Path) -> None:
    values = np.load(stored)
    values[[7, 7, 19], [1, 2, 4], [3, 0, 5]] = np.nan
    np.save(stored, values)
    with pytest.raises(InputError, match=r"3 of 600 values are NaN or infinite, the first nan at index \(7, 1, 3\)"):
        read_inputs(stored, [InputSpec("input", np.dtype(np.float32), (1, 5, 6))])


def deflated(path: Path, head: bytes, size: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.npy", head + bytes(size - len(head)))
    return path


def head_of(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_archives_that_fill_the_memory_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, spec = 2**20, [InputSpec("input", np.dtype(np.float32), (1, 8))]
    whole, start = (size - 128) // 32, len(head_of((2, 8)))
    assert start == 128
    right = deflated(tmp_path / "right.npz", head_of((whole, 8)), size)
    wrong = deflated(tmp_path / "wrong.npz", head_of((whole, 4, 2)), size)
    more = deflated(tmp_path / "more.npz", head_of((2, 8)), size)
    long = deflated(tmp_path / "long.npz", b"\x93NUMPY\x02\x00" + (size - 12).to_bytes(4, "little"), size)
    assert read_inputs(right, spec)["input"].shape == (whole, 8)
    monkeypatch.setattr(arrays, "_read_values", None)  # nothing may come that far
    with pytest.raises(InputError, match=r"has shape \(32764, 4, 2\), wanted \(N, 8\)"):
        read_inputs(wrong, spec)
    with pytest.raises(InputError, match=r"1048448 bytes of data, wanted 64 for shape \(2, 8\)"):
        read_inputs(more, spec)
    with pytest.raises(InputError, match="its header has 1048564 bytes"):
        read_inputs(long, spec)
    monkeypatch.setattr(arrays, "LARGEST_UNPACKED", size // 2)
    with pytest.raises(InputError, match=r"unpacks from 1,\d+ to 1,048,576 bytes, as no measured data does"):
        read_inputs(right, spec)


@pytest.mark.parametrize("name", ["a\0b.npy", f"{'x' * 300}.npy", "loop.npy", "file.npy/inner.npy"])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    (tmp_path / "file.npy").write_bytes(b"")
    with pytest.raises(InputError, match="check the path"):
        read_npy(tmp_path / name)


def test_a_file_is_hashed_without_being_held(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert arrays.sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
