"""Networks so small that all their inputs can be tried."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from support.builders import GraphBuilder

__all__ = ["ALL_INPUTS", "Layer", "Small", "changed", "small"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """The integers of one layer, outputs first in the weights."""

    weights: Numbers
    bias: Numbers
    scale: Numbers
    shift: Numbers
    clip: tuple[int, int]


@dataclass(frozen=True)
class Small:
    """A network of two convolutions and a fully connected layer on three 4-bit codes: 4,096 inputs are all there are."""

    first: Layer
    second: Layer
    last: Layer

    def model(self, dialect: str = "ts17") -> bytes:
        graph = GraphBuilder((1, 1, 3, 1), dialect)
        codes = graph.input_stage([0], [1], [0], bits=4)
        for layer in (self.first, self.second):
            codes = graph.convolution(codes, layer.weights, layer.bias, layer.scale, layer.shift, layer.clip)
        flat = graph.node("Flatten", codes)
        last = self.last
        return graph.model(graph.fully_connected(flat, last.weights.T, last.bias, last.scale, last.shift, last.clip))


ALL_INPUTS = np.array(list(itertools.product(range(-8, 8), repeat=3)), np.float32).reshape(-1, 1, 3, 1)


def small(seed: int) -> Small:
    generator = np.random.default_rng(seed)

    def layer(shape: tuple[int, ...], clip: tuple[int, int]) -> Layer:
        outputs = shape[0]
        weights = generator.integers(-3, 4, shape)
        bias, scale = generator.integers(-20, 21, outputs), generator.integers(1, 6, outputs)
        return Layer(weights, bias, scale, generator.integers(1, 5, outputs), clip)

    return Small(layer((3, 1, 2, 1), (0, 15)), layer((2, 3, 1, 1), (-8, 7)), layer((2, 4), (-128, 127)))


def changed(network: Small, seed: int) -> Small:
    """The network with one of its integers changed by a little."""
    generator = np.random.default_rng(seed)
    which = str(generator.choice(["first", "second", "last"]))
    layer: Layer = getattr(network, which)
    name = str(generator.choice(["weights", "weights", "bias", "scale", "shift", "clip"]))
    step = int(generator.choice([-1, 1]))
    if name == "clip":
        lower, upper = layer.clip
        return replace(network, **{which: replace(layer, clip=(lower, upper + step))})
    values = getattr(layer, name).copy()
    place = tuple(int(generator.integers(size)) for size in values.shape)
    values[place] = max(values[place] + step, 0) if name == "shift" else values[place] + step
    return replace(network, **{which: replace(layer, **{name: values})})
