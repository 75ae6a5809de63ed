"""Errors of one layer over any number of samples: sums that grow with no sample, and what they say in the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from npusim.comparison import metrics
from npusim.comparison.code_sums import CodeSums, Histogram
from npusim.comparison.layer_result import ChannelMetrics, CodeUse, ErrorMetrics, LayerScales, Scatter
from npusim.comparison.sums import ErrorSums, FloatArray, rows_of
from npusim.errors import InputError
from npusim.graph import Array
from npusim.program import Accumulating, Program, QuantizeStage, Step

__all__ = ["LayerMeasure", "rails_of"]

_Sums = TypeVar("_Sums")

CODE_BINS: Final = 256
"""Most bins of a histogram of codes."""

ERROR_BINS: Final = (-16.0, 0.25, 128)
"""Start, width and number of the bins of errors, in LSB."""

CHANNELS_SHOWN: Final = 512
"""Most channels for which histograms are kept apart."""

POINTS: Final = 1024
"""Points of a scatter plot."""


def rails_of(step: Step, program: Program) -> tuple[int, int] | None:
    """The ends of the range of a step's codes: its clip, or the proven range; None where nothing bounds them."""
    clip = step.clip if isinstance(step, QuantizeStage) else None
    if isinstance(step, Accumulating):
        clip = step.output_clip
    if clip is not None:
        return clip.lower, clip.upper
    tensor = program.tensors[step.tensors[-1]]
    if not tensor.is_integer or not np.isfinite([tensor.lower, tensor.upper]).all():
        return None
    return int(tensor.lower), int(tensor.upper)


