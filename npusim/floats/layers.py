"""What a layer with weights consists of, and arithmetic as such a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.floats.network import FloatArray, FloatKind
from npusim.program import Window
from npusim.program.lowering.floats import Affine, Refusal

__all__ = ["Weighted", "diagonal"]

LARGEST_DIAGONAL = 1024
"""Most features for which arithmetic on each of them becomes a fully connected layer."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """Kind, weights in ONNX layout (LINEAR: ``[in, out]``), a bias for each output, and the geometry."""

    kind: FloatKind
    weights: FloatArray
    bias: FloatArray
    window: Window | None = None
    group: int = 1


def diagonal(affine: Affine, rank: int) -> Weighted:
    """Arithmetic on each channel as a layer: depthwise of 1x1, or for features a fully connected one.

    Raises
    ------
    Refusal
        If there are too many features.
    """
    channels = affine.gain.size
    if rank == 2:
        if channels > LARGEST_DIAGONAL:
            raise Refusal(f"as a layer it would have {channels} x {channels} weights")
        return Weighted(FloatKind.LINEAR, np.diag(affine.gain), affine.offset)
    spatial = rank - 2
    window = Window((1,) * spatial, (1,) * spatial, (0,) * (2 * spatial), (1,) * spatial)
    return Weighted(FloatKind.CONV, affine.gain.reshape(-1, *(1,) * (rank - 1)), affine.offset, window, channels)
