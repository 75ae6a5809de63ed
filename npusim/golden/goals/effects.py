"""Which errors reach an output: each channel of each layer made wrong by one, and the rest of the model run on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.engine.replay import program_from
from npusim.engine.runner import ChunkRunner, run_chunked
from npusim.engine.selection import make_runner
from npusim.engine.session import InferenceSession
from npusim.golden.goals.goal import BoolArray, Goal, Meter, Reached
from npusim.golden.goals.requantization import RequantizationMeter
from npusim.graph import Array
from npusim.program import Accumulating, Batching, IntegerArray, IntegerLayer, Program, QuantizeStage
from npusim.program.trace import step_kind

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
    for index, step in enumerate(program.steps):
        still = set(_pending(program, index))
        if still and isinstance(step, IntegerLayer | QuantizeStage) and step.output in _alive(program, index) - outputs:
            shape = program.tensors[step.output].shape
            axis = _channel_axis(step, len(shape))
            count = min(shape[axis], MOST_CHANNELS)
            channels = tuple(number * shape[axis] // count for number in range(count))
            found.append(EffectMeter(step, channels, axis, by_name.get(step.name)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What runs behind a step, all tensors being given that are alive there, and the outputs that it makes."""

    program: Program
    runner: ChunkRunner
    outputs: tuple[str, ...]


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
        self._rests = [self._rest(meter) for meter in meters]
        names = [name for rest in self._rests for name in rest.program.inputs]
        watched = [name for meter in meters if meter.sums is not None for name in meter.sums.tensors]
        self._tensors = tuple(dict.fromkeys((*names, *watched, *_outputs(session.program))))
        self.columns = sum(possible.size for meter in meters for possible in meter.possible.values())

    def measure(self, feeds: Mapping[str, Array]) -> BoolArray:
        """Which errors samples show: the columns of all meters, bool [samples, columns]."""
        samples = len(next(iter(feeds.values())))
        if not self._meters:
            return np.zeros((samples, 0), np.bool_)
        trace = self._session.held(feeds, self._tensors)
        parts = zip(self._meters, self._rests, strict=True)
        return np.concatenate([self._shown(meter, rest, trace) for meter, rest in parts], axis=1)

    def _rest(self, meter: EffectMeter) -> _Rest:
        program = self._session.program
        index = program.steps.index(meter.step)
        outputs = _pending(program, index)
        rest = program_from(program, _alive(program, index), outputs)
        return _Rest(rest, make_runner(rest, self._session.engine), outputs)

    def _shown(self, meter: EffectMeter, rest: _Rest, trace: Mapping[str, Array]) -> BoolArray:
        name = meter.step.output
        lower, upper = int(rest.program.tensors[name].lower), int(rest.program.tensors[name].upper)
        wrong = meter.wrong(trace, lower, upper).astype(trace[name].dtype)
        shown: BoolArray = (wrong != trace[name][:, None]).reshape(*wrong.shape[:2], -1).any(axis=2)
        if shown.any():
            sample = np.nonzero(shown)[0]
            arrays = {source: trace[source][sample] for source in rest.program.inputs if source != name}
            results = run_chunked(rest.program, rest.runner, {**arrays, name: wrong[shown]}, rest.outputs, held=True)
            pairs = [(results[output], trace[output][sample]) for output in rest.outputs]
            shown[shown] = np.logical_or.reduce([(seen != right).reshape(sample.size, -1).any(axis=1) for seen, right in pairs])
        return shown


def _channel_axis(step: IntegerLayer | QuantizeStage, rank: int) -> int:
    """Where a step's result has its channels; where the graph dropped axes of the accumulator, they stay in front."""
    if isinstance(step, Accumulating) and rank == len(step.accumulator_shape):
        return step.channel_axis
    return min(1, rank - 1)


def _outputs(program: Program) -> tuple[str, ...]:
    """The outputs that depend on inputs."""
    names = (program.resolve(name) for name in program.outputs)
    return tuple(dict.fromkeys(name for name in names if name not in program.constants))


def _pending(program: Program, index: int) -> tuple[str, ...]:
    """The outputs that are not made yet behind a step."""
    later = {name for step in program.steps[index + 1 :] for name in step.tensors}
    return tuple(name for name in _outputs(program) if name in later)


def _alive(program: Program, index: int) -> set[str]:
    """Tensors made up to a step that later steps read."""
    made = {name for step in program.steps[: index + 1] for name in step.tensors} | set(program.inputs)
    read = {name for step in program.steps[index + 1 :] for name in program.inputs_of(step)}
    return made & read
