"""Which array of a dump is which tensor, and what one of the wrong length has in common with the right values."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from npusim.dumps import Dump, DumpArray, Role
from npusim.errors import InputError
from npusim.graph import Array
from npusim.program import Program
from npusim.trace import unknown_tensor

__all__ = ["pair_arrays", "partial_match"]

_RESULTS: Final = (None, Role.OUTPUT)

LONGEST_SEARCH: Final = 4096
"""Places at which the right values are looked for in a longer dump."""


def pair_arrays(program: Program, dump: Dump, tensor: str | None) -> list[tuple[DumpArray, str]]:
    """Arrays and the tensors they are.

    A name counts as a C identifier spells it, with every other character replaced by an underscore. Outputs of test vectors,
    and an only array whose name says nothing, are the model's only output.

    Parameters
    ----------
    program
        The model.
    dump
        The dump.
    tensor
        Name of the tensor that is meant; None to go by names.

    Raises
    ------
    UnknownTensorError
        If the model has no such tensor.
    InputError
        If no array is a result, or it is not clear which tensor one is.
    """
    results = [array for array in dump.arrays if array.role in _RESULTS]
    if not results:
        raise InputError(f"{dump.path}: holds no results, only inputs or parameters; give a dump of outputs or of a layer")
    names = [*program.inputs, *(name for step in program.steps for name in step.tensors)]
    if tensor is not None:
        name = program.resolve(tensor)
        if name not in names:
            raise unknown_tensor(tensor, program.tensors)
        matching = [array for array in results if _spelled(array.name) in (_spelled(tensor), _spelled(name))]
        return [(array, name) for array in matching] or [(_only(dump, results), name)]
    by_spelling = {_spelled(name): name for name in names}
    by_spelling.update({_spelled(name): program.resolve(name) for name in program.outputs})
    pairs = [(array, by_spelling[_spelled(array.name)]) for array in results if _spelled(array.name) in by_spelling]
    outputs = [array for array in results if array.role is Role.OUTPUT]
    if pairs and not outputs:
        return pairs
    chosen = outputs or [_only(dump, results)]
    if len(program.outputs) != 1:
        listed = ", ".join(f"'{name}'" for name in program.outputs)
        raise InputError(f"{dump.path}: the model has {len(program.outputs)} outputs, {listed}; name the one with --tensor")
    return [(array, program.resolve(program.outputs[0])) for array in chosen]


def _only(dump: Dump, arrays: list[DumpArray]) -> DumpArray:
    if len(arrays) > 1:
        listed = ", ".join(array.described for array in arrays[:4])
        raise InputError(
            f"{dump.path}: holds {len(arrays)} arrays, {listed}, and no name is that of a tensor; save the values of one tensor"
        )
    return arrays[0]


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
    if array.raw:
        if array.values.size < right.size or right.dtype.kind == "f":
            return "save all values of the tensor, and only these"
        seen: Array = array.values.astype(np.int64)
        right = right.astype(np.int64) & 0xFF
    else:
        seen = array.values.reshape(-1)
    if seen.size < right.size:
        if np.array_equal(seen, right[: seen.size]):
            return f"these are the first {seen.size} right values: the dump is cut off"
        if np.array_equal(seen, right[right.size - seen.size :]):
            return f"these are the last {seen.size} right values: the dump lacks its beginning"
        return "save all values of the tensor"
    for start in range(min(seen.size - right.size, LONGEST_SEARCH) + 1):
        if np.array_equal(seen[start : start + right.size], right):
            unit = "byte" if array.raw else "value"
            return f"the right values are in it from {unit} {start} on: save only these"
    return "save the values of this tensor only, or give --tensor"
