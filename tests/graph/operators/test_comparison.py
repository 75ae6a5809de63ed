"""Comparisons, Boolean logic and selection against plain Python, one element at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.single_operator import any_float, check_float32, compute, f32

pytestmark = pytest.mark.filterwarnings("error")


@given(st.lists(st.tuples(any_float, any_float), min_size=1, max_size=8))
def test_comparisons(pairs: list[tuple[float, float]]):
    a, b = f32(*(pair[0] for pair in pairs)), f32(*(pair[1] for pair in pairs))
    assert compute("Equal", a, b).tolist() == [x == y for x, y in pairs]
    assert compute("Less", a, b).tolist() == [x < y for x, y in pairs]
    assert compute("LessOrEqual", a, b).tolist() == [x <= y for x, y in pairs]
    assert compute("Greater", a, b).tolist() == [x > y for x, y in pairs]
    assert compute("GreaterOrEqual", a, b).tolist() == [x >= y for x, y in pairs]
    assert compute("IsNaN", a).tolist() == [math.isnan(x) for x, _ in pairs]
    assert compute("IsInf", a).tolist() == [math.isinf(x) for x, _ in pairs]
    assert compute("IsInf", a, detect_negative=0).tolist() == [x == math.inf for x, _ in pairs]
    assert compute("IsInf", a, detect_positive=0).tolist() == [x == -math.inf for x, _ in pairs]
    chosen = compute("Where", np.array([x < y for x, y in pairs]), a, b)
    check_float32(chosen, [x if x < y else y for x, y in pairs])


def test_logic():
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    assert compute("And", a, b).tolist() == [False, False, False, True]
    assert compute("Or", a, b).tolist() == [False, True, True, True]
    assert compute("Xor", a, b).tolist() == [False, True, True, False]
    assert compute("Not", a).tolist() == [True, True, False, False]
