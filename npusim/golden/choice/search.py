"""Inputs searched so that they reach goals that no chosen sample reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.golden.choice.cover import PackedRows, goal_weights, pack, row_gains, unpack
from npusim.golden.choice.signals import signal_levels
from npusim.golden.goals.coverage import Coverage, coverage_of
from npusim.golden.goals.effects import EffectMeter, Effects
from npusim.golden.goals.goal import Goal, GoalGroup, GoalTable
from npusim.golden.goals.requantization import RequantizationMeter
from npusim.golden.goals.table import goal_table
from npusim.graph import Array
from npusim.program import Accumulating, IntegerArray
from npusim.search.back_projection import Directions, back_project
from npusim.search.changes import Changes, pick_parent
from npusim.search.input_codes import InputCodes

__all__ = ["Evaluator", "Found", "Searcher", "measure_coverage", "sample_count", "sample_of"]

CHILDREN: Final = 24
"""Inputs tried in one round."""

PARENTS: Final = 4
"""Inputs that a round may start from."""

KEPT: Final = 16
"""Best inputs that a search remembers."""

FRACTIONS: Final = (1.0, 1.0, 0.5, 0.2, 0.05)
"""Which part of the inputs follows the directions, those that matter most first."""

CLASS_SHARE: Final = 0.25
"""Part of the directed inputs that look for a class that no sample has shown."""

_FALL: Final = (Goal.LOWER_RAIL, Goal.SMALLEST, Goal.NEGATIVE, Goal.INNER_LOWER)
_RISE: Final = (Goal.UPPER_RAIL, Goal.LARGEST, Goal.POSITIVE, Goal.INNER_UPPER)


@dataclass(frozen=True, slots=True)
class Found:
    """Inputs that a search has come to, best first.

    Attributes
    ----------
    levels
        int64 [samples, size], see :class:`~npusim.search.input_codes.InputCodes`.
    rows
        Which goals they reach.
    """

    levels: IntegerArray
    rows: PackedRows


class Searcher:
    """Improves inputs step by step.

    Parameters
    ----------
    evaluator
        Runs inputs.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._table = evaluator.table
        self._codes = InputCodes(evaluator.program)
        self._meters = [meter for meter in self._table.meters if isinstance(meter, RequantizationMeter)]
        self._classes = self._class_layer()
        pools = [layer.inputs[0] for layer in evaluator.program.layers if not isinstance(layer, Accumulating)]
        outputs = [layer.output for layer in evaluator.program.layers]
        self._tensors = tuple(dict.fromkeys((*self._table.tensors, *pools, *outputs)))

    def feeds(self, levels: IntegerArray) -> dict[str, Array]:
        """The inputs that levels stand for."""
        return self._codes.feeds(levels)

    def levels(self, feeds: Mapping[str, Array]) -> IntegerArray:
        """The nearest levels of inputs."""
        return self._codes.levels(feeds)

    def improve(self, starts: IntegerArray, left: IntegerArray, evaluations: int, generator: np.random.Generator) -> Found:
        """Search inputs that reach as much as possible of what is left.

        Parameters
        ----------
        starts
            Inputs to start from, as levels.
        left
            What each goal counts, int64 [goals].
        evaluations
            How many inputs to try.
        generator
            Where randomness comes from.
        """
        changes = Changes(generator, self._codes.limits, CHILDREN)
        ways = [self._signs(meter, left) for meter in self._meters]
        best = self._best([self._tried(starts)], left)
        spent = len(starts)
        while spent < evaluations:
            if generator.random() < 0.6 and self._meters:
                children = self._directed(best.levels, ways, self._scores(left), generator)
            else:
                parent = best.levels[pick_parent(generator, 0.5, min(PARENTS, len(best.levels)))]
                children = changes.children(parent, best.levels)[:CHILDREN]
            best = self._best([best, self._tried(children)], left)
            spent += len(children)
        return best

    def _tried(self, levels: IntegerArray) -> Found:
        return Found(levels, self._evaluator.reached(self.feeds(levels)))

    def _best(self, parts: list[Found], left: IntegerArray) -> Found:
        levels, rows = np.concatenate([part.levels for part in parts]), np.concatenate([part.rows for part in parts])
        order = np.argsort(-row_gains(rows, left), kind="stable")[:KEPT]
        return Found(levels[order], rows[order])

    def neighbours(self, levels: IntegerArray, count: int, generator: np.random.Generator) -> IntegerArray:
        """Inputs that differ a little from one, levels [size]: some values moved by a few steps."""
        found = np.repeat(levels[None], count, axis=0)
        for child in found:
            moved = generator.integers(0, levels.size, int(np.exp(generator.uniform(0, np.log(levels.size + 1)))))
            child[moved] += generator.integers(-3, 4, moved.size)
        return np.clip(found, 0, self._codes.limits)

    def signals(self, count: int, generator: np.random.Generator) -> IntegerArray:
        """Inputs that look like measurements."""
        return signal_levels(self._codes, count, generator)

    def _directed(
        self,
        parents: IntegerArray,
        ways: list[IntegerArray],
        scores: tuple[str, Directions] | None,
        generator: np.random.Generator,
    ) -> IntegerArray:
        """Children that follow directions from goals left over in some layer."""
        levels = parents[generator.integers(0, min(len(parents), PARENTS), CHILDREN)]
        tensors = self._evaluator.session.held(self.feeds(levels), self._tensors)
        directions = back_project(self._evaluator.program, tensors, self._wanted(ways, scores, generator))
        flat = [
            self._as_given(name, directions[name]).reshape(CHILDREN, -1)
            if name in directions
            else np.zeros((CHILDREN, math.prod(shape)))
            for name, shape in self._codes.shapes.items()
        ]
        return _followed(levels, np.concatenate(flat, axis=1), self._codes.limits, generator)

    def _as_given(self, name: str, directions: Directions) -> Directions:
        """Directions of an input in the order of axes in which the file has it."""
        order = self._evaluator.program.tensors[name].order
        return directions if order is None else directions.transpose(order)

    def _wanted(
        self, ways: list[IntegerArray], scores: tuple[str, Directions] | None, generator: np.random.Generator
    ) -> dict[str, Directions]:
        """For each child one layer, and there for some positions a channel that has goals left, and which way it has to go."""
        weights = np.array([(signs != 0).any(axis=1).sum() for signs in ways], np.float64)
        chances = weights / weights.sum() if weights.any() else None
        chosen = generator.choice(len(self._meters), CHILDREN, p=chances)
        wanted: dict[str, Directions] = {}
        for child, number in enumerate(chosen):
            if scores is not None and generator.random() < CLASS_SHARE:
                wanted.setdefault(scores[0], np.zeros((CHILDREN, *scores[1].shape[1:])))[child] = generator.choice(scores[1])
                continue
            node = self._meters[number].node
            if node.name not in wanted:
                wanted[node.name] = np.zeros((CHILDREN, *node.accumulator_shape[1:]))
            wanted[node.name][child] = _placed(node, ways[number], generator)
        return wanted

    def _class_layer(self) -> tuple[GoalGroup, RequantizationMeter] | None:
        """The goals of the first output's classes, and the layer whose channels are their scores."""
        group = next((group for group in self._table.groups if group.goal is Goal.CLASS), None)
        last = self._meters[-1] if self._meters else None
        if group is None or last is None or last.node.accumulator_shape != (1, group.stop - group.start):
            return None
        return group, last

    def _scores(self, left: IntegerArray) -> tuple[str, Directions] | None:
        """For each class that no sample has shown which scores have to rise and fall, and the layer of the scores."""
        if self._classes is None:
            return None
        group, meter = self._classes
        still = np.flatnonzero((left[group.columns] >= self._evaluator.weights[group.columns]) & (left[group.columns] > 0))
        if not still.size:
            return None
        rises = np.where(meter.node.requantization.direction < 0, -1.0, 1.0)
        return meter.layer, (2.0 * np.eye(rises.size) - 1)[still] * rises

    def _signs(self, meter: RequantizationMeter, left: IntegerArray) -> IntegerArray:
        """For each channel the ways its accumulator may have to go, int64 [channels, 2]: -1 or 0, and 1 or 0."""
        channels = meter.node.requantization.channels
        found = np.zeros((channels, 2), np.int64)
        turned = meter.node.requantization.direction < 0
        for group in self._table.groups:
            if group.meter is not meter or group.goal not in (*_FALL, *_RISE):
                continue
            still = (left[group.columns] >= self._evaluator.weights[group.columns]) & self._table.possible[group.columns]
            open_ones = still.reshape(channels, -1).any(axis=1)
            by_sum = group.goal in (Goal.SMALLEST, Goal.LARGEST)
            rises = np.full(channels, group.goal in _RISE) ^ (turned & (not by_sum))
            found[open_ones & ~rises, 0] = -1
            found[open_ones & rises, 1] = 1
        return found


