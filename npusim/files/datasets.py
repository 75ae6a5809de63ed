"""Reading the samples that a model is to be run on, from .npz, .npy, .csv and .parquet files.

Nothing is guessed and nothing is fitted: an array of another shape is refused even if its size is right, and a value changes
only where a decimal number in a CSV file is rounded to the model's float type.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npusim.errors import InputError
from npusim.files.arrays import check_readable, list_npz, listed, read_npy, read_npz, row_blocks, write_arrays
from npusim.files.element_types import convert_exactly, first_of
from npusim.files.tables import read_csv, read_parquet
from npusim.graph import Array, Dimension

__all__ = ["InputSpec", "check_samples", "read_inputs", "width_note", "with_width", "write_arrays"]

_COMMON_KEYS = ("input", "x")
"""Keys under which the only input of a model is found in a .npz file that does not know the model's own name for it."""

_EXACT_INTEGERS = 2.0**53
"""Every integer up to here is a float64, as which CSV is read."""

_SUFFIXES = (".npz", ".npy", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model wants for one of its inputs.

    Attributes
    ----------
    name
        Name of the input in the model.
    dtype
        Element type that the model declares.
    shape
        Declared shape with the samples on axis 0. A declared batch of 1, a named one or an unknown one stands for any number of
        samples; any other number for exactly that many.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dimension, ...]

    @property
    def sample_shape(self) -> tuple[Dimension, ...]:
        """Shape of one sample: the declared shape without axis 0."""
        return self.shape[1:]

    @property
    def takes_any_count(self) -> bool:
        """Whether any number of samples fits; a model without a sample axis takes none."""
        return bool(self.shape) and (self.shape[0] == 1 or not isinstance(self.shape[0], int))

    @property
    def shape_text(self) -> str:
        """The wanted shape for messages, with N for any number of samples: ``(N, 1, 64, 1)``."""
        sizes = ["?" if size is None else str(size) for size in self.shape]
        if self.takes_any_count:
            sizes[0] = "N"
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def read_inputs(
    path: str | os.PathLike[str], expected: Sequence[InputSpec], announce: Callable[[str], None] | None = None
) -> dict[str, Array]:
    """Read the samples for a model's inputs from a file.

    ========== ==========================================================================================================
    ``.npz``   arrays under the inputs' names; further arrays (labels, say) are left alone. For a model with one input, the
               array may have another name if it is the only one in the file, or be named ``input`` or ``x``.
    ``.npy``   the samples of a model with one input.
    ``.csv``   one sample a line, flattened in C order (the last axis varies fastest), for a model with one input. Numbers are
               read as float64 and rounded once to the model's float type; a header line is skipped.
    ``.parquet`` one sample a row, one column for each value in C order, for a model with one input.
    ========== ==========================================================================================================

    Except for decimal numbers in .csv, values of another dtype than the model's are taken only if every one of them is exactly
    the same number in the model's dtype.

    Parameters
    ----------
    path
        The file; its suffix tells the format.
    expected
        The model's inputs.
    announce
        Takes a sentence about an array that is taken although it lacks the last axis of the model's input, of size 1, or has
        one more: one-dimensional signals, which some exporters give a width of 1. By default such an array is refused.

    Returns
    -------
    dict
        For each input, in the order of `expected`, its samples in the declared dtype and shape (N, ...), the same N for all.

    Raises
    ------
    InputError
        If the file is missing, unreadable, damaged, of an unknown kind or empty; if a name, shape or dtype does not fit; if a
        value is NaN, infinite or not representable.

    Examples
    --------
    >>> np.save("/tmp/two.npy", np.array([[1, 2, 3], [4, 5, 6]], np.int16))
    >>> read_inputs("/tmp/two.npy", [InputSpec("input", np.dtype(np.float32), (1, 3))])
    {'input': array([[1., 2., 3.],
           [4., 5., 6.]], dtype=float32)}
    """
    path = Path(path)
    check_readable(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{path}: unknown suffix '{path.suffix}', wanted one of {', '.join(_SUFFIXES)}; save the data as one of these"
        )
    if suffix == ".npz":
        inputs = _from_npz(path, expected, announce)
    else:
        spec = _only_input(path, expected)
        if suffix == ".npy":
            inputs = {spec.name: _accept(_with_width(read_npy(path), spec, str(path), announce), spec, str(path))}
        else:
            inputs = {spec.name: (_from_csv if suffix == ".csv" else _from_parquet)(path, spec)}
    counts = {spec.name: inputs[spec.name].shape[0] for spec in expected if spec.shape}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: the inputs hold different numbers of samples: {counts}; give every input one row a sample")
    return inputs


