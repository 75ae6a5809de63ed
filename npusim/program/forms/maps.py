"""Maps, numbered by what they are: a form and a function of its value.

The form of a sum is divided by the common factor of its weights and turned so that codes rise with it, and its function is
looked at only for sums that its operands can give. What has no such form is *opaque*: known by its operator, parameters and
operands, and equal only to what is written in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.errors import InternalMismatchError
from npusim.program.forms.step_functions import LARGEST_VALUE, StepFunction
from npusim.program.requantization import Clip, IntegerArray, Requantization

__all__ = ["ClipOfSum", "Maps", "Requantized", "Staircase", "Sum", "Summed", "Unexamined", "numbers_of", "places_of"]

Evaluate: TypeAlias = Callable[[npt.NDArray[np.float64], Sequence[npt.NDArray[np.generic]]], npt.NDArray[np.generic]]

_PLACE_BITS: Final = 32

WIDEST: Final = 2**16
"""Arguments or codes that a function is looked at for, one by one; wider ones are not examined."""

STEPS_AT_ONCE: Final = 2**21
"""Steps of all channels that are computed together."""


def numbers_of(elements: IntegerArray) -> IntegerArray:
    """The maps of elements."""
    return np.asarray(elements >> _PLACE_BITS)


def places_of(elements: IntegerArray) -> IntegerArray:
    """Where in their maps elements stand."""
    return np.asarray(elements & (2**_PLACE_BITS - 1))


class Staircase(Protocol):
    """What makes codes of sums, channel by channel."""

    @property
    def direction(self) -> IntegerArray:
        """int64 [channels]: 1 where codes rise with the sum, -1 where they fall, 0 where there is one code."""
        ...

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """For each channel what stands for it where its codes are too many to look at."""
        ...

    def select(self, channels: IntegerArray) -> Staircase:
        """That of some of the channels."""
        ...

    def codes(self, sums: IntegerArray) -> IntegerArray:
        """The codes of int64 [channels, n]."""
        ...

    def first(self, code: IntegerArray) -> IntegerArray:
        """As :meth:`npusim.program.requantization.Requantization.first`, for int64 [channels, n]."""
        ...


@dataclass(frozen=True, slots=True)
class Requantized:
    """The staircase of a layer."""

    part: Requantization

    @property
    def direction(self) -> IntegerArray:
        """The requantization's."""
        return self.part.direction

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """Its parameters."""
        kind, clip = type(self.part).__name__, self.part.clip
        named = sorted(self.part.parameters.items())
        return tuple(
            (kind, clip.lower, clip.upper, *((name, values[channel].tobytes()) for name, values in named))
            for channel in range(self.part.channels)
        )

    def select(self, channels: IntegerArray) -> Requantized:
        """Those channels of the requantization."""
        return Requantized(self.part.for_channels(channels.tolist()))

    def codes(self, sums: IntegerArray) -> IntegerArray:
        """The requantization's."""
        return self.part.codes(sums)

    def first(self, code: IntegerArray) -> IntegerArray:
        """The requantization's."""
        return self.part.first(code)


@dataclass(frozen=True, slots=True)
class Unexamined:
    """Values of sums that are known by their parameters alone, such as floats on the way to a code."""

    part: Requantized

    @property
    def direction(self) -> IntegerArray:
        """That of the arithmetic."""
        return self.part.direction

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """The parameters, and that they are not those of codes."""
        return tuple(("not whole", one) for one in self.part.identity)

    def select(self, channels: IntegerArray) -> Unexamined:
        """The same for some channels."""
        return Unexamined(self.part.select(channels))

    def codes(self, sums: IntegerArray) -> IntegerArray:
        """Not looked at."""
        raise NotImplementedError

    def first(self, code: IntegerArray) -> IntegerArray:
        """Not looked at."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ClipOfSum:
    """Saturation of a sum, in each of some channels."""

    clip: Clip
    channels: int

    @property
    def direction(self) -> IntegerArray:
        """Codes rise."""
        return np.ones(self.channels, np.int64)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """The clip."""
        return (("clip", self.clip.lower, self.clip.upper),) * self.channels

    def select(self, channels: IntegerArray) -> ClipOfSum:
        """The same for fewer channels."""
        return ClipOfSum(self.clip, channels.size)

    def codes(self, sums: IntegerArray) -> IntegerArray:
        """The saturated sums."""
        return self.clip.apply(sums)

    def first(self, code: IntegerArray) -> IntegerArray:
        """The code itself."""
        return code


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of products in one channel.

    Attributes
    ----------
    operands
        int64 [n]: maps; elements, where the result has one place.
    weights
        int64 [n, taps].
    """

    operands: IntegerArray
    weights: IntegerArray


