"""``npusim.write_golden``, ``verify_golden`` and ``check_golden``: vectors that catch a wrong device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from npusim.engine.input_stages import StageDifference, compare_stages
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, count
from npusim.files.dumps import FEATURES, Dump, read_dump
from npusim.files.dumps import FORMATS as DUMP_FORMATS
from npusim.findings import Finding
from npusim.golden.check import (
    Check,
    Expected,
    check_dump,
    check_header,
    expected_of_dump,
    expected_of_folder,
    expected_of_model,
    is_folder,
    is_header,
)
from npusim.golden.check.evidence import CAUSES
from npusim.golden.choice import DEFAULT_SETS, pick_samples, read_samples
from npusim.golden.folder import Options, check_destination, verify_folder, write_folder
from npusim.graph import Array
from npusim.program.input_stage import InputStage
from npusim.results.base import CommandResult, Model, ModelIdentity, StepIdentity, identity_of, session_of, steps_of
from npusim.results.not_quantized import NOT_QUANTIZED, not_quantized
from npusim.results.samples import Announce, Inputs, arrays_of
from npusim.schemas.derivation import Choice, Count, Minimum, NotEmpty, Pattern, Rules
from npusim.schemas.objects import UNLISTED, json_object
from npusim.verification import LAYOUTS

__all__ = [
    "CheckTotals",
    "CheckedDump",
    "GoldenCheckResult",
    "GoldenTensor",
    "GoldenVerifyResult",
    "GoldenWriteResult",
    "VerifiedTotals",
    "WrittenTotals",
    "check_golden",
    "verify_golden",
    "write_golden",
]

Path = str | os.PathLike[str]

Crc32 = Annotated[str, Pattern("^[0-9a-f]{8}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTotals:
    """Counts.

    Attributes
    ----------
    sets
        Sets.
    layers
        Steps of the program.
    tensors
        Tensors in the folder.
    files
        Files in the folder, the manifest too.
    bytes
        Their bytes but for the manifest's.
    """

    sets: Annotated[int, Minimum(1)]
    layers: Count
    tensors: Count
    files: Count
    bytes: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class GoldenWriteResult(CommandResult):
    """What was written.

    Attributes
    ----------
    ok
        Whether the exit code is 0.
    layers
        In execution order.
    findings
        That nothing of the model is quantized.
    totals
        Counts.
    output
        The folder as given.
    differences
        Where implementations of the input stage part on the inputs given; null without INPUTS.
    manifest
        The manifest as it was written; the schema 'manifest' describes it.
    """

    layers: tuple[StepIdentity, ...]
    findings: Annotated[tuple[Finding, ...], Rules((NOT_QUANTIZED,))] = ()
    totals: WrittenTotals
    output: str
    differences: tuple[StageDifference, ...] | None
    manifest: Mapping[str, Any]

    def summary(self) -> str:
        """The folder and what is in it."""
        totals, reached = self.totals, self.manifest["coverage"]["total"]
        written = f"{count(totals.sets, 'set')}, {count(totals.files, 'file')}, {count(totals.bytes, 'byte')}"
        return f"{self.output}: {written}; they reach {reached['reached']:,} of {reached['possible']:,} goals"


def write_golden(
    model: Model,
    output: Path,
    inputs: Inputs | None = None,
    *,
    sets: int = DEFAULT_SETS,
    seed: int = 0,
    formats: Sequence[str] = ("c", "npz"),
    layers: Sequence[str] = ("*",),
    input_stage: str = "onnx",
    skip_normalize: bool = False,
    codes: bool = False,
    module_name: str = "default",
    directed: bool = False,
    overwrite: bool = False,
    allow_float: bool = False,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> GoldenWriteResult:
    """Write what a device must compute with a model to a folder of golden vectors, which appears whole or not at all.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    output
        The folder.
    inputs
        Samples, as a file, as arrays by input name, or as the array of a model with one input. Without them samples are made
        that cover the model.
    sets
        Number of sets; of more samples those are chosen that cover most.
    seed
        Of the samples that are made.
    formats
        Some of ``c``, ``npz``, ``onnx`` and ``bin``.
    layers
        Names or patterns of the inner tensors to keep; ``*`` for the result of every layer.
    input_stage
        Whose implementation of the input stage the vectors come from: ``graph`` (or ``onnx``), ``c28``, ``mspm0`` or
        ``truncated``; by default that of the session.
    skip_normalize
        The application computes the input stage and hands the model codes.
    codes
        The inputs are these codes instead of values; implies `skip_normalize`.
    module_name
        Module name that the model is compiled with.
    directed
        Make samples for what the inputs do not cover, and choose among all.
    overwrite
        Replace a golden folder that is there.
    allow_float
        Whether a model of which nothing is quantized is what is wanted; without it the result is false of such a model.
    progress
        Called with the number of samples tried and of all.
    announce
        Called with a sentence about samples of a file that are taken though they differ in a last axis of size 1; without it
        they are refused.

    Returns
    -------
    GoldenWriteResult
        True: the folder was written, read back and found right.

    Raises
    ------
    UsageError
        If the folder cannot be written, or an option is wrong.
    InputError
        If the inputs do not fit the model.
    UnsupportedError
        If the model's vectors cannot be written in a format.

    Examples
    --------
    >>> result = npusim.write_golden("golden/vibration_w8.onnx", "vectors", sets=4)  # doctest: +SKIP
    >>> result.totals.sets, bool(npusim.verify_golden("vectors"))  # doctest: +SKIP
    (4, True)
    """
    check_destination(output, force=overwrite)
    session, variant = _with_variant(session_of(model), input_stage)
    options = Options(tuple(formats), tuple(layers), variant, skip_normalize or codes, module_name, seed)
    given = None if inputs is None else _given(session, inputs, options.variant if codes else None, announce)
    samples = pick_samples(session, given, sets, directed=directed, seed=seed, progress=progress)
    manifest = write_folder(output, session, samples, options, force=overwrite)
    steps = steps_of(session.program)
    unquantized = not_quantized(session.program, allow_float=allow_float)
    return GoldenWriteResult(
        model=identity_of(session.with_input_stage(variant)),
        ok=not unquantized,
        layers=steps,
        findings=unquantized,
        totals=WrittenTotals(
            sets=len(manifest["sets"]),
            layers=len(steps),
            tensors=len(manifest["tensors"]),
            files=len(manifest["files"]) + 1,
            bytes=sum(item["bytes"] for item in manifest["files"]),
        ),
        output=os.fspath(output),
        differences=None if given is None else compare_stages(session.program, given),
        manifest=manifest,
    )


def _with_variant(session: InferenceSession, input_stage: str) -> tuple[InferenceSession, InputStage]:
    """The session with the graph's own input stage, and the one that is asked for: by name, or by the session."""
    if input_stage not in (*InputStage, InputStage.GRAPH.recorded):
        raise UsageError(f"there is no input stage '{input_stage}'; the input stages are {', '.join(InputStage)}")
    asked = InputStage(input_stage)
    variant = InputStage(session.input_stage) if asked is InputStage.GRAPH else asked
    return session.with_input_stage(InputStage.GRAPH), variant


