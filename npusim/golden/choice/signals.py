"""Input values that samples are made of: signals that look like measurements, and values at the edges of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.samples import run_stage
from npusim.graph import Array
from npusim.program import IntegerArray, Program, QuantizeStage
from npusim.search.back_projection import Directions
from npusim.search.input_codes import InputCodes

__all__ = ["move_within_codes", "signal_levels"]


def signal_levels(codes: InputCodes, count: int, generator: np.random.Generator) -> IntegerArray:
    """Levels of inputs made of signals; white noise is averaged away by filters, signals are not.

    Each channel holds the sum of a mean, waves along its axes, a step, and noise, each of random strength.

    Parameters
    ----------
    codes
        The model's inputs as levels.
    count
        Number of samples.
    generator
        Where randomness comes from.

    Returns
    -------
    int64 [count, codes.size]
    """
    parts = []
    for shape in codes.shapes.values():
        spatial = shape[1:] if len(shape) > 1 else shape
        channels = shape[0] if len(shape) > 1 else 1
        made = [_signal(channels, spatial, generator) for _ in range(count)]
        parts.append(np.stack(made).reshape(count, -1))
    share = np.concatenate(parts, axis=1)
    return np.clip(np.rint((share * 0.5 + 0.5) * codes.limits), 0, codes.limits).astype(np.int64)


def _signal(channels: int, spatial: tuple[int, ...], generator: np.random.Generator) -> Directions:
    """Values about -1 to 1, [channels, *spatial]; channels share the waves, at other strengths."""
    grid = np.meshgrid(*(np.arange(size) / max(size, 2) for size in spatial), indexing="ij") if spatial else [np.zeros(())]
    total = np.zeros((channels, *spatial))
    strengths = generator.exponential(0.4, 5)
    for strength in strengths[:3]:
        turns = np.exp(generator.uniform(np.log(0.3), np.log(max(max(spatial, default=1) / 3, 1)), len(grid)))
        phase = sum(axis * turn for axis, turn in zip(grid, turns, strict=True))
        # a triangle wave needs no library function whose last digit may differ between machines
        wave = 4 * np.abs((phase + generator.random()) % 1 - 0.5) - 1
        total += strength * generator.uniform(-1, 1, (channels, *(1,) * len(spatial))) * wave
    step = grid[0] > generator.random()
    total += strengths[3] * generator.uniform(-1, 1, (channels, *(1,) * len(spatial))) * np.where(step, 1, -1)
    noise = generator.uniform(-1, 1, total.shape) * strengths[4] * (generator.random() < 0.5)
    return np.asarray(total + generator.uniform(-0.5, 0.5, (channels, *(1,) * len(spatial))) + noise)


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
