"""Samples run through a model to see which goals they reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.golden.choice.greedy import PackedRows, goal_weights, pack, unpack
from npusim.golden.goals.coverage import Coverage, coverage_of
from npusim.golden.goals.effects import EffectMeter, Effects
from npusim.golden.goals.goal import GoalTable
from npusim.golden.goals.requantization import RequantizationMeter
from npusim.golden.goals.table import goal_table
from npusim.graph import Array

__all__ = ["Evaluator", "measure_coverage", "sample_count", "sample_of"]

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
            lowest, highest = meter.accumulators(self.session.trace(feeds, meter.tensors))
            seen[meter.layer] = (int(lowest.min()), int(highest.max()))
            interval = meter.channels.accumulator
            proven[meter.layer] = (int(interval.lower.min()), int(interval.upper.max()))
        return coverage_of(self.table, reached, seen, proven)

    def _reached(self, feeds: Mapping[str, Array]) -> PackedRows:
        if not self.table.size:
            return np.zeros((sample_count(feeds), 0), np.uint8)
        trace = self.session.trace(feeds, self.table.tensors)
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
