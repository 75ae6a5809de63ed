"""Which errors reach an output: each channel of each layer made wrong by one, and the rest of the model run on it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.engine.replay import Restarts
from npusim.engine.session import InferenceSession
from npusim.golden.goals.goal import BoolArray, Goal, Meter, Reached
from npusim.golden.goals.requantization import RequantizationMeter
from npusim.graph import Array
from npusim.program import Accumulating, Batching, IntegerArray, IntegerLayer, Program, QuantizeStage
from npusim.program.trace import step_kind

SHORTEST: Final = 2
"""Steps after which wrong runs are looked at for the first time; then after twice as many each time."""

__all__ = ["EffectMeter", "Effects", "effect_meters"]

MOST_CHANNELS: Final = 64
"""Channels of a layer that are tried; of more, so many spread evenly over them."""


@dataclass(frozen=True)
class EffectMeter:
    """The goals of one step: for each kind of error columns for errors up in each channel tried, then for errors down.

    What samples reach is found by :class:`Effects`; :meth:`measure` knows of nothing.

    Attributes
    ----------
    step
        The step whose result is made wrong.
    channels
        The channels tried.
    axis
        Where the channels are in the result.
    sums
        The meter of the step's accumulator; None where it has none.
    """

    step: IntegerLayer | QuantizeStage
    channels: tuple[int, ...]
    axis: int
    sums: RequantizationMeter | None

    @property
    def layer(self) -> str:
        """Name of the step."""
        return self.step.name

    @property
    def kind(self) -> str:
        """Its type."""
        return step_kind(self.step)

    @property
    def tensors(self) -> tuple[str, ...]:
        """None that a trace has to keep for :meth:`measure`."""
        return ()

    @property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """An error of the sum needs a sum next to a shift boundary; nothing else is proven unreachable."""
        found: dict[Goal, BoolArray] = {Goal.CODE_SHOWS: np.ones(2 * len(self.channels), np.bool_)}
        if self.sums is not None:
            chosen, rises = list(self.channels), self.sums.node.requantization.direction > 0
            first, last = (self.sums.possible[goal] for goal in (Goal.FIRST_OF_CODE, Goal.LAST_OF_CODE))
            up, down = np.where(rises, last, first), np.where(rises, first, last)
            found[Goal.SUM_SHOWS] = np.concatenate([up[chosen], down[chosen]])
        return found

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """Nothing yet."""
        return {goal: np.zeros((1, possible.size), np.bool_) for goal, possible in self.possible.items()}

    def wrong(self, trace: Mapping[str, Array], lower: int, upper: int) -> IntegerArray:
        """The step's codes with an error, int64 [samples, columns, *shape of a code's sample]; within the codes' range."""
        right = np.moveaxis(trace[self.step.output].astype(np.int64), self.axis, 1)
        found = [self._by_channel(right, np.clip(right + change, lower, upper)) for change in (1, -1)]
        if self.sums is not None:
            found += [self._by_channel(right, self.sums.codes(trace, change).reshape(right.shape)) for change in (1, -1)]
        return np.moveaxis(np.concatenate(found, axis=1), 2, self.axis + 1)

    def _by_channel(self, right: IntegerArray, wrong: IntegerArray) -> IntegerArray:
        """One copy for each channel tried, which is wrong only there."""
        found = np.repeat(right[:, None], len(self.channels), axis=1)
        chosen = np.array(self.channels)
        found[:, np.arange(chosen.size), chosen] = wrong[:, chosen]
        return found


