"""The samples and labels that models are compared on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.comparison.code_sums import IntegerArray
from npusim.comparison.outputs import LABEL_KEYS, read_labels
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import count_samples, input_specs
from npusim.errors import InputError, UsageError
from npusim.files.arrays import list_npz, read_npz
from npusim.files.datasets import InputSpec, check_samples, read_inputs, width_note, with_width
from npusim.files.element_types import convert_exactly
from npusim.graph import Array
from npusim.program import Batching
from npusim.results.base import SampleSource
from npusim.results.samples import DEFAULT_SAMPLES, Announce, Inputs, arrays_of, silent
from npusim.search.sampling import generate_inputs

__all__ = ["Kept", "Labels", "read_compared"]

Labels = str | os.PathLike[str] | npt.NDArray[Any]
"""A file, or an array."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The samples that are compared where some are left out.

    Attributes
    ----------
    numbers
        Of those that are left, int64.
    excluded
        How many were left out.
    """

    numbers: IntegerArray
    excluded: int

    @classmethod
    def of(cls, count: int, excluded: Sequence[int]) -> Kept:
        """Leave some of a number of samples out.

        Raises
        ------
        InputError
            If there is no such sample, or none is left.

        Examples
        --------
        >>> Kept.of(5, [1, 3, 1]).numbers
        array([0, 2, 4])
        """
        left_out = sorted(set(excluded))
        beyond = [number for number in left_out if not 0 <= number < count]
        if beyond:
            raise InputError(f"sample {beyond[0]} is to be left out, and there are samples 0 to {count - 1}; name one of them")
        if len(left_out) == count:
            raise InputError(f"all {count} samples are left out; leave at least one to compare")
        return cls(np.setdiff1d(np.arange(count), left_out), len(left_out))

    def feeds(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The samples that are left."""
        return {name: np.asarray(array)[self.numbers] for name, array in feeds.items()}


def read_compared(
    session: InferenceSession,
    data: Inputs | None,
    labels: Labels | None,
    samples: int | None,
    seed: int | None,
    *,
    extremes: bool,
    announce: Announce = silent,
) -> tuple[dict[str, Array], Array | None, SampleSource]:
    """Samples, labels, and where they are from.

    Parameters
    ----------
    session
        The model that the samples are for.
    data, labels
        Files or arrays; without the first samples are generated. Labels may also stand in a .npz file of samples.
    samples, seed
        Of generated samples.
    extremes
        Whether generated samples begin with extremes, also beyond the range of the input stage.
    announce
        Called with a sentence about what was done to the samples of a file.

    Raises
    ------
    InputError
        If a file does not fit.
    UsageError
        If options contradict each other.
    """
    if data is None:
        if labels is not None:
            raise UsageError("--labels are for the samples in --data; give both")
        if session.program.batching is Batching.FIXED:
            raise UsageError(
                f"no samples can be generated for {session.model.label}; give --data, a .npz, .npy, .csv or .parquet file"
            )
        chosen = 0 if seed is None else seed
        wanted = DEFAULT_SAMPLES if samples is None else samples
        feeds = generate_inputs(session.program, wanted, seed=chosen, extremes=extremes)
        return feeds, None, SampleSource(None, chosen)
    if samples is not None or seed is not None:
        raise UsageError("--samples and --seed are for generated samples; leave them out where --data is given")
    if not isinstance(data, (str, os.PathLike)):
        feeds = arrays_of(session, data)
        return feeds, None if labels is None else _labels(labels, count_samples(feeds)), SampleSource(None, None)
    path = os.fspath(data)
    feeds = _read_samples(path, input_specs(session), announce)
    found = _labels_beside(path, count_samples(feeds), session) if labels is None else _labels(labels, count_samples(feeds))
    return feeds, found, SampleSource(path, None)


def _labels(labels: Labels, count: int) -> Array:
    return read_labels(os.fspath(labels), count) if isinstance(labels, (str, os.PathLike)) else np.asarray(labels)


def _read_samples(path: str, specs: list[InputSpec], announce: Announce) -> dict[str, Array]:
    """The samples; of a .npz file whose names say nothing, the only array that fits the only input."""
    if Path(path).suffix.lower() != ".npz" or len(specs) != 1 or specs[0].name in list_npz(path):
        return read_inputs(path, specs, announce)
    arrays = read_npz(path, list_npz(path))
    fitting = {key: array for key, array in arrays.items() if _fits(array, specs[0])}
    if len(fitting) != 1:
        return read_inputs(path, specs, announce)
    key, array = next(iter(fitting.items()))
    where = f"{path}: array '{key}'"
    widened = with_width(array, specs[0])
    if widened is not None:
        announce(width_note(where, array, specs[0]))
    return {specs[0].name: convert_exactly(array if widened is None else widened, specs[0].dtype, where)}


def _fits(array: Array, spec: InputSpec) -> bool:
    widened = with_width(array, spec)
    try:
        check_samples(array if widened is None else widened, spec, "")
    except InputError:
        return False
    return array.dtype.kind in "iuf"


def _labels_beside(path: str, count: int, session: InferenceSession) -> Array | None:
    """Labels in the same .npz file, one for each sample; class numbers that the output has no scores for are left alone."""
    if Path(path).suffix.lower() != ".npz":
        return None
    keys = [key for key in LABEL_KEYS if key in list_npz(path)]
    if len(keys) != 1:
        return None
    values = read_npz(path, keys)[keys[0]]
    if values.dtype.kind not in "iuf" or values.ndim == 0 or len(values) != count:
        raise InputError(
            f"{path}: array '{keys[0]}' has shape {list(values.shape)}, wanted one label for each of {count} samples; name the "
            "labels with --labels, or save them under another name"
        )
    output = session.program.tensors.get(session.program.resolve(session.program.outputs[0]))
    scores = 0 if output is None else int(np.prod(output.shape))
    if values.dtype.kind in "iu":
        return values.astype(np.int64) if int(values.max()) < scores or scores == 1 else None
    return values.astype(np.float64)
