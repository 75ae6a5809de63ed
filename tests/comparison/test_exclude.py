"""Samples that are left out of a comparison, each sample's own SQNR, all layers in float at once, and scales that part."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import npusim
from npusim.cli.compare_text import print_comparison
from npusim.comparison.metrics import quantile
from support import ROOT
from support.command_line import call
from support.float_pairs import FIRST, FIRST_BIAS, SECOND, SECOND_BIAS, PairBuilder, network, samples

GOLDEN = ROOT / "golden"


@cache
def pair() -> tuple[bytes, bytes]:
    return network().models()


def test_samples_are_left_out_and_the_others_keep_their_numbers() -> None:
    x = samples()
    kept = np.array([1, 2, *range(5, len(x))])
    labels = np.arange(len(x)) % 2
    found = npusim.compare(*pair(), x, labels=labels, exclude=[0, 3, 4, 3])
    other = npusim.compare(*pair(), x[kept], labels=labels[kept])
    assert (found.totals.samples, found.totals.excluded_samples) == (len(kept), 3)
    assert other.totals.excluded_samples == 0
    (mine,), (its,) = found.outputs, other.outputs
    assert mine.sqnr_db == its.sqnr_db
    assert [one.sample for one in mine.worst] == [kept[one.sample] for one in its.worst]
    assert mine.classification is not None
    assert its.classification is not None
    assert mine.classification.float_accuracy == its.classification.float_accuracy
    assert [one.sample for one in mine.classification.flips] == [kept[one.sample] for one in its.classification.flips]


@pytest.mark.parametrize(
    ("excluded", "message"), [([9999], "sample 9999 is to be left out"), ([-1], "sample -1"), (range(2), "all 2 samples")]
)
def test_samples_that_cannot_be_left_out(excluded: list[int], message: str) -> None:
    with pytest.raises(npusim.InputError, match=message):
        npusim.compare(*pair(), samples()[:2], exclude=excluded)


def test_samples_are_left_out_only_in_front_of_a_float_model() -> None:
    with pytest.raises(npusim.UsageError, match="excluded samples"):
        npusim.compare(pair()[0], "ort", samples(), exclude=[0])


def test_numbers_and_spans_on_the_command_line() -> None:
    arguments = ["compare", GOLDEN / "keywords_w8.onnx", "--against", GOLDEN / "keywords_float.onnx"]
    arguments += ["--data", GOLDEN / "keywords_samples.npz", "--quiet", "--exclude"]
    outcome = call(*arguments, "3, 17,40-59")
    assert (outcome.code, "42 samples" in outcome.out) == (0, True)
    for wrong, why in (("a", "no number of a sample"), ("5-3", "ends before it begins"), ("0-99999999", "more than")):
        outcome = call(*arguments, wrong)
        assert (outcome.code, why in outcome.err) == (2, True)


@pytest.mark.parametrize(("share", "wanted"), [(0.0, -np.inf), (0.1, -np.inf), (0.3, 5.0), (0.5, 7.0), (0.9, np.inf)])
def test_a_share_of_values(share: float, wanted: float) -> None:
    assert quantile(np.array([7.0, np.inf, 5.0, -np.inf, 8.0]), share) == wanted


def test_one_sample_that_is_far_off_moves_the_mean_and_not_the_median() -> None:
    x = samples()
    bad = x.copy()
    bad[3] = 1000 * np.abs(bad[3]) + 1000
    (first,), (second,) = npusim.compare(*pair(), x).outputs, npusim.compare(*pair(), bad).outputs
    assert second.sqnr_db < first.sqnr_db - 10
    assert abs(second.sample_sqnr_median_db - first.sample_sqnr_median_db) < 1
    float_, codes = (npusim.InferenceSession(model).run(None, {"input": x})[0] for model in pair()[::-1])
    scale = first.scale
    each = [
        10 * np.log10(np.square(float_[at], dtype=np.float64).sum() / np.square(float_[at] - scale * codes[at]).sum())
        for at in range(len(x))
    ]
    assert first.sample_sqnr_median_db == pytest.approx(sorted(each)[(len(x) + 1) // 2 - 1])
    assert first.sample_sqnr_tenth_db == pytest.approx(sorted(each)[-(-len(x) // 10) - 1])


def test_all_layers_in_float_at_once_leave_no_error_where_all_of_it_is_theirs() -> None:
    made = PairBuilder((3, 8, 1))
    made.convolution(FIRST, FIRST_BIAS, shift=6, weight_change=np.ones_like(FIRST))
    made.convolution(SECOND, SECOND_BIAS, shift=6, weight_change=np.ones_like(SECOND))
    found = npusim.compare(*made.models(), samples())
    single = [one.effect.if_float_db for one in found.layers if one.effect is not None and one.weight_bits is not None]
    assert max(single) < 40
    assert found.totals.weights_float_sqnr_db > 100


@pytest.mark.parametrize(("times", "told"), [(1.0, False), (1.03, False), (1.1, True), (2.0, True)])
def test_a_factor_at_the_output_that_is_not_the_scale_of_the_codes(
    times: float, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made = network()
    factor = made.quantized.constant(np.float32(made.scale * times))
    real = made.quantized.node("Mul", made.codes, factor)
    result = npusim.compare(made.quantized.model(real), made.models()[1], samples())
    found = [one for one in result.findings if one.rule in ("scales_apart", "output_scale")]
    print_comparison(result.result, result.findings, result.inputs, 100)
    printed = " ".join(capsys.readouterr().out.split())
    assert bool(found) == told
    assert ("agree with the model's own output scale within" in printed) != told
    for one in found:
        assert f"{made.scale * times:.4g}" in one.message
        assert f"{made.scale:.4g}" in one.message


def test_each_sample_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    result = npusim.compare(GOLDEN / "keywords_w8.onnx", GOLDEN / "keywords_float.onnx")
    print_comparison(result.result, result.findings, result.inputs, 100)
    assert "sample by sample: median" in " ".join(capsys.readouterr().out.split())
