"""What comparing gives for one layer: alignment, scales, errors in numbers, where they come from, what they do to the output.

Real units are those of the float model. One LSB of a layer is its output scale: ``real = (code - zero_point) * scale``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from npusim.comparison.code_sums import IntegerArray
from npusim.comparison.sums import FloatArray
from npusim.program.lowering.floats import Role
from npusim.schemas.derivation import Count
from npusim.schemas.objects import ANY_BY_CHANNEL, BY_CHANNEL, UNLISTED

__all__ = [
    "PART_NAMES",
    "Attribution",
    "ChannelMetrics",
    "CodeUse",
    "Confidence",
    "ErrorMetrics",
    "ErrorPart",
    "Introduced",
    "LayerEffect",
    "LayerPair",
    "LayerScales",
    "Scatter",
    "UnpairedLayer",
    "channel_axis",
    "without_ones",
]


def channel_axis(shape: tuple[int, ...], channels: int) -> int:
    """The first axis behind that of the samples that has this many channels; 1 where none has.

    Examples
    --------
    >>> channel_axis((1, 1, 16), 16)
    2
    """
    return next((axis for axis in range(1, len(shape)) if shape[axis] == channels), 1)


def without_ones(shape: tuple[int, ...]) -> list[int]:
    """The sizes of a shape that are not 1, in order: two shapes with the same hold the same elements.

    Examples
    --------
    >>> without_ones((1, 4, 1, 16))
    [4, 16]
    """
    return [size for size in shape if size > 1]


class Confidence(StrEnum):
    """How sure it is that two tensors mean the same.

    CERTAIN: weights that fit channel by channel, or a node that only this one can be, behind what is certain. LIKELY: the
    structure says so, but nothing else does, or the weights fit only roughly. UNSURE: the weights do not fit.
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """A step of the quantized program and the tensor of the float model that means what the step produces.

    Attributes
    ----------
    step
        The step of the quantized program.
    kind
        A layer kind, QUANTIZE or HOST.
    tensor
        The tensor it produces.
    operator
        For HOST: the ONNX operator.
    float_tensor
        Tensor of the float model that means the same.
    float_nodes
        Nodes of the float model between what the step reads and `float_tensor`; none where the step only changes the scale.
    confidence
        How sure that is.
    reason
        Why, as a sentence.
    weight_correlation
        For layers with weights: cosine of the integer weights of each output channel and the float ones (batch norm folded),
        ``[channels]``; 0 where one of them is zero.
    squeezed
        Whether the two tensors differ in axes of size 1, which one of the models drops earlier; the elements are the same.
    roles
        For integer layers: what they may be in a float model.
    """

    step: str
    kind: str
    tensor: str
    operator: str | None
    float_tensor: str
    float_nodes: tuple[str, ...]
    confidence: Confidence
    reason: str
    weight_correlation: FloatArray | None = field(metadata=BY_CHANNEL)
    squeezed: bool
    roles: tuple[Role, ...] = field(metadata=UNLISTED)


@dataclass(frozen=True, slots=True)
class UnpairedLayer:
    """A step of the quantized program without a counterpart, and why.

    Attributes
    ----------
    step
        The step.
    kind
        A layer kind, QUANTIZE or HOST.
    tensor
        The tensor it produces.
    reason
        Why there is none.
    roles
        For integer layers: what they may be in a float model.
    """

    step: str
    kind: str
    tensor: str
    reason: str
    roles: tuple[Role, ...] = field(metadata=UNLISTED)

    @property
    def is_lost(self) -> bool:
        """Whether it computes something that the float model should show: a layer, but for maximum pools."""
        return self.kind not in ("HOST", "QUANTIZE") and Role.MAXIMUM not in self.roles


