"""Weights of a quantized layer and of a float one side by side, and stages that are a batch norm: whether they fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.comparison.sums import FloatArray
from npusim.graph import Array
from npusim.program import HostOperation, Program, QuantizeStage, Step, Weighted
from npusim.program.lowering.floats import Parameters, Refusal, is_weighted, read_parameters

__all__ = [
    "channel_cosine",
    "channel_scale",
    "fit_batch_norm",
    "overall_cosine",
    "parameters_of",
    "settled_scale",
    "stage_parameters",
    "weights_of",
]


def weights_of(step: Step, program: Program) -> FloatArray | None:
    """Weights of a step as ``[outputs, values]`` in the order of `LinearOperation`; None for a step without.

    Of a layer that a mixed precision left in float: the float weights.
    """
    if isinstance(step, HostOperation):
        parameters = parameters_of(step, program.constants)
        return None if parameters is None else parameters.matrix
    if not isinstance(step, Weighted):
        return None
    return step.weight_rows.astype(np.float64)


def parameters_of(step: HostOperation, constants: Mapping[str, Array]) -> Parameters | None:
    """Weights and bias of an operation with constant weights; None for any other."""
    if not is_weighted(step.node):
        return None
    try:
        return read_parameters(step.node, constants)
    except Refusal:
        return None


def channel_cosine(weights: FloatArray, reference: FloatArray, /) -> FloatArray:
    """Cosine of the weights of each output channel, ``[channels]``; 1 where both are zero, 0 where one of them is.

    Examples
    --------
    >>> channel_cosine(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.03, 0.04], [-0.5, 0.0]]))
    array([ 1., -1.])
    """
    bottom = np.sqrt((weights**2).sum(axis=1) * (reference**2).sum(axis=1))
    product = (weights * reference).sum(axis=1)
    both = ~weights.any(axis=1) & ~reference.any(axis=1)
    result: FloatArray = np.where(both, 1.0, np.divide(product, bottom, out=np.zeros_like(bottom), where=bottom > 0))
    return result


def channel_scale(weights: FloatArray, reference: FloatArray, /) -> FloatArray:
    """The factor ``s`` of each channel that minimises ``sum (reference - s weights)^2``, ``[channels]``.

    NaN where weights are zero.

    Examples
    --------
    >>> channel_scale(np.array([[2.0, 4.0]]), np.array([[0.25, 0.5]]))
    array([0.125])
    """
    energy = (weights**2).sum(axis=1)
    result: FloatArray = np.divide(
        (weights * reference).sum(axis=1), energy, out=np.full_like(energy, np.nan), where=energy > 0
    )
    return result


def overall_cosine(weights: FloatArray, reference: FloatArray, /) -> float:
    """How well weights fit when each channel has its own factor: ``sqrt`` of the share of the reference's energy explained.

    Negative factors explain nothing, because no layer can turn a sign around. 1 for weights that are zero on both sides.
    """
    energy = (reference**2).sum(axis=1)
    cosines = np.maximum(channel_cosine(weights, reference), 0.0)
    total = float(energy.sum())
    return float(np.sqrt((cosines**2 * energy).sum() / total)) if total > 0 else float(not weights.any())


def settled_scale(weights: FloatArray, reference: FloatArray, /) -> FloatArray:
    """As `channel_scale`, without values that fit it so badly that they are no rounded ones, where they make a difference.

    Examples
    --------
    >>> settled_scale(np.array([[10.0, 20.0, -40.0]]), np.array([[0.1, 0.2, 0.4]])).round(6)
    array([0.01])
    """
    factor = channel_scale(weights, reference)
    for _ in range(SETTLING):
        real = np.where(np.isfinite(factor), factor, 0.0)[:, np.newaxis] * weights
        steps = 2 * np.abs(np.where(np.isfinite(factor), factor, 0.0))[:, np.newaxis]
        strange = np.abs(reference - real) > steps + np.maximum(np.abs(real), np.abs(reference)) / 2
        energy = np.where(strange, weights**2, 0.0).sum(axis=1)
        whole = (weights**2).sum(axis=1)
        settled = channel_scale(np.where(strange, 0.0, weights), reference)
        moved = (energy > STRANGE_ENERGY * whole) & (energy < whole / 2) & np.isfinite(settled) & (settled > 0)
        factor = np.where(moved, settled, factor)
    return factor


SETTLING = 3
"""Times that values which do not fit are looked for again."""

STRANGE_ENERGY = 0.05
"""Share of the energy of a row's integer weights below which what does not fit makes no difference."""

MOST_SPREAD = 0.25
"""Largest relative difference between the scales that a stage's channels imply; a multiplier is rounded to a few bits."""

CLOSE = 0.25
"""In LSB: offsets that differ by less are the same, but for rounding."""


def stage_parameters(stage: QuantizeStage, channels: int) -> tuple[FloatArray, FloatArray]:
    """Multiplier and offset of each channel without the half LSB that makes the floor round.

    Both ``[channels]``; a code is the nearest integer to ``(x + offset) * multiplier``.
    """
    multiplier = np.broadcast_to(stage.multiplier.ravel(), (channels,)).astype(np.float64)
    offset = np.broadcast_to(stage.offset.ravel(), (channels,)).astype(np.float64)
    half = np.divide(0.5, multiplier, out=np.zeros(channels), where=multiplier != 0)
    return multiplier, offset - half


def fit_batch_norm(stage: QuantizeStage, gain: FloatArray, shift: FloatArray) -> float | None:
    """Largest difference in LSB between a stage and a batch norm ``gain * x + shift`` at its zero; None where they do not fit.

    Parameters
    ----------
    stage
        The stage; one multiplier and offset for all channels or one for each.
    gain, shift
        The batch norm, ``[channels]``.
    """
    if stage.multiplier.size not in (1, len(gain)) or stage.offset.size not in (1, len(gain)):
        return None
    multiplier, offset = stage_parameters(stage, len(gain))
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = gain / multiplier
        distance = np.abs(offset - shift / gain) * np.abs(multiplier)
    middle = float(np.median(scales))
    if not middle > 0 or not np.isfinite(distance).all():
        return None
    farthest = float(distance.max())
    one_scale = bool(np.abs(scales / middle - 1).max() <= MOST_SPREAD)
    # channels may each have a scale of their own where all offsets, turned signs included, are those of the batch norm
    return farthest if one_scale or (farthest < CLOSE and bool((scales > 0).all())) else None
