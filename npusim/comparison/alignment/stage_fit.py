"""Whether a quantize stage computes codes of the output of a batch norm."""

from __future__ import annotations

import numpy as np

from npusim.comparison.sums import FloatArray
from npusim.program import QuantizeStage

__all__ = ["fit_batch_norm", "stage_parameters"]

MOST_SPREAD = 0.25
"""Largest relative difference between the scales that a stage's channels imply; a multiplier is rounded to a few bits."""

CLOSE = 0.25
"""In LSB: offsets that differ by less are the same, but for rounding."""


def stage_parameters(stage: QuantizeStage, channels: int) -> tuple[FloatArray, FloatArray]:
    """Multiplier and offset of each channel without the half LSB that makes the floor round.

    Both ``[channels]``; a code is the nearest integer to ``(x + offset) * multiplier``.
    """
    multiplier = np.broadcast_to(stage.multiplier.ravel(), (channels,)).astype(np.float64)
    offset = np.broadcast_to(stage.offset.ravel(), (channels,)).astype(np.float64)
    half = np.divide(0.5, multiplier, out=np.zeros(channels), where=multiplier != 0)
    return multiplier, offset - half


def fit_batch_norm(stage: QuantizeStage, gain: FloatArray, shift: FloatArray) -> float | None:
    """Largest difference in LSB between a stage and a batch norm ``gain * x + shift`` at its zero; None where they do not fit.

    Parameters
    ----------
    stage
        The stage; one multiplier and offset for all channels or one for each.
    gain, shift
        The batch norm, ``[channels]``.
    """
    if stage.multiplier.size not in (1, len(gain)) or stage.offset.size not in (1, len(gain)):
        return None
    multiplier, offset = stage_parameters(stage, len(gain))
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = gain / multiplier
        distance = np.abs(offset - shift / gain) * np.abs(multiplier)
    middle = float(np.median(scales))
    if not middle > 0 or not np.isfinite(distance).all():
        return None
    farthest = float(distance.max())
    one_scale = bool(np.abs(scales / middle - 1).max() <= MOST_SPREAD)
    # channels may each have a scale of their own where all offsets, turned signs included, are those of the batch norm
    return farthest if one_scale or (farthest < CLOSE and bool((scales > 0).all())) else None