@dataclass(slots=True)
class LayerMeasure:
    """The growing sums of one layer.

    Attributes
    ----------
    scales
        Of the layer's output.
    rails
        Ends of the range; None where there are none.
    lower_is_relu
        Whether the float model clips at 0 as well.
    samples
        How many there will be, for spreading the points of the scatter plot.
    bounds
        Range of the histogram where there are no rails; None until the first samples tell.
    """

    scales: LayerScales
    rails: tuple[int, int] | None
    lower_is_relu: bool
    samples: int
    bounds: tuple[int, int] | None = None
    errors: ErrorSums | None = None
    codes: CodeSums | None = None
    code_histogram: Histogram | None = None
    error_histogram: Histogram | None = None
    extremes: tuple[FloatArray, FloatArray] | None = None
    points: list[tuple[FloatArray, FloatArray, FloatArray]] = field(default_factory=list)

    def take(self, reference: Array, codes: Array) -> None:
        """Take the first samples.

        Parameters
        ----------
        reference
            The float tensor, samples first, channels on axis 1.
        codes
            The layer's codes in the same shape.
        """
        axis = 1 if reference.ndim > 1 else 0
        values, wanted = codes.astype(np.float64), reference.astype(np.float64)
        scale = self.scales.over(wanted.shape)
        real = (values - self.scales.zero_point) * scale
        errors = ErrorSums.of(wanted, real, channel_axis=axis)
        lower, upper = self._range(values)
        used = CodeSums.of(values, lower=lower, upper=upper, channel_axis=axis)
        shown = axis if values.shape[axis] <= CHANNELS_SHOWN else None
        width = -(-(upper - lower + 1) // CODE_BINS)
        bins = -(-(upper - lower + 1) // width)
        counted = Histogram.of(values, start=lower, width=width, bins=bins, channel_axis=shown)
        start, step, count = ERROR_BINS
        lsb = (real - wanted) / scale
        off = Histogram.of(lsb, start=start, width=step, bins=count, channel_axis=shown)
        rows = rows_of(wanted, axis)
        ends = (rows.min(axis=1), rows.max(axis=1))
        self._select(wanted, values, axis)
        self.errors, self.codes, self.extremes = errors, used, ends
        self.code_histogram, self.error_histogram = counted, off

    def merge(self, other: LayerMeasure) -> None:
        """Add what the samples behind these gave."""
        if self.errors is None:
            self.errors, self.codes, self.extremes, self.bounds = other.errors, other.codes, other.extremes, other.bounds
            self.code_histogram, self.error_histogram, self.points = other.code_histogram, other.error_histogram, other.points
            return
        lowest, highest = _known(self.extremes)
        low, high = _known(other.extremes)
        self.errors, self.codes = self.errors + _known(other.errors), _known(self.codes) + _known(other.codes)
        self.extremes = (np.minimum(lowest, low), np.maximum(highest, high))
        self.code_histogram = _known(self.code_histogram) + _known(other.code_histogram)
        self.error_histogram = _known(self.error_histogram) + _known(other.error_histogram)
        self.points.extend(other.points)

    def _range(self, values: FloatArray) -> tuple[int, int]:
        """The rails; without any the range of the first samples with some room, which stays."""
        if self.rails is not None:
            return self.rails
        if self.bounds is None:
            lowest, highest = float(values.min()), float(values.max())
            room = max(1.0, (highest - lowest) / 4)
            self.bounds = int(np.floor(lowest - room)), int(np.ceil(highest + room))
        return self.bounds

    def begun(self) -> LayerMeasure:
        """The same layer, with no samples taken; after the first samples, whose range it has."""
        return LayerMeasure(self.scales, self.rails, self.lower_is_relu, self.samples, self.bounds)

    def _select(self, wanted: FloatArray, values: FloatArray, axis: int) -> None:
        """Keep points for the scatter plot, spread evenly over the samples and the elements of each."""
        share = POINTS * len(values) / max(self.samples, 1)
        places = np.unique(np.linspace(0, values.size - 1, max(1, min(values.size, round(share)))).astype(np.int64))
        channels = np.unravel_index(places, values.shape)[axis]
        self.points.append((wanted.ravel()[places], values.ravel()[places], channels.astype(np.float64)))

    def metrics(self) -> ErrorMetrics:
        """Errors over all samples and channels."""
        sums = _known(self.errors).total()
        mean, rms, largest = (
            float(one(sums)[0]) for one in (metrics.mean_error, metrics.root_mean_square_error, metrics.largest_error)
        )
        mean_lsb, rms_lsb, largest_lsb = self._in_lsb(mean, rms, largest)
        return ErrorMetrics(
            values=sums.total_count,
            sqnr_db=float(metrics.sqnr_db(sums)[0]),
            cosine=float(metrics.cosine(sums)[0]),
            r_squared=float(metrics.r_squared(sums)[0]),
            fitted_sqnr_db=float(metrics.fitted_sqnr_db(sums)[0]),
            mean_error=mean,
            mean_absolute_error=float(metrics.mean_absolute_error(sums)[0]),
            root_mean_square_error=rms,
            largest_error=largest,
            mean_error_lsb=mean_lsb,
            root_mean_square_error_lsb=rms_lsb,
            largest_error_lsb=largest_lsb,
        )

    def _in_lsb(self, mean: float, rms: float, largest: float) -> tuple[float, float, float]:
        """Mean, root mean square and largest error in LSB, of each channel its own."""
        lsb = self.scales.output
        if self.scales.channels is None:
            return mean / lsb, rms / lsb, largest / lsb
        sums = _known(self.errors)
        each, count = self.scales.by_rows(len(sums.count)), float(sums.count.sum())
        squares = float((sums.error_energy / each**2).sum())
        return float((sums.error / each).sum()) / count, np.sqrt(squares / count), float((sums.largest_error / each).max())

    def fitted_scales(self) -> LayerScales:
        """The scales with the one by least squares."""
        factor = float(metrics.best_scale(_known(self.errors).total())[0])
        return replace(self.scales, fitted=factor * self.scales.output, fitted_difference=factor - 1)

    def code_use(self) -> CodeUse:
        """How the codes use their range."""
        by_channel = _known(self.codes)
        whole, has_rails = by_channel.total(), self.rails is not None
        lowest, highest = _known(self.extremes)
        return CodeUse(
            lower=whole.lower,
            upper=whole.upper,
            has_rails=has_rails,
            smallest=float(whole.smallest[0]),
            largest=float(whole.largest[0]),
            share_on_lower=float(whole.share_on_lower[0]) if has_rails else 0.0,
            share_on_upper=float(whole.share_on_upper[0]) if has_rails else 0.0,
            lower_is_relu=self.lower_is_relu,
            range_used=float(whole.range_used[0]) if has_rails else float("nan"),
            dead_channels=tuple(int(one) for one in np.flatnonzero(by_channel.is_dead)),
            float_dead_channels=tuple(int(one) for one in np.flatnonzero(lowest == highest)),
        )

    def channel_metrics(self) -> ChannelMetrics:
        """Errors and codes of each channel."""
        sums, codes = _known(self.errors), _known(self.codes)
        lowest, highest = _known(self.extremes)
        mean, largest = metrics.mean_error(sums), metrics.largest_error(sums)
        has_rails = self.rails is not None
        none = np.zeros_like(mean)
        return ChannelMetrics(
            sqnr_db=metrics.sqnr_db(sums),
            cosine=metrics.cosine(sums),
            mean_error=mean,
            root_mean_square_error=metrics.root_mean_square_error(sums),
            largest_error=largest,
            mean_error_lsb=mean / self.scales.by_rows(len(mean)),
            largest_error_lsb=largest / self.scales.by_rows(len(mean)),
            float_smallest=lowest,
            float_largest=highest,
            code_smallest=codes.smallest,
            code_largest=codes.largest,
            share_on_lower=codes.share_on_lower if has_rails else none,
            share_on_upper=codes.share_on_upper if has_rails else none,
            range_used=codes.range_used if has_rails else none + np.nan,
        )

    def histograms(self) -> tuple[Histogram, Histogram]:
        """Of the codes, and of the errors in LSB."""
        return _known(self.code_histogram), _known(self.error_histogram)

    def scatter(self) -> Scatter:
        """The points kept."""
        wanted, codes, channels = (np.concatenate([one[index] for one in self.points]) for index in range(3))
        places = channels.astype(np.int64)
        lsb = self.scales.by_rows(len(_known(self.errors).count))[places]
        return Scatter(wanted, (codes - self.scales.zero_point) * lsb, codes, places)


def _known(value: _Sums | None) -> _Sums:
    if value is None:
        raise InputError("no sample was compared; give at least one")
    return value
