"""An output of two models over any number of samples in bounded memory: classes, flips, errors, and the worst samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from npusim.comparison.code_sums import ClassSums, IntegerArray
from npusim.comparison.metrics import accuracy, mean_absolute_error, r_squared, root_mean_square_error, smape, sqnr_db
from npusim.comparison.output_result import Classification, Flip, Regression, WorstSample
from npusim.comparison.sums import ErrorSums, FloatArray
from npusim.errors import InputError

__all__ = ["FLIPS_KEPT", "WORST_KEPT", "ClassificationSums", "RegressionSums", "WorstSums"]

FLIPS_KEPT = 100
"""Flips listed; all are counted."""

WORST_KEPT = 10
"""Worst samples listed."""


class ClassificationSums:
    """Classes that two models find, the largest score of each sample, and how often they are right.

    The first of equal scores counts, as in :func:`numpy.argmax`. A label below 0 means that the sample has none.
    """

    def __init__(self) -> None:
        self._agreement: ClassSums | None = None
        self._labelled: dict[str, ClassSums] = {}
        self._flips: list[Flip] = []
        self._counts = {"flips": 0, "right": 0, "wrong": 0, "labelled": 0}
        self._has_labels = False

    def take(self, reference: FloatArray, quantized: FloatArray, labels: IntegerArray | None, start: int) -> None:
        """Count some samples.

        Parameters
        ----------
        reference, quantized
            Scores in real units, ``[samples, classes]``.
        labels
            True classes; None without any.
        start
            Number of the first sample.

        Raises
        ------
        InputError
            If there are fewer than two scores, shapes differ, or a label is no class.
        """
        if reference.shape != quantized.shape or reference.ndim != 2 or reference.shape[1] < 2:
            raise InputError(
                f"scores have shapes {list(reference.shape)} and {list(quantized.shape)}; classes need two or more scores for "
                "each sample; give targets for a regression instead"
            )
        found = [scores.argmax(axis=1).astype(np.int64) for scores in (reference, quantized)]
        pairs = ClassSums.of(*found, classes=reference.shape[1])
        self._agreement = pairs if self._agreement is None else self._agreement + pairs
        if labels is not None:
            self._take_labels(labels, found, reference.shape[1])
        flipped = np.flatnonzero(found[0] != found[1])
        self._counts["flips"] += flipped.size
        margins = [_margins(scores[flipped]) for scores in (reference, quantized)]
        flips = [
            Flip(int(at) + start, int(found[0][at]), int(found[1][at]), _label(labels, int(at)), float(first), float(second))
            for at, first, second in zip(flipped, *margins, strict=True)
        ]
        self._flips = sorted([*self._flips, *flips], key=lambda flip: -flip.float_margin)[:FLIPS_KEPT]

    def _take_labels(self, labels: IntegerArray, found: list[IntegerArray], classes: int) -> None:
        self._has_labels = True
        known = labels >= 0
        self._counts["labelled"] += int(known.sum())
        flipped = known & (found[0] != found[1])
        self._counts["right"] += int((flipped & (found[1] == labels)).sum())
        self._counts["wrong"] += int((flipped & (found[0] == labels)).sum())
        if known.any():
            for name, one in zip(("float", "quantized"), found, strict=True):
                sums = ClassSums.of(labels[known], one[known], classes=classes)
                self._labelled[name] = self._labelled[name] + sums if name in self._labelled else sums

    @property
    def has_samples(self) -> bool:
        """Whether any samples were counted."""
        return self._agreement is not None

    def result(self) -> Classification:
        """What was counted.

        Raises
        ------
        InputError
            If no samples were.
        """
        if self._agreement is None:
            raise InputError("there are no samples to compare; give at least one")
        first, second = self._labelled.get("float"), self._labelled.get("quantized")
        return Classification(
            classes=int(self._agreement.confusion.shape[0]),
            agreement=accuracy(self._agreement),
            flips=tuple(self._flips),
            flip_count=self._counts["flips"],
            flips_to_right=self._counts["right"] if self._has_labels else None,
            flips_to_wrong=self._counts["wrong"] if self._has_labels else None,
            agreement_confusion=self._agreement.confusion,
            labelled=self._counts["labelled"],
            float_accuracy=None if first is None else accuracy(first),
            quantized_accuracy=None if second is None else accuracy(second),
            float_confusion=None if first is None else first.confusion,
            quantized_confusion=None if second is None else second.confusion,
        )


class RegressionSums:
    """Errors of two models against targets."""

    def __init__(self) -> None:
        self._sums: tuple[ErrorSums, ErrorSums] | None = None

    def take(self, reference: FloatArray, quantized: FloatArray, targets: FloatArray) -> None:
        """Add some samples, ``[samples, values]`` each, in real units.

        Raises
        ------
        InputError
            If the shapes differ or a value is not finite.
        """
        sums = ErrorSums.of(targets, reference), ErrorSums.of(targets, quantized)
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])

    def result(self) -> Regression:
        """R2 over all values at once, SMAPE and mean absolute error of both models.

        Raises
        ------
        InputError
            If there were no samples.
        """
        if self._sums is None:
            raise InputError("there are no targets to compare with; give at least one sample")
        first, second = self._sums
        values = [float(metric(sums)[0]) for metric in (r_squared, smape, mean_absolute_error) for sums in (first, second)]
        return Regression(*values)


class WorstSums:
    """The samples with the largest error, the worst first; of equal ones the first."""

    def __init__(self, kept: int = WORST_KEPT) -> None:
        self._kept = kept
        self._worst: list[WorstSample] = []

    def take(self, reference: FloatArray, approximation: FloatArray, start: int) -> None:
        """Consider some samples, ``[samples, values]`` each."""
        sums = ErrorSums.of(reference, approximation, channel_axis=0)
        errors, ratios = root_mean_square_error(sums), sqnr_db(sums)
        order = np.argsort(-errors, kind="stable")[: self._kept]
        found = [WorstSample(int(at) + start, float(errors[at]), float(ratios[at])) for at in order if errors[at] > 0]
        self._worst = sorted([*self._worst, *found], key=_by_error)[: self._kept]

    def result(self) -> tuple[WorstSample, ...]:
        """What was found; samples without any error are left out."""
        return tuple(self._worst)


def _by_error(sample: WorstSample) -> tuple[float, int]:
    return -sample.error, sample.sample


def _margins(scores: FloatArray) -> Iterable[float]:
    """Largest score minus the second largest."""
    if not len(scores):
        return []
    ordered: npt.NDArray[np.float64] = np.sort(scores, axis=1)
    margins: list[float] = (ordered[:, -1] - ordered[:, -2]).tolist()
    return margins


def _label(labels: IntegerArray | None, at: int) -> int | None:
    return None if labels is None or labels[at] < 0 else int(labels[at])
