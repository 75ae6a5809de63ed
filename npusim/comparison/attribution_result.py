"""Where a layer's error comes from, and what the layer does to the final output."""

from __future__ import annotations

from dataclasses import dataclass, field

from npusim.comparison.sums import FloatArray
from npusim.schemas.objects import BY_CHANNEL

__all__ = ["PART_NAMES", "Attribution", "ErrorPart", "Introduced", "LayerEffect"]

PART_NAMES = ("inherited", "weights", "bias_and_scale", "rounding", "clipping")
"""The parts of a layer's error in the order in which they are taken; the last four are introduced by the layer."""


@dataclass(frozen=True, slots=True, eq=False)
class ErrorPart:
    """A part of a layer's error.

    Attributes
    ----------
    name
        One of `PART_NAMES`; ``introduced`` for the sum of the last four, ``total`` for the whole.
    mean_error
        Signed mean in real units; those of the parts sum to the total's.
    root_mean_square_error, largest_error
        In real units.
    share
        ``sum e_part e_total / sum e_total^2``: how much of the total's energy the part explains. The shares of all parts sum
        to 1; a negative one works against the rest. 0 without any error.
    channel_mean_error, channel_root_mean_square_error
        The same for each channel, ``[channels]``.
    """

    name: str
    mean_error: float
    root_mean_square_error: float
    largest_error: float
    share: float
    channel_mean_error: FloatArray = field(metadata=BY_CHANNEL)
    channel_root_mean_square_error: FloatArray = field(metadata=BY_CHANNEL)


@dataclass(frozen=True, slots=True)
class Introduced:
    """The error that a layer makes when it is fed with the float model's activations, rounded to codes.

    Attributes
    ----------
    total
        The whole of it; `ErrorPart.share` of the parts refers to it.
    weights, bias_and_scale, rounding, clipping
        The parts, which sum to it.
    sqnr_db
        SQNR of the layer alone.
    """

    total: ErrorPart
    weights: ErrorPart
    bias_and_scale: ErrorPart
    rounding: ErrorPart
    clipping: ErrorPart
    sqnr_db: float

    @property
    def parts(self) -> tuple[ErrorPart, ...]:
        """The four parts in order."""
        return (self.weights, self.bias_and_scale, self.rounding, self.clipping)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where a layer's error comes from, over the samples of the experiments (`FloatComparison.experiment_samples`).

    Attributes
    ----------
    total
        The error of the layer's output in the quantized model.
    inherited
        What the float layer makes of the errors of its inputs.
    introduced
        What the layer adds to that on the inputs that it really gets: ``total = inherited + introduced``.
    weights, bias_and_scale, rounding, clipping
        The parts of `introduced`, which they sum to.
    alone
        The error introduced when the layer is fed with the float model's activations instead.
    """

    total: ErrorPart
    inherited: ErrorPart
    introduced: ErrorPart
    weights: ErrorPart
    bias_and_scale: ErrorPart
    rounding: ErrorPart
    clipping: ErrorPart
    alone: Introduced

    @property
    def parts(self) -> tuple[ErrorPart, ...]:
        """The five parts that sum to the total, in the order of `PART_NAMES`."""
        return (self.inherited, self.weights, self.bias_and_scale, self.rounding, self.clipping)

    @property
    def introduced_sqnr_db(self) -> float:
        """SQNR of the layer alone, fed with the float model's activations."""
        return self.alone.sqnr_db


@dataclass(frozen=True, slots=True)
class LayerEffect:
    """What one layer does to the final output, over the samples of the experiments; SQNR of the output in dB.

    Attributes
    ----------
    if_float_db
        With this layer in float and all others quantized.
    if_float_gain_db
        `if_float_db` minus the SQNR with all layers quantized: what would be won by more bits for this layer.
    if_quantized_db
        With only this layer quantized and all others in float.
    """

    if_float_db: float
    if_float_gain_db: float
    if_quantized_db: float
