"""Chunks and threads: order, progress, errors, inputs read part by part, sessions in several threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npusim import InferenceSession, InputError, UnsupportedError, UsageError
from npusim.graph import Array
from npusim.program import Program
from support.chunk_runners import WAIT, Numbers, numbered, run, small_model


@pytest.fixture(name="program", scope="module")
def small_program() -> Program:
    return InferenceSession(small_model()).program


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 100])
def test_every_sample_is_run_once_and_put_in_its_place(program: Program, count: int, threads: int) -> None:
    runner = Numbers(program, 10)
    np.testing.assert_array_equal(run(runner, count, threads=threads), np.arange(count))
    assert sum(runner.sizes) == count
    assert max(runner.sizes) <= 10
    assert len(runner.sizes) >= (count + 9) // 10


def test_samples_are_shared_out_evenly_among_threads(program: Program) -> None:
    cases = ((11, 2, [6, 5]), (20, 3, [7, 7, 6]), (20, 1, [10, 10]), (9, 3, [3, 3, 3]), (41, 2, [7, 7, 7, 7, 7, 6]))
    for count, threads, sizes in cases:
        runner = Numbers(program, 10)
        run(runner, count, threads=threads)
        assert sorted(runner.sizes, reverse=True) == sizes
    for count, threads, sizes in ((1000, 2, [256, 256, 256, 232]), (300, 2, [160, 140]), (130, 1, [130]), (2, 2, [1, 1])):
        runner = Numbers(program, 260)
        run(runner, count, threads=threads)
        assert sorted(runner.sizes, reverse=True) == sizes


@pytest.mark.parametrize(("fewest", "sizes"), [(10, [10] * 10), (34, [50, 50]), (50, [50, 50]), (51, [100]), (1000, [100])])
def test_a_thread_gets_no_less_than_it_is_worth(program: Program, fewest: int, sizes: list[int]) -> None:
    runner = Numbers(program, 100, fewest_samples=fewest)
    run(runner, 100, threads=10)
    assert runner.sizes == sizes


def test_a_runner_may_want_no_other_threads(program: Program) -> None:
    threads: set[str] = set()
    runner = Numbers(program, 10, lambda start: threads.add(threading.current_thread().name), fewest_samples=51)
    np.testing.assert_array_equal(run(runner, 100, threads=8), np.arange(100))
    assert threads == {threading.current_thread().name}


def test_chunks_that_finish_out_of_order_are_put_in_order(program: Program) -> None:
    second_is_done = threading.Event()

    def before(start: int) -> None:
        if start == 0:
            assert second_is_done.wait(WAIT)
        elif start == 20:
            second_is_done.set()

    runner = Numbers(program, 10, before)
    np.testing.assert_array_equal(run(runner, 40, threads=2), np.arange(40))


def test_no_more_chunks_run_at_a_time_than_there_are_threads(program: Program) -> None:
    meeting = threading.Barrier(3)
    running: list[int] = []
    most: list[int] = []

    class Counting(Numbers):
        def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
            running.append(1)
            most.append(len(running))
            meeting.wait(WAIT)  # all three have to be here at once
            result = super().run(feeds, targets)
            running.pop()
            return result

    run(Counting(program, 10), 90, threads=3)
    assert max(most) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_counts_up_in_the_callers_thread(program: Program, threads: int) -> None:
    reports: list[tuple[int, int]] = []
    names: set[str] = set()

    def progress(done: int, total: int) -> None:
        reports.append((done, total))
        names.add(threading.current_thread().name)

    runner = Numbers(program, 10)
    run(runner, 95, threads=threads, progress=progress)
    assert [total for _, total in reports] == [95] * len(runner.sizes)
    done = [number for number, _ in reports]
    assert done == sorted(set(done))
    assert done[-1] == 95
    assert names == {threading.current_thread().name}
    reports.clear()
    run(Numbers(program, 10), 1, progress=progress)
    assert reports == [(1, 1)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_in_a_chunk_ends_the_run(program: Program, threads: int) -> None:
    def before(start: int) -> None:
        if start == 50:
            raise UnsupportedError("the middle")

    runner = Numbers(program, 10, before)
    with pytest.raises(UnsupportedError, match="the middle"):
        run(runner, 1000, threads=threads)
    # what had not begun never began: at most one chunk for each thread after the failing one, and one on its way
    assert len(runner.starts) <= 6 + 2 * threads


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_late_number_that_is_not_finite_is_found_with_its_index(engine: str, threads: int, bad: float) -> None:
    session = InferenceSession(small_model(), engine=engine, threads=threads)
    feeds = numbered(10_000)
    feeds["input"][7777, 1, 4, 0] = bad
    for call in (lambda: session.run(None, feeds), lambda: session.trace(feeds)):
        with pytest.raises(InputError, match=rf"'input' holds {bad} at index \[7777, 1, 4, 0\]"):
            call()
    feeds["input"][7777] = 0
    assert len(session.run(None, feeds)[0]) == 10_000


def test_threads_are_at_least_one() -> None:
    for threads in (0, -1):
        with pytest.raises(UsageError, match=f"threads is {threads}"):
            InferenceSession(small_model(), threads=threads)


class Watched(np.ndarray):  # type: ignore[type-arg]
    """An array that notes how much of it is read at once, and refuses to be read whole."""

    reads: list[int]

    def __getitem__(self, key: Any) -> Any:
        part = np.asarray(self.base)[key]
        self.reads.append(len(part))
        return part

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        raise AssertionError(f"{ufunc.__name__} on all samples")

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        raise AssertionError(f"{function.__name__} on all samples")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_inputs_are_read_chunk_by_chunk(engine: str, threads: int) -> None:
    session = InferenceSession(small_model(), engine=engine, threads=threads)
    x = np.random.default_rng(0).normal(0, 3, (10_000, 2, 6, 1)).astype(np.float32)
    watched = x.view(Watched)
    watched.reads = []
    outputs = session.run(None, {"input": watched})
    assert sum(watched.reads) == 10_000
    assert max(watched.reads) <= (4096 if engine == "fast" else 64)
    np.testing.assert_array_equal(outputs[0], session.run(None, {"input": x})[0])


def test_memory_mapped_inputs_give_plain_arrays(tmp_path: Path) -> None:
    session = InferenceSession(small_model(), threads=2)
    x = np.random.default_rng(0).normal(0, 3, (9000, 2, 6, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for count in (1, 9000):
        trace, wanted = session.trace({"input": mapped[:count]}), session.trace({"input": x[:count]})
        for name, values in trace.items():
            assert type(values) is np.ndarray, name
            np.testing.assert_array_equal(values, wanted[name])
        assert type(session.run(None, {"input": mapped[:count]})[0]) is np.ndarray


@pytest.mark.slow
def test_a_session_does_not_keep_its_inputs_alive() -> None:
    session = InferenceSession(small_model(), threads=2)
    for count in (1, 50, 500, 20_000):
        x = numbered(count)["input"]
        gone = weakref.ref(x)
        session.run(None, {"input": x})
        session.trace({"input": x})
        del x
        gc.collect()
        assert gone() is None, count


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_sessions_run_in_several_threads_at_once(shared: bool) -> None:
    sessions = [InferenceSession(small_model(), threads=2) for _ in range(4)]
    feeds = [
        {"input": np.random.default_rng(seed).normal(0, 3, (150 + 9000 * (seed % 2) + seed, 2, 6, 1)).astype(np.float32)}
        for seed in range(4)
    ]
    wanted = [InferenceSession(small_model(), engine="reference").trace(feed) for feed in feeds]
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda index: sessions[0 if shared else index].trace(feeds[index]), range(4)))
        for trace, expected in zip(found, wanted, strict=True):
            assert set(trace) == set(expected)
            for name, values in trace.items():
                np.testing.assert_array_equal(values, expected[name])
