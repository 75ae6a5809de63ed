"""Which array of a dump is which tensor, and what its numbers are: one reading for every comparison with a dump."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from npusim.errors import InputError, UsageError
from npusim.files.dumps import FEATURES, Dump, DumpArray, Reading, Role, TensorForm, read_as
from npusim.graph import Array
from npusim.program import Program, Step
from npusim.program.trace import step_kind, unknown_tensor

__all__ = [
    "LAYOUTS",
    "DumpedTensor",
    "as_tensor",
    "device_output",
    "in_layout",
    "partial_match",
    "read_tensors",
    "unused_arrays",
]

LAYOUTS: Final = ("nchw", "nhwc")
"""Orders of a dump's values: as in the graph, or with the channels last as the NPU keeps them in memory."""

_RESULTS: Final = (None, Role.OUTPUT)

_SHAPED: Final = ("npy", "npz")
"""Formats whose arrays have shapes that mean something."""

LONGEST_SEARCH: Final = 4096
"""Places at which the right values are looked for in a longer dump."""


@dataclass(frozen=True, slots=True, eq=False)
class DumpedTensor:
    """A tensor as a dump holds it, beside what is right.

    Attributes
    ----------
    name, layer, kind
        The tensor, the step that makes it and that step's kind; ``INPUT`` for an input of the model.
    array
        The array, of several sets the first.
    described
        How messages name the array, or the arrays of several sets.
    note
        How it was read, where the file leaves that open.
    sets
        Numbers of the sets that the dump holds, of samples.
    seen, expected
        ``[sets, values]`` in the order of the dump: int64 for codes, otherwise the tensor's float type.
    all_sets
        The right values of all sets in the order of the dump, ``[all sets, values]``.
    right
        The right tensor of all sets in ONNX layout, of the type that the device holds it in.
    layout
        One of `LAYOUTS`: the order of the dump.
    """

    name: str
    layer: str
    kind: str
    array: DumpArray
    described: str
    note: str
    sets: tuple[int, ...]
    seen: Array
    expected: Array
    all_sets: Array
    right: Array
    layout: str


