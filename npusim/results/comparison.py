"""``npusim.compare``: a quantized model against its float model, another quantized model, onnxruntime or a device dump."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from npusim.comparison.findings import Limits, alignment_findings, find_causes, limit_findings, observe_codes, weight_of
from npusim.comparison.float_comparison import compare_with_float, is_quantized
from npusim.comparison.layer_result import UnpairedLayer
from npusim.comparison.result import FloatComparison, LayerComparison, OutputComparison
from npusim.engine.cluster import Cluster, open_cluster
from npusim.engine.runner import Progress
from npusim.engine.second_opinion import runtime_version
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import count_samples
from npusim.errors import UsageError, count
from npusim.files.dumps import Dump, read_dump
from npusim.findings import Finding
from npusim.graph import Array
from npusim.program.input_stage import InputStage, input_stages
from npusim.results.base import CommandResult, Model, SampleSource, identity_of, session_of
from npusim.results.compared_samples import Kept, Labels, read_compared
from npusim.results.samples import Announce, Inputs, silent
from npusim.schemas.derivation import Count, NotEmpty, Sha256
from npusim.schemas.objects import UNLISTED, json_object
from npusim.verification import (
    LAYOUTS,
    Divergence,
    ExactComparison,
    LayerDifferences,
    compare_models,
    compare_with_dump,
    compare_with_runtime,
    exact_findings,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RUNTIME",
    "ComparedWith",
    "ExactCompareResult",
    "ExactTotals",
    "FloatCompareResult",
    "FloatModel",
    "FloatTotals",
    "NotCompared",
    "compare",
    "compare_exactly",
    "compare_in_floats",
    "other_model",
]

RUNTIME = "ort"
"""The word for onnxruntime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactTotals:
    """Sums.

    Attributes
    ----------
    samples
        Samples compared.
    layers
        Layers compared.
    differing_layers
        Layers with a mismatch.
    elements
        Values compared.
    mismatches
        Values that differ.
    """

    samples: Count
    layers: Count
    differing_layers: Count
    elements: Count
    mismatches: Count


@dataclass(frozen=True, slots=True)
class ComparedWith:
    """The other side.

    Attributes
    ----------
    kind
        What it is.
    path
        Its file.
    sha256
        Of the content of a model.
    version
        Of onnxruntime.
    """

    kind: Literal["model", "onnxruntime", "dump"]
    path: str | None
    sha256: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class NotCompared:
    """Layers that only one side has.

    Attributes
    ----------
    model
        Only the model.
    other
        Only the other side.
    """

    model: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ExactCompareResult(CommandResult):
    """A comparison in integers; true when values were compared and all are equal.

    Attributes
    ----------
    ok
        Whether all values are equal; the exit code is 0 then.
    layers
        Layers that both sides have, in execution order.
    findings
        The most important first.
    totals
        Sums.
    comparison
        That it is exact.
    against
        The other side.
    inputs
        The samples.
    not_compared
        Layers that only one side has.
    divergence
        The first difference, and its arithmetic.
    result
        The same as the room of comparisons gives it.
    """

    layers: Annotated[tuple[LayerDifferences, ...], NotEmpty()]
    findings: tuple[Finding, ...]
    totals: ExactTotals
    comparison: Literal["exact"] = field(default="exact", init=False)
    against: ComparedWith
    inputs: SampleSource
    not_compared: NotCompared
    divergence: Divergence | None
    result: ExactComparison = field(metadata=UNLISTED)

    def summary(self) -> str:
        """Whether all values are equal, and where the first differs."""
        return f"{self.result.names[1]}: {self.result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTotals:
    """Sums over samples and layers.

    Attributes
    ----------
    samples
        Samples over which errors were measured.
    experiment_samples
        Samples of attributions and effects.
    layers
        Steps of the quantized model.
    paired_layers
        Steps with a counterpart in the float model.
    output_sqnr_db
        SQNR of the first output.
    experiment_sqnr_db
        The same over the samples of the experiments.
    weights_float_sqnr_db
        The same with every layer with weights in float at once.
    excluded_samples
        Samples that were left out.
    scale_agreement
        Largest relative difference between a recovered scale of an output and the model's own; null where outputs are codes.
    """

    samples: Count
    experiment_samples: Count
    layers: Count
    paired_layers: Count
    output_sqnr_db: float | None
    experiment_sqnr_db: float
    weights_float_sqnr_db: float
    excluded_samples: Count
    scale_agreement: float | None


