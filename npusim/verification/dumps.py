"""The integer program against what a device wrote: whether the tensors of a dump are equal, and how the first one differs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.engine.session import InferenceSession
from npusim.files.dumps import Dump
from npusim.graph import Array
from npusim.verification.comparison import Divergence, ExactComparison, Progress, explain_first, need_samples
from npusim.verification.differences import LayerDifferences
from npusim.verification.dump_reading import (
    LAYOUTS,
    DumpedTensor,
    as_tensor,
    device_output,
    in_layout,
    read_tensors,
    unused_arrays,
)

__all__ = ["compare_with_dump"]


def compare_with_dump(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    dump: Dump,
    *,
    tensor: str | None = None,
    layout: str = "nchw",
    progress: Progress | None = None,
) -> ExactComparison:
    """Compare a model's tensors with the arrays of a dump; how it is read says :func:`read_tensors`.

    Parameters
    ----------
    session
        The model.
    feeds
        The inputs that the device ran on, samples on the first axis.
    dump
        What it wrote, see :func:`npusim.files.dumps.read_dump`. Arrays of a single axis hold samples one after the other.
    tensor
        Name of the tensor that the dump holds; otherwise arrays are matched by name, then by size.
    layout
        ``"nchw"`` or ``"nhwc"``: order of the values of a sample.
    progress
        Called with the number of samples done and the number of all.

    Raises
    ------
    UsageError
        If there is no such layout, or the model has no batch axis of one sample.
    UnknownTensorError
        If there is no such tensor.
    InputError
        If no array fits a tensor, several tensors fit an array, or an array has another size than the samples need.

    Examples
    --------
    >>> result = compare_with_dump(session, {"input": x}, read_dump("uart.txt"))  # doctest: +SKIP
    >>> print(result.divergence)  # doctest: +SKIP
    """
    program = session.program
    need_samples(program, feeds)
    outputs = set(map(program.resolve, program.outputs))

    def values(name: str) -> Array:
        found = session.trace(feeds, [name], progress=progress)[name]
        return device_output(program, name, found) if name in outputs else found

    count = min(len(array) for array in feeds.values())
    found = read_tensors(program, dump, values, count, tensor=tensor, layout=layout)
    order = {name: number for number, name in enumerate(name for step in program.steps for name in step.tensors)}
    found = tuple(sorted(found, key=lambda item: order.get(item.name, -1)))
    rows = [_compared(item) for item in found]
    notes = tuple(dict.fromkeys(item.note for item in found if item.note))
    result = ExactComparison(
        ("npusim", dump.path), layers=rows, only_other=tuple(unused_arrays(dump, found)), notes=(*dump.notes, *notes)
    )
    result.samples = max(len(item.sets) for item in found)
    for row, item in zip(rows, found, strict=True):
        if row.mismatches:
            codes = any(step.tensors[-1] == row.tensor for step in program.steps)
            result.divergence = Divergence(
                row, explain_first(session, feeds, row, row.tensor) if codes else None, names=result.names
            )
            result.hint = _hint(item)
            break
    return result


def _compared(item: DumpedTensor) -> LayerDifferences:
    row = LayerDifferences(
        item.layer or item.name,
        item.kind,
        item.name,
        other_name=item.array.name or None,
        other_tensor=item.described,
    )
    shape = item.right.shape[1:]
    ours, theirs = (as_tensor(values, shape, item.layout) for values in (item.expected, item.seen))
    for number, one, other in zip(item.sets, ours, theirs, strict=True):
        row.take(one[np.newaxis], other[np.newaxis], number)
    return row


def _hint(item: DumpedTensor) -> str:
    """How else the values would have to be read to be equal."""
    other = LAYOUTS[1 - LAYOUTS.index(item.layout)]
    if np.array_equal(in_layout(item.right, other)[list(item.sets)], item.seen):
        return f"its values are equal when they are read in the other order: compare with --layout {other}"
    return ""
