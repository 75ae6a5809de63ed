"""Samples made for a model when none are given: generated, then searched, one by one for what the chosen ones do not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.engine.runner import Progress
from npusim.golden.choice.cover import PackedRows, left_after, row_gains, unpack
from npusim.golden.choice.search import Evaluator, Searcher, sample_count, sample_of
from npusim.golden.choice.signals import move_within_codes
from npusim.graph import Array
from npusim.program import IntegerArray
from npusim.search.sampling import generate_inputs

__all__ = ["MadeSamples", "make_samples"]

POOL: Final = 64
"""Generated samples, and how many more when they are used up."""

MOST_POOL: Final = 1024
"""When the pool has more samples than this, the better half of so many is kept."""

SEARCHED_VALUES: Final = 2**28
"""What may be spent on the first `THOROUGH` samples, in traced values; on later ones a quarter each."""

STARTS: Final = 4
"""Samples of the pool that a search starts from."""

CLIMBS: Final = 3
"""How often neighbours of the best sample are tried."""

FEWEST_NEIGHBOURS: Final = 4

THOROUGH: Final = 16
MOST_EVALUATIONS: Final = 600
FEWEST_EVALUATIONS: Final = 48


@dataclass(frozen=True, slots=True)
class MadeSamples:
    """Samples in the order of choice.

    Attributes
    ----------
    inputs
        Arrays by input name, samples on the first axis.
    rows
        Which goals each reaches.
    origins
        Where each comes from, a phrase.
    """

    inputs: Mapping[str, Array]
    rows: PackedRows
    origins: tuple[str, ...]


def make_samples(evaluator: Evaluator, count: int, *, seed: int, progress: Progress | None = None) -> MadeSamples:
    """Make samples that cover a model, each chosen for what those before it do not show.

    Parameters
    ----------
    evaluator
        Runs samples.
    count
        How many.
    seed
        Of the pseudo-random numbers.
    progress
        Called with the number of samples made and `count`.
    """
    maker = _Maker(evaluator, seed)
    for number in range(count):
        maker.choose(number)
        if progress is not None:
            progress(number + 1, count)
    return maker.result


@dataclass(slots=True, eq=False)
class _Sample:
    """A sample of the pool, which goals it reaches, where it comes from, and whether it was asked which errors it shows."""

    inputs: dict[str, Array]
    row: PackedRows
    origin: str
    asked: bool = False


class _Maker:
    """Chooses one sample after the other from a pool that grows by what is searched."""

    def __init__(self, evaluator: Evaluator, seed: int) -> None:
        self._evaluator = evaluator
        self._seed = seed
        self._left = evaluator.weights.copy()
        self._searcher = Searcher(evaluator) if _is_searchable(evaluator) else None
        self._pool: list[_Sample] = []
        self._chosen: list[_Sample] = []
        self._known: set[bytes] = set()
        self._add(generate_inputs(evaluator.program, POOL, seed=seed), "generated")
        if self._searcher is not None:
            generator = np.random.default_rng([seed])
            self._add_levels(self._searcher, self._searcher.signals(POOL, generator), "made-up signal", generator)

    @property
    def result(self) -> MadeSamples:
        """What was chosen."""
        return MadeSamples(
            _stacked([sample.inputs for sample in self._chosen]),
            np.concatenate([sample.row for sample in self._chosen]),
            tuple(sample.origin for sample in self._chosen),
        )

    def choose(self, number: int) -> None:
        """Choose one more sample, the best of the pool or a better one that is searched from there."""
        generator = np.random.default_rng([self._seed, number])
        if not self._pool:
            self._known.clear()  # a model with few different inputs has to see some twice
            seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
            self._add(generate_inputs(self._evaluator.program, POOL, seed=seed), "generated")
        if self._searcher is not None:
            self._search(self._searcher, number, generator)
        self._ask(self._ranked()[: self._evaluator.finalists])
        if self._searcher is not None:
            self._climb(self._searcher, generator)
        best = next(sample for sample in self._ranked() if sample.asked)
        self._pool.remove(best)
        self._chosen.append(best)
        self._left = left_after(self._left, unpack(best.row, self._left.size)[0])
        if len(self._pool) > MOST_POOL:
            self._pool = self._ranked()[: MOST_POOL // 2]

    def _ranked(self) -> list[_Sample]:
        """The pool, best first."""
        gains = row_gains(np.concatenate([sample.row for sample in self._pool]), self._left)
        return [self._pool[number] for number in np.argsort(-gains, kind="stable")]

    def _ask(self, samples: list[_Sample]) -> None:
        """Find out which errors samples show."""
        new = [sample for sample in samples if not sample.asked]
        if not new:
            return
        rows = np.concatenate([sample.row for sample in new])
        found = self._evaluator.with_effects(_stacked([sample.inputs for sample in new]), rows)
        for sample, row in zip(new, found, strict=True):
            sample.row, sample.asked = row[None], True

    def _search(self, searcher: Searcher, number: int, generator: np.random.Generator) -> None:
        """Add samples to the pool that were searched for what the chosen ones do not reach."""
        starts = np.concatenate([searcher.levels(sample.inputs) for sample in self._ranked()[:STARTS]])
        found = searcher.improve(starts, self._left, self._evaluations(number), generator)
        self._add_levels(searcher, found.levels[: max(self._evaluator.finalists // 4, 2)], "searched", generator)

    def _climb(self, searcher: Searcher, generator: np.random.Generator) -> None:
        """Add neighbours of the best sample, as far as asking what errors they show is cheap."""
        for _ in range(CLIMBS):
            count = self._evaluator.finalists // CLIMBS
            if count < FEWEST_NEIGHBOURS:
                return
            best = next(sample for sample in self._ranked() if sample.asked)
            levels = searcher.neighbours(searcher.levels(best.inputs)[0], count, generator)
            self._ask(self._add_levels(searcher, levels, "searched", generator))

    def _evaluations(self, number: int) -> int:
        """Inputs to try for one sample: more for small models, and for the first samples, which everyone uses."""
        share = SEARCHED_VALUES // THOROUGH // max(self._evaluator.values, 1)
        most = int(np.clip(share, FEWEST_EVALUATIONS, MOST_EVALUATIONS))
        return most if number < THOROUGH else max(most // 4, FEWEST_EVALUATIONS)

    def _add_levels(
        self, searcher: Searcher, levels: IntegerArray, origin: str, generator: np.random.Generator
    ) -> list[_Sample]:
        return self._add(move_within_codes(self._evaluator.program, searcher.feeds(levels), generator), origin)

    def _add(self, samples: Mapping[str, Array], origin: str) -> list[_Sample]:
        """Add those samples to the pool that were not in it before."""
        rows = self._evaluator.reached(samples)
        added = []
        for number in range(sample_count(samples)):
            inputs = sample_of(samples, number)
            content = b"".join(array.tobytes() for array in inputs.values())
            if content not in self._known or not self._searcher:
                self._known.add(content)
                added.append(_Sample(inputs, rows[number : number + 1], origin))
        self._pool.extend(added)
        return added


def _stacked(samples: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


def _is_searchable(evaluator: Evaluator) -> bool:
    """Whether there is something to search for, and inputs that can be changed step by step."""
    types = [evaluator.program.tensors[name].dtype for name in evaluator.program.inputs]
    return evaluator.table.size > 0 and all(dtype.kind == "f" or dtype.itemsize <= 2 for dtype in types)
