"""Which samples become golden vectors: those that cover most of what a device can get wrong, and why each was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.golden.choice.cover import LazyGreedy, PackedRows, unpack
from npusim.golden.choice.made_samples import make_samples
from npusim.golden.choice.search import Evaluator, sample_count
from npusim.golden.goals.coverage import Coverage
from npusim.golden.goals.goal import BoolArray, Goal, GoalTable
from npusim.graph import Array
from npusim.program import Batching

__all__ = ["ChosenSamples", "choose_samples", "reasons_for"]


@dataclass(frozen=True, slots=True)
class ChosenSamples:
    """Samples for golden vectors.

    Attributes
    ----------
    inputs
        Arrays by input name, samples on the first axis in the order of choice, in the element types of the ONNX model.
    reasons
        For each sample a sentence: where it comes from and what it is the first to show.
    coverage
        What the samples cover together.
    indices
        For each sample its number among the candidates; empty when there were none.
    """

    inputs: Mapping[str, Array] = field(repr=False)
    reasons: tuple[str, ...]
    coverage: Coverage
    indices: tuple[int, ...] = ()


def choose_samples(
    session: InferenceSession,
    candidates: Mapping[str, Array] | None,
    count: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChosenSamples:
    """Choose the samples that cover most of a model.

    Samples are chosen greedily, each the one that reaches most goals not reached before. So the choice of fewer samples is the
    beginning of the choice of more, and coverage never falls with their number. The same model, candidates and seed give the
    same choice, on any number of threads.

    Parameters
    ----------
    session
        The model.
    candidates
        Samples to choose from by input name, samples on the first axis; memory-mapped arrays are read part by part. None:
        inputs are made and searched.
    count
        How many to choose, at least 1.
    seed
        Of the pseudo-random numbers, for inputs that are made.
    progress
        Called with a number done and the number of all: of candidates looked at, or of samples made.

    Raises
    ------
    UsageError
        If fewer samples are given than are to be chosen, or none are to be chosen.
    UnsupportedError
        If the model leaves sizes open or has no batch axis of one sample.
    InputError
        If the candidates do not fit the model.
    """
    _check(session, candidates, count)
    evaluator = Evaluator(session)
    if candidates is None:
        made = make_samples(evaluator, count, seed=seed, progress=progress)
        reasons = reasons_for(evaluator.table, unpack(made.rows, evaluator.table.size), made.origins)
        return ChosenSamples(made.inputs, reasons, evaluator.coverage(made.inputs))
    rows, indices = _from_data(evaluator, candidates, count, progress)
    inputs = {name: np.asarray(array[list(indices)]) for name, array in candidates.items()}
    origins = [f"sample {number} of the data" for number in indices]
    reasons = reasons_for(evaluator.table, unpack(rows, evaluator.table.size), origins)
    return ChosenSamples(inputs, reasons, evaluator.coverage(inputs), indices)


def _from_data(
    evaluator: Evaluator, candidates: Mapping[str, Array], count: int, progress: Progress | None
) -> tuple[PackedRows, tuple[int, ...]]:
    """The goals that the chosen samples reach, and their numbers.

    Which errors a sample shows takes many runs to find out, so only those are asked that are among the best otherwise.
    """
    greedy = LazyGreedy(evaluator.reached(candidates, progress), evaluator.weights)
    asked: set[int] = set()
    chosen: list[int] = []
    for _ in range(count):
        finalists = greedy.best(evaluator.finalists)
        fresh = sorted(number for number in finalists if number not in asked)
        asked.update(fresh)
        samples = {name: np.asarray(array[fresh]) for name, array in candidates.items()}
        for number, row in zip(fresh, evaluator.with_effects(samples, greedy.rows[fresh]), strict=True):
            greedy.replace(number, row[None])
        best = max(finalists, key=lambda number: (greedy.gain(number), -number))
        greedy.take(best)
        chosen.append(best)
    return greedy.rows[chosen], tuple(chosen)


def _check(session: InferenceSession, candidates: Mapping[str, Array] | None, count: int) -> None:
    if count < 1:
        raise UsageError(f"{count} samples are to be chosen, wanted at least 1")
    if session.program.batching is Batching.FIXED:
        raise UnsupportedError(
            f"{session.model.label} has no batch axis of one sample, so samples cannot be chosen one by one; "
            "export it with batch 1"
        )
    if candidates is not None and sample_count(candidates) < count:
        given = sample_count(candidates)
        raise UsageError(f"{count} samples are to be chosen from {given}; ask for at most {given}, or give more data")


NAMED: Final = 4
"""Kinds of goals that a sentence names."""

NOUNS: Final = {
    Goal.LOWER_RAIL: ("lower rail", "lower rails"),
    Goal.UPPER_RAIL: ("upper rail", "upper rails"),
    Goal.INNER_LOWER: ("inner lower rail", "inner lower rails"),
    Goal.INNER_UPPER: ("inner upper rail", "inner upper rails"),
    Goal.NEGATIVE: ("negative sum", "negative sums"),
    Goal.POSITIVE: ("positive sum", "positive sums"),
    Goal.FIRST_OF_CODE: ("first sum of a code", "first sums of a code"),
    Goal.LAST_OF_CODE: ("last sum of a code", "last sums of a code"),
    Goal.TIE: ("tie", "ties"),
    Goal.ROUNDING: ("sum that rounding to nearest changes", "sums that rounding to nearest changes"),
    Goal.TRUNCATION: ("sum that truncation changes", "sums that truncation changes"),
    Goal.SIGN: ("code that depends on the sign of bytes", "codes that depend on the sign of bytes"),
    Goal.SMALLEST: ("step to the smallest accumulators", "steps to the smallest accumulators"),
    Goal.LARGEST: ("step to the largest accumulators", "steps to the largest accumulators"),
    Goal.WINDOW: ("window with different values", "windows with different values"),
    Goal.C28: ("input that c28 reads otherwise", "inputs that c28 reads otherwise"),
    Goal.MSPM0: ("input that mspm0 reads otherwise", "inputs that mspm0 reads otherwise"),
    Goal.CODE_SHOWS: ("error of one code that shows", "errors of one code that show"),
    Goal.SUM_SHOWS: ("error of one in a sum that shows", "errors of one in a sum that show"),
}
"""One and many of what a channel saw."""


def reasons_for(table: GoalTable, reached: BoolArray, origins: Sequence[str]) -> tuple[str, ...]:
    """For each sample where it comes from and what it is the first to show.

    Parameters
    ----------
    table
        The goals.
    reached
        Which of them each sample reaches, bool [samples, goals], in the order of choice.
    origins
        Where each sample comes from.
    """
    before = np.zeros(table.size, np.bool_)
    sentences = []
    for row, origin in zip(reached, origins, strict=True):
        sentences.append(f"{origin[:1].upper()}{origin[1:]}{_news(table, row & ~before)}.")
        before |= row
    return tuple(sentences)


def _news(table: GoalTable, fresh: BoolArray) -> str:
    if not table.size:
        return ""
    if not fresh.any():
        return ": repeats what others show, with other values"
    counts: dict[Goal, int] = {}
    classes: list[str] = []
    for group in table.groups:
        hits = np.flatnonzero(fresh[group.columns])
        if group.goal is Goal.CLASS:
            classes.extend(f"class {number}" for number in hits)
        elif hits.size:
            counts[group.goal] = counts.get(group.goal, 0) + hits.size
    ranked = sorted(counts, key=lambda goal: -counts[goal])
    named = [*classes, *(f"{counts[goal]} {NOUNS[goal][counts[goal] > 1]}" for goal in ranked[:NAMED])]
    more = sum(counts[goal] for goal in ranked[NAMED:])
    return f": first to show {', '.join(named)}" + (f" and {more} more" if more else "")