def check_samples(array: Array, spec: InputSpec, where: str) -> None:
    """Make sure that an array can be the samples of an input: right shape, at least one sample, no NaN, no infinity.

    Parameters
    ----------
    array
        The samples, of any dtype.
    spec
        What the model wants.
    where
        The place that messages name, for example the file and the array in it.

    Raises
    ------
    InputError
        If the shape does not fit, there are no samples, or a value is not finite.
    """
    _check_shape(array.shape, spec, where)
    if array.dtype.kind in "fc":
        bad, first = 0, ""
        for row, part in row_blocks(array):
            finite = np.isfinite(part)
            if not finite.all():
                bad += finite.size - int(np.count_nonzero(finite))
                first = first or first_of(part, ~finite, row)
        if bad:
            raise InputError(
                f"{where}: {bad} of {array.size} values are NaN or infinite, the first {first}; remove or replace these samples"
            )


def _check_shape(shape: tuple[int, ...], spec: InputSpec, where: str) -> None:
    if not _fits(shape, spec):
        raise InputError(
            f"{where}: has shape {shape}, wanted {spec.shape_text} for input '{spec.name}'; {_remedy(shape, spec)}"
        )
    if math.prod(shape) == 0:
        raise InputError(f"{where}: shape {shape} holds no samples for input '{spec.name}'; give at least one")


def with_width(array: Array, spec: InputSpec) -> Array | None:
    """An array that lacks the last axis of an input, of size 1, or has one more, in the input's shape; None for any other.

    Examples
    --------
    >>> with_width(np.zeros((5, 3, 64)), InputSpec("input", np.dtype(np.float32), (1, 3, 64, 1))).shape
    (5, 3, 64, 1)
    """
    found = _shape_with_width(array.shape, spec)
    return None if found is None else array.reshape(found)


def _shape_with_width(shape: tuple[int, ...], spec: InputSpec) -> tuple[int, ...] | None:
    if _fits(shape, spec) or min(len(shape), len(spec.shape)) < 2:
        return None
    shapes = [(*shape, 1)] + ([shape[:-1]] if shape[-1] == 1 else [])
    return next((item for item in shapes if _fits(item, spec)), None)


def width_note(where: str, array: Array, spec: InputSpec) -> str:
    """The sentence that says so."""
    return f"{where}: has shape {array.shape} and is read as {spec.shape_text}, which differs in an axis of size 1 only"


def _with_width(array: Array, spec: InputSpec, where: str, announce: Callable[[str], None] | None) -> Array:
    widened = None if announce is None else with_width(array, spec)
    if announce is None or widened is None:
        return array
    announce(width_note(where, array, spec))
    return widened


def _from_npz(path: Path, expected: Sequence[InputSpec], announce: Callable[[str], None] | None) -> dict[str, Array]:
    keys = _select_keys(path, list_npz(path), expected)
    specs = dict(zip(keys, expected, strict=True))

    def accept(key: str, shape: tuple[int, ...]) -> None:
        widened = None if announce is None else _shape_with_width(shape, specs[key])
        _check_shape(shape if widened is None else widened, specs[key], f"{path}: array '{key}'")

    arrays = read_npz(path, keys, accept)
    found = {}
    for key, spec in zip(keys, expected, strict=True):
        where = f"{path}: array '{key}'"
        found[spec.name] = _accept(_with_width(arrays[key], spec, where, announce), spec, where)
    return found