def _given(
    session: InferenceSession, inputs: Inputs, codes_for: InputStage | None, announce: Announce | None
) -> Mapping[str, Array]:
    given = inputs if isinstance(inputs, (str, os.PathLike)) else arrays_of(session, inputs)
    return read_samples(session, given, codes_for=codes_for, announce=announce)


@dataclass(frozen=True, slots=True)
class GoldenTensor:
    """A layer's tensor.

    Attributes
    ----------
    name
        Name of the layer.
    tensor
        ONNX name of the tensor it produces.
    kind
        Layer type, QUANTIZE or HOST.
    crc32
        CRC-32 of little-endian bytes, 8 hexadecimal digits.
    """

    name: str
    tensor: str
    kind: str
    crc32: Crc32


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTotals:
    """Counts.

    Attributes
    ----------
    sets
        Sets.
    tensors
        Tensors in the folder.
    values
        Values that were computed again; 0 where that was not possible.
    files
        Files that the manifest names.
    errors
        Findings.
    """

    sets: Count
    tensors: Count
    values: Count
    files: Count
    errors: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class GoldenVerifyResult(CommandResult):
    """What was found out about a golden folder; true when it is what it says.

    Attributes
    ----------
    layers
        Tensors that layers produce, in execution order.
    findings
        Where the folder is not what it says.
    totals
        Counts.
    folder
        The folder as given.
    written_by
        Version of npusim that wrote it.
    arithmetic
        How the folder says its numbers are computed.
    input_stage
        Whose implementation of the input stage the vectors come from, as the folder says.
    coverage
        Goals that the sets reach, and goals not proven unreachable, as the manifest counts them; None where it does not.
    equal_model
        Another model file that was given and is proven to give the same outputs for every input; null where the folder's own
        was.
    """

    layers: tuple[GoldenTensor, ...]
    findings: Annotated[tuple[Finding, ...], Rules(severities=("error",))]
    totals: VerifiedTotals
    folder: str
    written_by: str
    arithmetic: str | None = field(metadata=UNLISTED)
    input_stage: str = field(metadata=UNLISTED)
    coverage: tuple[int, int] | None = field(metadata=UNLISTED)
    equal_model: ModelIdentity | None = None

    def summary(self) -> str:
        """Whether the folder is proven, and how much was computed again."""
        totals = self.totals
        if not self.ok:
            first = self.findings[0].message
            return f"not proven: {self.folder} is not what it says: {count(totals.errors, 'finding')}, first: {first}"
        seen = f"{count(totals.files, 'file')}, {count(totals.values, 'value')} in {count(totals.sets, 'set')}"
        return f"proven: {self.folder} is what it says: {seen}"


