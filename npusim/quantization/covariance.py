"""What calibration samples say about a layer: covariances of its inputs with each other and with what it is to give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from npusim.floats.columns import row_blocks
from npusim.floats.network import FloatArray, FloatLayer
from npusim.quantization.weight_rounding import LARGEST_FACTORISED, LeastSquares

__all__ = ["Covariance", "hold_mean", "least_squares", "measure"]

MULTIPLICATIONS = 2**35
"""About so many multiplications are spent on one covariance; of more rows, a part drawn with a fixed seed is taken."""

CONJUGATE_STEPS = 25


@dataclass(frozen=True, slots=True)
class Covariance:
    """Of a layer's inputs x (its rows, in codes) and wanted outputs t (real values, before the activation).

    Attributes
    ----------
    inputs
        float64 [group, K, K]: mean of ``(x - mean x)(x - mean x)'``.
    cross
        float64 [group, K, out / group]: mean of ``(x - mean x)(t - mean t)'``.
    input_mean
        float64 [group, K].
    output_mean
        float64 [group, out / group].
    rows
        Rows that were seen.
    """

    inputs: FloatArray
    cross: FloatArray
    input_mean: FloatArray
    output_mean: FloatArray
    rows: int


def measure(layer: FloatLayer, codes: FloatArray, wanted: FloatArray) -> Covariance:
    """Measure the covariances of one layer.

    Parameters
    ----------
    layer
        A layer with weights.
    codes
        Its input, [N, in, *spatial].
    wanted
        Its output before the activation, [N, out, *spatial].
    """
    positions = math.prod(layer.output_shape[2:])
    total = codes.shape[0] * positions
    sums = _Sums()
    chance = np.random.default_rng(0)
    for part, rows in row_blocks(layer, codes):
        group, count, width = rows.shape
        spread = wanted[part].reshape(part.stop - part.start, group, -1, positions)
        targets = spread.transpose(1, 0, 3, 2).reshape(group, count, -1)
        most = max(64, MULTIPLICATIONS // (group * width * width))
        if total > most:
            taken = np.sort(chance.permutation(count)[: max(1, count * most // total)])
            sums.add(rows[:, taken], targets[:, taken])
        else:
            sums.add(rows, targets)
    return sums.covariance()


def least_squares(found: Covariance, prior: FloatArray, ridge: float) -> LeastSquares:
    """The least-squares problem of a layer's weights, pulled towards those it has.

    Minimizes ``mean |t - w'x - b|**2 + ridge * v * |w - prior|**2``, v being the mean variance of the inputs and b the best
    bias: upstream errors that the weights can make good are made good, as far as the samples tell.

    Parameters
    ----------
    found
        Covariances.
    prior
        float64 [group, K, out / group]: the float weights, for inputs in codes.
    ridge
        Strength of the pull.
    """
    width = found.inputs.shape[1]
    spread = np.trace(found.inputs, axis1=1, axis2=2) / width
    pull = ridge * spread + 1e-9 * max(float(spread.max()), 1.0)
    matrix = found.inputs + pull[:, np.newaxis, np.newaxis] * np.eye(width)
    missing = found.cross - found.inputs @ prior
    if width <= LARGEST_FACTORISED:
        return LeastSquares(matrix, prior + np.linalg.solve(matrix, missing))
    return LeastSquares(matrix, prior + _conjugate_gradients(matrix, missing))


def hold_mean(problem: LeastSquares, found: Covariance, wanted: FloatArray) -> LeastSquares:
    """The same problem with the mean of the sums of products held at given values.

    A bias that does not fit its width cannot bring the output's mean to where it belongs; the weights then have to. Of all
    weights with that mean, the target is the one that loses least, and rounding errors that move the mean count as well.

    Parameters
    ----------
    problem
        From :func:`least_squares`.
    found
        Covariances.
    wanted
        Real mean of the sums of products, [group, out / group].
    """
    mean = found.input_mean[:, :, np.newaxis]
    if mean.shape[1] <= LARGEST_FACTORISED:
        direction = np.linalg.solve(problem.matrix, mean)
    else:
        direction = _conjugate_gradients(problem.matrix, mean)
    missing = wanted - (problem.target * mean).sum(axis=1)
    reach = np.maximum((direction * mean).sum(axis=1), 1e-300)
    target = problem.target + direction * (missing / reach)[:, np.newaxis]
    return LeastSquares(problem.matrix + mean * np.swapaxes(mean, 1, 2), target)


def _conjugate_gradients(matrix: FloatArray, right: FloatArray) -> FloatArray:
    result = np.zeros_like(right)
    residual = right.copy()
    direction = residual.copy()
    square = (residual * residual).sum(axis=1)
    for _ in range(CONJUGATE_STEPS):
        product = matrix @ direction
        length = square / np.maximum((direction * product).sum(axis=1), 1e-300)
        result += length[:, np.newaxis] * direction
        residual -= length[:, np.newaxis] * product
        following = (residual * residual).sum(axis=1)
        direction = residual + (following / np.maximum(square, 1e-300))[:, np.newaxis] * direction
        square = following
    return result


@dataclass
class _Sums:
    """Sums of products so far, relative to the mean of the first rows, so that large means do not cancel."""

    parts: list[FloatArray] = field(default_factory=list)
    shifts: list[FloatArray] = field(default_factory=list)
    count: int = 0

    def add(self, rows: FloatArray, targets: FloatArray) -> None:
        if not self.shifts:
            self.shifts = [rows.mean(axis=1), targets.mean(axis=1)]
        x, t = rows - self.shifts[0][:, np.newaxis], targets - self.shifts[1][:, np.newaxis]
        turned = np.swapaxes(x, 1, 2)
        added = [turned @ x, turned @ t, x.sum(axis=1), t.sum(axis=1)]
        self.parts = [old + new for old, new in zip(self.parts, added, strict=True)] if self.parts else added
        self.count += rows.shape[1]

    def covariance(self) -> Covariance:
        products, cross, x, t = (part / self.count for part in self.parts)
        inputs = products - x[:, :, np.newaxis] * x[:, np.newaxis]
        crossed = cross - x[:, :, np.newaxis] * t[:, np.newaxis]
        return Covariance(inputs, crossed, self.shifts[0] + x, self.shifts[1] + t, self.count)
