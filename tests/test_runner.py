"""Chunks and threads: order, progress, errors, memory-mapped inputs, BLAS threads given back, Ctrl-C."""

from __future__ import annotations

import gc
import os
import pty
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from command_line import SCRIPT, model_with_open_size
from engine_cases import Sketch
from npusim import InferenceSession, InputError, UnsupportedError, UsageError
from npusim.engine.runner import run_chunked
from npusim.errors import UnknownTensorError
from npusim.graph import Array
from npusim.program import Program

WAIT = 60
"""Seconds after which a test gives up waiting for another thread; no result depends on it."""


def small_model() -> bytes:
    sketch = Sketch(2, 6, 1)
    return sketch.finish(sketch.layer(sketch.weights(3, 2, 3, 1), pads=(1, 0, 1, 0)))


@pytest.fixture(name="program", scope="module")
def small_program() -> Program:
    return InferenceSession(small_model()).program


def numbered(count: int) -> dict[str, Array]:
    """Inputs of the small model, each sample with its own number."""
    return {"input": np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 2, 6, 1)).copy()}


@dataclass
class Numbers:
    """Gives back each sample's number; `before` is called with the number of a chunk's first sample."""

    program: Program
    samples: int
    before: Callable[[int], None] = lambda start: None
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        numbers = feeds["input"][:, 0, 0, 0].astype(np.int64)
        self.starts.append(int(numbers[0]))
        self.sizes.append(len(numbers))
        self.before(int(numbers[0]))
        return dict.fromkeys(targets, numbers)


def run(runner: Numbers, count: int, **options: Any) -> Array:
    output = runner.program.outputs[0]
    return run_chunked(runner.program, runner, numbered(count), [output], **options)[output]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 100])
def test_every_sample_is_run_once_and_put_in_its_place(program: Program, count: int, threads: int) -> None:
    runner = Numbers(program, 10)
    np.testing.assert_array_equal(run(runner, count, threads=threads), np.arange(count))
    assert sum(runner.sizes) == count
    assert max(runner.sizes) <= 10
    assert threads < 2 or len(runner.sizes) >= min(2, count)


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

    run(Numbers(program, 10), 95, threads=threads, progress=progress)
    assert [total for _, total in reports] == [95] * 10
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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_late_number_that_is_not_finite_is_found_with_its_index(engine: str, threads: int, bad: float) -> None:
    session = InferenceSession(small_model(), engine=engine, threads=threads)
    feeds = numbered(1000)
    feeds["input"][777, 1, 4, 0] = bad
    for call in (lambda: session.run(None, feeds), lambda: session.trace(feeds)):
        with pytest.raises(InputError, match=rf"'input' holds {bad} at index \[777, 1, 4, 0\]"):
            call()
    feeds["input"][777] = 0
    assert len(session.run(None, feeds)[0]) == 1000


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
    x = np.random.default_rng(0).normal(0, 3, (1000, 2, 6, 1)).astype(np.float32)
    watched = x.view(Watched)
    watched.reads = []
    outputs = session.run(None, {"input": watched})
    assert sum(watched.reads) == 1000
    assert max(watched.reads) <= 128
    np.testing.assert_array_equal(outputs[0], session.run(None, {"input": x})[0])


def test_memory_mapped_inputs_give_plain_arrays(tmp_path: Path) -> None:
    session = InferenceSession(small_model(), threads=2)
    x = np.random.default_rng(0).normal(0, 3, (300, 2, 6, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for count in (1, 300):
        trace, wanted = session.trace({"input": mapped[:count]}), session.trace({"input": x[:count]})
        for name, values in trace.items():
            assert type(values) is np.ndarray, name
            np.testing.assert_array_equal(values, wanted[name])
        assert type(session.run(None, {"input": mapped[:count]})[0]) is np.ndarray


def test_a_session_does_not_keep_its_inputs_alive() -> None:
    session = InferenceSession(small_model(), threads=2)
    for count in (1, 50, 500):
        x = numbered(count)["input"]
        gone = weakref.ref(x)
        session.run(None, {"input": x})
        session.trace({"input": x})
        del x
        gc.collect()
        assert gone() is None, count


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
        run(Numbers(program, 10, lambda start: seen.append(blas_threads())), 50, threads=threads)
        assert blas_threads() == three
    assert len(seen) == 10
    assert {number for numbers in seen for number in numbers} == {1}


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
    session, feeds = InferenceSession(small_model(), threads=threads), numbered(500)
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


@pytest.mark.parametrize("shared", [False, True])
def test_sessions_run_in_several_threads_at_once(shared: bool) -> None:
    sessions = [InferenceSession(small_model(), threads=2) for _ in range(4)]
    feeds = [{"input": np.random.default_rng(seed).normal(0, 3, (150 + seed, 2, 6, 1)).astype(np.float32)} for seed in range(4)]
    wanted = [InferenceSession(small_model(), engine="reference").trace(feed) for feed in feeds]
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda index: sessions[0 if shared else index].trace(feeds[index]), range(4)))
        for trace, expected in zip(found, wanted, strict=True):
            assert set(trace) == set(expected)
            for name, values in trace.items():
                np.testing.assert_array_equal(values, expected[name])


def chunks_of(x: Array, *sizes: int) -> Iterator[dict[str, Array]]:
    start = 0
    for size in sizes:
        yield {"input": x[start : start + size]}
        start += size


