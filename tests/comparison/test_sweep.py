"""Sweeps: metrics against plain Python, partitions, the journal, and the table."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import npusim
from npusim.errors import InputError, UsageError
from npusim.results import sweep as room
from npusim.results.sweep import SweepResult, SweptModel
from support import ROOT

GOLDEN = ROOT / "golden"
W8, W4, FLOAT = GOLDEN / "vibration_w8.onnx", GOLDEN / "vibration_w4.onnx", GOLDEN / "keywords_float.onnx"


def vibration(count: int = 40) -> tuple[Any, Any]:
    with np.load(GOLDEN / "vibration_inputs.npz") as arrays:
        x = arrays["input"]
    return np.resize(x, (count, *x.shape[1:])), np.arange(count) % 5 - 1


def outputs(model: Path, x: Any) -> list[list[float]]:
    rows: list[list[float]] = npusim.InferenceSession(model).run(None, {"input": x})[0].tolist()
    return rows


def test_metrics_of_classes_are_those_of_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = vibration()
    monkeypatch.setattr(room, "MOST_SAMPLES", 7)
    found = npusim.sweep({"w8": W8}, x, ("accuracy", "agreement", "fitted_sqnr_db"), labels=labels, reference=W4)
    ours, theirs = outputs(W8, x), outputs(W4, x)
    classes = [[row.index(max(row)) for row in rows] for rows in (ours, theirs)]
    right = [got == label for got, label in zip(classes[0], labels.tolist(), strict=True) if label >= 0]
    pairs = [(int(a), int(b)) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    product, energy, wanted = sum(a * b for a, b in pairs), sum(a * a for a, _ in pairs), sum(b * b for _, b in pairs)
    (row,) = found.models
    assert found
    assert (row.samples, row.bits) == (40, 8.0)
    assert row.metrics == {
        "accuracy": sum(right) / len(right),
        "agreement": sum(one == other for one, other in zip(*classes, strict=True)) / 40,
        "fitted_sqnr_db": -10 * math.log10(1 - Fraction(product**2, energy * wanted)),
    }


def test_errors_against_targets_are_those_of_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(GOLDEN / "keywords_samples.npz") as arrays:
        x = arrays["input"][:10]
    monkeypatch.setattr(room, "MOST_SAMPLES", 3)
    y = np.asarray(outputs(FLOAT, x))
    off = (np.arange(y.size).reshape(y.shape) % 7 - 3) / 4
    found = npusim.sweep([FLOAT], x, ["root_mean_square_error", "mean_absolute_error"], labels=y + off)
    errors = [Fraction(one) for one in off.ravel().tolist()]
    (row,) = found.models
    assert row.metrics == {
        "root_mean_square_error": math.sqrt(sum(one * one for one in errors) / len(errors)),
        "mean_absolute_error": float(sum(map(abs, errors)) / len(errors)),
    }
    assert (row.bits, row.bytes, row.model) == (None, None, str(FLOAT))
    with pytest.raises(UsageError, match="gives codes, which have no unit"):
        npusim.sweep([W8], vibration()[0], ["mean_absolute_error"], labels=np.zeros((40, 4)))


def test_partitions_of_any_form_give_what_one_array_gives(tmp_path: Path) -> None:
    x, labels = vibration()
    whole = npusim.sweep([W8, W4], x, labels=labels)
    folder = tmp_path / "windows"
    folder.mkdir()
    np.save(folder / "a.npy", x[:9])
    np.savez(folder / "b.npz", input=x[9:20])
    columns = {str(at): values for at, values in enumerate(x[20:].reshape(20, -1).T)}
    pd.DataFrame(columns).to_parquet(folder / "c.parquet")
    (folder / "notes.txt").write_text("not data")
    parts = [labels[:9], labels[9:20], labels[20:]]
    assert npusim.sweep([W8, W4], folder, labels=parts).models == whole.models
    files = [folder / name for name in ("c.parquet", "a.npy", "b.npz")]
    found = npusim.sweep([W8, W4], files, labels=[parts[2], parts[0], parts[1]])
    assert found.models == whole.models
    np.savez(tmp_path / "labelled.npz", input=x, label=labels)
    assert npusim.sweep([W8, W4], tmp_path / "labelled.npz").models == whole.models
    with pytest.raises(UsageError, match="3 partitions and labels for 1"):
        npusim.sweep([W8], folder, labels=labels)
    with pytest.raises(UsageError, match=r"a\.npy has no labels"):
        npusim.sweep([W8], folder / "a.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="give a folder of partitions"):
        npusim.sweep([W8], tmp_path / "empty", labels=labels)


class StopSweepError(Exception):
    """Whatever ends a sweep."""


def test_a_sweep_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = vibration()
    book = tmp_path / "sweep.json"
    measured: list[str] = []
    real = room._measured

    def counting(row: SweptModel, *rest: Any) -> SweptModel:
        if len(measured) == 1:
            raise StopSweepError
        measured.append(row.model)
        return real(row, *rest)

    monkeypatch.setattr(room, "_measured", counting)
    models = {"eight": W8, "four": W4}
    with pytest.raises(StopSweepError):
        npusim.sweep(models, x, labels=labels, journal=book)
    assert [row["model"] for row in json.loads(book.read_text())["models"]] == ["eight"]
    measured.clear()
    found = npusim.sweep(models, x, labels=labels, journal=book)
    assert (measured, found.resumed) == (["four"], 1)
    monkeypatch.setattr(room, "_measured", real)
    assert found.models == npusim.sweep(models, x, labels=labels).models
    again = npusim.sweep({"renamed": W4}, x, labels=labels, journal=book)
    assert (again.resumed, again.models[0].model, again.models[0].metrics) == (1, "renamed", found.models[1].metrics)
    for changed in ({"labels": labels % 2}, {"labels": labels, "reference": W4}):
        with pytest.raises(UsageError, match="journal of another sweep"):
            npusim.sweep(models, x, journal=book, **changed)
    with pytest.raises(UsageError, match="journal of another sweep"):
        npusim.sweep(models, x[:39], labels=labels[:39], journal=book)
    book.write_text("{}")
    with pytest.raises(InputError, match="is not a journal of a sweep"):
        npusim.sweep(models, x, labels=labels, journal=book)


def test_a_model_that_cannot_be_run_is_a_row(tmp_path: Path) -> None:
    x, labels = vibration()
    (tmp_path / "broken.onnx").write_bytes(b"\x00")
    found = npusim.sweep([tmp_path / "broken.onnx", W8], x, labels=labels, journal=tmp_path / "sweep.json")
    assert not found
    assert found.models[0].failure is not None
    assert "1 cannot be run" in str(found)
    table = found.to_pandas()
    assert list(table.columns) == ["model", "arithmetic", "bits", "bytes", "samples", "accuracy", "pareto", "failure"]
    assert table["pareto"].tolist() == [False, True]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["models"][1]["metrics"] == found.models[1].metrics


def result(*points: tuple[str, int | None, float], metric: str = "accuracy") -> SweepResult:
    rows = [SweptModel(name, "", None, None, None, None, size, 1, {metric: value}) for name, size, value in points]
    return SweepResult(ok=True, metrics=(metric,), models=tuple(rows))


def test_the_front_holds_what_no_other_is_better_than() -> None:
    points = [
        ("a", 10, 0.5),
        ("b", 20, 0.5),
        ("c", 20, 0.7),
        ("d", 30, 0.6),
        ("e", 20, 0.7),
        ("f", None, 1.0),
        ("g", 1, math.nan),
    ]
    assert result(*points).pareto() == ["a", "c", "e"]
    assert result(*points, metric="mean_absolute_error").pareto() == ["a"]
    with pytest.raises(UsageError, match="was not measured, only accuracy"):
        result(*points).pareto("agreement")


def test_the_plot_draws_every_model_and_the_front() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = result(("x/a.onnx", 10, 0.5), ("b", 20, 0.4), ("c", 20, 0.7)).plot().axes
    every, front = axes.get_lines()
    assert every.get_xydata().tolist() == [[10, 0.5], [20, 0.4], [20, 0.7]]
    assert front.get_xydata().tolist() == [[10, 0.5], [20, 0.7]]
    assert [text.get_text() for text in axes.texts] == ["a", "c"]


@pytest.mark.parametrize(
    ("models", "metrics", "message"),
    [
        ([], ("accuracy",), "there is no model to run"),
        ([W8, W8], ("accuracy",), "two models are called"),
        (str(W8), ("accuracy",), "models is one model"),
        ([W8], ("speed",), "metrics are speed, wanted some of accuracy"),
        ([W8], (), "metrics are none"),
        ([W8], ("agreement",), "the float model is needed"),
    ],
)
def test_what_cannot_be_swept_is_said(models: Any, metrics: Any, message: str) -> None:
    x, labels = vibration(4)
    with pytest.raises(UsageError, match=message):
        npusim.sweep(models, x, metrics, labels=labels)


def test_progress_ends_with_all() -> None:
    x, labels = vibration()
    seen: list[tuple[int, int]] = []
    npusim.sweep([W8, W4], x, labels=labels, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (2000, 2000)


@pytest.mark.slow
@pytest.mark.needs_dask
def test_workers_give_the_same_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, labels = vibration()
    monkeypatch.setattr(room, "MOST_SAMPLES", 5)
    metrics = ("accuracy", "fitted_sqnr_db")
    here = npusim.sweep([W8, W4], x, metrics, labels=labels, reference=W4)
    there = npusim.sweep([W8, W4], x, metrics, labels=labels, reference=W4, dask="local:2", journal=tmp_path / "sweep.json")
    assert here == there
