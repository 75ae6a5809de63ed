"""Reading the samples for a model: every format gives the same arrays; what does not fit is refused with a helpful sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import support
from npusim.errors import InputError
from npusim.files.datasets import InputSpec, check_samples, read_inputs
from npusim.files.element_types import convert_exactly
from npusim.files.tables import read_csv

FLOAT = InputSpec("input", np.dtype(np.float32), (1, 2, 3))
CODES = InputSpec("codes", np.dtype(np.int8), (1, 4))
SAMPLES = np.array([[[0.1, -2.5, 3e-8], [4, 5, 6]], [[7, 8, 9], [1e9, -0.0, 0.3]]], np.float32)

NUMERIC = [np.dtype(name) for name in ("int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64")]


def refused(path: Path, expected: list[InputSpec], *parts: str) -> None:
    """Reading must raise an InputError that names the file and holds all these parts."""
    with pytest.raises(InputError) as caught:
        read_inputs(path, expected)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def save_csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "parquet", "NPY"])
def test_every_format_gives_the_same_samples(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"two.{suffix}"
    flat = SAMPLES.reshape(2, 6)
    if suffix == "npz":
        np.savez(path, input=SAMPLES)
    elif suffix == "csv":
        save_csv(path, "".join(",".join(str(value) for value in row) + "\n" for row in flat))
    elif suffix == "parquet":
        pd.DataFrame(flat, columns=list("abcdef")).to_parquet(path)
    else:
        with path.open("wb") as stream:
            np.save(stream, SAMPLES)
    samples = read_inputs(path, [FLOAT])
    assert list(samples) == ["input"]
    assert samples["input"].dtype == np.float32
    assert samples["input"].tobytes() == SAMPLES.tobytes()
    assert samples["input"].shape == (2, 2, 3)


@pytest.mark.parametrize("keys", [["input"], ["other"], ["x", "label"], ["label", "input", "kind"], ["model_in", "x", "input"]])
def test_npz_keys_of_a_single_input(tmp_path: Path, keys: list[str]) -> None:
    spec = InputSpec("model_in" if "model_in" in keys else "onnx::Add_0", np.dtype(np.float32), (1, 2, 3))
    chosen = keys[0] if len(keys) == 1 else next(key for key in ("model_in", "x", "input") if key in keys)
    np.savez(tmp_path / "a.npz", **{key: SAMPLES if key == chosen else np.array([1, 2]) for key in keys})
    assert np.array_equal(read_inputs(tmp_path / "a.npz", [spec])[spec.name], SAMPLES)


@pytest.mark.parametrize("keys", [["x", "input"], ["data", "label"], []])
def test_npz_keys_that_do_not_tell_the_input(tmp_path: Path, keys: list[str]) -> None:
    np.savez(tmp_path / "a.npz", **dict.fromkeys(keys, SAMPLES))
    seen = ", ".join(f"'{key}'" for key in keys) or "no arrays at all"
    refused(tmp_path / "a.npz", [InputSpec("onnx::Add_0", np.dtype(np.float32), (1, 2, 3))], f"holds {seen}", "'onnx::Add_0'")


def test_several_inputs_need_their_names_and_as_many_samples(tmp_path: Path) -> None:
    codes = np.zeros((2, 4), np.int8)
    np.savez(tmp_path / "both.npz", codes=codes, input=SAMPLES)
    assert list(read_inputs(tmp_path / "both.npz", [FLOAT, CODES])) == ["input", "codes"]
    np.savez(tmp_path / "one.npz", input=SAMPLES, x=codes)
    refused(tmp_path / "one.npz", [FLOAT, CODES], "holds 'input', 'x', wanted 'input', 'codes'")
    np.savez(tmp_path / "uneven.npz", codes=codes[:1], input=SAMPLES)
    refused(tmp_path / "uneven.npz", [FLOAT, CODES], "different numbers of samples", "'input': 2, 'codes': 1")
    np.save(tmp_path / "single.npy", SAMPLES)
    refused(tmp_path / "single.npy", [FLOAT, CODES], "a .npy file holds one input, the model has 2 ('input', 'codes')")


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((2, 3), ["has shape (2, 3), wanted (N, 2, 3)", "lacks the sample axis"]),
        ((5, 3, 2), ["has shape (5, 3, 2)", "axes are in another order", "numpy.transpose"]),
        ((5, 6), ["has shape (5, 6)", "nothing is reshaped"]),
        ((5, 1, 6), ["nothing is reshaped"]),
        ((5, 2, 3, 1), ["nothing is reshaped"]),
        ((5, 2, 1), ["save the array in that shape"]),
        ((5, 2, 4), ["save the array in that shape"]),
        ((), ["has shape ()"]),
        ((0, 2, 3), ["holds no samples"]),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_shapes_are_refused(tmp_path: Path, suffix: str, shape: tuple[int, ...], parts: list[str]) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, np.zeros(shape, np.float32)) if suffix == ".npy" else np.savez(path, x=np.zeros(shape, np.float32))
    refused(path, [FLOAT], *parts)


def test_declared_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "five.npy", np.zeros((5, 3), np.float32))
    for batch in (1, "batch", None, 5):
        spec = InputSpec("x", np.dtype(np.float32), (batch, 3))
        assert read_inputs(tmp_path / "five.npy", [spec])["x"].shape == (5, 3)
    refused(tmp_path / "five.npy", [InputSpec("x", np.dtype(np.float32), (4, 3))], "wanted (4, 3)")
    assert read_inputs(tmp_path / "five.npy", [InputSpec("x", np.dtype(np.float32), (1, "n"))])["x"].shape == (5, 3)
    refused(tmp_path / "five.npy", [InputSpec("x", np.dtype(np.float32), (1, None, 3))], "wanted (N, ?, 3)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_value_that_is_not_finite_is_named(tmp_path: Path, bad: float) -> None:
    samples = SAMPLES.copy()
    samples[1, 0, 2] = samples[1, 1, 0] = bad
    np.savez(tmp_path / "a.npz", x=samples)
    refused(tmp_path / "a.npz", [FLOAT], "array 'x'", "2 of 12 values are NaN or infinite", f"{bad} at index (1, 0, 2)")
    pd.DataFrame(samples.reshape(2, 6), columns=list("abcdef")).to_parquet(tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", [FLOAT], "column 'c'" if np.isnan(bad) else "index (1, 0, 2)")
    save_csv(tmp_path / "a.csv", f"1,2,3,4,5,6\n1,2,{bad},4,5,6\n")
    refused(tmp_path / "a.csv", [FLOAT], f"line 2, column 3 is '{bad}'")


def held(number: float, dtype: np.dtype) -> bool:
    """Whether a number is one of the dtype's, by Python's own exact arithmetic and IEEE packing."""
    if dtype.kind in "iu":
        bits = 8 * dtype.itemsize - (dtype.kind == "i")
        return number == int(number) and (-(2**bits) if dtype.kind == "i" else 0) <= number < 2**bits
    try:
        packed = struct.pack(f"<{dtype.char}", float(number))
    except OverflowError:
        return False
    # Python compares an int and a float by their exact values.
    return bool(struct.unpack(f"<{dtype.char}", packed)[0] == number)


@st.composite
def conversions(draw: st.DrawFn) -> tuple[np.ndarray, np.dtype]:
    source, wanted = draw(st.sampled_from(NUMERIC)), draw(st.sampled_from(NUMERIC))
    if source.kind == "f":
        elements = arrays_of.from_dtype(source, allow_nan=False, allow_infinity=False) | st.integers(-300, 300).map(float)
    else:
        info = np.iinfo(source)
        near_powers = st.builds(lambda power, step: 2**power + step, st.integers(0, 64), st.integers(-1, 1))
        elements = st.integers(int(info.min), int(info.max)) | (near_powers | near_powers.map(lambda number: -number)).filter(
            lambda number: info.min <= number <= info.max
        )
    return np.array(draw(st.lists(elements, min_size=1, max_size=5)), source), wanted


@given(conversions())
def test_conversion_changes_no_number_or_refuses(case: tuple[np.ndarray, np.dtype]) -> None:
    array, wanted = case
    numbers = array.tolist()
    fitting = [held(number, wanted) for number in numbers]
    if all(fitting):
        converted = convert_exactly(array, wanted, "here")
        assert converted.dtype == wanted
        assert converted.tolist() == numbers
    else:
        with pytest.raises(InputError) as caught:
            convert_exactly(array, wanted, "here")
        assert f"here: {fitting.count(False)} of {len(numbers)} values" in str(caught.value)
        assert f"at index ({fitting.index(False)},)" in str(caught.value)


@pytest.mark.parametrize(
    "array", [np.zeros((1, 4), np.complex64), np.zeros((1, 4), "U3"), np.zeros((1, 4), bool), np.zeros((1, 4), "M8[s]")]
)
def test_what_is_no_number_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", [CODES], f"has dtype {array.dtype}, wanted int8")


def test_dtypes_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[1, -128, 127, 0]], ">i8"))
    samples = read_inputs(path, [CODES])["codes"]
    assert samples.dtype == np.int8
    assert samples.tolist() == [[1, -128, 127, 0]]
    np.save(path, np.array([[1, 128, 0, -129]], np.int16))
    refused(path, [CODES], "2 of 4 values of dtype int16", "128 at index (0, 1)", "from -128 to 127")
    np.save(path, np.array([[0.5, 0.1, 0.1, 2]], np.float64))
    wanted = InputSpec("x", np.dtype(np.float32), (1, 4))
    refused(path, [wanted], "2 of 4 values of dtype float64", "0.1 at index (0, 1)", "array.astype(numpy.float32)")


@given(arrays_of.arrays(np.float32, (3, 6), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)), st.data())
def test_csv_brings_every_float32_back(
    tmp_path_factory: pytest.TempPathFactory, table: np.ndarray, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from([str, lambda value: f"{float(value):.9g}", lambda value: repr(float(value))]))
    header = data.draw(st.sampled_from(["", "a,b_1,c,d,e,f\n", '"a, b",b,c,"",e,f\n', "\ufeff"]))
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = (
        header
        + newline.join(", ".join(form(value) for value in row) for row in table)
        + data.draw(st.sampled_from(["", newline, "\n\n"]))
    )
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.encode())
    assert read_inputs(path, [FLOAT])["input"].tobytes() == table.tobytes()


def test_csv_rounds_to_double_and_then_once_to_float(tmp_path: Path) -> None:
    path = save_csv(tmp_path / "a.csv", "0.1,1.000000059604644775390625,1.00000005960464477540000000001\n")
    seen = read_inputs(path, [InputSpec("x", np.dtype(np.float32), (1, 3))])["x"]
    assert seen.tolist() == [[float(np.float32(0.1)), 1.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["holds no samples"]),
        ("\n\n", ["holds no samples"]),
        ("a,b,c,d\n", ["holds no samples"]),
        ("1,2,3,4\n1,2,x,4\n", ["line 2, column 3 is 'x'"]),
        ("1,2,,4\n", ["line 1, column 3 is empty"]),
        ("1,2,3,0x10\n", ["line 1, column 4 is '0x10'"]),
        ("1,2,3,1_0\n", ["line 1, column 4 is '1_0'"]),
        ("1;2;3;4\n1,5;2;3;4\n", ["line 2, column 1 is '1,5'", "semicolons between"]),
        ("1,2,3,4\n1,2,3\n", ["line 2 has 3 columns, wanted 4"]),
        ("1,2,3,4\n1,2,3,4,\n", ["line 2 has 5 columns, wanted 4"]),
        ("1,2,3,4\n\n1,2,3,4\n", ["line 2 is blank"]),
        ("\n1,2,3,4\n", ["line 1 is blank"]),
        ("1,2,3\n", ["has 3 columns, wanted 4", "sample (N, 4) of input 'codes'"]),
        ("0,1,2,3\n5,6,7,8\n", ["line 1 counts from 0 to 3", "index=False"]),
        (",0,1,2,3\n0,5,6,7,8\n", ["line 1 counts from 0 to 3", "index=False"]),
        (",a,b,c,d\n0,5,6,7,8\n", ["has 5 columns, wanted 4", "index column"]),
        ("1,2,3,4.5\n", ["1 of 4 values", "4.5 at index (0, 3)", "from -128 to 127"]),
        ("1,2,3,400\n", ["400.0 at index (0, 3)"]),
        ('1,2,3,"4\n', ["cannot be read as CSV"]),
        ("1,2,3," + "4" * 200_000, ["cannot be read as CSV", "field"]),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    refused(save_csv(tmp_path / "a.csv", text), [CODES], *parts)


def test_csv_limits_of_the_dtype(tmp_path: Path) -> None:
    path = save_csv(tmp_path / "a.csv", "1e39\n")
    refused(path, [InputSpec("x", np.dtype(np.float32), (1, 1))], "rounded to float32", "inf at index (0, 0)")
    assert read_inputs(path, [InputSpec("x", np.dtype(np.float64), (1,))])["x"].tolist() == [1e39]
    save_csv(path, "9007199254740994\n")
    refused(path, [InputSpec("x", np.dtype(np.int64), (1, 1))], "beyond 2^53")


def test_tables_and_shapes_that_are_not_fixed(tmp_path: Path) -> None:
    path = save_csv(tmp_path / "a.csv", "1,2\n3,4\n")
    assert read_inputs(path, [InputSpec("x", np.dtype(np.float32), (1, "n"))])["x"].tolist() == [[1, 2], [3, 4]]
    refused(path, [InputSpec("x", np.dtype(np.float32), (1, "n", 2))], "cannot tell the shape (N, n, 2)")
    refused(path, [InputSpec("x", np.dtype(np.float32), (3, 2))], "has shape (2, 2), wanted (3, 2)")
    refused(path, [InputSpec("x", np.dtype(np.int8), (3, 2))], "has shape (2, 2), wanted (3, 2)")
    path.write_bytes(b"\xff\xfe1\x00")
    refused(path, [FLOAT], "cannot be read as CSV", "UTF-8")


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (pd.DataFrame({"a": [1], "b": ["x"], "c": [1], "d": [1]}), ["column 'b'", "wanted numbers"]),
        (pd.DataFrame({"a": [1], "b": [True], "c": [1], "d": [1]}), ["column 'b' is bool"]),
        (
            pd.DataFrame({"a": [1, 1], "b": pd.array([4, None], "Int64"), "c": [1, 1], "d": [1, 1]}),
            ["column 'b' has no number in row 1"],
        ),
        (pd.DataFrame({"a": [1], "b": [1]}), ["has 2 columns, wanted 4"]),
        (pd.DataFrame({"a": [1], "b": [1000], "c": [1], "d": [1]}), ["column 'b'", "1000 at index (0,)"]),
        (pd.DataFrame({"a": [], "b": [], "c": [], "d": []}, dtype=float), ["holds no samples"]),
        (pd.DataFrame(), ["holds no columns"]),
    ],
)
def test_parquet_that_is_refused(tmp_path: Path, frame: pd.DataFrame, parts: list[str]) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", [CODES], *parts)


def test_parquet_columns_of_several_dtypes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [2**53 + 1], "b": [0.0], "c": pd.array([3], "Int16"), "d": np.array([4], np.uint8)})
    frame.to_parquet(tmp_path / "a.parquet")
    seen = read_inputs(tmp_path / "a.parquet", [InputSpec("x", np.dtype(np.int64), (1, 4))])["x"]
    assert seen.tolist() == [[2**53 + 1, 0, 3, 4]]


def test_parquet_cut_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame(SAMPLES.reshape(2, 6), columns=list("abcdef")).to_parquet(path)
    whole = path.read_bytes()
    for length in (*range(0, len(whole) - 64, 61), *range(len(whole) - 64, len(whole))):
        path.write_bytes(whole[:length])
        refused(path, [FLOAT], "cannot be read as a Parquet file")


def test_files_that_are_none(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", [FLOAT], "no such file")
    refused(tmp_path, [FLOAT], "is a directory")
    (tmp_path / "a.txt").write_text("1")
    refused(tmp_path / "a.txt", [FLOAT], "unknown suffix '.txt'", ".npz, .npy, .csv, .parquet")
    for suffix in ("npz", "npy", "parquet"):
        (tmp_path / f"a.{suffix}").write_text("not what it says")
        refused(
            tmp_path / f"a.{suffix}", [FLOAT], f"cannot be read as a .{suffix}" if suffix != "parquet" else "Parquet", "again"
        )
    with pytest.raises(InputError, match=r"^here: has shape \(3,\)"):
        check_samples(np.zeros(3, np.float32), FLOAT, "here")


@pytest.mark.exports
def test_inputs_of_the_real_exports_are_read_as_they_are() -> None:
    files = {export.inputs_file for export in support.load_exports()}
    for path in sorted(files):
        with np.load(path) as arrays:
            samples = arrays["x"]
        spec = InputSpec("onnx::Add_0", np.dtype(np.float32), (1, *samples.shape[1:]))
        assert read_inputs(path, [spec])[spec.name].tobytes() == samples.tobytes()
        calibration = path.parents[1] / "calibration" / path.name
        with np.load(calibration) as arrays:
            wide = arrays["input"].astype(np.float32)
        assert read_inputs(calibration, [spec])[spec.name].tobytes() == wide.tobytes()


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_last_axis_of_size_1_may_be_missing_or_too_many_where_that_is_announced(tmp_path: Path, suffix: str) -> None:
    specs = InputSpec("x", np.dtype(np.float32), (1, 2, 3, 1)), InputSpec("x", np.dtype(np.float32), (1, 2, 3))
    for given_samples, spec in zip((SAMPLES, SAMPLES[..., np.newaxis]), specs, strict=True):
        path = tmp_path / f"{given_samples.ndim}{suffix}"
        np.save(path, given_samples) if suffix == ".npy" else np.savez(path, x=given_samples)
        refused(path, [spec], "nothing is reshaped")
        said: list[str] = []
        found = read_inputs(path, [spec], said.append)["x"]
        assert found.shape == (2, *spec.shape[1:])
        assert np.array_equal(found.ravel(), SAMPLES.ravel())
        assert len(said) == 1
        assert f"has shape {given_samples.shape} and is read as {spec.shape_text}" in said[0]
        # an array that fits is not talked about, and other differences stay refused
        said.clear()
        assert np.array_equal(
            read_inputs(path, [InputSpec("x", spec.dtype, (1, *given_samples.shape[1:]))], said.append)["x"], given_samples
        )
        assert said == []
        with pytest.raises(InputError, match="wanted"):
            read_inputs(path, [InputSpec("x", np.dtype(np.float32), (1, 6))], said.append)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets_in_any_language_are_read(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"1.5{separator}-2\n3{separator}4e1\n")
    np.testing.assert_array_equal(read_csv(path), [[1.5, -2], [3, 40]])


def test_a_wrong_cell_is_shown_in_short(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"1,2\n{'7|' * 5000},3\n")
    with pytest.raises(InputError, match=r"line 2, column 1 is '7\|7\|.*'\.\.\., wanted a finite number") as caught:
        read_csv(path)
    assert len(str(caught.value)) < 300
