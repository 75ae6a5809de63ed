"""The networks that are measured, and who computes them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import npusim

__all__ = ["EXPORTS", "Export", "contenders", "with_batch", "zoo"]

EXPORTS = Path(os.environ.get("NPUSIM_EXPORTS") or Path(__file__).resolve().parents[2] / "shared" / "models")
TWO_DIMENSIONAL = ("MOBILENET", "LENET5", "DSCNN", "PIR2D")


@dataclass(frozen=True)
class Export:
    """A real export and its samples, repeated to the largest batch."""

    name: str
    network: str
    path: Path
    operations: int

    @property
    def is_two_dimensional(self) -> bool:
        return any(mark in self.network for mark in TWO_DIMENSIONAL)

    def samples(self, count: int) -> np.ndarray:
        with np.load(EXPORTS / "inputs" / f"{self.network}.npz") as arrays:
            x = arrays["x"]
        return np.concatenate([x] * (count // len(x) + 1))[:count]


def zoo() -> list[Export]:
    """The plain W8 and W4 exports of the zoo's networks: both methods, integer and float output."""
    index = EXPORTS / "INDEX.csv"
    if not index.is_file():
        raise SystemExit(f"{EXPORTS} holds no INDEX.csv: this benchmark needs the real exports (set NPUSIM_EXPORTS)")
    chosen: list[Export] = []
    with index.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            plain = row["name"].endswith("__ts17") and not row["mixed_precision"] and row["activation_bits"] == "8"
            if plain and row["weight_bits"] in ("8", "4") and not row["network"].startswith("H_"):
                path = EXPORTS / "quantized" / f"{row['name']}.onnx"
                chosen.append(Export(row["name"], row["network"], path, int(row["macs"])))
    return chosen


def with_batch(path: Path, count: int) -> bytes:
    """The model with its batch of one rewritten to `count`."""
    model = onnx.load(path)
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = count
    del model.graph.value_info[:]
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in shapes:
            values = numpy_helper.to_array(tensor).copy()
            values[0] = count
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def runtime(content: bytes | str, threads: int | None) -> onnxruntime.InferenceSession:
    """An onnxruntime session; None leaves everything at its defaults, as users run it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def contenders(export: Export, count: int, threads: int) -> dict[str, Callable[[], object]]:
    """Npusim, onnxruntime as users run it, and onnxruntime with a rewritten batch, on `count` samples."""
    session = npusim.InferenceSession(str(export.path), threads=threads)
    name, x = session.get_inputs()[0].name, export.samples(count)
    single, batched = runtime(str(export.path), None), runtime(with_batch(export.path, count), threads)
    rows = [x[i : i + 1] for i in range(count)]
    ours, theirs = session.run(None, {name: x})[0], batched.run(None, {name: x})[0]
    if not np.array_equal(ours, theirs):
        raise SystemExit(f"{export.name}: npusim and onnxruntime differ, so their speed is not comparable")
    return {
        "npusim": lambda: session.run(None, {name: x}),
        "single": lambda: [single.run(None, {name: row}) for row in rows],
        "batched": lambda: batched.run(None, {name: x}),
    }
