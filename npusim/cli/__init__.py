"""The command line: ``npusim COMMAND``. It reads arguments, calls the library and prints; it computes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.cli.processor import prefer_wide_kernels

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
    # before NumPy is first imported, which the application does
    prefer_wide_kernels()
    from npusim.cli.application import main as run

    return run(arguments)
