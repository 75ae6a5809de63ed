"""Calibration samples: what is accepted, and how many are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.arrays import listed
from npusim.files.datasets import InputSpec, check_samples, with_width
from npusim.floats.network import FloatNetwork
from npusim.graph import Array

__all__ = ["FEWEST", "calibration_samples", "chosen_samples"]

FEWEST: Final = 8
"""Fewer samples say nothing about ranges."""

MOST: Final = 512
"""More samples than this tell little more; of more, a part drawn with a fixed seed is used."""

ELEMENTS: Final = 2**26
"""About so many elements of all tensors together are held at a time."""


def calibration_samples(network: FloatNetwork, given: Array | Mapping[str, Array]) -> dict[str, Array]:
    """Check calibration samples and take those that are used.

    Parameters
    ----------
    network
        The network to quantize.
    given
        The samples of its only input, or arrays by input name; any float or integer type. A last axis of size 1 may be missing
        or be there in addition.

    Returns
    -------
    dict
        float32 arrays [N, ...] by input name.

    Raises
    ------
    InputError
        If an input is missing or unknown, shapes or counts do not fit, samples are too few, not finite, or all zeros.
    """
    arrays = {next(iter(network.inputs)): given} if not isinstance(given, Mapping) else dict(given)
    if set(arrays) != set(network.inputs):
        raise InputError(f"calibration samples are given for {listed(arrays)}, wanted {listed(network.inputs)}")
    counts = set()
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise InputError(f"calibration samples of input '{name}' are not an array of numbers")
        spec = InputSpec(name, np.dtype(np.float32), network.inputs[name])
        widened = with_width(array, spec)
        arrays[name] = array if widened is None else widened
        check_samples(arrays[name], spec, f"calibration samples of input '{name}'")
        if not array.any():
            raise InputError(f"calibration samples of input '{name}' are all zeros, which says nothing about ranges")
        counts.add(array.shape[0])
    if len(counts) > 1:
        raise InputError(f"calibration samples of the inputs have different counts, {sorted(counts)}")
    count = counts.pop()
    if count < FEWEST:
        raise InputError(f"there are {count} calibration samples, wanted at least {FEWEST}, better some hundred")
    taken = chosen_samples(network, count)
    return {name: np.asarray(array)[taken].astype(np.float32) for name, array in arrays.items()}


def chosen_samples(network: FloatNetwork, count: int) -> slice | np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Which of so many calibration samples are used."""
    size = sum(int(np.prod(layer.output_shape)) for layer in network.layers)
    most = max(FEWEST, min(MOST, ELEMENTS // max(size, 1)))
    if count <= most:
        return slice(None)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])
