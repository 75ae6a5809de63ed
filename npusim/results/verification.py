"""``npusim.verify``: every tensor of every layer against the runtime of the model's format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from npusim.bounds import Certificate, Property, certify
from npusim.bounds.verdicts import Statement, Verdict
from npusim.engine.cluster import Cluster, open_cluster
from npusim.engine.input_stages import StageDifference, compare_stages
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import count
from npusim.findings import Finding, SourcedFinding
from npusim.graph import Array
from npusim.graph.model_reader import read_model
from npusim.program import Batching
from npusim.program.input_stage import InputStage, input_stages
from npusim.results.base import CommandResult, Model, SampleSource, identity_of, session_of
from npusim.results.directed import Directed, search_directed
from npusim.results.not_quantized import not_quantized
from npusim.results.oracle import OracleOpinion, compare_with_oracle
from npusim.results.samples import Inputs, choose_inputs
from npusim.rules.dialects import dialect_findings
from npusim.schemas.derivation import Count, Rules
from npusim.schemas.objects import UNLISTED, WHERE_KNOWN, json_object
from npusim.verification import ONNXRUNTIME, SettingComparison, StepComparison, Verification
from npusim.verification import verify as compare_every_tensor

__all__ = [
    "EveryInput",
    "RuntimeOpinion",
    "VerifiedStage",
    "VerifyResult",
    "VerifyTotals",
    "remedy_of",
    "verify",
    "verify_samples",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTotals:
    """Sums over the layers.

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
        Values that break their demand.
    """

    samples: Count
    layers: Count
    differing_layers: Count
    elements: Count
    mismatches: Count


@dataclass(frozen=True, slots=True)
class RuntimeOpinion:
    """The second opinion.

    Attributes
    ----------
    version
        Of the runtime.
    outputs
        Output values computed with graph optimizations as well.
    optimized_mismatches
        Output values at which onnxruntime with its graph optimizations differs from itself without.
    name
        The runtime of TensorFlow Lite that was asked; left out where it was onnxruntime.
    settings
        The file itself in settings of onnxruntime, for models whose fused layers were compared as operators on codes; left out
        for others. It differs from itself between settings.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("version", "optimizations_agree", "outputs", "optimized_mismatches", "name", "settings"),
    )

    version: str
    outputs: Count
    optimized_mismatches: Count
    name: str | None = field(default=None, metadata=WHERE_KNOWN)
    settings: tuple[SettingComparison, ...] | None = field(default=None, metadata=WHERE_KNOWN)

    @property
    def optimizations_agree(self) -> bool | None:
        """Whether onnxruntime with its graph optimizations gives the same outputs as without; null for other runtimes."""
        return self.optimized_mismatches == 0 if self.name is None else None


@dataclass(frozen=True, slots=True)
class EveryInput:
    """What is proven beyond the samples; 'npusim bounds' tells more.

    Attributes
    ----------
    verdict
        Whether onnxruntime, running the graph as it is written, gives the integers' codes for every input.
    reason
        One clause.
    onnxruntime_optimized
        The same for an onnxruntime that folds bias and scale into weights, as its graph optimizations do for convolutions.
    """

    verdict: Verdict
    reason: str
    onnxruntime_optimized: Statement


@dataclass(frozen=True, slots=True)
class VerifiedStage:
    """The input stage.

    Attributes
    ----------
    variant
        Whose implementation made the codes that were compared; null for a model without an input stage.
    differences
        How the other implementations differ from the graph's on the samples; empty without an input stage.
    """

    variant: InputStage | None
    differences: tuple[StageDifference, ...]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class VerifyResult(CommandResult):
    """A model against onnxruntime or a runtime of TensorFlow Lite; true when values were compared and none breaks its demand.

    Attributes
    ----------
    layers
        In execution order.
    findings
        That nothing is quantized, one for each layer that differs, and one about the file where it is written in a dialect that
        was not read.
    totals
        Sums over the layers.
    inputs
        The samples.
    onnxruntime
        The second opinion.
    every_input
        What is proven beyond the samples.
    directed
        The search for inputs at which a layer differs; null without --directed.
    input_stage
        The one that this holds for, and how others differ.
    oracle
        The model's C source against npusim; null without --oracle.
    comparison, proof
        The comparison of all tensors, and what is proven of the model.
    """

    layers: tuple[StepComparison, ...]
    findings: Annotated[tuple[Finding, ...], Rules(severities=("error", "warning", "info"))]
    totals: VerifyTotals
    inputs: SampleSource
    onnxruntime: RuntimeOpinion
    every_input: EveryInput
    directed: Directed | None
    input_stage: VerifiedStage
    oracle: OracleOpinion | None
    comparison: Verification = field(metadata=UNLISTED)
    proof: Certificate = field(metadata=UNLISTED)

    def summary(self) -> str:
        """How many values were compared and differ, and what is proven for every input."""
        variant = self.input_stage.variant
        stage = "" if variant in (None, InputStage.GRAPH) else f"; for the input stage {variant}"
        return f"{self.comparison}; for every input: {self.every_input.verdict}{stage}"


