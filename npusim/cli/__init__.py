"""The command line: ``npusim COMMAND``. It reads arguments, calls the library and prints; it computes nothing itself."""

from __future__ import annotations

from npusim.cli.application import main

__all__ = ["main"]