@dataclass(frozen=True, slots=True, eq=False)
class LayerScales:
    """The real value of one LSB, recovered in several ways that must agree.

    Attributes
    ----------
    output
        Nominal scale of the layer's codes, the one that the exporter meant: an average pool is to keep the scale of its input.
    zero_point
        The code that stands for 0.
    input
        Nominal scale of the (first) input; None for the input of the network.
    weights
        Scale of the weights by least squares against the float weights, ``[channels]``; None for layers without.
    by_channel
        ``input * weights * 2**shift / scale`` of each channel, which `output` is the median of, ``[channels]``; for an input
        stage the scale that each channel's multiplier gives.
    spread
        Largest ``|by_channel / output - 1|``; None without channels to compare.
    gain
        For AVGPOOL: by how much the codes are too large for `output`, ``area * scale / 2**shift``; otherwise 1.
    fitted
        Scale by least squares of the codes against the float tensor, over all samples; NaN when all codes are zero.
    fitted_difference
        ``fitted / output - 1``: what the codes really are against what they were meant to be.
    bias_input
        The input scale that the exporter must have had in mind when it rounded the biases, by least squares of the float
        biases; None where biases are too small to tell.
    bias_difference
        ``bias_input / input - 1``.
    agreed
        Whether all inputs of the layer have the scale that the layer adds them with; false for a residual of two scales.
    channels
        Scale of each channel, ``[channels]``, where the layers that read the codes are made for one per channel; `output` is
        then their median, and an LSB is that of the channel. None where the codes have one scale.
    implied
        The scale that the layer's own integers give, where everything behind it was made for `output` instead; None where the
        two are the same.
    declared
        Whether the file itself gives `output` and `channels`, which the weights are checked against.
    """

    output: float
    zero_point: float = 0.0
    input: float | None = None
    weights: FloatArray | None = field(default=None, metadata=ANY_BY_CHANNEL)
    by_channel: FloatArray | None = field(default=None, metadata=BY_CHANNEL)
    spread: float | None = None
    gain: float = 1.0
    fitted: float = float("nan")
    fitted_difference: float = float("nan")
    bias_input: float | None = None
    bias_difference: float | None = None
    agreed: bool = True
    channels: FloatArray | None = field(default=None, metadata=BY_CHANNEL)
    implied: float | None = None
    declared: bool = False

    def over(self, shape: tuple[int, ...]) -> FloatArray:
        """The scale shaped so that it broadcasts over codes of a shape, samples on the first axis.

        Examples
        --------
        >>> LayerScales(0.5).over((8, 2, 4))
        array(0.5)
        >>> LayerScales(0.5, channels=np.array([0.4, 0.6])).over((8, 2, 4)).shape
        (2, 1)
        """
        if self.channels is None or self.channels.size == 1:
            return np.asarray(self.output if self.channels is None else self.channels[0], np.float64)
        trailing = len(shape) - 1 - channel_axis(shape, self.channels.size)
        return self.channels.reshape(-1, *(1,) * trailing)

    def by_rows(self, channels: int) -> FloatArray:
        """The scale of each of some channels, ``[channels]``; `output` where they are not the channels of the codes."""
        known = self.channels if self.channels is not None and self.channels.size == channels else np.asarray(self.output)
        return np.broadcast_to(known, (channels,))


@dataclass(frozen=True, slots=True)
class ErrorMetrics:
    """Error of a layer's output against the float tensor, over all samples, elements and channels.

    Attributes
    ----------
    values
        Values compared.
    sqnr_db, cosine, r_squared
        Without a unit.
    fitted_sqnr_db
        SQNR if the codes had the best common scale instead of the nominal one: what is left when a gain is forgiven.
    mean_error, mean_absolute_error, root_mean_square_error, largest_error
        In real units; `mean_error` has a sign, positive where the quantized value is too large.
    mean_error_lsb, root_mean_square_error_lsb, largest_error_lsb
        The same in LSB of the layer's output.
    """

    values: Count
    sqnr_db: float
    cosine: float
    r_squared: float
    fitted_sqnr_db: float
    mean_error: float
    mean_absolute_error: float
    root_mean_square_error: float
    largest_error: float
    mean_error_lsb: float
    root_mean_square_error_lsb: float
    largest_error_lsb: float


@dataclass(frozen=True, slots=True)
class CodeUse:
    """How a layer's codes use their range.

    Attributes
    ----------
    lower, upper
        The rails: the clip, or the proven range where there is none. Of a tensor without either: the range of the histogram.
    has_rails
        Whether `lower` and `upper` are rails. Where they are not, no code is on one and `range_used` is NaN.
    smallest, largest
        Codes seen.
    share_on_lower, share_on_upper
        Share of the codes on a rail. Of unsigned codes behind a ReLU, those on the lower rail are zeros, not saturation.
    lower_is_relu
        Whether the lower rail is the float model's own ReLU.
    range_used
        Codes from the smallest to the largest seen over the codes that there are.
    dead_channels
        Channels that are the same for every sample.
    float_dead_channels
        Channels whose float tensor is the same for every sample: these were dead before.
    """

    lower: int
    upper: int
    has_rails: bool
    smallest: float
    largest: float
    share_on_lower: float
    share_on_upper: float
    lower_is_relu: bool
    range_used: float
    dead_channels: tuple[Count, ...]
    float_dead_channels: tuple[Count, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMetrics:
    """The same for each output channel, float64 ``[channels]`` each.

    Attributes
    ----------
    sqnr_db, cosine, mean_error, root_mean_square_error, largest_error
        As in `ErrorMetrics`, in real units.
    mean_error_lsb, largest_error_lsb
        In LSB.
    float_smallest, float_largest
        Range of the float tensor.
    code_smallest, code_largest
        Codes seen.
    share_on_lower, share_on_upper, range_used
        As in `CodeUse`.
    """

    sqnr_db: FloatArray
    cosine: FloatArray
    mean_error: FloatArray
    root_mean_square_error: FloatArray
    largest_error: FloatArray
    mean_error_lsb: FloatArray
    largest_error_lsb: FloatArray
    float_smallest: FloatArray
    float_largest: FloatArray
    code_smallest: FloatArray
    code_largest: FloatArray
    share_on_lower: FloatArray
    share_on_upper: FloatArray
    range_used: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """A bounded selection of values, spread evenly over the samples, for a scatter plot.

    Attributes
    ----------
    float_values, quantized_values
        Real units, float64 ``[points]``.
    codes
        float64 ``[points]``.
    channels
        Channel of each point, int64.
    """

    float_values: FloatArray
    quantized_values: FloatArray
    codes: FloatArray
    channels: IntegerArray


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
