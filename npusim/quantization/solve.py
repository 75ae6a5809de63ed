"""Integers for one layer with weights: scale of its output, steps, rounding, bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from npusim.floats.columns import accumulate, from_matrix, to_matrix
from npusim.floats.network import Activation, FloatArray, FloatLayer
from npusim.program import Clip, IntegerArray, ShiftFloor
from npusim.quantization.covariance import Covariance, hold_mean, least_squares, measure
from npusim.quantization.parameters import EXACT_FLOAT32, fit_bias, half_step, width_rules
from npusim.quantization.scales import choose_scale, coding_error, sample_channels
from npusim.quantization.weight_rounding import LeastSquares, round_sequentially, rounding_error
from npusim.quantization.weight_steps import Candidate, candidates, largest_sum, real_bias

__all__ = ["Solution", "Task", "requantize_codes", "ridge", "solve"]

Scalar = TypeVar("Scalar", bound=np.generic)

RIDGE: Final = (0.015, 0.15)
"""How strongly weights are pulled towards their float values while they make good what earlier layers lost: always, and where
the samples are few for the number of weights."""

FEEDBACK_GAIN: Final = 0.5
"""About what error feedback leaves of the error of rounding to nearest; for weighing it against that of the output's codes."""

SCALE_RATIOS: Final = tuple(2.0 ** (part / 8) for part in range(-4, 9))
"""Output scales that are tried with 8-bit weights, as multiples of the one that suits the output alone."""

BIAS_PART: Final = 0.95
"""Part of the bias's range that is used when weights take over: what is left is for moving the bias afterwards."""

FINALISTS: Final = 3
"""Steps of a channel for which the careful rounding is done."""


@dataclass(frozen=True, slots=True)
class Task:
    """One layer with weights, and all that its integers depend on.

    Attributes
    ----------
    layer
        The float layer.
    codes
        Its input in codes, [N, in, *spatial].
    input_scale
        float64 [in]: real value of a code of each input channel (feature).
    input_clip
        Range of the input's codes.
    wanted
        Real output before the activation, [N, out, *spatial].
    clip
        Range of the output's codes.
    weight_bits
        2, 4 or 8.
    output_scale
        float64 [out] where it is given, None where it is free.
    uniform
        One output scale for all channels.
    stretch
        From scales that suit the output alone, [out], to factors by which layers behind would have them larger.
    """

    layer: FloatLayer
    codes: FloatArray
    input_scale: FloatArray
    input_clip: Clip
    wanted: FloatArray
    clip: Clip
    weight_bits: int
    output_scale: FloatArray | None
    uniform: bool
    stretch: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Solution:
    """Integers of a layer.

    Attributes
    ----------
    weights
        int64 in ONNX layout.
    requantization
        Bias, scale, shift and clip.
    weight_step
        float64 [out]: real value of one step of the weights, for inputs in codes.
    output_scale
        float64 [out]: real value of one output code.
    codes
        What the layer gives on the samples, [N, out, *spatial].
    bias_fits
        False for channels whose bias had to be saturated.
    """

    weights: IntegerArray
    requantization: ShiftFloor
    weight_step: FloatArray
    output_scale: FloatArray
    codes: FloatArray
    bias_fits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    def with_channels(self, other: Solution, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], last: bool) -> Solution:
        """The same with some output channels, [out], of another solution: the last axis of the weights, or the first."""

        def merged(one: npt.NDArray[Scalar], two: npt.NDArray[Scalar], axis: int = 0) -> npt.NDArray[Scalar]:
            column = [-1 if place == axis else 1 for place in range(one.ndim)]
            return np.where(chosen.reshape(column), two, one)

        mine, theirs = self.requantization, other.requantization
        requantization = ShiftFloor(
            merged(mine.bias, theirs.bias), merged(mine.scale, theirs.scale), merged(mine.shift, theirs.shift), clip=mine.clip
        )
        return Solution(
            merged(self.weights, other.weights, 1 if last else 0),
            requantization,
            merged(self.weight_step, other.weight_step),
            merged(self.output_scale, other.output_scale),
            merged(self.codes, other.codes, 1),
            merged(self.bias_fits, other.bias_fits),
        )


