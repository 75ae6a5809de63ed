"""Numbers as C source: every float32 comes back from every compiler, and arrays are read as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import InputError, UnsupportedError
from npusim.files.c_text import array_lines, c_name, c_numbers, comment, float_literal
from npusim.files.tensors import read_tensor_file, tensor_bytes
from npusim.golden.folder.c_files import read_arrays

BITS = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32)).filter(np.isfinite)


@given(BITS)
def test_a_float_comes_back_however_its_digits_are_rounded(value: np.float32) -> None:
    text = float_literal(value)
    assert text.endswith("f")
    assert any(mark in text for mark in ".e")
    exact = float(text[:-1])
    bits = value.view(np.uint32)
    assert np.float32(exact).view(np.uint32) == bits
    assert np.float32(text[:-1]).view(np.uint32) == bits
    # a compiler that is off by some of double's last places ends at the same float
    for factor in (1 - 2**-45, 1 + 2**-45):
        with np.errstate(over="ignore"):
            assert np.float32(exact * factor).view(np.uint32) == bits


def test_floats_are_short_where_that_is_safe() -> None:
    values = np.array([0, -0.0, 1, -3, 0.1, 0.5, 16777216, 3.4028235e38, 1e-45, 1 / 3], np.float32)
    assert c_numbers(values) == [
        *("0.0f", "-0.0f", "1.0f", "-3.0f", "0.1f", "0.5f", "1.6777216e+07f"),
        *("3.4028235e+38f", "1.40129846e-45f", "0.33333334f"),
    ]
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(UnsupportedError, match="has no literal in C"):
            float_literal(np.float32(value))


def test_arrays_come_back_from_source() -> None:
    numbers = np.arange(-60, 60, dtype=np.int8)
    lines = array_lines(c_numbers(numbers))
    assert all(len(line) <= 110 for line in lines)
    text = "/*\nint8_t a[120] = {\n" + "\n#ifndef X\n".join(lines) + "\n} ;\n*/\nstatic const float b[] = { 0.5f, -1e-07f, };"
    (first, values), (second, floats) = read_arrays(text)
    assert (first, second) == ("a", "b")
    np.testing.assert_array_equal(values, numbers)
    assert floats.tobytes() == np.array([0.5, -1e-07], np.float32).tobytes()
    with pytest.raises(ValueError, match="array 'a' holds 2 values and declares 3"):
        read_arrays("int8_t a[3] = { 1, 2, };")
    with pytest.raises(ValueError, match="invalid literal"):
        read_arrays("int8_t a[2] = { 1, x, };")


def test_names_and_comments_are_harmless() -> None:
    assert c_name("3/conv:0") == "_3_conv_0"
    assert c_name("größe") == "gr__e"
    assert comment("end */ of // it \\ ??/ ü\nnext") == "end * / of / / it / ? ?/ ? next"


def test_tensor_files_come_back(tmp_path: Path) -> None:
    for values in (np.float32([[0.5, -0.0]]), np.int8([[-128], [127]]), np.array([], np.int64), np.array(True)):
        (tmp_path / "t.pb").write_bytes(tensor_bytes("/a:0", values))
        name, read = read_tensor_file(tmp_path / "t.pb")
        assert (name, read.dtype, read.shape, read.tobytes()) == ("/a:0", values.dtype, values.shape, values.tobytes())
    for content in (b"\x00\x01", b"", b"<html>"):
        (tmp_path / "t.pb").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as an ONNX tensor"):
            read_tensor_file(tmp_path / "t.pb")
    with pytest.raises(InputError, match="no such file"):
        read_tensor_file(tmp_path / "none.pb")
