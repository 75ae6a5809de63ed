"""What a model costs: parameter bytes as stored, peaks of live tensors, and the estimate of cycles."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.rules import LintReport
from npusim.rules.cycles import estimate_cycles, fit_cycles, published_points
from npusim.rules.rulebook import rulebook
from support.lint_models import convolution, dense, lint, requantized
from support.sketch import Sketch


def parameter_bytes(model: bytes) -> int:
    return lint(model).layers[-1].cost.parameter_bytes


def test_parameter_bytes_as_stored() -> None:
    # 8 filters of 3 positions and 4 channels, 8 bits; a bias of 4 and a shift of 1 byte for each
    assert parameter_bytes(convolution(4, 8, (3, 1))) == 8 * 3 * 4 + 8 * 5
    # a byte of 2-bit digits holds four channels: 3 of them take as much as 4
    assert parameter_bytes(convolution(3, 8, (3, 1))) == parameter_bytes(convolution(4, 8, (3, 1)))
    assert parameter_bytes(convolution(1, 8, (3, 1))) == 8 * 3 + 8 * 5
    # 4-bit weights: two to a byte, a bias of 2, a scale of 1 and a shift of 1 byte
    assert parameter_bytes(dense(16, 3, largest=7, scale=200)) == 16 * 3 // 2 + 3 * 4
    assert parameter_bytes(dense(16, 3, largest=1, scale=200)) == 16 * 3 // 4 + 3 * 4
    assert parameter_bytes(requantized(largest=20)) == 16 * 4 + 4 * 5


def peak(model: bytes) -> tuple[int, int, str]:
    memory = lint(model).memory
    assert memory is not None
    return memory.codes_bytes, memory.peak_bytes, memory.step


def test_peak_of_a_chain() -> None:
    # float input 4x4x1 and its codes: 64 + 16 bytes; then 16 + 8x4 codes
    codes, total, step = peak(convolution(4, 8, (1, 1), size=(4, 1)))
    assert (codes, total) == (16 + 32, 64 + 16)
    assert "Add" in step


def test_peak_counts_what_a_branch_keeps_alive() -> None:
    sketch = Sketch(4, 4, 1)
    wide = sketch.layer(sketch.weights(16, 4, 1, 1))
    narrow = sketch.layer(sketch.weights(4, 16, 1, 1), source=wide)
    model = sketch.finish(sketch.graph.saturate(sketch.graph.node("Add", narrow, sketch.codes), (0, 255)))
    # codes of the input (16) live until the residual: 16 + 64 + 16
    assert peak(model)[0] == 16 + 64 + 16


def test_element_wise_sum_works_in_place_and_views_take_nothing() -> None:
    sketch = Sketch(4, 4, 1)
    one, two = (sketch.layer(sketch.weights(4, 4, 3, 1), pads=[1, 0, 1, 0]) for _ in range(2))
    added = sketch.graph.saturate(sketch.graph.node("Add", one, two), (0, 255))
    flat = sketch.graph.node("Flatten", added)
    assert peak(sketch.finish(flat))[0] == 3 * 16


def test_wide_codes_take_two_bytes() -> None:
    narrow, wide = (peak(convolution(4, 4, (1, 1), size=(4, 1), clip=(-end, end)))[0] for end in (127, 255))
    assert (narrow, wide) == (16 + 16, 16 + 32)


def test_share_of_multiply_accumulates() -> None:
    sketch = Sketch(4, 8, 1)
    first = sketch.layer(sketch.weights(6, 4, 1, 1))
    second = sketch.layer(sketch.weights(4, 6, 1, 1), source=first)
    report = lint(sketch.finish(second))
    assert report.npu_share == 0.0
    good = lint(convolution(4, 8, (3, 1)))
    assert (good.npu_share, good.multiply_accumulates) == (1.0, 30 * 8 * 12)


def test_committed_fit_is_the_fit_of_the_published_figures() -> None:
    points = published_points()
    assert len(points) == 16
    fit = fit_cycles(points)
    estimate = network(7)
    features = (7, 64 * 8 * 5, 64 * (8 * 8 * 3 + 4 * 8 * 8 * 5))
    assert [layer.cost.multiply_accumulates for layer in estimate.layers] == [
        64 * 8 * 5,
        64 * 8 * 8 * 3,
        *[64 * 8 * 8 * 5] * 4,
        64 * 8,
    ]
    found = estimate_cycles(estimate)
    assert found.cycles is not None
    expected = sum(price * feature for price, feature in zip(fit.prices, features, strict=True))
    assert abs(found.cycles / expected - 1) < 1e-3
    assert found.error == round(fit.left_out_error, 3)
    assert found.milliseconds == round(found.cycles / 150000, 3)
    assert 0.16 < fit.largest_error < 0.17


def test_features_of_a_published_network() -> None:
    (point,) = (point for point in published_points() if (point.network, point.length) == ("CLS_1k", 128))
    assert point.features == (6, 128 * 8 * 5, 128 * 8 * 8 * 5 + 64 * 16 * 8 * 3 + 16 * 2)


def network(layers: int) -> LintReport:
    """A first convolution, generic ones and a global average on 64 values."""
    sketch = Sketch(1, 64, 1)
    codes = sketch.layer(sketch.weights(8, 1, 5, 1), pads=[2, 0, 2, 0])
    codes = sketch.layer(sketch.weights(8, 8, 3, 1), source=codes, pads=[1, 0, 1, 0])
    for _ in range(layers - 3):
        codes = sketch.layer(sketch.weights(8, 8, 5, 1), source=codes, pads=[2, 0, 2, 0])
    return lint(sketch.finish(sketch.graph.global_average(codes, 0, 1, 6, (0, 255))))


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (network(4), "have 6 to 10 layers, this model has 4"),
        (lint(convolution(3, 8, (3, 1))), "no public figure has layers on the host"),
        (lint(convolution(4, 8, (2, 1), transposed=True, strides=[2, 1])), "no public figure has layers of kind TCONV"),
        (lint(dense(16, 4), "mspm0g5187"), "public figures exist for f28p55x only"),
    ],
)
def test_no_estimate_beyond_the_published_figures(report: LintReport, reason: str) -> None:
    found = estimate_cycles(report)
    assert found.cycles is None
    assert found.reason is not None
    assert reason in found.reason


def test_devices_have_the_published_memory() -> None:
    sizes = {name: (rulebook(name).device.flash, rulebook(name).device.ram) for name in ("f28p55x", "mspm0g5187", "soft")}
    assert sizes == {
        "f28p55x": (1088 * 1024, 133 * 1024),
        "mspm0g5187": (128 * 1024, 32 * 1024),
        "soft": (None, None),
    }
    assert np.isclose(fit_cycles(published_points()).left_out_error, 0.344, atol=5e-4)
