"""Scales of codes: what is lost by saturation against what is lost by coarse steps, measured on calibration values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.floats.network import FloatArray
from npusim.program import Clip

__all__ = ["ChannelValues", "Tail", "choose_scale", "choose_shared_scale", "coding_error", "full_scale", "sample_channels"]

VALUES: Final = 4096
"""At most so many values of a channel decide its scale."""

RATIOS: Final = tuple(2.0 ** (part / 8) for part in range(8, -17, -1))
"""Scales that are tried, as parts of the smallest one that saturates no value seen."""

TAIL_PART: Final = 0.01
TAIL_VALUES: Final = (4, 6)
"""The tail is estimated from this part of the values, at least and at most so many."""


@dataclass(frozen=True, slots=True)
class Tail:
    """An exponential tail, each [C]: `part` of the values lie beyond `start`, on average by `decay`."""

    part: float
    start: FloatArray
    decay: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> Tail:
        """The upper tail of each row of values, [C, n]."""
        count = values.shape[1]
        largest = int(np.clip(TAIL_PART * count, min(TAIL_VALUES[0], count), TAIL_VALUES[1]))
        tail = np.partition(values, count - largest, axis=1)[:, count - largest :]
        start = np.maximum(tail.min(axis=1), 0.0)
        return cls(largest / count, start, np.maximum(tail - start[:, np.newaxis], 0.0).mean(axis=1))

    def excess(self, limit: FloatArray) -> FloatArray:
        """Mean squared excess over a limit, [C]."""
        distance = np.maximum(limit - self.start, 0.0) / np.maximum(self.decay, 1e-300)
        expected: FloatArray = self.part * 2 * np.square(self.decay) * np.exp(-np.minimum(distance, 700.0))
        return expected


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """Values of each channel of a tensor.

    Attributes
    ----------
    values
        float64 [C, n].
    above, below
        Their upper tails, and the upper tails of their negatives.
    """

    values: FloatArray
    above: Tail
    below: Tail

    @classmethod
    def of(cls, values: FloatArray) -> ChannelValues:
        """From values [C, n]."""
        return cls(values, Tail.of(values), Tail.of(-values))

    def together(self) -> ChannelValues:
        """All channels as one."""
        return ChannelValues.of(self.values.reshape(1, -1))


def sample_channels(values: FloatArray) -> ChannelValues:
    """Values of each channel: all, or a part drawn with a fixed seed that keeps the extremes.

    Parameters
    ----------
    values
        [N, C, *spatial].
    """
    channels = np.ascontiguousarray(np.moveaxis(values, 1, 0)).reshape(values.shape[1], -1)
    if channels.shape[1] > VALUES:
        taken = np.random.default_rng(0).permutation(channels.shape[1])[: VALUES - 2]
        extremes = [channels.max(axis=1, keepdims=True), channels.min(axis=1, keepdims=True)]
        channels = np.concatenate([channels[:, taken], *extremes], axis=1)
    return ChannelValues.of(channels)


def full_scale(values: FloatArray, clip: Clip) -> FloatArray:
    """The smallest scale of each channel at which no value [C, n] saturates, [C]; 0 for a channel that is always zero.

    Examples
    --------
    >>> full_scale(np.array([[-64.0, 25.4]]), Clip(-128, 127))
    array([0.5])
    """
    upper = np.maximum(values.max(axis=1), 0.0) / clip.upper
    lower = np.maximum(-values.min(axis=1), 0.0) / -clip.lower if clip.lower < 0 else np.zeros(upper.shape)
    largest: FloatArray = np.maximum(upper, lower)
    return largest


def coding_error(channels: ChannelValues, scale: FloatArray, clip: Clip) -> FloatArray:
    """Expected squared error of ``scale * clip(round(value / scale))`` for each channel, [C]; `scale` is [C].

    Rounding is measured on the values. Saturation is what the values show or, where that is more, what an exponential tail
    like that of the largest values leads to: values yet to come go beyond those seen.
    """
    steps = channels.values / scale[:, np.newaxis]
    error = np.square(np.rint(steps) - steps).mean(axis=1) * np.square(scale)
    limit = (clip.upper + 0.5) * scale
    seen = np.square(np.maximum(channels.values - limit[:, np.newaxis], 0.0)).mean(axis=1)
    error = error + np.maximum(seen, channels.above.excess(limit))
    if clip.lower < 0:
        limit = (0.5 - clip.lower) * scale
        seen = np.square(np.maximum(-channels.values - limit[:, np.newaxis], 0.0)).mean(axis=1)
        error = error + np.maximum(seen, channels.below.excess(limit))
    result: FloatArray = error
    return result


def choose_scale(channels: ChannelValues, clip: Clip, *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel that loses least, for one tensor; see :func:`choose_shared_scale`."""
    return choose_shared_scale([(channels, clip)], uniform=uniform, largest=largest)


def choose_shared_scale(tensors: Sequence[tuple[ChannelValues, Clip]], *, uniform: bool, largest: float = np.inf) -> FloatArray:
    """The scale of each channel at which tensors that share it lose least.

    Parameters
    ----------
    tensors
        Values and range of the codes of each tensor.
    uniform
        One scale for all channels.
    largest
        No scale is larger than this.

    Returns
    -------
    ndarray
        float64 [C], positive. A channel that is always zero gets the largest scale of the others, or 1.
    """
    channels = tensors[0][0].values.shape[0]
    full = np.max([full_scale(part.values, clip) for part, clip in tensors], axis=0)
    if uniform:
        full = np.full(channels, full.max())
    start = np.minimum(np.where(full <= 0, full.max() if full.max() > 0 else 1.0, full), largest)
    best, least = start, np.full(channels, np.inf)
    for ratio in RATIOS:
        error = np.sum([coding_error(part, start * ratio, clip) for part, clip in tensors], axis=0)
        if uniform:
            error = np.full(channels, error.sum())
        better = (error < least) & (full > 0)
        best, least = np.where(better, start * ratio, best), np.where(better, error, least)
    return best