def test_chunks_of_the_callers_own_give_what_one_run_gives() -> None:
    session = InferenceSession(small_model(), threads=2)
    x = np.random.default_rng(0).normal(0, 3, (400, 2, 6, 1)).astype(np.float32)
    (whole,) = session.run(None, {"input": x})
    parts = list(session.run_chunks(chunks_of(x, 1, 150, 7, 64, 178)))
    assert [len(part) for (part,) in parts] == [1, 150, 7, 64, 178]
    np.testing.assert_array_equal(np.concatenate([part for (part,) in parts]), whole)
    codes = session.program.layers[0].taps[0].tensor
    ((inner,),) = session.run_chunks(chunks_of(x, 400), [codes])
    np.testing.assert_array_equal(inner, session.run([codes], {"input": x})[0])
    assert list(session.run_chunks([])) == []


def test_chunks_are_taken_one_at_a_time_and_forgotten() -> None:
    session = InferenceSession(small_model(), threads=2)
    taken: list[weakref.ref[Array]] = []

    def chunks() -> Iterator[dict[str, Array]]:
        for _ in range(5):
            x = numbered(200)["input"]
            taken.append(weakref.ref(x))
            yield {"input": x}
            del x

    results = session.run_chunks(chunks())
    assert taken == []
    for number, (output,) in enumerate(results, 1):
        assert len(taken) == number
        assert len(output) == 200
        gc.collect()
        assert sum(reference() is not None for reference in taken) <= 1


def test_a_chunk_that_does_not_fit_is_refused_when_it_is_reached() -> None:
    session = InferenceSession(small_model(), threads=2)
    x = numbered(300)["input"]
    x[250, 1, 2, 0] = np.nan
    results = session.run_chunks(chunks_of(x, 100, 100, 100))
    assert [len(next(results)[0]) for _ in range(2)] == [100, 100]
    with pytest.raises(InputError, match=r"at index \[250, 1, 2, 0\]"):
        next(results)
    for chunk, says in (
        ({"input": x[:5].astype(np.float64)}, "element type float64"),
        ({"input": x[:5, :, :3]}, r"wanted \[N, 2, 6, 1\]"),
        ({"input": x[:0]}, "at least 1"),
        ({"other": x[:5]}, "no input 'other'"),
        (x[:5], "are a ndarray, wanted a mapping"),
    ):
        with pytest.raises(InputError, match=says):
            next(session.run_chunks([chunk]))  # type: ignore[list-item]
    with pytest.raises(UnknownTensorError, match="no tensor 'nothing'"):
        next(session.run_chunks(chunks_of(x, 5), ["nothing"]))


def test_chunks_of_a_model_with_open_sizes_may_have_several() -> None:
    session = InferenceSession(model_with_open_size())
    parts = [np.array([[-1.0, 2.0, -3.0]], np.float32), np.array([[5.0, -6.0]], np.float32)]
    results = [output for (output,) in session.run_chunks({"x": part} for part in parts)]
    assert [output.tolist() for output in results] == [[[0.0, 2.0, 0.0]], [[5.0, 0.0]]]


MEMORY = """
import gc, sys
import numpy as np
from npusim import InferenceSession

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

session = InferenceSession(sys.argv[1], threads=2)
count = int(sys.argv[2])
x = np.random.default_rng(0).normal(0, 3, (count, 1, 32, 32)).astype(np.float32)
session.run(None, {"input": x[:256]})
before = peak()
(output,) = session.run(None, {"input": x})
print(peak() - before - output.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to read the peak of the memory")
def test_memory_is_that_of_a_few_chunks_and_the_outputs(tmp_path: Path) -> None:
    """One inner tensor of all samples would take 16 * 32 * 32 * 4 bytes for each of them."""
    sketch = Sketch(1, 32, 32)
    inner = sketch.layer(sketch.weights(16, 1, 3, 3), pads=(1, 1, 1, 1))
    wide = sketch.layer(sketch.weights(16, 16, 1, 1), source=inner)
    model = tmp_path / "model.onnx"
    model.write_bytes(sketch.finish(sketch.layer(sketch.weights(1, 16, 1, 1), source=wide)))
    command = [sys.executable, "-c", MEMORY, str(model), "3000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3000 * 16 * 32 * 32 * 4 / 10


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_long_run_and_leaves_no_file(tmp_path: Path, threads: int) -> None:
    """The run would take many minutes; the test gives up after one."""
    sketch = Sketch(1, 64, 64)
    inner = sketch.layer(sketch.weights(16, 1, 3, 3), pads=(1, 1, 1, 1))
    (tmp_path / "model.onnx").write_bytes(
        sketch.finish(sketch.layer(sketch.weights(1, 16, 15, 15), source=inner, pads=(7, 7, 7, 7)))
    )
    np.save(tmp_path / "x.npy", np.zeros((3000, 1, 64, 64), np.float32))
    leader, follower = pty.openpty()
    command = [SCRIPT, "run", "model.onnx", "x.npy", "-o", "out.npz", "--engine", "reference", "--threads", str(threads)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"}
    )
    try:
        seen = b""
        while b"64/3000" not in seen:  # it is in the middle of its work
            seen += os.read(leader, 10_000)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        os.close(follower)
        os.close(leader)
    assert (process.returncode, out) == (130, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "x.npy"]
