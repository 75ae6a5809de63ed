"""Proving that a golden folder is what it says: its files, its numbers, and what the model computes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npusim import __version__
from npusim.bounds.certificate import certify
from npusim.engine.input_stages import compare_stages
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, NpusimError, UsageError
from npusim.files.arrays import read_npz
from npusim.findings import Finding
from npusim.golden.choice.search import measure_coverage
from npusim.golden.folder.file_checks import check_contents, check_files
from npusim.golden.folder.manifest import read_manifest, session_of_manifest
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors, byte_sum_of, compute_vectors, crc_of
from npusim.golden.folder.writer import VECTORS
from npusim.graph import Array
from npusim.graph.model_file import ModelFile, open_model
from npusim.program.input_stage import InputStage
from npusim.schemas.objects import json_object
from npusim.verification.equality import why_not_proven

__all__ = ["Verification", "verify_folder"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found out about a folder; true when it is what it says.

    Attributes
    ----------
    model
        The model the numbers were computed with.
    manifest
        What the folder says.
    findings
        Where it is not so.
    values
        Numbers in tensors that were computed again.
    equal_model
        Another model file that was asked about and is proven to give the same outputs for every input; None for none.
    """

    model: ModelFile
    manifest: Mapping[str, Any]
    findings: tuple[Finding, ...]
    values: int
    equal_model: ModelFile | None = None

    def __bool__(self) -> bool:
        return not self.findings


def verify_folder(
    folder: str | os.PathLike[str], model: str | os.PathLike[str] | bytes | ModelFile | None = None
) -> Verification:
    """Simulate a golden folder's sets again and hold every file and every statement of it against the results.

    Parameters
    ----------
    folder
        As ``npusim golden write`` makes it.
    model
        The model file; by default the copy in the folder. Another file than the one that the folder was written for is held
        against the copy: where both are proven equal for every input, the folder is verified with the copy.

    Raises
    ------
    InputError
        If there is no golden folder, its manifest is damaged or of another format.
    UsageError
        If the folder has no copy of the model and none is given.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    opened = model if isinstance(model, ModelFile) else open_model(_model_path(root, manifest, model))
    findings = list(check_files(root, manifest))
    equal = None
    if opened.sha256 != manifest["model"]["sha256"]:
        message = f"{opened.label} has SHA-256 {opened.sha256}, the manifest says {manifest['model']['sha256']}"
        copy, reason = _equal_copy(root, manifest, opened)
        if copy is None:
            message = f"{message}{reason}"
            findings.append(Finding("other_model", "error", None, message, "give the model that the folder was written for"))
            return Verification(opened, manifest, tuple(findings), 0)
        opened, equal = copy, opened
    try:
        arrays = read_npz(root / VECTORS)
    except InputError as error:
        findings.append(Finding("vectors", "error", None, str(error), "write the folder again"))
        return Verification(opened, manifest, tuple(findings), 0, equal)
    stated = list(_check_tensors(manifest, arrays))
    findings.extend(stated)
    inputs = {
        item["name"]: arrays[item["key"]]
        for item in manifest["tensors"]
        if item["role"] == Role.INPUT and item["key"] in arrays
    }
    if stated and _unusable(manifest, inputs):
        return Verification(opened, manifest, tuple(findings), 0, equal)
    session = session_of_manifest(_content(opened), manifest["model"])
    vectors = _simulate(session, manifest, inputs)
    findings.extend(_check_values(vectors, manifest, arrays))
    findings.extend(_check_statements(session, manifest, inputs))
    findings.extend(check_contents(root, manifest, session.program, vectors))
    return Verification(opened, manifest, tuple(findings), sum(tensor.values.size for tensor in vectors.tensors), equal)


def _equal_copy(root: Path, manifest: Mapping[str, Any], other: ModelFile) -> tuple[ModelFile | None, str]:
    """The folder's copy of its model where another one is proven equal to it; else None, and what to add to a message."""
    name = manifest["model"].get("copy")
    if not isinstance(name, str) or not (root / Path(name).name).is_file():
        return None, ""
    copy = open_model(root / Path(name).name)
    if copy.sha256 != manifest["model"]["sha256"]:
        return None, ""
    try:
        sessions = [session_of_manifest(_content(model), manifest["model"]) for model in (copy, other)]
        reason = why_not_proven(sessions[0].program, sessions[1].program)
    except NpusimError as error:
        return None, f"; it cannot be held against the copy in the folder: {error}"
    if reason is None:
        return copy, ""
    return None, f"; it is not proven to give the same outputs: {reason}"


def _content(model: ModelFile) -> str | bytes:
    return model.content if model.path is None else model.path


def _model_path(
    root: Path, manifest: Mapping[str, Any], model: str | os.PathLike[str] | bytes | None
) -> str | os.PathLike[str] | bytes:
    if model is not None:
        return model
    copy = manifest["model"].get("copy")
    if not isinstance(copy, str):
        raise UsageError(f"{root}: holds no copy of the model '{manifest['model'].get('file')}'; name the file with --model")
    return root / Path(copy).name


def _unusable(manifest: Mapping[str, Any], inputs: Mapping[str, Array]) -> bool:
    """Whether the inputs are not those that were written, so that nothing can be computed from them."""
    described = {item["name"]: item for item in manifest["tensors"] if item["role"] == Role.INPUT}
    return any(name not in inputs or crc_of(inputs[name]) != item["crc32"] for name, item in described.items())


