"""``npusim.prove_equal``: whether two models give the same outputs for every input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from npusim import __version__
from npusim.engine.runner import Progress
from npusim.errors import InputError, UsageError
from npusim.files.arrays import write_arrays
from npusim.files.json_files import read_json, write_json
from npusim.findings import Finding
from npusim.results.base import CommandResult, Model, ModelIdentity, identity_of, session_of
from npusim.results.compared_samples import read_compared
from npusim.results.samples import Inputs
from npusim.schemas.derivation import Count
from npusim.schemas.objects import UNLISTED, json_object
from npusim.verification.equality import DEFAULT_SECONDS, Equality, EqualityVerdict, SameStep, prove_programs_equal

__all__ = ["EqualityFile", "EqualityResult", "EqualityTotals", "OutputDifference", "prove_equal"]

FORMAT: Final[Literal[1]] = 1
"""Version of the format of certificates of equality."""


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """The first values that differ, at the inputs that were found.

    Attributes
    ----------
    output
        Name in the second model.
    position
        Without the axis of samples.
    first, second
        What the two models give there.
    inputs
        The .npz file that the inputs were written to; null where none was asked for.
    """

    output: str
    position: tuple[int, ...]
    first: float
    second: float
    inputs: str | None


@dataclass(frozen=True, slots=True)
class EqualityTotals:
    """Sums over the steps of the second model.

    Attributes
    ----------
    layers
        Steps.
    same_layers
        Those of which the first model computes every value.
    inputs_tried
        In the search for a difference.
    errors
        Findings of severity error.
    """

    layers: Count
    same_layers: Count
    inputs_tried: Count
    errors: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class EqualityResult(CommandResult):
    """What is known of two models; true when they are proven equal for every input, or a certificate of that proves again.

    Attributes
    ----------
    against
        The second model.
    verdict
        ``proven``, ``different`` or ``unknown``.
    reason
        Why, a clause.
    layers
        Steps of the second model, and which steps of the first compute the same.
    findings
        What speaks against equality.
    totals
        Sums.
    difference
        Null where no input is known at which outputs differ.
    certificate
        The file that was written or proven again; null without one.
    equality
        What was found, the inputs included.
    """

    against: ModelIdentity
    verdict: EqualityVerdict
    reason: str
    layers: tuple[SameStep, ...]
    findings: tuple[Finding, ...]
    totals: EqualityTotals
    difference: OutputDifference | None
    certificate: str | None
    equality: Equality = field(metadata=UNLISTED)

    def summary(self) -> str:
        """The verdict and why."""
        said = {
            EqualityVerdict.PROVEN: "proven equal for every input",
            EqualityVerdict.DIFFERENT: "different",
            EqualityVerdict.UNKNOWN: "unknown: neither proven equal nor seen to differ",
        }[self.verdict]
        return f"{said}: {self.reason}"


@dataclass(frozen=True, slots=True)
class EqualityFile:
    """The file that 'npusim compare --prove --certificate' writes and 'npusim compare --prove --check' proves again.

    Attributes
    ----------
    equality_certificate
        Version of the format.
    npusim
        Version of npusim that wrote it.
    models
        The two models, with their arithmetic and input stage.
    verdict
        What is known.
    reason
        Why, a clause.
    layers
        Steps of the second model, and which steps of the first compute the same.
    """

    json_names: ClassVar[tuple[str, ...]] = ("equality_certificate", "npusim", "models", "verdict", "reason", "layers")

    equality_certificate: Literal[1] = field(default=FORMAT, init=False)
    npusim: str = field(default=__version__, init=False)
    models: tuple[ModelIdentity, ModelIdentity]
    verdict: EqualityVerdict
    reason: str
    layers: tuple[SameStep, ...]


def prove_equal(
    first: Model,
    second: Model,
    inputs: Inputs | None = None,
    *,
    seconds: float = DEFAULT_SECONDS,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    check: str | os.PathLike[str] | None = None,
    witness: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> EqualityResult:
    """Prove that two models give the same outputs for every input, or find an input at which they do not.

    Every element of both programs is brought into a form that does not depend on how a network is written: sums of products
    without common factors, and which codes are made of each sum that can occur. Equal forms are equal for every input, so
    names, the order of channels, channels that nothing reads, scales folded into weights, merged clips and other spellings of
    a layer do not matter. Where forms differ, inputs are searched; what is found is run on both models by the reference engine.

    Parameters
    ----------
    first, second
        Sessions, paths of model files, or their content. A session says which arithmetic and input stage are meant.
    inputs
        Samples of the first model to begin the search with, besides made ones.
    seconds, seed
        Time for the search, and the seed of its pseudo-random numbers.
    output
        Write a certificate of what was found to this JSON file.
    check
        Prove this certificate again. The result is true where its models are these and its verdict is found again.
    witness
        Write inputs at which outputs differ to this .npz file, where some are found.
    progress
        Called with the seconds gone and those of all, during the search.

    Returns
    -------
    EqualityResult
        True where equality is proven.

    Raises
    ------
    UsageError
        If inputs or outputs differ in number, type or shape, or files contradict each other.
    InputError
        If samples do not fit, or the certificate is damaged.
    ModelError, UnsupportedError
        If a model cannot be read or planned.

    Examples
    --------
    >>> bool(npusim.prove_equal("golden/vibration_w8.onnx", "golden/vibration_w8.onnx"))  # doctest: +SKIP
    True
    """
    if output is not None and check is not None:
        raise UsageError("a certificate is either written or checked; give one of both files")
    one, other = session_of(first), session_of(second)
    stated = None if check is None else _read_certificate(check)
    samples = None if inputs is None else read_compared(one, inputs, None, None, None, extremes=True)[0]
    found = prove_programs_equal(one, other, seconds=seconds, seed=seed, samples=samples, progress=progress)
    models = identity_of(one), identity_of(other)
    findings = tuple(_findings(found) if stated is None else _deviations(stated, found, models))
    if output is not None:
        write_json(output, json_object(EqualityFile(models, found.verdict, found.reason, found.steps)))
    if witness is not None and found.inputs is not None:
        write_arrays(witness, found.inputs)
    path = output if check is None else check
    return EqualityResult(
        model=models[0],
        ok=not findings,
        against=models[1],
        verdict=found.verdict,
        reason=found.reason,
        layers=found.steps,
        findings=findings,
        totals=EqualityTotals(
            len(found.steps), sum(step.same == step.values for step in found.steps), found.evaluations, len(findings)
        ),
        difference=_difference(found, witness),
        certificate=None if path is None else os.fspath(path),
        equality=found,
    )


def _difference(found: Equality, witness: str | os.PathLike[str] | None) -> OutputDifference | None:
    if found.output is None or found.position is None or found.values is None:
        return None
    return OutputDifference(found.output, found.position, *found.values, None if witness is None else os.fspath(witness))


def _findings(found: Equality) -> Iterator[Finding]:
    if found.verdict is EqualityVerdict.DIFFERENT and found.values is not None:
        values = f"{found.values[0]:g} and {found.values[1]:g}"
        message = f"at an input that was found, output '{found.output}' is {values}; {found.reason}"
        yield Finding("not_equal", "error", found.layer, message, "look at the inputs with 'npusim run --trace' on both models")
    elif found.verdict is EqualityVerdict.UNKNOWN:
        remedy = "give more time, or samples with --data; where the models must be equal, write this layer the same way in both"
        yield Finding("equality_unknown", "error", found.layer, found.reason, remedy)


def _read_certificate(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    command = "npusim compare --prove --certificate"
    value = read_json(path, "a certificate of equality", command)
    known = {str(verdict) for verdict in EqualityVerdict}
    right = (
        isinstance(value, dict)
        and value.get("equality_certificate") == FORMAT
        and value.get("verdict") in known
        and isinstance(value.get("models"), list)
        and len(value["models"]) == 2
        and all(isinstance(model, dict) for model in value["models"])
        and isinstance(value.get("layers"), list)
    )
    if not right:
        raise InputError(f"{path}: is not a certificate of equality or a damaged one; write it again with '{command}'")
    found: Mapping[str, Any] = value
    return found


def _deviations(stated: Mapping[str, Any], found: Equality, models: tuple[ModelIdentity, ModelIdentity]) -> Iterator[Finding]:
    """What a certificate says that is not found again."""
    for place, kept, now in zip(("first", "second"), stated["models"], models, strict=True):
        for name in ("sha256", "format", "arithmetic", "input_stage"):
            if kept.get(name) != getattr(now, name):
                seen = f"its {name} is {kept.get(name)}, here it is {getattr(now, name)}"
                message = f"the certificate is of another {place} model: {seen}"
                yield Finding("other_model", "error", None, message, "check the models that the certificate was written for")
                return
    layers = json_object(EqualityFile(models, found.verdict, found.reason, found.steps))["layers"]
    if stated["verdict"] != str(found.verdict):
        message = f"the certificate says {stated['verdict']}, found is {found.verdict}: {found.reason}"
        yield Finding("changed_verdict", "error", found.layer, message, "write the certificate again and look at what changed")
    elif stated["layers"] != layers:
        message = "the certificate pairs the layers of both models in another way than is found now"
        yield Finding("changed_evidence", "error", None, message, "write the certificate again and look at what changed")
    elif found.verdict is not EqualityVerdict.PROVEN:
        yield from _findings(found)
