"""Inputs made for a model when the user gives none: the input stage's range covered, extremes included, reproducible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.program import Program, QuantizeStage, Tensor

__all__ = ["generate_inputs"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

_Ends = tuple[FloatArray, FloatArray]


def generate_inputs(program: Program, count: int, *, seed: int = 0, extremes: bool = True) -> dict[str, Array]:
    """Make inputs for a program.

    The first samples are extremes: everything at the lower end of the range that the input stage can tell apart, everything at
    the upper end, zeros, both ends beyond the range, ends alternating at random. The others are uniform over the range, over a
    tenth of it around zero, or normally distributed, in turn.

    Parameters
    ----------
    program
        The program; its inputs need a batch axis of one sample.
    count
        Number of samples, at least 1.
    seed
        Seed of the pseudo-random numbers; the same seed gives the same inputs.
    extremes
        Begin with the extremes; without them nearly all values are within the range of the input stage.

    Returns
    -------
    dict
        An array ``[count, ...]`` for each input, in its declared element type.
    """
    generator = np.random.default_rng(seed)
    return {name: _samples(program.tensors[name], _ends(program, name), count, generator, extremes) for name in program.inputs}


def _ends(program: Program, name: str) -> _Ends:
    """Values at which the codes of an input reach their ends, broadcastable to one sample."""
    tensor = program.tensors[name]
    if tensor.is_integer:
        return np.full((), tensor.lower + tensor.zero_point), np.full((), tensor.upper + tensor.zero_point)
    stage = next((step for step in program.quantize_stages if step.input == name), None)
    return (np.full((), -1.0), np.full((), 1.0)) if stage is None else _stage_ends(stage)


def _stage_ends(stage: QuantizeStage) -> _Ends:
    multiplier = np.where(stage.multiplier == 0, 1.0, stage.multiplier)
    first, last = stage.clip.lower / multiplier - stage.offset, (stage.clip.upper + 1) / multiplier - stage.offset
    return np.minimum(first, last), np.maximum(first, last)


def _of_shape(end: FloatArray, shape: tuple[int, ...], choose: Callable[..., Any]) -> FloatArray:
    """An end for one sample; where a stage's constant has more axes than the input, the one that is furthest out."""
    further = end.ndim - 1 - len(shape)
    if further > 0:
        end = np.asarray(choose(end, axis=tuple(range(further))))
    return np.asarray(np.broadcast_to(end, (1, *shape))[0] if shape else end.reshape(-1)[0])


def _samples(tensor: Tensor, ends: _Ends, count: int, generator: np.random.Generator, with_extremes: bool) -> Array:
    shape = tensor.declared_shape[1:]
    lower, upper = (_of_shape(end, shape, choose) for end, choose in zip(ends, (np.min, np.max), strict=True))
    middle, width = (lower + upper) / 2, upper - lower
    extremes: list[Callable[[], npt.NDArray[np.float64]]] = [
        lambda: lower,
        lambda: upper,
        lambda: np.zeros(shape),
        lambda: lower - width,
        lambda: upper + width,
        lambda: np.where(generator.random(shape) < 0.5, lower, upper),
    ]
    usual: list[Callable[[], npt.NDArray[np.float64]]] = [
        lambda: generator.uniform(lower, upper, shape),
        lambda: generator.uniform(lower, upper, shape) / 10,
        lambda: generator.normal(middle, np.abs(width) / 6 + 1e-30, shape),
    ]
    first = 0 if with_extremes else len(extremes)
    places = range(first, first + count)
    rows = [extremes[index]() if index < len(extremes) else usual[index % len(usual)]() for index in places]
    values = np.stack([np.broadcast_to(row, shape) for row in rows])
    if tensor.dtype.kind == "b":
        return values > 0.5
    if tensor.is_integer:
        lowest, highest = tensor.lower + tensor.zero_point, tensor.upper + tensor.zero_point
        return np.clip(np.rint(values), lowest, highest).astype(tensor.dtype)
    return values.astype(tensor.dtype)
