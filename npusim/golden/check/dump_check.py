"""Holding a device dump against what is right, value by value, and explaining the differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npusim.dumps import Dump, DumpArray, Role
from npusim.errors import InputError, UsageError
from npusim.golden.check.buffer_causes import Buffer
from npusim.golden.check.dump_arrays import pair_arrays, partial_match
from npusim.golden.check.evidence import Ranking
from npusim.golden.check.explain import Simulated, explain
from npusim.golden.check.readings import Place, Reading, read_as
from npusim.golden.input_stage import InputStage
from npusim.graph import Array
from npusim.program import Program
from npusim.trace import step_kind

__all__ = ["LAYOUTS", "Check", "Expectation", "Mismatch", "check_dump"]

LAYOUTS = ("nchw", "nhwc")
"""Orders of a dump's values: as in the graph, or with the channels last as the NPU keeps them."""


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What is right, for all sets.

    Attributes
    ----------
    program
        The model.
    feeds
        Inputs of the sets, samples on the first axis.
    variant
        The input stage.
    values
        Gives a tensor of the program over all sets as the device holds it.
    """

    program: Program
    feeds: Mapping[str, Array]
    variant: InputStage
    values: Callable[[str], Array]

    @property
    def sets(self) -> int:
        """Number of sets."""
        return len(next(iter(self.feeds.values())))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first value that differs.

    Attributes
    ----------
    set_index, index
        Set, and index in the tensor of one sample in ONNX layout.
    position
        Position in the dump's values of this set, from 0.
    seen, wanted
        The values.
    """

    set_index: int
    index: tuple[int, ...]
    position: int
    seen: float
    wanted: float


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """What a dump holds of one tensor against what is right.

    Attributes
    ----------
    tensor, layer, kind
        The tensor, the step that makes it and that step's kind.
    array
        How messages name the array, or the arrays of several sets.
    note
        How it was read, where the file leaves that open.
    sets
        Numbers of the sets compared.
    values, differing
        Numbers of values compared and of those that differ.
    largest
        Largest difference; codes count in steps.
    first
        The first difference.
    causes
        What explains the differences; None where there are none.
    """

    tensor: str
    layer: str
    kind: str
    array: str
    note: str
    sets: tuple[int, ...]
    values: int
    differing: int
    largest: float
    first: Mismatch | None
    causes: Ranking | None

    def __bool__(self) -> bool:
        """True when all values are equal."""
        return self.values > 0 and self.differing == 0


def check_dump(
    expectation: Expectation,
    dump: Dump,
    *,
    tensor: str | None = None,
    set_index: int | None = None,
    layout: str = "nchw",
    explained: bool = True,
) -> tuple[Check, ...]:
    """Compare a dump with what is right, exactly.

    Arrays of a test vector are compared set by set. Any other array is one set, the first unless another one is named, or all
    sets one after the other, as its length says.

    Parameters
    ----------
    expectation
        What is right.
    dump
        What the device wrote.
    tensor
        Name of the tensor; by default the array's name says it, or it is the model's only output.
    set_index
        The set that the device ran.
    layout
        One of `LAYOUTS`.
    explained
        Whether to look for causes of differences.

    Returns
    -------
    tuple
        At least one check.

    Raises
    ------
    InputError
        If an array has another length than the tensor, or none is a result.
    UsageError
        If there is no such set, tensor or layout.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout '{layout}'; the layouts are {', '.join(LAYOUTS)}")
    if set_index is not None and not 0 <= set_index < expectation.sets:
        raise UsageError(f"there is no set {set_index}; there are {expectation.sets}, counted from 0")
    groups: dict[str, list[tuple[DumpArray, int | None]]] = {}
    for array, name in pair_arrays(expectation.program, dump, tensor):
        chosen = set_index
        if array.role is Role.OUTPUT and array.set_index is not None:
            if set_index is not None and array.set_index != set_index:
                continue
            chosen = array.set_index
            if chosen >= expectation.sets:
                raise InputError(f"{dump.path}: {array.described} is set {chosen}, and there are only {expectation.sets}")
        groups.setdefault(name, []).append((array, chosen))
    if not groups:
        raise InputError(f"{dump.path}: holds no set {set_index}; leave out --set to compare what it holds")
    return tuple(_check(expectation, dump.path, parts, name, layout, explained) for name, parts in groups.items())


def _check(
    expectation: Expectation,
    path: str,
    parts: Sequence[tuple[DumpArray, int | None]],
    name: str,
    layout: str,
    explained: bool,
) -> Check:
    """Compare the arrays that hold one tensor."""
    right = expectation.values(name)
    if len(right) != expectation.sets:
        # a tensor without a batch axis: the sets' values stand one after the other on its first one
        right = right.reshape(expectation.sets, len(right) // expectation.sets, *right.shape[1:])
    ordered = _dump_order(right, layout)
    everything = ordered if ordered.dtype.kind == "f" else ordered.astype(np.int64)
    read = [_read(array, chosen, Place(name, right.dtype, ordered.shape[1], 1, path), everything) for array, chosen in parts]
    sets = [number for _, numbers in read for number in numbers]
    seen, expected = np.concatenate([reading.values for reading, _ in read]), everything[sets]
    differs = seen != expected
    step = next((step for step in expectation.program.steps if name in step.tensors), None)
    causes = None
    if differs.any() and explained:
        buffer = Buffer(seen, expected, right[sets], layout, sets, everything)
        causes = explain(buffer, Simulated(expectation.program, expectation.feeds, expectation.variant, name))
    return Check(
        name,
        "" if step is None else step.name,
        "INPUT" if step is None else step_kind(step),
        parts[0][0].described if len(parts) == 1 else f"{len(parts)} arrays '{parts[0][0].name}'",
        "; ".join(dict.fromkeys(reading.note for reading, _ in read if reading.note)),
        tuple(sets),
        differs.size,
        int(differs.sum()),
        float(np.abs(seen.astype(np.float64) - expected.astype(np.float64)).max()),
        _first(seen, expected, sets, right.shape[1:], layout),
        causes,
    )


def _read(array: DumpArray, chosen: int | None, place: Place, everything: Array) -> tuple[Reading, list[int]]:
    """How an array is read, and the sets that it holds.

    Where a file leaves several readings open, one that gives the right values is taken, else the first.
    """
    place = replace(place, sets=len(everything) if chosen is None else 1)
    try:
        readings = read_as(array, place)
    except InputError as error:
        raise InputError(f"{error}; {partial_match(array, everything[chosen or 0])}") from None
    ways = [(reading, list(range(len(reading.values))) if len(reading.values) > 1 else [chosen or 0]) for reading in readings]
    return next((way for way in ways if np.array_equal(way[0].values, everything[way[1]])), ways[0])


def _dump_order(values: Array, layout: str) -> Array:
    last = layout == "nhwc" and values.ndim > 2
    return (np.moveaxis(values, 1, -1) if last else values).reshape(len(values), -1)


def _first(seen: Array, expected: Array, sets: Sequence[int], shape: tuple[int, ...], layout: str) -> Mismatch | None:
    differs = seen != expected
    if not differs.any():
        return None
    row, position = (int(place) for place in np.argwhere(differs)[0])
    if layout == "nhwc" and len(shape) > 1:
        *rest, channel = np.unravel_index(position, (*shape[1:], shape[0]))
        index = (int(channel), *(int(place) for place in rest))
    else:
        index = tuple(int(place) for place in np.unravel_index(position, shape)) if shape else ()
    return Mismatch(sets[row], index, position, seen[row, position].item(), expected[row, position].item())
