"""Examples that run from the command line: ``python -m npusim.examples.torque``."""

from __future__ import annotations

__all__: list[str] = []
