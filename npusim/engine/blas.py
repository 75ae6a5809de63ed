"""Keeping BLAS on one thread while the engine runs samples in parallel, and giving its threads back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

__all__ = ["BlasThreads", "blas_threads"]


class BlasThreads:
    """The number of BLAS threads of this process, shared by all sessions.

    Only the thread that has limited them can give them back, for so it is in threadpoolctl. Of several runs at once the first
    one therefore limits and restores, whichever ends last; a run that outlasts it loses speed, nothing else.
    """

    def __init__(self) -> None:
        # threadpoolctl's own context manager looks at all libraries again each time, which takes as long as a small layer
        self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        self._limited = Lock()

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """While inside, BLAS runs on the calling thread only: small products are slower when they are shared out."""
        before = [library.num_threads for library in self._libraries]
        if all(number == 1 for number in before) or not self._limited.acquire(blocking=False):
            yield
            return
        try:
            self._set([1] * len(before))
            yield
        finally:
            self._set(before)
            self._let_others_set()
            self._limited.release()

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self._libraries, numbers, strict=True):
            library.set_num_threads(number)

    def _let_others_set(self) -> None:
        """Give up what newer versions of threadpoolctl keep for the first thread that sets anything."""
        for library in self._libraries:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()


@cache
def blas_threads() -> BlasThreads:
    """The one object of this process."""
    return BlasThreads()
