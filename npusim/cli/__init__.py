"""The command line: ``npusim COMMAND``. It reads arguments, calls the library and prints; it computes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.cli.processor import prefer_wide_kernels
from npusim.cli.streams import INTERRUPTED, fill_closed_streams

__all__ = ["main"]


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
    fill_closed_streams()
    # before NumPy is first imported, which the application does
    prefer_wide_kernels()
    try:
        from npusim.cli.application import main as run
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(arguments)
