"""Codes that implementations of the input stage make of given values, values for given codes, and where they part on data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt

from npusim.engine.replay import run_with
from npusim.engine.samples import join_samples, of_sample, run_stage
from npusim.errors import InputError, UnsupportedError
from npusim.graph import Array
from npusim.program import IntegerArray, Program, QuantizeStage, Tensor
from npusim.program.input_stage import DEVICES, InputStage, StageParameters, device_stage, input_stages, parameters_of
from npusim.schemas.derivation import Choice, Count

__all__ = ["StageDifference", "compare_stages", "stage_codes", "stage_parameters", "values_for_codes"]


def stage_codes(program: Program, stage: QuantizeStage, values: Array, variant: InputStage) -> Array:
    """Codes that an implementation of an input stage makes.

    Parameters
    ----------
    program
        The program the stage belongs to.
    stage
        One of :func:`input_stages`.
    values
        The model's input, float32, samples on the first axis.
    variant
        Which implementation.

    Returns
    -------
    array
        Codes in the element type that the program holds them in.

    Raises
    ------
    UnsupportedError
        If the stage is not of the form that the devices implement.
    """
    if variant is InputStage.GRAPH:
        return run_stage(program, stage, values)[stage.output]
    made = device_stage(stage, variant, stage_parameters(program, stage))
    return made.values(values, program.constants, program.opset)[made.output].astype(program.tensors[stage.output].stored)


def stage_parameters(program: Program, stage: QuantizeStage) -> StageParameters:
    """Offset, multiplier and shift of an input stage.

    Raises
    ------
    UnsupportedError
        If the multiplier is not a whole number times a power of two, or larger than float32 holds exactly.
    """
    read = program.read_by_steps | {program.resolve(name) for name in program.outputs}
    return parameters_of(
        stage,
        program.constants.get,
        lambda name: program.tensors[name].shape,
        handed_out=not read.isdisjoint(node.outputs[0] for node in stage.nodes[:-1]),
    )


def values_for_codes(program: Program, stage: QuantizeStage, given: Array, variant: InputStage) -> Array:
    """Float values from which an input stage makes given codes: the middle of each code's interval.

    Parameters
    ----------
    program, stage, variant
        As for :func:`stage_codes`.
    given
        Codes: integers, samples on the first axis, in the shape of the stage's output.

    Raises
    ------
    InputError
        If a code is one that the stage never makes.
    """
    codes = given.astype(np.int64)
    factor = np.where(stage.multiplier == 0, 1.0, stage.multiplier)
    middle = codes.astype(np.float64) + 0.5
    if variant is InputStage.TRUNCATED:
        middle = np.where(codes < 0, middle - 1, middle)
    if variant is InputStage.MSPM0:
        # Toward zero, the products that become a negative code begin just above one less than where its interval starts.
        middle = np.where(codes < 0, middle - np.ldexp(1.0, -stage_parameters(program, stage).shift), middle)
    values = (middle / factor - stage.offset).astype(program.tensors[stage.input].dtype)
    made = stage_codes(program, stage, values, variant)
    wrong = made != codes
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise InputError(
            f"input stage '{stage.name}' ({variant.recorded}) never makes the code {codes[place]} given at index "
            f"{list(place)}; its codes lie from {stage.clip.lower} to {stage.clip.upper}"
        )
    return values


@dataclass(frozen=True, slots=True)
class StageDifference:
    """An implementation of the input stage against the graph's own.

    Attributes
    ----------
    variant
        The implementation.
    values
        Input values.
    different_values
        Those that become another code.
    samples
        Samples.
    different_samples
        Those with such a value.
    changed
        Numbers of the samples whose outputs change.
    undefined
        Why there is no such implementation for this model, all numbers being 0; null where there is.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("variant", "values", "different_values", "samples", "different_samples", "changed_outputs", "first_changed"),
        "undefined",
    )

    variant: Annotated[InputStage, Choice((InputStage.C28, InputStage.MSPM0, InputStage.TRUNCATED))]
    values: Count
    different_values: Count
    samples: Count
    different_samples: Count
    changed: tuple[int, ...]
    undefined: str | None = None

    @property
    def changed_outputs(self) -> Count:
        """Samples whose outputs change."""
        return len(self.changed)

    @property
    def first_changed(self) -> tuple[int, ...]:
        """Numbers of the first ten of them."""
        return self.changed[:10]


def compare_stages(
    program: Program, inputs: Mapping[str, Array], variants: Iterable[InputStage] = DEVICES
) -> tuple[StageDifference, ...]:
    """Hold implementations of the input stage against the graph's own; empty for a model without an input stage.

    Samples whose codes differ are run again from these codes.

    Parameters
    ----------
    program
        The program with the graph's own input stage.
    inputs
        Samples by input name.
    variants
        Which implementations.
    """
    if not input_stages(program):
        return ()
    wanted = _codes(program, inputs, InputStage.GRAPH)
    return tuple(_compare(program, inputs, wanted, variant) for variant in variants)


def _compare(
    program: Program, inputs: Mapping[str, Array], wanted: Mapping[str, Array], variant: InputStage
) -> StageDifference:
    try:
        codes = _codes(program, inputs, variant)
    except UnsupportedError as error:
        return StageDifference(variant, 0, 0, 0, 0, (), str(error))
    unequal = {name: codes[name] != wanted[name] for name in wanted}
    samples = len(next(iter(inputs.values())))
    rows = np.flatnonzero(np.any([_by_sample(flags, samples) for flags in unequal.values()], axis=0))
    changed: tuple[int, ...] = ()
    if rows.size:
        chosen = {name: values[rows] for name, values in inputs.items()}
        # what the fast engine proves of sums holds for codes that the graph's own stage can make
        inside = all(_is_inside(program.tensors[name], values) for name, values in codes.items())
        results = [
            run_with(
                program,
                chosen,
                {name: _of_rows(program, name, part, rows) for name, part in made.items()},
                engine="fast" if inside else "reference",
            )
            for made in (wanted, codes)
        ]
        computed = [name for name in program.outputs if program.resolve(name) not in program.constants]
        differing = [_by_sample(results[0][name] != results[1][name], rows.size) for name in computed]
        changed = tuple(int(row) for row in rows[np.any(differing, axis=0)])
    return StageDifference(
        variant=variant,
        values=sum(flags.size for flags in unequal.values()),
        different_values=sum(int(np.count_nonzero(flags)) for flags in unequal.values()),
        samples=samples,
        different_samples=int(rows.size),
        changed=changed,
    )


def _codes(program: Program, inputs: Mapping[str, Array], variant: InputStage) -> dict[str, Array]:
    return {
        stage.output: stage_codes(program, stage, inputs[program.resolve(stage.input)], variant)
        for stage in input_stages(program)
    }


def _is_inside(tensor: Tensor, codes: Array) -> bool:
    """Whether codes lie within the range that a tensor is proven to have."""
    values = codes.astype(np.int64)
    return not values.size or (tensor.lower <= int(values.min()) and int(values.max()) <= tensor.upper)


def _by_sample(flags: npt.NDArray[np.bool_], samples: int) -> npt.NDArray[np.bool_]:
    """For each sample whether anything is set; samples stand one after the other on the first axis."""
    return np.asarray(flags.reshape(samples, -1).any(axis=1))


def _of_rows(program: Program, name: str, values: Array, rows: IntegerArray) -> Array:
    return join_samples([of_sample(program, name, values, int(row)) for row in rows])
