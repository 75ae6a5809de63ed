"""The step of each output channel's weights: candidates that scale and shift meet exactly, and what each loses.

A candidate is valid when ``(accumulator + bias) * scale`` stays below 2**24 whatever the input, so that nothing overflows and
float runtimes are exact as well. All arrays carry the groups of a
convolution on their first axis and the outputs of a group on their last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.floats.network import FloatArray
from npusim.program import Clip, IntegerArray
from npusim.quantization.covariance import Covariance
from npusim.quantization.parameters import EXACT_FLOAT32, fit_weight_scale, half_step, width_rules
from npusim.quantization.weight_rounding import LeastSquares, round_to_nearest, rounding_error

__all__ = ["Candidate", "candidates", "largest_sum", "make_candidate", "real_bias"]

WIDE_RATIOS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Steps of 8-bit weights that are tried, as multiples of the one that saturates none; large ones leave room in 2**24."""

NARROW_RATIOS: Final = tuple(2.0 ** (part / 8) for part in range(2, -17, -1))
"""The same for 4- and 2-bit weights."""

WIDE_BIAS: Final = 2.0
"""How much worse a step is taken to be if its bias does not fit, so that the weights have to hold the output's mean."""

MARGIN: Final = 0.98
"""Part of 2**24 that rounding to nearest may use: better rounding can need a little more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step for the weights of each output channel.

    Attributes
    ----------
    step
        float64 [group, out / group]: real value of one step for inputs in codes.
    scale, shift
        int64, same shape: ``step / output_scale == scale * 2**-shift``.
    error
        float64, same shape: what rounding to nearest loses, infinite where the candidate is not valid.
    """

    step: FloatArray
    scale: IntegerArray
    shift: IntegerArray
    error: FloatArray


def candidates(
    problem: LeastSquares, found: Covariance, output_scale: FloatArray, weight_bits: int, codes: Clip
) -> Iterator[Candidate]:
    """All candidates for given scales of the output, [group, out / group]."""
    rules = width_rules(weight_bits)
    peak = np.abs(problem.target).max(axis=1)
    # a channel without weights still has a bias: 1/64 of an output code is fine enough, and the bias fits into 16 bits
    silent = peak <= 1e-12 * max(float(peak.max()), 1e-300)
    finest = np.where(silent, output_scale / 64, peak / (rules.largest_weight + 0.49))
    for ratio in WIDE_RATIOS if weight_bits == 8 else NARROW_RATIOS:
        yield make_candidate(problem, found, finest * ratio, output_scale, weight_bits, codes)


def make_candidate(
    problem: LeastSquares,
    found: Covariance,
    wanted: FloatArray,
    output_scale: FloatArray,
    weight_bits: int,
    codes: Clip,
) -> Candidate:
    """The candidate nearest to a wanted step."""
    rules = width_rules(weight_bits)
    rough = round_to_nearest(problem.target, wanted, rules.largest_weight)
    room = MARGIN * EXACT_FLOAT32 / np.maximum(largest_sum(rough, real_bias(found, rough, wanted), codes), 1.0)
    limit = np.maximum(room.reshape(-1), 1.0)
    fitted = fit_weight_scale(wanted.reshape(-1), output_scale.reshape(-1), weight_bits, largest_scale=limit)
    step = fitted[0].reshape(wanted.shape)
    scale, shift = (part.reshape(wanted.shape) for part in fitted[1:])
    integers = round_to_nearest(problem.target, step, rules.largest_weight)
    bias = real_bias(found, integers, step) + half_step(scale, shift)
    stored = np.clip(bias, -rules.largest_bias, rules.largest_bias)
    error = rounding_error(problem, integers, step) * np.where(stored == bias, 1.0, WIDE_BIAS)
    valid = largest_sum(integers, stored, codes) * scale < MARGIN * EXACT_FLOAT32
    return Candidate(step, scale, shift, np.where(valid, error, np.inf))


def real_bias(found: Covariance, integers: FloatArray, step: FloatArray) -> FloatArray:
    """The bias, in units of the accumulator, at which the output's mean is the wanted one."""
    mean = np.matmul(found.input_mean[:, np.newaxis], integers)[:, 0]
    bias: FloatArray = found.output_mean / step - mean
    return bias


def largest_sum(integers: FloatArray, bias: npt.NDArray[np.generic], codes: Clip) -> FloatArray:
    """A bound of every partial sum ``bias + sum of products`` over all inputs in the range of the codes.

    Examples
    --------
    >>> largest_sum(np.array([[[3.0], [-1.0]]]), np.array([[10]]), Clip(0, 255))
    array([[775.]])
    """
    products = integers * codes.upper, integers * codes.lower
    upper = np.maximum(*products).clip(0).sum(axis=1)
    lower = np.minimum(*products).clip(None, 0).sum(axis=1)
    bound: FloatArray = np.maximum(upper, -lower) + np.abs(bias)
    return bound
