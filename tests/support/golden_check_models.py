"""Models for tests of golden checks: small, but with accumulators and residuals that go far enough for every fault to show."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from npusim import InferenceSession
from npusim.files.arrays import read_npz, write_arrays
from support import ROOT
from support.builders import GraphBuilder
from support.command_line import call
from support.sketch import Sketch

__all__ = ["MODELS", "feeds_for", "session_for", "write_golden"]

MODELS = ("vibration_w8", "vibration_w4", "wide", "residual", "picture", "one_by_one")


@cache
def session_for(name: str) -> InferenceSession:
    """A model by name, planned once."""
    if name.startswith("vibration"):
        return InferenceSession(ROOT / "golden" / f"{name}.onnx")
    return InferenceSession({"wide": wide, "residual": residual, "picture": picture, "one_by_one": one_by_one}[name]())


def feeds_for(name: str) -> dict[str, np.ndarray]:
    """Six samples for a model."""
    if name.startswith("vibration"):
        return {"input": read_npz(ROOT / "golden" / "vibration_inputs.npz")["input"][:6]}
    shape = tuple(session_for(name).get_inputs()[0].shape)[1:]
    values = np.random.default_rng(8).normal(0, 2, (6, *shape)).astype(np.float32)
    return {"input": np.abs(values) * np.float32(0.3) + 3 if name == "wide" else values}


def write_golden(path: Path, *options: object) -> Path:
    """A golden folder of the six samples of vibration_w8."""
    samples = path.parent / "six.npz"
    write_arrays(samples, feeds_for("vibration_w8"))
    model = ROOT / "golden" / "vibration_w8.onnx"
    outcome = call("golden", "write", model, samples, "-o", path, "--samples", 6, "--quiet", *options)
    assert outcome.code == 0, outcome
    return path


def wide() -> bytes:
    """Two fully connected layers whose accumulators pass 24 bits, their products 32 bits and their digits 18 bits."""
    generator = np.random.default_rng(1)
    graph = GraphBuilder((1, 1024))
    codes = graph.input_stage(np.zeros(1024), np.full(1024, 512), np.full(1024, 4))
    weights = generator.integers(40, 128, (1024, 24))
    hidden = graph.fully_connected(codes, weights, generator.integers(-900, 900, 24), [255] * 24, [24] * 24, (0, 255))
    last = generator.integers(-7, 8, (24, 24))
    return graph.model(graph.fully_connected(hidden, last, generator.integers(-90, 90, 24), [200] * 24, [13] * 24, (-128, 127)))


def residual() -> bytes:
    """A pointwise convolution that goes beyond -512..511 before a residual, and a convolution behind it."""
    generator = np.random.default_rng(3)
    graph = GraphBuilder((1, 4, 16, 1))
    codes = graph.input_stage([0.5] * 4, [1000, -900, 700, 400], [5] * 4)
    bias = generator.integers(-300, 300, 8)
    hidden = graph.convolution(
        codes, generator.integers(-20, 20, (8, 4, 3, 1)), bias, [1] * 8, [4] * 8, (0, 255), pads=[1, 0, 1, 0]
    )
    weights = generator.integers(-127, 128, (8, 8, 1, 1))
    branch = graph.convolution(hidden, weights, bias, [1] * 8, [4] * 8, (-700, 700))
    summed = graph.clip(graph.node("Add", branch, hidden), -900, 900)
    return graph.model(
        graph.convolution(summed, generator.integers(-7, 8, (4, 8, 1, 1)), bias[:4], [1] * 4, [7] * 4, (-128, 127))
    )


def picture() -> bytes:
    """Two convolutions over pictures of 6x5, so that all orders of the axes differ."""
    sketch = Sketch(4, 6, 5)
    hidden = sketch.layer(sketch.weights(8, 4, 3, 3), pads=[1, 1, 1, 1])
    return sketch.finish(sketch.layer(sketch.weights(4, 8, 1, 1), source=hidden, clip=(-128, 127)))


def one_by_one() -> bytes:
    """A network whose output has no batch axis, so that samples are run one after the other."""
    sketch = Sketch(4, 12, 1)
    hidden = sketch.layer(sketch.weights(8, 4, 3, 1), pads=[1, 0, 1, 0])
    codes = sketch.layer(sketch.weights(4, 8, 1, 1), source=hidden, clip=(-128, 127))
    return sketch.finish(sketch.graph.node("Squeeze", codes))
