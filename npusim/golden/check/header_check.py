"""Holding the input stage's parameters in a generated model header against those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.files.dumps import Dump, DumpArray, Role
from npusim.golden.check.dump_check import Check, Mismatch
from npusim.golden.check.evidence import Hypothesis, rank
from npusim.golden.input_stage import input_stages, stage_parameters
from npusim.program import Program, QuantizeStage

__all__ = ["check_header", "is_header"]

_PARAMETERS: Final = (Role.BIAS, Role.SCALE, Role.SHIFT)


def is_header(dump: Dump) -> bool:
    """Whether a dump is a generated model header."""
    return dump.format == "tvmgen"


def check_header(program: Program, dump: Dump) -> tuple[Check, ...]:
    """Compare bias, scale and shift in a generated header with the offset, multiplier and shift of the input stage.

    An array of one value stands for all channels.

    Parameters
    ----------
    program
        The model.
    dump
        The header.

    Raises
    ------
    InputError
        If the header has no such arrays, its inputs have other names, an array has another length, or the model has no or
        several input stages.
    """
    arrays = [array for array in dump.arrays if array.role in _PARAMETERS]
    if not arrays:
        raise InputError(f"{dump.path}: holds no parameters of the input stage; compile the model with skip_normalize")
    stages = input_stages(program)
    if len(stages) != 1:
        raise InputError(f"{dump.path}: holds the parameters of one input stage, the model has {len(stages)}")
    return tuple(_check(program, stages[0], dump, array) for array in arrays)


def _check(program: Program, stage: QuantizeStage, dump: Dump, array: DumpArray) -> Check:
    known = stage_parameters(program, stage)
    right: dict[Role, npt.NDArray[Any]] = {Role.BIAS: known.offset, Role.SCALE: known.multiplier, Role.SHIFT: known.shift}
    wanted = right[Role(str(array.role))].astype(np.float64).ravel()
    channels = max(known.offset.size, known.multiplier.size, known.shift.size)
    wanted = np.broadcast_to(wanted, channels) if wanted.size == 1 else wanted
    seen = array.values.astype(np.float32).astype(np.float64).ravel()
    if seen.size not in (1, channels):
        raise InputError(f"{dump.path}: {array.described}: {seen.size} values, wanted 1 or {channels}, one for each channel")
    seen = np.broadcast_to(seen, channels)
    differs = seen != wanted
    first = None
    if differs.any():
        place = int(differs.argmax())
        first = Mismatch(0, (place,), place, float(seen[place]), float(wanted[place]))
    causes = rank(_causes(wanted), seen[None], wanted[None]) if differs.any() else None
    return Check(
        stage.output,
        stage.name,
        "QUANTIZE",
        array.described,
        f"the input stage's {array.role}",
        (0,),
        channels,
        int(differs.sum()),
        float(np.abs(seen - wanted).max()),
        first,
        causes,
    )


def _causes(wanted: npt.NDArray[np.float64]) -> Iterator[Hypothesis]:
    remedy = "compile the model with a compiler from 2.1.1 on, which keeps the fraction"
    message = "the values are rounded to integers, as compilers before 2.1.1 do it"
    ways = {rounded.tobytes(): rounded for rounded in (np.rint(wanted), np.trunc(wanted), np.floor(wanted))}
    for rounded in ways.values():
        if not np.array_equal(rounded, wanted):
            yield Hypothesis("rounded_parameters", message, remedy, rounded[None], chance=1 / 64)
