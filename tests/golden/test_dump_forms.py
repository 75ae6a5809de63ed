"""Every form of a dump is read rightly, and a dump with one wrong value is never called equal."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from npusim.errors import NpusimError
from npusim.files.dumps import read_dump
from npusim.golden.check import Expected, check_dump, expected_of_folder, expected_of_model
from support import ROOT
from support.dump_files import save
from support.dump_forms import FLOAT_FORMS, FORMS
from support.golden_models import samples, session_of

OUTPUT = "output"
INNER = "/average/requantize/Clip_output_0"
"""16 codes of 8 bits, which fit no other tensor."""


def remembered(expected: Expected) -> Expected:
    """The same, with each tensor computed once."""
    return replace(expected, expectation=replace(expected.expectation, values=cache(expected.expectation.values)))


@cache
def vibration() -> Expected:
    return remembered(expected_of_folder(ROOT / "golden" / "vibration_w8"))


@cache
def floats() -> Expected:
    return remembered(expected_of_model(session_of("float32"), samples().inputs))


def verdict(expected: Expected, path: Path, set_index: int | None, tensor: str | None = None) -> str:
    """``equal``, ``different`` or the error."""
    try:
        found = check_dump(expected.expectation, read_dump(path), set_index=set_index, tensor=tensor, explained=False)
    except NpusimError as error:
        return str(error).removeprefix(f"{path}: ")
    return "equal" if all(found) else "different"


def codes_of(expected: Expected, tensor: str, sets: list[int]) -> np.ndarray:
    right = expected.expectation.values(expected.expectation.program.resolve(tensor))[sets]
    return right.reshape(len(sets), -1)


def one_wrong(values: np.ndarray, place: int) -> np.ndarray:
    wrong = values.copy()
    flat = wrong.reshape(-1)
    if flat[place] > 0:
        flat[place] -= 1
    else:
        flat[place] += 1
    return wrong


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("tensor", [OUTPUT, INNER])
@pytest.mark.parametrize("sets", ["one", "all"])
def test_codes(tmp_path: Path, name: str, tensor: str, sets: str) -> None:
    chosen = [2] if sets == "one" else [0, 1, 2, 3]
    right = codes_of(vibration(), tensor, chosen)
    set_index = 2 if sets == "one" else None
    named = None if tensor == OUTPUT else tensor
    file, content = FORMS[name](right)
    found = verdict(vibration(), save(tmp_path / file, content), set_index, named)
    assert found == "equal"
    for place in (0, right.size // 2, right.size - 1):
        file, content = FORMS[name](one_wrong(right, place))
        assert verdict(vibration(), save(tmp_path / file, content), set_index, named) != "equal"


@pytest.mark.parametrize("name", FLOAT_FORMS)
@pytest.mark.parametrize("sets", ["one", "all"])
def test_floats(tmp_path: Path, name: str, sets: str) -> None:
    chosen = [1] if sets == "one" else [0, 1, 2]
    expected = floats()
    output = expected.expectation.program.outputs[0]
    right = codes_of(expected, output, chosen)
    step = np.float32(0.0371)
    for place in (None, 0, right.size - 1):
        values = right.copy()
        if place is not None:
            values.reshape(-1)[place] += step
        file, content = FLOAT_FORMS[name](values)
        found = verdict(expected, save(tmp_path / file, content), 1 if sets == "one" else None)
        assert (found == "equal") == (place is None), found
