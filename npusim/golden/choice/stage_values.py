"""Input values moved within their code: to where the code begins or ends, and beyond the range. No layer sees a difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.samples import run_stage
from npusim.graph import Array
from npusim.program import IntegerArray, Program, QuantizeStage

__all__ = ["move_within_codes"]

MOVED: Final = 0.125
"""Share of the values moved to an end of their code. Most stay in the middle, where no implementation rounds differently."""

STEPS: Final = 4
"""How many floats on each side of the computed end are looked at for the true one."""


def move_within_codes(program: Program, feeds: Mapping[str, Array], generator: np.random.Generator) -> dict[str, Array]:
    """Move some values of inputs that a quantize stage reads, so that their codes stay as they are.

    Implementations of the input stage differ at the ends of codes, and clips show only beyond the range.

    Parameters
    ----------
    program
        The program.
    feeds
        Its inputs, samples on the first axis.
    generator
        Where randomness comes from.
    """
    found = dict(feeds)
    for stage in program.quantize_stages:
        same = program.tensors[stage.input].shape == program.tensors[stage.output].shape
        if same and stage.input in found and found[stage.input].dtype.kind == "f" and stage.multiplier.any():
            found[stage.input] = _moved(program, stage, found[stage.input], generator)
    return found


def _moved(program: Program, stage: QuantizeStage, x: npt.NDArray[Any], generator: np.random.Generator) -> Array:
    codes = _codes(program, stage, x).astype(np.int64)
    multiplier = np.where(stage.multiplier == 0, 1.0, stage.multiplier)
    choice = generator.random(x.shape)
    result = x.copy()
    for number, end in enumerate((codes, codes + 1)):
        value = (end / multiplier - stage.offset).astype(x.dtype)
        chosen = (choice >= number * MOVED / 2) & (choice < (number + 1) * MOVED / 2)
        result = np.where(chosen, _nearest_end(program, stage, x, value, codes), result)
    width = (stage.clip.upper - stage.clip.lower) / multiplier
    beyond = np.where(codes <= stage.clip.lower, -width, np.where(codes >= stage.clip.upper, width, 0))
    further = (x + beyond * generator.random(x.shape)).astype(x.dtype)
    return np.where(generator.random(x.shape) < 0.5, further, result)


def _nearest_end(
    program: Program, stage: QuantizeStage, x: npt.NDArray[Any], end: npt.NDArray[Any], codes: IntegerArray
) -> Array:
    """The last float of the same code on the way from a value to an end of its code; the value itself where none is near."""
    result = x
    current = end
    outward = np.where(end > x, np.inf, -np.inf).astype(x.dtype)
    for _ in range(STEPS):
        current = np.nextafter(current, outward)
    for _ in range(2 * STEPS):
        following = np.nextafter(current, -outward)
        is_last = (_codes(program, stage, current) != codes) & (_codes(program, stage, following) == codes)
        result = np.where(is_last, following, result)
        current = following
    return result


def _codes(program: Program, stage: QuantizeStage, x: npt.NDArray[Any]) -> Array:
    return run_stage(program, stage, x)[stage.output]
