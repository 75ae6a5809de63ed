"""``manifest.json``: what a golden folder says of itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from npusim import __version__
from npusim.errors import InputError
from npusim.files.arrays import check_readable

__all__ = ["FORMAT", "MANIFEST", "file_object", "manifest_bytes", "read_manifest"]

FORMAT: Final = 1
"""Version of the folder's format. It grows when a reader of the old one would misread the new one."""

MANIFEST: Final = "manifest.json"

MAXIMUM_BYTES: Final = 64 * 2**20

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


def file_object(path: str, content: bytes) -> dict[str, Any]:
    """A file as the manifest lists it."""
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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
        raise InputError(f"{folder}: holds no {MANIFEST}, so it is no golden folder; write one with 'npusim golden write'")
    check_readable(path)
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise InputError(f"{path}: has more than {MAXIMUM_BYTES} bytes, which no manifest has; write the folder again")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}; write the folder again") from error
    if not isinstance(value, dict) or not isinstance(value.get("golden"), int):
        raise InputError(f"{path}: is no manifest of golden vectors: it lacks the number 'golden'; write the folder again")
    if value["golden"] != FORMAT:
        raise InputError(
            f"{path}: is of format {value['golden']}, written by npusim {value.get('npusim')}; npusim {__version__} "
            f"reads format {FORMAT}; install that version"
        )
    _check_keys(path, value, _KEYS, "it")
    _check_keys(path, value["model"], {"sha256": str}, "'model'")
    _check_keys(path, value["input_stage"], {"variant": str, "from_codes": bool}, "'input_stage'")
    _check_keys(path, value["certificate"], {"verdicts": dict}, "'certificate'")
    for name, keys in (("tensors", _TENSOR_KEYS), ("files", _FILE_KEYS), ("sets", {"sample": int})):
        for place, item in enumerate(value[name]):
            _check_keys(path, item, keys, f"entry {place} of '{name}'")
    for name in ("formats", "layers"):
        if not all(isinstance(item, str) for item in value[name]):
            raise InputError(f"{path}: is damaged: '{name}' is no list of texts; write the folder again")
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
