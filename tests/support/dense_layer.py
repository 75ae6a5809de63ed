"""One dense layer right behind an input stage: the smallest model in which a single number decides a verdict."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from support.builders import GraphBuilder

__all__ = ["fully_connected"]


def fully_connected(
    weights: npt.NDArray[np.int64],
    bias: int = 0,
    scale: int = 1,
    shift: int = 20,
    clip: tuple[int, int] = (-128, 127),
    layers: int = 1,
) -> bytes:
    """A fully connected layer right behind the input stage, with all its weights in one channel; codes are -128 to 127."""
    features = len(weights)
    graph = GraphBuilder((1, features), "dyn18v")
    result = graph.input_stage(np.zeros(features), np.ones(features), np.zeros(features))
    for _ in range(layers - 1):
        result = graph.fully_connected(result, np.eye(features, dtype=np.int64), np.zeros(features), [1], [0], (-128, 127))
    matrix = np.asarray(weights, np.int64).reshape(-1, 1)
    return graph.model(graph.fully_connected(result, matrix, np.array([bias]), [scale], [shift], clip))
