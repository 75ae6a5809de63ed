"""Running a model over many samples and collecting what is to be kept: the work behind ``npusim run``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from npusim.engine.cluster import Cluster, Feeds, Job
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession, NodeArg
from npusim.errors import UnsupportedError
from npusim.files.datasets import InputSpec
from npusim.graph import Array
from npusim.program import Batching, Program, Step
from npusim.program.trace import Trace, matching_names

__all__ = ["Simulation", "count_samples", "input_specs", "simulate", "simulate_parts"]

_DTYPE_NAMES = {"float": "float32", "double": "float64"}

PART_BYTES: Final = 64 * 2**20
"""About as many bytes are kept of one part of the samples."""

SENT_BYTES: Final = 8 * 2**20
"""The same where parts go to workers and come back, of which several wait at a time."""

EVEN_PART: Final = 1024
"""Larger parts are multiples of so many samples, which all threads have an equal share in."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a run over samples gave.

    Attributes
    ----------
    samples
        Number of samples.
    steps
        The steps of the program that ran.
    outputs
        The model's outputs by name.
    traced
        Other tensors that were asked for, as integer codes where they are integers.
    constant
        Names of those that are the same for all samples.
    """

    samples: int
    steps: tuple[Step, ...]
    outputs: Mapping[str, Array]
    traced: Mapping[str, Array]
    constant: frozenset[str]

    @property
    def arrays(self) -> dict[str, Array]:
        """Outputs and traced tensors by name."""
        return {**self.outputs, **self.traced}


def input_specs(session: InferenceSession) -> list[InputSpec]:
    """What the model wants for each of its inputs, for reading them from a file.

    Raises
    ------
    UnsupportedError
        If the model declares no shape for an input, so that nothing can be held against it.
    """
    if not all(argument.shape for argument in session.get_inputs()):
        _ = session.program  # there is one if the input is a number, whose shape is empty
    return [InputSpec(argument.name, _dtype(argument), tuple(argument.shape)) for argument in session.get_inputs()]


def simulate(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    patterns: Sequence[str] = (),
    codes: bool = False,
    progress: Progress | None = None,
) -> Simulation:
    """Run a model over samples.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    patterns
        Names or patterns with ``*``, ``?`` and ``[...]`` of tensors to keep besides the outputs.
    codes
        Give outputs as the integer codes that the device holds, where they are integers, instead of in the element type that
        the ONNX model declares. The values are the same.
    progress
        Called with the number of samples done and the number of all, after each part of the samples.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    UnknownTensorError
        If a pattern matches no tensor.
    """
    trace = session.trace(feeds, [*_declared(session), *patterns], progress=progress)
    return _simulation(session, trace, count_samples(feeds), codes=codes)


def simulate_parts(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    patterns: Sequence[str] = (),
    codes: bool = False,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Iterator[Simulation]:
    """Run a model over samples, part by part, so that what is kept never has to be in memory as a whole.

    Parameters
    ----------
    session, feeds, patterns, codes, progress
        As for :func:`simulate`; feeds may be mapped from a file.
    cluster
        Workers that compute the parts; None for this process.

    Yields
    ------
    Simulation
        What :func:`simulate` gives for the next samples.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    UnknownTensorError
        If a pattern matches no tensor.
    """
    total = count_samples(feeds)
    size = _part_size(session, patterns, PART_BYTES if cluster is None else SENT_BYTES) or total
    names = [*_declared(session), *patterns]
    if total <= size or len({len(array) for array in feeds.values()}) != 1:
        yield simulate(session, feeds, patterns=patterns, codes=codes, progress=progress)
        return
    starts = range(0, total, size)
    if cluster is not None:
        job = Job(_keeping, (session,), (names, codes))
        done = 0
        for found in cluster.results(job, feeds, starts):
            done += found.samples
            if progress is not None:
                progress(done, total)
            yield replace(found, steps=session.program.steps)
        return
    parts = ({name: array[start : start + size] for name, array in feeds.items()} for start in starts)
    done = 0

    def report(inside: int, _: int) -> None:
        if progress is not None:
            progress(done + inside, total)

    for start, trace in zip(starts, session.trace_chunks(parts, names, progress=report), strict=True):
        done = min(start + size, total)
        yield _simulation(session, trace, done - start, codes=codes)


def _keeping(session: InferenceSession, names: Sequence[str], codes: bool) -> Callable[[Feeds, int], Simulation]:
    """A part of the samples in a worker; the steps, which are as large as the model, stay there."""

    def keep(feeds: Feeds, start: int) -> Simulation:
        found = _simulation(session, session.trace(feeds, names, first=start), count_samples(feeds), codes=codes)
        return replace(found, steps=())

    return keep


def _part_size(session: InferenceSession, patterns: Sequence[str], most: int) -> int | None:
    """Samples of a part; None where the samples are not taken apart."""
    try:
        program = session.program
    except UnsupportedError:
        return None  # it depends on the inputs, their number among them
    if program.batching is Batching.FIXED or not program.inputs:
        return None
    names = dict.fromkeys([*map(program.resolve, program.outputs), *matching_names(patterns, program.tensors), *program.inputs])
    size = most // max(sum(_sample_bytes(program, name) for name in names), 1)
    return max(size // EVEN_PART * EVEN_PART or size, 1)


def _sample_bytes(program: Program, name: str) -> int:
    tensor = program.tensors.get(program.resolve(name))
    return 0 if tensor is None else math.prod(tensor.shape) * tensor.dtype.itemsize


def _declared(session: InferenceSession) -> dict[str, np.dtype[np.generic]]:
    return {argument.name: _dtype(argument) for argument in session.get_outputs()}


def _simulation(session: InferenceSession, trace: Trace, samples: int, *, codes: bool) -> Simulation:
    outputs = {
        name: trace[name] if codes else trace[name].astype(dtype, copy=False) for name, dtype in _declared(session).items()
    }
    traced = {name: array for name, array in trace.items() if name not in outputs}
    steps = tuple(layer.step for layer in trace.layers)
    return Simulation(samples, steps, outputs, traced, frozenset(name for name in trace if trace.is_constant(name)))


def count_samples(feeds: Mapping[str, Array]) -> int:
    """Samples on the first axis; 1 for inputs without axes."""
    first = next(iter(feeds.values()), None)
    return 1 if first is None or first.ndim == 0 else first.shape[0]


def _dtype(argument: NodeArg) -> np.dtype[np.generic]:
    label = argument.type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_DTYPE_NAMES.get(label, label))
