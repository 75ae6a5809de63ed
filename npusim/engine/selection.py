"""Which engine runs a program."""

from __future__ import annotations

from typing import Final

from npusim.engine.fast import make_plan
from npusim.engine.runner import ChunkRunner, ReferenceRunner
from npusim.program import Batching, Program

__all__ = ["ENGINES", "make_runner"]

ENGINES: Final = ("fast", "reference")
"""Names of the engines; all give the same results on every input."""

CHUNK: Final = 64
"""Samples the reference engine runs at once: bounds the memory, changes no result."""


def make_runner(program: Program, engine: str) -> ChunkRunner:
    """Arrange a program for an engine.

    A program that mixes samples, or without integer layers, has nothing that the fast engine could do faster: the reference
    engine runs it.

    Parameters
    ----------
    program
        Any program.
    engine
        One of `ENGINES`.
    """
    if engine == "fast" and program.batching is Batching.STACKED and program.layers:
        return make_plan(program)
    return ReferenceRunner(program, 1 if program.batching is Batching.SINGLE else CHUNK)
