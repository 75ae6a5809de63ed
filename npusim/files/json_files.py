"""JSON files that npusim writes and reads again: whole or not at all, and an error that says what a damaged one is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from npusim.errors import InputError
from npusim.files.arrays import check_readable
from npusim.files.writing import replacing

__all__ = ["read_json", "write_json"]

MAXIMUM_BYTES: Final = 64 * 2**20
"""Such files have a few hundred bytes for each layer; a larger one is some other thing."""


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write an object to a file that appears whole or not at all.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    with replacing(Path(path)) as stream:
        stream.write((json.dumps(value, indent=1) + "\n").encode())


def read_json(path: str | os.PathLike[str], what: str, command: str) -> Any:  # noqa: ANN401 - whatever a JSON file may hold
    """What a JSON file holds.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for messages: ``a certificate``.
    command
        What writes such a file.

    Raises
    ------
    InputError
        If it is missing, too large, or not JSON.
    """
    path = Path(path)
    check_readable(path)
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise InputError(f"{path}: is not {what}, it has more than {MAXIMUM_BYTES} bytes; name the right file")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as {what}: {cause}; write it again with '{command}'") from error
