"""Weights into which a simplifier has folded the scale: ``weight * scale * 2**-shift``, and the bias likewise.

Such numbers are dyadic fractions, so they are taken apart exactly: each channel's weights are integers times one factor
``scale * 2**-shift``, and with them the layer computes what the graph says for every input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.program.lowering.tinpu.scale import MAXIMUM_SCALE, MAXIMUM_SHIFT, decompose_multipliers
from npusim.program.requantization import IntegerArray

__all__ = ["Unfolded", "unfold"]

FloatArray = npt.NDArray[np.float64]

LARGEST_WEIGHT = 255
"""Of 8-bit weights, which have no scale but the power of two; training leaves their range a little."""

LARGEST_NARROW_WEIGHT = 15
"""Of weights of at most 4 bits, a training's few steps beyond them included: they have a scale."""

LARGEST_SCALE = 255
"""Of the NPU's layers: 8 bits."""

LARGEST_UNITS = 2**40
"""More units of ``2**-shift`` than a folded weight or bias has."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """What was folded: ``value == weights * scale * 2**-shift`` and ``bias == (own_bias * scale + addend) * 2**-shift``.

    Attributes
    ----------
    weights
        int64 [channels, ...] as the values given.
    bias, scale, shift
        int64 [channels].
    addend
        int64 [channels]: a bias that is not a multiple of the scale, which the simplifier has rounded; 0 elsewhere.
    """

    weights: IntegerArray
    bias: IntegerArray
    scale: IntegerArray
    shift: IntegerArray
    addend: IntegerArray

    @property
    def is_scaled(self) -> bool:
        """Whether anything but a bias was folded."""
        return bool((self.scale != 1).any() or self.shift.any() or self.addend.any())


def unfold(values: FloatArray, bias: FloatArray) -> Unfolded | None:
    """Take the scale out of folded weights, exactly.

    For weights of at most 4 bits a channel's factor is the greatest number of which all its weights and its bias are whole
    multiples; weights of 8 bits have a power of two only.

    Parameters
    ----------
    values
        float64 [channels, weights of one channel].
    bias
        float64 [channels].

    Returns
    -------
    Unfolded or None
        None where the values are not integers of at most 8 bits times such a factor: a layer left in float.

    Examples
    --------
    >>> found = unfold(np.array([[0.375, -0.25]]), np.array([0.5]))
    >>> found.weights, found.bias, found.scale, found.shift
    (array([[ 3, -2]]), array([4]), array([1]), array([3]))
    >>> found = unfold(np.array([[600.0, -1400.0], [0.0, 0.0]]) / 4096, np.array([800.0, 0.0]) / 4096)
    >>> found.weights, found.bias, found.scale, found.shift
    (array([[ 3, -7],
           [ 0,  0]]), array([4, 0]), array([200, 128]), array([12,  7]))
    """
    together = np.concatenate([values, bias[:, None]], axis=1)
    power = _common_power(together)
    if power is None:
        return None
    shift = np.maximum(-power, 0)
    units = np.ldexp(together, shift[:, None])
    if (shift > MAXIMUM_SHIFT).any() or not (np.abs(units) < LARGEST_UNITS).all():
        return None
    whole = units.astype(np.int64)
    narrow = _narrow(whole, shift)
    return _wide(whole, shift) if narrow is None else narrow


def _common_power(values: FloatArray) -> IntegerArray | None:
    """The largest power of two of which all numbers of a row are multiples, as exponents; 0 for a row of zeros."""
    if not np.isfinite(values).all():
        return None
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.log2(np.maximum(whole & -whole, 1).astype(np.float64)).astype(np.int64)
    found = np.where(whole == 0, np.iinfo(np.int64).max, exponent.astype(np.int64) - 53 + trailing).min(axis=1)
    return np.where((whole == 0).all(axis=1), 0, found)


def _wide(units: IntegerArray, shift: IntegerArray) -> Unfolded | None:
    """Weights of 8 bits: the units themselves, with the scale 1."""
    if np.abs(units[:, :-1]).max(initial=0) > LARGEST_WEIGHT:
        return None
    return Unfolded(units[:, :-1], units[:, -1], np.ones_like(shift), shift, np.zeros_like(shift))


def _narrow(units: IntegerArray, shift: IntegerArray) -> Unfolded | None:
    """Weights of at most 4 bits: what is left when each channel's greatest common divisor is taken out."""
    weights, bias = units[:, :-1], units[:, -1]
    own = np.gcd.reduce(np.abs(weights), axis=1)
    common = np.gcd(own, np.abs(bias))
    # of a bias that was rounded only small divisors are left
    common = np.where(np.abs(weights).max(axis=1, initial=0) <= LARGEST_NARROW_WEIGHT * common, common, own)
    common = np.where(own == 0, 1, common)
    odd = common // (common & -common)
    surplus = np.array([_smallest_divisor(int(number)) for number in odd], np.int64)
    common //= surplus
    if (np.abs(weights) > LARGEST_NARROW_WEIGHT * common[:, None]).any() or (odd == 1).all():
        return None
    found = decompose_multipliers([np.ldexp(common.astype(np.float64), -shift)])
    if found is None or (np.abs(found[0]) > MAXIMUM_SCALE).any():
        return None
    scale, power = found
    # the bias in units of 2**-power, which are as fine or finer
    fine = np.where(power >= shift, bias << np.maximum(power - shift, 0), 0)
    coarse = (power < shift) & (bias % (np.int64(1) << np.maximum(shift - power, 0)) != 0)
    if coarse.any():
        return None
    fine = np.where(power < shift, bias >> np.maximum(shift - power, 0), fine)
    whole = fine % scale == 0
    return Unfolded(weights // common[:, None], np.where(whole, fine // scale, 0), scale, power, np.where(whole, 0, fine))


def _smallest_divisor(odd: int) -> int:
    """The smallest divisor that leaves a scale of 8 bits; 1 where the number is one, or where none does."""
    return next(
        (divisor for divisor in range(1, LARGEST_SCALE, 2) if odd % divisor == 0 and odd // divisor <= LARGEST_SCALE), 1
    )
