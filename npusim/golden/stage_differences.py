"""Where the implementations of the input stage part on given data, and which outputs that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt

from npusim.engine.replay import run_with
from npusim.engine.samples import join_samples, of_sample
from npusim.errors import UnsupportedError
from npusim.golden.input_stage import InputStage, input_stages, stage_codes
from npusim.graph import Array
from npusim.program import IntegerArray, Program
from npusim.schemas.derivation import Choice, Count

__all__ = ["StageDifference", "compare_stages"]


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

    variant: Annotated[InputStage, Choice((InputStage.C28, InputStage.MSPM0))]
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


def compare_stages(program: Program, inputs: Mapping[str, Array]) -> tuple[StageDifference, ...]:
    """Hold every implementation of the input stage against the graph's own; empty for a model without an input stage.

    Samples whose codes differ are run again from these codes.

    Parameters
    ----------
    program
        The program.
    inputs
        Samples by input name.
    """
    if not input_stages(program):
        return ()
    wanted = _codes(program, inputs, InputStage.ONNX)
    return tuple(_compare(program, inputs, wanted, variant) for variant in InputStage if variant is not InputStage.ONNX)


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
        results = [
            run_with(program, chosen, {name: _of_rows(program, name, part, rows) for name, part in made.items()})
            for made in (wanted, codes)
        ]
        differing = [_by_sample(results[0][name] != results[1][name], rows.size) for name in program.outputs]
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


def _by_sample(flags: npt.NDArray[np.bool_], samples: int) -> npt.NDArray[np.bool_]:
    """For each sample whether anything is set; samples stand one after the other on the first axis."""
    return np.asarray(flags.reshape(samples, -1).any(axis=1))


def _of_rows(program: Program, name: str, values: Array, rows: IntegerArray) -> Array:
    return join_samples([of_sample(program, name, values, int(row)) for row in rows])
