"""Running a program over any number of samples: cut into chunks, on several threads, results put together in order.

No result depends on the chunks or the threads: every sample is computed alone, whatever stands beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from npusim.engine.blas import blas_threads
from npusim.engine.reference import run_steps
from npusim.graph import Array
from npusim.program import Batching, Program

__all__ = ["MANY_THREADS", "ChunkRunner", "Progress", "ReferenceRunner", "available_threads", "run_chunked"]

Progress = Callable[[int, int], None]
"""Called with the number of samples done and the number of all."""


MANY_THREADS: Final = 2**10
"""More than any machine has."""


class ChunkRunner(Protocol):
    """What runs one chunk: an engine's plan."""

    @property
    def samples(self) -> int:
        """Most samples of one chunk."""
        ...

    @property
    def most_threads(self) -> int:
        """Most chunks worth computing at the same time."""
        ...

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        """Compute tensors for one chunk."""
        ...


@dataclass(frozen=True, slots=True)
class ReferenceRunner:
    """The reference engine as a chunk runner."""

    program: Program
    samples: int
    most_threads: int = MANY_THREADS

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        """Compute tensors for one chunk."""
        return run_steps(self.program, feeds, targets)


def available_threads() -> int:
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_chunked(
    program: Program,
    runner: ChunkRunner,
    feeds: Mapping[str, Array],
    targets: Iterable[str],
    *,
    threads: int = 1,
    check: Callable[[Mapping[str, Array], int], None] | None = None,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Run a program over all samples of its inputs.

    Parameters
    ----------
    program
        The program.
    runner
        Runs one chunk of it.
    feeds
        Inputs; arrays may be memory-mapped, they are read chunk by chunk.
    targets
        Names of tensors, aliases resolved.
    threads
        Most chunks in flight at a time; fewer where the runner says that more would not be faster.
    check
        Called with each chunk's inputs and the number of its first sample before it runs.
    progress
        Called when a chunk is done.

    Returns
    -------
    dict
        The tensors, samples on the first axis; constants as they are.
    """
    names = list(dict.fromkeys(targets))
    inputs = {name: feeds[name] for name in program.inputs}
    if program.batching is Batching.FIXED or not inputs:
        whole = {name: np.asarray(array) for name, array in inputs.items()}
        if check is not None:
            check(whole, 0)
        with blas_threads().pinned():
            return runner.run(whole, names)
    count = len(next(iter(inputs.values())))
    threads = min(threads, runner.most_threads)
    size = _chunk_size(count, runner.samples, threads)

    def compute(start: int) -> dict[str, Array]:
        chunk = {name: np.asarray(array[start : start + size]) for name, array in inputs.items()}
        if check is not None:
            check(chunk, start)
        return runner.run(chunk, names)

    starts = range(0, count, size)
    with blas_threads().pinned():
        if len(starts) == 1:
            results = compute(0)
            if progress is not None:
                progress(count, count)
            return results
        collected = _Collected(program, names, count)
        for start, part in _in_order_of_completion(compute, starts, min(threads, len(starts))):
            collected.put(start, part)
            if progress is not None:
                progress(min(collected.done, count), count)
    return collected.arrays


def _chunk_size(count: int, most: int, threads: int) -> int:
    """Samples of a chunk: as many as the runner takes, fewer when several threads have less than one chunk each."""
    if threads < 2 or count <= most:
        return most
    share = -(-count // threads)
    return max(1, min(most, share))


def _in_order_of_completion(
    compute: Callable[[int], dict[str, Array]], starts: Sequence[int], threads: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    if threads < 2:
        for start in starts:
            yield start, compute(start)
        return
    waiting = iter(starts)
    with ThreadPoolExecutor(threads, "npusim") as pool:
        running: dict[Future[dict[str, Array]], int] = {}
        try:
            for start in waiting:
                running[pool.submit(compute, start)] = start
                if len(running) == threads:
                    break
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    start = running.pop(future)
                    following = next(waiting, None)
                    if following is not None:
                        running[pool.submit(compute, following)] = following
                    yield start, future.result()
        finally:
            # an error or Ctrl-C: what has not begun never begins, what runs ends with its chunk
            pool.shutdown(wait=False, cancel_futures=True)


class _Collected:
    """Results of chunks, put where they belong."""

    def __init__(self, program: Program, names: Sequence[str], count: int) -> None:
        self._program = program
        self._names = names
        self._count = count
        self.arrays: dict[str, Array] = {}
        self.done = 0

    def put(self, start: int, part: Mapping[str, Array]) -> None:
        """Take the results of the chunk that begins with sample `start`."""
        self.done += self._samples(part)
        for name in self._names:
            values = part[name]
            if name in self._program.constants:
                self.arrays[name] = values
                continue
            if self._program.batching is Batching.SINGLE:
                values = values[None]
            if name not in self.arrays:
                self.arrays[name] = np.empty((self._count, *values.shape[1:]), values.dtype)
            self.arrays[name][start : start + len(values)] = values
        if self._program.batching is Batching.SINGLE and self.done == self._count:
            self.arrays = {name: self._joined(name, values) for name, values in self.arrays.items()}

    def _samples(self, part: Mapping[str, Array]) -> int:
        if self._program.batching is Batching.SINGLE:
            return 1
        return next((len(part[name]) for name in self._names if name not in self._program.constants), 0)

    def _joined(self, name: str, values: Array) -> Array:
        """Samples that were run one by one, side by side on their own first axis."""
        if name in self._program.constants or values.ndim < 2:
            return values
        return values.reshape(-1, *values.shape[2:])