def effect_meters(program: Program, meters: tuple[Meter, ...]) -> tuple[EffectMeter, ...]:
    """One for each step with codes that some output depends on and that is none itself.

    Parameters
    ----------
    program
        The program.
    meters
        Those of its steps.
    """
    if program.batching is not Batching.STACKED:
        return ()
    outputs = set(_outputs(program))
    by_name = {meter.layer: meter for meter in meters if isinstance(meter, RequantizationMeter)}
    found = []
    pending = set(outputs)
    for step, alive in zip(program.steps, _alive(program), strict=True):
        pending -= set(step.tensors)
        if pending and isinstance(step, IntegerLayer | QuantizeStage) and step.output in alive - outputs:
            shape = program.tensors[step.output].shape
            axis = _channel_axis(step, len(shape))
            count = min(shape[axis], MOST_CHANNELS)
            channels = tuple(number * shape[axis] // count for number in range(count))
            found.append(EffectMeter(step, channels, axis, by_name.get(step.name)))
    return tuple(found)


class Effects:
    """Makes codes wrong and sees whether that shows.

    Parameters
    ----------
    session
        The model.
    meters
        What to try.
    """

    def __init__(self, session: InferenceSession, meters: tuple[EffectMeter, ...]) -> None:
        self._session = session
        self._meters = meters
        self._program = session.program
        self._restarts = Restarts(session.program, session.engine)
        self._outputs = frozenset(_outputs(session.program))
        self._made = [frozenset(step.tensors) for step in session.program.steps]
        numbers = {id(step): number for number, step in enumerate(session.program.steps)}
        self._starts = [numbers[id(meter.step)] for meter in meters]
        alive = _alive(session.program)
        self._alive = {number: alive[number] for number in self._starts}
        names = [name for number in self._starts for name in sorted(self._alive[number])]
        watched = [name for meter in meters if meter.sums is not None for name in meter.sums.tensors]
        self._tensors = tuple(dict.fromkeys((*names, *watched, *_outputs(session.program))))
        self.columns = sum(possible.size for meter in meters for possible in meter.possible.values())

    def measure(self, feeds: Mapping[str, Array]) -> BoolArray:
        """Which errors samples show: the columns of all meters, bool [samples, columns]."""
        samples = len(next(iter(feeds.values())))
        if not self._meters:
            return np.zeros((samples, 0), np.bool_)
        trace = self._session.held(feeds, self._tensors)
        parts = zip(self._meters, self._starts, strict=True)
        return np.concatenate([self._shown(meter, start, trace) for meter, start in parts], axis=1)

    def _shown(self, meter: EffectMeter, start: int, trace: Mapping[str, Array]) -> BoolArray:
        name = meter.step.output
        tensor = self._program.tensors[name]
        wrong = meter.wrong(trace, int(tensor.lower), int(tensor.upper)).astype(trace[name].dtype)
        shown: BoolArray = (wrong != trace[name][:, None]).reshape(*wrong.shape[:2], -1).any(axis=2)
        if shown.any():
            shown[shown] = self._reaching(start, np.nonzero(shown)[0], {name: wrong[shown]}, trace)
        return shown

    def _reaching(self, start: int, samples: IntegerArray, wrong: Mapping[str, Array], trace: Mapping[str, Array]) -> BoolArray:
        """Which of several wrong runs change an output.

        Parameters
        ----------
        start
            The step behind which they go wrong.
        samples
            The number of each one's sample.
        wrong
            What is wrong there; of everything else that is alive, `trace` has the values.
        trace
            The right values.

        Notes
        -----
        A run whose every value that is alive behind some step is right to the bit ends as it should: it is followed no further.
        """
        found, left, distance = np.zeros(samples.size, np.bool_), np.arange(samples.size), SHORTEST
        while left.size:
            place = bisect_left(self._starts, start + distance)
            stop = self._starts[place] if place < len(self._starts) else len(self._made) - 1
            alive = self._alive.get(stop, frozenset())
            made = frozenset[str]().union(*self._made[start + 1 : stop + 1])
            outputs, wanted = made & self._outputs, made & (alive | self._outputs)
            right = {name: trace[name][samples[left]] for name in self._alive[start] | wanted}
            held = {name: wrong.get(name, right[name]) for name in sorted(self._alive[start])}
            results = self._restarts.run(start, held, sorted(wanted))
            for name in outputs:
                found[left] |= _by_row(results[name] != right[name])
            after = {**wrong, **results}
            differing = [_by_row(_bits(after[name]) != _bits(right[name])) for name in alive & after.keys()]
            going = np.asarray(np.any(differing, axis=0) & ~found[left]) if differing else np.zeros(left.size, np.bool_)
            wrong = {name: after[name][going] for name in alive & after.keys()}
            left, start, distance = left[going], stop, 2 * distance
        return found


def _by_row(flags: BoolArray) -> BoolArray:
    """Whether anything is set, for each entry of the first axis."""
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))


def _bits(values: Array) -> Array:
    """Floats as integers of their bits, so that both zeros differ."""
    return values.view(f"u{values.itemsize}") if values.dtype.kind == "f" else values


def _channel_axis(step: IntegerLayer | QuantizeStage, rank: int) -> int:
    """Where a step's result has its channels; where the graph dropped axes of the accumulator, they stay in front."""
    if isinstance(step, Accumulating) and rank == len(step.accumulator_shape):
        return step.channel_axis
    return min(1, rank - 1)


def _outputs(program: Program) -> tuple[str, ...]:
    """The outputs that depend on inputs."""
    names = (program.resolve(name) for name in program.outputs)
    return tuple(dict.fromkeys(name for name in names if name not in program.constants))


def _alive(program: Program) -> list[frozenset[str]]:
    """For each step the tensors made up to it that later steps read."""
    last = {name: index for index, step in enumerate(program.steps) for name in program.inputs_of(step)}
    found, alive = list[frozenset[str]](), set(program.inputs)
    for index, step in enumerate(program.steps):
        alive = {name for name in alive.union(step.tensors) if last.get(name, -1) > index}
        found.append(frozenset(alive))
    return found
