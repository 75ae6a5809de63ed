"""What the rules for findings look at: the program, what its codes do on data, and what the comparison gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.comparison.code_sums import IntegerArray
from npusim.comparison.sums import FloatArray
from npusim.engine.session import InferenceSession
from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, Clip, HostOperation, IntegerLayer, Program, QuantizeStage, Step
from npusim.program.lowering.floats import Role, roles_of_step
from npusim.verification.comparison import Progress, need_samples, sample_chunks

if TYPE_CHECKING:
    from npusim.comparison.result import FloatComparison, LayerComparison

__all__ = ["CodeObservation", "SampleErrors", "Scene", "Sign", "clip_of", "moves_codes", "observe_codes"]


@dataclass(frozen=True, slots=True)
class Sign:
    """One occurrence of what a rule looks for.

    Attributes
    ----------
    layer
        Name of the step.
    evidence
        The numbers, for the rule's message.
    severity
        Instead of the rule's own.
    """

    layer: str
    evidence: Mapping[str, Any]
    severity: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is known of a model.

    Attributes
    ----------
    program
        Its program.
    observations
        Codes on data by name of the step; empty where no data was given.
    comparison
        The comparison with the float model; None without one.
    """

    program: Program
    observations: Mapping[str, CodeObservation] = field(default_factory=dict)
    comparison: FloatComparison | None = None

    @property
    def pools(self) -> Iterator[Accumulating]:
        """The average pools."""
        layers = (layer for layer in self.program.layers if isinstance(layer, Accumulating))
        return (layer for layer in layers if layer.mean_of is not None)

    def compared(self, name: str) -> LayerComparison | None:
        """A step's comparison with the float model, where there is one."""
        layers = () if self.comparison is None else self.comparison.layers
        return next((layer for layer in layers if layer.name == name), None)

    def before(self, name: str) -> set[str | None]:
        """Names of the steps that a step depends on."""
        producers = {tensor: step for step in self.program.steps for tensor in step.tensors}
        waiting = [step for step in self.program.steps if step.name == name]
        found: set[str | None] = set()
        while waiting:
            for tensor in self.program.inputs_of(waiting.pop()):
                step = producers.get(self.program.resolve(tensor))
                if step is not None and step.name not in found:
                    found.add(step.name)
                    waiting.append(step)
        return found

    def source_of(self, tensor: str) -> Step | None:
        """The step whose codes a tensor holds, through operations that only move codes; None for inputs of the model."""
        producers = {name: step for step in self.program.steps for name in step.tensors}
        step = producers.get(self.program.resolve(tensor))
        while step is not None and moves_codes(step):
            step = producers.get(self.program.resolve(self.program.inputs_of(step)[0]))
        return step


def moves_codes(step: Step) -> bool:
    """Whether a step only moves codes or brings them into another range: a maximum pool, a reshape, a concatenation."""
    if isinstance(step, IntegerLayer):
        return Role.MAXIMUM in roles_of_step(step)
    return isinstance(step, HostOperation) and is_a(step.operator, Trait.MOVES, Trait.LIMITS)


