"""The quantizer in front of a network of the PLiNIO family, which its exporter leaves out of the file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["input_factor", "quantize_input"]

MARGIN = 1e-3
"""Added to the range, so that its end is not reached."""


def input_factor(low: float, high: float, bits: int) -> np.float32:
    """Codes for one unit of the input: ``(2**bits - 1) / (high - low + 0.001)``, in float32 as torch computes it.

    torch divides a number by a tensor by multiplying it with the reciprocal.

    Examples
    --------
    >>> float(input_factor(0.0, 1.0, 8))
    254.7452392578125
    """
    span = np.float32(np.float32(high) - np.float32(low)) + np.float32(MARGIN)
    return np.float32(np.float32(1) / span * np.float32(2**bits - 1))


def quantize_input(values: npt.NDArray[np.generic], low: float, high: float, bits: int) -> npt.NDArray[np.float32]:
    """``floor(factor * clamp(x, low, high))`` in float32: PACT's quantizer, whose scale in the network's weights has no margin.

    Parameters
    ----------
    values
        Real values, any shape.
    low, high
        The trained ends; `low` is 0 for unsigned codes.
    bits
        Of codes.

    Returns
    -------
    ndarray
        float32 that hold integers, in the shape of `values`.

    Notes
    -----
    PLiNIO, plinio/methods/mps/quant/quantizers/pact_act.py and pact_act_signed.py.

    Examples
    --------
    >>> quantize_input(np.array([-1.0, 0.5, 1.0, 7.0]), 0.0, 1.0, 8)
    array([  0., 127., 254., 254.], dtype=float32)
    """
    clamped = np.clip(values.astype(np.float32), np.float32(low), np.float32(high))
    codes: npt.NDArray[np.float32] = np.floor(input_factor(low, high, bits) * clamped)
    return codes
