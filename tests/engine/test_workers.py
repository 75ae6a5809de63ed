"""The engine's threads: they stay, they stay apart from the caller, and they keep nothing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from npusim.engine.threads import Workers, workers
from support.chunk_runners import WAIT

HAS_AFFINITY = hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


def affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@pytest.fixture(autouse=True)
def restored_affinity() -> Iterator[None]:
    before = affinity()
    yield
    assert affinity() == before


def test_threads_are_started_once_and_stay() -> None:
    own, seen = Workers(), []
    for times in (1, 2, 2, 1):
        meeting = threading.Barrier(times + 1)

        def task(meeting: threading.Barrier = meeting) -> None:
            seen.append(threading.current_thread())
            meeting.wait(WAIT)

        with own.helping(task, times):
            meeting.wait(WAIT)
    assert len(seen) == 6
    assert len(set(seen)) == 2
    assert threading.current_thread() not in seen
    assert all(thread.daemon for thread in seen)


def test_a_task_that_begins_is_waited_for_and_one_that_does_not_never_begins() -> None:
    own, began, may_end, count = Workers(), threading.Event(), threading.Event(), []

    def first() -> None:
        began.set()
        assert may_end.wait(WAIT)
        count.append("first")

    with own.helping(first, 1):
        assert began.wait(WAIT)
        with own.helping(lambda: count.append("never"), 1):
            pass  # the only thread is at work
        may_end.set()
    assert count == ["first"]
    done = threading.Event()
    with own.helping(done.set, 1):
        assert done.wait(WAIT)
    assert count == ["first"]


def test_an_error_does_not_wait() -> None:
    own, began, may_end = Workers(), threading.Event(), threading.Event()

    def task() -> None:
        began.set()
        assert may_end.wait(WAIT)

    def fail() -> None:
        with own.helping(task, 1):
            assert began.wait(WAIT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    may_end.set()


def test_tasks_are_let_go() -> None:
    class Something:
        pass

    kept = Something()
    gone = weakref.ref(kept)
    done = threading.Event()

    def task(kept: Something = kept) -> None:
        done.set()

    with workers().helping(task, 1):
        assert done.wait(WAIT)
    del kept, task
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not HAS_AFFINITY, reason="one processor, or a system that places threads itself")
def test_the_caller_and_its_helpers_run_on_processors_of_their_own() -> None:
    own, seen, allowed, done = Workers(), [], affinity(), threading.Event()

    def task() -> None:
        seen.append(affinity())
        done.set()

    with own.helping(task, 1):
        mine = affinity()
        assert done.wait(WAIT)
        with own.helping(lambda: None, 1):
            assert affinity() == mine  # another run at the same time is left where it is
        assert affinity() == mine
    assert affinity() == allowed
    assert len(mine) == 1
    assert seen == [allowed - mine]


def test_systems_without_placing_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    done = threading.Event()
    with Workers().helping(done.set, 1):
        assert done.wait(WAIT)


def test_a_sandbox_that_forbids_placing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(thread: int, processors: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    done = threading.Event()
    with Workers().helping(done.set, 1):
        assert done.wait(WAIT)


FORKING = """
import os, sys
import numpy as np
from npusim import InferenceSession

session = InferenceSession(sys.argv[1], threads=2)
argument = session.get_inputs()[0]
x = np.random.default_rng(0).normal(0, 50, (2000, *argument.shape[1:])).astype(np.float32)
(wanted,) = session.run(None, {argument.name: x})
child = os.fork()
if child == 0:
    (found,) = session.run(None, {argument.name: x})
    os._exit(0 if np.array_equal(found, wanted) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_process_starts_threads_of_its_own(pytestconfig: pytest.Config) -> None:
    model = pytestconfig.rootpath / "golden" / "vibration_w8.onnx"
    command = [sys.executable, "-P", "-W", "ignore", "-c", FORKING, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr
