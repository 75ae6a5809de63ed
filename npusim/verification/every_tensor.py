"""Does the integer program equal ONNX Runtime, tensor by tensor? The main job.

Every tensor is compared for equality. The one freedom that exists, the order in which a float32 sum is rounded, is handled
without any tolerance for integers: behind such an operation each step is given ONNX Runtime's own inputs, and must then
give its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npusim.engine.reference import run_step
from npusim.errors import InternalMismatchError
from npusim.graph import Array
from npusim.graph.ranges import EXACT_FLOAT32
from npusim.program import Batching, HostOperation, IntegerLayer, Program, Step, TapSource
from npusim.rounding import is_free, rounding_limit
from npusim.second_opinion import SecondOpinion, runtime_version
from npusim.session import InferenceSession
from npusim.trace import step_kind

__all__ = ["Difference", "StepComparison", "Verification", "verify"]

CHUNK = 16
"""Samples compared at once: every tensor of both sides is held in memory meanwhile."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first element that differs.

    Attributes
    ----------
    tensor
        ONNX name.
    index
        Position, the sample first.
    npusim, onnxruntime
        Both values.
    """

    tensor: str
    index: tuple[int, ...]
    npusim: float
    onnxruntime: float


@dataclass(slots=True)
class StepComparison:
    """One step against ONNX Runtime, over all samples.

    Attributes
    ----------
    name, kind, tensor
        The step, its kind, and the tensor it produces.
    comparison
        ``exact``: all values equal is demanded. ``exact_given_inputs``: demanded with ONNX Runtime's own inputs, because a
        float sum before may be rounded in another order. ``bounded``: a float operation whose rounding order is free;
        within the limit computed from its operands is demanded.
    elements
        Values compared, inner tensors included.
    mismatches
        Values that break the demand.
    largest_difference
        Of all values compared as demanded, in LSB for integers.
    limit
        For ``bounded``: the largest limit of any element.
    carried
        For the kinds behind a free rounding order: values that differ end to end, because their inputs already do.
    beyond_float32
        Inner values past 2**24 that ONNX Runtime could only hold rounded: integers are right there, float32 cannot be. The
        codes that follow from them are compared like any others.
    first_difference
        Where the demand is first broken.
    """

    name: str
    kind: str
    tensor: str
    comparison: str = "exact"
    elements: int = 0
    mismatches: int = 0
    largest_difference: float = 0.0
    limit: float = 0.0
    carried: int = 0
    beyond_float32: int = 0
    first_difference: Difference | None = None

    def take(
        self, tensor: str, ours: Array, theirs: Array, start: int, *, limits: Array | None = None, beyond: Array | None = None
    ) -> None:
        """Compare one tensor of some samples; `start` is the number of the first."""
        if ours.shape != theirs.shape:
            raise InternalMismatchError(
                f"tensor '{tensor}' has shape {list(ours.shape)} here and {list(theirs.shape)} in onnxruntime"
            )
        difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs) if ours.dtype.kind == "f" else False)
        if beyond is not None:
            self.beyond_float32 += int((beyond & ~same).sum())
            same |= beyond
        difference = np.where(same, 0.0, difference)
        broken = ~same if limits is None else ~(same | (difference <= limits))
        self.elements += ours.size
        self.mismatches += int(broken.sum())
        self.largest_difference = max(self.largest_difference, float(difference.max(initial=0.0)))
        if limits is not None:
            self.limit = max(self.limit, float(limits.max(initial=0.0)))
        if self.first_difference is None and broken.any():
            place = tuple(int(item) for item in np.argwhere(broken)[0])
            shown = (place[0] + start, *place[1:]) if place else place
            self.first_difference = Difference(tensor, shown, ours[place].item(), theirs[place].item())


@dataclass(slots=True)
class Verification:
    """The result of :func:`verify`; true when everything demanded holds.

    Attributes
    ----------
    samples
        Number of samples compared.
    steps
        One comparison for each step, and first one for the constants that nodes compute, where there are any.
    optimized_mismatches
        Output values at which ONNX Runtime with its graph optimizations differs from itself without.
    outputs
        Number of output values.
    onnxruntime
        Its version.
    """

    samples: int = 0
    steps: list[StepComparison] = field(default_factory=list)
    optimized_mismatches: int = 0
    outputs: int = 0
    onnxruntime: str = ""

    @property
    def ok(self) -> bool:
        """True when at least one value was compared and none breaks its demand."""
        return self.elements > 0 and self.mismatches == 0

    def __bool__(self) -> bool:
        return self.ok

    @property
    def elements(self) -> int:
        """Values compared."""
        return sum(step.elements for step in self.steps)

    @property
    def mismatches(self) -> int:
        """Values that break their demand."""
        return sum(step.mismatches for step in self.steps)

    def __str__(self) -> str:
        exact = sum(step.comparison != "bounded" for step in self.steps)
        verdict = "equal" if self.ok else f"{self.mismatches} of {self.elements} values differ"
        return f"{verdict}: {len(self.steps)} steps ({exact} exact), {self.elements} values, {self.samples} samples"


def verify(
    session: InferenceSession, feeds: Mapping[str, Array], *, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Compare a model's integer program with ONNX Runtime on every tensor.

    Parameters
    ----------
    session
        The model, planned.
    feeds
        Inputs by name, samples on the first axis.
    progress
        Called with the number of samples done and the number of all.

    Raises
    ------
    ModelError
        If ONNX Runtime refuses the model.
    InputError
        If the inputs do not fit the model.
    InternalMismatchError
        If a tensor has another shape here than in ONNX Runtime.
    """
    program = session.program
    known = [name for name in program.tensors if name not in program.inputs]
    stacked = program.batching is not Batching.FIXED
    fixed = [name for name in known if program.resolve(name) in program.constants]
    plain = SecondOpinion(session.model, known, stacked=stacked, constants=fixed)
    optimized = SecondOpinion(session.model, optimized=True, stacked=stacked)
    comparer = _Comparer(program)
    result = Verification(onnxruntime=runtime_version())
    for start, chunk, total in _chunks(feeds, stacked):
        ours = session.trace(chunk)
        theirs = plain.run(chunk)
        comparer.take(ours, {**theirs, **chunk}, start)
        for name, values in optimized.run(chunk).items():
            result.outputs += values.size
            result.optimized_mismatches += int((values != theirs[name]).sum())
        result.samples += len(next(iter(chunk.values()))) if stacked else 1
        if progress is not None:
            progress(result.samples, total)
    result.steps = comparer.comparisons()
    return result


