"""What comparing two models gives: frozen data, from which rules, tables and reports are made.

Real units are those of the float model. One LSB of a layer is its output scale: ``real = (code - zero_point) * scale``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from npusim.comparison.code_sums import Histogram, IntegerArray
from npusim.comparison.faults.suspicion import Suspicion
from npusim.comparison.layer_result import (
    PART_NAMES,
    Attribution,
    ChannelMetrics,
    CodeUse,
    Confidence,
    ErrorMetrics,
    ErrorPart,
    Introduced,
    LayerEffect,
    LayerPair,
    LayerScales,
    Scatter,
    UnpairedLayer,
)
from npusim.comparison.sums import FloatArray
from npusim.schemas.derivation import Axes, Count
from npusim.schemas.objects import BY_CHANNEL, UNLISTED, json_object

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PART_NAMES",
    "Attribution",
    "ChannelMetrics",
    "Classification",
    "CodeUse",
    "Confidence",
    "DatasetResult",
    "ErrorMetrics",
    "ErrorPart",
    "Flip",
    "FloatComparison",
    "Introduced",
    "LayerComparison",
    "LayerEffect",
    "LayerPair",
    "LayerScales",
    "OutputComparison",
    "Regression",
    "Scatter",
    "Task",
    "UnpairedLayer",
    "WorstSample",
    "samples_table",
]


@dataclass(frozen=True, slots=True, eq=False)
class LayerComparison:
    """One step of the quantized program against the float model.

    Attributes
    ----------
    index
        Position among the steps of the quantized program.
    name, kind, tensor, operator
        The step; `operator` for ``HOST``.
    inputs
        Names of the steps whose results it reads, looking through nothing; the model's inputs by their tensor names.
    shape
        Shape of the output for one sample, without the batch axis.
    channel_axis
        Axis of the channels in `shape` with the batch axis counted: 1, or the last axis.
    weight_bits, weight_range, weight_shape
        Of layers with weights.
    bias_range
        Smallest and largest bias of an integer layer.
    pair, scales, metrics, codes, channels
        The alignment, the scales, and the measured errors.
    attribution, effect
        None for steps that only move data or rename it.
    code_histogram
        Codes, ``[channels, bins]``.
    error_histogram
        Errors in LSB, ``[channels, bins]``.
    scatter
        A selection of values.
    """

    index: Count
    name: str
    kind: str
    tensor: str
    operator: str | None
    inputs: tuple[str, ...]
    shape: tuple[Count, ...]
    channel_axis: Count
    weight_bits: int | None
    weight_range: tuple[int, int] | None
    weight_shape: tuple[Count, ...] | None
    bias_range: tuple[int, int] | None
    pair: LayerPair
    scales: LayerScales
    metrics: ErrorMetrics
    codes: CodeUse
    channels: ChannelMetrics = field(metadata=BY_CHANNEL)
    attribution: Attribution | None
    effect: LayerEffect | None
    code_histogram: Histogram = field(metadata=UNLISTED)
    error_histogram: Histogram = field(metadata=UNLISTED)
    scatter: Scatter = field(metadata=UNLISTED)


@dataclass(frozen=True, slots=True, eq=False)
class FloatComparison:
    """A quantized model against its float model; true when every layer with weights was aligned with certainty or likely.

    Attributes
    ----------
    samples
        Samples over which errors were measured.
    experiment_samples
        Samples over which attributions and effects were measured, spread evenly over all samples.
    experiment_sqnr_db
        SQNR of the final output over those, all layers quantized.
    weights_float_sqnr_db
        The same with every layer with weights in float at once; NaN where it was not measured.
    layers
        In execution order.
    unpaired
        Steps without a counterpart in the float model.
    unpaired_float
        Nodes of the float model with weights that no layer stands for.
    outputs
        The outputs of the model.
    scale_agreement
        Largest ``|s - k| / k`` between the nominal scale of an output and the factor by which the model itself multiplies its
        codes; None where outputs are codes.
    suspicions
        What contradicts the float model, with its measured effect.
    """

    samples: int
    experiment_samples: int
    experiment_sqnr_db: float
    weights_float_sqnr_db: float
    layers: tuple[LayerComparison, ...]
    unpaired: tuple[UnpairedLayer, ...]
    unpaired_float: tuple[str, ...]
    outputs: tuple[OutputComparison, ...]
    scale_agreement: float | None
    suspicions: tuple[Suspicion, ...] = field(default=(), metadata=UNLISTED)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """True when the outputs were compared and every layer with weights has a counterpart whose weights fit."""
        unsure = any(layer.pair.confidence is Confidence.UNSURE for layer in self.layers)
        lost = any(item.is_lost for item in self.unpaired)
        return bool(self.outputs) and not unsure and not lost and not self.unpaired_float

    def layer(self, name: str) -> LayerComparison:
        """The comparison of a step.

        Raises
        ------
        KeyError
            If no step of this name was paired.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row for each layer."""
        import pandas as pd

        return pd.DataFrame([_row(layer) for layer in self.layers])


def _row(layer: LayerComparison) -> dict[str, Any]:
    """The numbers of a layer that stand in a table."""
    metrics, codes, scales = layer.metrics, layer.codes, layer.scales
    row: dict[str, Any] = {
        "layer": layer.name,
        "kind": layer.kind,
        "tensor": layer.tensor,
        "float_tensor": layer.pair.float_tensor,
        "confidence": str(layer.pair.confidence),
        "weight_bits": layer.weight_bits,
        "scale": scales.output,
        "fitted_scale": scales.fitted,
        "scale_spread": scales.spread,
        "gain": scales.gain,
        **{name: getattr(metrics, name) for name in metrics.__slots__},
        "share_on_lower": codes.share_on_lower,
        "share_on_upper": codes.share_on_upper,
        "range_used": codes.range_used,
        "dead_channels": len(codes.dead_channels),
    }
    if layer.attribution is not None:
        row.update({f"share_{part.name}": part.share for part in layer.attribution.parts})
        row["introduced_sqnr_db"] = layer.attribution.introduced_sqnr_db
        row["introduced_mean_error"] = layer.attribution.introduced.mean_error
    if layer.effect is not None:
        row["output_if_float_db"] = layer.effect.if_float_db
        row["output_if_float_gain_db"] = layer.effect.if_float_gain_db
        row["output_if_quantized_db"] = layer.effect.if_quantized_db
    return row


Confusion = Annotated[IntegerArray, Axes(2)]
"""Row the first class, column the second."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample that the two models put into different classes.

    Attributes
    ----------
    sample
        Index, counted from 0 over all samples.
    float_class, quantized_class
        The classes found.
    label
        The true class; None without labels.
    float_margin, quantized_margin
        Largest output minus the second largest, in real units: how sure each model was.
    """

    sample: Count
    float_class: Count
    quantized_class: Count
    label: int | None
    float_margin: float
    quantized_margin: float


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample with a large error.

    Attributes
    ----------
    sample
        Its index.
    error
        Root mean square of the error in real units.
    sqnr_db
        Its SQNR in dB.
    """

    sample: Count
    error: float
    sqnr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """An output taken as scores of classes.

    Attributes
    ----------
    classes
        Number of classes.
    agreement
        Share of the samples that both models put into the same class.
    flips
        The flips with the largest margin of the float model first; at most `FLIPS_KEPT`.
    flip_count
        All of them.
    flips_to_right, flips_to_wrong
        Flips that turned a wrong class into the true one, and the other way; None without labels.
    agreement_confusion
        int64 ``[classes, classes]``: row the float model's class, column the quantized model's.
    labelled
        Samples with a label of at least 0.
    float_accuracy, quantized_accuracy
        None without labels.
    float_confusion, quantized_confusion
        Row the true class, column the one found; None without labels.
    """

    classes: Count
    agreement: float
    flips: tuple[Flip, ...]
    flip_count: Count
    flips_to_right: Count | None
    flips_to_wrong: Count | None
    agreement_confusion: Confusion
    labelled: Count
    float_accuracy: float | None
    quantized_accuracy: float | None
    float_confusion: Confusion | None
    quantized_confusion: Confusion | None