def _select_keys(path: Path, present: tuple[str, ...], expected: Sequence[InputSpec]) -> list[str]:
    """The key of each input's array."""
    names = [spec.name for spec in expected]
    if all(name in present for name in names):
        return names
    if len(names) == 1:
        candidates = present if len(present) == 1 else [key for key in _COMMON_KEYS if key in present]
        if len(candidates) == 1:
            return [candidates[0]]
    raise InputError(
        f"{path}: holds {listed(present)}, wanted {listed(names)}; "
        "save every input under its own name, as in numpy.savez(file, **{name: array})"
    )


def _only_input(path: Path, expected: Sequence[InputSpec]) -> InputSpec:
    """The model's only input, for the formats that hold a single array."""
    if len(expected) != 1:
        names = ", ".join(f"'{spec.name}'" for spec in expected)
        raise InputError(
            f"{path}: a {path.suffix} file holds one input, the model has {len(expected)} ({names}); save them in one .npz file"
        )
    return expected[0]


def _from_csv(path: Path, spec: InputSpec) -> Array:
    table = read_csv(path)
    samples = table.reshape(_table_shape(path, table.shape, spec))
    if spec.dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = samples.astype(spec.dtype)
        check_samples(rounded, spec, f"{path}: rounded to {spec.dtype}")
        return rounded
    if np.abs(samples).max() > _EXACT_INTEGERS:
        raise InputError(f"{path}: integers beyond 2^53 are not read exactly from CSV; save input '{spec.name}' as .npz")
    return _accept(samples, spec, str(path))


def _from_parquet(path: Path, spec: InputSpec) -> Array:
    columns = read_parquet(path)
    shape = _table_shape(path, (len(columns[0][1]), len(columns)), spec)
    # Column by column: a table of mixed dtypes as one array would round large integers on the way.
    converted = [convert_exactly(values, spec.dtype, f"{path}: column '{label}'") for label, values in columns]
    return _accept(np.stack(converted, axis=1).reshape(shape), spec, str(path))


def _accept(array: Array, spec: InputSpec, where: str) -> Array:
    """The array in the input's dtype, if it fits."""
    check_samples(array, spec, where)
    return convert_exactly(array, spec.dtype, where)


def _table_shape(path: Path, seen: tuple[int, ...], spec: InputSpec) -> tuple[int, ...]:
    """The shape (rows, ...) that a table's rows are unflattened to."""
    rows, columns = seen
    known = [size for size in spec.sample_shape if isinstance(size, int)]
    if len(known) < len(spec.sample_shape):
        if len(spec.sample_shape) > 1:
            raise InputError(f"{path}: a table cannot tell the shape {spec.shape_text} of input '{spec.name}'; save it as .npz")
        known = [columns]
    if columns != math.prod(known):
        index = "; does it hold an index column (save with index=False)?" if columns == math.prod(known) + 1 else ""
        raise InputError(
            f"{path}: has {columns} columns, wanted {math.prod(known)}: the values of one sample {spec.shape_text} of input "
            f"'{spec.name}' in C order{index or '; write one sample a row'}"
        )
    return (rows, *known)


def _fits(shape: tuple[int, ...], spec: InputSpec) -> bool:
    if len(shape) != len(spec.shape):
        return False
    fixed = [not (axis == 0 and spec.takes_any_count) and isinstance(size, int) for axis, size in enumerate(spec.shape)]
    return all(seen == wanted for seen, wanted, matters in zip(shape, spec.shape, fixed, strict=True) if matters)


def _remedy(shape: tuple[int, ...], spec: InputSpec) -> str:
    """What to do about an array whose shape does not fit; arrays are never reshaped on the user's behalf."""
    if shape == spec.sample_shape:
        return "it lacks the sample axis: save array[numpy.newaxis]"
    if len(shape) == len(spec.shape) and sorted(shape[1:]) == sorted(
        size for size in spec.sample_shape if isinstance(size, int)
    ):
        return "the axes are in another order: save it through numpy.transpose"
    sample_sizes = [size for size in spec.sample_shape if isinstance(size, int)]
    if len(sample_sizes) == len(spec.sample_shape) and sample_sizes and math.prod(shape) % math.prod(sample_sizes) == 0:
        return "the number of values would fit, but nothing is reshaped: save it in that shape if that is what it holds"
    return "save the array in that shape"