def verify_golden(folder: str | os.PathLike[str], model: Model | None = None) -> GoldenVerifyResult:
    """Simulate the sets of a golden folder again, and hold every file and every statement of it against the results.

    Parameters
    ----------
    folder
        Written by :func:`write_golden`.
    model
        A session, the path of a model file, or its content; by default the copy in the folder. Another file than that copy is
        right where both are proven to give the same outputs for every input.

    Returns
    -------
    GoldenVerifyResult
        True when the folder is what it says.

    Raises
    ------
    InputError
        If it is not a golden folder, or its manifest is damaged or of another format.
    UsageError
        If the folder has no copy of the model and none is given.

    Examples
    --------
    >>> bool(npusim.verify_golden("golden/vibration_w8"))  # doctest: +SKIP
    True
    """
    found = verify_folder(folder, model.model if isinstance(model, InferenceSession) else model)
    manifest = found.manifest
    total = (manifest.get("coverage") or {}).get("total")
    return GoldenVerifyResult(
        model=identity_of(found.model),
        ok=bool(found),
        layers=tuple(
            GoldenTensor(item["layer"], item["name"], item["kind"], item["crc32"])
            for item in manifest["tensors"]
            if item.get("layer") is not None
        ),
        findings=found.findings,
        totals=VerifiedTotals(
            sets=len(manifest["sets"]),
            tensors=len(manifest["tensors"]),
            values=found.values,
            files=len(manifest["files"]),
            errors=len(found.findings),
        ),
        folder=os.fspath(folder),
        written_by=manifest["npusim"],
        arithmetic=manifest["model"].get("arithmetic"),
        input_stage=manifest["input_stage"]["variant"],
        coverage=None if total is None else (total["reached"], total["possible"]),
        equal_model=None if found.equal_model is None else identity_of(found.equal_model),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTotals:
    """Over all arrays.

    Attributes
    ----------
    tensors
        Arrays compared.
    values
        Values compared.
    differing
        Values that differ.
    explained
        Differing values that a stated cause predicts.
    """

    tensors: Annotated[int, Minimum(1)]
    values: Annotated[int, Minimum(1)]
    differing: Count
    explained: Count


@dataclass(frozen=True, slots=True)
class CheckedDump:
    """The dump.

    Attributes
    ----------
    path
        As given.
    format
        What it was read as.
    layout
        Order of the values.
    notes
        How it was understood.
    """

    path: str
    format: Annotated[str, Choice((*DUMP_FORMATS, "test_vector", "tvmgen"))]
    layout: Annotated[str, Choice(LAYOUTS)]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class GoldenCheckResult(CommandResult):
    """A device dump against what is right; true when all values are equal.

    Attributes
    ----------
    layers
        One for each array that was compared.
    findings
        One for each array that differs, and one for each cause; empty when ok.
    totals
        Over all arrays.
    dump
        The dump.
    content
        What was read.
    """

    layers: Annotated[tuple[Check, ...], NotEmpty()]
    findings: Annotated[tuple[Finding, ...], Rules(("differs", *CAUSES))]
    totals: CheckTotals
    dump: CheckedDump
    content: Dump = field(metadata=UNLISTED)

    def summary(self) -> str:
        """How many values differ, and the first cause."""
        totals = self.totals
        causes = [item.hypothesis.message for check in self.layers for item in check.stated]
        said = f"; {causes[0]}" if causes else "; unexplained" if totals.differing else ""
        tensors = count(totals.tensors, "tensor")
        return f"{self.dump.path}: {totals.differing:,} of {totals.values:,} values in {tensors} differ{said}"


def check_golden(
    source: Path | InferenceSession,
    dump: Path | Dump,
    *,
    inputs: Inputs | None = None,
    model: Path | None = None,
    set_index: int | None = None,
    tensor: str | None = None,
    layout: str = "nchw",
    input_stage: str = "onnx",
    format: str | None = None,
    dtype: str | None = None,
    base: int | None = None,
    match: str | None = None,
) -> GoldenCheckResult:
    """Compare a device dump with what the device must compute, value by value and exactly, and explain differences.

    Parameters
    ----------
    source
        A golden folder; or a session or model file, for a dump that holds its inputs, or with `inputs`.
    dump
        The file that the device wrote, or what :func:`npusim.files.dumps.read_dump` gave.
    inputs
        With a model: what the device ran on.
    model
        With a folder: the model, where the folder holds no copy of it.
    set_index
        The set, or sample, that the device ran.
    tensor
        ONNX name of the tensor in the dump; by default the array's name or its size says it.
    layout
        ``"nchw"`` or ``"nhwc"``: order of the values of a set.
    input_stage
        With a model: whose implementation of the input stage is right: ``graph`` (or ``onnx``), ``c28``, ``mspm0`` or
        ``truncated``; by default that of the session.
    format, dtype, base
        How to read the file, whatever its content looks like: its format, element type, and 16 for hexadecimal numbers.
    match
        A regular expression that finds the numbers in a log: the group ``value``, else the first group.

    Returns
    -------
    GoldenCheckResult
        True when all values are equal.

    Raises
    ------
    InputError
        If the file cannot be read or has another length.
    UsageError
        If options contradict each other.

    Examples
    --------
    >>> result = npusim.check_golden("golden/vibration_w8", "uart.txt", set_index=2)  # doctest: +SKIP
    >>> result.totals.differing, result.layers[0].explained  # doctest: +SKIP
    (0, False)
    """
    read = dump if isinstance(dump, Dump) else read_dump(dump, format=format, dtype=dtype, base=base, match=match)
    if is_header(read) and (isinstance(source, InferenceSession) or not is_folder(source)):
        session = session_of(source)
        file, checks = session.model, check_header(session.program, read)
    else:
        variant = InputStage(input_stage)
        if isinstance(source, InferenceSession):
            source, variant = _with_variant(source, input_stage)
        expected = _expected(source, read, inputs, model, variant)
        file = expected.model
        if is_header(read):
            checks = check_header(expected.expectation.program, read)
        else:
            layout = "nhwc" if read.format == FEATURES else layout
            checks = check_dump(expected.expectation, read, tensor=tensor, set_index=set_index, layout=layout)
    return GoldenCheckResult(
        model=identity_of(file),
        ok=all(checks),
        layers=checks,
        findings=tuple(finding for check in checks for finding in _findings(check)),
        totals=CheckTotals(
            tensors=len(checks),
            values=sum(check.values for check in checks),
            differing=sum(check.differing for check in checks),
            explained=sum(check.stated[0].explained for check in checks if check.stated),
        ),
        dump=CheckedDump(read.path, read.format, layout, tuple(read.notes)),
        content=read,
    )


def _expected(
    source: Path | InferenceSession, dump: Dump, inputs: Inputs | None, model: Path | None, variant: InputStage
) -> Expected:
    if not isinstance(source, InferenceSession) and is_folder(source):
        return expected_of_folder(source, model=model)
    if inputs is None:
        return expected_of_dump(source, dump, variant=variant)
    if isinstance(inputs, (str, os.PathLike)):
        return expected_of_model(source, inputs, variant=variant)
    session = session_of(source)
    return expected_of_model(session, arrays_of(session, inputs), variant=variant)


def _findings(check: Check) -> Iterator[Finding]:
    """One finding for what differs, one for each cause that is stated."""
    if check:
        return
    message = f"{check.differing} of {check.values} values of '{check.tensor}' differ"
    causes = check.stated
    remedy = "see the causes" if causes else "no single cause that was tried explains this; compare the layers before it"
    yield Finding("differs", "error", check.layer, message, remedy, {"first": json_object(check.first)})
    for item in causes:
        cause = item.hypothesis
        evidence = {"explained": item.explained, "differing": item.differing, "ambiguous": len(causes) > 1}
        yield Finding(cause.cause, "error", cause.step, cause.message, cause.remedy, evidence)