def read_tensors(
    program: Program,
    dump: Dump,
    values: Callable[[str], Array],
    sets: int,
    *,
    tensor: str | None = None,
    set_index: int | None = None,
    layout: str = "nchw",
) -> tuple[DumpedTensor, ...]:
    """Find the tensors that a dump holds, and read them.

    An array is the tensor that its name says; a name counts as a C identifier spells it, with every other character replaced by
    an underscore. Outputs of test vectors, and arrays whose names say nothing, are the model's output if they have its size,
    else the only result of a layer that has theirs; of several the one whose values they are.

    Arrays of a test vector are read set by set. Any other array is one set, the first unless another one is named, or all sets
    one after the other, as its length says. What is right has no say in how the numbers are read: where a file leaves two
    readings open, it is refused with both. Only the order of a text of features is the one that gives the right values.

    Decimal fractions that were rounded when they were printed are held against what the right values print.

    Parameters
    ----------
    program
        The model.
    dump
        What the device wrote.
    values
        Gives a tensor of the program over all sets as the device holds it.
    sets
        Number of sets.
    tensor
        Name of the tensor, or of the layer, that is meant; None to go by names and sizes.
    set_index
        The set that the device ran.
    layout
        One of `LAYOUTS`.

    Returns
    -------
    tuple
        At least one tensor, in the order of the dump.

    Raises
    ------
    InputError
        If no array is a result, it is not clear which tensor one is, or one has another length than its tensor.
    UnknownTensorError
        If the model has no tensor of a name.
    UsageError
        If there is no such set or layout.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout '{layout}'; the layouts are {', '.join(LAYOUTS)}")
    if set_index is not None and not 0 <= set_index < sets:
        raise UsageError(f"there is no set {set_index}; there are {sets}, counted from 0")
    if dump.format != FEATURES:
        return _read_in(program, dump, values, sets, tensor, set_index, layout)
    # the files do not say their order: PLiNIO and DORY write channels last, some of DORY's examples are channels first
    last = _read_in(program, dump, values, sets, tensor, set_index, "nhwc")
    if all(np.array_equal(item.seen, item.expected) for item in last):
        return last
    first = _read_in(program, dump, values, sets, tensor, set_index, "nchw")
    return min((last, first), key=lambda found: sum(not np.array_equal(item.seen, item.expected) for item in found))


def _read_in(
    program: Program,
    dump: Dump,
    values: Callable[[str], Array],
    sets: int,
    tensor: str | None,
    set_index: int | None,
    layout: str,
) -> tuple[DumpedTensor, ...]:
    """The tensors of a dump, read in one order."""
    reader = _Reader(program, dump, values, sets, set_index, layout)
    groups: dict[str, list[tuple[DumpArray, int | None]]] = {}
    for array, name in reader.pairs(tensor):
        chosen = set_index
        if array.role in _RESULTS and array.set_index is not None and (array.role is not None or set_index is None):
            if set_index is not None and array.set_index != set_index:
                continue
            chosen = array.set_index
            if chosen >= sets:
                raise InputError(f"{dump.path}: {array.described} is set {chosen}, and there are only {sets}")
        groups.setdefault(name, []).append((array, chosen))
    if not groups:
        raise InputError(f"{dump.path}: holds no set {set_index}; leave out --set to compare what it holds")
    return tuple(reader.tensor(name, parts) for name, parts in groups.items())


class _Reader:
    """A dump held against a program."""

    def __init__(
        self,
        program: Program,
        dump: Dump,
        values: Callable[[str], Array],
        sets: int,
        set_index: int | None,
        layout: str,
    ) -> None:
        self._program = program
        self._dump = dump
        self._values = values
        self._sets = sets
        self._set_index = set_index
        self._layout = layout
        self._known: dict[str, tuple[Array, Array]] = {}
        self._said: dict[str, str] = {}

    def pairs(self, tensor: str | None) -> list[tuple[DumpArray, str]]:
        """Arrays and the tensors they are."""
        program, dump = self._program, self._dump
        results = [array for array in dump.arrays if array.role in _RESULTS]
        if not results:
            raise InputError(f"{dump.path}: holds no results, only inputs or parameters; give a dump of outputs or of a layer")
        if dump.format == FEATURES and tensor is None:
            return self._in_order(results)
        if tensor is not None:
            name = self._named(tensor)
            matching = [array for array in results if _spelled(array.name) in (_spelled(tensor), _spelled(name))]
            fitting = [array for array in results if self._fits(array, name)] if len(results) > 1 and not matching else []
            return [(array, name) for array in matching] or [(self._only(fitting[:1] if len(fitting) == 1 else results), name)]
        by_spelling = {_spelled(name): name for name in self._names}
        by_spelling.update({_spelled(name): program.resolve(name) for name in program.outputs})
        pairs = [(array, by_spelling[_spelled(array.name)]) for array in results if _spelled(array.name) in by_spelling]
        outputs = [array for array in results if array.role is Role.OUTPUT]
        if pairs and not outputs:
            return pairs
        if outputs:
            return self._outputs(outputs)
        return self._by_size(results)

    def _in_order(self, arrays: list[DumpArray]) -> list[tuple[DumpArray, str]]:
        """Layers in the order of the network: each is the next result of a layer that it equals, else the next of its size."""
        codes = [step.output for step in self._program.layers]
        results = [*codes, *(name for name in map(self._program.resolve, self._program.outputs) if name not in codes)]
        pairs, start = list[tuple[DumpArray, str]](), 0
        for array in arrays:
            places = [place for place in range(start, len(results)) if self._fits(array, results[place])]
            if not places:
                raise InputError(
                    f"{self._dump.path}: {array.described}: {array.values.size} values, and no layer behind that of the array "
                    "before it has as many; name the tensor with --tensor"
                )
            place = next((place for place in places if self._equals(array, results[place])), places[0])
            pairs.append((array, results[place]))
            start = place + 1
        return pairs

    def tensor(self, name: str, parts: Sequence[tuple[DumpArray, int | None]]) -> DumpedTensor:
        """Read the arrays that hold one tensor."""
        right, everything = self._right(name)
        read = [self._read(array, chosen, name) for array, chosen in parts]
        sets = tuple(number for _, numbers in read for number in numbers)
        ordered = {"nhwc": "values stand channels last", "nchw": "values stand channels first"}[self._layout]
        order = ordered if self._dump.format == FEATURES else ""
        step = self._step(name)
        return DumpedTensor(
            name,
            "" if step is None else step.name,
            "INPUT" if step is None else step_kind(step),
            parts[0][0],
            parts[0][0].described if len(parts) == 1 else f"{len(parts)} arrays '{parts[0][0].name}'",
            "; ".join(dict.fromkeys(note for reading, _ in read if (note := reading.note or order))),
            sets,
            np.concatenate([reading.values for reading, _ in read]),
            everything[list(sets)],
            everything,
            right,
            self._layout,
        )

    @property
    def _names(self) -> list[str]:
        return [*self._program.inputs, *(name for step in self._program.steps for name in step.tensors)]

    def _step(self, name: str) -> Step | None:
        return next((step for step in self._program.steps if name in step.tensors), None)

    def _named(self, tensor: str) -> str:
        """The tensor of a name, or the codes of the layer of that name."""
        name = self._program.resolve(tensor)
        if name in self._names:
            return name
        layer = next((step for step in self._program.steps if step.name == tensor), None)
        if layer is None:
            raise unknown_tensor(tensor, self._program.tensors)
        return layer.tensors[-1]

    def _outputs(self, arrays: list[DumpArray]) -> list[tuple[DumpArray, str]]:
        """Outputs of a test vector."""
        outputs = self._program.outputs
        if len(outputs) != 1:
            listed = ", ".join(f"'{name}'" for name in outputs)
            raise InputError(f"{self._dump.path}: the model has {len(outputs)} outputs, {listed}; name the one with --tensor")
        return [(array, self._program.resolve(outputs[0])) for array in arrays]

    def _by_size(self, arrays: list[DumpArray]) -> list[tuple[DumpArray, str]]:
        """Arrays whose names say nothing."""
        if len(arrays) == 1:
            name = self._fitting(arrays[0])
            found = [(arrays[0], name)] if name is not None else self._outputs(arrays)
        else:
            found = [(array, name) for array in arrays if (name := self._fitting(array)) is not None]
            if not found or len({name for _, name in found}) < len(found):
                self._only(arrays)
        for array, name in found:
            if array.name and not array.raw and array.role is None:
                self._said.setdefault(name, f"'{array.name}' is taken for '{name}', by its size")
        return found

    def _fitting(self, array: DumpArray) -> str | None:
        """The output that an array has the size of, else the only result of a layer; None where there is none."""
        program = self._program
        outputs = list(dict.fromkeys(map(program.resolve, program.outputs)))
        fitting = [name for name in outputs if self._fits(array, name)]
        codes = self._codes_of_output(array, outputs)
        if codes is not None:
            self._said[codes] = f"the numbers are whole, so they are taken for the codes '{codes}'"
            return codes
        if not fitting and len(outputs) == 1 and _is_cut(array, self._right(outputs[0])[1][self._set_index or 0]):
            return outputs[0]
        if not fitting:
            results = [step.tensors[-1] for step in program.steps]
            fitting = [name for name in results if self._fits(array, name, whole=True)]
            fitting = fitting or [name for name in results if self._fits(array, name)]
        if len(fitting) > 1:
            equal = [name for name in fitting if self._equals(array, name)]
            if len(equal) != 1:
                listed = ", ".join(f"'{name}'" for name in fitting[:4]) + (" ..." if len(fitting) > 4 else "")
                raise InputError(
                    f"{self._dump.path}: {array.described} fits {len(fitting)} tensors, {listed}; name the one with --tensor"
                )
            fitting = equal
        return fitting[0] if fitting else None

    def _codes_of_output(self, array: DumpArray, outputs: Sequence[str]) -> str | None:
        """The codes of which a float output is made, where whole numbers were written that it cannot have."""
        if len(outputs) != 1 or not array.is_integer or array.base == 16 or not self._fits(array, outputs[0]):
            return None
        right = self._right(outputs[0])[0]
        codes = [step.tensors[-1] for step in self._program.layers][-1:]
        if right.dtype.kind != "f" or bool((right == np.floor(right)).all()) or not codes:
            return None
        return codes[0] if self._right(codes[0])[0].size == right.size and self._fits(array, codes[0]) else None

    def _fits(self, array: DumpArray, name: str, *, whole: bool = False) -> bool:
        """Whether an array can be read as a tensor; with `whole` of all sets, where no set is named."""
        form = self._form(name, self._set_index)
        try:
            readings = read_as(array, form)
        except InputError:
            return False
        return not whole or any(len(reading.values) == form.sets for reading in readings)

    def _equals(self, array: DumpArray, name: str) -> bool:
        try:
            reading, numbers = self._read(array, self._set_index, name)
        except InputError:
            return False
        return np.array_equal(reading.values, self._right(name)[1][numbers])

    def _right(self, name: str) -> tuple[Array, Array]:
        """What is right for all sets: in ONNX layout, and ``[sets, values]`` in the order of the dump."""
        if name not in self._known:
            right = np.atleast_1d(self._values(name))  # a result without axes is that of the only set
            if len(right) != self._sets:
                # a tensor without a batch axis: the sets' values stand one after the other on its first one
                right = right.reshape(self._sets, len(right) // self._sets, *right.shape[1:])
            ordered = in_layout(right, self._layout)
            self._known[name] = right, ordered if ordered.dtype.kind == "f" else ordered.astype(np.int64)
        return self._known[name]

    def _form(self, name: str, chosen: int | None) -> TensorForm:
        program = self._program
        tensor = program.tensors[name]
        shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
        sample = np.zeros(0, tensor.stored)
        dtype = tensor.dtype if name in program.inputs else sample.dtype
        if name in map(program.resolve, program.outputs):
            dtype = device_output(program, name, sample).dtype
        return TensorForm(name, dtype, math.prod(shape), self._sets if chosen is None else 1, self._dump.path)

    def _read(self, array: DumpArray, chosen: int | None, name: str) -> tuple[Reading, list[int]]:
        """How an array is read, and the sets that it holds."""
        right, everything = self._right(name)
        form = replace(self._form(name, chosen), dtype=right.dtype, count=everything.shape[1])
        try:
            readings = read_as(array, form)
        except InputError as error:
            raise InputError(f"{error}; {partial_match(array, everything[chosen or 0])}") from None
        if len(readings) > 1:
            raise InputError(self._open(array, name, readings))
        (reading,) = readings
        numbers = list(range(len(reading.values))) if len(reading.values) > 1 else [chosen or 0]
        if self._dump.format in _SHAPED:
            self._check_shape(array, right.shape[1:], len(numbers), name)
        reading = as_printed(array, reading, everything[numbers])
        said = self._said.get(name, "")
        return replace(reading, note="; ".join(filter(None, (said, reading.note)))), numbers

    def _open(self, array: DumpArray, name: str, readings: Sequence[Reading]) -> str:
        """Name the ways to read an array, of which nothing tells the right one."""
        ways = " or as ".join(
            f"{len(reading.values)} {'set' if len(reading.values) == 1 else 'sets'}"
            + (f" where {reading.note}" if reading.note else "")
            for reading in readings
        )
        return (
            f"{self._dump.path}: {array.described} can be read for '{name}' as {ways}; say the set with --set, or what the "
            "numbers are with --dtype"
        )

    def _check_shape(self, array: DumpArray, shape: Sequence[int], sets: int, name: str) -> None:
        """Make sure that an array with axes has those of the tensor; axes of size 1 change nothing."""
        seen = array.values.shape
        sample = (*shape[1:], shape[0]) if self._layout == "nhwc" and len(shape) > 1 else tuple(shape)
        wanted = (sets, *sample)
        if len(seen) < 2 or _squeezed(seen) in (_squeezed(wanted), _squeezed((sets, math.prod(sample)))):
            return
        raise InputError(
            f"{self._dump.path}: {array.described} has shape {list(seen)}, wanted {list(wanted)} for tensor '{name}'; "
            "give the order of its axes with --layout"
        )

    def _only(self, arrays: list[DumpArray]) -> DumpArray:
        if len(arrays) > 1:
            listed = ", ".join(array.described for array in arrays[:4])
            raise InputError(
                f"{self._dump.path}: holds {len(arrays)} arrays, {listed}, and no name is that of a tensor; save the values of "
                "one tensor"
            )
        return arrays[0]


def as_printed(array: DumpArray, reading: Reading, right: Array) -> Reading:
    """Floats that were rounded when they were printed: what prints as the right value does is the right value.

    A note says to how many digits; nothing changes where the digits are those of the right values, and where a value prints
    otherwise than the right one it stays what was read.
    """
    if array.printed is None or right.dtype.kind != "f" or np.array_equal(reading.values, right):
        return reading
    printed = array.printed
    written = array.values.reshape(right.shape)
    alike = [printed.gives(float(wanted)) == float(seen) for wanted, seen in zip(right.flat, written.flat, strict=True)]
    values = np.where(np.array(alike).reshape(right.shape), right, reading.values)
    return Reading(values, "; ".join(filter(None, (reading.note, f"values are printed as with {printed}, and compared so"))))


def device_output(program: Program, name: str, values: Array) -> Array:
    """An output as the compiled model gives it: 8-bit codes as they are, everything else in the declared element type."""
    return values if values.dtype.itemsize == 1 else values.astype(program.tensors[name].dtype, copy=False)


def in_layout(values: Array, layout: str) -> Array:
    """A tensor in ONNX layout as ``[sets, values]`` in the order of a dump."""
    last = layout == "nhwc" and values.ndim > 2
    return (np.moveaxis(values, 1, -1) if last else values).reshape(len(values), -1)


def as_tensor(values: Array, shape: Sequence[int], layout: str) -> Array:
    """The way back: ``[sets, values]`` in the order of a dump as ``[sets, *shape]`` in ONNX layout."""
    if layout == "nhwc" and len(shape) > 1:
        return np.moveaxis(values.reshape(len(values), *shape[1:], shape[0]), -1, 1)
    return values.reshape(len(values), *shape)


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _spelled(name: str) -> str:
    """A name as a C identifier spells it."""
    return re.sub(r"\W+", "_", name).strip("_").lower()


def partial_match(array: DumpArray, right: Array) -> str:
    """What an array of the wrong length has in common with the right values, and what to do, as a clause.

    Examples
    --------
    >>> partial_match(DumpArray("", np.array([5, 6]), "line 1", base=10), np.array([5, 6, 7]))
    'these are the first 2 right values: the dump is cut off'
    """
    common = _common(array, right)
    if common:
        return common
    if array.raw and (array.values.size < right.size or right.dtype.kind == "f"):
        return "save all values of the tensor, and only these"
    if array.values.size < right.size:
        return "save all values of the tensor"
    return "save the values of this tensor only, or give --tensor"


def _is_cut(array: DumpArray, right: Array) -> bool:
    """Whether an array is a part of the right values that lacks their beginning or their end."""
    return not array.raw and array.values.size < right.size and bool(_common(array, right))


def _common(array: DumpArray, right: Array) -> str:
    """Where an array of another length holds the right values, or some of them; empty where it does not."""
    if array.raw:
        if array.values.size < right.size or right.dtype.kind == "f":
            return ""
        seen: Array = array.values.astype(np.int64)
        right = right.astype(np.int64) & 0xFF
    else:
        seen = array.values.reshape(-1)
    if seen.size < right.size:
        if np.array_equal(seen, right[: seen.size]):
            return f"these are the first {seen.size} right values: the dump is cut off"
        if np.array_equal(seen, right[right.size - seen.size :]):
            return f"these are the last {seen.size} right values: the dump lacks its beginning"
        return ""
    for start in range(min(seen.size - right.size, LONGEST_SEARCH) + 1):
        if np.array_equal(seen[start : start + right.size], right):
            unit = "byte" if array.raw else "value"
            return f"the right values are in it from {unit} {start} on: save only these"
    return ""


def unused_arrays(dump: Dump, found: Sequence[DumpedTensor]) -> Iterator[str]:
    """How messages name the results of a dump that are not a tensor of the model."""
    used = {_spelled(item.array.name) for item in found}
    for array in dump.arrays:
        if array.role in _RESULTS and array.active and _spelled(array.name) not in used:
            yield array.described
