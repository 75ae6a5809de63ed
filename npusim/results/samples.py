"""The samples that results are about: given as arrays, read from a file, or generated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import UsageError
from npusim.files.datasets import InputSpec, read_inputs, with_width
from npusim.graph import Array
from npusim.program import Batching
from npusim.results.base import SampleSource
from npusim.search.sampling import generate_inputs

__all__ = ["DEFAULT_SAMPLES", "Announce", "Inputs", "arrays_of", "choose_inputs", "silent"]

DEFAULT_SAMPLES: Final = 64

Inputs = str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | npt.NDArray[Any]
"""A ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` file, arrays by input name, or the array of a model with one input."""

Announce = Callable[[str], None]


def silent(_sentence: str) -> None:
    """Announces nothing."""


def arrays_of(session: InferenceSession, inputs: Mapping[str, npt.ArrayLike] | npt.NDArray[Any]) -> dict[str, Array]:
    """Arrays by input name; those that differ from an input in a last axis of size 1 only have its shape."""
    specs = {spec.name: spec for spec in input_specs(session)}
    if isinstance(inputs, Mapping):
        return {name: _shaped(np.asarray(values), specs.get(name)) for name, values in inputs.items()}
    names = [argument.name for argument in session.get_inputs()]
    if len(names) != 1:
        raise UsageError(f"{session.model.label} has {len(names)} inputs; give a dictionary of arrays, one for each")
    return {names[0]: _shaped(np.asarray(inputs), specs.get(names[0]))}


def _shaped(values: Array, spec: InputSpec | None) -> Array:
    widened = None if spec is None else with_width(values, spec)
    return values if widened is None else widened


def choose_inputs(
    session: InferenceSession,
    inputs: Inputs | None,
    samples: int | None,
    seed: int | None,
    announce: Announce | None = None,
) -> tuple[dict[str, Array], SampleSource]:
    """The samples to work on, and what is said of them.

    Without `announce`, samples of a file must have exactly the shape of the input; else as :func:`read_inputs` says.

    Raises
    ------
    UsageError
        If samples are given, and their number or seed as well; or none can be generated.
    InputError
        If a file does not fit the model.
    """
    if inputs is not None:
        if samples is not None or seed is not None:
            raise UsageError("a number of samples and a seed are for generated samples; leave them out where inputs are given")
        if isinstance(inputs, (str, os.PathLike)):
            return read_inputs(inputs, input_specs(session), announce), SampleSource(os.fspath(inputs), None)
        return arrays_of(session, inputs), SampleSource(None, None)
    if session.program.batching is Batching.FIXED:
        raise UsageError(
            f"{session.model.label} has no batch axis of one sample, so no samples can be generated for it; give INPUTS, a "
            ".npz, .npy, .csv or .parquet file"
        )
    chosen = 0 if seed is None else seed
    feeds = generate_inputs(session.program, DEFAULT_SAMPLES if samples is None else samples, seed=chosen)
    return feeds, SampleSource(None, chosen)
