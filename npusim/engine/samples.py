"""The samples in stacked arrays: taking one out, putting them together, and running a step as the program runs it.

A program whose operations mix the first axis with others runs its samples one after the other. Whoever runs one of its steps on
stacked values has to do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npusim.engine.reference import run_step
from npusim.graph import Array
from npusim.program import Batching, Program, QuantizeStage, Step

__all__ = ["join_samples", "of_sample", "run_stacked", "run_stage"]


def of_sample(program: Program, name: str, values: Array, number: int) -> Array:
    """The values of one sample, with the first axis that the tensor has for one.

    Parameters
    ----------
    program
        The program.
    name
        The tensor; a constant is the same for all samples.
    values
        Its values for any number of samples, one after the other on the first axis.
    number
        Number of the sample.

    Examples
    --------
    A tensor of shape [4, 1] for one sample, with the values of two samples: sample 1 is ``values[4:8]``.
    """
    if name in program.constants:
        return values
    shape = program.tensors[name].shape
    if not shape:
        return np.asarray(values.reshape(-1)[number])
    return values[number * shape[0] : (number + 1) * shape[0]]


def join_samples(parts: Sequence[Array]) -> Array:
    """Values of samples one after the other on the first axis; numbers without an axis on a new one."""
    if len(parts) == 1:
        return parts[0]
    return np.stack(parts) if parts[0].ndim == 0 else np.concatenate(parts)


def run_stacked(program: Program, step: Step, values: Mapping[str, Array], targets: set[str], samples: int) -> dict[str, Array]:
    """Run a step on stacked samples, one by one where the program does so.

    Parameters
    ----------
    program
        The program.
    step
        The step.
    values
        What it reads, as stored.
    targets
        Names of wanted inner tensors.
    samples
        Number of samples.
    """
    if program.batching is not Batching.SINGLE or samples == 1:
        return run_step(program, step, values, targets)
    names = program.inputs_of(step)
    rows = [
        run_step(program, step, {name: of_sample(program, name, values[name], number) for name in names}, targets)
        for number in range(samples)
    ]
    return {name: join_samples([row[name] for row in rows]) for name in rows[0]}


def run_stage(program: Program, stage: QuantizeStage, values: Array) -> dict[str, Array]:
    """All tensors of a quantize stage, as stored, from its input with samples on the first axis."""
    shape = program.tensors[stage.input].shape
    return run_stacked(program, stage, {stage.input: values}, set(), len(values) // shape[0] if shape else values.size)
