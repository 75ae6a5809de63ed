"""Writing golden folders: every file made from the same vectors, all of them or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from npusim.bounds.certificate import certify
from npusim.engine.input_stages import StageDifference, compare_stages, stage_parameters
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, InternalMismatchError, UnsupportedError, UsageError
from npusim.files.arrays import write_arrays
from npusim.files.writing import replacing_folder
from npusim.golden.choice.samples import Samples
from npusim.golden.folder.c_files import (
    CHECK_HEADER,
    CHECK_SOURCE,
    INPUT_CONFIG,
    TEST_VECTOR,
    check_header,
    check_source,
    checked_layers,
    input_config,
    test_vector,
)
from npusim.golden.folder.file_checks import (
    binary_files,
    binary_patterns,
    check_contents,
    check_files,
    feature_files,
    onnx_files,
)
from npusim.golden.folder.manifest import (
    FORMATS,
    MANIFEST,
    Manifest,
    ManifestFile,
    ManifestModel,
    ManifestSet,
    ManifestStage,
    ManifestTensor,
    file_entry,
    manifest_bytes,
    read_manifest,
)
from npusim.golden.folder.vectors import Vectors, byte_sum_of, compute_vectors, crc_of
from npusim.program.input_stage import InputStage, input_stages
from npusim.schemas.objects import json_object

__all__ = ["MODEL_COPY", "VECTORS", "Options", "check_destination", "write_folder"]

VECTORS: Final = "vectors.npz"
MODEL_COPY: Final = "model.onnx"

LARGEST_COPY: Final = 2**20
"""Bytes up to which the model is copied into the folder."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a folder is written.

    Attributes
    ----------
    formats
        Which of `FORMATS`; the arrays in ``vectors.npz`` are written in any case.
    patterns
        Layers to keep, as for :func:`~npusim.golden.folder.vectors.compute_vectors`.
    variant
        Whose input stage.
    from_codes
        The application makes the codes.
    module
        Module name of the compiled model.
    seed
        With which samples were chosen.
    """

    formats: tuple[str, ...] = ("c", "npz")
    patterns: tuple[str, ...] = ("*",)
    variant: InputStage = InputStage.GRAPH
    from_codes: bool = False
    module: str = "default"
    seed: int = 0


def check_destination(path: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse, before any work, a place where a folder cannot be written or may not be.

    Raises
    ------
    UsageError
        If something is there and `force` is not set, or something that `golden write` has not written.
    """
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder '{target.absolute().parent}'; make it first")
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(f"{path}: is not a folder and is not replaced; name a folder to write")
    present = {file.relative_to(target).as_posix() for file in target.rglob("*") if not file.is_dir()}
    if not present:
        return
    if not force:
        raise UsageError(f"{path}: exists already; name another folder, or replace this one with --force")
    try:
        known = {MANIFEST, *(item["path"] for item in read_manifest(target)["files"])}
    except InputError as error:
        raise UsageError(f"{path}: is not replaced, because it may be something else: {error}") from error
    if present - known:
        raise UsageError(
            f"{path}: is not replaced, because it holds '{min(present - known)}', which is not part of the golden folder; "
            "move it away first"
        )


def write_folder(
    path: str | os.PathLike[str], session: InferenceSession, samples: Samples, options: Options, *, force: bool = False
) -> dict[str, Any]:
    """Write a golden folder that appears whole or not at all.

    The same model, samples and options give the same bytes in every file.

    Parameters
    ----------
    path
        The folder.
    session
        The model.
    samples
        What the sets are.
    options
        How to write them.
    force
        Replace a golden folder that is there.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    UsageError
        If the folder may not or cannot be written, or the formats and the input stage contradict each other.
    UnsupportedError
        If the model's vectors cannot be written in a format.
    """
    check_destination(path, force=force)
    _check_options(options)
    vectors = compute_vectors(
        session, samples.inputs, variant=options.variant, patterns=options.patterns, from_codes=options.from_codes
    )
    differences = compare_stages(session.program, samples.inputs)
    with replacing_folder(path, overwrite=force) as folder:
        files = []
        for name, content in _files(session, vectors, samples, options):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            files.append(file_entry(name, content))
        write_arrays(folder / VECTORS, {tensor.name: np.asarray(tensor.values) for tensor in vectors.tensors})
        files.append(file_entry(VECTORS, (folder / VECTORS).read_bytes()))
        listed = tuple(sorted(files, key=lambda item: item.path))
        manifest: dict[str, Any] = json_object(_manifest(session, vectors, samples, options, differences, listed))
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
        _confirm(folder, session, vectors)
    return manifest


