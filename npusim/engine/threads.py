"""The threads that help the caller's own and where they run, and keeping BLAS on one thread meanwhile."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from threading import Event, Lock, Thread

from threadpoolctl import ThreadpoolController

__all__ = ["BlasThreads", "Workers", "blas_threads", "workers"]

Task = Callable[[], None]


class Workers:
    """Threads of this process that are started when they are first needed and then stay for the next run.

    Starting a thread takes as long as a small network takes for a hundred samples.
    """

    def __init__(self) -> None:
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._threads: list[Thread] = []
        self._starting = Lock()
        self._placed = Lock()

    @contextmanager
    def helping(self, task: Task, times: int) -> Iterator[None]:
        """Have a task run on other threads as well while inside.

        On leaving, what has begun is waited for, unless an error is the reason for leaving; what has not begins no more.

        Parameters
        ----------
        task
            Raises nothing. It may begin late or never, when all threads are at work for somebody else: the caller has to be
            able to do without.
        times
            How many threads should run it.
        """
        with self._starting:
            while len(self._threads) < times:
                thread = Thread(target=_serve, args=(self._requests,), name=f"npusim_{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)
        requests = [_Request(task) for _ in range(times)]
        try:
            with self._apart():
                for request in requests:
                    self._requests.put(request)
                yield
        except BaseException:
            for request in requests:
                request.withdraw()
            raise
        for request in requests:
            if request.withdraw():
                request.ended.wait()

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """While inside, the caller's thread stays on its processor and the workers stay off it.

        Linux likes to wake a thread where the thread runs that woke it. That one goes on computing here, and until the load is
        balanced, which takes milliseconds, both would share a processor while another one is idle. Of several runs at once only
        the first is placed: the others would be put in its way.
        """
        if not self._placed.acquire(blocking=False):
            yield
            return
        try:
            before = self._place()
            try:
                yield
            finally:
                if before is not None:
                    os.sched_setaffinity(0, before)
        finally:
            self._placed.release()

    def _place(self) -> set[int] | None:
        """Set the processors of all threads; returns those the caller's had before, None where nothing is placed."""
        if not hasattr(os, "sched_setaffinity"):
            return None
        allowed, here = os.sched_getaffinity(0), _processor()
        if here not in allowed or len(allowed) < 2:
            return None
        try:
            for thread in self._threads:
                if thread.native_id is not None:
                    os.sched_setaffinity(thread.native_id, allowed - {here})
            os.sched_setaffinity(0, {here})
        except OSError:  # a sandbox may not allow it
            return None
        return allowed


class _Request:
    """A task that one thread is to run, unless it is withdrawn before."""

    def __init__(self, task: Task) -> None:
        self.ended = Event()
        self._task: Task | None = task
        self._taking = Lock()

    def run(self) -> None:
        """Run the task and let go of it, so that nothing of a run lives on in a thread that waits for the next one."""
        task = self._take()
        if task is not None:
            task()
            del task
            self.ended.set()

    def withdraw(self) -> bool:
        """Keep the task from being begun; true when it has been already."""
        return self._take() is None

    def _take(self) -> Task | None:
        with self._taking:
            task, self._task = self._task, None
            return task


def _serve(requests: SimpleQueue[_Request]) -> None:
    while True:
        requests.get().run()


def _processor() -> int:
    """Number of the processor that the caller's thread runs on, -1 if that is not to be had."""
    library = _c_library()
    return -1 if library is None else int(library.sched_getcpu())


@cache
def _c_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "sched_getcpu") else None


@cache
def workers() -> Workers:
    """The one set of workers of this process."""
    return Workers()


if hasattr(os, "register_at_fork"):
    # a forked process has their memory, but none of the threads
    os.register_at_fork(after_in_child=workers.cache_clear)


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
