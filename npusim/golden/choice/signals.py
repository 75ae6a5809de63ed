"""Inputs that look like measurements: waves, steps and slow noise over the range of an input."""

from __future__ import annotations

import numpy as np

from npusim.program import IntegerArray
from npusim.search.back_projection import Directions
from npusim.search.input_codes import InputCodes

__all__ = ["signal_levels"]


def signal_levels(codes: InputCodes, count: int, generator: np.random.Generator) -> IntegerArray:
    """Levels of inputs made of signals; white noise is averaged away by filters, signals are not.

    Each channel holds the sum of a mean, waves along its axes, a step, and noise, each of random strength.

    Parameters
    ----------
    codes
        The model's inputs as levels.
    count
        Number of samples.
    generator
        Where randomness comes from.

    Returns
    -------
    int64 [count, codes.size]
    """
    parts = []
    for shape in codes.shapes.values():
        spatial = shape[1:] if len(shape) > 1 else shape
        channels = shape[0] if len(shape) > 1 else 1
        made = [_signal(channels, spatial, generator) for _ in range(count)]
        parts.append(np.stack(made).reshape(count, -1))
    share = np.concatenate(parts, axis=1)
    return np.clip(np.rint((share * 0.5 + 0.5) * codes.limits), 0, codes.limits).astype(np.int64)


def _signal(channels: int, spatial: tuple[int, ...], generator: np.random.Generator) -> Directions:
    """Values about -1 to 1, [channels, *spatial]; channels share the waves, at other strengths."""
    grid = np.meshgrid(*(np.arange(size) / max(size, 2) for size in spatial), indexing="ij") if spatial else [np.zeros(())]
    total = np.zeros((channels, *spatial))
    strengths = generator.exponential(0.4, 5)
    for strength in strengths[:3]:
        turns = np.exp(generator.uniform(np.log(0.3), np.log(max(max(spatial, default=1) / 3, 1)), len(grid)))
        phase = sum(axis * turn for axis, turn in zip(grid, turns, strict=True))
        # a triangle wave needs no library function whose last digit may differ between machines
        wave = 4 * np.abs((phase + generator.random()) % 1 - 0.5) - 1
        total += strength * generator.uniform(-1, 1, (channels, *(1,) * len(spatial))) * wave
    step = grid[0] > generator.random()
    total += strengths[3] * generator.uniform(-1, 1, (channels, *(1,) * len(spatial))) * np.where(step, 1, -1)
    noise = generator.uniform(-1, 1, total.shape) * strengths[4] * (generator.random() < 0.5)
    return np.asarray(total + generator.uniform(-0.5, 0.5, (channels, *(1,) * len(spatial))) + noise)
