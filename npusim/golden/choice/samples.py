"""The sets of a golden folder: the user's samples, those of them that cover most, or made ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.engine.input_stages import values_for_codes
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import InputError, UnsupportedError
from npusim.files.datasets import InputSpec, check_samples, read_inputs
from npusim.files.element_types import convert_exactly
from npusim.golden.choice.choice import choose_samples
from npusim.golden.choice.search import measure_coverage, sample_count
from npusim.golden.goals.coverage import Coverage
from npusim.graph import Array
from npusim.program import QuantizeStage
from npusim.program.input_stage import InputStage, input_stages

__all__ = ["DEFAULT_SETS", "Origin", "Samples", "pick_samples", "read_samples"]

DEFAULT_SETS: Final = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a set comes from.

    Attributes
    ----------
    made
        False for a sample of the user's data.
    number
        Of the sample in the data, or among those made.
    reason
        Why it was chosen; None where there was no choice.
    """

    made: bool
    number: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """What the sets are made of.

    Attributes
    ----------
    inputs
        Samples by input name, in the declared element types.
    origins
        Where each comes from.
    coverage
        What they cover together.
    """

    inputs: Mapping[str, Array]
    origins: tuple[Origin, ...]
    coverage: Coverage


def pick_samples(
    session: InferenceSession,
    given: Mapping[str, Array] | None,
    count: int = DEFAULT_SETS,
    *,
    directed: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Samples:
    """Choose the sets.

    Parameters
    ----------
    session
        The model.
    given
        The user's samples; None for made ones. All are taken, in their order, unless there are more than `count`.
    count
        Number of sets.
    directed
        Make samples as well, and choose among them and the user's.
    seed
        Of the pseudo-random numbers that samples are made with.
    progress
        Called with the number of samples tried and the number of all that will be.
    """
    if given is not None and not directed:
        total = sample_count(given)
        if total <= count:
            origins = tuple(Origin(False, number) for number in range(total))
            return Samples(given, origins, measure_coverage(session, given))
        return _choose(session, given, total, count, progress)
    made = choose_samples(session, None, count, seed=seed, progress=progress)
    if given is None:
        origins = tuple(Origin(True, number, reason) for number, reason in enumerate(made.reasons))
        return Samples(made.inputs, origins, made.coverage)
    pool = {name: np.concatenate([values, made.inputs[name]]) for name, values in given.items()}
    return _choose(session, pool, sample_count(given), count, progress)


def read_samples(
    session: InferenceSession,
    source: str | os.PathLike[str] | Mapping[str, Array],
    *,
    codes_for: InputStage | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Array]:
    """Samples from a file, or from arrays.

    Parameters
    ----------
    session
        The model.
    source
        A file as :func:`npusim.files.datasets.read_inputs` takes it, or arrays by input name.
    codes_for
        It holds codes, under the names of the tensors that the input stage makes, and this implementation made them. The
        samples are then values from which it makes these codes.
    announce
        As :func:`npusim.files.datasets.read_inputs` has it.

    Raises
    ------
    InputError
        If the file does not fit the model, or holds codes that the stage never makes.
    UnsupportedError
        If there are to be codes and the model has no input stage.
    """
    specs = input_specs(session)
    for spec in specs:
        if not spec.shape:
            raise UnsupportedError(
                f"input '{spec.name}' of {session.model.label} is a single number without an axis for samples, so there are no "
                "sets of it; make it a constant of the model"
            )
    if codes_for is None:
        return _read(source, specs, announce)
    program = session.program
    stages: dict[str, QuantizeStage] = {program.resolve(stage.input): stage for stage in input_stages(program)}
    if not stages:
        raise UnsupportedError(f"{session.model.label} has no input stage: its inputs are codes already; leave out --codes")
    wanted = [_spec(session, stages[spec.name].output, spec) if spec.name in stages else spec for spec in specs]
    arrays = _read(source, wanted, announce)
    try:
        return {
            spec.name: values_for_codes(program, stages[spec.name], arrays[want.name], codes_for)
            if spec.name in stages
            else arrays[want.name]
            for spec, want in zip(specs, wanted, strict=True)
        }
    except InputError as error:
        where = "the inputs" if isinstance(source, Mapping) else source
        raise InputError(f"{where}: {error}") from error


def _read(
    source: str | os.PathLike[str] | Mapping[str, Array],
    specs: list[InputSpec],
    announce: Callable[[str], None] | None,
) -> dict[str, Array]:
    """Samples of a file, or arrays by input name, held against what the model wants."""
    if not isinstance(source, Mapping):
        return read_inputs(source, specs, announce)
    found = {}
    for spec in specs:
        if spec.name not in source:
            raise InputError(f"input '{spec.name}' of the model is missing; give an array for every input")
        where = f"input '{spec.name}'"
        check_samples(source[spec.name], spec, where)
        found[spec.name] = convert_exactly(source[spec.name], spec.dtype, where)
    return found


def _spec(session: InferenceSession, name: str, spec: InputSpec) -> InputSpec:
    tensor = session.program.tensors[name]
    return InputSpec(name, tensor.stored, (spec.shape[0], *tensor.shape[1:]))


def _choose(session: InferenceSession, pool: Mapping[str, Array], data: int, count: int, progress: Progress | None) -> Samples:
    """Choose from a pool whose first `data` samples are the user's."""
    chosen = choose_samples(session, pool, count, progress=progress)
    origins = tuple(
        Origin(number >= data, number if number < data else number - data, reason)
        for number, reason in zip(chosen.indices, chosen.reasons, strict=True)
    )
    return Samples(chosen.inputs, origins, chosen.coverage)
