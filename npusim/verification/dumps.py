"""The integer program against what a device wrote: which array of a dump is which tensor, and whether they are equal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.dumps import Dump, DumpArray, Role
from npusim.errors import InputError, UsageError
from npusim.graph import Array
from npusim.program import Program, Tensor
from npusim.session import InferenceSession
from npusim.trace import step_kind
from npusim.verification.comparison import Divergence, ExactComparison, Progress, compare_rows, explain_first, sample_chunks
from npusim.verification.differences import LayerDifferences

__all__ = ["LAYOUTS", "compare_with_dump", "match_dump"]

LAYOUTS: Final = ("nchw", "nhwc")
"""Orders of the values: as in the graph, or with the channels last as the NPU keeps them in memory."""

_NO_RESULT: Final = frozenset((Role.RAW_INPUT, Role.INPUT, Role.BIAS, Role.SCALE, Role.SHIFT))


def compare_with_dump(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    dump: Dump,
    *,
    tensor: str | None = None,
    layout: str = "nchw",
    progress: Progress | None = None,
) -> ExactComparison:
    """Compare a model's tensors with the arrays of a dump.

    Parameters
    ----------
    session
        The model.
    feeds
        The inputs that the device ran on, samples on the first axis.
    dump
        What it wrote, see :func:`npusim.dumps.read_dump`. Arrays of a single axis hold samples one after the other.
    tensor
        Name of the tensor that a dump of one array holds; otherwise arrays are matched by name, then by size.
    layout
        ``"nchw"`` or ``"nhwc"``: order of the values of a sample.
    progress
        Called after each part of the samples.

    Raises
    ------
    UsageError
        If there is no such layout.
    UnknownTensorError
        If there is no such tensor.
    InputError
        If no array fits a tensor, several tensors fit an array, or an array has another size than the samples need.

    Examples
    --------
    >>> result = compare_with_dump(session, {"input": x}, read_dump("uart.txt"))  # doctest: +SKIP
    >>> print(result.divergence)  # doctest: +SKIP
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout '{layout}'; the layouts are {', '.join(LAYOUTS)}")
    program = session.program
    count = min((len(values) for values in feeds.values()), default=0)
    matched = match_dump(program, dump, count, tensor=tensor)
    held = {name: _as_tensor(array, program.tensors[name], count, layout, dump.path) for name, array in matched.items()}
    steps = {name: step for step in program.steps for name in step.tensors}
    rows = [
        LayerDifferences(
            steps[name].name, step_kind(steps[name]), name, other_name=array.name or None, other_tensor=array.described
        )
        for name, array in matched.items()
    ]
    used = {id(array) for array in matched.values()}
    spare = tuple(array.described for array in _results_of(dump) if id(array) not in used)
    result = ExactComparison(("npusim", dump.path), layers=rows, only_other=spare)

    def ask(chunk: Mapping[str, Array], start: int) -> Mapping[str, Array]:
        stop = start + len(next(iter(chunk.values())))
        return {name: values[start:stop] for name, values in held.items()}

    result.samples = compare_rows(session, feeds, rows, ask, progress=progress)
    first = result.first_differing
    if first is not None:
        shown = explain_first(session, feeds, first, first.tensor) if first.tensor == steps[first.tensor].tensors[-1] else None
        result.divergence = Divergence(first, shown, names=result.names)
        result.hint = _layout_hint(session, feeds, matched[first.tensor], first.tensor, layout)
    return result


def _layout_hint(session: InferenceSession, feeds: Mapping[str, Array], array: DumpArray, name: str, layout: str) -> str:
    """Whether a tensor would be equal with its values in the other order."""
    tensor, other = session.program.tensors[name], LAYOUTS[1 - LAYOUTS.index(layout)]
    count = min(len(values) for values in feeds.values())
    if len(tensor.shape) < 3 or array.values.ndim != 1:
        return ""
    held = _as_tensor(array, tensor, count, other, "")
    _, chunk, _ = next(sample_chunks(session.program, feeds))
    ours = session.trace(chunk, name)[name]
    equal = np.array_equal(ours, held[: len(ours)])
    return f"its values are equal when they are read in the other order: compare with --layout {other}" if equal else ""


