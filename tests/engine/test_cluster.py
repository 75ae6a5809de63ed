"""Workers: the same bytes as without them, whoever is killed, lost or late."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npusim
from npusim.comparison import float_comparison
from npusim.engine import cluster as room
from npusim.engine.cluster import IN_FLIGHT, Cluster, Job, open_cluster, results_of
from npusim.errors import InputError, UsageError
from npusim.files.arrays import StoredArray, read_npy
from npusim.graph import Array
from npusim.results.simulation import run_to_archive
from support import ROOT

GOLDEN = ROOT / "golden"
W8, W4 = GOLDEN / "vibration_w8.onnx", GOLDEN / "vibration_w4.onnx"

Found = tuple[int, int, bytes]
"""Number of the first sample, process, and outputs."""


def samples(count: int) -> Array:
    with np.load(GOLDEN / "vibration_inputs.npz") as arrays:
        x = arrays["input"]
    return np.resize(x, (count, *x.shape[1:])).astype(x.dtype)


def outputs_job() -> Job[Found]:
    """A job that gives outputs; its function is none of a module, since workers cannot import tests."""

    def build(session: npusim.InferenceSession) -> Callable[[Mapping[str, Array], int], Found]:
        import os

        def work(feeds: Mapping[str, Array], start: int) -> Found:
            return start, os.getpid(), session.run(None, feeds)[0].tobytes()

        return work

    return Job(build, (npusim.InferenceSession(W8),))


def without_processes(found: Iterator[Found]) -> list[tuple[int, bytes]]:
    return [(start, values) for start, _, values in found]


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs="CRITICAL") as workers:
        yield workers


@pytest.mark.needs_dask
@pytest.mark.slow
def test_results_are_those_of_this_process_though_a_worker_is_killed_and_another_comes_late(workers: Any) -> None:
    feeds, starts = {"input": samples(400)}, range(0, 400, 10)
    wanted = without_processes(results_of(outputs_job(), feeds, starts, None))
    with open_cluster(workers.scheduler_address) as cluster:
        assert cluster is not None
        found = cluster.results(outputs_job(), feeds, starts)
        seen = [next(found) for _ in range(4)]
        os.kill(seen[-1][1], signal.SIGKILL)
        seen.extend(next(found) for _ in range(4))
        workers.scale(3)
        seen.extend(found)
    assert without_processes(iter(seen)) == wanted
    processes = {process for _, process, _ in seen}
    assert os.getpid() not in processes
    assert len(processes) >= 2


@pytest.mark.needs_dask
@pytest.mark.slow
def test_commands_give_the_same_bytes(workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(300)
    np.save(tmp_path / "x.npy", np.concatenate([x] * 80))  # so large that workers read it themselves
    stored = read_npy(tmp_path / "x.npy")
    assert isinstance(stored, StoredArray)
    session = npusim.InferenceSession(W8)
    with open_cluster(workers.scheduler_address) as cluster:
        for name, who in (("here", None), ("there", cluster)):
            run_to_archive(session, {"input": stored}, str(tmp_path / f"{name}.npz"), cluster=who)
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()
    monkeypatch.setattr(float_comparison, "ELEMENTS", 2**18)  # so that there is more than one piece
    keywords = GOLDEN / "keywords_w8.onnx", GOLDEN / "keywords_float.onnx"
    for result in (
        lambda dask: npusim.verify(W8, x[:70], dask=dask),
        lambda dask: npusim.compare(W8, W4, x, dask=dask),
        lambda dask: npusim.compare(*keywords, samples=100, dask=dask),
    ):
        here, there = (json.dumps(result(dask).to_dict()) for dask in (None, workers.scheduler_address))
        assert here == there


@pytest.mark.needs_dask
@pytest.mark.slow
def test_the_first_error_in_the_order_of_the_samples_is_told(workers: Any, tmp_path: Path) -> None:
    x = samples(40)
    x[[17, 33], 0, 5] = np.nan
    session = npusim.InferenceSession(W8)
    with pytest.raises(InputError) as here:
        session.run(None, {"input": x})
    work = results_of(outputs_job(), {"input": x}, range(0, 40, 10), None)
    with pytest.raises(InputError) as alone:
        list(work)
    with open_cluster(workers.scheduler_address) as cluster, pytest.raises(InputError) as there:
        list(results_of(outputs_job(), {"input": x}, range(0, 40, 10), cluster))
    assert str(there.value) == str(alone.value)
    assert "index [17, 0, 5, 0]" in str(here.value)
    assert "index [7, 0, 5, 0]" in str(alone.value)


@pytest.mark.needs_dask
@pytest.mark.slow
def test_workers_of_another_version_are_refused(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_versions", lambda: {"npusim": "0.0.9"})
    with (
        open_cluster(workers.scheduler_address) as cluster,
        pytest.raises(UsageError, match=r"this process npusim 0\.0\.9; install"),
    ):
        list(results_of(outputs_job(), {"input": samples(4)}, range(0, 4, 2), cluster))


@pytest.mark.needs_dask
@pytest.mark.slow
def test_what_a_lost_scheduler_does_not_give_is_computed_here() -> None:
    import dask
    from distributed import LocalCluster

    feeds, starts = {"input": samples(100)}, range(0, 100, 10)
    wanted = without_processes(results_of(outputs_job(), feeds, starts, None))
    workers = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs="CRITICAL")
    quick = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with quick, workers, open_cluster(workers.scheduler_address) as cluster:
        found = results_of(outputs_job(), feeds, starts, cluster)
        seen = [next(found)]
        workers.close()
        seen.extend(found)
    assert without_processes(iter(seen)) == wanted
    assert seen[0][1] != seen[-1][1] == os.getpid()


class FakeClient:
    """A scheduler whose workers do nothing until they are asked for a result."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self.plugin: Any = None

    def register_plugin(self, plugin: Any) -> None:
        self.plugin = plugin
        plugin.threads, plugin.lock, plugin.work = 1, __import__("threading").Lock(), None

    def unregister_worker_plugin(self, name: str) -> None:
        assert name == self.plugin.name
        self.plugin = None

    def cancel(self, futures: list[Any]) -> None:
        self.open -= len(futures)

    def nthreads(self) -> dict[str, int]:
        return {"tcp://one": 4, "tcp://two": 1}

    def submit(self, function: Any, name: str, sent: Any, start: int, *, pure: bool) -> Any:
        self.open += 1
        self.most = max(self.most, self.open)
        client = self

        class Future:
            def result(self) -> Any:
                client.open -= 1
                return client.plugin.compute(room._values(sent), start)

        return Future()


