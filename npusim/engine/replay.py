"""Running a program from the middle: some tensors are given instead of computed, only what depends on them is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.engine.fast import make_plan
from npusim.engine.input_checks import check_codes, check_finite, check_shapes
from npusim.engine.runner import Progress, run_chunked
from npusim.engine.selection import make_runner
from npusim.engine.threads import blas_threads
from npusim.errors import InputError, UsageError
from npusim.files.element_types import convert_exactly
from npusim.graph import Array
from npusim.program import Accumulating, Batching, Program, Step
from npusim.program.intervals import analyse
from npusim.program.trace import unknown_tensor

__all__ = ["Restarts", "program_from", "run_with"]

BLOCKS: Final = (16, 64, 256)
"""Numbers of samples that are run from the middle: few different ones, because each takes memory of its own."""


def run_with(
    program: Program,
    feeds: Mapping[str, Array],
    overrides: Mapping[str, Array],
    wanted: Iterable[str] | None = None,
    *,
    engine: str = "reference",
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Run a program with some tensors given instead of computed.

    Parameters
    ----------
    program
        The program.
    feeds
        Inputs in their declared element types; those that nothing reads any more may be left out.
    overrides
        Results of steps by name, samples on the first axis: integer codes, or floats where the tensor holds floats. A code may
        lie outside of the range that the step itself can give, but not outside of the type that its codes are held in.
    wanted
        Names of tensors; the program's outputs by default. An override that is wanted is given back.
    engine
        ``"reference"``, or ``"fast"`` where no override lies outside of the range that its step can give.
    progress
        Called with the number of samples done and the number of all.

    Returns
    -------
    dict
        The wanted tensors as :meth:`npusim.InferenceSession.trace` gives them.

    Raises
    ------
    UnknownTensorError
        If there is no tensor of a name.
    UsageError
        If an override is not a step's result, or a wanted tensor is computed inside of a step that is overridden.
    InputError
        If an array does not fit.

    Examples
    --------
    >>> stage = program.quantize_stages[0]  # doctest: +SKIP
    >>> run_with(program, {}, {stage.output: codes})["output"]  # doctest: +SKIP
    """
    asked = {name: program.resolve(name) for name in (program.outputs if wanted is None else wanted)}
    given = {program.resolve(name): values for name, values in overrides.items()}
    rest = program_from(program, given, asked.values())
    arrays = {name: _checked(program, name, given[name] if name in given else _fed(feeds, name)) for name in rest.inputs}
    check_shapes(rest, arrays)
    check_finite(arrays, 0)
    own = [name for name in rest.inputs if name in program.inputs]
    check_codes(replace(rest, inputs=tuple(own)), arrays, 0)
    results = run_chunked(rest, make_runner(rest, engine), arrays, asked.values(), progress=progress)
    shown = {name: rest.tensors.get(target) for name, target in asked.items()}
    return {
        name: results[target] if (tensor := shown[name]) is None else tensor.as_shown(results[target])
        for name, target in asked.items()
    }


def program_from(program: Program, given: Iterable[str], wanted: Iterable[str]) -> Program:
    """What is left of a program when some tensors are given: they become inputs, and steps that nothing needs are dropped.

    Parameters
    ----------
    program
        The program.
    given
        Results of steps, aliases resolved; inputs of the program may be among them.
    wanted
        Names of the tensors that are to be computed, aliases resolved.

    Raises
    ------
    UnknownTensorError, UsageError
        As :func:`run_with`.
    """
    starts, targets = set(given), set(wanted)
    results = {name for step in program.steps for name in _results(step)} | set(program.inputs)
    for name in (*starts, *targets):
        if name not in program.tensors and name not in program.constants:
            raise unknown_tensor(name, program.tensors)
    for name in sorted(starts - results):
        raise UsageError(f"tensor '{name}' is computed inside of a step and cannot be given; give the step's result instead")
    needed = set(targets)
    steps: list[Step] = []
    for step in reversed(program.steps):
        made = (set(step.tensors) & needed) - starts
        if not made:
            continue
        if set(step.tensors) & starts:
            raise UsageError(
                f"tensor '{min(made)}' comes from step '{step.name}', whose result is given; ask for one or give the other"
            )
        steps.append(step)
        needed.update(program.inputs_of(step))
    inputs = [*(name for name in program.inputs if name not in starts and name in needed), *sorted(starts)]
    return replace(program, inputs=tuple(inputs), steps=tuple(reversed(steps)))


class Restarts:
    """Runs a program from behind any of its steps: planned once, for whatever codes any step might be given.

    Parameters
    ----------
    program
        The program.
    engine
        One of the engines; the results are the same.
    """

    def __init__(self, program: Program, engine: str) -> None:
        self._program = program
        self._makers = {name: number for number, step in enumerate(program.steps) for name in step.tensors}
        is_fast = engine == "fast" and program.batching is Batching.STACKED and bool(program.layers)
        self._plan = make_plan(program, analyse(program, any_codes=True)) if is_fast else None

    def run(self, index: int, held: Mapping[str, Array], wanted: Iterable[str]) -> dict[str, Array]:
        """Compute tensors from what is there behind a step.

        Parameters
        ----------
        index
            The number of that step.
        held
            Everything made up to it that later steps read, as the program holds it, samples on the first axis; codes within
            their declared range.
        wanted
            Names of tensors that later steps make.
        """
        names = tuple(wanted)
        stop = max((self._makers[name] for name in names), default=index) + 1
        if self._plan is None:
            rest = program_from(self._program, held, names)
            return run_chunked(rest, make_runner(rest, "reference"), held, names, held=True)
        count, most = len(next(iter(held.values()))), min(BLOCKS[-1], self._plan.samples)
        parts = []
        with blas_threads().pinned():
            for start in range(0, count, most):
                here = min(most, count - start)
                size = next((block for block in BLOCKS if here <= block <= most), most)
                # the last sample is repeated, and what comes of it left out
                rows = np.minimum(np.arange(start, start + size), count - 1)
                found = self._plan.run({name: values[rows] for name, values in held.items()}, names, index + 1, stop)
                parts.append({name: values[:here] for name, values in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _results(step: Step) -> tuple[str, ...]:
    """The tensors of a step that other steps read."""
    if isinstance(step, Accumulating):
        return (*(tap.tensor for tap in step.taps if tap.handed_out), step.output)
    return step.tensors if hasattr(step, "operator") else step.tensors[-1:]


def _fed(feeds: Mapping[str, Array], name: str) -> Array:
    if name not in feeds:
        raise InputError(f"input '{name}' is missing, and what is given does not stand in for it")
    return feeds[name]


def _checked(program: Program, name: str, values: Array) -> Array:
    tensor = program.tensors[name]
    if name in program.inputs:
        if values.dtype != tensor.dtype:
            raise InputError(f"input '{name}' has element type {values.dtype}, wanted {tensor.dtype}")
        return values
    if not tensor.is_integer and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"tensor '{name}' is given as NaN or infinity; finite numbers are wanted")
    return convert_exactly(values, tensor.stored, f"tensor '{name}'")
