"""BLAS runs on one thread while chunks run in parallel, and gets its threads back whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from npusim import InferenceSession, InputError, UnsupportedError
from npusim.program import Program
from support.chunk_runners import WAIT, Numbers, numbered, run, small_model


@pytest.fixture(name="program", scope="module")
def small_program() -> Program:
    return InferenceSession(small_model()).program


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"]


def set_blas_threads(number: int) -> None:
    """As a user may have done it in another thread: threadpoolctl lets no other thread change what a living one has set."""
    setter = threading.Thread(target=lambda: ThreadpoolController().limit(limits=number, user_api="blas"))
    setter.start()
    setter.join()


@pytest.fixture(name="three")
def three_blas_threads() -> Iterator[list[int]]:
    """BLAS set to three threads."""
    before = blas_threads()
    set_blas_threads(3)
    assert blas_threads() == [3] * len(before)
    yield blas_threads()
    set_blas_threads(max(before))


def test_blas_runs_on_one_thread_meanwhile_and_gets_its_threads_back(program: Program, three: list[int]) -> None:
    assert three
    seen: list[list[int]] = []
    for threads in (1, 2):
        runner = Numbers(program, 10, lambda start: seen.append(blas_threads()))
        run(runner, 50, threads=threads)
        assert blas_threads() == three
        assert len(seen) == len(runner.sizes) >= 5
        assert {number for numbers in seen for number in numbers} == {1}
        seen.clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_gets_its_threads_back_after_errors_and_interrupts(program: Program, three: list[int], threads: int) -> None:
    def failing(start: int) -> None:
        raise UnsupportedError("no")

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(UnsupportedError):
        run(Numbers(program, 10, failing), 100, threads=threads)
    assert blas_threads() == three
    with pytest.raises(KeyboardInterrupt):
        run(Numbers(program, 10), 100, threads=threads, progress=interrupted)
    assert blas_threads() == three
    session, feeds = InferenceSession(small_model(), threads=threads), numbered(20_000)
    feeds["input"][-1] = np.nan
    with pytest.raises(InputError):
        session.run(None, feeds)
    assert blas_threads() == three


@pytest.mark.parametrize("first_ends_first", [False, True])
def test_of_two_runs_at_once_the_threads_are_given_back(program: Program, three: list[int], first_ends_first: bool) -> None:
    """Two threads, each with a run; the one that begins first limits BLAS."""
    begun, may_end = ([threading.Event() for _ in range(2)] for _ in range(2))
    seen: list[list[int]] = []

    def hold(index: int) -> None:
        seen.append(blas_threads())
        begun[index].set()
        assert may_end[index].wait(WAIT)

    with ThreadPoolExecutor(2) as pool:
        results = []
        for index in range(2):
            results.append(pool.submit(run, Numbers(program, 10, lambda start, index=index: hold(index)), 10))
            assert begun[index].wait(WAIT)
        for index in (0, 1) if first_ends_first else (1, 0):
            may_end[index].set()
            np.testing.assert_array_equal(results[index].result(WAIT), np.arange(10))
        assert blas_threads() == three
    assert {number for numbers in seen for number in numbers} == {1}
    run(Numbers(program, 10, lambda start: seen.append(blas_threads())), 10)
    assert set(seen[-1]) == {1}
    assert blas_threads() == three
