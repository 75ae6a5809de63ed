"""Real TensorFlow Lite models: every visible row of the check of formats, by both engines, file and C array alike."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

import npusim
import support
from npusim.errors import NpusimError
from npusim.graph.tflite_writer import c_header

pytestmark = pytest.mark.formats


def _rows() -> list[dict[str, str]]:
    if support.FORMATS is None:
        return []
    with (support.FORMATS / "split.csv").open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["family"].startswith("tflite") and row["split"] == "visible"]


ROWS = _rows()
COMPUTED = [row for row in ROWS if row["rule"] != "must-refuse-with-message"]
REFUSED = [row for row in ROWS if row["rule"] == "must-refuse-with-message"]


def named(row: dict[str, str]) -> str:
    return f"{row['case']}-{json.loads(row['options']).get('arithmetic', 'default')}"


def reference(row: dict[str, str]) -> np.ndarray:
    file, key = row["reference"].split(":")
    beside = (support.FORMATS / row["path"]).parent / file
    place = beside if beside.exists() else support.FORMATS / "refs" / "other" / row["case"] / file
    with np.load(place) as arrays:
        return arrays[arrays.files[0] if key == "*" else key]


def feeds(row: dict[str, str], session: npusim.InferenceSession) -> dict[str, np.ndarray]:
    with np.load((support.FORMATS / row["path"]).parent / "io.npz") as arrays:
        found = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in_")} or {
            session.get_inputs()[0].name: arrays["x"]
        }
    return {
        item.name: found[item.name].reshape(-1, *item.shape[1:]).astype(item.type[7:-1].replace("float", "float32"))
        for item in session.get_inputs()
    }


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("row", COMPUTED, ids=named)
def test_outputs_are_those_of_the_runtime(row, engine):
    session = npusim.InferenceSession(support.FORMATS / row["path"], engine=engine, **json.loads(row["options"]))
    assert (session.format, session.arithmetic) == ("tflite", json.loads(row["options"]).get("arithmetic", "tflm"))
    (y,) = session.run(None, feeds(row, session))
    wanted = reference(row)
    assert y.dtype == wanted.dtype
    assert y.reshape(wanted.shape).tolist() == wanted.tolist()


@pytest.mark.parametrize("row", REFUSED, ids=named)
def test_what_is_not_simulated_is_refused_with_the_reason(row):
    with pytest.raises(NpusimError) as caught:
        npusim.InferenceSession(support.FORMATS / row["path"], **json.loads(row["options"]))
    assert re.search(row["message"], str(caught.value))


@pytest.mark.parametrize(
    "row", [row for row in COMPUTED if "dscnn" in row["case"] or "resnet" in row["case"].lower()], ids=named
)
def test_results_do_not_depend_on_chunks(row):
    path, options = support.FORMATS / row["path"], json.loads(row["options"])
    session = npusim.InferenceSession(path, **options)
    arrays = feeds(row, session)
    whole = session.run(None, arrays)[0]
    parts = [{name: array[start : start + 3] for name, array in arrays.items()} for start in range(0, len(whole), 3)]
    assert np.concatenate([part[0] for part in session.run_chunks(parts)]).tolist() == whole.tolist()


@pytest.mark.parametrize("row", [row for row in COMPUTED if "kws" in row["case"]][:1], ids=named)
def test_a_c_array_is_the_model_that_it_holds(row, tmp_path):
    content = (support.FORMATS / row["path"]).read_bytes()
    written = tmp_path / "model.h"
    written.write_text(c_header(content, "model"))
    wanted = npusim.InferenceSession(content).run(None, feeds(row, npusim.InferenceSession(content)))[0]
    for path in (written, support.FORMATS / "public" / "kws_model_data.cc"):
        session = npusim.InferenceSession(path)
        assert session.run(None, feeds(row, session))[0].tolist() == wanted.tolist()


def test_traces_show_the_order_and_the_codes_of_the_file():
    row = next(row for row in COMPUTED if row["case"] == "tflite_dscnn_int8" and row["options"] == "{}")
    session = npusim.InferenceSession(support.FORMATS / row["path"])
    arrays = feeds(row, session)
    trace = session.trace({name: array[:4] for name, array in arrays.items()})
    name = session.get_inputs()[0].name
    assert trace[name].tolist() == arrays[name][:4].tolist()
    shapes = {item.name: trace[item.output].shape for item in session.program.layers}
    assert any(len(shape) == 4 and shape[3] > shape[1] for shape in shapes.values())
    assert {array.dtype for array in trace.values()} == {np.dtype(np.int8)}
