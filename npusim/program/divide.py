"""The staircase of TensorFlow Lite's average pooling: a mean of codes, zero points included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.kernels.fixed_point import divide_half_away
from npusim.program.carriers import FLOAT64_LIMIT, Carrier, CarrierChoice, FloatForm
from npusim.program.float_operations import FloatOperation, Operator
from npusim.program.requantization import FloatArray, IntegerArray, Requantization, TextRow, along

__all__ = ["Divide"]

AWAY = 1.0 + 2.0**-40
"""Times this, a tie lies farther from zero. Quotients of 16 bits by less than ``2**15`` that are not ties reach none."""


@dataclass(frozen=True, slots=True, eq=False)
class Divide(Requantization):
    """``y = clip(half_away((accumulator + count * zero_point) / count) - zero_point)``.

    The accumulator is a sum of centred codes; the runtimes add up codes as they stand and round halves away from *their* zero.

    Attributes
    ----------
    count
        int64 [channels], 1 or more.
    zero_point
        Of input and output, which share scale and zero point.

    Examples
    --------
    >>> from npusim.program.requantization import Clip
    >>> Divide(np.array([2]), -1, clip=Clip(-127, 128)).codes(np.array([[1, 3, 5]])).tolist()
    [[0, 2, 3]]
    """

    count: IntegerArray
    zero_point: int

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.count.size)

    @property
    def direction(self) -> IntegerArray:
        """1."""
        return np.ones(self.channels, np.int64)

    @property
    def gain(self) -> FloatArray:
        """``1 / count``."""
        return np.asarray(1.0 / self.count)

    @property
    def real_bias(self) -> FloatArray:
        """0."""
        return np.zeros(self.channels)

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The mean less the zero point."""
        count = along(self.count, accumulator.ndim, axis)
        return np.asarray(divide_half_away(accumulator + count * self.zero_point, count) - self.zero_point)

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """The sum of codes, and the mean."""
        count = int(self.count[channel])
        total = accumulator + count * self.zero_point
        mean = int(divide_half_away(np.array(total), count))
        return (
            TextRow("zero point", f"{accumulator} + {count} * ({self.zero_point})", total),
            TextRow("mean", f"half_away({total} / {count})", mean),
            TextRow("centred", f"{mean} - ({self.zero_point})", mean - self.zero_point),
        )

    def carriers(self, sums: IntegerArray, largest_code: int) -> tuple[CarrierChoice, ...]:
        """float64: a quotient of integers below ``2**31`` by less than ``2**15`` rounds to a tie only where it is one."""
        total = int((sums + self.count * abs(self.zero_point)).max(initial=0))
        narrow = int(self.count.max(initial=1)) < 2**15
        return (
            CarrierChoice(Carrier.FLOAT64, total if narrow else FLOAT64_LIMIT, 2**31 if narrow else FLOAT64_LIMIT),
            CarrierChoice(Carrier.INTEGER, total, 2**63),
        )

    def form(self, carrier: Carrier) -> FloatForm:
        """Divided, moved away from ties, rounded half to even."""
        nothing = np.zeros(self.channels)
        operations = (
            FloatOperation(Operator.DIVIDE, self.count.astype(np.float64)),
            FloatOperation(Operator.MULTIPLY, np.full(self.channels, AWAY)),
            FloatOperation(Operator.ROUND, nothing),
            FloatOperation(Operator.ADD, np.full(self.channels, -float(self.zero_point))),
        )
        return FloatForm(None, (self.count * self.zero_point).astype(np.float64), operations)
