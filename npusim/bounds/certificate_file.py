"""Certificates as JSON files: written whole or not at all, and proven again from the model they speak of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from npusim import __version__
from npusim.bounds.certificate import Certificate, StepCertificate
from npusim.bounds.verdicts import STATEMENTS_OF, Property, Verdict
from npusim.errors import InputError
from npusim.files.json_files import read_json
from npusim.program.input_stage import InputStage
from npusim.schemas.derivation import Sha256
from npusim.schemas.objects import json_object

__all__ = [
    "FORMAT",
    "CertificateFile",
    "CertifiedModel",
    "Comparison",
    "Deviation",
    "certificate_object",
    "compare_certificate",
    "read_certificate",
]

FORMAT: Final[Literal[1]] = 1
"""Version of the file format."""

_STATEMENTS: Final = (Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT)
_BESIDE: Final = str(Property.ONNXRUNTIME_OPTIMIZED)


@dataclass(frozen=True, slots=True)
class Deviation:
    """A place where a certificate says something else than what was proven again.

    Attributes
    ----------
    layer
        Name of the layer; None where it is about the model or the file.
    place
        What differs, for example ``verdicts.soft_int32``.
    certified, proven
        What the certificate says, and what is found now.
    """

    layer: str | None
    place: str
    certified: Any
    proven: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """A certificate held against what is found now; true when every statement of it was found again.

    Attributes
    ----------
    other_model
        True when the certificate is of another model; nothing else was compared then.
    version
        The version of npusim that wrote it.
    deviations
        Where it differs; empty for another model.
    """

    other_model: bool
    version: str
    deviations: tuple[Deviation, ...]

    def __bool__(self) -> bool:
        return not self.other_model and not self.deviations


@dataclass(frozen=True, slots=True)
class CertifiedModel:
    """The model file.

    Attributes
    ----------
    sha256
        Of its content.
    format, arithmetic
        What it is written in, and how its integer layers are computed.
    input_stage
        Whose implementation makes codes of measured values; the statements hold for it.
    """

    sha256: Sha256
    format: str = "tinpu"
    arithmetic: str = "npu"
    input_stage: InputStage = InputStage.GRAPH


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """The file that 'npusim bounds -o' writes and 'npusim bounds --check' proves again.

    Attributes
    ----------
    certificate
        Version of the format.
    npusim
        Version of npusim that wrote it.
    model
        The model file.
    proof
        What is proven.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("certificate", "npusim", "model", "verdicts=proof.verdicts", "reasons=proof.reasons"),
        *("onnxruntime_optimized=proof.onnxruntime_optimized", "layers"),
    )

    certificate: Literal[1] = field(default=FORMAT, init=False)
    npusim: str = field(default=__version__, init=False)
    model: CertifiedModel
    proof: Certificate

    @property
    def layers(self) -> tuple[StepCertificate, ...]:
        """In execution order."""
        return self.proof.steps


def certificate_object(certificate: Certificate, model: CertifiedModel) -> dict[str, Any]:
    """A certificate as a JSON object.

    Parameters
    ----------
    certificate
        The certificate.
    model
        The model file.
    """
    found: dict[str, Any] = json_object(CertificateFile(model, certificate))
    return found


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a certificate's JSON object.

    Raises
    ------
    InputError
        If the file is missing or damaged: no JSON, or not what 'npusim bounds -o' writes.
    """
    value = read_json(path, "a certificate", "npusim bounds -o")
    for what, is_right in _requirements(value):
        if not is_right:
            raise InputError(f"{path}: is not a certificate or a damaged one: {what}; write it again with 'npusim bounds -o'")
    found: dict[str, Any] = value
    return found


def compare_certificate(certified: Mapping[str, Any], certificate: Certificate, model: CertifiedModel) -> Comparison:
    """Hold a certificate that was read against what is found now.

    Parameters
    ----------
    certified
        The object that :func:`read_certificate` gives.
    certificate, model
        The certificate computed anew, and the model it was computed from.
    """
    version = str(certified["npusim"])
    if certified["model"]["sha256"] != model.sha256:
        return Comparison(True, version, ())
    now = certificate_object(certificate, model)
    # certificates from before there were other formats, and other input stages
    stated = {"format": "tinpu", "arithmetic": "npu", "input_stage": str(InputStage.GRAPH), **certified["model"]}
    known = {**certified, "model": stated, "npusim": __version__}
    return Comparison(False, version, tuple(_deviations(known, now)))


def _requirements(value: Any) -> Iterator[tuple[str, bool]]:  # noqa: ANN401 - whatever a JSON file may hold
    """What a file has to be, piece by piece, so that everything behind may rely on it."""
    yield "it holds no JSON object", isinstance(value, dict)
    yield "'certificate' is not 1, the format that this npusim reads", value.get("certificate") == FORMAT
    yield "'npusim' is not a version", isinstance(value.get("npusim"), str)
    model = value.get("model")
    yield "'model' names no SHA-256", isinstance(model, dict) and _is_hash(model.get("sha256"))
    stated = model.get("format", "tinpu")
    yield f"'model' has the format {stated!r}, of which nothing is stated", isinstance(stated, str) and stated in STATEMENTS_OF
    yield from _judged("the model", value, STATEMENTS_OF[stated])
    layers = value.get("layers")
    yield "'layers' is not a list", isinstance(layers, list)
    for index, layer in enumerate(layers):
        yield f"layer {index} is not an object with a name", isinstance(layer, dict) and isinstance(layer.get("name"), str)
        yield from _judged(f"layer {index}", layer, STATEMENTS_OF[stated])


def _judged(what: str, value: Mapping[str, Any], statements: Sequence[Property]) -> Iterator[tuple[str, bool]]:
    verdicts, optimized = value.get("verdicts"), value.get("onnxruntime_optimized")
    names = {str(statement) for statement in _STATEMENTS} | {str(statement) for statement in statements} - {_BESIDE}
    yield f"{what} has not the verdicts {', '.join(sorted(names))}", isinstance(verdicts, dict) and set(verdicts) == names
    known = {str(verdict) for verdict in Verdict}
    given = {**(verdicts or {}), _BESIDE: optimized.get("verdict") if isinstance(optimized, dict) else None}
    judged = [given.get(str(statement)) for statement in statements]
    yield (
        f"a verdict on {what} is not proven, violated or unknown",
        all(isinstance(one, str) and one in known for one in judged),
    )
    yield f"{what} has no reasons", isinstance(value.get("reasons"), dict)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _deviations(certified: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Deviation]:
    old, new = certified["layers"], now["layers"]
    names = [layer["name"] for layer in old]
    if names != [layer["name"] for layer in new]:
        yield Deviation(None, "layers", names, [layer["name"] for layer in new])
        return
    pairs = [(None, _without_layers(certified), _without_layers(now))]
    pairs += [(name, mine, theirs) for name, mine, theirs in zip(names, old, new, strict=True)]
    for name, mine, theirs in pairs:
        for key in sorted({*mine, *theirs}):
            yield from _differences(name, key, mine.get(key), theirs.get(key))


def _differences(layer: str | None, place: str, certified: Any, now: Any) -> Iterator[Deviation]:  # noqa: ANN401
    if isinstance(certified, dict) and isinstance(now, dict):
        for key in sorted({*certified, *now}):
            yield from _differences(layer, f"{place}.{key}", certified.get(key), now.get(key))
    elif json.dumps(certified) != json.dumps(now):  # 1, 1.0 and true are equal in Python, not in JSON
        yield Deviation(layer, place, certified, now)


def _without_layers(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "layers"}
