"""Scales of codes: what is lost by saturation against what is lost by coarse steps, measured on calibration values."""

from __future__ import annotations

from collections.abc import Sequence

from typing import Final

import numpy as np

from npusim.layer import Clip
from npusim.quantize.float_network import FloatArray

__all__ = ["choose_scale", "choose_shared_scale", "coding_error", "full_scale", "sample_channels"]

VALUES: Final = 4096
"""At most so many values of a channel decide its scale."""

RATIOS: Final = tuple(2.0 ** (part / 8) for part in range(8, -17, -1))
"""Scales that are tried, as parts of the smallest one that saturates no value seen."""

TAIL_PART: Final = 0.01
TAIL_VALUES: Final = (4, 6)
"""The tail is estimated from this part of the values, at least and at most so many."""

TAIL_CAUTION: Final = 1.0
"""How much longer than estimated the tail is taken to be."""


def sample_channels(values: FloatArray) -> FloatArray:
    """Values of each channel, float64 [C, n]: all, or a part drawn with a fixed seed that keeps the extremes.

    Parameters
    ----------
    values
        [N, C, *spatial].
    """
    channels = np.ascontiguousarray(np.moveaxis(values, 1, 0)).reshape(values.shape[1], -1)
    if channels.shape[1] <= VALUES:
        return channels
    taken = np.random.default_rng(0).permutation(channels.shape[1])[: VALUES - 2]
    extremes = [channels.max(axis=1, keepdims=True), channels.min(axis=1, keepdims=True)]
    return np.concatenate([channels[:, taken], *extremes], axis=1)


def full_scale(values: FloatArray, clip: Clip) -> FloatArray:
    """The smallest scale of each channel at which nothing saturates, [C]; 0 for a channel that is always zero."""
    upper = np.maximum(values.max(axis=1), 0.0) / clip.upper
    lower = np.maximum(-values.min(axis=1), 0.0) / -clip.lower if clip.lower < 0 else np.zeros(upper.shape)
    largest: FloatArray = np.maximum(upper, lower)
    return largest


def coding_error(values: FloatArray, scale: FloatArray, clip: Clip) -> FloatArray:
    """Expected squared error of ``scale * clip(round(value / scale))`` for each channel, [C]; `scale` is [C].

    Rounding is measured on the values. Saturation is what the values show or, where that is more, what an exponential tail
    like that of the largest values leads to: values yet to come go beyond those seen.
    """
    steps = values / scale[:, np.newaxis]
    rounding = np.square(np.rint(steps) - steps).mean(axis=1)
    error = rounding + _saturation(steps, clip.upper + 0.5)
    if clip.lower < 0:
        error = error + _saturation(-steps, -clip.lower + 0.5)
    result: FloatArray = error * np.square(scale)
    return result


def _saturation(steps: FloatArray, limit: float) -> FloatArray:
    """Mean squared excess over a limit, [C]."""
    seen = np.square(np.maximum(steps - limit, 0.0)).mean(axis=1)
    count = steps.shape[1]
    largest = int(np.clip(TAIL_PART * count, min(TAIL_VALUES[0], count), TAIL_VALUES[1]))
    tail = np.partition(steps, count - largest, axis=1)[:, count - largest :]
    start = np.maximum(tail.min(axis=1), 0.0)
    decay = TAIL_CAUTION * np.maximum(tail - start[:, np.newaxis], 0.0).mean(axis=1)
    distance = np.maximum(limit - start, 0.0) / np.maximum(decay, 1e-9)
    expected = largest / count * 2 * np.square(decay) * np.exp(-np.minimum(distance, 700.0))
    worse: FloatArray = np.maximum(seen, expected)
    return worse


def choose_scale(values: FloatArray, clip: Clip, *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel that loses least, for one tensor; see :func:`choose_shared_scale`."""
    return choose_shared_scale([(values, clip)], uniform=uniform, largest=largest)


def choose_shared_scale(tensors: Sequence[tuple[FloatArray, Clip]], *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel at which tensors that share it lose least.

    Parameters
    ----------
    tensors
        Float values of each channel, [C, n], and the range of the codes, of each tensor.
    uniform
        One scale for all channels.
    largest
        No scale is larger than this.

    Returns
    -------
    ndarray
        float64 [C], positive. A channel that is always zero gets the largest scale of the others, or 1.
    """
    channels = tensors[0][0].shape[0]
    full = np.max([full_scale(values, clip) for values, clip in tensors], axis=0)
    if uniform:
        full = np.full(channels, full.max())
    start = np.minimum(np.where(full <= 0, full.max() if full.max() > 0 else 1.0, full), largest)
    best, least = start, np.full(channels, np.inf)
    for ratio in RATIOS:
        error = np.sum([coding_error(values, start * ratio, clip) for values, clip in tensors], axis=0)
        if uniform:
            error = np.full(channels, error.sum())
        better = (error < least) & (full > 0)
        best, least = np.where(better, start * ratio, best), np.where(better, error, least)
    return best