def _simulate(session: InferenceSession, manifest: Mapping[str, Any], inputs: Mapping[str, Array]) -> Vectors:
    stage = manifest["input_stage"]
    return compute_vectors(
        session, inputs, variant=_variant(stage["variant"]), patterns=manifest["layers"], from_codes=stage["from_codes"]
    )


def _variant(name: str) -> InputStage:
    try:
        return InputStage(name)
    except ValueError:
        known = ", ".join(stage.recorded for stage in InputStage)
        raise InputError(f"the manifest names the input stage '{name}'; npusim {__version__} knows {known}") from None


def _check_tensors(manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[Finding]:
    """The arrays against what the manifest says of them."""
    for item in manifest["tensors"]:
        array = arrays.get(item["key"])
        if array is None:
            yield _tensor_finding(item, f"{VECTORS} holds no array '{item['key']}'")
        elif list(array.shape) != item["shape"] or array.dtype.name != item["dtype"]:
            seen, wanted = f"{array.dtype}{list(array.shape)}", f"{item['dtype']}{item['shape']}"
            yield _tensor_finding(item, f"array '{item['key']}' is {seen} in {VECTORS}, the manifest says {wanted}")
        elif crc_of(array) != item["crc32"] or [crc_of(values) for values in array] != item["set_crc32"]:
            yield _tensor_finding(
                item, f"array '{item['key']}' in {VECTORS} has the CRC-32 {crc_of(array)}, the manifest says otherwise"
            )
    for key in sorted(arrays.keys() - {item["key"] for item in manifest["tensors"]}):
        yield Finding(
            "tensor", "error", None, f"{VECTORS} holds '{key}', which the manifest does not name", "write the folder again"
        )


def _check_values(vectors: Vectors, manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[Finding]:
    """What was computed now against what is stored and said."""
    described = {item["name"]: item for item in manifest["tensors"]}
    computed = {tensor.name: tensor for tensor in vectors.tensors}
    for name in described.keys() ^ computed.keys():
        state = "is not computed from the model" if name in described else "is computed from the model and missing"
        yield Finding("tensor", "error", None, f"tensor '{name}' {state}", "write the folder again")
    for name, tensor in computed.items():
        item = described.get(name)
        if item is None:
            continue
        about = {"layer": tensor.layer, "kind": tensor.kind, "role": str(tensor.role), "layout": tensor.layout}
        wrong = [f"{key} {item.get(key)!r} instead of {value!r}" for key, value in about.items() if item.get(key) != value]
        if [crc_of(values) for values in tensor.channels_last()] != item.get("set_crc32_channels_last"):
            wrong.append("other CRC-32 sums of channels-last values than are computed")
        if item.get("set_byte_sum", sums := [byte_sum_of(values) for values in tensor.values]) != sums:
            wrong.append("other sums of bytes than are computed")
        if wrong:
            yield _tensor_finding(item, f"tensor '{name}' is described by {', '.join(wrong)}")
        stored = arrays.get(item["key"])
        if stored is not None:
            yield from _compare(item, tensor, stored)


def _compare(item: Mapping[str, Any], tensor: GoldenTensor, stored: Array) -> Iterator[Finding]:
    wanted = tensor.values
    if stored.shape != wanted.shape or stored.dtype != wanted.dtype:
        yield _tensor_finding(item, f"tensor '{tensor.name}' is computed as {wanted.dtype}{list(wanted.shape)}")
        return
    unequal = stored.view(f"V{stored.itemsize}") != wanted.view(f"V{wanted.itemsize}") if stored.size else np.zeros(0, bool)
    if unequal.any():
        place = tuple(int(index) for index in np.argwhere(unequal)[0])
        count = int(np.count_nonzero(unequal))
        yield _tensor_finding(
            item,
            f"{count} of {stored.size} values of tensor '{tensor.name}' are not what the model computes, the first in set "
            f"{place[0]} at index {list(place[1:])}: {stored[place]} instead of {wanted[place]}",
        )


def _check_statements(session: InferenceSession, manifest: Mapping[str, Any], inputs: Mapping[str, Array]) -> Iterator[Finding]:
    """Verdicts, differences of the input stages, and coverage."""
    variant = _variant(manifest["input_stage"]["variant"])
    cited = manifest["certificate"]["verdicts"]
    verdicts = json_object(certify(session.with_input_stage(variant).program).verdicts)
    # folders from before devices' own stages had verdicts cite those of the graph's
    if cited != verdicts and cited != json_object(certify(session.program).verdicts):
        message = f"the manifest cites the verdicts {cited}, found are {verdicts}"
        yield Finding(
            "certificate", "error", None, message, "look at 'npusim bounds' for this model, then write the folder again"
        )
    found = json_object(compare_stages(session.program, inputs))
    if manifest["input_stage"].get("differences") != found:
        message = "the manifest says something else about how input stages differ on these sets than is computed"
        yield Finding("input_stage", "error", None, message, "write the folder again", {"found": found})
    # What counts as covered may change with the version; the vectors do not.
    if manifest["npusim"] == __version__ and manifest.get("coverage") is not None:
        coverage = json_object(measure_coverage(session, inputs))
        if manifest["coverage"] != coverage:
            yield Finding(
                "coverage", "error", None, "the sets cover something else than the manifest says", "write the folder again"
            )


def _tensor_finding(item: Mapping[str, Any], message: str) -> Finding:
    return Finding("tensor", "error", item.get("layer"), message, "write the folder again, or take it from where it came from")
