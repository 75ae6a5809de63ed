"""The numbers of layers with weights beside those of the float layers they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.comparison.alignment.channel_scales import input_columns
from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.alignment.weights import channel_scale, settled_scale
from npusim.comparison.layer_result import LayerPair, LayerScales
from npusim.comparison.sums import FloatArray
from npusim.program import Accumulating, Program, Weighted, geometry_of

__all__ = ["LayerNumbers", "layer_numbers", "misfit"]

FEWEST: Final = 2
"""Fewer biases are no witness, since nothing could contradict them."""

LEAST_BIAS: Final = 1.0
"""In LSB of the output: biases below this say nothing of a scale."""

FAR: Final = 0.2
"""Share of the energy of float weights that is left unexplained, from which on integer weights tell no scale."""

TOGETHER: Final = 0.3
"""Of a logarithm: ratios of biases that are this near to each other agree."""

AGREEING: Final = 0.6
"""Share of the biases, by size, that must agree before they are a witness."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerNumbers:
    """One layer; weights ``[outputs, values]``, all else ``[outputs]``.

    Attributes
    ----------
    step, pair
        The layer and what it means.
    weights, reference
        Integer weights, and the float ones for inputs counted in its input's scale.
    factor
        Real value of one step of the weights of each channel, by least squares; NaN for weights of zero.
    gain
        ``scale / 2**shift``.
    bias, float_bias
        In units of the accumulator without rounding; in real units.
    input, output
        Scales of the input, and of the channels of the output.
    inner
        Weights of one input channel, in a row.
    declared
        Whether the file gives the scales of its input and of its output.
    agreed
        As in `LayerScales`.
    """

    step: Weighted
    pair: LayerPair
    weights: FloatArray
    reference: FloatArray
    factor: FloatArray
    gain: FloatArray
    bias: FloatArray
    float_bias: FloatArray
    input: float
    output: FloatArray
    inner: int
    declared: bool
    agreed: bool

    @property
    def has_channel_scales(self) -> bool:
        """Whether its output has one scale for each channel, as they come."""
        return self.output.size > 1 and bool(np.ptp(self.output) > 0)

    @property
    def ratio(self) -> FloatArray:
        """What the integers of each channel make of real values over what its output's scale says; 1 where all is right."""
        return self.input * self.factor * 1 / self.gain / self.output

    @property
    def is_far(self) -> bool:
        """Whether its weights, most rows of them, are so far from the float model's that they tell no scale."""
        return float(np.median(misfit(self.weights, self.reference))) > FAR

    def witness(self) -> float | None:
        """The logarithm of the input scale that the biases were made for, over the input's; None where they do not tell.

        The median over the channels, by the size of the float bias, so that some wrong biases do not move it.
        """
        if self.is_far:
            return None
        size = np.abs(self.float_bias)
        known = np.isfinite(self.factor) & (self.factor > 0) & (self.bias * self.float_bias > 0)
        if (
            known.size < FEWEST
            or not size.sum()
            or np.sqrt(np.mean((self.float_bias / self.output) ** 2)) < LEAST_BIAS
            or not known.any()
        ):
            return None
        logs = np.log(self.float_bias[known] / (self.bias[known] * self.factor[known] * self.input))
        order = np.argsort(logs)
        weight = size[known][order].cumsum()
        middle = float(logs[order][np.searchsorted(weight, weight[-1] / 2)])
        agreeing = float(size[known][np.abs(logs - middle) <= TOGETHER].sum() / size.sum())
        return middle if agreeing >= AGREEING else None


def misfit(weights: FloatArray, reference: FloatArray) -> FloatArray:
    """Share of the energy of each row of float weights that the integer ones leave unexplained, 0 to 1, ``[outputs]``.

    Examples
    --------
    >>> misfit(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.3, 0.4], [-0.5, 0.0]])).round(6)
    array([0., 1.])
    """
    energy, other = (reference**2).sum(axis=1), (weights**2).sum(axis=1)
    product = np.maximum((weights * reference).sum(axis=1), 0.0)
    both = (energy == 0) & (other == 0)
    explained = np.divide(product**2, energy * other, out=np.zeros_like(energy), where=(energy > 0) & (other > 0))
    result: FloatArray = np.where(both, 0.0, np.clip(1 - explained, 0.0, 1.0))
    return result


def layer_numbers(alignment: Alignment, scales: Mapping[str, LayerScales], program: Program) -> dict[str, LayerNumbers]:
    """The numbers of all paired integer layers with weights, by name, in execution order."""
    steps = {step.name: step for step in program.steps}
    known = {name: LayerScales(1.0) for name in program.inputs}
    found: dict[str, LayerNumbers] = {}
    for pair in alignment.pairs:
        known[pair.tensor] = scales[pair.step]
        step, linear = steps[pair.step], alignment.linear.get(pair.step)
        if linear is None or not isinstance(step, Weighted) or not isinstance(step, Accumulating):
            continue
        first, own = known[step.inputs[0]], scales[pair.step]
        columns = None if first.channels is None else input_columns(step, linear.weights.shape, first.channels / first.output)
        reference = linear.weights if columns is None else linear.weights * columns
        weights = step.weight_rows.astype(np.float64)
        outputs = len(linear.bias)
        group = geometry_of(step)[1]
        inputs = step.input_shape[1] // group if len(step.input_shape) > 2 else 0
        found[pair.step] = LayerNumbers(
            step,
            pair,
            weights,
            reference,
            (channel_scale if step.weight_bits == 2 else settled_scale)(weights, reference),
            np.broadcast_to(step.requantization.gain, (outputs,)),
            np.broadcast_to(step.requantization.real_bias, (outputs,)),
            linear.bias,
            first.output,
            np.array(own.by_rows(outputs), np.float64),
            weights.shape[1] // inputs if inputs and weights.shape[1] % inputs == 0 else 1,
            first.declared and own.declared,
            own.agreed,
        )
    return found
