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
        self._controller = ThreadpoolController()
        self._limited = Lock()

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """While inside, BLAS runs on the calling thread only: small products are slower when they are shared out."""
        if not self._limited.acquire(blocking=False):
            yield
            return
        try:
            with self._controller.limit(limits=1, user_api="blas"):
                yield
        finally:
            self._limited.release()


@cache
def blas_threads() -> BlasThreads:
    """The one object of this process."""
    return BlasThreads()
