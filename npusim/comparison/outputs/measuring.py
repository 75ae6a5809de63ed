"""The outputs of the two models: how one becomes comparable with the other, and the growing sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from npusim.comparison import metrics
from npusim.comparison.alignment.layer_pairs import Alignment
from npusim.comparison.layer_result import LayerScales
from npusim.comparison.output_result import OutputComparison
from npusim.comparison.outputs.output_sums import ClassificationSums, RegressionSums, WorstSums
from npusim.comparison.sums import ErrorSums, FloatArray
from npusim.errors import InputError
from npusim.graph import Array
from npusim.program import Program

__all__ = ["OutputMeasure", "OutputScale", "output_scales"]


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

    Codes have the nominal scale of the layer that produces them; values that are no integers are real values already.
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

    An output of several numbers along one axis is taken as scores of classes. Labels that are no class numbers are targets, and
    so are class numbers of an output of one number; class numbers of any other output are left alone.
    """

    scale: OutputScale
    labels: Array | None
    total: ErrorSums | None = None
    elements: ErrorSums | None = None
    classes: ClassificationSums = field(default_factory=ClassificationSums)
    targets: RegressionSums = field(default_factory=RegressionSums)
    worst: WorstSums = field(default_factory=WorstSums)
    has_targets: bool = False
    seen: int = 0

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

    @staticmethod
    def _has_scores(output: FloatArray) -> bool:
        """Whether an output can be scores of classes: several numbers along one axis."""
        return output.ndim > 1 and max(output.shape[1:]) > 1 and output[0].size == max(output.shape[1:])

    def result(self) -> OutputComparison:
        """What the sums say; at least one sample was taken."""
        sums, elements = self.total, self.elements
        if sums is None or elements is None:
            raise ValueError("no sample was taken")
        return OutputComparison(
            tensor=self.scale.name,
            float_tensor=self.scale.float_tensor,
            scale=self.scale.scale,
            sqnr_db=float(metrics.sqnr_db(sums)[0]),
            fitted_sqnr_db=float(metrics.fitted_sqnr_db(sums)[0]),
            cosine=float(metrics.cosine(sums)[0]),
            mean_error=float(metrics.mean_error(sums)[0]),
            mean_absolute_error=float(metrics.mean_absolute_error(sums)[0]),
            largest_error=float(metrics.largest_error(sums)[0]),
            r_squared=float(metrics.r_squared(sums)[0]),
            smape=float(metrics.smape(sums)[0]),
            classification=self.classes.result() if self.classes.has_samples else None,
            regression=self.targets.result() if self.has_targets else None,
            worst=self.worst.result(),
            element_mean_error=metrics.mean_error(elements),
        )