@dataclass(frozen=True, slots=True)
class Regression:
    """Quality against true values.

    Attributes
    ----------
    float_r_squared, quantized_r_squared
        R2 of both models.
    float_smape, quantized_smape
        SMAPE in percent.
    float_mean_absolute_error, quantized_mean_absolute_error
        Mean absolute error.
    """

    float_r_squared: float
    quantized_r_squared: float
    float_smape: float
    quantized_smape: float
    float_mean_absolute_error: float
    quantized_mean_absolute_error: float


@dataclass(frozen=True, slots=True, eq=False)
class OutputComparison:
    """An output of the quantized model against the float model's.

    Attributes
    ----------
    tensor, float_tensor
        Names.
    scale
        Real value of one unit of the quantized output; 1 where the model gives real values itself.
    sqnr_db, cosine, mean_error, mean_absolute_error, largest_error, r_squared, smape
        The quantized output against the float output.
    fitted_sqnr_db
        With the best common scale.
    sample_sqnr_median_db, sample_sqnr_tenth_db
        SQNR of each sample by itself: the middle one, and the one that a tenth of the samples do not exceed. A few samples far
        outside of the model's range move the SQNR over all, but not these.
    classification, regression
        None where the output is not that.
    worst
        Samples with the largest error, the worst first.
    element_mean_error
        Signed mean error of each output element, ``[elements]``.
    """

    tensor: str
    float_tensor: str
    scale: float
    sqnr_db: float
    fitted_sqnr_db: float
    sample_sqnr_median_db: float
    sample_sqnr_tenth_db: float
    cosine: float
    mean_error: float
    mean_absolute_error: float
    largest_error: float
    r_squared: float
    smape: float
    classification: Classification | None
    regression: Regression | None
    worst: tuple[WorstSample, ...]
    element_mean_error: FloatArray


