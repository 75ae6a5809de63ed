"""Whether a model's class can change when each input code moves a little: proven, broken by an input, or unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.graph import Array
from npusim.program import Accumulating, Batching, IntegerArray, Program
from npusim.program.input_stage import input_stages
from npusim.program.intervals import Interval, analyse
from npusim.search.back_projection import back_project
from npusim.search.input_codes import InputCodes

__all__ = ["RobustSample", "Robustness", "RobustnessVerdict", "judge_robustness"]

TRIES: Final = 512
"""Inputs tried for a sample that is not proven."""

AT_ONCE: Final = 64

RIVALS: Final = 3
"""Classes that inputs are steered to, the nearest first."""


class RobustnessVerdict(StrEnum):
    """What is known of a sample.

    PROVEN: no such move changes its class. BROKEN: one was found, and run, that does. UNKNOWN: neither.
    """

    PROVEN = "proven"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RobustSample:
    """What is known of one sample.

    Attributes
    ----------
    sample
        Its number.
    label
        Its class: the place of the largest output, the first of several.
    verdict
        Whether it can change.
    other
        The class that it becomes; null unless one was found.
    """

    sample: int
    label: int
    verdict: RobustnessVerdict
    other: int | None


@dataclass(frozen=True, slots=True)
class Robustness:
    """What is known of some samples.

    Attributes
    ----------
    codes
        How far each input code may move, up or down, as far as the type of the codes allows.
    output
        The output whose largest element is the class.
    samples
        Each of them.
    inputs
        Of those that are broken, the inputs that break them, samples on the first axis; None where there are none.
    """

    codes: int
    output: str
    samples: tuple[RobustSample, ...]
    inputs: Mapping[str, Array] | None

    def count(self, verdict: RobustnessVerdict) -> int:
        """How many samples have this verdict."""
        return sum(sample.verdict is verdict for sample in self.samples)


def judge_robustness(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    codes: int,
    *,
    tries: int = TRIES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Say of each sample whether its class can change when every input code moves by at most `codes`.

    The intervals of the outputs over the box of all such codes prove it where the class stays ahead of every other. Where they
    do not, codes are searched: corners of the box, steered to the nearest rivals through the layers, and at random.

    Parameters
    ----------
    session
        The model.
    feeds
        Samples by input name, on the first axis.
    codes
        At least 1.
    tries
        Inputs tried for each sample that is not proven.
    seed
        Of the pseudo-random numbers.
    progress
        Called with the samples done and those of all.

    Raises
    ------
    UsageError
        If `codes` is less than 1, or the first output has no classes.
    UnsupportedError
        If the model's inputs do not become codes in a stage of their own.
    """
    program = session.program
    names = _code_tensors(program)
    if codes < 1:
        raise UsageError(f"input codes are to move by {codes}; give at least 1")
    output = program.outputs[0]
    tensor = program.tensors.get(program.resolve(output))
    if tensor is None or math.prod(tensor.shape[1:]) < 2:
        raise UsageError(
            f"output '{output}' has no classes: its shape is not [samples, classes]; robustness is that of a class"
        )
    labels = _labels(session, feeds)
    held = session.held(dict(feeds), names)
    limits = {name: _limits(program, name) for name in names}
    generator = np.random.default_rng(seed)
    found, broken = [], []
    for number, label in enumerate(labels.tolist()):
        around = {}
        for name in names:
            sample = held[name][number : number + 1].astype(np.int64)
            around[name] = Interval(np.maximum(sample - codes, limits[name][0]), np.minimum(sample + codes, limits[name][1]))
        ends = analyse(program, given=around).tensors[tensor.name]
        shown = (
            ends if tensor.order is None else Interval(ends.lower.transpose(tensor.order), ends.upper.transpose(tensor.order))
        )
        verdict, other, breaking = RobustnessVerdict.PROVEN, None, None
        if not _stays_ahead(shown.lower.reshape(-1), shown.upper.reshape(-1), label):
            one = {name: array[number : number + 1] for name, array in feeds.items()}
            breaking, other = _search(session, one, around, label, tries, generator)
            verdict = RobustnessVerdict.UNKNOWN if breaking is None else RobustnessVerdict.BROKEN
        if breaking is not None:
            broken.append(breaking)
        found.append(RobustSample(number, label, verdict, other))
        if progress is not None:
            progress(number + 1, len(labels))
    inputs = {name: np.concatenate([one[name] for one in broken]) for name in program.inputs} if broken else None
    return Robustness(codes, output, tuple(found), inputs)


