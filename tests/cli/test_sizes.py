"""A tensor of every size in every command: empty, one element, no sample, 2^31 elements, many dimensions, none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from npusim.files.arrays import read_npz
from support.builders import GraphBuilder
from support.command_line import call

Shape = tuple[int, ...]


def relu(*shape: int) -> bytes:
    """A node that takes every shape."""
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["y"], name="n")], "g", [given], [made])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def layer(*shape: int) -> bytes:
    """A layer of the NPU behind an input stage."""
    graph, channels = GraphBuilder(shape), shape[1]
    codes = graph.input_stage([0] * channels, [1] * channels, [0] * channels)
    weights = np.ones((2, channels, *(1 for _ in shape[2:])))
    return graph.model(graph.convolution(codes, weights, np.zeros(2), [1] * 2, [1] * 2, (0, 255)))


def number() -> bytes:
    """All codes of a sample become one number without an axis."""
    graph = GraphBuilder((1, 3, 4, 1))
    return graph.model(graph.node("ReduceSum", graph.input_stage([0] * 3, [1] * 3, [0] * 3), keepdims=0))


def grown(size: int) -> bytes:
    """An operator that is asked for so many rows."""
    graph = GraphBuilder((1, 2))
    return graph.model(graph.node("Expand", "input", graph.constant([size, 2], np.int64)))


MODELS: dict[str, tuple[bytes, Shape]] = {
    "no axis": (relu(), ()),
    "one axis": (relu(1), (1,)),
    "three in a row": (relu(3), (3,)),
    "an axis of nothing": (relu(1, 0, 4), (1, 0, 4)),
    "a batch of nothing": (relu(0, 4), (0, 4)),
    "a layer of nothing": (layer(1, 2, 0, 1), (1, 2, 0, 1)),
    "no channels": (layer(1, 0, 4, 1), (1, 0, 4, 1)),
    "a layer of one": (layer(1, 1, 1, 1), (1, 1, 1, 1)),
    "a result without axes": (number(), (1, 3, 4, 1)),
    "a size below nothing": (relu(1, -3), (1, 3)),
    "2^31 elements": (relu(1, 2**31), (1, 1)),
    "2^124 elements": (layer(1, 2, 2**62, 2**62), (1, 2, 1, 1)),
    "2^31 rows": (grown(2**31), (1, 2)),
    "-5 rows": (grown(-5), (1, 2)),
    "16 axes": (relu(*[1] * 16), (1,) * 16),
    "62 axes": (relu(*[1] * 62), (1,) * 16),
}

DATA = {"as declared": 1, "three samples": 3, "no sample": 0}


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", MODELS)
def test_every_command_is_right_or_refuses(name: str, tmp_path: Path) -> None:
    content, shape = MODELS[name]
    model, archive, folder = tmp_path / "m.onnx", tmp_path / "o.npz", tmp_path / "g"
    model.write_bytes(content)
    calls: list[list[object]] = [[command, model] for command in ("inspect", "bounds", "verify")]
    calls += [["lint", model, "--device", "f28p55x"], ["compare", model, "--against", "ort"]]
    calls += [["golden", "write", model, "-o", folder, "--samples", "1"]]
    for label, samples in DATA.items():
        x, data = np.full((samples, *shape[1:]) if shape[:1] == (1,) else shape, 3, np.float32), tmp_path / f"{label}.npy"
        np.save(data, x)
        archive.unlink(missing_ok=True)
        done = call("run", model, data, "-o", archive, "--trace", "*")
        assert archive.exists() is (done.code == 0)
        if done.code == 0:
            assert x.size
            for values in read_npz(archive).values():
                assert values.size % len(x if x.ndim else [x]) == 0
        else:
            assert (done.code, "internal error" in done.err) in ((2, False), (3, False)), done
        if label == "three samples" and "layer" not in name:
            continue
        calls += [["verify", model, data], ["compare", model, "--against", "ort", "--data", data]]
        calls += [["golden", "check", model, "--inputs", data, "--dump", archive]]
        calls += [["golden", "write", model, data, "-o", folder, "--force", "--samples", "1"]]
        calls += [["quantize", model, "--calibration", data, "-o", tmp_path / "q.onnx", "--force"]]
    for arguments in calls:
        done = call(*arguments)
        assert "internal error" not in done.err, (arguments, done.err)
        assert done.code in (0, 1, 2, 3)
        assert (done.code in (2, 3)) is bool(done.err), (arguments, done)
        assert len(done.err) < 1000