@dataclass(frozen=True, slots=True)
class FloatModel:
    """The float model.

    Attributes
    ----------
    kind
        What it is.
    path
        Its file.
    sha256
        Of its content.
    version
        Null.
    """

    kind: Literal["float_model"] = field(default="float_model", init=False)
    path: str | None
    sha256: Sha256
    version: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class FloatCompareResult(CommandResult):
    """A comparison with a float model; true without a finding of severity error, and when the layers could be aligned.

    Attributes
    ----------
    layers
        Paired layers in execution order.
    findings
        The most important first.
    totals
        Sums over samples and layers.
    comparison
        That it is with a float model.
    against
        The float model.
    inputs
        The samples.
    outputs
        The outputs of the model.
    unpaired
        Layers without a counterpart.
    unpaired_float
        Operations of the float model that no layer stands for.
    channels
        Whether the dictionary holds the numbers of each channel.
    result
        The same as the room of comparisons gives it, with histograms and points.
    """

    layers: tuple[LayerComparison, ...]
    findings: tuple[Finding, ...]
    totals: FloatTotals
    comparison: Literal["float"] = field(default="float", init=False)
    against: FloatModel
    inputs: SampleSource
    outputs: tuple[OutputComparison, ...]
    unpaired: tuple[UnpairedLayer, ...]
    unpaired_float: tuple[str, ...]
    channels: bool = field(metadata=UNLISTED)
    result: FloatComparison = field(metadata=UNLISTED)

    def summary(self) -> str:
        """The SQNR of the output, how many layers were aligned, and the first finding."""
        totals = self.totals
        sqnr = "no output compared" if totals.output_sqnr_db is None else f"output SQNR {totals.output_sqnr_db:.1f} dB"
        first = f"; first: {self.findings[0].message}" if self.findings else ""
        aligned = f"{totals.paired_layers} of {totals.layers} layers aligned"
        return f"{sqnr}, {aligned}, {count(totals.samples, 'sample')}, {count(len(self.findings), 'finding')}{first}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that the command line prints with ``--json``."""
        found: dict[str, Any] = json_object(self, by_channel=self.channels)
        return found

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row for each layer."""
        return self.result.to_pandas()


def compare(
    model: Model,
    against: Model | Dump,
    inputs: Inputs | None = None,
    *,
    labels: Labels | None = None,
    samples: int | None = None,
    seed: int | None = None,
    tensor: str | None = None,
    layout: str | None = None,
    channels: bool = False,
    min_sqnr: float | None = None,
    min_accuracy: float | None = None,
    max_drop: float | None = None,
    exclude: Sequence[int] = (),
    threads: int | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
    announce: Announce = silent,
) -> ExactCompareResult | FloatCompareResult:
    """Compare a quantized model with something else, layer by layer.

    With the float model that was quantized: which layer errs, why, and what the output would win. With another quantized
    model, onnxruntime or a device dump: every value must be equal, and the first that is not is explained.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    against
        The same of the other model; ``"ort"`` for onnxruntime; or a dump, as a file or as
        :func:`npusim.files.dumps.read_dump` gives it. A path that does not end in ``.onnx`` is a dump.
    inputs
        Samples, as a file, as arrays by input name, or as the array of a model with one input; without them samples are
        generated.
    labels
        Classes or target values of the samples, for a comparison with a float model.
    samples, seed
        Of generated samples; by default 64 and 0.
    tensor, layout
        For a dump: the tensor that its only array holds, and the order of the values, ``"nchw"`` or ``"nhwc"``.
    channels
        Let the dictionary of a comparison with a float model hold the numbers of each channel.
    min_sqnr, min_accuracy, max_drop
        With a float model: the result is false below this SQNR of the output in dB, below this accuracy (0 to 1), or where the
        accuracy is lower than the float model's by more than this (0 to 1; without labels: where more samples change their
        class).
    exclude
        With a float model: numbers of samples to leave out, counted from 0; all others keep their numbers.
    threads
        For a comparison with a float model.
    dask
        Workers that compute: ``"local:2"`` for two processes on this machine, or the address of a scheduler of
        dask.distributed; by default this process. No result depends on them. Not for dumps.
    progress
        Called with the parts done and of all.
    announce
        Called with a sentence about what was done to the samples of a file.

    Returns
    -------
    FloatCompareResult or ExactCompareResult
        True without an error; true when all values are equal.

    Raises
    ------
    UsageError
        If an option is not for this comparison, or the models do not fit each other.
    InputError
        If inputs, labels or the dump do not fit the model.
    ModelError, UnsupportedError
        If a model cannot be read or planned.

    Examples
    --------
    >>> result = npusim.compare("w8.onnx", "float.onnx", "recorded.npz")  # doctest: +SKIP
    >>> result.to_pandas()[["layer", "sqnr_db", "output_if_float_gain_db"]]  # doctest: +SKIP
    """
    session = session_of(model)
    other = _other_side(against, session.input_stage)
    if not isinstance(other, Dump) and (tensor is not None or layout is not None):
        raise UsageError("a tensor and a layout are for dumps; leave them out here")
    against_float = isinstance(other, InferenceSession) and not is_quantized(other.program)
    limits = Limits(min_sqnr, min_accuracy, max_drop)
    if not against_float and (labels is not None or channels or limits.any or exclude):
        raise UsageError(
            "labels, channels, limits and excluded samples are for comparisons with a float model; leave them out here"
        )
    feeds, known, source = read_compared(session, inputs, labels, samples, seed, extremes=not against_float, announce=announce)
    if isinstance(other, Dump) and dask is not None:
        raise UsageError("a dump is compared in this process; leave dask out")
    with open_cluster(dask) as cluster:
        if isinstance(other, InferenceSession) and against_float:
            return compare_in_floats(
                session,
                other,
                feeds,
                source,
                labels=known,
                channels=channels,
                limits=limits,
                exclude=exclude,
                threads=threads,
                cluster=cluster,
                progress=progress,
            )
        return compare_exactly(
            session, other, feeds, source, tensor=tensor, layout=layout or LAYOUTS[0], cluster=cluster, progress=progress
        )


def _other_side(against: Model | Dump, input_stage: str) -> InferenceSession | Dump | None:
    """The other session or dump; None for onnxruntime."""
    if isinstance(against, (Dump, InferenceSession)):
        return against
    if against == RUNTIME:
        return None
    if isinstance(against, (str, os.PathLike)) and Path(against).suffix.lower() != ".onnx":
        return read_dump(against)
    return other_model(against, input_stage)


def other_model(model: Model, input_stage: str, threads: int | None = None) -> InferenceSession:
    """A session of the other model, with an input stage of the same implementation where it has one."""
    session = model if isinstance(model, InferenceSession) else InferenceSession(model, threads=threads)
    if input_stage == InputStage.GRAPH or not input_stages(session.program) or not is_quantized(session.program):
        return session
    return session.with_input_stage(input_stage)


def compare_exactly(
    session: InferenceSession,
    other: InferenceSession | Dump | None,
    feeds: Mapping[str, Array],
    source: SampleSource,
    *,
    tensor: str | None = None,
    layout: str = "nchw",
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> ExactCompareResult:
    """As :func:`compare` with another quantized model, a dump, or onnxruntime (None), on samples that were chosen."""
    if isinstance(other, InferenceSession):
        result = compare_models(session, other, feeds, cluster=cluster, progress=progress)
        against = ComparedWith("model", other.model.path, other.model.sha256, None)
    elif other is not None:
        result = compare_with_dump(session, feeds, other, tensor=tensor, layout=layout, progress=progress)
        against = ComparedWith("dump", other.path, None, None)
    else:
        result = compare_with_runtime(session, feeds, cluster=cluster, progress=progress)
        against = ComparedWith("onnxruntime", None, None, runtime_version())
    return ExactCompareResult(
        model=identity_of(session),
        ok=result.ok,
        layers=tuple(result.layers),
        findings=exact_findings(result),
        totals=ExactTotals(
            samples=result.samples,
            layers=len(result.layers),
            differing_layers=sum(layer.mismatches > 0 for layer in result.layers),
            elements=result.elements,
            mismatches=result.mismatches,
        ),
        against=against,
        inputs=source,
        not_compared=NotCompared(tuple(result.only_model), tuple(result.only_other)),
        divergence=result.divergence,
        result=result,
    )


def compare_in_floats(
    session: InferenceSession,
    reference: InferenceSession,
    feeds: Mapping[str, Array],
    source: SampleSource,
    *,
    labels: Array | None = None,
    channels: bool = False,
    limits: Limits | None = None,
    exclude: Sequence[int] = (),
    threads: int | None = None,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> FloatCompareResult:
    """As :func:`compare` with a float model, on samples that were chosen."""

    def report(work: str, done: int, total: int) -> None:
        # measuring is the first half of the work, the experiments are the second
        if progress is not None:
            progress(done + (total if work == "experiments" else 0), 2 * total)

    kept = None if not exclude else Kept.of(count_samples(feeds), exclude)
    if kept is not None:
        feeds = kept.feeds(feeds)
        labels = None if labels is None else labels[kept.numbers]
    numbers = None if kept is None else kept.numbers
    result = compare_with_float(
        session, reference, feeds, labels=labels, numbers=numbers, threads=threads, cluster=cluster, progress=report
    )
    observations = observe_codes(session, feeds)
    causes = find_causes(session.program, observations=observations, comparison=result)
    findings = (*limit_findings(result, limits or Limits()), *_ranked(alignment_findings(result), causes))
    output = result.outputs[0] if result.outputs else None
    return FloatCompareResult(
        model=identity_of(session),
        ok=result.ok and not any(finding.severity == "error" for finding in findings),
        layers=result.layers,
        findings=findings,
        totals=FloatTotals(
            samples=result.samples,
            experiment_samples=result.experiment_samples,
            layers=len(result.layers) + len(result.unpaired),
            paired_layers=len(result.layers),
            output_sqnr_db=None if output is None else output.sqnr_db,
            experiment_sqnr_db=result.experiment_sqnr_db,
            weights_float_sqnr_db=result.weights_float_sqnr_db,
            excluded_samples=0 if kept is None else kept.excluded,
            scale_agreement=result.scale_agreement,
        ),
        against=FloatModel(reference.model.path, reference.model.sha256),
        inputs=source,
        outputs=result.outputs,
        unpaired=result.unpaired,
        unpaired_float=result.unpaired_float,
        channels=channels,
        result=result,
    )


def _ranked(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of both sorts: errors about the comparison itself, then those whose layers cost the output most.

    That the weights of a layer do not fit comes behind what is wrong with them, where that is known.
    """
    stated = {finding.layer for finding in second if (finding.evidence or {}).get("fault")}
    blocking = [finding for finding in first if finding.severity == "error" and finding.layer not in stated]
    others = [finding for finding in first if finding not in blocking]
    return (*blocking, *sorted((*others, *second), key=lambda finding: -weight_of(finding)))
