"""Rounding of weights and choice of scales, against exhaustive search and against what they must not do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from npusim.program import Clip
from npusim.quantization import weight_rounding
from npusim.quantization.covariance import Covariance, hold_mean, least_squares
from npusim.quantization.scales import choose_scale, coding_error, sample_channels
from npusim.quantization.weight_rounding import LeastSquares, round_sequentially, round_to_nearest, rounding_error


def problem(seed: int, width: int, outputs: int) -> LeastSquares:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, width)) @ random.normal(size=(width, width)) + random.normal(size=(200, width))
    return LeastSquares((rows.T @ rows / 200)[np.newaxis], random.normal(size=(1, width, outputs)))


@pytest.mark.parametrize("seed", range(5))
def test_rounding_comes_near_the_best_of_all(seed: int) -> None:
    found = problem(seed, 6, 1)
    step = np.abs(found.target).max(axis=1)
    every = np.array(list(product((-1.0, 0.0, 1.0), repeat=6))).T[np.newaxis]
    repeated = LeastSquares(found.matrix, np.repeat(found.target, every.shape[2], axis=2))
    best = rounding_error(repeated, every, np.repeat(step, every.shape[2], axis=1)).min()
    ours = rounding_error(found, round_sequentially(found, step, 1), step)[0, 0]
    assert best <= ours * (1 + 1e-9)
    assert ours <= 1.5 * best


def test_rounding_beats_the_nearest_by_far_on_correlated_inputs() -> None:
    found = problem(0, 64, 16)
    step = np.abs(found.target).max(axis=1) / 7
    careful, nearest = round_sequentially(found, step, 7), round_to_nearest(found.target, step, 7)
    assert np.array_equal(careful, np.rint(careful))
    assert np.abs(careful).max() <= 7
    losses = [rounding_error(found, integers, step) for integers in (careful, nearest)]
    assert (losses[0] <= losses[1]).all()
    assert losses[0].sum() < 0.6 * losses[1].sum()


@pytest.mark.parametrize(("width", "outputs", "largest"), [(31, 3, 7), (33, 5, 127), (100, 4, 7), (130, 3, 1)])
def test_blocks_round_as_one_weight_after_the_other_does(
    monkeypatch: pytest.MonkeyPatch, width: int, outputs: int, largest: int
) -> None:
    found = problem(width, width, outputs)
    step = np.abs(found.target).max(axis=1) / (largest + 0.49)
    wanted = one_after_the_other(found, step, largest)
    np.testing.assert_array_equal(round_sequentially(found, step, largest), wanted)
    monkeypatch.setattr(weight_rounding, "BLOCK", 7)
    np.testing.assert_array_equal(round_sequentially(found, step, largest), wanted)


def one_after_the_other(found: LeastSquares, step: np.ndarray, largest: int) -> np.ndarray:
    """The better one, for each output, of improving the nearest integers and of improving those with error feedback."""
    tries = []
    order = np.argsort(-np.diagonal(found.matrix[0]), kind="stable")
    inverse = np.linalg.inv(found.matrix[0][np.ix_(order, order)])
    rows, left = np.linalg.cholesky(inverse).T, found.target[0][order].copy()
    fed_back = np.empty_like(left)
    for index in range(len(order)):
        fed_back[index] = np.clip(np.rint(left[index] / step[0]), -largest, largest)
        error = (left[index] - fed_back[index] * step[0]) / rows[index, index]
        left[index + 1 :] -= rows[index, index + 1 :, None] * error
    for current in (round_to_nearest(found.target, step, largest)[0], fed_back[np.argsort(order)]):
        for _ in range(weight_rounding.SWEEPS):
            for index in range(len(order)):
                slope = found.matrix[0, index] @ (current * step[0] - found.target[0])
                wanted = current[index] - slope / (found.matrix[0, index, index] * step[0])
                current[index] = np.clip(np.rint(wanted), -largest, largest)
        tries.append(current[None])
    losses = [rounding_error(found, integers, step) for integers in tries]
    return np.where((losses[1] < losses[0])[:, None], tries[1], tries[0])


def test_groups_are_rounded_apart() -> None:
    one, two = problem(1, 5, 2), problem(2, 5, 2)
    both = LeastSquares(np.concatenate([one.matrix, two.matrix]), np.concatenate([one.target, two.target]))
    step = np.abs(both.target).max(axis=1) / 7
    found = round_sequentially(both, step, 7)
    for index, single in enumerate((one, two)):
        np.testing.assert_array_equal(found[index], round_sequentially(single, step[index : index + 1], 7)[0])


def test_mean_is_held() -> None:
    found = problem(3, 8, 2)
    mean = np.full((1, 8), 3.0)
    covariance = Covariance(found.matrix, found.matrix @ found.target, mean, np.zeros((1, 2)), 200)
    held = hold_mean(found, covariance, np.array([[5.0, -7.0]]))
    np.testing.assert_allclose((held.target * 3.0).sum(axis=1), [[5.0, -7.0]])


def test_weights_make_good_what_inputs_lost() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(500, 4))
    seen = inputs * 0.5
    weights = random.normal(size=(4, 3))
    wanted = inputs @ weights
    covariance = Covariance(
        np.cov(seen.T, bias=True)[np.newaxis],
        ((seen - seen.mean(axis=0)).T @ (wanted - wanted.mean(axis=0)) / 500)[np.newaxis],
        seen.mean(axis=0)[np.newaxis],
        wanted.mean(axis=0)[np.newaxis],
        500,
    )
    free, held = (least_squares(covariance, weights[np.newaxis], ridge).target for ridge in (0.0, 1e9))
    np.testing.assert_allclose(free[0], 2 * weights, rtol=1e-5)
    np.testing.assert_allclose(held[0], weights, rtol=1e-5)


def test_scale_leaves_room_where_the_tail_is_long() -> None:
    random = np.random.default_rng(0)
    flat, long = random.uniform(0, 1, 3000), random.exponential(1, 3000)
    channels = sample_channels(np.stack([flat, long], axis=1))
    scale = choose_scale(channels, Clip(0, 255), uniform=False)
    assert scale[0] * 255 == pytest.approx(1.0, rel=0.1)
    assert 0.7 * long.max() < scale[1] * 255 < 1.7 * long.max()
    assert (coding_error(channels, scale, Clip(0, 255)) <= coding_error(channels, scale * 2, Clip(0, 255))).all()


def test_silent_channel_and_uniform_scale() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3))
    values[:, 1] = 0
    alone = choose_scale(sample_channels(values), Clip(-128, 127), uniform=False)
    together = choose_scale(sample_channels(values), Clip(-128, 127), uniform=True)
    assert (alone > 0).all()
    assert len(set(together)) == 1
    assert (choose_scale(sample_channels(values * 0), Clip(0, 255), uniform=False) == 1).all()
