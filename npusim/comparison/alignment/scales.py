"""The real value of one LSB of every layer, which the graph does not carry, recovered from the float model.

Input stage: a code is ``(x + offset) * multiplier``, so one LSB is ``1 / multiplier``, times the gain of a batch norm that the
stage takes in. Layer with weights: the float weights are ``s_w`` times the integer ones, by least squares for each channel,
and ``s_out = s_in * s_w * 2**shift / scale`` must agree over all channels; the median is taken. Pools and data movers keep the
scale of their input, also an average pool whose integers have a gain: the layers behind it are made for the scale without
it. A multiplication that turns codes into real values gives the scale 1. Where the weights of the layers behind show that they
are made for one scale per channel (:mod:`npusim.comparison.alignment.channel_scales`), these are kept, the gains of average
pools taken in.

The float biases are a witness that does not depend on the chain: ``b = s_in * s_w * bias``. Training lets the two drift apart,
layer by layer. Where they part by more than that at once, the exporter had another input scale in mind than the layer gets (a
layer fed with raw codes, for example). Then the layer's own output has the scale that follows from its biases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np

from npusim.comparison.alignment.channel_scales import (
    channels_behind,
    input_columns,
    known_scales,
    middle_scale,
    stage_by_channel,
)
from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.alignment.weights import channel_scale, parameters_of, settled_scale, weights_of
from npusim.comparison.layer_result import LayerPair, LayerScales
from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph, LinearOperation
from npusim.graph.traits import Trait, is_a, operators_with
from npusim.program import (
    Accumulating,
    HostOperation,
    Program,
    QuantizeStage,
    Step,
    weight_bits_of,
)

__all__ = ["recover_scales"]

CONTRADICTION: Final = 5.0
"""Ratio between the drifts of two layers that follow each other that no training explains."""

WITNESS: Final = 0.95
"""Cosine of integer and float biases from which on they are a witness."""

FEWEST: Final = 3
"""Fewer biases contradict nothing."""

LEAST_BIAS: Final = 8.0
"""Root mean square of the integer biases, their rounding taken off, below which they are too small to be one."""

EQUAL_SCALES: Final = 0.05
"""Relative difference up to which two summands count as having one scale."""

_NO_UNIT: Final = operators_with(Trait.SQUASHES) | (operators_with(Trait.ACTIVATION) - operators_with(Trait.ELEMENTWISE))
"""Operations whose results are real values whatever they read."""


def recover_scales(
    alignment: Alignment,
    quantized: Program,
    reference: Program,
    *,
    corrections: Mapping[str, float] = MappingProxyType({}),
    taken: Collection[str] = (),
    declared: Mapping[str, FloatArray] = MappingProxyType({}),
) -> dict[str, LayerScales]:
    """Recover the scales of all paired steps.

    Parameters
    ----------
    alignment
        Of the two programs.
    quantized, reference
        The quantized and the float program.
    corrections
        By step the scale that everything behind it was made for, over the one that its integers give.
    taken
        Average pools whose gain the layers behind them take back.
    declared
        By tensor the scales that the file itself gives, one or one for each channel.

    Returns
    -------
    dict
        By name of the step; `LayerScales.fitted` is not known yet.
    """
    graph = FloatGraph(reference)
    known = {name: LayerScales(1.0) for name in quantized.inputs}
    drift = dict.fromkeys(quantized.inputs, 1.0)
    steps = {step.name: step for step in quantized.steps}
    found: dict[str, LayerScales] = {}
    for pair in alignment.pairs:
        step = steps[pair.step]
        names = quantized.inputs_of(step)
        inputs = [known[name] for name in names]
        scales = _scales(step, pair, inputs, drift[names[0]], alignment, quantized, graph)
        if step.name in alignment.by_channel:
            scales = _with_channels(scales, step, pair, inputs, alignment, quantized, graph)
        if pair.tensor in declared:
            scales = _as_declared(scales, declared[pair.tensor])
        if step.name in taken:
            scales = replace(scales, output=scales.output / scales.gain, gain=1.0)
        if step.name in corrections:
            scales = _corrected(scales, corrections[step.name])
        found[pair.step] = known[pair.tensor] = scales
        drift[pair.tensor] = _drift_behind(scales, drift[names[0]])
    return found


def _as_declared(scales: LayerScales, declared: FloatArray) -> LayerScales:
    """The scales as a file gives them; a gain of an average pool is a part of them."""
    channels = declared if declared.size > 1 else None
    return replace(scales, output=middle_scale(declared), channels=channels, gain=1.0, zero_point=0.0, declared=True)


def _corrected(scales: LayerScales, factor: float) -> LayerScales:
    channels = None if scales.channels is None else scales.channels * factor
    return replace(scales, output=scales.output * factor, channels=channels, implied=scales.output)


def _with_channels(
    scales: LayerScales,
    step: Step,
    pair: LayerPair,
    inputs: list[LayerScales],
    alignment: Alignment,
    quantized: Program,
    graph: FloatGraph,
) -> LayerScales:
    """The scales of a step whose codes have one for each channel; the gain of an average pool is a part of them."""
    read = [np.full(1, one.output) if one.channels is None else one.channels for one in inputs]
    linear = alignment.linear.get(step.name)
    if scales.by_channel is not None:
        channels: FloatArray | None = known_scales(scales.by_channel)
    else:
        channels = channels_behind(step, pair, linear, read, quantized, graph)
    if channels is None:
        return scales
    return replace(scales, output=middle_scale(channels), channels=channels, gain=1.0)


def _scales(
    step: Step,
    pair: LayerPair,
    inputs: list[LayerScales],
    drift: float,
    alignment: Alignment,
    quantized: Program,
    graph: FloatGraph,
) -> LayerScales:
    first = inputs[0]
    linear = alignment.linear.get(step.name)
    if isinstance(step, QuantizeStage):
        return _stage_scales(step, pair, first, quantized, graph)
    if linear is not None:
        return _linear_scales(step, linear, first, drift, quantized)
    if isinstance(step, HostOperation):
        return _host_scales(step, inputs, quantized)
    agreed = max(one.output for one in inputs) <= (1 + EQUAL_SCALES) * min(one.output for one in inputs)
    kept = LayerScales(first.output, zero_point=first.zero_point, input=first.output, agreed=agreed)
    if not isinstance(step, Accumulating):
        return kept
    factor = float(1 / step.requantization.gain[0])
    if step.mean_of is not None:
        return replace(kept, gain=float(step.mean_of) / factor)
    return replace(kept, output=first.output * factor)


def _stage_scales(
    stage: QuantizeStage, pair: LayerPair, first: LayerScales, quantized: Program, graph: FloatGraph
) -> LayerScales:
    by_unit, zero = stage_by_channel(stage, pair, graph)
    by_channel = first.output * by_unit
    output = middle_scale(by_channel)
    by_value = first.output if pair.tensor not in quantized.inputs else None
    return LayerScales(
        output,
        zero_point=zero if abs(zero) >= 1 else 0.0,
        input=None if stage.input in quantized.inputs else by_value,
        by_channel=by_channel,
        spread=_spread(by_channel, output),
    )


def _drift_behind(scales: LayerScales, drift: float) -> float:
    """By how much the biases of the last layer with weights, where they are a witness, see another scale than the chain."""
    if scales.weights is None or scales.bias_difference is None:
        return drift
    return 1 + scales.bias_difference if scales.agreed else 1.0


def _linear_scales(step: Step, linear: LinearOperation, first: LayerScales, drift: float, quantized: Program) -> LayerScales:
    weights = weights_of(step, quantized)
    if weights is None:
        factors = np.ones(len(linear.bias))
    else:
        # two bits leave so much of each weight that none is strange
        fit = channel_scale if weight_bits_of(step) == 2 else settled_scale
        factors = fit(weights, _as_read(step, linear, first))
    requantization = step.requantization if isinstance(step, Accumulating) else None
    if requantization is None:
        parameters = parameters_of(step, quantized.constants) if isinstance(step, HostOperation) else None
        bias = np.zeros(len(factors)) if parameters is None else parameters.bias
        steps, least = np.ones(len(factors)), 0.0
    else:
        bias = requantization.real_bias
        steps, least = 1 / requantization.gain, LEAST_BIAS
    seen = _bias_input(bias, factors, linear.bias, least)
    contradicted = (
        seen is not None and len(factors) >= FEWEST and not 1 / CONTRADICTION <= seen / first.output / drift <= CONTRADICTION
    )
    if contradicted and requantization is None:
        seen = 1.0
    assumed = seen if contradicted and seen is not None else first.output
    by_channel = assumed * factors * steps
    output = middle_scale(by_channel)
    return LayerScales(
        output,
        input=first.output,
        weights=factors,
        by_channel=by_channel,
        spread=_spread(by_channel, output),
        bias_input=seen,
        bias_difference=None if seen is None else seen / first.output - 1,
        agreed=not contradicted,
    )


def _as_read(step: Step, linear: LinearOperation, first: LayerScales) -> FloatArray:
    """Float weights times the scale of the input channel that each is for, over the middle scale."""
    columns = None if first.channels is None else input_columns(step, linear.weights.shape, first.channels / first.output)
    return linear.weights if columns is None else linear.weights * columns


def _bias_input(bias: FloatArray, factors: FloatArray, reference: FloatArray, least: float) -> float | None:
    """The input scale that follows from the biases, by least squares; None where they are not a witness."""
    known = np.isfinite(factors) & (factors > 0)
    scaled, wanted = (bias * factors)[known], reference[known]
    energy, target = float((scaled**2).sum()), float((wanted**2).sum())
    if energy == 0 or target == 0 or np.sqrt((bias[known] ** 2).mean()) < least:
        return None
    product = float((scaled * wanted).sum())
    return product / energy if product >= WITNESS * np.sqrt(energy * target) else None


def _host_scales(step: HostOperation, inputs: list[LayerScales], quantized: Program) -> LayerScales:
    first = inputs[0]
    constants = [quantized.constants[name] for name in step.node.inputs if name in quantized.constants]
    agreed = max(one.output for one in inputs) <= (1 + EQUAL_SCALES) * min(one.output for one in inputs)
    kept = LayerScales(first.output, zero_point=first.zero_point, input=first.output, agreed=agreed)
    if step.operator in _NO_UNIT:
        return replace(kept, output=1.0, zero_point=0.0)
    if len(inputs) > 1 or len(constants) != 1 or not is_a(step.operator, Trait.AFFINE):
        return kept
    number = float(constants[0].ravel()[0])
    if is_a(step.operator, Trait.SUM, Trait.DIFFERENCE):
        removed = number if is_a(step.operator, Trait.DIFFERENCE) else -number
        return replace(kept, zero_point=0.0 if abs(first.zero_point - removed) <= 0.5 else first.zero_point)
    factor = number if is_a(step.operator, Trait.PRODUCT) else 1 / number
    chain = np.array([first.output / factor])
    read, made = quantized.tensors[quantized.inputs_of(step)[0]], quantized.tensors[step.tensors[0]]
    output = 1.0 if read.is_integer and not made.is_integer else float(chain[0])
    return replace(kept, output=output, zero_point=first.zero_point * factor, by_channel=chain, spread=_spread(chain, output))


def _spread(values: FloatArray, middle: float) -> float | None:
    """Largest relative distance of a finite value from the middle."""
    known = values[np.isfinite(values)]
    return float(np.abs(known / middle - 1).max()) if known.size else None
