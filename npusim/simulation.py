"""Running a model over many samples and collecting what is to be kept: the work behind ``npusim run``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npusim.datasets import InputSpec
from npusim.errors import UnsupportedError
from npusim.graph import Array
from npusim.program import Batching, Program, Step
from npusim.session import InferenceSession, NodeArg
from npusim.trace import Trace

__all__ = ["Simulation", "input_specs", "simulate"]

CHUNK = 256
"""Samples between two reports of progress; changes no result."""

_DTYPE_NAMES = {"float": "float32", "double": "float64"}


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
    """

    samples: int
    steps: tuple[Step, ...]
    outputs: Mapping[str, Array]
    traced: Mapping[str, Array]

    @property
    def arrays(self) -> dict[str, Array]:
        """Outputs and traced tensors by name."""
        return {**self.outputs, **self.traced}


def input_specs(session: InferenceSession) -> list[InputSpec]:
    """What the model wants for each of its inputs, for reading them from a file."""
    return [InputSpec(argument.name, _dtype(argument), tuple(argument.shape)) for argument in session.get_inputs()]


def simulate(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    patterns: Sequence[str] = (),
    codes: bool = False,
    progress: Callable[[int, int], None] | None = None,
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
        Called with the number of samples done and the number of all.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    UnknownTensorError
        If a pattern matches no tensor.
    """
    declared = {argument.name: _dtype(argument) for argument in session.get_outputs()}
    stacked = _stacked_program(session)
    total = _count(feeds)
    parts: list[Trace] = []
    for start, chunk in _chunks(feeds, total if stacked is None else CHUNK):
        parts.append(session.trace(chunk, [*declared, *patterns]))
        if progress is not None:
            progress(start + _count(chunk), total)
    joined = {name: _join([part[name] for part in parts], name, stacked) for name in parts[0]}
    outputs = {name: joined[name] if codes else joined[name].astype(dtype, copy=False) for name, dtype in declared.items()}
    traced = {name: array for name, array in joined.items() if name not in outputs}
    return Simulation(total, tuple(layer.step for layer in parts[0].layers), outputs, traced)


def _stacked_program(session: InferenceSession) -> Program | None:
    """The program when samples are independent of each other, so that they can be run in parts; None otherwise."""
    try:
        program = session.program
    except UnsupportedError:  # sizes are left open: a program exists only for given inputs
        return None
    return program if program.batching is Batching.STACKED else None


def _chunks(feeds: Mapping[str, Array], size: int) -> Iterator[tuple[int, dict[str, Array]]]:
    total = _count(feeds)
    if total <= size:
        yield 0, dict(feeds)
        return
    for start in range(0, total, size):
        yield start, {name: array[start : start + size] for name, array in feeds.items()}


def _count(feeds: Mapping[str, Array]) -> int:
    """Samples on the first axis; 1 for inputs without axes."""
    first = next(iter(feeds.values()), None)
    return 1 if first is None or first.ndim == 0 else first.shape[0]


def _join(parts: Sequence[Array], name: str, program: Program | None) -> Array:
    if len(parts) == 1 or (program is not None and program.resolve(name) in program.constants):
        return parts[0]
    return np.concatenate(parts)


def _dtype(argument: NodeArg) -> np.dtype[np.generic]:
    label = argument.type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_DTYPE_NAMES.get(label, label))
