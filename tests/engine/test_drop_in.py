"""Programs written for onnxruntime's session run with npusim's as they are."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import npusim
from npusim import InputError, UsageError
from support import ROOT
from support.builders import GraphBuilder

W8 = str(ROOT / "golden" / "vibration_w8.onnx")
X = np.load(ROOT / "golden" / "vibration_inputs.npz")["input"][:1]


def scores_of(runtime: Any) -> np.ndarray:
    """A program that knows nothing of npusim."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(W8, options, ["CPUExecutionProvider"])
    assert runtime.InferenceSession(W8, sess_options=options, providers=["CPUExecutionProvider"]).get_modelmeta().graph_name
    names = [argument.name for argument in session.get_outputs()]
    (scores,) = session.run(names, {session.get_inputs()[0].name: X}, ort.RunOptions())
    (again,) = session.run(None, {"input": X}, run_options=ort.RunOptions())
    assert np.array_equal(scores, again)
    return scores


def test_the_same_program_runs_in_both() -> None:
    assert np.array_equal(scores_of(npusim), scores_of(ort))


def test_metadata_are_those_that_onnxruntime_reads() -> None:
    model = onnx.load(W8)
    model.producer_name, model.domain, model.doc_string, model.model_version = "trainer", "org.example", "a net", 7
    model.graph.name, model.graph.doc_string = "torque", "one graph"
    onnx.helper.set_model_props(model, {"epochs": "30", "author": "ä"})
    content = model.SerializeToString()
    seen, wanted = (made.get_modelmeta() for made in (npusim.InferenceSession(content), ort.InferenceSession(content)))
    for name in ("producer_name", "graph_name", "domain", "description", "graph_description", "version", "custom_metadata_map"):
        assert getattr(seen, name) == getattr(wanted, name), name
    assert npusim.InferenceSession(W8).get_modelmeta().custom_metadata_map == {}


def test_inputs_by_position() -> None:
    session = npusim.InferenceSession(W8)
    (wanted,) = session.run(None, {"input": X})
    assert np.array_equal(session(X), wanted)
    with pytest.raises(InputError, match="2 arrays are given, wanted 1: the model's inputs are 'input'"):
        session(X, X)
    with pytest.raises(InputError, match="element type float64, wanted float32"):
        session(X.astype(np.float64))
    graph = GraphBuilder((1, 3))
    two = npusim.InferenceSession(graph.model(graph.node("Abs", "input"), graph.node("Neg", "input")))
    first, second = two(np.float32([[1, -2, 3]]))
    assert (first.tolist(), second.tolist()) == ([[1, 2, 3]], [[-1, 2, -3]])


def test_names_that_are_a_text_and_inputs_that_are_an_array() -> None:
    session = npusim.InferenceSession(W8)
    with pytest.raises(UsageError, match=r"output_names is the text 'output', wanted a list of names, \['output'\], or None"):
        session.run("output", {"input": X})
    with pytest.raises(InputError, match="the inputs are a ndarray, wanted a mapping from input names"):
        session.run(None, X)
    with pytest.raises(UsageError, match="output_names is the text"):
        list(session.run_chunks([{"input": X}], "output"))


def test_a_session_is_pickled_and_copied_without_the_memory_of_its_runs() -> None:
    session = npusim.InferenceSession(ROOT / "golden" / "vibration_w4.onnx")
    before, x = pickle.dumps(session), np.zeros((100, 3, 64, 1), np.float32)
    (wanted,) = session.run(None, {"input": x})
    after = pickle.dumps(session)
    assert len(after) == len(before)
    for other in (pickle.loads(after), copy.deepcopy(session)):
        (seen,) = other.run(None, {"input": x})
        assert seen.tobytes() == wanted.tobytes()