def _code_tensors(program: Program) -> tuple[str, ...]:
    """The tensors that hold the input's codes."""
    if program.batching is Batching.FIXED:
        raise UnsupportedError("the model has no batch axis of one sample, so that samples cannot be judged one by one")
    stages = {stage.input: stage.output for stage in input_stages(program)}
    names = []
    for name in program.inputs:
        made = stages.get(name, name)
        if not program.tensors[made].is_integer or sum(name in program.inputs_of(step) for step in program.steps) > 1:
            raise UnsupportedError(f"input '{name}' does not become codes in a stage of its own, so that no codes can be moved")
        names.append(made)
    return tuple(names)


def _limits(program: Program, name: str) -> tuple[int, int]:
    tensor = program.tensors[name]
    return int(tensor.lower), int(tensor.upper)


def _labels(session: InferenceSession, feeds: Mapping[str, Array]) -> IntegerArray:
    output = session.run([session.program.outputs[0]], dict(feeds))[0]
    return np.asarray(output.reshape(len(output), -1).argmax(axis=1), np.int64)


def _stays_ahead(lower: npt.NDArray[np.generic], upper: npt.NDArray[np.generic], label: int) -> bool:
    """Whether one element is the first largest for all values within intervals."""
    if not (np.isfinite(lower[label]) and np.isfinite(upper).all()):
        return False
    return bool((lower[label] > upper[:label]).all() and (lower[label] >= upper[label + 1 :]).all())


def _search(
    session: InferenceSession,
    sample: Mapping[str, Array],
    around: Mapping[str, Interval],
    label: int,
    tries: int,
    generator: np.random.Generator,
) -> tuple[dict[str, Array] | None, int | None]:
    """Inputs with another class whose codes lie within intervals."""
    program = session.program
    levels = InputCodes(program)
    lower, upper = (_levels(levels, program, around, end) for end in ("lower", "upper"))
    starts = [np.where(way > 0, upper, lower) for way in _ways(session, levels, sample, label)]
    done = 0
    while done < tries:
        count = min(AT_ONCE, tries - done)
        corners = np.where(generator.random((count, lower.size)) < generator.random((count, 1)), upper, lower)
        for row, start in enumerate(starts[:count]):
            corners[row] = start
        for row in range(len(starts), count) if starts else ():
            kept = generator.random(lower.size) < 0.9
            corners[row] = np.where(kept, starts[row % len(starts)], corners[row])
        feeds = levels.feeds(corners)
        other = _labels(session, feeds) != label
        if other.any():
            held = session.held(feeds, tuple(around))
            for row in np.flatnonzero(other).tolist():
                # what was asked for are codes; inputs are floats, so the codes that they become are what counts
                within = (
                    (held[name][row] >= ends.lower[0]).all() and (held[name][row] <= ends.upper[0]).all()
                    for name, ends in around.items()
                )
                if all(within):
                    chosen = {name: array[row : row + 1] for name, array in feeds.items()}
                    return chosen, int(_labels(session, chosen)[0])
        done += count
        starts = []
    return None, None


def _levels(levels: InputCodes, program: Program, around: Mapping[str, Interval], end: str) -> IntegerArray:
    """One end of the intervals as levels, which count from the lowest code."""
    parts = []
    for name, ends in around.items():
        tensor = program.tensors[name]
        codes = getattr(ends, end) - int(tensor.lower)
        parts.append((codes if tensor.order is None else codes.transpose(tensor.order)).reshape(-1))
    return np.asarray(np.clip(np.concatenate(parts), 0, levels.limits), np.int64)


def _ways(session: InferenceSession, levels: InputCodes, sample: Mapping[str, Array], label: int) -> list[IntegerArray]:
    """For each of the nearest rivals which way each input has to move."""
    program = session.program
    last = program.layers[-1] if program.layers else None
    if not isinstance(last, Accumulating) or math.prod(last.accumulator_shape[1:]) != last.requantization.channels:
        return []
    (scores,) = session.run([program.outputs[0]], dict(sample))
    if scores[0].size != last.requantization.channels:
        return []
    rivals = [int(rival) for rival in np.argsort(-scores.reshape(-1).astype(np.float64), kind="stable") if rival != label][
        :RIVALS
    ]
    tensors = session.held(
        dict(sample), list(dict.fromkeys(name for layer in program.layers for name in (*layer.inputs, layer.output)))
    )
    found = []
    for rival in rivals:
        wanted = np.zeros(last.accumulator_shape)
        turned = last.requantization.direction
        wanted.reshape(-1)[rival], wanted.reshape(-1)[label] = turned[rival], -turned[label]
        directions = back_project(program, tensors, {last.name: wanted})
        parts = []
        for name, shape in levels.shapes.items():
            order = program.tensors[name].order
            given = directions.get(name, np.zeros((1, *program.tensors[name].shape[1:])))
            parts.append((given if order is None else given.transpose(order)).reshape(math.prod(shape)))
        found.append(np.sign(np.concatenate(parts)).astype(np.int64))
    return found
