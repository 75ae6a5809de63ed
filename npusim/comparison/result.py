"""What comparing a quantized model with its float model gives: frozen data, from which rules, tables and reports are made.

Real units are those of the float model. One LSB of a layer is its output scale: ``real = (code - zero_point) * scale``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from npusim.comparison.code_sums import Histogram
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
from npusim.comparison.output_result import OutputComparison
from npusim.schemas.derivation import Count
from npusim.schemas.objects import BY_CHANNEL, UNLISTED

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PART_NAMES",
    "Attribution",
    "ChannelMetrics",
    "CodeUse",
    "Confidence",
    "ErrorMetrics",
    "ErrorPart",
    "FloatComparison",
    "Introduced",
    "LayerComparison",
    "LayerEffect",
    "LayerPair",
    "LayerScales",
    "Scatter",
    "UnpairedLayer",
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
    """

    samples: int
    experiment_samples: int
    experiment_sqnr_db: float
    layers: tuple[LayerComparison, ...]
    unpaired: tuple[UnpairedLayer, ...]
    unpaired_float: tuple[str, ...]
    outputs: tuple[OutputComparison, ...]
    scale_agreement: float | None

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """True when the outputs were compared and every layer with weights has a counterpart whose weights fit."""
        unsure = any(layer.pair.confidence is Confidence.UNSURE for layer in self.layers)
        lost = any(item.kind not in ("HOST", "QUANTIZE", "MAXPOOL") for item in self.unpaired)
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
