"""Chunks of samples computed by the workers of dask.distributed, for more data or more models than one machine is wanted for.

A thin layer: the scheduler, its queues and what becomes of the work of a worker that is gone are dask's. Here stands only what
a chunk of work is, that a worker plans a model once, and that results come in the order of the samples, so that nothing that is
made of them depends on who computed what, or when. Without a cluster the same work is done in this process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from uuid import uuid4

import numpy as np

from npusim import __version__
from npusim.engine.runner import available_threads
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.arrays import StoredRows, rows_of
from npusim.graph import Array

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "Feeds", "Job", "open_cluster", "results_of"]

Result = TypeVar("Result")

Feeds: TypeAlias = Mapping[str, Array]
"""Inputs of some samples by name."""

Sent: TypeAlias = Mapping[str, Array | StoredRows]
"""The same as a worker gets it: values, or where in a file they are."""

IN_FLIGHT: Final = 2
"""Chunks handed out for each worker: one that it computes, and the next."""

LOOK_AGAIN: Final = 1.0
"""Seconds after which workers are counted again, which may come and go."""

LOCAL: Final = "local"


@dataclass(frozen=True, slots=True)
class Job(Generic[Result]):
    """What is done with each chunk of the samples.

    Attributes
    ----------
    build
        A function of a module, which makes the work from `sessions` and `arguments`: a function of a chunk's inputs and the
        number of its first sample. It is called once here, and once in each worker.
    sessions
        The models; a worker gets their bytes and plans them itself.
    arguments
        What else `build` takes; it has to be picklable.
    """

    build: Callable[..., Callable[[Feeds, int], Result]]
    sessions: tuple[InferenceSession, ...]
    arguments: tuple[Any, ...] = ()

    def here(self) -> Callable[[Feeds, int], Result]:
        """The work, in this process."""
        return self.build(*self.sessions, *self.arguments)


def results_of(job: Job[Result], feeds: Feeds, starts: range | None, cluster: Cluster | None) -> Iterator[Result]:
    """What a job gives for each chunk of the samples, in the order of the samples.

    Parameters
    ----------
    job
        The work.
    feeds
        Inputs by name, samples on the first axis. What is in a large .npy file is read by whoever computes with it.
    starts
        The first sample of each chunk; None where samples cannot be told apart, and all is one chunk.
    cluster
        Who does it; None for this process.

    Raises
    ------
    NpusimError
        As the work does; of several chunks that fail the first is told, as it is without a cluster.
    UsageError
        If the workers are of another version, or workers end again and again over the same chunk.
    """
    if cluster is not None:
        return cluster.results(job, feeds, starts)
    work = job.here()
    return (work(chunk, start) for start, chunk in _cut(feeds, starts))


def _cut(feeds: Feeds, starts: range | None) -> Iterator[tuple[int, Feeds]]:
    if starts is None:
        yield 0, feeds
        return
    for start in starts:
        yield start, {name: array[start : start + starts.step] for name, array in feeds.items()}


def _sent(feeds: Feeds, starts: range | None) -> Iterator[tuple[int, Sent]]:
    """The chunks as workers get them: of a large .npy file their place, which a worker reads itself."""
    if starts is None:
        yield 0, feeds
        return
    for start in starts:
        yield start, {name: rows_of(array, start, start + starts.step) for name, array in feeds.items()}


@contextmanager
def open_cluster(address: str | None) -> Iterator[Cluster | None]:
    """Connect to the workers that an address names, and let go of them at the end.

    Parameters
    ----------
    address
        ``local`` or ``local:N`` for N processes on this machine (by default one for each processor), or the address of a
        scheduler, ``tcp://HOST:PORT``; None for no cluster.

    Raises
    ------
    UsageError
        If dask.distributed is not installed, the address is none, or nothing answers there.
    """
    if address is None:
        yield None
        return
    kind, _, rest = address.partition(":")
    if not (kind == LOCAL and ((rest.isdecimal() and int(rest) > 0) or address == LOCAL)) and "://" not in address:
        raise UsageError(f"there are no workers at '{address}', wanted local, local:N, or a scheduler as in tcp://HOST:8786")
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UsageError("workers need dask.distributed; pip install '.[dask]', or leave out the address of workers") from None
    if kind != LOCAL:
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no scheduler answers at {address}: {str(error)[:100]}; start one with 'dask scheduler'"
            ) from None
        with client:
            yield Cluster(client)
        return
    workers = LocalCluster(
        n_workers=int(rest) if rest else available_threads(),
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs="CRITICAL",
    )
    with workers, Client(workers) as client:
        yield Cluster(client)


class Cluster:
    """The workers of a dask scheduler.

    Parameters
    ----------
    client
        Connected to the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._workers, self._counted = 1, float("-inf")
        self._lost = False

    def results(self, job: Job[Result], feeds: Feeds, starts: range | None) -> Iterator[Result]:
        """As :func:`results_of`.

        At most `IN_FLIGHT` chunks for each worker are under way or wait to be taken, so that neither this process nor a worker
        ever holds more. When the scheduler is lost, what is left is computed here.
        """
        work = job.here()  # a model or a runtime that refuses says so here, as it does without a cluster
        plans = _plans(job)
        waiting: deque[tuple[int, Sent, Any]] = deque()
        self._ask(self._client.register_plugin, plans)
        try:
            for start, sent in _sent(feeds, starts):
                waiting.append((start, sent, self._ask(self._client.submit, _compute, plans.name, sent, start, pure=False)))
                if len(waiting) >= IN_FLIGHT * self._count_workers():
                    yield self._taken(work, *waiting.popleft())
            while waiting:
                yield self._taken(work, *waiting.popleft())
        finally:
            self._ask(self._client.cancel, [future for *_, future in waiting if future is not None])
            self._ask(self._client.unregister_worker_plugin, plans.name)

    def _taken(self, work: Callable[[Feeds, int], Result], start: int, sent: Sent, future: Any) -> Result:  # noqa: ANN401
        """What came of a chunk; of one that the scheduler has lost, what is computed here."""
        from distributed import CancelledError, KilledWorker

        try:
            if future is not None:
                result: Result = future.result()
                return result
        except CancelledError:
            self._lost = True
        except KilledWorker:
            raise UsageError(
                f"worker after worker ended over the samples from {start} on, from lack of memory perhaps; give workers more, "
                "or look at what they wrote"
            ) from None
        return work(_values(sent), start)

    def _ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - dask is not typed
        """Ask the scheduler for something; None when it is lost."""
        from distributed import CancelledError

        if not self._lost:
            try:
                return call(*arguments, **options)
            except (CancelledError, OSError):
                self._lost = True
        return None

    def _count_workers(self) -> int:
        if time.monotonic() - self._counted > LOOK_AGAIN:
            self._workers = max(len(self._ask(self._client.nthreads) or ()), 1)
            self._counted = time.monotonic()
        return self._workers


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a session is made of again."""

    content: bytes
    engine: str
    arithmetic: str
    input_codes: str | None
    input_alpha: Mapping[str, tuple[float, float]] | None
    input_stage: str
    check_finite: bool

    @classmethod
    def of(cls, session: InferenceSession) -> _Recipe:
        return cls(
            session.model.content,
            session.engine,
            session.arithmetic,
            session.input_codes,
            session.input_alpha,
            session.input_stage,
            session._check_finite,
        )

    def session(self, threads: int) -> InferenceSession:
        return InferenceSession(
            self.content,
            engine=self.engine,
            threads=threads,
            check_finite=self.check_finite,
            arithmetic=self.arithmetic,
            input_codes=self.input_codes,
            input_alpha=self.input_alpha,
            input_stage=self.input_stage,
        )


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a worker makes the work of a job from."""

    build: Callable[..., Callable[[Feeds, int], Any]]
    recipes: tuple[_Recipe, ...]
    arguments: tuple[Any, ...]
    versions: Mapping[str, str]

    def work(self, threads: int) -> Callable[[Feeds, int], Any]:
        here = _versions()
        if here != self.versions:
            raise UsageError(
                f"a worker has {_listed(here)}, this process {_listed(self.versions)}; install the same everywhere"
            )
        return self.build(*(recipe.session(threads) for recipe in self.recipes), *self.arguments)


