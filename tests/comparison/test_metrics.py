"""Metrics: values computed by hand, what they are where formulas divide by zero, and sums that merge."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npusim.comparison import metrics
from npusim.comparison.code_sums import ClassSums, CodeSums, Histogram
from npusim.comparison.sums import ErrorSums
from npusim.errors import InputError

REFERENCE = np.array([3.0, -4.0, 0.0, 12.0])
APPROXIMATION = np.array([2.0, -4.0, 1.0, 15.0])


def value(metric, reference, approximation) -> float:
    found = metric(ErrorSums.of(np.asarray(reference, np.float64), np.asarray(approximation, np.float64)))
    assert found.shape == (1,)
    return float(found[0])


def test_metrics_are_what_their_formulas_say() -> None:
    # errors -1, 0, 1, 3; sum r^2 = 169, sum e^2 = 11, sum a^2 = 246, sum ra = 6 + 16 + 0 + 180 = 202
    assert value(metrics.sqnr_db, REFERENCE, APPROXIMATION) == pytest.approx(10 * math.log10(169 / 11), rel=1e-14)
    assert value(metrics.cosine, REFERENCE, APPROXIMATION) == pytest.approx(202 / math.sqrt(169 * 246), rel=1e-14)
    assert value(metrics.mean_error, REFERENCE, APPROXIMATION) == 0.75
    assert value(metrics.mean_absolute_error, REFERENCE, APPROXIMATION) == 1.25
    assert value(metrics.root_mean_square_error, REFERENCE, APPROXIMATION) == math.sqrt(11 / 4)
    assert value(metrics.largest_error, REFERENCE, APPROXIMATION) == 3.0
    # mean of r is 11/4, sum (r - mean)^2 = 169 - 121/4
    assert value(metrics.r_squared, REFERENCE, APPROXIMATION) == pytest.approx(1 - 11 / (169 - 121 / 4), rel=1e-14)
    # 2/5 + 0 + 2 + 6/27, each 2|e| / (|r| + |a|)
    assert value(metrics.smape, REFERENCE, APPROXIMATION) == pytest.approx(25 * (2 / 5 + 2 + 6 / 27), rel=1e-14)
    assert value(metrics.best_scale, REFERENCE, APPROXIMATION) == 202 / 246
    left = 169 - 202**2 / 246
    assert value(metrics.fitted_sqnr_db, REFERENCE, APPROXIMATION) == pytest.approx(10 * math.log10(169 / left), rel=1e-12)


@pytest.mark.parametrize("reference", [[0.0, 0.0], [1.0, 1.0], [1.0, -2.0]])
def test_no_error_is_perfect_whatever_the_signal(reference) -> None:
    assert value(metrics.sqnr_db, reference, reference) == math.inf
    assert value(metrics.cosine, reference, reference) == pytest.approx(1.0, abs=1e-15)
    assert value(metrics.r_squared, reference, reference) == 1.0
    assert value(metrics.smape, reference, reference) == 0.0
    assert value(metrics.mean_error, reference, reference) == 0.0


def test_a_zero_signal_with_an_error_is_as_bad_as_can_be() -> None:
    zero, wrong = [0.0, 0.0], [1.0, -1.0]
    assert value(metrics.sqnr_db, zero, wrong) == -math.inf
    assert value(metrics.cosine, zero, wrong) == 0.0
    assert value(metrics.r_squared, zero, wrong) == -math.inf
    assert value(metrics.smape, zero, wrong) == 200.0
    assert value(metrics.best_scale, zero, wrong) == 0.0
    assert value(metrics.r_squared, [2.0, 2.0], [2.0, 3.0]) == -math.inf
    assert math.isnan(value(metrics.best_scale, [1.0], [0.0]))
    assert value(metrics.cosine, [1.0], [0.0]) == 0.0
    assert value(metrics.fitted_sqnr_db, [1.0], [0.0]) == 0.0
    assert value(metrics.fitted_sqnr_db, [0.0], [0.0]) == math.inf


@pytest.mark.parametrize(
    ("reference", "approximation", "says"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "nothing is reshaped"),
        (np.zeros((2, 1)), np.zeros(2), "nothing is reshaped"),
        (np.zeros(0), np.zeros(0), "no value"),
        (np.array([1.0, np.nan]), np.zeros(2), "NaN or infinity"),
        (np.zeros(2), np.array([np.inf, 0.0]), "NaN or infinity"),
        (np.array(["a"]), np.array(["a"]), "wanted numbers"),
    ],
)
def test_what_cannot_be_compared_is_an_error(reference, approximation, says) -> None:
    with pytest.raises(InputError, match=says):
        ErrorSums.of(reference, approximation)


def test_infinities_that_cancel_are_found() -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        ErrorSums.of(np.array([np.inf, -np.inf]), np.zeros(2))


def test_large_finite_values_are_no_infinity() -> None:
    huge = np.full(4, 3e38, np.float32)
    assert value(metrics.sqnr_db, huge, huge) == math.inf


def test_sums_of_pieces_are_the_sums_of_the_whole() -> None:
    generator = np.random.default_rng(1)
    reference, approximation = generator.integers(-50, 50, (2, 30, 4, 3)).astype(np.float64)
    whole = ErrorSums.of(reference, approximation, channel_axis=1)
    cuts = [slice(0, 1), slice(1, 17), slice(17, 30)]
    parts = [ErrorSums.of(reference[cut], approximation[cut], channel_axis=1) for cut in cuts]
    merged = parts[0] + parts[1] + parts[2]
    for name in ("count", "reference_energy", "error_energy", "product", "error", "absolute_error", "largest_error"):
        # integers: every sum is exact, whatever the order
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name
    np.testing.assert_allclose(merged.reference_deviation, whole.reference_deviation, rtol=1e-12)
    np.testing.assert_allclose(metrics.r_squared(merged), metrics.r_squared(whole), rtol=1e-12)
    total = ErrorSums.of(reference, approximation)
    assert whole.total().total_count == total.total_count == 360
    np.testing.assert_allclose(metrics.r_squared(whole.total()), metrics.r_squared(total), rtol=1e-12)
    for channel in range(4):
        alone = ErrorSums.of(reference[:, channel], approximation[:, channel])
        assert metrics.sqnr_db(whole)[channel] == metrics.sqnr_db(alone)[0]


def test_the_deviation_does_not_cancel() -> None:
    # with sums of squares, 1e9 would swallow the deviation
    reference = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    sums = ErrorSums.of(reference[:2], reference[:2]) + ErrorSums.of(reference[2:], reference[2:])
    assert float(sums.reference_deviation[0]) == 5.0


def test_merging_other_channels_is_refused() -> None:
    two, three = (ErrorSums.of(np.zeros((1, size)), np.zeros((1, size)), channel_axis=1) for size in (2, 3))
    with pytest.raises(InputError, match="cannot be merged"):
        _ = two + three
    with pytest.raises(InputError, match="no channel axis 3"):
        ErrorSums.of(np.zeros((2, 2)), np.zeros((2, 2)), channel_axis=3)


def test_codes_and_their_rails() -> None:
    codes = np.array([[0, 255, 255, 7], [3, 3, 3, 3]])
    sums = CodeSums.of(codes, lower=0, upper=255, channel_axis=0)
    assert sums.share_on_lower.tolist() == [0.25, 0.0]
    assert sums.share_on_upper.tolist() == [0.5, 0.0]
    assert sums.range_used.tolist() == [1.0, 1 / 256]
    assert sums.is_dead.tolist() == [False, True]
    total = (sums + CodeSums.of(codes + 1, lower=0, upper=255, channel_axis=0)).total()
    assert (float(total.smallest[0]), float(total.largest[0]), float(total.count[0])) == (0.0, 256.0, 16.0)
    assert float(total.on_upper[0]) == 4.0
    with pytest.raises(InputError, match="another range"):
        _ = sums + CodeSums.of(codes, lower=-128, upper=127, channel_axis=0)


def test_histograms_count_every_value_once() -> None:
    values = np.array([-9.0, -1.0, -0.5, 0.0, 0.99, 1.0, 50.0])
    counted = Histogram.of(values, start=-1.0, width=1.0, bins=2)
    assert counted.counts.tolist() == [[2, 2]]
    assert (counted.below.tolist(), counted.above.tolist(), counted.total) == ([1], [2], 7)
    assert counted.edges.tolist() == [-1.0, 0.0, 1.0]
    both = Histogram.of(np.stack([values, values + 100]), start=-1.0, width=1.0, bins=2, channel_axis=0)
    assert both.counts.tolist() == [[2, 2], [0, 0]]
    assert both.above.tolist() == [2, 7]
    assert (both + both).over_channels().counts.tolist() == [[4, 4]]
    with pytest.raises(InputError, match="different bins"):
        _ = counted + Histogram.of(values, start=0.0, width=1.0, bins=2)
    with pytest.raises(InputError, match="no value"):
        Histogram.of(np.zeros(0), start=0.0, width=1.0, bins=2)


def test_classes_found() -> None:
    sums = ClassSums.of(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1]), classes=3)
    assert sums.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]
    assert metrics.accuracy(sums) == 0.5
    assert metrics.accuracy(sums + ClassSums.of(np.array([1]), np.array([1]), classes=3)) == 0.6
    for labels, found, says in (
        (np.array([0, 3]), np.array([0, 1]), "from 0 to 2"),
        (np.array([-1, 1]), np.array([0, 1]), "from 0 to 2"),
        (np.array([0.0]), np.array([0]), "from 0 to 2"),
        (np.zeros(0, np.int64), np.zeros(0, np.int64), "at least one"),
        (np.array([0]), np.array([0, 1]), "one label a sample"),
    ):
        with pytest.raises(InputError, match=says):
            ClassSums.of(labels, found, classes=3)
