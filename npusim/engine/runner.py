"""Running a program over any number of samples: cut into chunks, on several threads, results put together in order.

No result depends on the chunks or the threads: every sample is computed alone, whatever stands beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Event, Lock
from typing import Final, Protocol

import numpy as np

from npusim.engine.reference import run_steps
from npusim.engine.threads import blas_threads, workers
from npusim.graph import Array
from npusim.program import Batching, Program

__all__ = ["ChunkRunner", "Progress", "ReferenceRunner", "available_threads", "run_chunked"]

Progress = Callable[[int, int], None]
"""Called with the number of samples done and the number of all."""

VECTOR: Final = 64
QUARTER: Final = 16
"""Chunks of so many samples are handled by matrix kernels without a rest, or with little."""


class ChunkRunner(Protocol):
    """What runs one chunk: an engine's plan."""

    @property
    def samples(self) -> int:
        """Most samples of one chunk."""
        ...

    @property
    def fewest_samples(self) -> int:
        """Samples from which a thread of its own pays."""
        ...

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        """Compute tensors for one chunk."""
        ...


@dataclass(frozen=True, slots=True)
class ReferenceRunner:
    """The reference engine as a chunk runner."""

    program: Program
    samples: int
    fewest_samples: int = 1

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
    held: bool = False,
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
        Inputs as the model has them; arrays may be memory-mapped, they are read chunk by chunk.
    targets
        Names of tensors, aliases resolved.
    threads
        Most chunks in flight at a time, the caller's own among them; fewer where the runner says that more would not be faster.
    held
        The feeds are as the program holds them (see :meth:`npusim.InferenceSession.held`), not as the model has them.
    check
        Called with each chunk's inputs and the number of its first sample before it runs.
    progress
        Called when a chunk is done.

    Returns
    -------
    dict
        The tensors as the program holds them, samples on the first axis; constants as they are.
    """
    names = list(dict.fromkeys(targets))
    inputs = {name: feeds[name] for name in program.inputs}
    if program.batching is Batching.FIXED or not inputs:
        whole = {name: np.asarray(array) for name, array in inputs.items()}
        if check is not None:
            check(whole, 0)
        with blas_threads().pinned():
            return runner.run(whole if held else _held(program, whole), names)
    count = len(next(iter(inputs.values())))
    threads = max(1, min(threads, count // runner.fewest_samples))
    size = _chunk_size(count, runner.samples, threads)

    def compute(start: int) -> dict[str, Array]:
        chunk = {name: np.asarray(array[start : start + size]) for name, array in inputs.items()}
        if check is not None:
            check(chunk, start)
        return runner.run(chunk if held else _held(program, chunk), names)

    starts = range(0, count, size)
    with blas_threads().pinned():
        if len(starts) == 1:
            results = compute(0)
            if progress is not None:
                progress(count, count)
            return results
        collected = _Collected(program, names, count)
        _Work(compute, starts, collected, progress).run(min(threads, len(starts)))
    return collected.joined()


def _held(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs as the program holds them: codes less their zero points."""
    return {name: program.tensors[name].as_held(array) for name, array in feeds.items()}


def _chunk_size(count: int, most: int, threads: int) -> int:
    """Samples of a chunk: as many as the runner takes, or fewer, so that all threads have as many chunks of the same size.

    Chunks that are all alike use the same memory, which is in the cache then: somewhat smaller ones are worth that.
    """
    rounds = -(-count // (most * threads))
    for more in range(rounds, 2 * rounds):
        share, rest = divmod(count, more * threads)
        if not rest and share % VECTOR == 0:
            return share
    share = -(-count // (rounds * threads))
    return share if share <= VECTOR else min(most, -(-share // QUARTER) * QUARTER)


@dataclass(slots=True)
class _Work:
    """Chunks shared out among threads, of which the caller's is one: whoever is free takes the next."""

    compute: Callable[[int], dict[str, Array]]
    starts: Sequence[int]
    collected: _Collected
    progress: Progress | None
    done: int = 0
    finished: SimpleQueue[int | BaseException] = field(default_factory=SimpleQueue)
    stopped: Event = field(default_factory=Event)

    def run(self, threads: int) -> None:
        """Compute all chunks; the first error ends the run."""
        waiting = iter(self.starts)
        if threads < 2:
            for start in waiting:
                self._report(self.collected.put(start, self.compute(start)))
            return
        left = len(self.starts)
        try:
            with workers().helping(partial(self._take, waiting), threads - 1):
                for start in waiting:
                    self._finish(start)
                    while not self.finished.empty():
                        left -= self._settle()
                while left:
                    left -= self._settle()
        finally:
            # an error or Ctrl-C: what has not begun never begins, what runs ends with its chunk
            self.stopped.set()

    def _take(self, waiting: Iterable[int]) -> None:
        for start in waiting:
            self._finish(start)
            if self.stopped.is_set():
                return

    def _finish(self, start: int) -> None:
        """Compute a chunk and leave word of it, for the caller's thread to read."""
        try:
            self.finished.put(self.collected.put(start, self.compute(start)))
        except Exception as error:  # noqa: BLE001 - handed over, and raised by _settle in the caller's thread
            self.stopped.set()
            self.finished.put(error)

    def _settle(self) -> int:
        """Report one finished chunk, or raise its error."""
        found = self.finished.get()
        if isinstance(found, BaseException):
            raise found
        self._report(found)
        return 1

    def _report(self, samples: int) -> None:
        self.done += samples
        if self.progress is not None:
            self.progress(min(self.done, self.collected.count), self.collected.count)


class _Collected:
    """Results of chunks, put where they belong."""

    def __init__(self, program: Program, names: Sequence[str], count: int) -> None:
        self._program = program
        self._names = names
        self._lock = Lock()
        self.count = count
        self.arrays: dict[str, Array] = {}

    def put(self, start: int, part: Mapping[str, Array]) -> int:
        """Take the results of the chunk that begins with sample `start`, from any thread; returns how many samples it has."""
        with self._lock:
            targets = {name: self._target(name, values) for name, values in part.items() if self._is_cut(name)}
            self.arrays.update({name: part[name] for name in self._names if not self._is_cut(name)})
        for name, target in targets.items():
            values = part[name][None] if self._program.batching is Batching.SINGLE else part[name]
            target[start : start + len(values)] = values
        return self._samples(part)

    def joined(self) -> dict[str, Array]:
        """All tensors, when every chunk has been put."""
        if self._program.batching is not Batching.SINGLE:
            return self.arrays
        return {name: self._joined(name, values) for name, values in self.arrays.items()}

    def _is_cut(self, name: str) -> bool:
        """Whether a tensor comes in parts; constants come whole with each."""
        return name not in self._program.constants

    def _target(self, name: str, values: Array) -> Array:
        """The array that a tensor's parts are put into."""
        if name not in self.arrays:
            shape = values.shape if self._program.batching is Batching.SINGLE else values.shape[1:]
            self.arrays[name] = np.empty((self.count, *shape), values.dtype)
        return self.arrays[name]

    def _samples(self, part: Mapping[str, Array]) -> int:
        if self._program.batching is Batching.SINGLE:
            return 1
        return next((len(part[name]) for name in self._names if self._is_cut(name)), 0)

    def _joined(self, name: str, values: Array) -> Array:
        """Samples that were run one by one, side by side on their own first axis."""
        if not self._is_cut(name) or values.ndim < 2:
            return values
        return values.reshape(-1, *values.shape[2:])
