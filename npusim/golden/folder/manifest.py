"""``manifest.json``: what a golden folder says of itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from npusim import __version__
from npusim.bounds.certificate import Certificate
from npusim.engine.input_stages import StageDifference
from npusim.engine.session import InferenceSession
from npusim.errors import InputError
from npusim.files.arrays import check_readable
from npusim.golden.folder.vectors import Role
from npusim.golden.goals.coverage import Coverage
from npusim.program.input_stage import InputStage
from npusim.schemas.derivation import Choice, Count, Finite, Pattern, Sha256
from npusim.schemas.objects import WHERE_KNOWN

__all__ = [
    "FORMAT",
    "FORMATS",
    "MANIFEST",
    "Manifest",
    "ManifestFile",
    "ManifestModel",
    "ManifestSet",
    "ManifestStage",
    "ManifestTensor",
    "file_entry",
    "manifest_bytes",
    "read_manifest",
    "session_of_manifest",
]

FORMAT: Final = 1
"""Version of the folder's format. It grows when a reader of the old one would misread the new one."""

MANIFEST: Final = "manifest.json"

FORMATS: Final = ("c", "npz", "onnx", "bin", "features")
"""Forms in which vectors can be written."""

MAXIMUM_BYTES: Final = 64 * 2**20

Crc32 = Annotated[str, Pattern("^[0-9a-f]{8}$")]


_Ends = tuple[Annotated[float, Finite()], Annotated[float, Finite()]]


@dataclass(frozen=True, slots=True)
class ManifestModel:
    """The model.

    Attributes
    ----------
    file
        Name of its file, without folders.
    sha256
        Of its content.
    format
        What it is written in.
    arithmetic
        How its integer layers are computed: the vectors hold for this arithmetic only.
    copy
        The copy in the folder; null for a large model.
    input_codes
        Codes that inputs were said to hold; left out where the file tells.
    input_alpha
        Ends of the quantizer in front of each input; left out where inputs are codes.
    """

    file: str | None
    sha256: Sha256
    format: str
    arithmetic: str
    copy: str | None
    input_codes: str | None = field(default=None, metadata=WHERE_KNOWN)
    input_alpha: Mapping[str, _Ends] | None = field(default=None, metadata=WHERE_KNOWN)


@dataclass(frozen=True, slots=True)
class ManifestSet:
    """A set.

    Attributes
    ----------
    origin
        The user's data, or made for the model.
    sample
        Number in the data, or among those made.
    reason
        Why it was chosen; null without a choice.
    """

    origin: Literal["data", "made"]
    sample: Count
    reason: str | None


@dataclass(frozen=True, slots=True)
class ManifestStage:
    """Where codes come from.

    Attributes
    ----------
    variant
        Whose implementation of the input stage the vectors come from; ``onnx`` is the graph's.
    from_codes
        The application computes it and hands the model codes.
    parameters_derived
        Whether a factor had to be split into multiplier and shift, on which mspm0 depends; null without an input stage.
    differences
        How the implementations differ on the sets.
    """

    variant: Annotated[str, Choice(tuple(stage.recorded for stage in InputStage))]
    from_codes: bool
    parameters_derived: bool | None
    differences: tuple[StageDifference, ...]


@dataclass(frozen=True, slots=True)
class ManifestTensor:
    """A tensor over all sets.

    Attributes
    ----------
    name
        ONNX name.
    layer
        The step that computes it; null for inputs.
    kind
        That step's kind.
    role
        What it is to the model; codes: what the input stage makes.
    shape
        Sets first.
    dtype
        Element type as the device holds it.
    layout
        Its axes, N for the sets.
    crc32
        CRC-32 of little-endian bytes, 8 hexadecimal digits.
    set_crc32
        Of each set.
    set_crc32_channels_last
        Of each set with the channels as the last axis.
    set_byte_sum
        Of each set the sum of all bytes read as unsigned, which MATCH's generated code compares.
    key
        Name of the array in vectors.npz.
    binary
        By layout, where the raw binary files lie, with {set} for the number; null without them.
    check_layer
        Its number for npusim_check_layer; null where that does not know it.
    """

    name: str
    layer: str | None
    kind: str | None
    role: Role
    shape: tuple[Count, ...]
    dtype: str
    layout: str
    crc32: Crc32
    set_crc32: tuple[Crc32, ...]
    set_crc32_channels_last: tuple[Crc32, ...]
    set_byte_sum: tuple[Count, ...]
    key: str
    binary: Mapping[str, str] | None
    check_layer: int | None


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file.

    Attributes
    ----------
    path
        In the folder.
    bytes
        Size.
    sha256
        Of its content.
    """

    path: str
    bytes: Count
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The file manifest.json in a folder that 'npusim golden write' writes and 'npusim golden verify' proves.

    Attributes
    ----------
    golden
        Version of the format.
    npusim
        Version of npusim that wrote it.
    model
        The model.
    sets
        In order.
    seed
        Of the samples that were made.
    formats
        Files besides the manifest.
    layers
        Patterns of the inner tensors; '*' stands for every layer's result.
    module
        Module name of the compiled model.
    input_stage
        Where codes come from.
    certificate
        What is proven for every input, as 'npusim bounds' says it.
    coverage
        What the sets cover.
    tensors
        Inputs, then in execution order.
    files
        All but the manifest, by path.
    """

    golden: Literal[1] = FORMAT
    npusim: str = __version__
    model: ManifestModel
    sets: tuple[ManifestSet, ...]
    seed: Count
    formats: tuple[Annotated[str, Choice(FORMATS)], ...]
    layers: tuple[str, ...]
    module: str
    input_stage: ManifestStage
    certificate: Certificate
    coverage: Coverage
    tensors: tuple[ManifestTensor, ...]
    files: tuple[ManifestFile, ...]


