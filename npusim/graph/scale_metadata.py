"""What a quantized file says about the real value of its codes: an entry of the ONNX model's ``metadata_props``.

The integers of a graph do not say what one code is worth. Models made by npusim (``quantize``, ``PTQModule``, ``QATModule``)
say so in an entry ``npusim.code_scales``, a JSON object: for each tensor of codes, by its name, a list with one positive
number, the real value of one code, or one for each channel of the axis behind the batch.

    {"/conv1/Conv_output_0": [0.0123], "/gap/ReduceSum_output_0": [0.004, 0.0051, 0.0043]}

Nothing but comparisons with a float model reads it, and they check it against the weights. A file without it, or with one that
cannot be read, is as good as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.graph.graph import Array

__all__ = ["CODE_SCALES", "read_scales", "write_scales"]

CODE_SCALES: Final = "npusim.code_scales"
"""Name of the entry."""

DIGITS: Final = 9
"""Significant digits that are written: as many as a float32 has."""


def write_scales(scales: Mapping[str, Array]) -> dict[str, str]:
    """Metadata of the scales of tensors; nothing where there are none.

    Examples
    --------
    >>> write_scales({"a": np.array([0.5, 0.5]), "b": np.array([0.25, 0.5])})
    {'npusim.code_scales': '{"a": [0.5], "b": [0.25, 0.5]}'}
    """
    if not scales:
        return {}
    listed = {}
    for name, values in scales.items():
        flat = [float(f"{value:.{DIGITS}g}") for value in np.asarray(values, np.float64).ravel()]
        listed[name] = flat[:1] if len(set(flat)) == 1 else flat
    return {CODE_SCALES: json.dumps(listed, sort_keys=True)}


def read_scales(metadata: Mapping[str, str]) -> dict[str, npt.NDArray[np.float64]]:
    """The scales of tensors that metadata gives; none where there is no such entry or it cannot be read.

    Examples
    --------
    >>> read_scales({"npusim.code_scales": '{"a": [0.5], "b": "?"}'})
    {'a': array([0.5])}
    >>> read_scales({"npusim.code_scales": "?"})
    {}
    """
    try:
        listed = json.loads(metadata.get(CODE_SCALES, "{}"))
    except ValueError:
        return {}
    found: dict[str, npt.NDArray[np.float64]] = {}
    for name, values in listed.items() if isinstance(listed, dict) else ():
        if isinstance(values, list) and values and all(type(value) in (int, float) for value in values):
            scales = np.array(values, np.float64)
            if (np.isfinite(scales) & (scales > 0)).all():
                found[name] = scales
    return found