CHUNK = 64
"""Samples traced at once."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleErrors:
    """What an input stage does to each sample.

    Attributes
    ----------
    energy
        ``sum (code - u)^2`` over the values of the sample, with ``u`` what the stage would give without rounding and without a
        clip, in LSB^2; float64 ``[samples]``.
    clipped_share
        Share of the values that the clip cuts off at either end, float64 ``[samples]``.
    beyond
        How far beyond the clip they reach at most, in LSB, int64 ``[samples]``.
    """

    energy: FloatArray
    clipped_share: FloatArray
    beyond: IntegerArray


@dataclass(frozen=True, slots=True, eq=False)
class CodeObservation:
    """The codes of one step over all samples.

    Attributes
    ----------
    smallest, largest
        int64 ``[channels]``; one entry for tensors without a channel axis.
    values
        Values counted for `above` and `below`; 0 where the values before the clip are not known.
    above, below
        Values that the clip cuts off at its upper and at its lower end.
    beyond_upper, beyond_lower
        How far beyond the clip they reach, in LSB.
    samples
        For stages that read an input of the model: sample by sample; None for all other steps.
    """

    smallest: IntegerArray
    largest: IntegerArray
    values: int = 0
    above: int = 0
    below: int = 0
    beyond_upper: int = 0
    beyond_lower: int = 0
    samples: SampleErrors | None = None

    def __add__(self, other: CodeObservation) -> CodeObservation:
        """Both together, but for `samples`, which are put together at the end."""
        return CodeObservation(
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
            self.values + other.values,
            self.above + other.above,
            self.below + other.below,
            max(self.beyond_upper, other.beyond_upper),
            max(self.beyond_lower, other.beyond_lower),
        )


def observe_codes(
    session: InferenceSession, feeds: Mapping[str, Array], *, progress: Progress | None = None
) -> dict[str, CodeObservation]:
    """Run a model and watch the codes of every step that gives integers.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    progress
        Called after each part of the samples.

    Returns
    -------
    dict
        By name of the step.

    Raises
    ------
    InputError
        If the inputs do not fit, or there are no samples.
    """
    program = session.program
    need_samples(program, feeds)
    watched = {step.name: step for step in program.steps if program.tensors[step.tensors[-1]].is_integer}
    before = {name: _before_clip(program, step) for name, step in watched.items()}
    stages = {name: floor for name, step in watched.items() if (floor := _input_floor(program, step)) is not None}
    wanted = {step.tensors[-1] for step in watched.values()} | {tensor for tensor in before.values() if tensor is not None}
    wanted |= {tensor for floor in stages.values() for tensor in floor}
    found: dict[str, CodeObservation] = {}
    errors: dict[str, list[SampleErrors]] = {name: [] for name in stages}
    for start, chunk, total in sample_chunks(program, feeds, CHUNK):
        trace = session.trace(chunk, sorted(wanted))
        for name, step in watched.items():
            tensor = before[name]
            seen = _observed(step, trace[step.tensors[-1]], None if tensor is None else trace[tensor])
            found[name] = found[name] + seen if name in found else seen
        for name, (unrounded, unclipped) in stages.items():
            errors[name].append(_sample_errors(trace[unrounded], trace[unclipped], trace[watched[name].tensors[-1]]))
        if progress is not None:
            progress(start + len(next(iter(chunk.values()))), total)
    return found | {name: replace(found[name], samples=_joined(parts)) for name, parts in errors.items()}


def clip_of(step: Step) -> Clip | None:
    """The final saturation of an integer layer or a quantize stage; None for what has none."""
    if isinstance(step, QuantizeStage):
        return step.clip
    if isinstance(step, Accumulating):
        return step.output_clip
    return None


def _before_clip(program: Program, step: Step) -> str | None:
    """The tensor that a step's clip is applied to: of a layer where the graph has it in integers, of a stage its floor."""
    if isinstance(step, QuantizeStage):
        return step.floor.outputs[0]
    if not isinstance(step, Accumulating):
        return None
    open_taps = [tap.tensor for tap in step.taps if tap.saturation is None]
    return open_taps[-1] if open_taps and program.tensors[open_taps[-1]].is_integer else None


def _input_floor(program: Program, step: Step) -> tuple[str, str] | None:
    """What the floor of a stage at an input of the model reads and gives; None for all other steps."""
    if not isinstance(step, QuantizeStage) or program.resolve(step.input) not in program.inputs:
        return None
    return (step.floor.inputs[0], step.floor.outputs[0]) if step.floor.inputs[0] in {step.input, *step.tensors} else None


def _sample_errors(unrounded: Array, unclipped: Array, codes: Array) -> SampleErrors:
    rows, before, after = (one.reshape(len(one), -1).astype(np.float64) for one in (unrounded, unclipped, codes))
    # the half LSB that makes the floor round is in the offset
    error = after - (rows - 0.5)
    cut = np.abs(before - after)
    return SampleErrors(np.einsum("ij,ij->i", error, error), (cut > 0).mean(axis=1), cut.max(axis=1).astype(np.int64))


def _joined(parts: list[SampleErrors]) -> SampleErrors:
    return SampleErrors(
        np.concatenate([part.energy for part in parts]),
        np.concatenate([part.clipped_share for part in parts]),
        np.concatenate([part.beyond for part in parts]),
    )


def _observed(step: Step, codes: Array, unclipped: Array | None) -> CodeObservation:
    rows = codes.reshape(len(codes), 1) if codes.ndim < 2 else np.moveaxis(codes, 1, 0).reshape(codes.shape[1], -1)
    ends = rows.min(axis=1).astype(np.int64), rows.max(axis=1).astype(np.int64)
    clip = clip_of(step)
    if unclipped is None or clip is None:
        return CodeObservation(*ends)
    return CodeObservation(
        *ends,
        int(unclipped.size),
        int(np.greater(unclipped, clip.upper).sum()),
        int(np.less(unclipped, clip.lower).sum()),
        max(int(unclipped.max()) - clip.upper, 0),
        max(clip.lower - int(unclipped.min()), 0),
    )
