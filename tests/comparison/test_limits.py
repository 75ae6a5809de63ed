"""Limits on the output of a comparison, and causes that mask each other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import npusim
from support import ROOT
from support.command_line import call

QUANTIZED = ROOT / "golden" / "keywords_w8.onnx"
FLOAT = ROOT / "golden" / "keywords_float.onnx"
SAMPLES = ROOT / "golden" / "keywords_samples.npz"


@cache
def samples() -> np.ndarray:
    with np.load(SAMPLES) as stored:
        return np.asarray(stored["input"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "ok"),
    [
        ({"min_sqnr": 40.0}, True),
        ({"min_sqnr": 45.0}, False),
        ({"max_drop": 0.02}, True),
        ({"max_drop": 0.01}, False),
    ],
)
def test_a_limit_decides(limits: dict[str, float], ok: bool) -> None:
    result = npusim.compare(QUANTIZED, FLOAT, samples(), **limits)
    assert (bool(result), [one.rule for one in result.findings if one.severity == "error"]) == (
        ok,
        [] if ok else ["below_limit"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("least", "code"), [(0.9, 0), (1.0, 1)])
def test_accuracy_is_limited_where_there_are_labels(least: float, code: int) -> None:
    result = npusim.compare(QUANTIZED, FLOAT, samples())
    classes = result.outputs[0].classification
    assert classes is not None
    (wanted,) = npusim.InferenceSession(FLOAT).run(None, {"input": samples()})
    labels = wanted.argmax(axis=1)
    found = npusim.compare(QUANTIZED, FLOAT, samples(), labels=labels, min_accuracy=least, max_drop=1.0)
    assert bool(found) == (code == 0)


def test_a_limit_on_what_is_not_there_is_refused() -> None:
    with pytest.raises(npusim.UsageError, match="needs labels"):
        npusim.compare(QUANTIZED, FLOAT, samples(), min_accuracy=0.5)
    with pytest.raises(npusim.UsageError, match="float model"):
        npusim.compare(QUANTIZED, "ort", samples(), min_sqnr=1.0)


def test_the_command_line_takes_percent() -> None:
    arguments = ("compare", QUANTIZED, "--against", FLOAT, "--data", SAMPLES, "--quiet")
    assert call(*arguments, "--max-drop", "2").code == 0
    outcome = call(*arguments, "--max-drop", "1")
    assert (outcome.code, "(below_limit)" in outcome.out) == (1, True)
