"""Integer scale and shift from the multipliers a graph writes.

Exporters write ``Mul(scale)`` and ``Mul(2**-shift)``, or one product of both; here every form becomes the same pair of
integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from npusim.program.requantization import IntegerArray

__all__ = ["MAXIMUM_SCALE", "MAXIMUM_SHIFT", "decompose_multipliers"]

MAXIMUM_SCALE = 4095
"""Widest multiplier in the vendor's vocabulary (12 bits, the input stage); the NPU's own layers have 8 bits."""

MAXIMUM_SHIFT = 31
"""Largest shift of the NPU."""

_NORMAL_SCALE = 128
"""Exporters scale a 4- or 2-bit layer's multiplier into 128..255; a fused product is brought back to that range."""


def decompose_multipliers(multipliers: Sequence[npt.NDArray[np.float64]]) -> tuple[IntegerArray, IntegerArray] | None:
    """Find integers with ``product(multipliers) == scale * 2**-shift`` for every channel.

    Parameters
    ----------
    multipliers
        float64 [channels] each, in graph order: the values of float32 constants.

    Returns
    -------
    (scale, shift) or None
        int64 [channels] each, ``|scale| <= 4095``, ``0 <= shift <= 31``. As written, when the graph writes an integer and a
        power of two. For one product: scale 1 when every channel is a power of two, otherwise every scale is brought into
        128..255, as exporters do before they fuse. None when a channel's product is not such a number.

    Examples
    --------
    >>> decompose_multipliers([np.array([210.0]), np.array([2.0**-12])])
    (array([210]), array([12]))
    >>> decompose_multipliers([np.array([210 * 2.0**-12, 2.0**-5])])
    (array([210, 128]), array([12, 12]))
    >>> decompose_multipliers([np.array([0.1])]) is None
    True
    """
    if not all(np.isfinite(values).all() for values in multipliers):
        return None
    written = _as_written(multipliers)
    if written is not None:
        return written
    product = np.ones(1)
    for values in multipliers:
        product = product * values
        if not (np.abs(product) < 2.0**40).all():
            return None
    return _normalise(product)


def _as_written(multipliers: Sequence[npt.NDArray[np.float64]]) -> tuple[IntegerArray, IntegerArray] | None:
    if len(multipliers) != 2:
        return None
    for integer, power in (multipliers, tuple(reversed(multipliers))):
        mantissa, exponent = np.frexp(power)
        shift = 1 - exponent.astype(np.int64)
        fits = (integer == np.floor(integer)) & (np.abs(integer) <= MAXIMUM_SCALE)
        if bool((fits & (mantissa == 0.5) & (shift >= 0) & (shift <= MAXIMUM_SHIFT)).all()):
            return integer.astype(np.int64), shift
    return None


def _normalise(product: npt.NDArray[np.float64]) -> tuple[IntegerArray, IntegerArray] | None:
    mantissa, exponent = np.frexp(product)
    # 53 mantissa bits as an integer, then the trailing zeros out: product == odd * 2**exponent
    odd = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.where(odd == 0, 0, np.log2((odd & -odd).clip(1).astype(np.float64))).astype(np.int64)
    odd >>= trailing
    power = np.where(odd == 0, 0, exponent.astype(np.int64) - 53 + trailing)
    scale, shift = np.where(power > 0, odd << power.clip(0, 40), odd), np.maximum(-power, 0)
    if not (np.abs(scale) <= MAXIMUM_SCALE).all() or not (shift <= MAXIMUM_SHIFT).all():
        return None
    if (np.abs(odd) <= 1).all():
        return scale, shift
    size = np.abs(scale)
    room = np.where(size == 0, 0, np.floor(np.log2((2 * _NORMAL_SCALE - 1) / size.clip(1)))).astype(np.int64).clip(0)
    room = np.minimum(room, MAXIMUM_SHIFT - shift)
    return scale << room, shift + room