@dataclass(frozen=True, slots=True)
class _Reduced:
    """A sum without constants and common factor: ``sum = factor * reduced + offset``; codes rise with the reduced one."""

    operands: IntegerArray
    weights: IntegerArray
    factor: int
    offset: int
    ends: tuple[int, int] | None

    @property
    def is_single(self) -> bool:
        """Whether it is one operand itself."""
        return self.weights.size == 1


@dataclass(frozen=True, slots=True)
class Summed:
    """What became of the sums of a layer.

    Attributes
    ----------
    elements
        For each channel its elements, int64 [channels, places].
    factor, offset
        int64 [channels]: ``accumulator = factor * argument + offset``, where `argument` is what the channel's function is a
        function of; factor 0 where that is not a sum of this layer.
    """

    elements: IntegerArray
    factor: IntegerArray
    offset: IntegerArray


@dataclass(frozen=True, slots=True)
class _Map:
    form: int
    function: StepFunction | None
    size: int
    ends: tuple[int, int] | None


class Maps:
    """The maps of some programs; equal ones have the same number."""

    def __init__(self) -> None:
        self._forms: dict[Hashable, int] = {}
        self._domains: dict[int, StepFunction | None] = {}
        self._numbers: dict[tuple[int, bytes | None, int], int] = {}
        self._maps: list[_Map] = []
        # the first map is the constant 0, so that what an operation fills up with zeros are its elements
        self.constant(0.0)

    def form(self, number: int) -> int:
        """The number of a map's form."""
        return self._maps[number].form

    def function(self, number: int) -> StepFunction | None:
        """A map as a function of its form's value; None where that is not examined."""
        return self._maps[number].function

    def size(self, number: int) -> int:
        """How many places a map has."""
        return self._maps[number].size

    def is_constant(self, number: int) -> bool:
        """Whether a map has one value, for every input and at every place."""
        function = self.function(number)
        return function is not None and function.is_constant

    def whole_ends(self, number: int) -> tuple[int, int] | None:
        """Smallest and largest value of a map; None where they are not integers or not known."""
        return self._maps[number].ends

    def constant(self, value: float) -> int:
        """The map that has this value."""
        return self._number(("constant",), StepFunction.of(np.zeros(1, np.int64), np.array([value]), 0), 1)

    def constants(self, values: npt.NDArray[np.generic]) -> IntegerArray:
        """Elements with these values."""
        distinct, places = np.unique(values.reshape(-1), return_inverse=True)
        negative = np.signbit(values.reshape(-1)) if values.dtype.kind == "f" else None
        if negative is not None and (negative & (values.reshape(-1) == 0)).any():  # unique takes 0 and -0 for one
            found = np.array([self.constant(float(value)) for value in values.reshape(-1)], np.int64)
        else:
            found = np.array([self.constant(float(value)) for value in distinct], np.int64)[places.reshape(-1)]
        return (found << _PLACE_BITS).reshape(values.shape)

    def opaque(self, key: Hashable, size: int, domain: tuple[int, int] | None = None) -> int:
        """A map that is known by `key` alone, with integers within `domain` where one is given.

        Of a form that is known already the domain that was given first counts: both hold.
        """
        narrow = domain is not None and domain[1] - domain[0] < WIDEST
        return self._number(key, StepFunction.identity(*domain) if domain is not None and narrow else None, size, first=True)

    def elements(self, number: int, places: IntegerArray) -> IntegerArray:
        """Elements of a map; all are one where it is a constant."""
        return np.full_like(places, number << _PLACE_BITS) if self.is_constant(number) else (number << _PLACE_BITS) | places

    def all_of(self, number: int, size: int) -> IntegerArray:
        """The elements of a map in order; as many as are asked for of a constant."""
        return self.elements(number, np.arange(size))

    def of_elements(self, elements: IntegerArray) -> int:
        """The map that elements, in this order, are: one that exists already, or a part of others."""
        flat = elements.reshape(-1)
        numbers = numbers_of(flat)
        number = int(numbers[0])
        if (numbers == number).all():
            if self.is_constant(number):
                return number
            if flat.size == self.size(number) and bool((places_of(flat) == np.arange(flat.size)).all()):
                return number
        ends = [self.whole_ends(int(one)) for one in np.unique(numbers)]
        known = [pair for pair in ends if pair is not None]
        hull = (min(pair[0] for pair in known), max(pair[1] for pair in known)) if len(known) == len(ends) else None
        return self.opaque(("part", flat.tobytes()), flat.size, hull)

    def mapped(
        self,
        elements: IntegerArray,
        others: Sequence[npt.NDArray[np.generic]],
        evaluate: Evaluate | None,
        describe: Callable[[Sequence[npt.NDArray[np.generic]]], Hashable],
        domain: tuple[int, int] | None = None,
    ) -> IntegerArray:
        """What a function makes of elements, one by one.

        Parameters
        ----------
        elements
            The elements.
        others
            Constants that come in, each in the shape of `elements`.
        evaluate
            From values and the constants at one place (arrays without axes) to results; None for a function that is known by
            what `describe` gives alone.
        describe
            What stands for the function with constants, where the values of an element are too many to look at.
        domain
            Integers that the results lie within, for those elements.
        """
        flat = elements.reshape(-1)
        group = np.unique(numbers_of(flat), return_inverse=True)[1].reshape(-1).astype(np.int64)
        for other in others:
            column = other.reshape(-1)
            bits = column.view(f"i{column.itemsize}") if column.dtype.kind == "f" else column
            found = np.unique(bits, return_inverse=True)[1].reshape(-1).astype(np.int64)
            group = (
                np.unique(group * (int(found.max(initial=0)) + 1) + found, return_inverse=True)[1].reshape(-1).astype(np.int64)
            )
        _, firsts, places = np.unique(group, return_index=True, return_inverse=True)
        results = []
        for first in firsts:
            number = int(numbers_of(flat[first]))
            constants = [other.reshape(-1)[first : first + 1].reshape(()) for other in others]
            function = self.function(number)
            made = None if function is None or evaluate is None else _then(function, evaluate, constants)
            if made is None:
                results.append(self.opaque(("function", number, describe(constants)), self.size(number), domain))
            else:
                results.append(self._number(self.form(number), made, self.size(number)))
        chosen = np.array(results, np.int64)[places.reshape(-1)]
        fixed = np.array([self.is_constant(number) for number in results])[places.reshape(-1)]
        return ((chosen << _PLACE_BITS) | np.where(fixed, 0, places_of(flat))).reshape(elements.shape)

    def largest(self, geometry: Hashable, size: int, operand: int) -> IntegerArray:
        """The elements of the maximum over windows of a map, in which padding never wins."""
        function = self.function(operand)
        if function is not None and function.is_constant:
            return self.all_of(operand, size)
        if function is not None and function.rises:
            # the largest of rising functions is the function of the largest
            key = ("largest", geometry, "form", self.form(operand))
            return self.all_of(self._number(key, function, size), size)
        return self.all_of(self.opaque(("largest", geometry, "map", operand), size, self.whole_ends(operand)), size)

    def sums(self, geometry: Hashable, size: int, parts: Sequence[Sum], staircase: Staircase, *, padded: bool) -> Summed:
        """The codes of sums of products.

        Parameters
        ----------
        geometry
            Where the taps of a sum lie; None where each place of the result takes the same place of its operands, or where it
            has one place and operands are elements.
        size
            Places of the result.
        parts
            The sum of each channel.
        staircase
            What makes codes of them.
        padded
            Whether taps may lie outside of the data, where they take 0.
        """
        single, turns = size == 1, staircase.direction
        reduced = [
            self._reduced(part, int(turn), padded=padded, single=single) for part, turn in zip(parts, turns, strict=True)
        ]
        composed = [self._composed(one, geometry, single=single) for one in reduced]
        nothing: list[StepFunction | None] = [None] * len(reduced)
        functions = nothing if isinstance(staircase, Unexamined) else _functions(reduced, staircase, composed)
        rows = []
        factor, offset = np.zeros(len(parts), np.int64), np.zeros(len(parts), np.int64)
        for channel, (one, function) in enumerate(zip(reduced, functions, strict=True)):
            if function is not None and function.is_constant:
                rows.append(self.all_of(self.constant(float(function.values[0])), size))
            elif function is not None and self._composed(one, geometry, single=single) is not None:
                operand = int(numbers_of(one.operands[0]) if single else one.operands[0])
                number = self._number(self.form(operand), function, self.size(operand))
                rows.append(self.elements(number, places_of(one.operands[:1])) if single else self.all_of(number, size))
            else:
                key: tuple[Hashable, ...] = ("sum", geometry, size, one.operands.tobytes(), one.weights.tobytes())
                if function is None:
                    key = (*key, one.factor, one.offset, staircase.identity[channel])
                factor[channel], offset[channel] = one.factor, one.offset
                rows.append(self.all_of(self._number(key, function, size), size))
        return Summed(np.stack(rows), factor, offset)

    def _reduced(self, part: Sum, turn: int, *, padded: bool, single: bool) -> _Reduced:
        operands, weights = part.operands, part.weights
        distinct, place = np.unique(operands, return_inverse=True)
        if distinct.size < operands.size or (distinct != operands).any():
            merged = np.zeros((distinct.size, weights.shape[1]), np.int64)
            np.add.at(merged, place.reshape(-1), weights)
            operands, weights = distinct, merged
        numbers = numbers_of(operands) if single else operands
        ends = [self.whole_ends(int(number)) for number in numbers]
        offset = 0
        kept: npt.NDArray[np.bool_] = np.asarray(weights.any(axis=1))
        if not padded:
            values = [pair[0] if pair is not None and pair[0] == pair[1] else None for pair in ends]
            offset = sum(int(row.sum()) * value for row, value in zip(weights, values, strict=True) if value is not None)
            kept &= np.array([value is None for value in values], np.bool_)
        operands, weights = operands[kept], weights[kept]
        chosen = [pair for pair, keep in zip(ends, kept, strict=True) if keep]
        common = int(np.gcd.reduce(np.abs(weights).reshape(-1))) if weights.size else 1
        factor = (-1 if turn < 0 else 1) * max(common, 1)
        weights = weights // factor
        known = [pair for pair in chosen if pair is not None]
        if len(known) < len(chosen):
            return _Reduced(operands, weights, factor, offset, None)
        lowest = np.array([min(pair[0], 0) if padded else pair[0] for pair in known], np.int64)
        highest = np.array([max(pair[1], 0) if padded else pair[1] for pair in known], np.int64)
        rising, falling = np.maximum(weights, 0).sum(axis=1), np.minimum(weights, 0).sum(axis=1)
        reach = int(rising @ lowest + falling @ highest), int(rising @ highest + falling @ lowest)
        return _Reduced(operands, weights, factor, offset, reach)

    def _composed(self, one: _Reduced, geometry: Hashable, *, single: bool) -> StepFunction | None:
        """The function of the operand, where a sum is one operand itself."""
        if geometry is not None or not one.is_single or one.ends is None:
            return None
        return self.function(int(numbers_of(one.operands[0]) if single else one.operands[0]))

    def _number(self, key: Hashable, function: StepFunction | None, size: int, *, first: bool = False) -> int:
        """The number of a map, made where it is new; `key` is the number of a form or what a form is known by."""
        if function is not None and function.is_constant and key != ("constant",):
            return self.constant(float(function.values[0]))
        form = key if isinstance(key, int) else self._forms.setdefault(key, len(self._forms))
        if first:
            function = self._domains.setdefault(form, function)
        known = form, None if function is None else function.key, size
        number = self._numbers.setdefault(known, len(self._maps))
        if number == len(self._maps):
            ends = function.ends if function is not None and function.is_whole else None
            self._maps.append(_Map(form, function, size, ends))
        return number


