"""Two models over a whole dataset, streamed: accuracy and flips, quality of a regression, the worst samples."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from npusim.comparison.metrics import best_scale
from npusim.comparison.outputs.output_errors import WORST_KEPT, ClassificationSums, RegressionSums, WorstSums
from npusim.comparison.result import DatasetResult, Task
from npusim.comparison.sums import ErrorSums, FloatArray
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, UsageError
from npusim.files.arrays import check_readable, list_npz, listed, read_npy, read_npz
from npusim.files.tables import read_csv, read_parquet
from npusim.graph import Array

__all__ = [
    "LABEL_KEYS",
    "DatasetResult",
    "LabelledChunk",
    "Task",
    "chunks_of",
    "evaluate_chunks",
    "evaluate_dataset",
    "read_labels",
    "task_of",
]

CHUNK: Final = 512
"""Samples run at once."""

LabelledChunk = tuple[Mapping[str, Array], Array | None]
"""Inputs of some samples by name, and their labels or targets."""


def evaluate_dataset(
    session: InferenceSession,
    reference: InferenceSession,
    feeds: Mapping[str, Array],
    labels: Array | None = None,
    *,
    task: Task | str | None = None,
    scale: float | None = None,
    zero_point: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetResult:
    """Compare a quantized model with its float model on samples, which may be memory-mapped.

    Parameters
    ----------
    session, reference
        The quantized model and the float one; inputs are paired in declared order.
    feeds
        Inputs of `session` by name, samples on the first axis.
    labels
        Class numbers (integers; below 0 for samples without) or targets (floats), one for each sample.
    task
        What the models are for; by default what the labels say: integers are classes, floats targets.
    scale, zero_point
        Real value of one unit of the quantized output, and the output that stands for 0; by default 1 for an output in floats,
        else by least squares against the float output of the first part, and always positive.
    progress
        Called with the number of samples done and the number of all.

    Raises
    ------
    UsageError
        If there is no such task, or the models do not fit.
    InputError
        If inputs or labels do not fit.

    Examples
    --------
    >>> result = evaluate_dataset(session, InferenceSession("float.onnx"), {"input": x}, labels)  # doctest: +SKIP
    >>> print(result)  # doctest: +SKIP
    accuracy 0.985 (float 0.99), 3 flips in 200 samples
    """
    chunks = chunks_of(feeds, labels, progress=progress)
    return evaluate_chunks(session, reference, chunks, task=task, scale=scale, zero_point=zero_point)


def evaluate_chunks(
    session: InferenceSession,
    reference: InferenceSession,
    chunks: Iterable[LabelledChunk],
    *,
    task: Task | str | None = None,
    scale: float | None = None,
    zero_point: float = 0.0,
) -> DatasetResult:
    """As :func:`evaluate_dataset`, for samples that come in parts, each taken when the one before is done and forgotten."""
    collector: _Collector | None = None
    outputs = session.get_outputs()[0].name, reference.get_outputs()[0].name
    inputs = dict(zip((one.name for one in session.get_inputs()), (one.name for one in reference.get_inputs()), strict=False))
    for feeds, labels in chunks:
        if len(inputs) != len(feeds) or not set(feeds) <= set(inputs):
            raise UsageError(
                f"inputs {sorted(feeds)} are given, wanted {sorted(inputs)} of both models; give two exports of one network"
            )
        (quantized,) = session.run([outputs[0]], feeds)
        (wanted,) = reference.run([outputs[1]], {inputs[name]: values for name, values in feeds.items()})
        if quantized.shape != wanted.shape:
            raise InputError(
                f"output '{outputs[0]}' has shape {list(quantized.shape)}, '{outputs[1]}' of the float model "
                f"{list(wanted.shape)}; only equal shapes are compared"
            )
        rows = _rows(wanted), _rows(quantized)
        if collector is None:
            codes = session.program.tensors[session.program.resolve(outputs[0])].is_integer
            chosen = _fitted_scale(*rows, zero_point) if scale is None and codes else 1.0 if scale is None else scale
            collector = _Collector(task_of(labels, task), chosen, zero_point, scores=quantized.ndim == 2)
        collector.take(*rows, labels)
    if collector is None:
        raise InputError("there are no samples to compare on; give at least one")
    return collector.result(*outputs)


def chunks_of(
    feeds: Mapping[str, Array],
    labels: Array | None = None,
    *,
    size: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[LabelledChunk]:
    """Cut inputs and labels into parts.

    Raises
    ------
    InputError
        If there are no samples, or labels for another number of samples.
    """
    count = min((len(values) for values in feeds.values()), default=0)
    if labels is not None and len(labels) != count:
        raise InputError(f"there are {len(labels)} labels for {count} samples; give one for each sample")
    for start in range(0, count, size):
        part = slice(start, start + size)
        yield {name: np.asarray(values[part]) for name, values in feeds.items()}, None if labels is None else labels[part]
        if progress is not None:
            progress(min(start + size, count), count)


def task_of(labels: Array | None, task: Task | str | None = None) -> Task:
    """The task that is asked for, else what the labels say: integers are classes, floats are targets.

    Raises
    ------
    UsageError
        If there is no such task, or labels are missing for it.

    Examples
    --------
    >>> task_of(np.array([0, 2])), task_of(np.array([0.5, 2])), task_of(None)
    (<Task.CLASSIFICATION: 'classification'>, <Task.REGRESSION: 'regression'>, <Task.AGREEMENT: 'agreement'>)
    """
    if task is not None and str(task) not in [str(one) for one in Task]:
        raise UsageError(f"there is no task '{task}'; the tasks are {', '.join(Task)}")
    if task is not None:
        wanted = Task(str(task))
        if labels is None and wanted is Task.REGRESSION:
            raise UsageError("a regression needs targets; give labels")
        return Task.AGREEMENT if labels is None else wanted
    if labels is None:
        return Task.AGREEMENT
    return Task.CLASSIFICATION if labels.dtype.kind in "iu" else Task.REGRESSION


class _Collector:
    """The sums over all samples so far."""

    def __init__(self, task: Task, scale: float, zero_point: float, *, scores: bool) -> None:
        self._task = task
        self._scores = scores
        self._scale, self._zero_point = scale, zero_point
        self._samples = 0
        self._classes, self._errors = ClassificationSums(), RegressionSums()
        self._worst, self._worst_targets = WorstSums(WORST_KEPT), WorstSums(WORST_KEPT)

    def take(self, reference: FloatArray, output: FloatArray, labels: Array | None) -> None:
        """Add some samples: outputs as they come, ``[samples, values]``."""
        quantized = (output - self._zero_point) * self._scale
        start, self._samples = self._samples, self._samples + len(reference)
        self._worst.take(reference, quantized, start)
        if self._task is Task.REGRESSION:
            targets = _rows(np.asarray(labels))
            if targets.shape != reference.shape:
                raise InputError(
                    f"targets have shape {list(targets.shape)}, outputs {list(reference.shape)}; give one for each value"
                )
            self._errors.take(reference, quantized, targets)
            self._worst_targets.take(targets, quantized, start)
        elif self._task is Task.CLASSIFICATION and not self._scores:
            raise InputError(
                "labels are class numbers, but the output is not a list of scores for each sample; give targets instead"
            )
        elif self._task is Task.CLASSIFICATION or (self._scores and reference.shape[1] > 1):
            self._classes.take(reference, quantized, _class_numbers(labels, len(reference)), start)

    def result(self, tensor: str, float_tensor: str) -> DatasetResult:
        """What was found."""
        regression = self._errors.result() if self._task is Task.REGRESSION else None
        classification = self._classes.result() if regression is None and self._classes.has_samples else None
        return DatasetResult(
            self._task,
            self._samples,
            tensor,
            float_tensor,
            self._scale,
            self._zero_point,
            classification,
            regression,
            self._worst.result(),
            self._worst_targets.result(),
        )


def _rows(values: Array) -> FloatArray:
    """One row of float64 values for each sample."""
    return values.reshape(len(values), -1).astype(np.float64)


def _class_numbers(labels: Array | None, samples: int) -> Any:  # noqa: ANN401 - an int64 array or None
    if labels is None:
        return None
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} of shape {list(labels.shape)}, wanted integers of shape [{samples}], class numbers"
        )
    return labels.astype(np.int64)


def _fitted_scale(reference: FloatArray, output: FloatArray, zero_point: float) -> float:
    sums = ErrorSums.of(reference, output - zero_point)
    scale = float(best_scale(sums)[0])
    if scale > 0:
        return scale
    # An output that runs against the float model's still has a positive scale: what gives both the same energy.
    reference_energy, energy = float(sums.reference_energy[0]), float(sums.approximation_energy[0])
    return math.sqrt(reference_energy / energy) if reference_energy > 0 and energy > 0 else 1.0


LABEL_KEYS: Final = ("label", "labels", "y", "target", "targets")
"""Names under which labels are found in a .npz file with several arrays."""


def read_labels(path: str | os.PathLike[str], samples: int | None = None) -> Array:
    """Read labels from a .npz, .npy, .csv or .parquet file.

    Whole numbers, also those of .csv, are class numbers, int64; anything else are targets, float64. A table of one column
    gives one value for each sample; one of more columns several targets for each.

    Parameters
    ----------
    path
        The file.
    samples
        Number of samples that there have to be labels for; None for any.

    Returns
    -------
    int64 array of shape (samples,), or float64 array of shape (samples, ...)

    Raises
    ------
    InputError
        If the file cannot be read, holds no labels or another number of them, or a value is not finite.
    """
    file = Path(path)
    check_readable(file)
    suffix = file.suffix.lower()
    if suffix == ".npz":
        labels = _from_npz(file)
    elif suffix == ".npy":
        labels = read_npy(file)
    elif suffix == ".csv":
        labels = _column(read_csv(file))
    elif suffix == ".parquet":
        columns = read_parquet(file)
        labels = _column(np.stack([np.asarray(values) for _, values in columns], axis=1))
    else:
        raise InputError(f"{file}: unknown suffix '{file.suffix}' for labels, wanted .npz, .npy, .csv or .parquet")
    if labels.dtype.kind not in "iuf" or labels.ndim == 0 or labels.size == 0:
        raise InputError(
            f"{file}: labels are {labels.dtype} of shape {list(labels.shape)}, wanted numbers, one for each sample"
        )
    if not np.isfinite(labels).all():
        raise InputError(f"{file}: some labels are NaN or infinite; remove these samples")
    if samples is not None and len(labels) != samples:
        raise InputError(f"{file}: holds {len(labels)} labels for {samples} samples; give one for each sample")
    return labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float64)


def _from_npz(path: Path) -> Array:
    present = list_npz(path)
    known: list[str] = [key for key in LABEL_KEYS if key in present]
    candidates = known if known or len(present) > 1 else list(present)
    if len(candidates) != 1:
        raise InputError(f"{path}: holds {listed(present)}, wanted the labels as one of {', '.join(LABEL_KEYS)}")
    return read_npz(path, candidates)[candidates[0]]


def _column(table: Array) -> Array:
    """One column as one value for each sample, whole numbers as integers."""
    values = table[:, 0] if table.shape[1] == 1 else table
    whole = values.ndim == 1 and bool((np.isfinite(values) & (values == np.floor(values))).all())
    return values.astype(np.int64) if whole else values
