"""Which element types may carry a layer's integers through BLAS, and what has to be proven for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.program.float_operations import FloatOperation

__all__ = ["FLOAT32_LIMIT", "FLOAT64_LIMIT", "Carrier", "CarrierChoice", "FloatForm"]

FLOAT32_LIMIT: Final = 2**24
"""float32 holds every integer below."""

FLOAT64_LIMIT: Final = 2**53
"""float64 holds every integer below."""


class Carrier(StrEnum):
    """How a layer is computed.

    FLOAT32_FOLDED: float32 BLAS on weights that already carry the multiplier. FLOAT32: float32 BLAS on plain weights, the
    multiplier behind it. FLOAT64: float64 BLAS on plain weights. INTEGER: int64 without BLAS.
    """

    FLOAT32_FOLDED = "float32_folded"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class CarrierChoice:
    """A carrier and the proof obligation that makes it exact: ``bound < limit``.

    Attributes
    ----------
    carrier
        The choice.
    bound
        Largest magnitude that any integer on the way can have, in the units that the carrier computes in.
    limit
        What `bound` has to stay below.
    """

    carrier: Carrier
    bound: int
    limit: int

    @property
    def is_exact(self) -> bool:
        """Whether the obligation is met."""
        return self.bound < self.limit


@dataclass(frozen=True, slots=True)
class FloatForm:
    """A staircase as a carrier computes it: the weights times `factor`, the sum plus `bias`, `operations`, then the clip.

    Every number is exact in the element type of the carrier.

    Attributes
    ----------
    factor
        float64 [channels], goes into the weights; None where the sum is computed with plain weights.
    bias
        float64 [channels], added to the sum; in units of the sum, so times `factor` already.
    operations
        What follows before the clip.
    """

    factor: npt.NDArray[np.float64] | None
    bias: npt.NDArray[np.float64]
    operations: tuple[FloatOperation, ...]
