"""What ``npusim run`` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from npusim.engine.session import InferenceSession
from npusim.engine.simulation import Simulation
from npusim.graph import Array
from npusim.program.trace import step_kind
from npusim.results.base import CommandResult, StepIdentity, identity_of
from npusim.schemas.derivation import Count

__all__ = ["ArraySummary", "RunResult", "RunTotals", "run_result"]


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
        return f"{self.output}: {len(self.arrays)} arrays, {self.totals.samples:,} samples"


def run_result(model: InferenceSession, result: Simulation, output: str) -> RunResult:
    """What was computed and written, as one result."""
    return RunResult(
        model=identity_of(model),
        layers=tuple(StepIdentity(step.name, step.tensors[-1], step_kind(step)) for step in result.steps),
        totals=RunTotals(
            samples=result.samples, layers=len(result.steps), outputs=len(result.outputs), traced=len(result.traced)
        ),
        output=output,
        arrays=tuple(_summary(name, array, traced=name not in result.outputs) for name, array in result.arrays.items()),
    )


def _summary(name: str, array: Array, *, traced: bool) -> ArraySummary:
    ends = (np.min(array).item(), np.max(array).item()) if array.size else (None, None)
    return ArraySummary(name, "traced" if traced else "output", array.dtype.name, array.shape, *ends)
