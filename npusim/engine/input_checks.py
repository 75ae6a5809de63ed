"""Checks of the arrays that a session is given: nothing is reshaped, broadcast or cast to make them fit."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from npusim.errors import InputError
from npusim.graph import Array, Graph
from npusim.program import Batching, Program, Tensor

__all__ = ["check_codes", "check_finite", "check_names_and_types", "check_shapes"]


def check_names_and_types(graph: Graph, feeds: Mapping[str, Array]) -> None:
    """Make sure that there is an array of the declared element type for each input, and no other.

    Raises
    ------
    InputError
        Naming the first input that is missing, unknown or of another type.
    """
    if not isinstance(feeds, Mapping):
        raise InputError(f"the inputs are a {type(feeds).__name__}, wanted a mapping from input names to NumPy arrays")
    wanted = ", ".join(f"'{name}'" for name in graph.inputs)
    for name in feeds:
        if name not in graph.inputs:
            raise InputError(f"the model has no input '{name}'; its inputs are {wanted}")
    for name in graph.inputs:
        if name not in feeds:
            raise InputError(f"input '{name}' is missing; the model's inputs are {wanted}")
        _check_type(name, feeds[name], graph.types[name].dtype)


def _check_type(name: str, array: object, wanted: np.dtype[np.generic]) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"input '{name}' is a {type(array).__name__}, wanted a NumPy array of {wanted}")
    if array.dtype != wanted:
        raise InputError(
            f"input '{name}' has element type {array.dtype}, wanted {wanted}; convert it yourself, npusim never casts"
        )


def check_shapes(program: Program, feeds: Mapping[str, Array]) -> None:
    """Make sure that the inputs have a program's shapes, and one common number of samples where that is free.

    Raises
    ------
    InputError
        Naming the shape seen and the one wanted.
    """
    counts = {}
    for name in program.inputs:
        shape, wanted = feeds[name].shape, program.tensors[name].declared_shape
        free = 0 if program.batching is Batching.FIXED else 1
        if len(shape) != len(wanted) or shape[free:] != wanted[free:]:
            shown = [*(["N"] if free else []), *wanted[free:]]
            raise InputError(f"input '{name}' has shape {list(shape)}, wanted [{', '.join(str(size) for size in shown)}]")
        if free:
            counts[name] = shape[0]
    if counts and (len(set(counts.values())) > 1 or 0 in counts.values()):
        shown_counts = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
        raise InputError(f"the inputs need one common number of samples, at least 1, on their first axis: {shown_counts}")


def check_finite(feeds: Mapping[str, Array], start: int) -> None:
    """Make sure that float inputs hold finite numbers only.

    Parameters
    ----------
    feeds
        Inputs of some samples.
    start
        Number of the first of these samples; the message counts from there.

    Raises
    ------
    InputError
        Naming the first value that is not finite and its index.
    """
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not _all_finite(array):
            place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
            shown = [place[0] + start, *place[1:]] if place else []
            raise InputError(f"input '{name}' holds {array[place]} at index {shown}; finite numbers are wanted, clean the data")


def check_codes(program: Program, feeds: Mapping[str, Array], start: int) -> None:
    """Make sure that inputs which hold fewer codes than their type can hold whole numbers of their range.

    Parameters
    ----------
    program
        The program.
    feeds, start
        As for :func:`check_finite`.

    Raises
    ------
    InputError
        Naming the first value that is not such a code and its index.
    """
    for name in program.inputs:
        tensor, array = program.tensors[name], feeds[name]
        if not tensor.is_integer or tensor.dtype.kind not in "iuf" or _is_all_of(tensor):
            continue
        values = np.asarray(array, np.float64)
        wrong = (values != np.rint(values)) | (values < tensor.lower) | (values > tensor.upper)
        if wrong.any():
            place = tuple(int(index) for index in np.argwhere(wrong)[0])
            shown = [place[0] + start, *place[1:]]
            raise InputError(
                f"input '{name}' holds {array[place]} at index {shown}; it holds codes, whole numbers from {tensor.lower:g} to "
                f"{tensor.upper:g}: quantize the data first"
            )


def _is_all_of(tensor: Tensor) -> bool:
    """Whether a tensor's range is all that its integer type holds."""
    if tensor.dtype.kind == "f":
        return False
    info, zero = np.iinfo(tensor.dtype.str), tensor.zero_point
    return tensor.lower + zero <= info.min and info.max <= tensor.upper + zero


def _all_finite(array: Array) -> bool:
    """Whether there is no NaN and no infinity.

    Either would be in the sum of all squares, which BLAS has in one pass; finite squares may overflow, though, so that only a
    finite sum says something.
    """
    if array.flags.c_contiguous and array.dtype in (np.float32, np.float64):
        flat = array.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(array).all())