@pytest.mark.needs_dask
def test_as_many_chunks_are_under_way_as_workers_can_hold() -> None:
    client = FakeClient()
    feeds = {"input": samples(60)}
    found = Cluster(client).results(outputs_job(), feeds, range(0, 60, 2))
    next(found)
    assert client.most == client.open + 1 == 2 * IN_FLIGHT
    found.close()
    assert (client.open, client.plugin) == (0, None)
    seen = list(Cluster(client).results(outputs_job(), feeds, range(0, 60, 2)))
    assert client.most == 2 * IN_FLIGHT
    assert [start for start, *_ in seen] == list(range(0, 60, 2))


@pytest.mark.parametrize("address", ["", "local:0", "local:x", "local:-1", "host:8786", "tcp", "locally"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="wanted local, local:N, or a scheduler"), open_cluster(address):
        pass


def test_no_address_is_no_cluster() -> None:
    with open_cluster(None) as cluster:
        assert cluster is None


@pytest.mark.needs_dask
def test_where_no_scheduler_answers_is_said() -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(UsageError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_rows_of_a_file_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    values = np.arange(3 * 2**21, dtype=np.float32).reshape(-1, 16)
    np.save(tmp_path / "x.npy", values)
    stored = read_npy(tmp_path / "x.npy")
    assert isinstance(stored, StoredArray)
    ((start, sent),) = room._sent({"x": stored}, range(100, 101, 7))
    assert start == 100
    rows = sent["x"]
    assert not isinstance(rows, np.ndarray)
    assert rows.path == tmp_path / "x.npy"
    assert np.array_equal(rows.read(), values[100:107])
    elsewhere = replace(rows, state=(1, 2, *rows.state[2:]))
    assert np.array_equal(elsewhere.read(elsewhere=True), values[100:107])
    with pytest.raises(InputError, match="was changed"):
        elsewhere.read()
    with pytest.raises(InputError, match="other machines need the file under the same path"):
        replace(rows, path=tmp_path / "y.npy").read()
    ((_, sent),) = room._sent({"x": values}, range(100, 101, 7))
    assert np.array_equal(np.asarray(sent["x"]), values[100:107])
