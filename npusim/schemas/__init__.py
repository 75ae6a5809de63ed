"""JSON Schemas (draft 2020-12) of what commands print with ``--json``, one file for each command."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from npusim.errors import UsageError

__all__ = ["COMMANDS", "load_schema"]

COMMANDS: Final = ("inspect", "run", "verify")
"""Commands that have a schema."""


def load_schema(command: str) -> dict[str, Any]:
    """The schema of a command's JSON object.

    Parameters
    ----------
    command
        Name of the command, for example ``"verify"``.

    Raises
    ------
    UsageError
        If there is no such command.

    Examples
    --------
    >>> load_schema("verify")["title"]
    'npusim verify --json'
    """
    if command not in COMMANDS:
        raise UsageError(f"there is no schema for '{command}'; there are schemas for {', '.join(COMMANDS)}")
    schema: dict[str, Any] = json.loads((files(__name__) / f"{command}.json").read_text(encoding="utf-8"))
    return schema
