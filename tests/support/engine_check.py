"""Compares the engines on every tensor of a program: element type, shape and bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from npusim import Program
from npusim.engine.fast import FastPlan
from npusim.engine.reference import run_steps
from npusim.engine.runner import ChunkRunner, run_chunked
from npusim.graph import Array

__all__ = ["COUNTS", "Cut", "assert_same", "every_tensor", "reference_tensors", "samples_for"]

COUNTS = (1, 2, 7, 63, 64, 65, 130, 200)
"""Numbers of samples around the sizes of the fast engine's chunks."""


@dataclass(frozen=True)
class Cut:
    """A plan of the fast engine that is given fewer samples at once than it would take, on as many threads as asked for."""

    plan: FastPlan
    samples: int
    fewest_samples: int = 1

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        return self.plan.run(feeds, targets)


def every_tensor(program: Program, runner: ChunkRunner, feeds: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    """All tensors of a program, by the names that are not aliases."""
    names = {program.resolve(name) for name in program.tensors}
    return run_chunked(program, runner, feeds, names, threads=threads)


def reference_tensors(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of a program that takes stacked samples, computed at once by the reference engine."""
    return run_steps(program, feeds, {program.resolve(name) for name in program.tensors})


def assert_same(
    found: Mapping[str, Array], wanted: Mapping[str, Array], chosen: object = slice(None), fixed: object = ()
) -> None:
    """Equal in names, element types, shapes and bits to `chosen` samples of `wanted`, and all of what is `fixed`."""
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        expected = values if name in fixed else values[chosen]
        assert found[name].dtype == expected.dtype, name
        assert found[name].shape == expected.shape, name
        if np.ascontiguousarray(found[name]).tobytes() != np.ascontiguousarray(expected).tobytes():
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
            raise AssertionError(f"signs of zero in {name}, of {len(expected)} samples")


def samples_for(program: Program, count: int, seed: int = 0, deviation: float = 3.0) -> dict[str, Array]:
    """Random inputs that begin with extremes: zeros of both signs, a denormal number and saturating ones."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for name in program.inputs:
        tensor = program.tensors[name]
        shape = (count, *tensor.shape[1:])
        if tensor.dtype.kind in "iu":
            info = np.iinfo(tensor.dtype.str)
            values = generator.integers(info.min, info.max, shape, endpoint=True)
            values[-1:] = info.min
        else:
            values = generator.normal(0, deviation, shape)
            extremes = (0.0, -0.0, 1e-45, 1e6, -1e6)
            for index, extreme in enumerate(extremes[: max(count - 1, 0)]):
                values[index] = extreme
        feeds[name] = values.astype(tensor.dtype)
    return feeds
