"""Real QDQ and QOperator models: exactly what ONNX Runtime gave for them, on both engines, under the rules of split.csv."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import npusim
import support
from npusim.graph.onnx_reader import read_graph
from npusim.graph.operators import evaluate_node
from npusim.program.lowering.qoperator import FUSED_OPERATORS

FAMILIES = (
    *("ort-qdq", "ort-qoperator", "ort-tie", "ort-float", "ort-dynamic"),
    *("torchfx", "ti-generic-int", "ti-generic-qdq", "ti-tinpu-qdq"),
)
MOVES = frozenset(
    "reshape flatten squeeze unsqueeze transpose concat split slice gather gathernd expand tile pad resize identity cast shape "
    "quantizelinear dequantizelinear constantofshape".split()
)
"""Host operations that move data or lead from codes to reals and back."""

pytestmark = pytest.mark.formats


def rows() -> list[dict[str, str]]:
    if support.FORMATS is None:
        return []
    with (support.FORMATS / "split.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "visible" and row["family"] in FAMILIES]


def label(row: dict[str, str]) -> str:
    return f"{row['case']}-{json.loads(row['options']).get('arithmetic', 'default')}"


def reference(row: dict[str, str]) -> np.ndarray:
    model = support.FORMATS / row["path"]
    if row["family"].startswith("ti-"):
        return np.load(model.with_suffix(".npz"))[row["reference"]]
    file, key = row["reference"].split(":")
    return np.load(model.parent / file)[key]


def inputs(row: dict[str, str], session: npusim.InferenceSession) -> dict[str, np.ndarray]:
    model, declared = support.FORMATS / row["path"], session.get_inputs()
    if row["family"].startswith("ti-"):
        arrays = {declared[0].name: np.load(model.parent / f"inputs_{row['case'].split('__')[0]}.npz")["x"]}
    else:
        archive = np.load(model.parent / "io.npz")
        arrays = {name[3:]: archive[name] for name in archive.files if name.startswith("in_")}
        arrays = arrays or {declared[0].name: archive["x"]}
    for item in declared:
        tail = tuple(item.shape[1:])
        wanted = np.float32 if item.type == "tensor(float)" else np.dtype(item.type[7:-1])
        value = arrays[item.name]
        whole = all(isinstance(size, int) for size in tail)
        arrays[item.name] = (value.reshape(-1, *tail) if whole else value).astype(wanted)
    return arrays


@pytest.mark.parametrize("row", rows(), ids=label)
def test_models_give_what_onnxruntime_gave(row: dict[str, str]) -> None:
    path, options = str(support.FORMATS / row["path"]), json.loads(row["options"])
    if row["rule"] == "must-refuse-with-message":
        with pytest.raises(npusim.NpusimError, match=row["message"]):
            npusim.InferenceSession(path, **options)
        return
    results = []
    for engine in ("reference", "fast"):
        session = npusim.InferenceSession(path, engine=engine, **options)
        (result, *_) = session.run(None, inputs(row, session))
        results.append(result)
    assert results[0].dtype == results[1].dtype
    assert np.array_equal(*results)
    program = session.program
    allowed = MOVES | {name.lower() for name in row["host_ok"].split()}
    in_float = {item.operator for item in program.host_operations if item.operator.lower() not in allowed}
    assert row["integer"] != "all" or (program.layers and not in_float)
    assert row["integer"] != "some" or program.layers
    wanted = reference(row).reshape(len(results[0]), -1).astype(np.float64)
    found = results[0].reshape(len(results[0]), -1).astype(np.float64)
    different = found != wanted
    if row["rule"] != "float-island":
        assert int(different.sum()) == 0
        return
    step = float(row["step"])
    scale = np.maximum(1.0, np.abs(wanted) if step < 1e-4 else 1.0)
    assert (np.abs(found - wanted) <= step * scale).all()
    assert different.mean() <= float(row["share"])


@pytest.mark.parametrize("row", [row for row in rows() if row["family"] in ("ort-qoperator", "ti-generic-int")], ids=label)
def test_layers_give_what_the_operators_of_the_file_give(row: dict[str, str]) -> None:
    """Every layer of a QOperator model, held against its operator, which shares no planning with layers."""
    session = npusim.InferenceSession(str(support.FORMATS / row["path"]))
    feeds = {name: values[:8] for name, values in inputs(row, session).items()}
    trace, graph = session.trace(feeds), read_graph(session.model)
    compared = 0
    for node in graph.nodes:
        if node.op_type in FUSED_OPERATORS:
            known = {name: graph.constants[name] if name in graph.constants else trace[name] for name in node.inputs if name}
            (wanted,) = evaluate_node(node, known, graph.opset)
            assert np.array_equal(trace[node.outputs[0]], wanted)
            assert trace[node.outputs[0]].dtype == wanted.dtype
            compared += 1
    assert compared