def solve(task: Task) -> Solution:
    """Find the integers of a layer."""
    layer, bits = task.layer, task.weight_bits
    weights, _ = layer.parameters
    found = measure(layer, task.codes, task.wanted)
    prior = to_matrix(layer, _scaled(task, weights))
    problem = least_squares(found, prior, ridge(layer, task.codes.shape[0], found.inputs.shape[1]))
    shape = found.output_mean.shape
    output_scale = _output_scale(task, problem, found) if task.output_scale is None else task.output_scale
    listed = list(candidates(problem, found, output_scale.reshape(shape), bits, task.input_clip))
    best, integers = _round(problem, found, listed, task)
    bias, fits = fit_bias(
        real_bias(found, integers, best.step).reshape(-1), best.scale.reshape(-1), best.shift.reshape(-1), bits
    )
    requantization = ShiftFloor(bias, best.scale.reshape(-1), best.shift.reshape(-1), clip=task.clip)
    sums = accumulate(layer, task.codes, integers)
    requantization = _centred(task, requantization, sums, output_scale, best)
    onnx_weights = from_matrix(layer, integers).astype(np.int64)
    codes = requantize_codes(sums, requantization)
    return Solution(onnx_weights, requantization, best.step.reshape(-1), output_scale, codes, fits)


def requantize_codes(sums: FloatArray, found: ShiftFloor) -> FloatArray:
    """``clip(((sum + bias) * scale) >> shift)`` of whole numbers, exact in float64."""
    column = (-1, *(1,) * (sums.ndim - 2))
    scaled = (sums + found.bias.reshape(column)) * found.scale.reshape(column)
    shifted = np.floor(np.ldexp(scaled, -found.shift.reshape(column)))
    return np.clip(shifted, found.clip.lower, found.clip.upper)


def ridge(layer: FloatLayer, samples: int, width: int) -> float:
    """How strongly a layer's weights are pulled towards their float values, by samples and by weights of an output channel.

    More for fewer samples; positions of one sample are alike, so they count as their square root.
    """
    seen = samples * math.sqrt(math.prod(layer.output_shape[2:]))
    strength: float = RIDGE[0] + RIDGE[1] * min(5.0, width / seen)
    return strength


def _scaled(task: Task, weights: FloatArray) -> FloatArray:
    """Weights for inputs in codes."""
    layer, scale = task.layer, task.input_scale
    if weights.ndim == 2 or layer.kind == "conv_transpose":
        return weights * scale.reshape(-1, *(1,) * (weights.ndim - 1))
    grouped = weights.reshape(layer.group, -1, *weights.shape[1:])
    column = scale.reshape(layer.group, 1, -1, *(1,) * (weights.ndim - 2))
    return (grouped * column).reshape(weights.shape)


def _output_scale(task: Task, problem: LeastSquares, found: Covariance) -> FloatArray:
    """The output scale that loses least: with 8-bit weights it also decides how far the weights use their range."""
    activation = task.layer.activation
    values = sample_channels(activation.apply(task.wanted))
    largest = 6.0 / task.clip.upper if activation is Activation.RELU6 else np.inf
    base = choose_scale(values, task.clip, uniform=task.uniform, largest=largest)
    if task.weight_bits != 8:
        return base if task.uniform else np.minimum(base * task.stretch(base), largest)
    shape = found.output_mean.shape
    best, least = base, np.full(base.shape, np.inf)
    for ratio in SCALE_RATIOS:
        scale = np.minimum(base * ratio, largest)
        listed = candidates(problem, found, scale.reshape(shape), task.weight_bits, task.input_clip)
        rounding = np.min([item.error for item in listed], axis=0).reshape(-1)
        loss = FEEDBACK_GAIN * rounding + coding_error(values, scale, task.clip)
        if task.uniform:
            loss = np.full(loss.shape, loss.sum())
        best, least = np.where(loss < least, scale, best), np.minimum(loss, least)
    return best


