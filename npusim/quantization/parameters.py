"""Real multipliers and biases to the integers that the NPU stores: the width rules, and the best numbers that keep them.

The NPU computes ``clip(((accumulator + bias) * scale) >> shift)`` for each output channel. With 8-bit weights the scale is
always 1 and the bias has 24 bits; with 4- and 2-bit weights the scale has 8 bits, unsigned, and the bias 16. The shift is 0..31
everywhere. The accumulator counts in steps of ``input_scale * weight_scale``, the result in steps of ``output_scale``, so
``input_scale * weight_scale / output_scale`` has to be ``scale * 2**-shift``. Only that quotient is fixed: whoever may choose
the weights' scale (:func:`fit_weight_scale`) meets it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.program import Clip, IntegerArray

__all__ = [
    "EXACT_FLOAT32",
    "INPUT_MULTIPLIER",
    "MAXIMUM_SHIFT",
    "WidthRules",
    "codes_clip",
    "fit_bias",
    "fit_input_multiplier",
    "fit_multiplier",
    "fit_weight_scale",
    "half_step",
    "width_rules",
]

FloatArray = npt.NDArray[np.float64]

MAXIMUM_SHIFT: Final = 31
"""Largest shift of the NPU; the smallest is 0."""

INPUT_MULTIPLIER: Final = 4095
"""Largest multiplier of the input stage: 12 bits and a sign."""

EXACT_FLOAT32: Final = 2**24
"""Every integer up to here is a float32, so that a float runtime computes it exactly."""


@dataclass(frozen=True, slots=True)
class WidthRules:
    """What the NPU can store of a layer.

    Attributes
    ----------
    weight_bits
        2, 4 or 8.
    largest_weight
        Weights are within +- this: the narrow range.
    largest_bias
        Biases are within +- this.
    largest_scale
        Scales are 1 up to this.
    """

    weight_bits: int
    largest_weight: int
    largest_bias: int
    largest_scale: int


def width_rules(weight_bits: int) -> WidthRules:
    """The rules for layers with weights of so many bits.

    Raises
    ------
    ValueError
        If the NPU has no such weights.

    Examples
    --------
    >>> width_rules(4)
    WidthRules(weight_bits=4, largest_weight=7, largest_bias=32767, largest_scale=255)
    """
    if weight_bits not in (2, 4, 8):
        raise ValueError(f"weight_bits is {weight_bits}, wanted 2, 4 or 8")
    wide = weight_bits == 8
    return WidthRules(weight_bits, 2 ** (weight_bits - 1) - 1, 2**23 - 1 if wide else 2**15 - 1, 1 if wide else 255)


def codes_clip(activation_bits: int, *, signed: bool) -> Clip:
    """The saturation to codes of so many bits.

    Examples
    --------
    >>> codes_clip(8, signed=True), codes_clip(4, signed=False)
    (Clip(lower=-128, upper=127), Clip(lower=0, upper=15))
    """
    half = 1 << (activation_bits - 1)
    return Clip(-half, half - 1) if signed else Clip(0, 2 * half - 1)


def fit_multiplier(
    multiplier: npt.ArrayLike, weight_bits: int, *, largest_scale: npt.ArrayLike | None = None
) -> tuple[IntegerArray, IntegerArray]:
    """Of all shifts and scales ``rint(multiplier * 2**shift)`` those whose ``scale * 2**-shift`` is nearest in ratio.

    Parameters
    ----------
    multiplier
        Positive real numbers [C].
    weight_bits
        2, 4 or 8; with 8 the scale is 1.
    largest_scale
        A lower limit for the scale than the width's, one number or [C].

    Returns
    -------
    (scale, shift)
        int64 [C] each, ``1 <= scale <= limit``, ``0 <= shift <= 31``. Where the shift leaves room, ``scale`` or twice
        it is in the upper half of its range, so the ratio is off by at most ``1 / limit`` (by at most sqrt(2) with scale 1).

    Raises
    ------
    ValueError
        If a multiplier is not positive and finite.

    Examples
    --------
    >>> fit_multiplier([0.1, 0.3], 8)
    (array([1, 1]), array([3, 2]))
    >>> fit_multiplier([0.1], 4)
    (array([205]), array([11]))
    """
    wanted = np.atleast_1d(np.asarray(multiplier, dtype=np.float64))
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        raise ValueError(f"multipliers are {wanted}, wanted positive numbers")
    limit = np.full(wanted.shape, width_rules(weight_bits).largest_scale, np.int64)
    if largest_scale is not None:
        limit = np.clip(np.asarray(largest_scale, np.int64), 1, limit)
    top = np.floor(np.log2((limit + 0.5) / wanted)).astype(np.int64)
    best_scale, best_shift = np.ones(wanted.shape, np.int64), np.zeros(wanted.shape, np.int64)
    best = np.full(wanted.shape, np.inf)
    for step in (1, 0, -1):
        shift = np.clip(top + step, 0, MAXIMUM_SHIFT)
        scale = np.clip(np.rint(np.ldexp(wanted, shift)), 1, limit).astype(np.int64)
        error = np.abs(np.log2(np.ldexp(scale.astype(np.float64), -shift) / wanted))
        better = error < best
        best_scale, best_shift = np.where(better, scale, best_scale), np.where(better, shift, best_shift)
        best = np.where(better, error, best)
    return best_scale, best_shift


def fit_weight_scale(
    weight_scale: npt.ArrayLike,
    output_scale: npt.ArrayLike,
    weight_bits: int,
    *,
    input_scale: float = 1.0,
    largest_scale: npt.ArrayLike | None = None,
) -> tuple[FloatArray, IntegerArray, IntegerArray]:
    """The weight scales nearest to those wanted, but not smaller where it can be helped, for which scale and shift are exact.

    Parameters
    ----------
    weight_scale
        Real value of one step of the weights, positive, [C].
    output_scale
        Real value of one output code, one number or [C].
    weight_bits
        2, 4 or 8.
    input_scale
        Real value of one input code; 1 when the weights have taken it in.
    largest_scale
        A lower limit for the scale than the width's, one number or [C].

    Returns
    -------
    (weight_scale, scale, shift)
        ``input_scale * weight_scale / output_scale == scale * 2**-shift``. With 8-bit weights the new weight scale is less than
        twice the old one, so that no weight saturates that did not before; otherwise it is the nearest.

    Examples
    --------
    >>> fit_weight_scale([0.011], [0.05], 8)
    (array([0.0125]), array([1]), array([2]))
    """
    ratio = np.atleast_1d(np.asarray(weight_scale, np.float64) * input_scale / np.asarray(output_scale, np.float64))
    if weight_bits == 8:
        shift = np.clip(np.floor(-np.log2(ratio) + 1e-9), 0, MAXIMUM_SHIFT).astype(np.int64)
        scale = np.ones(ratio.shape, np.int64)
    else:
        scale, shift = fit_multiplier(ratio, weight_bits, largest_scale=largest_scale)
    exact = np.ldexp(scale.astype(np.float64), -shift) * np.asarray(output_scale, np.float64) / input_scale
    return exact, scale, shift


def half_step(scale: IntegerArray, shift: IntegerArray) -> FloatArray:
    """Half an output code in units of the accumulator: added to the bias, it makes the shift round instead of floor.

    Examples
    --------
    >>> half_step(np.array([1, 3]), np.array([4, 4]))
    array([8.        , 2.66666667])
    """
    return np.ldexp(1.0, shift - 1) / scale


def fit_bias(
    bias: npt.ArrayLike, scale: IntegerArray, shift: IntegerArray, weight_bits: int
) -> tuple[IntegerArray, npt.NDArray[np.bool_]]:
    """The integer bias for a real one, half an output code for rounding included.

    Parameters
    ----------
    bias
        Real bias in units of the accumulator, [C].
    scale, shift
        int64 [C].
    weight_bits
        2, 4 or 8.

    Returns
    -------
    (bias, fits)
        int64 [C] within the width, and where it had to be saturated False.

    Examples
    --------
    >>> fit_bias([10.2, 1e6], np.array([1, 1]), np.array([4, 4]), 4)
    (array([   18, 32767]), array([ True, False]))
    """
    limit = width_rules(weight_bits).largest_bias
    wanted = np.rint(np.asarray(bias, np.float64) + half_step(scale, shift))
    saturated = np.clip(wanted, -limit, limit)
    return saturated.astype(np.int64), saturated == wanted


def fit_input_multiplier(gain: npt.ArrayLike) -> tuple[IntegerArray, IntegerArray]:
    """Multiplier and shift of the input stage for ``codes = gain * x``: 12 bits and a sign, from 2048 on if the shift can.

    Parameters
    ----------
    gain
        Real numbers [C], not zero.

    Returns
    -------
    (multiplier, shift)
        int64 [C] each. A gain beyond 4095 saturates.

    Examples
    --------
    >>> fit_input_multiplier([-1.0, 40.7])
    (array([-2048,  2605]), array([11,  6]))
    """
    wanted = np.atleast_1d(np.asarray(gain, np.float64))
    size = np.abs(wanted)
    shift = np.clip(np.floor(np.log2((INPUT_MULTIPLIER + 0.5) / size)), 0, MAXIMUM_SHIFT).astype(np.int64)
    multiplier = np.clip(np.rint(np.ldexp(size, shift)), 1, INPUT_MULTIPLIER).astype(np.int64)
    return np.where(wanted < 0, -multiplier, multiplier), shift
