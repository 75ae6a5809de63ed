"""Integers against integers: another quantized model, onnxruntime, or what a device wrote, layer by layer, for equality."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar

from npusim.engine.cluster import Cluster, Feeds, Job, results_of
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, UsageError, count
from npusim.graph import Array
from npusim.program import Batching, HostOperation, Program, Step
from npusim.program.trace import step_kind
from npusim.schemas.objects import json_object
from npusim.verification.arithmetic import (
    ElementArithmetic,
    aligned_lines,
    arithmetic_lines,
    explain_element,
    paired_lines,
    real_text,
)
from npusim.verification.differences import LayerDifferences
from npusim.verification.pairing import Pairing, pair_steps

__all__ = [
    "Divergence",
    "ExactComparison",
    "Part",
    "Progress",
    "compare_models",
    "divergence_lines",
    "explain_first",
    "need_samples",
    "over_samples",
    "sample_chunks",
]

CHUNK: Final = 128

PART_BYTES: Final = 128 * 2**20
"""About as much is held of the samples of one part: fewer samples of a deep network."""

VALUE_BYTES: Final = 12
"""Of a value: up to eight bytes here, and four in onnxruntime."""
"""Samples compared at once: the codes of all layers of both sides are held in memory meanwhile."""

PARTS_SENT: Final = 16
"""Parts that a worker takes at once, so that handing them out costs little."""

SENT_BYTES: Final = 8 * 2**20
"""Bytes of inputs that it gets at once, where that is more than one part."""

Progress = Callable[[int, int], None]
"""Called with the number of samples done and the number of all."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference in the order of the layers, and its arithmetic.

    Attributes
    ----------
    layer
        The comparison of the layer.
    model
        How the model's value comes about; None where the host computes it in the graph's float operations.
    other
        How the other side's value comes about, where that is known.
    other_values
        What the other side holds in the layer's inner tensors at this element, where it can say.
    names
        What both sides are called.
    rounded
        Why the other side has to round here, with the value that makes it; None where it does not.
    """

    json_names: ClassVar[tuple[str, ...]] = ("layer=layer.name", "tensor=layer.tensor", "model", "other", "other_values")

    layer: LayerDifferences
    model: ElementArithmetic | None = None
    other: ElementArithmetic | None = None
    other_values: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, str] = ("model", "other")
    rounded: str | None = None

    def __str__(self) -> str:
        return "\n".join(divergence_lines(self))


def divergence_lines(divergence: Divergence) -> list[str]:
    """The first difference of a comparison: both values, and the arithmetic of both sides as far as it is known."""
    row, names = divergence.layer, divergence.names
    if row.first is None:
        return []
    place = f"sample {row.first.sample}, element {list(row.first.index)}"
    lines = [f"first difference: '{row.name}' ({row.kind}), {place}"]
    if divergence.model is not None and divergence.other is not None:
        lines.append(f"A {real_text(row.first.value)}, B {real_text(row.first.other)}")
        return [*lines, *paired_lines(divergence.model, divergence.other, names)]
    lines.append(f"{names[0]} {real_text(row.first.value)}, {names[1]} {real_text(row.first.other)}")
    if divergence.model is None:
        return [*lines, "the host computes it in the graph's float operations"]
    lines.extend(arithmetic_lines(divergence.model))
    if divergence.other_values:
        lines.append(f"what {names[1]} holds at this element")
        lines.extend(
            f"  {line}" for line in aligned_lines([(name, real_text(value)) for name, value in divergence.other_values.items()])
        )
    return lines


@dataclass(slots=True)
class ExactComparison:
    """The result of comparing in integers; true when values were compared and all are as demanded.

    Attributes
    ----------
    names
        What both sides are called.
    samples
        Samples compared.
    layers
        The comparison of each layer that both sides have, in execution order.
    only_model, only_other
        Names of layers that only one side has.
    divergence
        The first element that differs; None when all are equal.
    notes
        How the other side was read, where that was open, as clauses.
    hint
        What else would make them equal, as a clause; empty where nothing is known.
    """

    names: tuple[str, str]
    samples: int = 0
    layers: list[LayerDifferences] = field(default_factory=list)
    only_model: tuple[str, ...] = ()
    only_other: tuple[str, ...] = ()
    divergence: Divergence | None = None
    notes: tuple[str, ...] = ()
    hint: str = ""

    @property
    def elements(self) -> int:
        """Values compared."""
        return sum(layer.elements for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """Values that differ beyond what is allowed."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def first_differing(self) -> LayerDifferences | None:
        """The first layer in execution order with a mismatch."""
        return next((layer for layer in self.layers if layer.mismatches), None)

    @property
    def ok(self) -> bool:
        """True when at least one value was compared and none differs."""
        return self.elements > 0 and self.mismatches == 0

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        first = self.first_differing
        verdict = "equal" if first is None else f"{self.mismatches} of {self.elements} values differ, first in '{first.name}'"
        return (
            f"{verdict}: {count(len(self.layers), 'layer')}, {count(self.elements, 'value')}, {count(self.samples, 'sample')}"
        )

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas is imported only here
        """One row for each layer, as a pandas DataFrame."""
        import pandas

        rows = [json_object(layer) for layer in self.layers]
        return pandas.DataFrame(
            [{key: row[key] for key in row if key not in ("histogram", "first_difference")} for row in rows]
        )