def _placed(layer: Accumulating, signs: IntegerArray, generator: np.random.Generator) -> Directions:
    """Directions in the shape of one accumulator: a channel and a sign for some of its positions."""
    axis = layer.channel_axis - 1
    shape = layer.accumulator_shape[1:]
    channels, positions = shape[axis], int(np.prod(shape)) // shape[axis]
    open_ones = np.argwhere(signs)
    if not len(open_ones):
        open_ones = np.argwhere(np.ones_like(signs))
        signs = np.broadcast_to(np.array([-1, 1]), signs.shape)
    count = min(int(np.exp(generator.uniform(0, np.log(positions + 1)))), positions)
    many = positions == 1 and generator.random() < 0.5
    places = np.zeros(len(open_ones), np.int64) if many else generator.permutation(positions)[:count]
    chosen = open_ones[generator.integers(0, len(open_ones), places.size)]
    found = np.zeros((channels, positions))
    found[chosen[:, 0], places] = signs[chosen[:, 0], chosen[:, 1]]
    others = (*shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(found.reshape(channels, *others), 0, axis)


def _followed(
    levels: IntegerArray, directions: Directions, limits: IntegerArray, generator: np.random.Generator
) -> IntegerArray:
    """Levels with those inputs moved to their ends that matter most."""
    fractions = generator.choice(FRACTIONS, len(levels))
    size = np.abs(directions)
    kept = np.sort(size, axis=1)[:, ::-1]
    count = np.maximum((fractions * (size > 0).sum(axis=1)).astype(np.int64), 1)
    threshold = kept[np.arange(len(levels)), count - 1]
    moved = (size > 0) & (size >= threshold[:, None])
    return np.where(moved, np.where(directions > 0, limits, 0), levels)


CHUNK_VALUES: Final = 2**22
"""Traced values of one chunk of samples."""

EFFECTS: Final = 2**29
"""What may be spent on finding out which errors the finalists show: errors times traced values."""

FEWEST_FINALISTS: Final = 4
MOST_FINALISTS: Final = 48


class Evaluator:
    """Runs samples and tells which goals each of them reaches.

    Parameters
    ----------
    session
        The model.
    """

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        self.program = session.program
        self.table: GoalTable = goal_table(self.program)
        sizes = [int(np.prod(self.program.tensors[name].shape)) for name in self.table.tensors]
        self.weights = goal_weights(self.table)
        self.values = sum(sizes)
        self.chunk = int(np.clip(CHUNK_VALUES // max(self.values, 1), 1, 512))

        meters = tuple(meter for meter in self.table.meters if isinstance(meter, EffectMeter))
        self._effects = Effects(session, meters)
        self.finalists = int(np.clip(EFFECTS // max(self._effects.columns * self.values, 1), FEWEST_FINALISTS, MOST_FINALISTS))

    def with_effects(self, feeds: Mapping[str, Array], rows: PackedRows) -> PackedRows:
        """The goals of samples with the errors that they show; `rows` are those without."""
        if not self.table.size or not len(rows):
            return rows
        known = unpack(rows, self.table.size)
        step = max(1, CHUNK_VALUES // max(self._effects.columns * self.values // 8, 1))
        for start in range(0, len(rows), step):
            part = {name: array[start : start + step] for name, array in feeds.items()}
            # the columns of effects are the last
            known[start : start + step, self.table.size - self._effects.columns :] |= self._effects.measure(part)
        return pack(known)

    def reached(self, feeds: Mapping[str, Array], progress: Progress | None = None) -> PackedRows:
        """Which goals samples reach; memory-mapped samples are read chunk by chunk."""
        count = sample_count(feeds)
        found = [np.zeros((0, -(-self.table.size // 8)), np.uint8)]
        for start in range(0, count, self.chunk):
            part = {name: array[start : start + self.chunk] for name, array in feeds.items()}
            found.append(self._reached(part))
            if progress is not None:
                progress(min(start + self.chunk, count), count)
        return np.concatenate(found)

    def coverage(self, feeds: Mapping[str, Array]) -> Coverage:
        """The coverage of samples, with the accumulators they give and the errors that show."""
        reached = unpack(self.with_effects(feeds, self.reached(feeds)), self.table.size)
        seen: dict[str, tuple[int, int]] = {}
        proven: dict[str, tuple[int, int]] = {}
        meters = [meter for meter in self.table.meters if isinstance(meter, RequantizationMeter)]
        for meter in meters:
            lowest, highest = meter.accumulators(self.session.held(feeds, meter.tensors))
            seen[meter.layer] = (int(lowest.min()), int(highest.max()))
            interval = meter.channels.accumulator
            proven[meter.layer] = (int(interval.lower.min()), int(interval.upper.max()))
        return coverage_of(self.table, reached, seen, proven)

    def _reached(self, feeds: Mapping[str, Array]) -> PackedRows:
        if not self.table.size:
            return np.zeros((sample_count(feeds), 0), np.uint8)
        trace = self.session.held(feeds, self.table.tensors)
        return pack(self.table.measure(trace, sample_count(feeds)))


def measure_coverage(session: InferenceSession, samples: Mapping[str, Array]) -> Coverage:
    """How well given samples cover a model.

    Parameters
    ----------
    session
        The model.
    samples
        Inputs by name, samples on the first axis.

    Raises
    ------
    UnsupportedError
        If the model leaves sizes open, so that its layers depend on the inputs.
    InputError
        If the samples do not fit the model.
    """
    return Evaluator(session).coverage(samples)


def sample_of(feeds: Mapping[str, Array], number: int) -> dict[str, Array]:
    """One of several samples, with an axis for samples."""
    return {name: np.asarray(array[number : number + 1]) for name, array in feeds.items()}


def sample_count(feeds: Mapping[str, Array]) -> int:
    """Samples on the first axis."""
    return len(next(iter(feeds.values()), ()))
