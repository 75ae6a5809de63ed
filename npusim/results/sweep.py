"""``npusim.sweep``: many models over much data, as one table; a sweep that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from npusim import __version__
from npusim.comparison.outputs.scores import LABELLED, LABELS, LESS_IS_BETTER, METRICS, REFERRING, Scores, scoring, value_of
from npusim.engine.cluster import Cluster, Feeds, Job, open_cluster, results_of
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import count_samples
from npusim.errors import InputError, ModelError, UnsupportedError, UsageError, count
from npusim.files.writing import replacing
from npusim.program import Accumulating, Batching, Program, Weighted, weight_bits_of
from npusim.results.base import Model, Result, session_of
from npusim.results.compared_samples import Labels, read_compared
from npusim.results.samples import Inputs
from npusim.schemas.derivation import Count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["METRICS", "SweepResult", "SweptModel", "sweep"]

CHUNK_BYTES: Final = 8 * 2**20
MOST_SAMPLES: Final = 16384
"""About as many bytes of inputs, and at most as many samples, are one chunk, whoever computes."""

SUFFIXES: Final = (".npy", ".npz", ".parquet", ".csv")

UNIT: Final = 1000
"""Progress is told in thousandths of a partition."""

Partition = str | os.PathLike[str]
Data = Inputs | Sequence[Partition]


@dataclass(frozen=True, slots=True)
class SweptModel:
    """A model of a sweep.

    Attributes
    ----------
    model
        Its name: the key it was given under, or its path.
    sha256
        Of its content; empty where it cannot be read.
    format, arithmetic, input_stage
        What was computed.
    bits
        Mean bits of a weight; null without weights in integers.
    bytes
        All weights in integers, packed: ``ceil(sum of bits * weights / 8)``; biases and scales are left out.
    samples
        How many were run.
    metrics
        Each measure by its name.
    failure
        Why the model cannot be run; null where it was.
    """

    model: str
    sha256: str
    format: str | None
    arithmetic: str | None
    input_stage: str | None
    bits: float | None
    bytes: Count | None
    samples: Count
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class SweepResult(Result):
    """Models and what was measured of them; true when every one could be run.

    Attributes
    ----------
    ok
        Whether every model was run.
    metrics
        Names of what was measured.
    models
        In the order in which they were given.
    resumed
        How many of them were read from the journal.
    """

    rows_of: ClassVar[str] = "models"

    ok: bool
    metrics: tuple[str, ...]
    models: tuple[SweptModel, ...]
    resumed: Count = 0

    def summary(self) -> str:
        """How many models, and those that no other is better than."""
        best = ", ".join(self.pareto())
        failed = sum(one.failure is not None for one in self.models)
        return f"{count(len(self.models), 'model')}{f', {failed} cannot be run' if failed else ''}; best for their size: {best}"

    def to_pandas(self) -> pd.DataFrame:
        """One row for each model: name, arithmetic, bits, bytes, samples, each metric, and whether it is on the front."""
        import pandas as pd

        front = set(self.pareto())
        rows = [
            {
                "model": one.model,
                "arithmetic": one.arithmetic,
                "bits": one.bits,
                "bytes": one.bytes,
                "samples": one.samples,
                **{name: one.metrics.get(name, math.nan) for name in self.metrics},
                "pareto": one.model in front,
                "failure": one.failure,
            }
            for one in self.models
        ]
        return pd.DataFrame(rows)

    def pareto(self, metric: str | None = None) -> list[str]:
        """The models for which there is none of at most as many bytes that is at least as good, and better in one of both.

        Parameters
        ----------
        metric
            Its name; by default the first.
        """
        points = [(name, size, value) for name, size, value in self._points(metric)]
        return [
            name
            for name, size, value in points
            if not any(
                other_size <= size and other >= value and (other_size < size or other > value)
                for _, other_size, other in points
            )
        ]

    def _points(self, metric: str | None) -> list[tuple[str, int, float]]:
        """Name, bytes and what is better the larger it is, of the models that have both."""
        chosen = self.metrics[0] if metric is None else metric
        if chosen not in self.metrics:
            raise UsageError(f"'{chosen}' was not measured, only {', '.join(self.metrics)}")
        sign = -1.0 if chosen in LESS_IS_BETTER else 1.0
        return [
            (one.model, one.bytes, sign * one.metrics[chosen])
            for one in self.models
            if one.bytes is not None and not math.isnan(one.metrics.get(chosen, math.nan))
        ]

    def plot(self, metric: str | None = None) -> Figure:
        """A metric over the bytes of the weights, with the front drawn as a line; needs matplotlib.

        Parameters
        ----------
        metric
            As for :meth:`pareto`.

        Raises
        ------
        UsageError
            If matplotlib is not installed, or there is no such metric.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise UsageError("drawing needs matplotlib; pip install '.[examples]', or use to_pandas()") from None
        chosen = self.metrics[0] if metric is None else metric
        sign = -1.0 if chosen in LESS_IS_BETTER else 1.0
        front = set(self.pareto(metric))
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        points = sorted((size, sign * value, name) for name, size, value in self._points(metric))
        axes.plot([size for size, *_ in points], [value for _, value, _ in points], "o", color="0.6")
        best = [(size, value, name) for size, value, name in points if name in front]
        axes.plot([size for size, *_ in best], [value for _, value, _ in best], "o-", color="tab:blue")
        for size, value, name in best:
            axes.annotate(Path(name).stem, (size, value), textcoords="offset points", xytext=(4, 4), fontsize=7)
        axes.set_xlabel("bytes of weights")
        axes.set_ylabel(chosen)
        return figure


