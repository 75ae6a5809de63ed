"""Integers for what has no weights: the stages that turn floats into codes, and average pools."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.floats.columns import sum_windows
from npusim.floats.network import FloatArray, FloatLayer
from npusim.program import Clip, IntegerArray, ShiftFloor
from npusim.program.lowering.tinpu.drafts import StageNumbers
from npusim.quantization.parameters import EXACT_FLOAT32, MAXIMUM_SHIFT, fit_bias, fit_input_multiplier, fit_multiplier
from npusim.quantization.scales import ChannelValues, choose_scale, coding_error, sample_channels
from npusim.quantization.solve import requantize_codes

__all__ = ["average_codes", "fit_average", "fit_stage", "stage_codes"]

CONSTANT_SHIFT: Final = 31
"""Shift that hides every input of a channel whose gain is zero, so that its offset alone decides."""


def fit_stage(layer: FloatLayer, scale: FloatArray, clip: Clip) -> tuple[StageNumbers, FloatArray]:
    """The stage for ``codes = round((gain * x + offset) / scale)``.

    Parameters
    ----------
    layer
        An INPUT layer.
    scale
        Wanted real value of a code, [C].
    clip
        Range of the codes.

    Returns
    -------
    (stage, scale)
        The stage, and the scale that its 12-bit multipliers really give.
    """
    gain, offset = layer.parameters
    constant = gain == 0
    safe = np.where(constant, 1.0, gain)
    multiplier, shift = fit_input_multiplier(safe / scale)
    factor = np.ldexp(multiplier.astype(np.float64), -shift)
    exact = np.where(constant, scale, safe / factor)
    start = offset / safe + 0.5 / factor
    hidden = (np.rint(offset / scale) + 0.5) * 2.0**CONSTANT_SHIFT
    stage = StageNumbers(
        np.where(constant, hidden, start).astype(np.float32),
        np.where(constant, 1, multiplier),
        np.where(constant, CONSTANT_SHIFT, shift),
        clip,
    )
    return stage, exact


def stage_codes(stage: StageNumbers, values: npt.NDArray[np.generic]) -> FloatArray:
    """What the stage gives: float32, in the order in which the graph computes."""
    column = (1, -1) + (1,) * (values.ndim - 2)
    shifted = values.astype(np.float32) + stage.offset.reshape(column)
    scaled = shifted * stage.multiplier.astype(np.float32).reshape(column)
    powers = np.ldexp(np.float32(1), -stage.shift).astype(np.float32).reshape(column)
    codes: FloatArray = np.clip(np.floor(scaled * powers), stage.clip.lower, stage.clip.upper).astype(np.float64)
    return codes


def fit_average(
    layer: FloatLayer, codes: FloatArray, input_scale: FloatArray, wanted: FloatArray, clip: Clip, weight_bits: int
) -> tuple[ShiftFloor, FloatArray]:
    """An average pool whose codes use their range: the gain that its scale and shift leave goes into the output's scale.

    Parameters
    ----------
    layer
        An AVERAGE_POOL layer.
    codes, input_scale
        Its input in codes, and their real value, [C].
    wanted
        Its real output, [N, C, ...].
    clip
        Range of the output's codes.
    weight_bits
        With 8 the multiplier is 1, so that output scales are ``input_scale * 2**shift / area``.

    Returns
    -------
    (requantization, output_scale)
    """
    area = math.prod(layer.geometry.kernel_shape)
    values = sample_channels(wanted)
    unit = input_scale / area
    if weight_bits == 8:
        scale, shift = _best_shift(values, unit, clip, area)
    else:
        room = EXACT_FLOAT32 // (area * max(clip.upper, -clip.lower, 255) + 2**15)
        scale, shift = fit_multiplier(unit / choose_scale(values, clip, uniform=False), weight_bits, largest_scale=room)
    output_scale: FloatArray = unit * np.ldexp(1.0, shift) / scale
    sums = window_sums(layer, codes)
    axes = (0, *range(2, sums.ndim))
    missing = wanted.reshape(sums.shape).mean(axis=axes) / unit - sums.mean(axis=axes)
    bias, _ = fit_bias(missing, scale, shift, weight_bits)
    return ShiftFloor(bias, scale, shift, clip=clip), output_scale


def average_codes(layer: FloatLayer, codes: FloatArray, found: ShiftFloor) -> FloatArray:
    """What the pool gives."""
    result = requantize_codes(window_sums(layer, codes), found)
    return result.reshape(codes.shape[0], *layer.output_shape[1:])


def window_sums(layer: FloatLayer, codes: FloatArray) -> FloatArray:
    """Sums of the windows, [N, C, *spatial]."""
    return sum_windows(codes, layer.geometry)


def _best_shift(values: ChannelValues, unit: FloatArray, clip: Clip, area: int) -> tuple[IntegerArray, IntegerArray]:
    best, least = np.zeros(unit.shape, np.int64), np.full(unit.shape, np.inf)
    for shift in range(min(MAXIMUM_SHIFT, math.ceil(math.log2(area)) + 2)):
        error = coding_error(values, unit * 2.0**shift, clip)
        # a channel that is always zero gets the largest shift, at which nothing saturates
        better = error <= least
        best, least = np.where(better, shift, best), np.minimum(error, least)
    return np.ones(unit.shape, np.int64), best
