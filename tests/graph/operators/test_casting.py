"""Cast against plain Python numbers, and the operators that pass data through."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.errors import OperatorError
from support.single_operator import check_float32, compute, compute_all, f32, integer_dtypes, same_bits, wrapped

pytestmark = pytest.mark.filterwarnings("error")

CODES = {1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8", 12: "u4", 13: "u8"}


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_cast_between_integers_drops_high_bits(code: int, name: str):
    dtype = np.dtype(name)
    x = np.array([0, 1, -1, 127, 128, 255, 256, -129, 2**16, 2**31, 2**32 + 2**10, -(2**63), 2**62])
    if dtype.kind == "b":
        wanted: list[object] = [bool(item) for item in x.tolist()]
    elif dtype.kind == "f":
        wanted = [
            float(dtype.type(float(item))) if abs(item) < 2**16 or dtype.itemsize > 2 else math.copysign(math.inf, item)
            for item in x.tolist()
        ]
    else:
        wanted = [wrapped(item, dtype) for item in x.tolist()]
    result = compute("Cast", x, to=code)
    assert (result.dtype, result.tolist()) == (dtype, wanted)
    assert same_bits(compute("CastLike", x, np.zeros(1, dtype)), result)


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), integer_dtypes)
def test_cast_from_float_drops_the_fraction(values: list[float], dtype: np.dtype):
    wide = 32 if dtype.itemsize < 4 or dtype == np.int32 else 64
    wanted = []
    for value in values:
        whole = math.trunc(value) if math.isfinite(value) else None
        if dtype == np.uint64 and whole is not None and 2**63 <= whole < 2**64:
            wanted.append(whole)
        elif dtype == np.uint64 and value >= 2**64:
            wanted.append(0)
        elif whole is not None and -(2 ** (wide - 1)) <= whole < 2 ** (wide - 1):
            wanted.append(wrapped(whole, dtype))
        else:
            wanted.append(wrapped(-(2 ** (wide - 1)), dtype))
    code = next(code for code, name in CODES.items() if np.dtype(name) == dtype)
    assert compute("Cast", f32(*values), to=code).tolist() == wanted
    assert compute("Cast", np.array(values), to=code).tolist() == wanted


@given(st.lists(st.floats(), min_size=1, max_size=8))
def test_cast_from_double_rounds_once(values: list[float]):
    check_float32(compute("Cast", np.array(values), to=1), values)
    assert compute("Cast", np.array(values), to=9).tolist() == [item != 0 for item in values]


def test_cast_to_an_unknown_type_is_refused():
    for code in (0, 8, 14, 16, 17, 22):
        with pytest.raises(OperatorError, match=f"element type {code} is not"):
            compute("Cast", f32(1), to=code)


def test_dropout_passes_data_through():
    x = f32(1, 2, 3)
    assert same_bits(compute("Dropout", x, opset=7, ratio=0.9), x)
    assert same_bits(compute("Dropout", x, np.float32(0.9).reshape(()), opset=13), x)
    result, mask = compute_all("Dropout", x, None, np.array(False), opset=13, outputs=2)
    assert same_bits(result, x)
    assert (mask.dtype, mask.tolist()) == (np.dtype(bool), [True] * 3)
    assert compute_all("Dropout", x, opset=7, outputs=2)[1].dtype == np.float32
    assert same_bits(compute("Dropout", x, np.float32(0).reshape(()), np.array(True), opset=13), x)


def test_dropout_in_training_mode_is_refused():
    with pytest.raises(OperatorError, match="in training mode"):
        compute("Dropout", f32(1), np.float32(0.5).reshape(()), np.array(True), opset=13)
    with pytest.raises(OperatorError, match="in training mode"):
        compute("Dropout", f32(1), opset=6)
    assert compute("Dropout", f32(1), opset=6, is_test=1).tolist() == [1]


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=3)))
def test_identity_returns_its_input(x: np.ndarray):
    assert same_bits(compute("Identity", x), x)
