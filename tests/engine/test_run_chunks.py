"""Samples from an iterator: the same results, in constant memory, and errors when they are reached."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from npusim import InferenceSession, InputError
from npusim.errors import UnknownTensorError
from npusim.graph import Array
from support.chunk_runners import numbered, small_model
from support.command_line import model_with_open_size


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


@pytest.mark.slow
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
