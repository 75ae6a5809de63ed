"""Whole datasets: accuracy, confusion, flips and regression by hand, labels from files, and the accuracies of real exports."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npusim import InferenceSession
from npusim.comparison.outputs import DatasetResult, Task, evaluate_chunks, evaluate_dataset, read_labels
from npusim.comparison.outputs.dataset import task_of
from npusim.comparison.outputs.output_errors import FLIPS_KEPT, ClassificationSums, RegressionSums, WorstSums
from npusim.errors import InputError, UsageError
from npusim.schemas.objects import json_object
from support import Export
from support.builders import GraphBuilder


def quantized_model(scale: float = 1.0) -> bytes:
    """Rounds three values down to whole numbers, times a factor."""
    graph = GraphBuilder((1, 3))
    codes = graph.input_stage([0.0] * 3, [1] * 3, [0] * 3)
    return graph.model(graph.binary("Mul", codes, scale) if scale != 1 else codes)


def float_model() -> bytes:
    """Gives three values as they are."""
    graph = GraphBuilder((1, 3))
    return graph.model(graph.binary("Mul", "input", 1.0))


SCORES = np.array([[1.0, 2.0, 3.0], [5.5, 5.75, 0.0], [9.0, 1.0, 2.0], [4.25, 4.75, 4.5]], np.float32)
"""Rounded down, samples 1 and 3 have equal largest scores, of which the first counts."""


def evaluated(labels: np.ndarray | None, *, scale: float | None = 1.0, task: str | None = None) -> DatasetResult:
    sessions = InferenceSession(quantized_model()), InferenceSession(float_model())
    return evaluate_dataset(*sessions, {"input": SCORES}, labels, scale=scale, task=task)


def test_classes_flips_and_accuracies_by_hand() -> None:
    found = evaluated(np.array([2, 0, -1, 1]))
    assert (found.task, found.samples, found.scale) == (Task.CLASSIFICATION, 4, 1.0)
    shared = found.classification
    assert shared is not None
    # the float model finds 2, 1, 0, 1; the quantized one 2, 0, 0, 0
    assert shared.agreement_confusion.tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 1]]
    assert (shared.agreement, shared.flip_count, shared.flips_to_right, shared.flips_to_wrong) == (0.5, 2, 1, 1)
    assert (shared.labelled, shared.float_accuracy, shared.quantized_accuracy) == (3, 2 / 3, 2 / 3)
    assert shared.quantized_confusion is not None
    assert shared.quantized_confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert [(flip.sample, flip.float_class, flip.quantized_class, flip.label) for flip in shared.flips] == [
        (1, 1, 0, 0),
        (3, 1, 0, 1),
    ]
    assert [(flip.float_margin, flip.quantized_margin) for flip in shared.flips] == [(0.25, 0.0), (0.25, 0.0)]
    # errors of sample 3: 0.25, 0.75, 0.5; of sample 1: 0.5, 0.75, 0
    assert [worst.sample for worst in found.worst] == [3, 1]
    assert found.worst[0].error == math.sqrt((0.25**2 + 0.75**2 + 0.5**2) / 3)
    assert str(found) == "accuracy 0.6667 (float 0.6667), 2 flips in 4 samples"


def test_without_labels_only_the_agreement_counts() -> None:
    found = evaluated(None)
    assert found.task is Task.AGREEMENT
    assert found.classification is not None
    assert (found.classification.agreement, found.classification.quantized_accuracy) == (0.5, None)
    assert [flip.label for flip in found.classification.flips] == [None, None]


def test_regression_by_hand() -> None:
    found = evaluated(SCORES.astype(np.float64) + np.array([0, 0, 1]))
    assert found.task is Task.REGRESSION
    assert found.regression is not None
    assert found.regression.float_mean_absolute_error == 1 / 3
    assert found.regression.quantized_mean_absolute_error == (4 + 0.5 + 0.75 + 0.25 + 0.75 + 0.5) / 12
    assert found.classification is None
    assert found.worst_targets[0].sample == 3
    assert "R2" in str(found)


def test_the_scale_of_codes_is_fitted_where_it_is_not_given() -> None:
    sessions = InferenceSession(quantized_model()), InferenceSession(float_model())
    x = np.array([[10.0, -20.0, 30.0]], np.float32)
    graph = GraphBuilder((1, 3))
    half = graph.model(graph.binary("Mul", "input", 0.5))
    assert evaluate_dataset(*sessions, {"input": x}).scale == 1.0
    found = evaluate_dataset(sessions[0], InferenceSession(half), {"input": x})
    assert (found.scale, found.worst) == (0.5, ())
    graph = GraphBuilder((1, 3))
    against = graph.model(graph.binary("Mul", "input", -0.5))
    assert evaluate_dataset(sessions[0], InferenceSession(against), {"input": x}).scale == 0.5
    real = evaluate_dataset(InferenceSession(quantized_model(0.25)), sessions[1], {"input": x})
    assert real.scale == 1.0


def test_nothing_depends_on_how_samples_are_cut() -> None:
    sessions = InferenceSession(quantized_model()), InferenceSession(float_model())
    generator = np.random.default_rng(1)
    x = generator.normal(0, 3, (300, 3)).astype(np.float32)
    labels = generator.integers(0, 3, 300)

    def parts(size: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        for at in range(0, 300, size):
            yield {"input": x[at : at + size]}, labels[at : at + size]

    results = [json_object(evaluate_chunks(*sessions, parts(size), scale=1.0)) for size in (300, 7, 1)]
    assert results[0] == results[1] == results[2]
    assert results[0]["classification"]["flip_count"] > 10


def test_parts_are_forgotten_when_they_are_done() -> None:
    sessions = InferenceSession(quantized_model()), InferenceSession(float_model())
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def parts() -> Iterator[tuple[dict[str, np.ndarray], None]]:
        nonlocal most
        for at in range(20):
            x = np.full((50, 3), at, np.float32) + np.array([0, 0.5, 0.25], np.float32)
            alive.append(weakref.ref(x))
            most = max(most, sum(one() is not None for one in alive))
            yield {"input": x}, None

    assert evaluate_chunks(*sessions, parts(), scale=1.0).samples == 1000
    assert most <= 2


def test_flips_and_worst_samples_are_kept_in_bounds() -> None:
    sums, worst = ClassificationSums(), WorstSums(3)
    margins = np.random.default_rng(0).permutation(300) + 1.0
    for at in range(0, 300, 50):
        part = margins[at : at + 50]
        reference, quantized = np.stack([part, 0 * part], axis=1), np.stack([0 * part, part], axis=1)
        sums.take(reference, quantized, None, at)
        worst.take(reference, quantized, at)
    found = sums.result()
    assert (found.flip_count, len(found.flips)) == (300, FLIPS_KEPT)
    assert [flip.float_margin for flip in found.flips] == sorted(margins, reverse=True)[:FLIPS_KEPT]
    assert [margins[sample.sample] for sample in worst.result()] == [300.0, 299.0, 298.0]


def test_a_table_lists_flips_and_worst_samples() -> None:
    frame = evaluated(np.array([2, 0, -1, 1])).to_pandas()
    assert frame["reason"].tolist() == ["flip", "flip", "worst", "worst"]
    assert frame["sample"].tolist() == [1, 3, 3, 1]
    assert frame.to_csv(index=False).splitlines()[1] == "flip,1,1,0,0,0.25,0.0,,"


@pytest.mark.parametrize(
    ("labels", "task", "kind", "says"),
    [
        (np.array([0, 1]), None, InputError, "2 labels for 4 samples"),
        (np.array([0, 1, 2, 3]), None, InputError, "integers from 0 to 2"),
        (np.zeros((4, 2), np.int64), None, InputError, "wanted integers of shape"),
        (np.zeros(4), None, InputError, "targets have shape"),
        (np.zeros(4), "classification", InputError, "wanted integers"),
        (None, "regression", UsageError, "needs targets"),
        (None, "guessing", UsageError, "no task"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: np.ndarray | None, task: str | None, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        evaluated(labels, task=task)


def test_models_and_samples_that_do_not_fit_are_refused() -> None:
    first = InferenceSession(quantized_model())
    graph = GraphBuilder((1, 3))
    summed = InferenceSession(graph.model(graph.node("ReduceSum", "input", graph.constant([1], np.int64), keepdims=1)))
    with pytest.raises(InputError, match="only equal shapes are compared"):
        evaluate_dataset(first, summed, {"input": SCORES})
    with pytest.raises(InputError, match="no samples"):
        evaluate_chunks(first, InferenceSession(float_model()), [])
    with pytest.raises(InputError):
        ClassificationSums().result()
    with pytest.raises(InputError):
        RegressionSums().result()
    with pytest.raises(InputError, match="two or more scores"):
        ClassificationSums().take(np.zeros((2, 1)), np.zeros((2, 1)), None, 0)


def test_the_task_follows_from_the_labels() -> None:
    assert task_of(np.array([1, 2])) is Task.CLASSIFICATION
    assert task_of(np.array([1.0, 2.0])) is Task.REGRESSION
    assert task_of(np.array([1, 2]), "regression") is Task.REGRESSION
    assert task_of(None) is Task.AGREEMENT


def test_labels_come_from_all_kinds_of_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2, 0], np.int8))
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), label=np.array([1, 2, 0]))
    (tmp_path / "a.csv").write_text("label\n1\n2\n0\n", encoding="utf-8")
    pd.DataFrame({"label": [1, 2, 0]}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.npy", "a.npz", "a.csv", "a.parquet"):
        labels = read_labels(tmp_path / name, 3)
        assert (labels.tolist(), labels.dtype.name) == ([1, 2, 0], "int64")
    (tmp_path / "b.csv").write_text("1.5\n2\n", encoding="utf-8")
    assert read_labels(tmp_path / "b.csv").tolist() == [1.5, 2.0]
    (tmp_path / "c.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    assert read_labels(tmp_path / "c.csv").dtype.name == "float64"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros(3), "other": np.zeros(3)}, "wanted the labels as one of"),
        ({"label": np.zeros(3), "target": np.zeros(3)}, "wanted the labels as one of"),
        ({"y": np.array([1, np.nan, 2])}, "NaN or infinite"),
        ({"y": np.zeros((0,))}, "one for each sample"),
        ({"y": np.zeros(4)}, "4 labels for 3 samples"),
    ],
)
def test_files_without_proper_labels_are_refused(arrays: dict[str, np.ndarray], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / "a.npz", 3)


def test_other_suffixes_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n", encoding="utf-8")
    with pytest.raises(InputError, match="unknown suffix"):
        read_labels(tmp_path / "a.txt")


def test_accuracies_of_an_export_are_those_it_came_with(export: Export) -> None:
    session, reference = InferenceSession(export.model), InferenceSession(export.float_model)
    with np.load(export.inputs_file) as arrays:
        x, labels = arrays["x"][:64], arrays["label"][:64]
    scored = export.row["quantized_accuracy"] != ""
    found = evaluate_dataset(session, reference, {session.get_inputs()[0].name: x}, labels if scored else None)
    assert found.samples == 64
    if scored:
        assert found.classification is not None
        assert found.classification.quantized_accuracy == float(export.row["quantized_accuracy"])
        assert found.classification.float_accuracy == float(export.row["float_accuracy"])
        assert found.classification.labelled == 64
    else:
        assert export.row["task"] in ("ad", "reg", "fcst")
