"""Dumps that cannot be read: each is refused with one sentence that names the place, whatever the bytes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.errors import InputError, NpusimError, UsageError
from npusim.files.dumps import FORMATS, read_dump
from support.dump_files import CODES, npy, npz, save

REFUSED = {
    "empty": ("a.txt", b"", "is empty"),
    "no numbers": ("a.txt", " \n", "holds no numbers"),
    "text only": ("a.txt", "boot\nready", "holds no numbers that stand alone, behind a label or behind an index"),
    "text between": ("a.txt", "1, 2,\n3 [OK] 4", "line 2, column 4: 'OK' is not a number"),
    "element missing": ("a.txt", "y[0] = 1\ny[2] = 3", "line 2, column 8: element [2] of 'y' where [1] is wanted"),
    "beginning missing": ("a.txt", "y[3] = 1\ny[4] = 3", "'y' begins with element [3]; the beginning is missing"),
    "element damaged": ("a.txt", "y[0] = 1\ny[1] = 2x\ny[2] = 3", "element [2] of 'y' where [1] is wanted"),
    "number damaged": ("a.txt", "out: 1 2 3x 4", "line 1, column 10: '3x' is not a number"),
    "nan behind a label": ("a.txt", "out: 1 nan", "line 1, column 8: 'nan' is not a finite number"),
    "labels that skip": ("a.txt", "set 0: 1 2\nset 2: 3 4", "labels 'set 0' to 'set 2' do not count one by one"),
    "gdb left out the rest": ("a.txt", "$1 = {1, 2, 3...}", "gdb left out the rest; save the array again behind 'set print"),
    "elements of ccs missing": ("a.txt", "\t[0]\tint\t1\t0xA0\n\t[2]\tint\t1\t0xA2\n", "element [2] where [1] is wanted"),
    "json without numbers": ("a.json", '{"a": "b"}', "holds no list of numbers"),
    "json damaged": ("a.json", '{"a": [1, 2', "is not JSON"),
    "json of nan": ("a.json", "[1, NaN]", "'NaN' is not a finite number"),
    "s-record checksum": ("a.s19", "S107A800D5D305FCA8\nS9030000FC\n", "wrong checksum A8, wanted A7"),
    "s-record cut off": ("a.s19", "S107A800D5D305FCA7\n", "has no last record"),
    "s-record length": ("a.s19", "S108A800D5D305FCA7\nS9030000FC\n", "the record has 7 bytes and says 8"),
    "ti-txt cut off": ("a.txt", "@A800\nD5 D3\n", "has no end mark 'q'"),
    "ti-txt digits": ("a.txt", "@A800\nD5 D\nq\n", "line 2, column 4: 'D' is not a pair"),
    "memory twice": ("a.txt", "0x20000100: d5 d3 05 fc\n0x20000101: d3 05 fc 01\n", "address 0x20000101 comes again"),
    "two commas": ("a.txt", "1,,2", "line 1, column 3: a number is missing"),
    "comma first": ("a.txt", ", 1", "line 1, column 1: a number is missing"),
    "nan": ("a.txt", "1.0 nan 2", "line 1, column 5: 'nan' is not a finite number"),
    "infinity": ("a.txt", "1.0\n-inf", "line 2, column 1: '-inf' is not a finite number"),
    "huge": ("a.txt", "1e999", "'1e999' is beyond float64"),
    "long integer": ("a.txt", "9" * 5000, "does not fit 64 bits"),
    "65 bits": ("a.txt", "0x1FFFFFFFFFFFFFFFF", "does not fit 64 bits"),
    "mixed bases": ("a.txt", "0x10 11 0x12", "line 1, column 6: decimal and hexadecimal numbers are mixed: '11'"),
    "float and hexadecimal": ("a.txt", "0x10 1.5", "are mixed: '1.5'"),
    "zero bytes": ("a.txt", "1 2\x003", "bytes are not a whole number of int16"),
    "out of the type": ("a.txt", "1 70000", "values of dtype int64 are not exactly representable in int16, the first 70000"),
    "fraction": ("a.txt", "1 2.5", "the first 2.5 at index (1,)"),
    "pattern too wide": ("a.txt", "0x12345", "representable in int16"),
    "declared type": ("a.c", "int8_t golden_output[2] = {1, 128};", "array 'golden_output' of int8_t holds 128 at index 1"),
    "declared unsigned": ("a.c", "uint8_t golden_output[] = {-1};", "holds -1 at index 0, which is out of 0..255"),
    "declared length": ("a.c", "\nint8_t y[3] = {1, 2};", "line 2, column 1: array 'y' is declared with 3 elements and"),
    "open array": ("a.c", "int8_t y[3] = {1, 2,", "'{' is never closed: the file is cut off after 2 values"),
    "open bracket": ("a.c", "int8_t y[3 = {1, 2,", "line 1, column 9: '[' is never closed"),
    "text in an array": ("a.c", "int8_t y[2] = {1,\n x};", "line 2, column 2: 'x' is not a number"),
    "no comma": ("a.c", "int8_t y[2] = {1 2};", "'2' inside of an array"),
    "octal": ("a.c", "int y[1] = {017};", "'017' is octal"),
    "nan in c": ("a.c", "float y[1] = {NAN};", "'NAN' is not a finite number"),
    "empty array": ("a.c", "int8_t y[] = {};", "holds no numbers"),
    "no array": ("a.c", "int main(void) { return 0; }", "holds no array with values"),
    "unknown header": ("a.dat", "1652 1 c000 0 2\n1\n2", "unknown header, wanted '1651 format"),
    "unknown ccs format": ("a.dat", "1651 7 c000 0 2\n1\n2", "unknown header: format '7', wanted one of 1"),
    "bad ccs length": ("a.dat", "1651 1 c000 0 zz\n1\n2", "length 'zz' is not a hexadecimal number"),
    "ccs cut off": ("a.dat", "1651 2 c000 0 10\n1\n2", "2 values, the header's length field '10' says 16"),
    "checksum": ("a.hex", ":020010000102EC\n:00000001FF\n", "line 1, column 1: wrong checksum EC, wanted EB"),
    "hex record cut off": ("a.hex", ":0200100001\n", "holds 0 bytes of data and says 2"),
    "no hex record": ("a.hex", ":0200100\n", "no Intel hex record"),
    "hex record edited": ("a.hex", ":030010000102EB\n:00000001FF\n", "holds 2 bytes of data and says 3"),
    "hex without end": ("a.hex", ":020010000102EB\n", "has no end record"),
    "hex behind the end": ("a.hex", ":00000001FF\n:020010000102EB\n", "a record after the end record"),
    "hex without data": ("a.hex", ":00000001FF\n", "holds no data records"),
    "hex overlap": ("a.hex", ":020010000102EB\n:020010000102EB\n:00000001FF\n", "overlaps the one before it at address 0x10"),
    "hex record type": ("a.hex", ":0200100A0102E1\n:00000001FF\n", "unknown record type 0A"),
    "csv text": ("a.csv", "1,2\n3,x\n", "line 2, column 2 is 'x'"),
    "npy damaged": ("a.npy", npy(CODES)[:-1], "is truncated or damaged"),
    "npz damaged": ("a.npz", npz(y=CODES)[:-30], "cannot be read as a .npz archive"),
    "npy of nan": ("a.npy", npy(np.array([np.nan])), "is not a finite number"),
    "npy of text": ("a.npy", npy(np.array(["a"])), "wanted integers or floats"),
    "empty npy": ("a.npy", npy(np.zeros(0)), "holds no values"),
    "odd bytes": ("a.bin", b"\x01\x02\x03", "3 bytes are not a whole number of int16 elements"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_dumps_are_refused_with_their_place(tmp_path: Path, name: str) -> None:
    file, content, says = REFUSED[name]
    path = save(tmp_path / file, content)
    with pytest.raises(InputError) as caught:
        read_dump(path, dtype=np.int16)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_float_bytes_that_are_nan(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bin", np.array([1, np.nan], np.float32).tobytes())
    with pytest.raises(InputError, match=r"nan at index \(1,\) as float32"):
        read_dump(path, dtype="float32")
    path = save(tmp_path / "a.txt", "1e39")
    with pytest.raises(InputError, match=r"1e\+39 at index \(0,\) is beyond float32"):
        read_dump(path, dtype="float32")


def test_missing_files_and_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_dump(tmp_path / "none.txt")
    with pytest.raises(InputError, match="is a directory"):
        read_dump(tmp_path)
    path = save(tmp_path / "a.txt", "1")
    with pytest.raises(UsageError, match="there is no dump format 'elf'"):
        read_dump(path, format="elf")
    with pytest.raises(UsageError, match="base 8"):
        read_dump(path, base=8)
    with pytest.raises(InputError, match="holds no array 'z', only ''"):
        assert read_dump(path)["z"]


FRAGMENTS = st.sampled_from(
    (
        "1651 1 c000 0 2\n|0x|int8_t y[2] = {|}|;|1,|-|nan|/*|*/|//|\n|:00000001FF\n|:02|[|golden_output[|]|=|#|\x00|\ufeff"
        "|PK\x03\x04|struct tvmgen_default_inputs {|\"|'|\\|1.5e3f"
    ).split("|")
)


@settings(max_examples=150)
@given(
    st.one_of(st.binary(max_size=80), st.lists(FRAGMENTS, max_size=14).map(lambda parts: "".join(parts).encode())),
    st.sampled_from([None, *FORMATS]),
    st.sampled_from(["a", "a.txt", "a.c", "a.dat", "a.hex", "a.bin", "a.npy", "a.npz", "a.csv"]),
    st.sampled_from([None, np.int8, np.float32]),
)
def test_arbitrary_bytes_give_numbers_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str | None, name: str, dtype: type | None
) -> None:
    path = save(tmp_path_factory.getbasetemp() / name, content)
    try:
        dump = read_dump(path, format=kind, dtype=dtype)
    except NpusimError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - either outcome is right
        assert error.exit_code == 2  # noqa: PT017
    else:
        assert dump.arrays or dump.inputs or dump.outputs or dump.format == "tvmgen"
        assert all(array.values.size and array.values.dtype.kind in "iuf" for array in dump.arrays)
