"""What the harness of a golden folder prints while the board runs: CRC-32 of every layer, and values that are asked for."""

from __future__ import annotations

from npusim.golden.board.judgement import (
    FirstLayer,
    Judged,
    KnownLayer,
    KnownLayers,
    first_value,
    judge,
    known_layers,
    search_first,
)
from npusim.golden.board.line import Line, open_port
from npusim.golden.board.protocol import MARK, Transcript

__all__ = [
    "MARK",
    "FirstLayer",
    "Judged",
    "KnownLayer",
    "KnownLayers",
    "Line",
    "Transcript",
    "first_value",
    "judge",
    "known_layers",
    "open_port",
    "search_first",
]
