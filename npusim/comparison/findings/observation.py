"""What the codes of every layer do on data: the range of each channel, and how many values a saturation cuts off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npusim.comparison.code_sums import IntegerArray
from npusim.comparison.exact.comparison import Progress, sample_chunks
from npusim.graph import Array
from npusim.program import Clip, IntegerLayer, Program, QuantizeStage, Step
from npusim.session import InferenceSession

__all__ = ["CodeObservation", "clip_of", "observe_codes"]

CHUNK = 64
"""Samples traced at once."""


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
    """

    smallest: IntegerArray
    largest: IntegerArray
    values: int = 0
    above: int = 0
    below: int = 0
    beyond_upper: int = 0
    beyond_lower: int = 0

    def __add__(self, other: CodeObservation) -> CodeObservation:
        """Both together."""
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
    watched = {step.name: step for step in program.steps if program.tensors[step.tensors[-1]].is_integer}
    before = {name: _before_clip(program, step) for name, step in watched.items()}
    wanted = {step.tensors[-1] for step in watched.values()} | {tensor for tensor in before.values() if tensor is not None}
    found: dict[str, CodeObservation] = {}
    for start, chunk, total in sample_chunks(program, feeds, CHUNK):
        trace = session.trace(chunk, sorted(wanted))
        for name, step in watched.items():
            tensor = before[name]
            seen = _observed(step, trace[step.tensors[-1]], None if tensor is None else trace[tensor])
            found[name] = found[name] + seen if name in found else seen
        if progress is not None:
            progress(start + len(next(iter(chunk.values()))), total)
    return found


def clip_of(step: Step) -> Clip | None:
    """The final saturation of an integer layer or a quantize stage; None for what has none."""
    if isinstance(step, QuantizeStage):
        return step.clip
    if isinstance(step, IntegerLayer) and step.requantization is not None:
        return step.requantization.clip
    return None


def _before_clip(program: Program, step: Step) -> str | None:
    """The tensor that a step's clip is applied to: of a layer where the graph has it in integers, of a stage its floor."""
    if isinstance(step, QuantizeStage):
        return next((node.outputs[0] for node in step.nodes if node.op_type == "Floor"), None)
    if not isinstance(step, IntegerLayer) or step.requantization is None:
        return None
    open_taps = [tap.tensor for tap in step.taps if tap.clip is None]
    return open_taps[-1] if open_taps and program.tensors[open_taps[-1]].is_integer else None


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