def _round(problem: LeastSquares, found: Covariance, listed: Sequence[Candidate], task: Task) -> tuple[Candidate, FloatArray]:
    """Round carefully for the most promising steps of each channel and keep the best."""
    errors = np.stack([item.error for item in listed])
    # where nothing is valid, the coarsest step is nearest to it
    errors[-1] = np.where(np.isinf(errors).all(axis=0), np.finfo(np.float64).max, errors[-1])
    order = np.argsort(errors, axis=0, kind="stable")
    rules = width_rules(task.weight_bits)
    best: Candidate | None = None
    kept = np.empty(0)
    for place in range(min(FINALISTS, len(listed))):
        chosen = _pick(listed, errors, order[place])
        integers = _rounded(problem, found, chosen, task.weight_bits)
        bias = real_bias(found, integers, chosen.step)
        loss = rounding_error(problem, integers, chosen.step)
        beyond = np.maximum(np.abs(bias) - rules.largest_bias, 0.0) * chosen.step
        over = largest_sum(integers, bias, task.input_clip) * chosen.scale >= EXACT_FLOAT32
        loss = np.where(np.isinf(chosen.error) | over, np.inf, loss + np.square(beyond))
        if best is None:
            best, kept = Candidate(chosen.step, chosen.scale, chosen.shift, loss), integers
            continue
        better = loss < best.error
        best = Candidate(
            *(np.where(better, new, old) for new, old in zip(_parts(chosen, loss), _parts(best, best.error), strict=True))
        )
        kept = np.where(better[:, np.newaxis], integers, kept)
    if best is None:
        raise ValueError("at least one candidate is wanted")
    return best, kept


def _rounded(problem: LeastSquares, found: Covariance, chosen: Candidate, weight_bits: int) -> FloatArray:
    """Carefully rounded weights; where the bias would not fit, those that hold the output's mean themselves."""
    rules = width_rules(weight_bits)
    integers = round_sequentially(problem, chosen.step, rules.largest_weight)
    limit = BIAS_PART * rules.largest_bias - half_step(chosen.scale, chosen.shift)
    bias = real_bias(found, integers, chosen.step)
    wide = np.abs(bias) > limit
    if not wide.any():
        return integers
    held = hold_mean(problem, found, found.output_mean - np.clip(bias, -limit, limit) * chosen.step)
    return np.where(wide[:, np.newaxis], round_sequentially(held, chosen.step, rules.largest_weight), integers)


def _parts(item: Candidate, error: FloatArray) -> tuple[FloatArray, IntegerArray, IntegerArray, FloatArray]:
    return item.step, item.scale, item.shift, error


def _pick(listed: Sequence[Candidate], errors: FloatArray, index: IntegerArray) -> Candidate:
    places = index[np.newaxis]
    return Candidate(
        np.take_along_axis(np.stack([item.step for item in listed]), places, axis=0)[0],
        np.take_along_axis(np.stack([item.scale for item in listed]), places, axis=0)[0],
        np.take_along_axis(np.stack([item.shift for item in listed]), places, axis=0)[0],
        np.take_along_axis(errors, places, axis=0)[0],
    )


def _centred(task: Task, found: ShiftFloor, sums: FloatArray, output_scale: FloatArray, best: Candidate) -> ShiftFloor:
    """Move biases so that what the codes lose has no mean, where that makes the squared error smaller."""
    axes = (0, *range(2, sums.ndim))
    column = (1, -1, *(1,) * (sums.ndim - 2))
    wanted = task.layer.activation.apply(task.wanted)
    limit = width_rules(task.weight_bits).largest_bias
    scale = output_scale.reshape(column)
    step = best.step.reshape(-1)

    def loss(bias: IntegerArray) -> tuple[FloatArray, FloatArray]:
        codes = requantize_codes(sums, ShiftFloor(bias, found.scale, found.shift, clip=found.clip))
        error = wanted - codes * scale
        active = (codes > found.clip.lower) & (codes < found.clip.upper)
        mean = (error * active).sum(axis=axes) / np.maximum(active.sum(axis=axes), 1)
        return np.square(error).mean(axis=axes), mean

    bias = found.bias
    least, mean = loss(bias)
    for _ in range(2):
        moved = np.clip(bias + np.rint(mean / step), -limit, limit).astype(np.int64)
        tried, following = loss(moved)
        better = tried < least
        bias, least = np.where(better, moved, bias), np.where(better, tried, least)
        mean = np.where(better, following, mean / 2)
    return ShiftFloor(bias, found.scale, found.shift, clip=found.clip)
