"""Real models of the PLiNIO and MATCH family: every visible row of the check of formats, by both engines."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

import npusim
import support
from npusim.errors import NpusimError
from npusim.graph.traits import Trait, is_a
from npusim.verification import verify

pytestmark = pytest.mark.formats


def _rows() -> list[dict[str, str]]:
    if support.FORMATS is None:
        return []
    with (support.FORMATS / "split.csv").open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["family"].startswith("plinio") and row["split"] == "visible"]


ROWS = _rows()
COMPUTED = [row for row in ROWS if row["rule"] != "must-refuse-with-message"]
REFUSED = [row for row in ROWS if row["rule"] == "must-refuse-with-message"]


def named(row: dict[str, str]) -> str:
    return "-".join([row["case"], *json.loads(row["options"]).values()])


def reference(row: dict[str, str]) -> np.ndarray:
    file, key = row["reference"].split(":")
    with np.load((support.FORMATS / row["path"]).parent / file) as arrays:
        return arrays[arrays.files[0] if key == "*" else key]


def feeds(row: dict[str, str], session: npusim.InferenceSession) -> dict[str, np.ndarray]:
    (item,) = session.get_inputs()
    with np.load((support.FORMATS / row["path"]).parent / "io.npz") as arrays:
        values = arrays["x_int"]
    return {item.name: values.reshape(-1, *item.shape[1:]).astype(item.type[7:-1].replace("float", "float32"))}


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("row", COMPUTED, ids=named)
def test_outputs_are_those_of_the_reference(row, engine):
    session = npusim.InferenceSession(support.FORMATS / row["path"], engine=engine, **json.loads(row["options"]))
    allowed = {"Cast", *row["host_ok"].split()}
    if row["integer"] == "all":
        operators = {step.operator for step in session.program.host_operations}
        assert {name for name in operators - allowed if not is_a(name, Trait.MOVES)} == set()
    found = session.run(None, feeds(row, session))
    assert [value.dtype.name for value in found] == [
        item.type[7:-1].replace("float", "float32") for item in session.get_outputs()
    ]
    wanted = reference(row)
    if row["rule"] == "float-island":
        np.testing.assert_allclose(found[0].reshape(wanted.shape), wanted, rtol=float(row["step"]), atol=float(row["step"]))
    else:
        assert found[0].reshape(wanted.shape).tolist() == wanted.tolist()


@pytest.mark.parametrize("row", REFUSED, ids=named)
def test_types_that_contradict_are_refused_with_the_node(row):
    for arithmetic in (None, "match", "onnx"):
        with pytest.raises(NpusimError, match="MatMulInteger") as caught:
            npusim.InferenceSession(support.FORMATS / row["path"], arithmetic=arithmetic)
        assert re.search(row["message"], str(caught.value))


@pytest.mark.parametrize("row", COMPUTED, ids=named)
def test_both_engines_give_every_inner_tensor(row):
    path, options = support.FORMATS / row["path"], json.loads(row["options"])
    fast, slow = (npusim.InferenceSession(path, engine=engine, **options) for engine in ("fast", "reference"))
    arrays = {name: values[:2] for name, values in feeds(row, fast).items()}
    traces = fast.trace(arrays), slow.trace(arrays)
    assert [name for name in traces[1] if not np.array_equal(traces[0][name], traces[1][name])] == []
    assert {layer.output for layer in fast.program.layers} <= set(traces[0])


@pytest.mark.parametrize("row", [row for row in COMPUTED if "visual" not in row["case"]], ids=named)
def test_onnxruntime_agrees_on_every_tensor(row):
    session = npusim.InferenceSession(support.FORMATS / row["path"], **json.loads(row["options"]))
    result = verify(session, {name: values[:1] for name, values in feeds(row, session).items()})
    assert [step for step in result.steps if step.mismatches] == []
    assert len(result.steps) >= len(session.program.steps)


def test_a_wrong_weight_is_seen_by_onnxruntime():
    row = next(row for row in COMPUTED if row["case"] == "public_match_arcane_mnist")
    session = npusim.InferenceSession(support.FORMATS / row["path"])
    layer = session.program.layers[1]
    layer.weights[3, 4] += 1
    result = verify(session, feeds(row, session))
    assert layer.name in [step.name for step in result.steps if step.mismatches]
