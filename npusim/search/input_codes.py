"""A model's inputs as vectors of small integers, which a search can change one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.program import IntegerArray, Program, QuantizeStage
from npusim.search.sampling import generate_inputs

__all__ = ["InputCodes"]

FLOAT_LEVELS = 256
"""Steps into which the usual range of an input is divided that no quantize stage reads."""


@dataclass(frozen=True, slots=True)
class _Input:
    """One input: level k of an element stands for ``start + (k + offset) * step``, in float64 before it is rounded."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    levels: int
    start: npt.NDArray[np.float64]
    step: npt.NDArray[np.float64]

    @property
    def size(self) -> int:
        return math.prod(self.shape[1:])


class InputCodes:
    """All inputs of one sample as one vector of levels, each 0 to a number of levels.

    Where a quantize stage reads an input, its levels are the stage's codes, counted from the lowest: each stands for the middle
    of the values that become this code. Levels of other inputs divide their usual range.

    Parameters
    ----------
    program
        A program that takes samples on the first axis.
    """

    def __init__(self, program: Program) -> None:
        stages = {stage.input: stage for stage in reversed(program.quantize_stages)}
        ends = generate_inputs(program, 2)
        self._inputs = [_read(program, name, stages.get(name), ends[name]) for name in program.inputs]
        self.limits: IntegerArray = np.concatenate([np.full(item.size, item.levels - 1, np.int64) for item in self._inputs])

    @property
    def size(self) -> int:
        """Length of the vector."""
        return int(self.limits.size)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input for one sample, the batch axis left out, as the file has it, in the order of the vector."""
        return {item.name: item.shape[1:] for item in self._inputs}

    def feeds(self, levels: IntegerArray) -> dict[str, Array]:
        """Inputs for vectors of levels, int64 [samples, size]."""
        found, start = {}, 0
        for item in self._inputs:
            part = levels[:, start : start + item.size].reshape(-1, *item.shape[1:])
            found[item.name] = (item.start + part * item.step).astype(item.dtype)
            start += item.size
        return found

    def levels(self, feeds: Mapping[str, Array]) -> IntegerArray:
        """The nearest vectors of levels for inputs."""
        parts = []
        for item in self._inputs:
            nearest = np.rint((feeds[item.name].astype(np.float64) - item.start) / item.step)
            parts.append(np.clip(nearest, 0, item.levels - 1).astype(np.int64).reshape(len(nearest), -1))
        return np.concatenate(parts, axis=1)


def _read(program: Program, name: str, stage: QuantizeStage | None, ends: Array) -> _Input:
    tensor = program.tensors[name]
    if stage is not None and program.tensors[stage.output].shape == tensor.shape:
        multiplier = np.where(stage.multiplier == 0, 1.0, stage.multiplier)
        start, step = (stage.clip.lower + 0.5) / multiplier - stage.offset, 1 / multiplier
        return _Input(name, tensor.shape, tensor.dtype, stage.clip.upper - stage.clip.lower + 1, start, step)
    first, last = ends.astype(np.float64)
    if tensor.dtype.kind == "f":
        return _Input(
            name, tensor.declared_shape, tensor.dtype, FLOAT_LEVELS, first[None], (last - first)[None] / (FLOAT_LEVELS - 1)
        )
    return _Input(
        name, tensor.declared_shape, tensor.dtype, int((last - first).max()) + 1, first[None], np.ones((1, *first.shape))
    )
