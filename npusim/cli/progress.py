"""Progress of long work on stderr: a bar on a terminal, otherwise a line now and then, and nothing for short work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["SparseLines", "progress"]

INTERVAL = 10.0
"""Seconds between two lines; work that is done before the first is not mentioned."""


class SparseLines:
    """Writes a line about every ten seconds.

    Parameters
    ----------
    label
        What is being done.
    stream
        Where lines go.
    clock
        Gives seconds.
    unit
        What is counted.
    """

    def __init__(
        self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic, *, unit: str = "samples"
    ) -> None:
        self._label = label
        self._stream = stream
        self._unit = unit
        self._clock = clock
        self._start = clock()
        self._due = self._start + INTERVAL

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done."""
        if self._clock() >= self._due:
            now = self._clock()
            self._due = now + INTERVAL
            left = f", {(now - self._start) * (total - done) / done:.0f} s left" if done else ""
            with suppress(OSError):  # nobody reads stderr any more, which is no reason to stop
                self._stream.write(f"npusim: {self._label}: {done:,} of {total:,} {self._unit}{left}\n")
                self._stream.flush()


@contextmanager
def progress(label: str, *, quiet: bool, unit: str = "samples") -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that is to be called with what is done and what there is to do; None when nothing is to be shown.

    Parameters
    ----------
    label
        What is being done.
    quiet
        Show nothing.
    unit
        What is counted.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield SparseLines(label, sys.stderr, unit=unit)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