def sweep(
    models: Sequence[Model] | Mapping[str, Model],
    data: Data,
    metrics: Sequence[str] = ("accuracy",),
    *,
    labels: Labels | Sequence[Labels] | None = None,
    reference: Model | None = None,
    journal: str | os.PathLike[str] | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Measure many models on the same data, each to the bit as it computes.

    Parameters
    ----------
    models
        Sessions, paths or contents, or these by a name. Give sessions for other arithmetics than the default.
    data
        A file of samples (``.npy``, ``.npz``, ``.parquet``, ``.csv``), a folder of such files, a list of them, or arrays. A
        file is a partition: one at a time is read. A large .npy file is never read as a whole, and is read by the workers.
    metrics
        ``accuracy`` (share of labelled samples whose first largest score is the label), ``agreement`` (of this class with the
        reference's), ``fitted_sqnr_db`` (of the output, times one best scale, against the reference's), and of outputs in real
        units ``mean_absolute_error`` and ``root_mean_square_error`` against targets.
    labels
        Classes or targets: a file or an array, one for each partition; by default those in a .npz file of samples.
    reference
        The float model, for agreement and fitted_sqnr_db.
    journal
        A JSON file that holds the models that are finished. It is written whole after each; those in it are not run again.
    dask
        Workers that compute: ``"local:2"`` for two processes on this machine, or the address of a scheduler of
        dask.distributed; by default this process. No result depends on them.
    progress
        Called with what is done and what there is, in thousandths of a model's partition.

    Returns
    -------
    SweepResult
        True when every model could be run. Sums over samples are added without rounding, in any order.

    Raises
    ------
    UsageError
        If there is no such metric, labels or the reference are missing, or the journal is of another sweep.
    InputError
        If data or labels do not fit a model, or the journal cannot be read.

    Examples
    --------
    >>> found = npusim.sweep(["w8.onnx", "w4.onnx"], "windows/", journal="sweep.json", dask="local:2")  # doctest: +SKIP
    >>> found.to_pandas()[["model", "bits", "bytes", "accuracy"]]  # doctest: +SKIP
    >>> found.plot().savefig("front.png")  # doctest: +SKIP
    """
    chosen = _checked(tuple(metrics), reference)
    partitions = _partitions(data, labels)
    against = None if reference is None else session_of(reference)
    named = _named(models)
    book = _Journal.opened(journal, _identity(chosen, partitions, against))
    resumed, rows = 0, []
    with open_cluster(dask) as cluster:
        for number, (name, model) in enumerate(named):
            report = _within(progress, number * len(partitions) * UNIT, len(named) * len(partitions) * UNIT)
            try:
                session = session_of(model)
                row = _described(name, session)
            except (ModelError, UnsupportedError) as error:
                rows.append(SweptModel(name, "", None, None, None, None, None, 0, failure=str(error)))
                continue
            known = book.find(row)
            if known is None:
                known = _measured(row, session, against, partitions, chosen, cluster, report)
                book.add(known)
            else:
                resumed += 1
            report(len(partitions) * UNIT)
            rows.append(known)
    ok = all(row.failure is None for row in rows)
    return SweepResult(ok=ok, metrics=chosen, models=tuple(rows), resumed=resumed)


def _within(progress: Progress | None, start: int, total: int) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress(start + done, total)


def _checked(metrics: tuple[str, ...], reference: Model | None) -> tuple[str, ...]:
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics or len(set(metrics)) < len(metrics):
        raise UsageError(f"metrics are {', '.join(metrics) or 'none'}, wanted some of {', '.join(METRICS)}, each once")
    if reference is None and REFERRING & set(metrics):
        raise UsageError(f"{', '.join(sorted(REFERRING & set(metrics)))}: the float model is needed; give it as reference")
    return metrics


def _named(models: Sequence[Model] | Mapping[str, Model]) -> list[tuple[str, Model]]:
    if isinstance(models, Mapping):
        pairs = [(str(name), model) for name, model in models.items()]
    elif isinstance(models, (str, bytes)):
        raise UsageError("models is one model, wanted a list of them, [model], or a mapping of names to models")
    else:
        pairs = [(_name_of(model, number), model) for number, model in enumerate(models)]
    names = [name for name, _ in pairs]
    if not pairs or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise UsageError(
            "there is no model to run" if twice is None else f"two models are called '{twice}'; name them, {{name: model}}"
        )
    return pairs


def _name_of(model: Model, number: int) -> str:
    if isinstance(model, InferenceSession):
        return f"model {number}" if model.model.path is None else model.model.path
    return f"model {number}" if isinstance(model, bytes) else os.fspath(model)


@dataclass(frozen=True, slots=True, eq=False)
class _Partition:
    """Some of the data and their labels."""

    data: Inputs
    labels: Labels | None

    def identity(self) -> list[object]:
        """What tells it from others: the values, or of a file name, size and time of the last change."""
        return [_identity_of(self.data), _identity_of(self.labels)]


def _identity_of(data: Any) -> object:  # noqa: ANN401 - a file, an array, arrays by name, or None
    if data is None:
        return None
    if isinstance(data, (str, os.PathLike)):
        try:
            found = os.stat(data)
        except OSError as error:
            raise InputError(f"{os.fspath(data)}: cannot be read: {error.strerror}; check the path") from None
        return [os.fspath(data), found.st_size, found.st_mtime_ns]
    if isinstance(data, Mapping):
        return {name: _identity_of(array) for name, array in data.items()}
    array = np.ascontiguousarray(data)
    return [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


def _partitions(data: Data, labels: Labels | Sequence[Labels] | None) -> list[_Partition]:
    files: list[Inputs]
    if isinstance(data, (str, os.PathLike)) and os.path.isdir(data):
        files = [path for path in sorted(Path(data).iterdir()) if path.suffix.lower() in SUFFIXES]
        if not files:
            raise InputError(f"{os.fspath(data)}: holds no {', '.join(SUFFIXES)} file; give a folder of partitions")
    elif isinstance(data, Sequence) and not isinstance(data, str):
        files = list(data)
    else:
        files = [data]
    beside: list[Labels | None]
    if labels is None:
        beside = [None] * len(files)
    elif isinstance(labels, (list, tuple)):
        beside = list(labels)
    else:
        beside = [labels]  # type: ignore[list-item]
    if not files or len(files) != len(beside):
        raise UsageError(f"there are {count(len(files), 'partition')} and labels for {len(beside)}; give one of them for each")
    return [_Partition(one, other) for one, other in zip(files, beside, strict=True)]


def _identity(metrics: tuple[str, ...], partitions: Sequence[_Partition], reference: InferenceSession | None) -> str:
    """What a row depends on besides its model, as one text."""
    against = None if reference is None else [reference.model.sha256, reference.arithmetic, reference.input_stage]
    described = [__version__, metrics, [one.identity() for one in partitions], against]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _described(name: str, session: InferenceSession) -> SweptModel:
    weights = list(_weights(session.program))
    bits, number = sum(size * width for size, width in weights), sum(size for size, _ in weights)
    return SweptModel(
        name,
        session.model.sha256,
        session.format,
        session.arithmetic,
        session.input_stage,
        bits / number if number else None,
        -(-bits // 8) if number else None,
        0,
    )


def _weights(program: Program) -> Iterator[tuple[int, int]]:
    """Number and bits of the weights of each layer that has any."""
    for step in program.steps:
        if isinstance(step, Accumulating) and isinstance(step, Weighted):
            width = weight_bits_of(step)
            if width is not None:
                yield int(step.weights.size), width


def _measured(
    row: SweptModel,
    session: InferenceSession,
    reference: InferenceSession | None,
    partitions: Sequence[_Partition],
    metrics: tuple[str, ...],
    cluster: Cluster | None,
    report: Callable[[int], None],
) -> SweptModel:
    program = session.program
    if program.batching is Batching.FIXED:
        raise UsageError(f"{session.model.label} has no batch axis of one sample; export it with a batch of 1")
    sessions = (session,) if reference is None else (session, reference)
    job = Job(scoring, sessions, (metrics,))
    total = Scores()
    for number, partition in enumerate(partitions):
        feeds, labels, _ = read_compared(session, partition.data, partition.labels, None, None, extremes=False)
        if labels is None and LABELLED & set(metrics):
            where = os.fspath(partition.data) if isinstance(partition.data, (str, os.PathLike)) else "the data"
            raise UsageError(f"{', '.join(sorted(LABELLED & set(metrics)))}: {where} has no labels; give them with labels")
        samples = count_samples(feeds)
        cut: Feeds = feeds if labels is None else {**feeds, LABELS: labels}
        size = _chunk_size(program)
        done = 0
        for found in results_of(job, cut, range(0, samples, size), cluster):
            total.merge(found)
            done += found.samples
            report(number * UNIT + done * UNIT // samples)
    return replace(row, samples=total.samples, metrics={name: value_of(name, total) for name in metrics})


def _chunk_size(program: Program) -> int:
    if program.batching is Batching.SINGLE:
        return 1
    size = sum(math.prod(program.tensors[name].shape) * program.tensors[name].dtype.itemsize for name in program.inputs)
    return max(1, min(MOST_SAMPLES, CHUNK_BYTES // max(size, 1)))


@dataclass(slots=True)
class _Journal:
    """The models that are finished, in a file that is written whole or not at all."""

    path: Path | None
    identity: str
    rows: list[SweptModel] = field(default_factory=list)

    @classmethod
    def opened(cls, path: str | os.PathLike[str] | None, identity: str) -> _Journal:
        if path is None or not os.path.exists(path):
            return cls(None if path is None else Path(path), identity)
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = [
                SweptModel(**{**row, "metrics": {name: float.fromhex(value) for name, value in row["metrics"].items()}})
                for row in held["models"]
            ]
            found = held["sweep"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{os.fspath(path)}: is not a journal of a sweep ({type(error).__name__}); name another file"
            ) from None
        if found != identity:
            raise UsageError(
                f"{os.fspath(path)}: is the journal of another sweep: metrics, data, labels, reference or version differ; name "
                "another file, or remove it"
            )
        return cls(Path(path), identity, rows)

    def find(self, row: SweptModel) -> SweptModel | None:
        """What is known of a model, under the name that it has now."""
        for one in self.rows:
            if replace(one, model=row.model, samples=0, metrics={}) == replace(row, metrics={}):
                return replace(one, model=row.model)
        return None

    def add(self, row: SweptModel) -> None:
        """Keep a finished model."""
        self.rows.append(row)
        if self.path is None:
            return
        held = [{**asdict(one), "metrics": {name: value.hex() for name, value in one.metrics.items()}} for one in self.rows]
        text = json.dumps({"npusim": __version__, "sweep": self.identity, "models": held}, indent=1)
        with replacing(self.path) as file:
            file.write(f"{text}\n".encode())
