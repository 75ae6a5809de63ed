"""Keeping BLAS on one thread while the engine runs samples in parallel, and giving its threads back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

__all__ = ["BlasThreads", "blas_threads"]


class BlasThreads:
    """The number of BLAS threads of this process, shared by all sessions: the last one to leave restores it."""

    def __init__(self) -> None:
        self._controller = ThreadpoolController()
        self._lock = Lock()
        self._depth = 0
        self._limit = self._controller.limit(limits=None, user_api="blas")

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """While inside, BLAS runs on the calling thread only: small products are slower when they are shared out."""
        with self._lock:
            if self._depth == 0:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._limit.restore_original_limits()


@cache
def blas_threads() -> BlasThreads:
    """The one object of this process."""
    return BlasThreads()
