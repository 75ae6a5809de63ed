"""JSON Schemas (draft 2020-12) of what commands print with ``--json``, and of the JSON files that npusim writes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from npusim.errors import UsageError

__all__ = ["COMMANDS", "FILES", "load_schema"]

COMMANDS: Final = (
    "bounds",
    "check",
    "compare",
    "demo",
    "golden_check",
    "golden_verify",
    "golden_write",
    "inspect",
    "lint",
    "oracle",
    "quantize",
    "run",
    "verify",
)
"""Commands that have a schema; the words of a command in a group are joined by ``_``."""

FILES: Final = ("certificate", "equality_certificate", "manifest")
"""JSON files that have a schema."""


def load_schema(command: str) -> dict[str, Any]:
    """The schema of a command's JSON object, or of a JSON file.

    Parameters
    ----------
    command
        Name of the command, for example ``"verify"``, or ``"certificate"`` for the file that ``npusim bounds -o`` writes.

    Raises
    ------
    UsageError
        If there is no such schema.

    Examples
    --------
    >>> load_schema("verify")["title"]
    'npusim verify --json'
    """
    known = (*COMMANDS, *FILES)
    if command not in known:
        raise UsageError(f"there is no schema for '{command}'; there are schemas for {', '.join(known)}")
    schema: dict[str, Any] = json.loads((files(__name__) / f"{command}.json").read_text(encoding="utf-8"))
    return schema