def _then(
    function: StepFunction,
    evaluate: Evaluate,
    constants: Sequence[npt.NDArray[np.generic]],
) -> StepFunction | None:
    """What a function makes of the values of another; None where float64 does not hold the results."""
    results = evaluate(function.values, constants)
    if (
        results.shape != function.values.shape
        or results.dtype.kind not in "biuf"
        or results.dtype.itemsize > np.dtype(np.float64).itemsize
    ):
        return None
    if results.dtype.kind in "iu" and bool((np.abs(results.astype(np.float64)) > LARGEST_VALUE).any()):
        return None
    return StepFunction.of(function.starts, results, function.last)


def _functions(
    reduced: Sequence[_Reduced], staircase: Staircase, composed: Sequence[StepFunction | None]
) -> list[StepFunction | None]:
    """The codes of each channel as a function of its reduced sum, or of what its only operand is a function of."""
    found = _functions_of_operands(reduced, staircase, composed)
    ends = np.array([(0, 0) if one.ends is None else one.ends for one in reduced], np.int64).reshape(-1, 2)
    factor = np.array([one.factor for one in reduced], np.int64)[:, None]
    offset = np.array([one.offset for one in reduced], np.int64)[:, None]
    codes = staircase.codes(ends * factor + offset)
    counts = codes[:, 1] - codes[:, 0]
    wanted = np.array([function is None and one.ends is not None for function, one in zip(found, reduced, strict=True)])
    if (counts[wanted] < 0).any():
        raise InternalMismatchError("codes fall where their staircase rises; please report this")
    chosen = np.flatnonzero(wanted & (counts < WIDEST))
    at_once = max(1, STEPS_AT_ONCE // (1 + int(counts[chosen].max(initial=0))))
    for begin in range(0, chosen.size, at_once):
        part = chosen[begin : begin + at_once]
        made = _steps(staircase.select(part), ends[part], codes[part], factor[part], offset[part])
        for number, function in zip(part, made, strict=True):
            found[number] = function
    return found


def _steps(
    staircase: Staircase, ends: IntegerArray, codes: IntegerArray, factor: IntegerArray, offset: IntegerArray
) -> list[StepFunction]:
    """The codes of reduced sums between two ends, whose codes are given, by where they step."""
    counts = codes[:, 1] - codes[:, 0]
    goals = np.minimum(codes[:, :1] + 1 + np.arange(int(counts.max())), np.maximum(codes[:, 1:], codes[:, :1] + 1))
    falls = (staircase.direction < 0)[:, None]
    places = -(-(staircase.first(goals) - falls - offset) // factor)
    found = []
    for channel, count in enumerate(counts):
        points = np.concatenate([ends[channel, :1], places[channel, :count]])
        values = codes[channel, 0] + np.arange(count + 1)
        last_of_its_point = np.append(points[1:] != points[:-1], True)
        found.append(StepFunction.of(points[last_of_its_point], values[last_of_its_point], int(ends[channel, 1])))
    _check(found, staircase, factor, offset)
    return found


def _functions_of_operands(
    reduced: Sequence[_Reduced], staircase: Staircase, composed: Sequence[StepFunction | None]
) -> list[StepFunction | None]:
    found: list[StepFunction | None] = [None] * len(reduced)
    chosen = [number for number, function in enumerate(composed) if function is not None]
    width = max((function.values.size for function in composed if function is not None), default=0)
    if not chosen:
        return found
    sums = np.zeros((len(reduced), width), np.int64)
    for number in chosen:
        function, one = composed[number], reduced[number]
        if function is not None:
            values = one.factor * int(one.weights.reshape(-1)[0]) * function.integers + one.offset
            sums[number, : values.size] = values
    codes = staircase.codes(sums)
    for number in chosen:
        function = composed[number]
        if function is not None:
            found[number] = StepFunction.of(function.starts, codes[number, : function.values.size], function.last)
    return found


def _check(functions: Sequence[StepFunction], staircase: Staircase, factor: IntegerArray, offset: IntegerArray) -> None:
    """Hold functions against the staircase where their runs begin and end: between, a staircase cannot change."""
    width = max(function.starts.size for function in functions)
    firsts, lasts, expected = (np.zeros((len(functions), width), np.int64) for _ in range(3))
    used = np.zeros((len(functions), width), np.bool_)
    for channel, function in enumerate(functions):
        count = function.starts.size
        firsts[channel, :count], used[channel, :count] = function.starts, True
        lasts[channel, :count] = np.append(function.starts[1:] - 1, function.last)
        expected[channel, :count] = function.integers
    for points in (firsts, lasts):
        if (staircase.codes(points * factor + offset) != expected)[used].any():
            raise InternalMismatchError("the steps of a staircase are not where its codes change; please report this")