def match_dump(program: Program, dump: Dump, samples: int, *, tensor: str | None = None) -> dict[str, DumpArray]:
    """Which array of a dump holds which tensor, in execution order.

    A name counts with every character that C does not allow replaced by an underscore. An array whose name says nothing is the
    model's output if it has that size, else the only layer's result of its size.

    Parameters
    ----------
    program
        The program.
    dump
        The dump.
    samples
        Samples that each array holds.
    tensor
        Name of the tensor that the only array holds.

    Raises
    ------
    UnknownTensorError, InputError
        As :func:`compare_with_dump`.
    """
    order = {name: position for position, name in enumerate(name for step in program.steps for name in step.tensors)}
    if tensor is not None:
        return {_known(program, tensor, order): dump.only}
    found: dict[str, DumpArray] = {}
    for array in _results_of(dump):
        name = _by_name(array, order) or _by_size(program, array, samples, order, found)
        if name is not None and name in found:
            raise InputError(
                f"{dump.path}: both {found[name].described} and {array.described} would be tensor '{name}'; keep one"
            )
        if name is not None:
            found[name] = array
    if not found:
        sizes = ", ".join(f"{array.described} with {array.values.size} values" for array in dump.arrays[:3])
        raise InputError(
            f"{dump.path}: {sizes} fits no tensor of the model for {samples} samples; give the samples that the device ran on, "
            "and the tensor's name if several layers have that size"
        )
    return {name: found[name] for name in sorted(found, key=order.__getitem__)}


def _results_of(dump: Dump) -> list[DumpArray]:
    return [array for array in dump.arrays if array.active and array.role not in _NO_RESULT]


def _known(program: Program, tensor: str, order: Mapping[str, int]) -> str:
    target = program.resolve(tensor)
    if target in order:
        return target
    from npusim.verification.arithmetic import find_step

    return find_step(program, tensor).tensors[-1]


def _by_name(array: DumpArray, order: Mapping[str, int]) -> str | None:
    if array.name in order:
        return array.name
    spelled = [name for name in order if array.name and _identifier(name) == _identifier(array.name)]
    return spelled[0] if len(spelled) == 1 else None


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _by_size(
    program: Program, array: DumpArray, samples: int, order: Mapping[str, int], taken: Mapping[str, DumpArray]
) -> str | None:
    """The output of this size, else the only result of a layer that has it."""
    results = [step.tensors[-1] for step in program.steps if step.tensors[-1] not in taken]
    outputs = [program.resolve(name) for name in program.outputs if program.resolve(name) in order]
    for names in (outputs, results):
        fitting = [name for name in names if _bytes_fit(array, program.tensors[name], samples)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting and array.name == "":
            listed = ", ".join(f"'{name}'" for name in fitting[:4])
            raise InputError(f"{array.described} fits {len(fitting)} tensors ({listed}...); say which one it is by its name")
    return None


def _bytes_fit(array: DumpArray, tensor: Tensor, samples: int) -> bool:
    wanted = samples * math.prod(tensor.shape[1:])
    return array.values.size == wanted * (tensor.stored.itemsize if array.raw else 1)


def _as_tensor(array: DumpArray, tensor: Tensor, samples: int, layout: str, path: str) -> Array:
    """The values of an array with the tensor's shape; a single axis is samples one after the other."""
    values = array.converted(tensor.stored, path)
    sample = tensor.shape[1:]
    last = len(sample) > 1 and layout == "nhwc"
    held = (samples, *sample[1:], sample[0]) if last else (samples, *sample)
    if values.ndim == 1 and values.size == math.prod(held):
        values = values.reshape(held)
    if values.shape != held:
        raise InputError(
            f"{path}: {array.described} has shape {list(values.shape)}, wanted {list(held)} for {samples} samples of "
            f"'{tensor.name}'; give the samples that the device ran on, and only these"
        )
    return np.moveaxis(values, -1, 1) if last else values