def _versions() -> dict[str, str]:
    """What results can depend on: of npusim all, of the others operations in floats."""
    return {"npusim": __version__, "numpy": version("numpy"), "onnxruntime": version("onnxruntime")}


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _plans(job: Job[Any]) -> Any:  # noqa: ANN401 - a class of dask's, which is not typed
    """A plugin that every worker gets, also one that comes later: it holds the models and plans them at their first chunk."""
    from distributed import WorkerPlugin

    class Plans(WorkerPlugin):
        def __init__(self, name: str, sources: _Sources) -> None:
            self.name, self.sources = name, sources

        def setup(self, worker: Any) -> None:  # noqa: ANN401
            self.threads, self.lock = worker.state.nthreads, Lock()
            self.work: Callable[[Feeds, int], Any] | None = None

        def compute(self, feeds: Feeds, start: int) -> Any:  # noqa: ANN401
            # one chunk at a time in a worker, on all its threads: so memory holds one
            with self.lock:
                if self.work is None:
                    self.work = self.sources.work(self.threads)
                return self.work(feeds, start)

    recipes = tuple(_Recipe.of(session) for session in job.sessions)
    return Plans(f"npusim-{uuid4().hex}", _Sources(job.build, recipes, job.arguments, _versions()))


def _compute(name: str, sent: Sent, start: int) -> Any:  # noqa: ANN401 - what a job gives
    """What a worker does with a chunk."""
    from distributed import get_worker

    return get_worker().plugins[name].compute(_values(sent), start)


def _values(sent: Sent) -> dict[str, Array]:
    return {
        name: rows.read(elsewhere=True) if isinstance(rows, StoredRows) else np.asarray(rows) for name, rows in sent.items()
    }
