"""verify on TensorFlow Lite models: every tensor that a runtime hands over, and what is said where there is no runtime."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

import npusim
from npusim.engine import tflite_runtimes
from npusim.errors import UnsupportedError, UsageError
from npusim.verification.runtime import verify
from support.command_line import call, checked_json
from support.tflite_models import ARITHMETICS, operator, tensor, write


def model() -> bytes:
    """A convolution, a mean and a fully connected layer."""
    rng = np.random.default_rng(0)
    tensors = (
        tensor("x", "INT8", (1, 6, 6, 3), 0.05, -3),
        tensor("w", "INT8", (8, 3, 3, 3), 0.01, 0, rng.integers(-127, 128, (8, 3, 3, 3))),
        tensor("b", "INT32", (8,), 0.0005, 0, rng.integers(-500, 500, 8)),
        tensor("c", "INT8", (1, 4, 4, 8), 0.1, 5),
        tensor("axes", "INT32", (2,), data=[1, 2]),
        tensor("m", "INT8", (1, 8), 0.1, 5),
        tensor("v", "INT8", (4, 8), 0.02, 0, rng.integers(-127, 128, (4, 8))),
        tensor("y", "INT8", (1, 4), 0.05, 1),
    )
    operators = (
        operator("CONV_2D", (0, 1, 2), (3,), 3, padding="VALID", stride_h=1, stride_w=1),
        operator("MEAN", (3, 4), (5,), 2, keep_dims=0),
        operator("FULLY_CONNECTED", (5, 6, -1), (7,), 4),
    )
    return write(tensors, operators, (0,), (7,))


@pytest.mark.needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_tensor_equals_the_runtimes(arithmetic):
    session = npusim.InferenceSession(model(), arithmetic=arithmetic)
    x = np.random.default_rng(1).integers(-128, 128, (40, 6, 6, 3)).astype(np.int8)
    found = verify(session, {"x": x})
    assert found.ok
    inner = arithmetic in ("tflm", "litert_ref")
    assert [step.tensor for step in found.steps] == (["c", "m", "y"] if inner else ["y"])
    assert found.elements == 40 * ((4 * 4 * 8 + 8 if inner else 0) + 4)


@pytest.mark.needs_tflite
def test_another_arithmetic_is_found_in_the_layer_where_it_starts(monkeypatch):
    content = model()
    session = npusim.InferenceSession(content, arithmetic="litert_ref")
    x = np.random.default_rng(2).integers(-128, 128, (400, 6, 6, 3)).astype(np.int8)
    other = npusim.InferenceSession(content, arithmetic="tflm_single")
    monkeypatch.setattr(session, "trace", other.trace)
    found = verify(session, {"x": x})
    assert not found.ok
    first = found.steps[0]
    assert (first.tensor, first.largest_difference) == ("c", 1.0)
    assert first.mismatches > 0
    assert first.first_difference.npusim != first.first_difference.onnxruntime


@pytest.mark.needs_tflite
@pytest.mark.parametrize(("arithmetic", "package"), [("tflm", "tflite-micro"), ("xnnpack", "ai-edge-litert")])
def test_the_verdict_speaks_of_the_runtime_that_was_asked(arithmetic, package, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    options = ("--samples", 3, "--arithmetic", arithmetic)
    text = " ".join(call("verify", path, *options).out.split())
    assert f"3 samples; compared with {package} {version(package)}; not proven for every input: npusim makes no proof" in text
    assert not any(word in text for word in ("onnxruntime", "optimizations", "agrees", "float32"))
    value = checked_json("verify", call("verify", path, *options, "--json"))
    asked = value["onnxruntime"]
    assert (asked["name"], asked["version"], asked["optimizations_agree"]) == (package, version(package), None)
    assert value["every_input"]["verdict"] == value["every_input"]["onnxruntime_optimized"]["verdict"] == "unknown"


@pytest.mark.needs_tflite
def test_a_difference_is_told_as_one_from_that_runtime(monkeypatch, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    ours = tflite_runtimes.TfliteRuntime.run
    monkeypatch.setattr(
        tflite_runtimes.TfliteRuntime, "run", lambda self, feeds: {name: -1 - x for name, x in ours(self, feeds).items()}
    )
    text = " ".join(call("verify", path, "--samples", 3).out.split())
    assert "NOT EQUAL" in text
    assert ", tflite-micro " in text
    assert "the arithmetic 'tflm' is that of tflite-micro, code for code; please report it" in text
    assert not any(word in text for word in ("onnxruntime", "2^24", "agrees"))
    found = checked_json("verify", call("verify", path, "--samples", 3, "--json"))["findings"]
    assert all("differ from tflite-micro's" in finding["message"] for finding in found)
    assert len(found) == 3


def test_there_is_no_directed_search(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    done = call("verify", path, "--samples", 1, "--directed")
    assert done.code == 3
    assert "of the format 'tflite' nothing is stated about float32; leave out the directed search" in done.err


def test_no_runtime(monkeypatch):
    x = {"x": np.zeros((1, 6, 6, 3), np.int8)}
    with pytest.raises(UnsupportedError, match="no runtime that computes as 'tflm_single'"):
        verify(npusim.InferenceSession(model(), arithmetic="tflm_single"), x)

    def missing(name: str) -> str:
        raise tflite_runtimes.PackageNotFoundError(name)

    monkeypatch.setattr(tflite_runtimes, "version", missing)
    with pytest.raises(UsageError, match=r"tflite-micro is not installed.*pip install '\.\[tflite\]'"):
        verify(npusim.InferenceSession(model()), x)
