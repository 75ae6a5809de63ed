"""The process's standard streams where they are closed or nobody reads them, and the exit codes for that."""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["INTERRUPTED", "READER_GONE", "abandon_streams", "fill_closed_streams"]

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells give it."""

READER_GONE: Final = 141
"""Exit code when whoever reads stdout has gone away, as shells give it."""


def fill_closed_streams() -> None:
    """Open the null device where a standard stream is closed (``npusim ... >&-``).

    The next file to be opened would take its number, and what a library then writes to stdout or stderr would be in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


def abandon_streams() -> None:
    """Python flushes its streams once more at exit, which would fail again and print a warning where a stream is broken."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
