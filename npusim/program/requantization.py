"""From accumulators to codes: one protocol for every arithmetic that a device or a runtime does there.

A requantization is a *staircase* for each output channel: a function from integers to integers that never falls (or never
rises), saturated to a range. Everything that npusim claims of a layer rests on that alone: codes are constant on runs of
accumulators, so looking at the ends of the runs decides what holds for all.

Adding an arithmetic is adding one dataclass (see :class:`Requantization`). :class:`~npusim.program.shift_floor.ShiftFloor` is
the one of the NPU and an example to follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.program.carriers import Carrier, CarrierChoice, FloatForm
from npusim.program.float_operations import FloatOperation

__all__ = ["FAR", "INT32", "Alternative", "Clip", "FloatArray", "IntegerArray", "Requantization", "TextRow", "along"]

IntegerArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

FAR: Final = 2.0**61
"""Codes beyond are of no interest; int64 still holds them."""

NEVER: Final = 2**61
"""Stands for an accumulator beyond all that occur: a step that a channel does not have."""

MAXIMUM_STEPS: Final = 2**22
"""Steps that are looked at one by one; of more, what may differ is not examined."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Saturation to the closed interval [lower, upper].

    Attributes
    ----------
    lower, upper
        Its ends.
    """

    lower: int
    upper: int

    def apply(self, values: IntegerArray) -> IntegerArray:
        """The saturated values, int64."""
        return np.clip(values, self.lower, self.upper)


INT32: Final = Clip(-(2**31), 2**31 - 1)
"""The range of codes that nothing saturates: int32 results of a last layer."""


class Alternative(StrEnum):
    """Another arithmetic that is easily taken for a staircase's own.

    HALF_UP: rounds to nearest, halves up. HALF_DOWN: the same with halves down, so that both differ exactly at ties.
    TOWARD_ZERO: cuts fractions off. NO_BIAS: the bias is missing.
    """

    HALF_UP = "half_up"
    HALF_DOWN = "half_down"
    TOWARD_ZERO = "toward_zero"
    NO_BIAS = "no_bias"


class TextRow(NamedTuple):
    """One line of an arithmetic shown as text: what it is, the formula with its numbers, the result."""

    label: str
    formula: str
    value: int


def along(values: npt.NDArray[Any], rank: int, axis: int) -> npt.NDArray[Any]:
    """Shape ``[channels]`` (or ``[channels, n]`` for axis 0) so that it broadcasts along one axis of an array of `rank` axes.

    Examples
    --------
    >>> along(np.array([1, 2]), 4, 1).shape
    (2, 1, 1)
    """
    return values.reshape(*values.shape, *(1,) * (rank - values.ndim - axis))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantization(ABC):
    """A staircase for each output channel: ``codes = clip(unclipped(accumulator))``.

    To add a member, write a frozen dataclass (``@dataclass(frozen=True, slots=True, eq=False)``) whose per-channel parameters
    are int64 or float arrays ``[channels]`` and give it

    * :attr:`channels`, :attr:`direction`, :meth:`unclipped`: the arithmetic in plain integers, in the element types that the
      device or the runtime uses;
    * :attr:`gain` and :attr:`real_bias`: the line that the staircase follows;
    * :attr:`operations`: the same in floats, where a float graph computes it (empty where none does);
    * :meth:`text`: the arithmetic of one accumulator;
    * :meth:`carriers` and :meth:`form` for each float carrier that can be exact; without them the layer runs in int64;
    * :attr:`alternatives`: arithmetics that a device may be taken to do, for faults and golden vectors.

    It gets :meth:`codes`, :meth:`first` (by bisection; override it where there is a closed form), :meth:`run_steps`,
    :meth:`for_channels`, :attr:`parameters` and equality for free. Test it against plain Python integers as
    ``tests/program/test_staircases.py`` does for every member.

    Attributes
    ----------
    clip
        Saturation of the codes.
    """

    clip: Clip

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels."""

    @property
    @abstractmethod
    def direction(self) -> IntegerArray:
        """int64 [channels]: 1 where codes never fall as the accumulator rises, -1 where they never rise, 0 where constant."""

    @property
    @abstractmethod
    def gain(self) -> FloatArray:
        """float64 [channels]: codes for one unit of accumulator, on average."""

    @property
    @abstractmethod
    def real_bias(self) -> FloatArray:
        """float64 [channels]: the staircase rounds ``(accumulator + real_bias) * gain`` to nearest, up to roundings.

        Where an arithmetic floors, this leaves the half step out that exporters put into the bias.
        """

    @property
    def floor_loss(self) -> FloatArray:
        """float64 [channels]: what the last rounding takes away on average, in codes; 0 for rounding to nearest."""
        return np.zeros(self.channels)

    @property
    def operations(self) -> tuple[FloatOperation, ...]:
        """The arithmetic in floats, before the clip, in the order in which a float graph computes it."""
        return ()

    @property
    def alternatives(self) -> Mapping[Alternative, Requantization]:
        """Arithmetics that differ in one way."""
        return {}

    @property
    def parameters(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-channel parameters by name, as they are shown and written: every array of the dataclass."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, np.ndarray)}

    @property
    def parameter_count(self) -> int:
        """How many numbers a device stores for it."""
        return sum(int(values.size) for values in self.parameters.values())

    @property
    def domain(self) -> Clip:
        """Accumulators for which the arithmetic is defined and cannot overflow."""
        return INT32

    @abstractmethod
    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The codes before the saturation.

        Parameters
        ----------
        accumulator
            int64 with the channels on `axis`.
        axis
            Where the channels are.

        Returns
        -------
        int64 in the shape of the accumulator.
        """

    @abstractmethod
    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """The arithmetic of one accumulator, operation by operation, before the clip; the last row's value is unclipped."""

    def codes(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The codes, int64 in the shape of `accumulator`, which has the channels on `axis`."""
        return self.clip.apply(self.unclipped(accumulator, axis))

    def biased(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The sum that the multiplication takes: accumulator plus bias, where there is a bias."""
        return accumulator

    def scaled(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The widest integer on the way to the code: the product, where the arithmetic has one in integers."""
        return self.biased(accumulator, axis)

    @property
    def has_product(self) -> bool:
        """Whether there is a product in integers, so that :meth:`codes_of_scaled` is defined."""
        return type(self).codes_of_scaled is not Requantization.codes_of_scaled

    def codes_of_scaled(self, scaled: IntegerArray, axis: int = 0) -> IntegerArray:
        """The codes before the saturation that products become, right or wrong (one that has wrapped around, say)."""
        raise NotImplementedError(f"{type(self).__name__} has no integer product")

    def real(self, accumulator: FloatArray, axis: int = 0) -> FloatArray:
        """The line before the last rounding, float64, for accumulators that may have fractions."""
        rank = accumulator.ndim
        return np.asarray((accumulator + along(self.real_bias, rank, axis)) * along(self.gain, rank, axis))

    def rounded(self, real: FloatArray) -> FloatArray:
        """The last rounding, of values of :meth:`real`."""
        return np.asarray(np.rint(real))

    def real_codes(self, accumulator: FloatArray, axis: int = 0) -> FloatArray:
        """The codes of accumulators that may have fractions, float64; exactly the codes for integers."""
        whole = accumulator == np.rint(accumulator)
        exact = self.codes(np.where(whole, accumulator, 0).astype(np.int64), axis)
        rounded = np.clip(np.rint(self.real(accumulator, axis)), self.clip.lower, self.clip.upper)
        return np.where(whole, exact, rounded)

    def first(self, code: IntegerArray) -> IntegerArray:
        """Where each channel steps from the codes below `code` to it: an accumulator and its neighbour below.

        Parameters
        ----------
        code
            int64 [channels] or [channels, n]; unclipped codes.

        Returns
        -------
        int64 in the shape of `code`: for channels that rise the smallest accumulator with at least that code, for channels that
        fall the smallest one with less. In both cases it and the accumulator before it lie on different sides of the step.
        Beyond the domain where a channel has no such step.

        Examples
        --------
        ``codes(a) = a >> 2`` gives ``first(3) == 12``; ``codes(a) = -a >> 2`` gives ``first(3) == -11``: up to -12 codes are 3
        or more.
        """
        falls = along(self.direction < 0, code.ndim, 0)
        below, reached = np.full_like(code, self.domain.lower - 1), np.full_like(code, self.domain.upper + 1)
        while (reached - below > 1).any():
            middle = below + (reached - below) // 2
            behind = (self.unclipped(middle) >= code) ^ falls
            reached, below = np.where(behind, middle, reached), np.where(behind, below, middle)
        return reached

    def beyond(self, lower: int, upper: int) -> tuple[IntegerArray, IntegerArray]:
        """Where the widest integer on the way (:meth:`scaled`) leaves a range.

        Parameters
        ----------
        lower, upper
            The range, which holds 0.

        Returns
        -------
        (below, above)
            int64 [channels]: for accumulators from `above` on and down from `below` it lies outside of the range; beyond the
            domain where it never does.
        """
        low, high = np.full(self.channels, self.domain.lower), np.full(self.channels, self.domain.upper)
        inside = np.clip(self.first(np.zeros(self.channels, np.int64)), low, high)
        return self._last_within(inside, low, lower, upper), self._last_within(inside, high, lower, upper)

    def _last_within(self, inside: IntegerArray, end: IntegerArray, lower: int, upper: int) -> IntegerArray:
        """The first accumulator on the way from `inside` to `end` whose widest integer is out of range, by bisection."""
        known, excluded = np.zeros_like(inside), np.abs(end - inside) + 1
        direction = np.sign(end - inside)
        while (excluded - known > 1).any():
            middle = (known + excluded) // 2
            scaled = self.scaled(inside + direction * np.minimum(middle, np.abs(end - inside)))
            within = (scaled >= lower) & (scaled <= upper)
            known, excluded = np.where(within, middle, known), np.where(within, excluded, middle)
        return np.asarray(inside + direction * excluded)

    def run_steps(self, lower: IntegerArray, upper: IntegerArray) -> IntegerArray:
        """The steps of all channels between the smallest and the largest code on intervals, int64 [channels, steps].

        Parameters
        ----------
        lower, upper
            int64 [channels]: closed intervals of accumulators. A step that a channel does not have lies outside.
        """
        ends = self.codes(np.stack([lower, upper], axis=1))
        goals = np.arange(int(ends.min()) + 1, int(ends.max()) + 1)
        return self.first(np.broadcast_to(goals, (self.channels, goals.size)))

    def may_differ(
        self,
        one: Alternative | None,
        other: Alternative,
        lower: IntegerArray,
        upper: IntegerArray,
        codes: tuple[IntegerArray, IntegerArray],
    ) -> npt.NDArray[np.bool_]:
        """Whether two arithmetics can give different unclipped codes, channel by channel, where this one's lie in a range.

        Parameters
        ----------
        one, other
            Which; None for the staircase itself.
        lower, upper
            int64 [channels]: closed intervals of accumulators.
        codes
            int64 [channels] each: smallest and largest code of this staircase that counts.

        Returns
        -------
        bool [channels], False where proven that they never differ, or where one of both is not known.
        """
        known = self.alternatives
        first, second = self if one is None else known.get(one), known.get(other)
        if first is None or second is None:
            return np.zeros(self.channels, np.bool_)
        falls = self.direction < 0
        low, high = self.first(codes[0]), self.first(codes[1] + 1)
        start = np.maximum(lower, np.where(falls, high, low))
        stop = np.minimum(upper, np.where(falls, low, high) - 1)
        some = start <= stop
        ends = np.sort(
            first.unclipped(np.stack([start, np.maximum(start, stop)], axis=1).clip(lower.min(), upper.max())), axis=1
        )
        count = int((ends[:, 1] - ends[:, 0])[some].max(initial=0)) + 4
        if count * self.channels > MAXIMUM_STEPS:
            return np.asarray(some)
        goals = np.where(some, ends[:, 0], 0)[:, None] - 1 + np.arange(count)
        steps = first.first(goals), second.first(goals)
        begin, end = np.minimum(*steps), np.maximum(*steps) - 1
        differs = (np.maximum(begin, start[:, None]) <= np.minimum(end, stop[:, None])).any(axis=1)
        return np.asarray(some & differs)

    def carriers(self, sums: IntegerArray, largest_code: int) -> tuple[CarrierChoice, ...]:
        """Ways to compute the layer that can be exact, the fastest first, each with what has to be proven.

        Parameters
        ----------
        sums
            int64 [channels], the largest magnitude of any partial sum.
        largest_code
            The largest magnitude that a code has anywhere in the layer.
        """
        return (CarrierChoice(Carrier.INTEGER, int(sums.max(initial=0)), 2**63),)

    def form(self, carrier: Carrier) -> FloatForm:
        """The staircase as a float carrier of :meth:`carriers` computes it."""
        raise NotImplementedError(f"{type(self).__name__} is not computed in {carrier}")

    def folded(self, lower: IntegerArray, upper: IntegerArray) -> tuple[IntegerArray, IntegerArray] | None:
        """Partial sums of [lower, upper] in units of the products whose weights an optimizer has multiplied by the scale.

        None where there is no unit of which all such products are whole multiples.
        """
        return None

    @property
    def whole_gain(self) -> FloatArray:
        """:attr:`gain` in a common unit, in whole numbers (up to a millionth of the largest), float64 [channels]."""
        largest = float(np.abs(self.gain).max(initial=0.0))
        return np.rint(self.gain * (2.0**20 / largest)) if largest else np.zeros(self.channels)

    def for_channels(self, chosen: slice | Sequence[int]) -> Self:
        """The staircase of some channels."""
        arrays = ((field.name, getattr(self, field.name)) for field in fields(self))
        kept: dict[str, Any] = {name: value[chosen] for name, value in arrays if isinstance(value, np.ndarray)}
        return replace(self, **kept)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Requantization):
            return NotImplemented
        mine, theirs = ([getattr(part, field.name) for field in fields(part)] for part in (self, other))
        return all(np.array_equal(one, two) for one, two in zip(mine, theirs, strict=True))

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.clip, *(values.tobytes() for values in self.parameters.values())))