def _confirm(folder: Path, session: InferenceSession, vectors: Vectors) -> None:
    """Read everything back before it is put in its place: a golden folder has to be beyond doubt."""
    manifest = read_manifest(folder)
    findings = (*check_files(folder, manifest), *check_contents(folder, manifest, session.program, vectors))
    if findings:
        raise InternalMismatchError(f"what was written is not what was computed: {findings[0].message}; please report this")


def _check_options(options: Options) -> None:
    for name in options.formats:
        if name not in FORMATS:
            raise UsageError(f"there is no format '{name}'; the formats are {', '.join(FORMATS)}")
    if "onnx" in options.formats and options.variant is not InputStage.GRAPH:
        raise UsageError(
            f"an ONNX runtime computes the input stage as the graph says, so vectors from the input stage '{options.variant}' "
            "would fail there; leave onnx out of --format or take --input-stage graph"
        )


def _files(session: InferenceSession, vectors: Vectors, samples: Samples, options: Options) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file but the arrays."""
    sha256 = session.model.sha256
    if len(session.model.content) <= LARGEST_COPY:
        yield MODEL_COPY, session.model.content
    if "c" in options.formats:
        numbers = [one.number for one in samples.origins]
        origin = session.format, session.arithmetic
        yield TEST_VECTOR, test_vector(vectors, numbers, sha256, *origin).encode("ascii")
        yield INPUT_CONFIG, input_config(vectors).encode("ascii")
        yield CHECK_HEADER, check_header(vectors, options.module, sha256, *origin).encode("ascii")
        yield CHECK_SOURCE, check_source(vectors, options.module, *origin).encode("ascii")
    if "bin" in options.formats:
        yield from binary_files(vectors)
    if "features" in options.formats:
        yield from feature_files(session.program, vectors)
    if "onnx" in options.formats:
        yield from onnx_files(session.program, vectors)


def _manifest(
    session: InferenceSession,
    vectors: Vectors,
    samples: Samples,
    options: Options,
    differences: tuple[StageDifference, ...],
    files: tuple[ManifestFile, ...],
) -> Manifest:
    model = session.model
    return Manifest(
        model=ManifestModel(
            file=None if model.path is None else Path(model.path).name,
            sha256=model.sha256,
            format=session.format,
            arithmetic=session.arithmetic,
            copy=MODEL_COPY if len(model.content) <= LARGEST_COPY else None,
            input_codes=session.input_codes,
            input_alpha=session.input_alpha,
        ),
        sets=tuple(ManifestSet("made" if one.made else "data", one.number, one.reason) for one in samples.origins),
        seed=options.seed,
        formats=tuple(name for name in FORMATS if name in {*options.formats, "npz"}),
        layers=options.patterns,
        module=options.module,
        input_stage=ManifestStage(options.variant.recorded, options.from_codes, _derived(session), differences),
        certificate=certify(session.with_input_stage(options.variant).program),
        coverage=samples.coverage,
        tensors=_tensors(vectors, options),
        files=files,
    )


def _derived(session: InferenceSession) -> bool | None:
    """Whether a factor of the graph was split into multiplier and shift; None where there are none."""
    try:
        derived = [stage_parameters(session.program, stage).derived for stage in input_stages(session.program)]
    except UnsupportedError:
        return None
    return any(derived) if derived else None


def _tensors(vectors: Vectors, options: Options) -> tuple[ManifestTensor, ...]:
    numbers = {tensor.name: number for number, tensor in enumerate(checked_layers(vectors))} if "c" in options.formats else {}
    return tuple(
        ManifestTensor(
            name=tensor.name,
            layer=tensor.layer,
            kind=tensor.kind,
            role=tensor.role,
            shape=tensor.values.shape,
            dtype=tensor.values.dtype.name,
            layout=tensor.layout,
            crc32=crc_of(tensor.values),
            set_crc32=tuple(crc_of(values) for values in tensor.values),
            set_crc32_channels_last=tuple(crc_of(values) for values in tensor.channels_last()),
            set_byte_sum=tuple(byte_sum_of(values) for values in tensor.values),
            key=tensor.name,
            binary=binary_patterns(place, tensor) if "bin" in options.formats else None,
            check_layer=numbers.get(tensor.name),
        )
        for place, tensor in enumerate(vectors.tensors)
    )
