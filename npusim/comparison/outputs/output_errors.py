"""The outputs of two models in bounded memory: how one becomes comparable with the other, classes, flips and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from npusim.comparison import metrics
from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.code_sums import ClassSums, IntegerArray
from npusim.comparison.layer_result import LayerScales
from npusim.comparison.metrics import accuracy, mean_absolute_error, r_squared, root_mean_square_error, smape, sqnr_db
from npusim.comparison.result import Classification, Flip, OutputComparison, Regression, WorstSample
from npusim.comparison.sums import ErrorSums, FloatArray
from npusim.errors import InputError
from npusim.graph import Array
from npusim.program import Program

__all__ = [
    "FLIPS_KEPT",
    "WORST_KEPT",
    "ClassificationSums",
    "OutputMeasure",
    "OutputScale",
    "RegressionSums",
    "WorstSums",
    "output_scales",
]

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
            If there are fewer than two scores, shapes differ, or a label is not a class.
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


@dataclass(frozen=True, slots=True)
class OutputScale:
    """An output of the quantized model: its name, its tensor, the float tensor it means, and how it becomes a real value.

    `channels` is the scale of each channel where there is one for each; `scale` is then their median.
    """

    name: str
    tensor: str
    float_tensor: str
    scale: float
    zero_point: float
    channels: FloatArray | None = field(default=None, compare=False)

    def real(self, values: Array, shape: tuple[int, ...]) -> FloatArray:
        """The output as real values in the shape of the float output, which differs in axes of size 1 only."""
        lsb = LayerScales(self.scale, channels=self.channels).over(np.shape(values))
        return ((np.asarray(values, np.float64) - self.zero_point) * lsb).reshape(shape)


def output_scales(
    alignment: Alignment, scales: Mapping[str, LayerScales], quantized: Program, reference: Program
) -> tuple[OutputScale, ...]:
    """The outputs whose counterpart is an output of the float model.

    Codes have the nominal scale of the layer that produces them; values that are not integers are real values already.
    """
    by_tensor = {pair.tensor: scales[pair.step] for pair in alignment.pairs}
    wanted = {reference.resolve(name) for name in reference.outputs}
    found = []
    for name in quantized.outputs:
        tensor = quantized.resolve(name)
        meaning = alignment.meaning.get(tensor)
        if meaning not in wanted or meaning is None or tensor not in by_tensor:
            continue
        is_code = quantized.tensors[tensor].is_integer
        scale = by_tensor[tensor] if is_code else LayerScales(1.0)
        found.append(OutputScale(name, tensor, meaning, scale.output, scale.zero_point, scale.channels))
    return tuple(found)


@dataclass(slots=True)
class OutputMeasure:
    """The growing sums over one output.

    An output of several numbers along one axis is taken as scores of classes. Labels that are not class numbers are targets,
    and so are class numbers of an output of one number; class numbers of any other output are left alone.
    """

    scale: OutputScale
    labels: Array | None
    numbers: Array | None = None
    total: ErrorSums | None = None
    elements: ErrorSums | None = None
    classes: ClassificationSums = field(default_factory=ClassificationSums)
    targets: RegressionSums = field(default_factory=RegressionSums)
    worst: WorstSums = field(default_factory=WorstSums)
    has_targets: bool = False
    seen: int = 0
    ratios: list[FloatArray] = field(default_factory=list)

    def take(self, reference: Array, output: Array) -> None:
        """Add some samples, in order."""
        wanted = reference.astype(np.float64)
        real = self.scale.real(output, wanted.shape)
        total = ErrorSums.of(wanted, real)
        rows, found = wanted.reshape(len(wanted), -1), real.reshape(len(real), -1)
        elements = ErrorSums.of(rows, found, channel_axis=1)
        self.total = total if self.total is None else self.total + total
        self.elements = elements if self.elements is None else self.elements + elements
        self.worst.take(rows, found, self.seen)
        self.ratios.append(metrics.sqnr_db(ErrorSums.of(rows, found, channel_axis=0)))
        labels = None if self.labels is None else self.labels[self.seen : self.seen + len(rows)]
        if self._has_scores(wanted) and (labels is None or labels.dtype.kind in "iu"):
            self.classes.take(rows, found, None if labels is None else labels.astype(np.int64), self.seen)
        elif labels is not None and (labels.dtype.kind == "f" or rows.shape[1] == 1):
            self.has_targets = True
            self.targets.take(rows, found, self._targets(labels, rows.shape))
        self.seen += len(rows)

    def _targets(self, labels: Array, shape: tuple[int, ...]) -> FloatArray:
        """Target values in the shape of the output."""
        if labels.size != shape[0] * shape[1]:
            raise InputError(
                f"the targets have shape {list(labels.shape)} for {list(shape)} values of output '{self.scale.name}'; give one "
                "target for each value"
            )
        return labels.astype(np.float64).reshape(shape)

    def _number(self, place: int) -> int:
        return place if self.numbers is None else int(self.numbers[place])

    def _numbered(self, found: Classification) -> Classification:
        return replace(found, flips=tuple(replace(one, sample=self._number(one.sample)) for one in found.flips))

    @staticmethod
    def _has_scores(output: FloatArray) -> bool:
        """Whether an output can be scores of classes: several numbers along one axis."""
        return output.ndim > 1 and max(output.shape[1:]) > 1 and output[0].size == max(output.shape[1:])

    def result(self) -> OutputComparison:
        """What the sums say; at least one sample was taken."""
        sums, elements = self.total, self.elements
        if sums is None or elements is None:
            raise ValueError("no sample was taken")
        ratios = np.concatenate(self.ratios)
        return OutputComparison(
            tensor=self.scale.name,
            float_tensor=self.scale.float_tensor,
            scale=self.scale.scale,
            sqnr_db=float(metrics.sqnr_db(sums)[0]),
            fitted_sqnr_db=float(metrics.fitted_sqnr_db(sums)[0]),
            sample_sqnr_median_db=metrics.quantile(ratios, 0.5),
            sample_sqnr_tenth_db=metrics.quantile(ratios, 0.1),
            cosine=float(metrics.cosine(sums)[0]),
            mean_error=float(metrics.mean_error(sums)[0]),
            mean_absolute_error=float(metrics.mean_absolute_error(sums)[0]),
            largest_error=float(metrics.largest_error(sums)[0]),
            r_squared=float(metrics.r_squared(sums)[0]),
            smape=float(metrics.smape(sums)[0]),
            classification=self._numbered(self.classes.result()) if self.classes.has_samples else None,
            regression=self.targets.result() if self.has_targets else None,
            worst=tuple(replace(one, sample=self._number(one.sample)) for one in self.worst.result()),
            element_mean_error=metrics.mean_error(elements),
        )
