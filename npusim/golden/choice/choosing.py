"""Which samples become golden vectors: those that cover most of what a device can get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.golden.choice.evaluation import Evaluator, sample_count, sample_of
from npusim.golden.choice.greedy import LazyGreedy, PackedRows, unpack
from npusim.golden.choice.making import make_samples
from npusim.golden.choice.reasons import reasons_for
from npusim.golden.goals.coverage import Coverage
from npusim.graph import Array
from npusim.program import Batching

__all__ = ["ChosenSamples", "choose_samples"]


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
        for number in finalists:
            if number not in asked:
                asked.add(number)
                row = greedy.rows[number : number + 1]
                greedy.replace(number, evaluator.with_effects(sample_of(candidates, number), row))
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
