"""Rounding weights so that a layer's output changes least, rather than each weight.

The error of an output channel is a quadratic form of its weights' errors, with the covariance of the layer's inputs as matrix:
rounding one weight up can make good what rounding its neighbour down has done. All arrays carry the groups of a convolution on
their first axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.floats.network import FloatArray

__all__ = ["LeastSquares", "round_sequentially", "round_to_nearest", "rounding_error"]

LARGEST_FACTORISED = 1536
"""Up to so many weights of an output channel their covariance is factorised; beyond, weights are improved one by one only."""

SWEEPS = 4
"""How often each weight is looked at again."""

BLOCK = 32
"""Weights whose effect on all others is added up and applied as one product; among themselves it is applied at once."""


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """``sum over outputs of (w - target)' matrix (w - target)`` is, up to a constant, what is to be small.

    Attributes
    ----------
    matrix
        float64 [group, K, K], symmetric, positive definite.
    target
        float64 [group, K, out / group].
    """

    matrix: FloatArray
    target: FloatArray


def round_to_nearest(target: FloatArray, step: FloatArray, largest: int) -> FloatArray:
    """Integers nearest to ``target / step`` within +- `largest`; `step` is [group, out / group]."""
    return np.clip(np.rint(target / step[:, np.newaxis]), -largest, largest)


def rounding_error(problem: LeastSquares, integers: FloatArray, step: FloatArray) -> FloatArray:
    """The quadratic form for each output channel, [group, out / group]."""
    error = integers * step[:, np.newaxis] - problem.target
    total: FloatArray = (error * (problem.matrix @ error)).sum(axis=1)
    return total


def round_sequentially(problem: LeastSquares, step: FloatArray, largest: int) -> FloatArray:
    """Round one weight after the other, each time moving the rest so that they make good the error; then improve one by one.

    Parameters
    ----------
    problem
        What is to be small.
    step
        float64 [group, out / group]: the value of one step of an output channel's weights.
    largest
        Integers are within +- this.

    Returns
    -------
    ndarray
        float64 [group, K, out / group] of integers.
    """
    nearest = round_to_nearest(problem.target, step, largest)
    best = _improved(problem, nearest, step, largest)
    if problem.matrix.shape[1] > LARGEST_FACTORISED or problem.matrix.shape[1] == 1:
        return best
    fed_back = _improved(problem, _fed_back(problem, step, largest), step, largest)
    better = rounding_error(problem, fed_back, step) < rounding_error(problem, best, step)
    return np.where(better[:, np.newaxis], fed_back, best)


def _fed_back(problem: LeastSquares, step: FloatArray, largest: int) -> FloatArray:
    """Error feedback along the Cholesky factor of the inverse matrix, the inputs with the largest variance first."""
    count = problem.matrix.shape[1]
    order = np.argsort(-np.diagonal(problem.matrix, axis1=1, axis2=2), axis=1, kind="stable")
    rows = np.take_along_axis(problem.matrix, order[:, :, np.newaxis], axis=1)
    matrix = np.take_along_axis(rows, order[:, np.newaxis, :], axis=2)
    left = np.take_along_axis(problem.target, order[:, :, np.newaxis], axis=1)
    # matrix = U' D U for the reversed order gives the factor of the inverse: inverse = F' F with F upper triangular.
    flipped = np.linalg.cholesky(matrix[:, ::-1, ::-1])[:, ::-1, ::-1]
    factor = np.linalg.inv(flipped)
    integers = np.empty_like(left)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = np.empty((left.shape[0], stop - start, left.shape[2]))
        for index in range(start, stop):
            integers[:, index] = np.clip(np.rint(left[:, index] / step), -largest, largest)
            error = (left[:, index] - integers[:, index] * step) / factor[:, index, index, np.newaxis]
            left[:, index + 1 : stop] -= factor[:, index, index + 1 : stop, np.newaxis] * error[:, np.newaxis]
            errors[:, index - start] = error
        if stop < count:
            left[:, stop:] -= np.swapaxes(factor[:, start:stop, stop:], 1, 2) @ errors
    result = np.empty_like(integers)
    np.put_along_axis(result, order[:, :, np.newaxis], integers, axis=1)
    return result


def _improved(problem: LeastSquares, integers: FloatArray, step: FloatArray, largest: int) -> FloatArray:
    """Set each weight in turn to the best integer, given all others, until nothing changes."""
    current = integers.copy()
    slope = problem.matrix @ (current * step[:, np.newaxis] - problem.target)
    curvature = np.diagonal(problem.matrix, axis1=1, axis2=2)
    for _ in range(SWEEPS):
        changed = False
        for start in range(0, current.shape[1], BLOCK):
            block = slice(start, min(start + BLOCK, current.shape[1]))
            moves = np.zeros_like(current[:, block])
            for index in range(block.start, block.stop):
                wanted = current[:, index] - slope[:, index] / (curvature[:, index, np.newaxis] * step)
                moved = np.clip(np.rint(wanted), -largest, largest) - current[:, index]
                if not moved.any():
                    continue
                current[:, index] += moved
                moves[:, index - start] = moved * step
                slope[:, block] += problem.matrix[:, block, index, np.newaxis] * moves[:, index - start, np.newaxis]
            moving = np.flatnonzero(moves.any(axis=(0, 2)))
            changed = changed or moving.size > 0
            if moving.size and current.shape[1] > BLOCK:
                others = problem.matrix[:, :, start + moving] @ moves[:, moving]
                slope[:, : block.start] += others[:, : block.start]
                slope[:, block.stop :] += others[:, block.stop :]
        if not changed:
            break
    return current