def verify(
    model: Model,
    inputs: Inputs | None = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    directed: bool = False,
    seconds: float | None = None,
    output: str | os.PathLike[str] | None = None,
    oracle: bool = False,
    allow_float: bool = False,
    dask: str | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Compare every tensor of every layer of a model with ONNX Runtime, for equality.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    inputs
        Samples: a ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` file, arrays by input name with the samples on the first axis,
        or the array of a model with one input. Without them samples are generated: extremes first, then random ones over the
        range of the input stage.
    samples, seed
        Of generated samples; by default 64 and 0.
    directed
        Also search inputs at which a layer differs; those found are compared like the others.
    seconds
        Time for that search.
    output
        Archive for the inputs that it finds.
    oracle
        Also compile the model's C source and compare all its layers: a second opinion in which NumPy has no part. It needs a
        C compiler.
    allow_float
        Whether a model of which nothing is quantized is what is wanted; without it the result is false of such a model.
    dask
        Workers that compute: ``"local:2"`` for two processes on this machine, or the address of a scheduler of
        dask.distributed; by default this process. No result depends on them.
    progress
        Called with the number of samples compared and of all.

    Returns
    -------
    VerifyResult
        True when at least one value was compared and all are as demanded.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    UsageError
        If inputs are given and a number of samples as well, or none can be generated.
    ModelError, UnsupportedError
        If the model cannot be read or planned, or ONNX Runtime refuses it.

    Examples
    --------
    >>> result = npusim.verify("golden/vibration_w8.onnx", samples=4)  # doctest: +SKIP
    >>> bool(result), result.totals.mismatches, str(result.every_input.verdict)  # doctest: +SKIP
    (True, 0, 'proven')
    """
    session = session_of(model)
    feeds, source = choose_inputs(session, inputs, samples, None if directed and inputs is not None else seed)
    searched = None
    if directed:
        path = None if output is None else os.fspath(output)
        searched = search_directed(session, feeds, seconds=seconds, seed=seed or 0, output=path)
    with open_cluster(dask) as cluster:
        return verify_samples(
            session,
            feeds,
            source,
            searched=searched,
            oracle=oracle,
            allow_float=allow_float,
            cluster=cluster,
            progress=progress,
        )


def verify_samples(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    source: SampleSource,
    *,
    searched: Directed | None = None,
    oracle: bool = False,
    allow_float: bool = False,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """As :func:`verify`, on samples that were chosen, and on those that a search found."""
    compared = feeds if searched is None else searched.added_to(feeds)
    found = compare_every_tensor(session, compared, cluster=cluster, progress=progress)
    unquantized = not_quantized(session.program, allow_float=allow_float)
    proof = certify(session.program, refutations=() if searched is None else searched.refutations)
    opinion = compare_with_oracle(session, compared) if oracle else None
    return VerifyResult(
        model=identity_of(session),
        ok=found.ok and not unquantized and (opinion is None or not opinion.mismatches),
        layers=tuple(found.steps),
        findings=(
            *unquantized,
            *_findings(found, session.arithmetic),
            *(() if searched is None else searched.findings()),
            *(() if opinion is None or not opinion.mismatches else (_of_oracle(opinion),)),
            *(_plain(finding) for finding in dialect_findings(read_model(session.model), session.program)),
        ),
        totals=VerifyTotals(
            samples=found.samples,
            layers=len(found.steps),
            differing_layers=sum(step.mismatches > 0 for step in found.steps),
            elements=found.elements,
            mismatches=found.mismatches,
        ),
        inputs=source,
        onnxruntime=_opinion(found),
        every_input=_every_input(found, proof),
        directed=searched,
        input_stage=_stage_of(session, compared),
        oracle=opinion,
        comparison=found,
        proof=proof,
    )


def _of_oracle(opinion: OracleOpinion) -> Finding:
    wrong = f"{opinion.mismatches:,} of {opinion.elements:,}"
    message = f"the compiled C gives other values than npusim: {wrong}, first in '{opinion.first}'"
    remedy = f"look at {opinion.compiler} first: compile with -O0 and -ffp-contract=off; then report it"
    return Finding("oracle_differs", "error", None, message, remedy, {"compiler": opinion.compiler})


def _plain(finding: SourcedFinding) -> Finding:
    """A finding without its place in the graph, as this command has them."""
    return Finding(finding.rule, finding.severity, finding.layer, finding.message, finding.remedy, finding.evidence)


def _stage_of(session: InferenceSession, feeds: Mapping[str, Array]) -> VerifiedStage:
    if not input_stages(session.program):
        return VerifiedStage(None, ())
    if session.program.batching is Batching.FIXED:
        return VerifiedStage(InputStage(session.input_stage), ())
    others = [variant for variant in InputStage if variant is not InputStage.GRAPH]
    found = compare_stages(session.with_input_stage(InputStage.GRAPH).program, feeds, others)
    return VerifiedStage(InputStage(session.input_stage), found)


def _opinion(found: Verification) -> RuntimeOpinion:
    name = None if found.runtime == ONNXRUNTIME else found.runtime
    return RuntimeOpinion(found.onnxruntime, found.outputs, found.optimized_mismatches, name, found.settings or None)


def _every_input(found: Verification, proof: Certificate) -> EveryInput:
    if found.runtime != ONNXRUNTIME:
        reason = f"npusim makes no proof against {found.runtime}, only against runtimes that compute in floats"
        return EveryInput(Verdict.UNKNOWN, reason, Statement(Verdict.UNKNOWN, reason))
    if Property.ONNXRUNTIME_EXACT not in proof.model:
        reason = "npusim makes no proof against onnxruntime for models in this format"
        return EveryInput(Verdict.UNKNOWN, reason, Statement(Verdict.UNKNOWN, reason))
    exact, optimized = (proof.model[one] for one in (Property.ONNXRUNTIME_EXACT, Property.ONNXRUNTIME_OPTIMIZED))
    return EveryInput(exact.verdict, exact.reason, Statement.of(optimized))


OTHER_ARITHMETICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ort": "the arithmetic 'ort' is that of onnxruntime's kernels, code for code; please report it as a bug in npusim",
        "onnx": "the arithmetic 'onnx' is that of the graph as it is written, and this difference is beyond what the order of "
        "float additions can change; please report it as a bug in npusim",
        "tvm": "the arithmetic 'tvm' rounds in fixed point as generated code does; onnxruntime does not compute it",
    }
)
"""Why onnxruntime, running a graph as written, may give other codes than an arithmetic."""


def _findings(result: Verification, arithmetic: str) -> list[Finding]:
    differing = [step for step in result.steps if step.mismatches]
    if not differing and result.elements:
        return _setting_findings(result)
    if not differing and not result.ok:
        remedy = "give a model and inputs that lead to at least one value"
        return [Finding("nothing_compared", "error", None, "no value was compared", remedy, None)]
    return [
        Finding(
            "mismatch",
            "error",
            step.name,
            f"{step.mismatches} of {step.elements} values differ from {result.runtime}'s",
            remedy_of(step, differing[0], arithmetic, result.runtime),
            json_object(step.first_difference),
        )
        for step in differing
    ]


def _setting_findings(result: Verification) -> list[Finding]:
    """Where onnxruntime gives other outputs of the file than its own kernels one by one."""
    default = next((setting for setting in result.settings if setting.mismatches and setting.optimized), None)
    if default is None:
        return []
    seen = f"{default.mismatches} of {count(result.outputs, 'output value')} by at most {default.largest_difference:g}"
    if result.contradicted:
        message = f"layer by layer onnxruntime gives npusim's codes, but running the file it changes {seen} in every setting"
        return [Finding("file_differs", "error", None, message, "please report it as a bug in npusim", json_object(default))]
    best = min((setting for setting in result.settings if setting.optimized), key=lambda setting: setting.mismatches)
    if best is default:
        message = f"running the file, onnxruntime changes {seen}, behind float operations whose order of rounding is free"
        remedy = "look at the layers marked as bounded: what they may differ by flows on"
        return [Finding("runtime_setting", "info", None, message, remedy, json_object(default))]
    left = f"{best.mismatches}, behind float sums whose order of rounding is free" if best.mismatches else "none"
    message = f"in its default setting onnxruntime changes {seen}; with {best.setting} it changes {left}: {best.reason}"
    remedy = f"set {best.setting} where onnxruntime is the reference"
    return [Finding("runtime_setting", "warning", None, message, remedy, json_object(default))]


def remedy_of(step: StepComparison, first: StepComparison, arithmetic: str, runtime: str = ONNXRUNTIME) -> str:
    """What to make of a layer that differs, in an arithmetic, from what a runtime gave."""
    if step is not first:
        return f"look at layer '{first.name}' first: what differs there flows on"
    if runtime != ONNXRUNTIME:
        return f"the arithmetic '{arithmetic}' is that of {runtime}, code for code; please report it as a bug in npusim"
    if step.rounded is not None:
        return step.rounded
    if step.beyond_float32:
        return (
            "inner values of this layer pass 2^24, where onnxruntime's float32 has to round and the device's integers do not: "
            "rely on npusim's values, and keep such layers in mind when onnxruntime is the reference"
        )
    if arithmetic in OTHER_ARITHMETICS:
        return OTHER_ARITHMETICS[arithmetic]
    return "no inner value of this layer passes 2^24, so float32 does not explain it; please report it as a bug in npusim"
