"""Running a model over many samples and collecting what is to be kept: the work behind ``npusim run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession, NodeArg
from npusim.files.datasets import InputSpec
from npusim.graph import Array
from npusim.program import Step

__all__ = ["Simulation", "input_specs", "simulate"]

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
    declared = {argument.name: _dtype(argument) for argument in session.get_outputs()}
    trace = session.trace(feeds, [*declared, *patterns], progress=progress)
    outputs = {name: trace[name] if codes else trace[name].astype(dtype, copy=False) for name, dtype in declared.items()}
    traced = {name: array for name, array in trace.items() if name not in outputs}
    return Simulation(_count(feeds), tuple(layer.step for layer in trace.layers), outputs, traced)


def _count(feeds: Mapping[str, Array]) -> int:
    """Samples on the first axis; 1 for inputs without axes."""
    first = next(iter(feeds.values()), None)
    return 1 if first is None or first.ndim == 0 else first.shape[0]


def _dtype(argument: NodeArg) -> np.dtype[np.generic]:
    label = argument.type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_DTYPE_NAMES.get(label, label))