class Task(StrEnum):
    """What a model is for. AGREEMENT: it gives scores of classes, but there are no labels."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True, eq=False)
class DatasetResult:
    """A quantized model against its float model over a dataset.

    Attributes
    ----------
    task
        What the models were taken for.
    samples
        Number of samples.
    tensor, float_tensor
        The outputs compared.
    scale, zero_point
        ``real = (output - zero_point) * scale`` of the quantized output.
    classification, regression
        None where the task is another.
    worst
        Samples where the quantized output is farthest from the float one, the worst first.
    worst_targets
        For a regression: samples where it is farthest from the target.
    """

    task: Task
    samples: int
    tensor: str
    float_tensor: str
    scale: float
    zero_point: float
    classification: Classification | None
    regression: Regression | None
    worst: tuple[WorstSample, ...]
    worst_targets: tuple[WorstSample, ...]

    def __str__(self) -> str:
        if self.regression is not None:
            found = self.regression
            return (
                f"R2 {found.quantized_r_squared:.4g} (float {found.float_r_squared:.4g}), SMAPE {found.quantized_smape:.4g} % "
                f"(float {found.float_smape:.4g} %), {self.samples} samples"
            )
        shared = self.classification
        if shared is None:
            return f"{self.samples} samples"
        text = f"{shared.flip_count} flips in {self.samples} samples"
        if shared.quantized_accuracy is None or shared.float_accuracy is None:
            return text
        return f"accuracy {shared.quantized_accuracy:.4g} (float {shared.float_accuracy:.4g}), {text}"

    def to_pandas(self) -> pd.DataFrame:
        """One row for each flip listed and each worst sample: why it is listed, its number, and what is known of it."""
        return samples_table(self.classification, self.worst, self.worst_targets)


def samples_table(
    classification: Classification | None, worst: Sequence[WorstSample], worst_targets: Sequence[WorstSample] = ()
) -> pd.DataFrame:
    """The samples to look at: flips, then those with the largest error against the float model, then against the target.

    Parameters
    ----------
    classification
        Its flips are listed; None for an output that is not a classifier's.
    worst, worst_targets
        Samples with the largest error.

    Returns
    -------
    pandas.DataFrame
        Columns ``reason`` (``flip``, ``worst`` or ``worst_target``), ``sample``, and what is known of it; whole numbers stay
        whole where others are missing.
    """
    import pandas as pd

    flips = () if classification is None else classification.flips
    rows = [{"reason": "flip", **json_object(flip)} for flip in flips]
    rows.extend({"reason": "worst", **json_object(sample)} for sample in worst)
    rows.extend({"reason": "worst_target", **json_object(sample)} for sample in worst_targets)
    whole = ["sample", "float_class", "quantized_class", "label"]
    table = pd.DataFrame(rows, columns=["reason", *whole, "float_margin", "quantized_margin", "error", "sqnr_db"])
    return table.astype(dict.fromkeys(whole, "Int64"))