def _chunks(feeds: Mapping[str, Array], stacked: bool) -> Iterator[tuple[int, dict[str, Array], int]]:
    if not stacked or not feeds:
        yield 0, dict(feeds), 1
        return
    count = len(next(iter(feeds.values())))
    for start in range(0, count, CHUNK):
        yield start, {name: array[start : start + CHUNK] for name, array in feeds.items()}, count


class _Comparer:
    """Comparisons of all steps, filled chunk by chunk."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._constants = StepComparison("constants", "CONSTANT", "", "bounded")
        self._steps = [StepComparison(step.name, step_kind(step), step.tensors[-1]) for step in program.steps]
        self._free: set[str] = set()
        for step, comparison in zip(program.steps, self._steps, strict=True):
            behind = any(name in self._free for name in program.inputs_of(step))
            free = isinstance(step, HostOperation) and is_free(step.node) and _is_float(step, program)
            comparison.comparison = "bounded" if free else ("exact_given_inputs" if behind else "exact")
            if free or behind:
                self._free.update(step.tensors)

    def take(self, ours: Mapping[str, Array], theirs: Mapping[str, Array], start: int) -> None:
        """Compare all tensors of some samples."""
        produced = {name for step in self._program.steps for name in step.tensors}
        if start == 0:
            for name in ours:
                if (
                    name not in produced
                    and name in theirs
                    and name not in self._program.inputs
                    and name not in self._program.aliases
                ):
                    values = np.asarray(ours[name])
                    self._constants.take(name, values, theirs[name], 0, limits=np.abs(values.astype(np.float64)) * 2.0**-22)
        for step, comparison in zip(self._program.steps, self._steps, strict=True):
            self._compare_step(step, comparison, ours, theirs, start)

    def _compare_step(
        self, step: Step, comparison: StepComparison, ours: Mapping[str, Array], theirs: Mapping[str, Array], start: int
    ) -> None:
        if comparison.comparison == "exact":
            for name in step.tensors:
                comparison.take(name, ours[name], theirs[name], start, beyond=_beyond_float32(step, name, ours[name]))
            return
        program = self._program
        inputs = {name: theirs[name].astype(program.tensors[name].stored) for name in program.inputs_of(step)}
        local = run_step(program, step, inputs, set(step.tensors))
        for name in step.tensors:
            limits = None
            if comparison.comparison == "bounded" and isinstance(step, HostOperation):
                values = {**inputs, **{key: program.constants[key] for key in step.node.inputs if key in program.constants}}
                declared = {key: value.astype(_declared(program, key), copy=False) for key, value in values.items()}
                limits = rounding_limit(step.node, declared, local[name], program.opset)
            comparison.take(
                name, local[name], theirs[name], start, limits=limits, beyond=_beyond_float32(step, name, local[name])
            )
            comparison.carried += int((ours[name] != theirs[name]).sum())

    def comparisons(self) -> list[StepComparison]:
        """The comparison of each step; that of constants first, where nodes compute any."""
        return [*([self._constants] if self._constants.elements else []), *self._steps]


def _beyond_float32(step: Step, tensor: str, values: Array) -> Array | None:
    """Where an inner tensor of a layer stands for an integer past 2**24, so that a float32 runtime has rounded on the way."""
    tap = next((tap for tap in step.taps if tap.tensor == tensor), None) if isinstance(step, IntegerLayer) else None
    if tap is None or tap.clip is not None or tap.source is not TapSource.ACCUMULATOR or not isinstance(step, IntegerLayer):
        return None
    trailing = len(step.accumulator_shape) - 1 - step.channel_axis
    shift = tap.shift.reshape(-1, *(1,) * trailing)
    margin = 1 if tap.floored else 0
    return (np.abs(values.astype(np.float64)) + margin) * np.ldexp(1.0, shift) > EXACT_FLOAT32


def _declared(program: Program, name: str) -> np.dtype[Any]:
    return program.constants[name].dtype if name in program.constants else program.tensors[name].dtype


def _is_float(step: HostOperation, program: Program) -> bool:
    return program.tensors[step.tensors[0]].dtype.kind == "f" and not program.tensors[step.tensors[0]].is_integer