_KEYS: Final[Mapping[str, type]] = {
    "golden": int,
    "npusim": str,
    "model": dict,
    "sets": list,
    "seed": int,
    "formats": list,
    "layers": list,
    "module": str,
    "input_stage": dict,
    "certificate": dict,
    "tensors": list,
    "files": list,
}
"""What every manifest of this format has, and as what."""

_TENSOR_KEYS: Final[Mapping[str, type]] = {
    "name": str,
    "role": str,
    "shape": list,
    "dtype": str,
    "layout": str,
    "crc32": str,
    "set_crc32": list,
    "key": str,
}

_FILE_KEYS: Final[Mapping[str, type]] = {"path": str, "bytes": int, "sha256": str}


def manifest_bytes(value: Mapping[str, Any]) -> bytes:
    """A manifest as the content of its file: JSON with one value or one list of plain values a line."""
    return (_text(value, "\n") + "\n").encode("ascii")


def file_entry(path: str, content: bytes) -> ManifestFile:
    """A file as the manifest lists it."""
    return ManifestFile(path, len(content), hashlib.sha256(content).hexdigest())


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a golden folder.

    Raises
    ------
    InputError
        If there is none, it is damaged, or it is of a later format than this version of npusim reads.
    """
    path = Path(folder) / MANIFEST
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that 'npusim golden write' has written")
    if not path.exists():
        raise InputError(f"{folder}: holds no {MANIFEST}, so it is not a golden folder; write one with 'npusim golden write'")
    check_readable(path)
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise InputError(f"{path}: has more than {MAXIMUM_BYTES} bytes, which no manifest has; write the folder again")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}; write the folder again") from error
    if not isinstance(value, dict) or not isinstance(value.get("golden"), int):
        raise InputError(f"{path}: is not a manifest of golden vectors: it lacks the number 'golden'; write the folder again")
    if value["golden"] != FORMAT:
        raise InputError(
            f"{path}: is of format {value['golden']}, written by npusim {value.get('npusim')}; npusim {__version__} "
            f"reads format {FORMAT}; install that version"
        )
    _check_keys(path, value, _KEYS, "it")
    _check_keys(path, value["model"], {"sha256": str}, "'model'")
    _check_keys(path, value["input_stage"], {"variant": str, "from_codes": bool}, "'input_stage'")
    _check_keys(path, value["certificate"], {"verdicts": dict}, "'certificate'")
    coverage = value.get("coverage")
    if coverage is not None:
        _check_keys(path, value, {"coverage": dict}, "it")
        if coverage.get("total") is not None:
            _check_keys(path, coverage, {"total": dict}, "'coverage'")
            _check_keys(path, coverage["total"], {"reached": int, "possible": int}, "the total of 'coverage'")
    for name, keys in (("tensors", _TENSOR_KEYS), ("files", _FILE_KEYS), ("sets", {"sample": int})):
        for place, item in enumerate(value[name]):
            _check_keys(path, item, keys, f"entry {place} of '{name}'")
    for name in ("formats", "layers"):
        if not all(isinstance(item, str) for item in value[name]):
            raise InputError(f"{path}: is damaged: '{name}' is not a list of texts; write the folder again")
    for item in value["files"]:
        _check_path(path, item["path"])
    return value


def _text(value: object, line: str) -> str:
    """JSON of a value; `line` begins a line at its depth."""
    deeper = f"{line} "
    if isinstance(value, Mapping) and value:
        rows = [f"{json.dumps(key)}: {_text(item, deeper)}" for key, item in value.items()]
        return f"{{{deeper}{f',{deeper}'.join(rows)}{line}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        rows = [_text(item, deeper) for item in value]
        return f"[{deeper}{f',{deeper}'.join(rows)}{line}]"
    return json.dumps(value, allow_nan=False)


def _check_keys(path: Path, value: object, keys: Mapping[str, type], what: str) -> None:
    for key, kind in keys.items():
        seen = value.get(key) if isinstance(value, dict) else None
        if not isinstance(seen, kind) or (kind is int and isinstance(seen, bool)):
            raise InputError(
                f"{path}: is damaged: {what} has {'no' if seen is None else 'a wrong'} '{key}', wanted {kind.__name__}; "
                "write the folder again"
            )


def _check_path(path: Path, named: str) -> None:
    """A manifest names files in its folder only."""
    parts = Path(named).parts
    if not parts or Path(named).is_absolute() or ".." in parts:
        raise InputError(f"{path}: names the file '{named}', which does not lie in its folder; write the folder again")


def session_of_manifest(source: str | os.PathLike[str] | bytes, model: Mapping[str, Any]) -> InferenceSession:
    """A session of the model as it was when the folder was written.

    Parameters
    ----------
    source
        The model.
    model
        What the manifest says of it.
    """
    alpha = model.get("input_alpha")
    ends = None if alpha is None else {name: (float(low), float(high)) for name, (low, high) in alpha.items()}
    return InferenceSession(source, arithmetic=model.get("arithmetic"), input_codes=model.get("input_codes"), input_alpha=ends)
