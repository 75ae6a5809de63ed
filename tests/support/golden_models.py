"""Small networks for tests of golden folders, one for each kind of output, and samples for them."""

from __future__ import annotations

from functools import cache

import numpy as np

from npusim import InferenceSession
from npusim.golden.choice import Origin, Samples, measure_coverage
from support.sketch import Sketch

__all__ = ["KINDS", "network", "samples", "session_of"]

KINDS = ("int8", "uint8", "float32")
"""Element types of the output."""


@cache
def network(kind: str) -> bytes:
    """An input stage and two convolutions whose 24 places of 2 channels are the output."""
    sketch = Sketch(3, 24, 1, multiplier=900)
    hidden = sketch.layer(sketch.weights(4, 3, 3, 1), kernel_shape=[3, 1], pads=[1, 0, 1, 0])
    clip = (0, 255) if kind == "uint8" else (-128, 127)
    last = sketch.layer(sketch.weights(2, 4, 1, 1), source=hidden, clip=clip)
    return sketch.finish(sketch.graph.binary("Mul", last, 0.0371) if kind == "float32" else last)


@cache
def session_of(kind: str) -> InferenceSession:
    return InferenceSession(network(kind))


@cache
def samples(kind: str = "int8", count: int = 3) -> Samples:
    """Random samples, as if all of a user's data."""
    values = np.random.default_rng(7).normal(0, 2, (count, 3, 24, 1)).astype(np.float32)
    inputs = {"input": values}
    origins = tuple(Origin(False, number) for number in range(count))
    return Samples(inputs, origins, measure_coverage(session_of(kind), inputs))