def compare_models(
    session: InferenceSession,
    other: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> ExactComparison:
    """Compare two quantized models on the same samples: the codes of every layer that both have, and the outputs.

    Layers are paired by structure (:func:`npusim.verification.pairing.pair_steps`). Codes are compared as they are: two
    exporters' graphs of one network have to be equal, models of different bit widths will differ.

    Parameters
    ----------
    session, other
        Both models. Inputs are paired in declared order and need the same shape and element type.
    feeds
        Inputs of `session` by name, samples on the first axis.
    cluster
        Workers that compute; None for this process.
    progress
        Called after each part of the samples.

    Raises
    ------
    UsageError
        If the models' inputs or outputs do not fit, or no layer of one has the form of a layer of the other.
    InputError
        If the inputs do not fit the models.

    Examples
    --------
    >>> result = compare_models(InferenceSession("a.onnx"), InferenceSession("b.onnx"), {"input": x})  # doctest: +SKIP
    >>> print(result.divergence)  # doctest: +SKIP
    """
    names = _labels(session, other)
    renamed = _paired_inputs(session.program, other.program, names)
    pairing = pair_steps(session.program, other.program)
    if not pairing.pairs:
        raise UsageError(
            f"no layer of {names[0]} has the kind and shape of a layer of {names[1]}; these are not two exports of one network"
        )
    wanted = [*_step_rows(pairing), *_output_rows(session.program, other.program, pairing, names)]
    result = ExactComparison(
        names,
        layers=wanted,
        only_model=tuple(step.name for step in pairing.only_first),
        only_other=tuple(step.name for step in pairing.only_second),
    )

    need_samples(session.program, feeds)
    job = Job(_comparing, (session, other), ([row.begun() for row in wanted], renamed))
    for part in over_samples(job, session.program, feeds, cluster=cluster, progress=progress):
        result.samples += part.samples
        for row, found in zip(wanted, part.rows, strict=True):
            row.merge(found)
    result.divergence = _divergence(
        result, (session, feeds), (other, {renamed[name]: values for name, values in feeds.items()})
    )
    return result


def _divergence(
    result: ExactComparison,
    model: tuple[InferenceSession, Mapping[str, Array]],
    other: tuple[InferenceSession, Mapping[str, Array]],
) -> Divergence | None:
    first = result.first_differing
    if first is None:
        return None
    sides = explain_first(*model, first, first.tensor), explain_first(*other, first, _other_tensor(first))
    return Divergence(first, *sides, names=result.names)


def explain_first(
    session: InferenceSession, feeds: Mapping[str, Array], row: LayerDifferences, tensor: str
) -> ElementArithmetic | None:
    """The arithmetic of a layer's first difference; None where it has none or the host computes the tensor."""
    if row.first is None or row.kind in ("HOST", "INPUT"):
        return None
    return explain_element(session, feeds, tensor, row.first.sample, row.first.index)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some samples of both sides of a comparison.

    Attributes
    ----------
    start, samples
        Number of the first sample, and how many there are.
    feeds
        Their inputs.
    ours, theirs
        Tensors by the model's names.
    """

    start: int
    samples: int
    feeds: Mapping[str, Array]
    ours: Mapping[str, Array]
    theirs: Mapping[str, Array]


class Mergeable(Protocol):
    """What is found on some samples."""

    samples: int

    def merge(self, other: Self, /) -> None:
        """Add what is found on other samples; the order does not matter."""
        ...


Found = TypeVar("Found", bound=Mergeable)


def over_samples(
    job: Job[Found],
    program: Program,
    feeds: Mapping[str, Array],
    *,
    size: int = CHUNK,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Iterator[Found]:
    """Do a job part by part; the only loop over samples that comparisons have.

    Parameters
    ----------
    job
        What is done with a part.
    program
        The model's.
    feeds
        Inputs by name, samples on the first axis.
    size
        Samples of a part; those of a program that runs samples one by one are always alone. Of a model without a batch axis of
        one sample, all is one part.
    cluster
        Workers that do it, each many parts at once; None for this process.
    progress
        Called after each part.
    """
    starts, total = None, 1
    if program.batching is not Batching.FIXED and feeds:
        total = min(len(values) for values in feeds.values())
        size = _part_size(program, size)
        starts = range(0, total, size if cluster is None else size * _parts_sent(program, size))
        if cluster is not None:
            job = Job(_in_parts, job.sessions, (job.build, size, *job.arguments))
    done = 0
    for found in results_of(job, feeds, starts, cluster):
        yield found
        done += found.samples
        if progress is not None:
            progress(done, total)


def _parts_sent(program: Program, size: int) -> int:
    """Parts that a worker takes at once: many, but few of large inputs."""
    inputs = size * sum(
        math.prod(program.tensors[name].shape) * program.tensors[name].dtype.itemsize for name in program.inputs
    )
    return max(1, min(PARTS_SENT, SENT_BYTES // max(inputs, 1)))


def _in_parts(*given: Any) -> Callable[[Feeds, int], Any]:  # noqa: ANN401 - sessions, then the work, the size and arguments
    """Work that takes its samples in parts, as they are without workers, and merges what it finds."""
    at = next(index for index, item in enumerate(given) if not isinstance(item, InferenceSession))
    build, size, *arguments = given[at:]
    work = build(*given[:at], *arguments)

    def take(feeds: Feeds, start: int) -> Any:  # noqa: ANN401
        total = min(len(values) for values in feeds.values())
        parts = ({name: values[at : at + size] for name, values in feeds.items()} for at in range(0, total, size))
        found = work(next(parts), start)
        for number, part in enumerate(parts, 1):
            found.merge(work(part, start + number * size))
        return found

    return take


@dataclass(slots=True)
class _ComparedRows:
    """Rows of some samples."""

    samples: int
    rows: list[LayerDifferences]

    def merge(self, other: _ComparedRows) -> None:
        """Add those of other samples."""
        self.samples += other.samples
        for row, found in zip(self.rows, other.rows, strict=True):
            row.merge(found)


def _comparing(
    session: InferenceSession, other: InferenceSession, rows: Sequence[LayerDifferences], renamed: Mapping[str, str]
) -> Callable[[Feeds, int], _ComparedRows]:
    """The comparison of two models on a part of the samples."""

    def compare(feeds: Feeds, start: int) -> _ComparedRows:
        samples = len(next(iter(feeds.values())))
        ours = session.trace(feeds, [row.tensor for row in rows])
        theirs = other.trace({renamed[name]: values for name, values in feeds.items()}, [_other_tensor(row) for row in rows])
        found = _ComparedRows(samples, [row.begun() for row in rows])
        for row in found.rows:
            row.take(ours[row.tensor], theirs[_other_tensor(row)], start, samples=samples)
        return found

    return compare


def need_samples(program: Program, feeds: Mapping[str, Array]) -> None:
    """Make sure that there are samples that can be compared one by one.

    Raises
    ------
    InputError
        If there is no sample.
    UsageError
        If the model has no batch axis of one sample.
    """
    if program.batching is Batching.FIXED:
        raise UsageError(
            "the model has no batch axis of one sample, so samples cannot be compared one by one; export it with batch 1"
        )
    if not min((len(values) for values in feeds.values()), default=0):
        raise InputError("there are no samples to compare on; give at least one")


def sample_chunks(
    program: Program, feeds: Mapping[str, Array], size: int = CHUNK
) -> Iterator[tuple[int, dict[str, Array], int]]:
    """Cut inputs into parts: number of the first sample, the part, number of all samples.

    What a program runs sample by sample stays so: a part then is one sample. Of a model without a batch axis of one sample,
    all is one part.
    """
    if program.batching is Batching.FIXED or not feeds:
        yield 0, dict(feeds), 1
        return
    count = min(len(values) for values in feeds.values())
    size = _part_size(program, size)
    for start in range(0, count, size):
        yield start, {name: values[start : start + size] for name, values in feeds.items()}, count


def _part_size(program: Program, size: int) -> int:
    return 1 if program.batching is Batching.SINGLE else max(1, min(size, PART_BYTES // max(_sample_bytes(program), 1)))


def _sample_bytes(program: Program) -> int:
    """About what all tensors of a sample take on both sides."""
    return VALUE_BYTES * sum(math.prod(tensor.shape) for tensor in program.tensors.values())


def _labels(session: InferenceSession, other: InferenceSession) -> tuple[str, str]:
    labels = session.model.label, other.model.label
    return labels if labels[0] != labels[1] else ("model", "other")


def _paired_inputs(first: Program, second: Program, names: tuple[str, str]) -> dict[str, str]:
    """The second model's name for each input of the first."""
    described = [
        [(program.tensors[name].shape, program.tensors[name].dtype.name) for name in program.inputs]
        for program in (first, second)
    ]
    if described[0] != described[1]:
        raise UsageError(
            f"the inputs of {names[0]} are {_input_text(described[0])}, those of {names[1]} {_input_text(described[1])}; "
            "models are compared on the same samples, so give two exports of one network"
        )
    return dict(zip(first.inputs, second.inputs, strict=True))


def _input_text(described: Sequence[tuple[tuple[int, ...], str]]) -> str:
    return " and ".join(f"{dtype} {list(shape)}" for shape, dtype in described) or "none"


def _step_rows(pairing: Pairing) -> list[LayerDifferences]:
    return [
        LayerDifferences(one.name, step_kind(one), one.tensors[-1], other.name, other.tensors[-1])
        for one, other in pairing.pairs
    ]


def _output_rows(first: Program, second: Program, pairing: Pairing, names: tuple[str, str]) -> Iterator[LayerDifferences]:
    """Outputs of both models that are not the codes of paired layers, where both hold integers or both floats."""
    if len(first.outputs) != len(second.outputs):
        raise UsageError(
            f"{names[0]} has {len(first.outputs)} outputs and {names[1]} {len(second.outputs)}; they are compared in order"
        )
    known = {(one.tensors[-1], other.tensors[-1]) for one, other in pairing.pairs}
    for one, other in zip(map(first.resolve, first.outputs), map(second.resolve, second.outputs), strict=True):
        shapes = first.tensors[one].shape, second.tensors[other].shape
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"output '{one}' of {names[0]} has shape {list(shapes[0])} and '{other}' of {names[1]} {list(shapes[1])}"
            )
        if (one, other) not in known and first.tensors[one].is_integer == second.tensors[other].is_integer:
            sources = _producer(first, one), _producer(second, other)
            yield LayerDifferences(_name(sources[0], one), "HOST", one, _name(sources[1], other), other)


def _producer(program: Program, tensor: str) -> Step | None:
    return next((step for step in program.steps if tensor in step.tensors), None)


def _name(step: Step | None, tensor: str) -> str:
    return step.name if isinstance(step, HostOperation) else tensor


def _other_tensor(row: LayerDifferences) -> str:
    return row.tensor if row.other_tensor is None else row.other_tensor
