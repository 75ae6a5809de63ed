"""The input stage as devices compute it: three implementations of one formula, and where they part on given data.

A host CPU turns measured float32 values into codes before the first layer. Each channel has an offset, an integer multiplier
and a shift n; ``p = (x + offset) * multiplier``, both operations rounded to float32. Then

========= ======================================================================================================
``onnx``  ``clip(floor(p * 2**-n))`` in float32, operation by operation as the graph is written.
``c28``   ``floor(p)`` becomes an int32, which is shifted right by n and saturated to -128..127, whatever range the
          graph names. Codes of an unsigned model are then the low 8 bits, so that -1 is read as 255. C2000 and AM26x.
``mspm0`` ``p`` becomes an int32 as C converts it, **toward zero**, is shifted right by n and saturated to the graph's
          range. MSPM0, and the formula in the compiler's header.
========= ======================================================================================================

A float beyond int32 becomes the nearest int32, as the processors' conversion instructions do it. Floors compose, so
``c28`` equals ``onnx`` wherever p fits int32 and the range is -128..127; ``mspm0`` is one more where p is negative, not whole,
and ``floor(p)`` and ``floor(p) + 1`` lie on two sides of a multiple of ``2**n``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.replay import run_with
from npusim.engine.samples import join_samples, of_sample, run_stage
from npusim.errors import InputError, InternalMismatchError, UnsupportedError
from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.kernels.requantize import shift_right_floor
from npusim.program import Clip, IntegerArray, Program, QuantizeStage
from npusim.schemas.derivation import Choice, Count

__all__ = [
    "InputStage",
    "StageDifference",
    "StageParameters",
    "compare_stages",
    "input_stages",
    "stage_codes",
    "stage_parameters",
    "values_for_codes",
]

_INT32 = np.iinfo(np.int32)

SIGNED_BYTE: Final = Clip(-128, 127)
"""What `c28` saturates to."""


class InputStage(StrEnum):
    """Implementations of the input stage."""

    ONNX = "onnx"
    C28 = "c28"
    MSPM0 = "mspm0"


@dataclass(frozen=True, slots=True)
class StageParameters:
    """What a device knows of an input stage, broadcastable to the input.

    Attributes
    ----------
    offset
        float32.
    multiplier
        float32 holding whole numbers.
    shift
        int64, not negative.
    derived
        True where the graph holds one factor ``multiplier * 2**-shift`` only. It is then split with the smallest shift that
        leaves a whole multiplier; `mspm0` depends on that choice, the others do not.
    """

    offset: npt.NDArray[np.float32]
    multiplier: npt.NDArray[np.float32]
    shift: npt.NDArray[np.int64]
    derived: bool


def input_stages(program: Program) -> tuple[QuantizeStage, ...]:
    """The stages that make codes of the model's inputs; empty for a model that takes codes."""
    return tuple(stage for stage in program.quantize_stages if program.resolve(stage.input) in program.inputs)


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

    Examples
    --------
    With offset 0, multiplier 3 and shift 1, the value -0.5 gives p = -1.5: ``onnx`` floors -0.75 to -1, ``c28`` shifts
    floor(-1.5) = -2 to -1, ``mspm0`` shifts -1 to -1. The value -0.25 gives p = -0.75 and the codes -1, -1 and 0.
    """
    stored = program.tensors[stage.output].stored
    if variant is InputStage.ONNX:
        return run_stage(program, stage, values)[stage.output]
    known = stage_parameters(program, stage)
    product = (values.astype(np.float32) + known.offset) * known.multiplier
    whole = np.floor(product) if variant is InputStage.C28 else np.trunc(product)
    integer = np.clip(whole.astype(np.float64), _INT32.min, _INT32.max).astype(np.int64)
    clip = SIGNED_BYTE if variant is InputStage.C28 else stage.clip
    codes = np.clip(shift_right_floor(integer, known.shift), clip.lower, clip.upper)
    if stored == np.uint8:
        codes = codes & 0xFF
    return codes.astype(stored)


def stage_parameters(program: Program, stage: QuantizeStage) -> StageParameters:
    """Offset, multiplier and shift of an input stage.

    Raises
    ------
    UnsupportedError
        If the multiplier is not a whole number times a power of two, or larger than float32 holds exactly.
    """
    shapes = [list(program.tensors[name].shape) for name in (stage.input, stage.output)]
    if shapes[0] != shapes[1]:
        raise UnsupportedError(
            f"input stage '{stage.name}' makes codes of shape {shapes[1]} from {shapes[0]}, so devices' variants of it are not "
            f"defined; use the input stage '{InputStage.ONNX}'"
        )
    if not program.read_by_steps.isdisjoint(stage.tensors[:-1]):
        raise UnsupportedError(
            f"the model reads inner tensors of input stage '{stage.name}', so devices' variants of it are not defined; use the "
            f"input stage '{InputStage.ONNX}'"
        )
    factors = [_constant(program, stage, index) for index, node in enumerate(stage.nodes) if is_a(node.op_type, Trait.PRODUCT)]
    divided = any(is_a(node.op_type, Trait.QUOTIENT) for node in stage.nodes)
    offset = stage.offset.astype(np.float32)
    if (
        len(factors) == 2
        and not divided
        and bool((np.frexp(np.abs(factors[1]))[0] == 0.5).all())
        and bool((factors[1] > 0).all())
    ):
        multiplier, shift, derived = factors[0], 1 - np.frexp(factors[1])[1].astype(np.int64), False
    else:
        multiplier, shift = _split(stage.multiplier)
        derived = True
    whole = bool((multiplier == np.rint(multiplier)).all()) and bool((np.abs(multiplier) < 2**24).all())
    if stage.nearest or not whole or bool((shift < 0).any()) or bool((shift > 31).any()) or len(factors) > 2:
        raise UnsupportedError(
            f"input stage '{stage.name}' is not an offset, a whole multiplier and a shift, so devices' variants of it "
            f"are not defined; use the input stage '{InputStage.ONNX}'"
        )
    return StageParameters(offset, multiplier.astype(np.float32), shift, derived)


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
    if variant is InputStage.MSPM0:
        # Toward zero, the products that become a negative code begin just above one less than where its interval starts.
        middle = np.where(codes < 0, middle - np.ldexp(1.0, -stage_parameters(program, stage).shift), middle)
    values = (middle / factor - stage.offset).astype(program.tensors[stage.input].dtype)
    made = stage_codes(program, stage, values, variant)
    wrong = made != codes
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise InputError(
            f"input stage '{stage.name}' ({variant}) never makes the code {codes[place]} given at index {list(place)}; "
            f"its codes lie from {stage.clip.lower} to {stage.clip.upper}"
        )
    return values


def _constant(program: Program, stage: QuantizeStage, index: int) -> npt.NDArray[np.float64]:
    for name in stage.nodes[index].inputs:
        if name in program.constants:
            return program.constants[name].astype(np.float64)
    raise InternalMismatchError(
        f"'{stage.nodes[index].name}' of input stage '{stage.name}' has no constant; please report this"
    )


def _split(factor: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Whole multiplier and smallest shift, not negative, with ``multiplier * 2**-shift == factor``."""
    shift = np.zeros(factor.shape, np.int64)
    for bits in range(1, 32):
        scaled = np.ldexp(factor, shift)
        shift = np.where(scaled == np.rint(scaled), shift, bits)
    return np.ldexp(factor, shift), shift


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


def _by_sample(flags: npt.NDArray[np.bool_], samples: int) -> npt.NDArray[np.bool_]:
    """For each sample whether anything is set; samples stand one after the other on the first axis."""
    return np.asarray(flags.reshape(samples, -1).any(axis=1))


def _of_rows(program: Program, name: str, values: Array, rows: IntegerArray) -> Array:
    return join_samples([of_sample(program, name, values, int(row)) for row in rows])
