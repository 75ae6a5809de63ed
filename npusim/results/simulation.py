"""What ``npusim run`` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np

from npusim.engine.cluster import Cluster
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import Simulation, count_samples, simulate_parts
from npusim.errors import count
from npusim.files.arrays import writing_arrays
from npusim.graph import Array
from npusim.program.trace import step_kind
from npusim.results.base import CommandResult, StepIdentity, identity_of
from npusim.schemas.derivation import Count

__all__ = ["ArraySummary", "RunResult", "RunTotals", "run_to_archive"]


@dataclass(frozen=True, slots=True)
class ArraySummary:
    """An array of the archive.

    Attributes
    ----------
    name
        ONNX name of the tensor, and key in the archive.
    role
        Whether it is an output of the model.
    dtype
        NumPy dtype in the archive.
    shape
        Sizes, outermost axis first.
    smallest, largest
        Null for an array without elements.
    """

    name: str
    role: Literal["output", "traced"]
    dtype: str
    shape: tuple[Count, ...]
    smallest: float | bool | None
    largest: float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """Counts.

    Attributes
    ----------
    samples
        Samples run.
    layers
        Steps of the program.
    outputs
        Arrays of outputs.
    traced
        Arrays of traced tensors.
    """

    samples: Count
    layers: Count
    outputs: Count
    traced: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RunResult(CommandResult):
    """What a run over samples gave.

    Attributes
    ----------
    ok
        True: the command judges nothing.
    layers
        In execution order.
    findings
        Always empty: the command judges nothing.
    totals
        Counts.
    output
        The archive that was written.
    arrays
        In the order of the archive.
    """

    ok: Literal[True] = field(default=True, init=False)
    layers: tuple[StepIdentity, ...]
    findings: tuple[()] = field(default=(), init=False)
    totals: RunTotals
    output: str
    arrays: tuple[ArraySummary, ...]

    def summary(self) -> str:
        """The archive and what is in it."""
        return f"{self.output}: {count(len(self.arrays), 'array')}, {count(self.totals.samples, 'sample')}"


def run_to_archive(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    output: str,
    *,
    patterns: Sequence[str] = (),
    codes: bool = False,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a model over samples and write what is kept to an archive, part by part; the archive appears whole or not at all.

    Parameters
    ----------
    session, feeds, patterns, codes, cluster, progress
        As for :func:`npusim.engine.simulation.simulate_parts`.
    output
        The .npz archive.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    UsageError
        If a pattern matches no tensor, or the archive cannot be written.
    """
    parts = simulate_parts(session, feeds, patterns=patterns, codes=codes, cluster=cluster, progress=progress)
    first, total = next(parts), count_samples(feeds)
    layout = {name: (_whole_shape(first, name, total), array.dtype) for name, array in first.arrays.items()}
    ends: dict[str, tuple[Any, Any]] = {}
    with writing_arrays(output, layout) as append:
        for part in chain((first,), parts):
            for name, array in part.arrays.items():
                if name in first.constant and part is not first:
                    continue
                append(name, array)
                if array.size:
                    low, high = np.min(array), np.max(array)
                    before = ends.get(name, (low, high))
                    ends[name] = np.minimum(low, before[0]), np.maximum(high, before[1])
    return RunResult(
        model=identity_of(session),
        layers=tuple(StepIdentity(step.name, step.tensors[-1], step_kind(step)) for step in first.steps),
        totals=RunTotals(samples=total, layers=len(first.steps), outputs=len(first.outputs), traced=len(first.traced)),
        output=output,
        arrays=tuple(_summary(first, name, *layout[name], ends.get(name)) for name in layout),
    )


def _whole_shape(first: Simulation, name: str, total: int) -> tuple[int, ...]:
    """The shape of a tensor over all samples, from that over the first ones."""
    shape = first.arrays[name].shape
    if first.samples == total or name in first.constant:
        return shape
    return (shape[0] // first.samples * total, *shape[1:])


def _summary(
    first: Simulation, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], ends: tuple[Any, Any] | None
) -> ArraySummary:
    smallest, largest = (None, None) if ends is None else (ends[0].item(), ends[1].item())
    return ArraySummary(name, "output" if name in first.outputs else "traced", dtype.name, shape, smallest, largest)
