"""A runner of chunks that only counts, for tests of what becomes of chunks, threads and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npusim.engine.runner import run_chunked
from npusim.graph import Array
from npusim.program import Program
from support.sketch import Sketch

__all__ = ["WAIT", "Numbers", "numbered", "run", "small_model"]

WAIT = 60
"""Seconds after which a test gives up waiting for another thread; no result depends on it."""


def small_model() -> bytes:
    sketch = Sketch(2, 6, 1)
    return sketch.finish(sketch.layer(sketch.weights(3, 2, 3, 1), pads=(1, 0, 1, 0)))


def numbered(count: int) -> dict[str, Array]:
    """Inputs of the small model, each sample with its own number."""
    return {"input": np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 2, 6, 1)).copy()}


@dataclass
class Numbers:
    """Gives back each sample's number; `before` is called with the number of a chunk's first sample."""

    program: Program
    samples: int
    before: Callable[[int], None] = lambda start: None
    fewest_samples: int = 1
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        numbers = feeds["input"][:, 0, 0, 0].astype(np.int64)
        self.starts.append(int(numbers[0]))
        self.sizes.append(len(numbers))
        self.before(int(numbers[0]))
        return dict.fromkeys(targets, numbers)


def run(runner: Numbers, count: int, **options: Any) -> Array:
    output = runner.program.outputs[0]
    return run_chunked(runner.program, runner, numbered(count), [output], **options)[output]
