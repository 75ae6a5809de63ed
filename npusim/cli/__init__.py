"""The command line: ``npusim COMMAND``. It reads arguments, calls the library and prints; it computes nothing itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from npusim.cli.processor import prefer_wide_kernels

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code.
    """
    _fill_closed_streams()
    # before NumPy is first imported, which the application does
    prefer_wide_kernels()
    try:
        from npusim.cli.application import main as run
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(arguments)


def _fill_closed_streams() -> None:
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
