"""What the arrays of a C file are for: the sets of test vectors of all ages, and the parameters in a generated model header."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.c_source import CArray, find_arrays, find_structs, misfit
from npusim.files.dumps.dump import Dump, DumpArray, Role
from npusim.files.dumps.numbers import Source

__all__ = ["is_c_source", "read_c_source"]

_ROLES: Final = {
    "raw_input_test": Role.RAW_INPUT,
    "model_test_input": Role.INPUT,
    "golden_output": Role.OUTPUT,
}
"""Symbols of test vectors since 2025."""

_OLD_NAME: Final = re.compile(r"(adc|features|output)_(\w+)_(\d+)", re.ASCII)
_OLD_ROLES: Final = {"adc": Role.RAW_INPUT, "features": Role.INPUT, "output": Role.OUTPUT}
"""Symbols of 2024: kind, class and number."""

_PARAMETER: Final = re.compile(r"tvmgen_\w+?_(bias|scale|shift)_data", re.ASCII)
_STRUCT: Final = re.compile(r"tvmgen_\w+?_(inputs|outputs)", re.ASCII)


_DEFINITION: Final = re.compile(r"[A-Za-z_]\w*\s*\[[^\[\]\n;{}]*\][^;{}=]{0,200}=\s*\{", re.ASCII)
_ONLY_LIST: Final = re.compile(r"[\s{},0-9a-fA-FxX+.-]*\{[\s{},;0-9a-fA-FxX+.-]*")


def is_c_source(text: str) -> bool:
    """Whether a text defines an array, has a struct of a generated header, or is a list in braces."""
    return _DEFINITION.search(text) is not None or "struct tvmgen_" in text or _ONLY_LIST.fullmatch(text) is not None


def read_c_source(source: Source, *, base: int | None = None) -> Dump:
    """Read the arrays of C source: any arrays, test vectors with their sets, or a generated model header.

    A set of test vectors ends where one of its arrays comes again or where commented-out code begins or ends; sets are counted
    from 0 in the order of the file.

    Raises
    ------
    InputError
        If an array is damaged or there is none, or one of the model's inputs, outputs or parameters does not fit its declared
        type; where another array does not, a note says it.
    """
    arrays = find_arrays(source, base=base)
    members = {
        match.group(1): names
        for struct, names in find_structs(source).items()
        if (match := _STRUCT.fullmatch(struct)) is not None
    }
    if not arrays and not members:
        raise InputError(f"{source.path}: holds no array with values; wanted a definition like int8_t y[2] = {{ 1, 2 }};")
    kind = _kind(arrays, bool(members))
    found = tuple(_with_sets(source, arrays))
    misfits = list[str]()
    for array, known in zip(arrays, found, strict=True):
        said = misfit(array)
        if said and known.role not in (None, Role.RAW_INPUT):
            raise InputError(f"{source.path}: {known.place}: {said}; is the declared type right?")
        misfits += [f"{known.place}: {said}"] if said else []
    return Dump(
        source.path,
        kind,
        found,
        inputs=members.get("inputs", ()),
        outputs=members.get("outputs", ()),
        notes=(*_notes(found), *misfits),
    )


def _notes(arrays: tuple[DumpArray, ...]) -> tuple[str, ...]:
    """A warning where inputs are rounded: the vendor's tools print five decimals, but compute the output from all digits."""
    inputs = [
        array.values.astype(np.float64) for array in arrays if array.role is Role.INPUT and array.values.dtype.kind == "f"
    ]
    steps = np.concatenate(inputs) * 1e5 if inputs else np.zeros(0)
    if steps.size < 4 or not (np.abs(steps - np.rint(steps)) < 1e-4).all() or not (steps % 1e4).any():
        return ()
    return ("inputs are printed with five decimals, so the golden output may come from slightly other values",)


def _kind(arrays: list[CArray], has_structs: bool) -> str:
    if has_structs or any(_PARAMETER.fullmatch(array.name) for array in arrays):
        return "tvmgen"
    if any(array.name in _ROLES or _OLD_NAME.fullmatch(array.name) for array in arrays):
        return "test_vector"
    return "c"


def _with_sets(source: Source, arrays: list[CArray]) -> list[DumpArray]:
    found: list[DumpArray] = []
    old_sets: dict[tuple[str, str], int] = {}
    seen: set[Role] = set()
    current = 0
    was_active: bool | None = None
    for array in arrays:
        role, index = _ROLES.get(array.name), None
        if (match := _OLD_NAME.fullmatch(array.name)) is not None:
            role = _OLD_ROLES[match.group(1)]
            index = old_sets.setdefault((match.group(2), match.group(3)), len(old_sets))
        elif role is not None:
            if role in seen or (was_active is not None and was_active != array.active):
                current, seen = current + 1, set()
            seen.add(role)
            was_active, index = array.active, current
        elif (match := _PARAMETER.fullmatch(array.name)) is not None:
            role = Role(match.group(1))
        found.append(_dump_array(source, array, role, index))
    return found


def _dump_array(source: Source, array: CArray, role: Role | None, index: int | None) -> DumpArray:
    return DumpArray(
        array.name,
        array.numbers.values,
        source.line(array.position),
        base=array.numbers.base,
        word_bits=array.numbers.word_bits,
        printed=array.numbers.printed,
        c_type=array.c_type or None,
        role=role,
        set_index=index,
        label=array.label,
        active=array.active,
    )
