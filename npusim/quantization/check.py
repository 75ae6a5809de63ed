"""A written model is held against what quantization found: the same layers, and every code on some samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.engine.session import InferenceSession
from npusim.errors import InternalMismatchError
from npusim.floats.network import FloatArray
from npusim.graph import Array
from npusim.program import Accumulating, IntegerLayer, Program, Weighted, geometry_of

__all__ = ["check_layers", "check_same_layers", "check_tensors"]

CHECKED_SAMPLES = 8
"""Samples on which the emitted graph is compared with the integers it was made from."""


def check_layers(draft: Program, session: InferenceSession) -> None:
    """Make sure that the emitted graph is read as the layers it was made from.

    Raises
    ------
    InternalMismatchError
        If it is not.
    """
    read = {layer.output: layer for layer in session.program.layers}
    for made in draft.layers:
        if made.output not in read or not _equal(made, read[made.output]):
            raise InternalMismatchError(f"the emitted graph is read with another layer than '{made.name}'")


def check_same_layers(one: Program, other: Program) -> None:
    """Make sure that two programs have the same integers in the same order, whatever the shapes are.

    Raises
    ------
    InternalMismatchError
        If they have not.
    """
    first, second = ([_numbers(layer) for layer in program.layers] for program in (one, other))
    if first != second:
        raise InternalMismatchError("the graph with two spatial axes is read with other layers than that with one")


def _numbers(layer: IntegerLayer) -> tuple[object, ...]:
    weights = layer.weights.tobytes() if isinstance(layer, Weighted) else b""
    own = (layer.requantization, layer.output_clip) if isinstance(layer, Accumulating) else ()
    return type(layer), layer.output, layer.inputs, weights, *own


def check_tensors(session: InferenceSession, samples: Mapping[str, Array], wanted: Mapping[str, FloatArray]) -> None:
    """Make sure that the emitted graph gives every code that quantization found, by the names of tensors.

    Raises
    ------
    InternalMismatchError
        If it does not.
    """
    names = [name for name in wanted if name in session.program.tensors]
    trace = session.trace({name: values[:CHECKED_SAMPLES] for name, values in samples.items()}, names)
    for name in names:
        if not np.array_equal(np.asarray(trace[name], np.float64), wanted[name][:CHECKED_SAMPLES]):
            raise InternalMismatchError(f"the emitted graph gives other codes for '{name}' than quantization found")


def _equal(one: IntegerLayer, other: IntegerLayer) -> bool:
    """Whether two layers are of one class and have the same integers."""
    if type(one) is not type(other) or geometry_of(one) != geometry_of(other):
        return False
    if isinstance(one, Weighted) and isinstance(other, Weighted) and not np.array_equal(one.weights, other.weights):
        return False
    if isinstance(one, Accumulating) and isinstance(other, Accumulating):
        return one.requantization == other.requantization and one.output_clip == other.output_clip
    return True
