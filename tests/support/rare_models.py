"""Models in which onnxruntime differs from the integers at one single accumulator value, which random inputs do not meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npusim import InferenceSession
from support.builders import GraphBuilder

__all__ = ["KINDS", "POINT", "SCALE", "SHIFT", "RareModel", "correlated_model", "overflowing_model", "rare_model"]

SCALE, SHIFT, POINT = 247, 17, 81721
"""POINT * SCALE is 154 * 2**SHIFT - 1, odd and past 2**24: float32 rounds it up, and 153 becomes 154. No other integer between
2**24 / SCALE and POINT + 2**SHIFT - 1 is that close to a multiple of 2**SHIFT."""

KINDS = ("FC", "GCONV", "DWCONV", "PWCONV", "TCONV", "AVGPOOL", "PWCONVRES")
"""Kinds of the layer that differs."""


@dataclass(frozen=True)
class RareModel:
    """A model, the name of the layer that differs, and the accumulator at which it does, in its first channel."""

    content: bytes
    layer: str
    accumulator: int


def rare_model(kind: str, *, depth: int, spread: float | None = None, seed: int = 0) -> RareModel:
    """A network of 4-bit weights whose last layer differs at one accumulator.

    Parameters
    ----------
    kind
        Of the last layer.
    depth
        Convolutions between the input stage and the last layer.
    spread
        How far the accumulator is from its mean over random inputs, in standard deviations; None for the largest that one of
        512 random inputs gives.
    seed
        Of the weights.
    """

    def build(bias: int) -> bytes:
        return _network(kind, depth, bias, np.random.default_rng(seed))

    session = InferenceSession(build(0))
    layer = session.program.layers[-1]
    tensor = next(tap.tensor for tap in layer.taps if tap.addend is not None and not tap.addend.any())
    shape = session.program.tensors["input"].shape[1:]
    x = np.random.default_rng(1).uniform(-2, 2, (512, *shape)).astype(np.float32)
    values = session.trace({"input": x}, tensor)[tensor]
    first = values.reshape(512, values.shape[1], -1)[:, 0].astype(np.float64)
    accumulator = int(first.max()) if spread is None else int(np.rint(first.mean() + spread * first.std()))
    content = build(POINT - accumulator)
    return RareModel(content, InferenceSession(content).program.layers[-1].name, accumulator)


def _network(kind: str, depth: int, bias: int, generator: np.random.Generator) -> bytes:
    graph = GraphBuilder((1, 4, 24, 1))
    codes = graph.input_stage(generator.normal(0, 0.2, 4).astype(np.float32), generator.integers(3000, 4095, 4), [6] * 4)
    for _ in range(depth):
        weights = generator.integers(-7, 8, (4, 4, 5, 1))
        parameters = generator.integers(-500, 500, 4), generator.integers(128, 256, 4), np.full(4, 11), (0, 255)
        codes = graph.convolution(codes, weights, *parameters, pads=[2, 0, 2, 0])

    def parameters_of(channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        """The first channel differs at one accumulator, the others nowhere."""
        rest = channels - 1
        return np.array([bias] + [0] * rest), np.array([SCALE] + [200] * rest), np.array([SHIFT] + [12] * rest), (0, 255)

    def weights_of(*shape: int) -> np.ndarray:
        weights = generator.integers(-7, 8, shape)
        weights.reshape(-1)[0] = 7
        return weights

    layers: dict[str, Callable[[], str]] = {
        "FC": lambda: graph.fully_connected(graph.node("Flatten", codes, axis=1), weights_of(96, 4), *parameters_of(4)),
        "GCONV": lambda: graph.convolution(codes, weights_of(4, 4, 5, 1), *parameters_of(4), pads=[2, 0, 2, 0], strides=[2, 1]),
        "DWCONV": lambda: graph.convolution(codes, weights_of(4, 1, 7, 1), *parameters_of(4), group=4, pads=[3, 0, 3, 0]),
        "PWCONV": lambda: graph.convolution(codes, weights_of(8, 4, 1, 1), *parameters_of(8)),
        "TCONV": lambda: graph.convolution(codes, weights_of(4, 4, 3, 1), *parameters_of(4), transposed=True, strides=[2, 1]),
        "AVGPOOL": lambda: graph.global_average(codes, bias, SCALE, SHIFT, (0, 255)),
        # large sums of the first channel go with small codes to add, so that the clip behind does not hide them
        "PWCONVRES": lambda: graph.saturate(
            graph.node("Add", graph.convolution(codes, -weights_of(4, 4, 1, 1), *parameters_of(4)[:3], (-255, 255)), codes),
            (-255, 255),
        ),
    }
    return graph.model(layers[kind]())


def correlated_model(difference: int) -> bytes:
    """A layer that subtracts two codes that are always equal, and that would differ where they are `difference` apart."""
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0.0] * 2, [1.0] * 2, [0] * 2)
    twice = graph.fully_connected(codes, np.array([[1, 1], [1, 1]]), np.zeros(2), [1] * 2, [0] * 2, (0, 255))
    bias = np.array([POINT - 7 * difference, 0])
    weights = np.array([[7, 1], [-7, 1]])
    return graph.model(graph.fully_connected(twice, weights, bias, [SCALE, 200], [SHIFT, 12], (0, 255)))


def overflowing_model(features: int, weight: int, bias: int, scale: int, *, depth: int) -> bytes:
    """A fully connected layer of equal weights, right behind the input stage or behind another one."""
    graph = GraphBuilder((1, features))
    codes = graph.input_stage(np.zeros(features), np.ones(features), np.zeros(features))
    for _ in range(depth):
        codes = graph.fully_connected(codes, np.eye(features, dtype=np.int64), np.zeros(features), [3], [0], (0, 255))
    weights = np.full((features, 2), weight)
    return graph.model(graph.fully_connected(codes, weights, np.array([bias, 0]), [scale, 1], [24, 12], (0, 255)))
