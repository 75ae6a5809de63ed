"""A quick way to a network with random parameters, for tests that care about geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from support.builders import GraphBuilder

__all__ = ["Sketch"]


class Sketch:
    """A graph behind an input stage, whose layers get random parameters."""

    def __init__(self, *shape: int, bits: int = 8, multiplier: int = 400) -> None:
        self.generator = np.random.default_rng(sum(shape))
        self.graph = GraphBuilder((1, *shape))
        channels = shape[0]
        offset, factor = self.generator.normal(0, 1, channels), self.generator.integers(-multiplier, multiplier, channels)
        self.codes = self.graph.input_stage(offset.astype(np.float32), factor, [4] * channels, bits)

    def weights(self, *shape: int, largest: int = 20) -> np.ndarray:
        return self.generator.integers(-largest, largest, shape, endpoint=True)

    def layer(
        self,
        weights: np.ndarray,
        *,
        source: str | None = None,
        outputs: int | None = None,
        clip: tuple[int, int] = (0, 255),
        scale: Sequence[int] | None = None,
        **geometry: object,
    ) -> str:
        """A convolution over `weights` with a random bias."""
        count = len(weights) if outputs is None else outputs
        bias = self.generator.integers(-300, 300, count)
        scales = [1] * count if scale is None else scale
        shift = self.generator.integers(4, 8, count)
        return self.graph.convolution(self.codes if source is None else source, weights, bias, scales, shift, clip, **geometry)

    def finish(self, *outputs: str) -> bytes:
        return self.graph.model(*outputs)
