"""The first layer that differs, from CRC-32s: of all layers, or by halves where a run gives one layer only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.golden.board.protocol import Transcript
from npusim.golden.check.dump_check import Expectation
from npusim.golden.folder.c_files import C_TYPES
from npusim.golden.folder.vectors import crc_of
from npusim.graph import Array
from npusim.program.trace import step_kind

__all__ = ["FirstLayer", "Judged", "KnownLayer", "KnownLayers", "first_value", "judge", "known_layers", "search_first"]

OUTPUT: Final = -1
"""The number of the model's output."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownLayer:
    """A layer as the harness numbers it.

    Attributes
    ----------
    number
        Its number, -1 for the output.
    tensor, layer, kind
        Its tensor, and the step that makes it.
    values
        What is right, samples on the first axis.
    """

    number: int
    tensor: str
    layer: str
    kind: str
    values: Array

    def ordered(self, number: int, order: int) -> Array:
        """The right values of a set in ONNX order, or channels last."""
        values = self.values[number]
        return np.moveaxis(values, 0, -1) if order and values.ndim > 1 else values


KnownLayers = tuple[KnownLayer, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """One layer over the sets.

    Attributes
    ----------
    layer
        The layer.
    sets
        Sets of which a CRC-32 came.
    wrong
        Those in which it differs.
    """

    layer: KnownLayer
    sets: tuple[int, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FirstLayer:
    """The first value that differs.

    Attributes
    ----------
    layer
        Its layer.
    set_index
        The set.
    position
        Place in the order that the board printed.
    index
        Place in the tensor in ONNX layout.
    seen, wanted
        The values.
    """

    layer: KnownLayer
    set_index: int
    position: int
    index: tuple[int, ...]
    seen: float
    wanted: float


def known_layers(expectation: Expectation, tensors: Sequence[dict[str, object]]) -> KnownLayers:
    """The layers of a golden folder's harness, in its order, the output last once more under its own number.

    Parameters
    ----------
    expectation
        What is right.
    tensors
        Entries of the manifest.
    """
    program = expectation.program
    steps = {name: step for step in program.steps for name in step.tensors}
    found = list[KnownLayer]()
    for item in tensors:
        name = str(item["name"])
        if item["role"] == "input":
            continue
        values = np.atleast_1d(expectation.values(program.resolve(name)))
        step = steps[program.resolve(name)]
        if values.dtype.name in C_TYPES:
            found.append(KnownLayer(len(found), name, step.name, step_kind(step), values))
    outputs = [layer for layer in found if layer.tensor in program.outputs]
    return (*found, *(KnownLayer(OUTPUT, one.tensor, one.layer, one.kind, one.values) for one in outputs[-1:]))


def judge(transcript: Transcript, layers: KnownLayers) -> tuple[Judged, ...]:
    """What the CRC-32s say of each layer of which one came, in the order of execution."""
    found = []
    for layer in layers:
        came = {number: crc for (number, place), crc in transcript.crcs.items() if place == layer.number}
        if any(number >= len(layer.values) for number in came):
            raise InputError(
                f"the board sent set {max(came)}, and the folder has {len(layer.values)} sets; flash its own harness"
            )
        wrong = [number for number, crc in came.items() if crc_of(layer.ordered(number, crc.order)) != crc.crc]
        if came:
            found.append(Judged(layer, tuple(sorted(came)), tuple(sorted(wrong))))
    return tuple(found)


def search_first(layers: Sequence[KnownLayer], is_wrong: Callable[[KnownLayer], bool]) -> KnownLayer:
    """The first layer that differs, where the last one does; at most log2 of their number are asked for, rounded up.

    What is found is wrong, and the layer before it right; a fault in front of it that shows nowhere behind is not seen.

    Examples
    --------
    >>> layers = [KnownLayer(number, "", "", "", np.zeros(0)) for number in range(10)]
    >>> search_first(layers, lambda layer: layer.number >= 3).number
    3
    """
    first, last = 0, len(layers) - 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if is_wrong(layers[middle]) else (middle + 1, last)
    return layers[last]


def first_value(transcript: Transcript, layer: KnownLayer, number: int) -> FirstLayer:
    """The first value of a layer that differs, from values that the board printed.

    Raises
    ------
    InputError
        If values are missing, or none differs although the CRC-32 does.
    """
    held = transcript.values.get((number, layer.number), {})
    right = layer.values[number]
    missing = [place for place in range(right.size) if place not in held]
    if missing or len(held) != right.size:
        raise InputError(
            f"of the values of '{layer.tensor}' in set {number} came {len(held)} of {right.size}, the first missing one is "
            f"{missing[0] if missing else right.size}"
        )
    order = held[0][0]
    seen = np.array([_value(held[place][1], right.dtype) for place in range(right.size)], np.float64)
    wanted = layer.ordered(number, order).reshape(-1).astype(np.float64)
    differs = seen != wanted
    if not differs.any():
        raise InputError(f"the values of '{layer.tensor}' in set {number} are right, and their CRC-32 was not; run it again")
    position = int(differs.argmax())
    places = np.arange(right.size).reshape(right.shape)
    inner = int((np.moveaxis(places, 0, -1) if order and right.ndim > 1 else places).reshape(-1)[position])
    index = tuple(int(axis) for axis in np.unravel_index(inner, right.shape))
    return FirstLayer(layer, number, position, index, float(seen[position]), float(wanted[position]))


def _value(pattern: str, dtype: np.dtype[np.generic]) -> float:
    """A bit pattern as a value; one of more digits than the type has bits is no value of the type."""
    size = len(pattern) // 2
    bits = int(pattern, 16)
    if dtype.kind == "f":
        return float(np.array(bits, np.uint32).view(np.float32))
    signed = dtype.kind == "i" or size > dtype.itemsize
    return float(bits - (1 << 8 * size) if signed and bits >> (8 * size - 1) else bits)
