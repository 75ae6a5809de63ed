"""Carriers: chosen by a bound, on both sides of 2^24 and 2^53, and wrong just where the bound says that they could be."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.bounds import analyse
from npusim.engine.carriers import FLOAT32_LIMIT, FLOAT64_LIMIT, Carrier, choose_carrier
from npusim.engine.fast import make_plan
from npusim.program import Accumulating, Clip, IntegerLayer, ShiftFloor, Weighted
from support.carrier_programs import ORDER, choice_of, codes_of, dense, exact, forced
from support.engine_cases import CASES
from support.engine_check import assert_same, every_tensor, reference_tensors, samples_for

BOTH_SIDES = {
    # bound, carrier just below the limit, carrier at the limit; parameters of `dense` for both
    "bias reaches 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT64,
        [{"weights": [255], "codes": (0, 1), "bias": bias, "shift": 3} for bias in (2**24 - 256, 2**24 - 255)],
    ),
    "negative bias reaches 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT64,
        [{"weights": [255], "codes": (-1, 0), "bias": -bias, "shift": 3} for bias in (2**24 - 256, 2**24 - 255)],
    ),
    "sums reach 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT64,
        [{"weights": weights, "codes": (0, 65793), "shift": 5} for weights in ([255], [128, 127, 1])],
    ),
    "partial sums reach 2^24, the sum does not": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT64,
        [{"weights": [255, -255], "codes": codes, "shift": 5} for codes in ((0, 65793), (0, 65794))],
    ),
    "the product with the scale reaches 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT32,
        [
            {"weights": [1], "codes": (0, 1), "bias": bias, "scale": 255, "shift": 9, "clip": (-128, 127)}
            for bias in (65792, 65793)
        ],
    ),
    "the product with a power of two reaches 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32_FOLDED,
        Carrier.FLOAT32,
        [{"weights": [1], "codes": (0, 1), "bias": bias, "scale": -2} for bias in (2**23 - 2, 2**23 - 1)],
    ),
    "plain sums reach 2^24": (
        FLOAT32_LIMIT,
        Carrier.FLOAT32,
        Carrier.FLOAT64,
        [
            {"weights": [1], "codes": (0, 1), "bias": bias, "scale": 255, "shift": 9, "clip": (-128, 127)}
            for bias in (2**24 - 2, 2**24 - 1)
        ],
    ),
    "the product reaches 2^53": (
        FLOAT64_LIMIT,
        Carrier.FLOAT64,
        Carrier.INTEGER,
        [{"weights": [255], "codes": (0, 1), "bias": bias, "shift": 31} for bias in (2**53 - 256, 2**53 - 255)],
    ),
    "the scaled product reaches 2^53": (
        FLOAT64_LIMIT,
        Carrier.FLOAT64,
        Carrier.INTEGER,
        [{"weights": [1], "codes": (0, 1), "bias": bias, "scale": 4, "shift": 0} for bias in (2**51 - 2, 2**51 - 1)],
    ),
}


@pytest.mark.parametrize("what", BOTH_SIDES)
def test_a_layer_at_a_limit_takes_the_next_carrier(what: str) -> None:
    limit, before, after, (below, at) = BOTH_SIDES[what]
    first, second = (dense(**parameters) for parameters in (below, at))
    assert choice_of(first).carrier is before
    assert choice_of(first).limit == limit
    assert choice_of(first).bound <= limit - 1
    assert choice_of(second).carrier is after
    for program in (first, second):
        ends = program.tensors["x"]
        (layer,) = program.layers
        rows = [list(row) for row in product((int(ends.lower), int(ends.upper)), repeat=layer.input_shape[1])]
        assert codes_of(make_plan(program), *rows) == [exact(program, row) for row in rows]


def test_bounds_at_the_limits_are_the_exact_numbers() -> None:
    for what in ("bias reaches 2^24", "negative bias reaches 2^24", "plain sums reach 2^24", "the product reaches 2^53"):
        limit, _, _, (below, at) = BOTH_SIDES[what]
        assert choice_of(dense(**below)).bound == limit - 1, what
        # in float64 the scale counts as well
        assert choice_of(dense(**at)).bound == limit * at.get("scale", 1), what
    assert choice_of(dense([255, -255], (0, 65793))).bound == 2**24 - 1
    assert choice_of(dense([255, -255], (0, 65794))).bound == 2**24 - 1 + 255
    assert choice_of(dense([1], (0, 1), bias=65792, scale=255, shift=9)).bound == 2**24 - 1
    assert choice_of(dense([1], (0, 1), bias=2**23 - 1, scale=-2)).bound == 2**23  # plain: without the scale
    assert choice_of(dense([1], (0, 1), bias=2**51 - 1, scale=4)).bound == 2**53


@pytest.mark.parametrize(
    ("clip", "shift", "carrier"),
    [
        ((-1023, 1023), 14, Carrier.FLOAT32),
        ((-1023, 1024), 14, Carrier.FLOAT64),
        ((-1024, 1023), 14, Carrier.FLOAT64),
        ((0, 511), 15, Carrier.FLOAT32),
        ((0, 512), 15, Carrier.FLOAT64),
    ],
)
def test_codes_and_shift_decide_whether_plain_float32_holds_the_product(
    clip: tuple[int, int], shift: int, carrier: Carrier
) -> None:
    """The largest code plus one, times 2^shift, may be 2^24: what rounds to it is beyond the clip already."""
    assert choice_of(dense([1], (0, 65535), bias=2**20, scale=4095, shift=shift, clip=clip)).carrier is carrier


def test_plain_float32_is_right_at_every_step_of_the_codes() -> None:
    """All sums around each multiple of 2^shift, and far beyond the clip, where float32 rounds."""
    scale, shift, clip = 4095, 14, (-1023, 1023)
    program = dense([1, 255], (-(2**14), 2**14), bias=-3, scale=scale, shift=shift, clip=clip)
    assert choice_of(program).carrier is Carrier.FLOAT32
    steps = [(code * 2**shift) // scale + 3 for code in range(clip[0] - 2, clip[1] + 3)]
    rows = [[value + near, 0] for value in steps for near in (-1, 0, 1)]
    rows += [[value, other] for value in (-(2**14), 0, 2**14) for other in (-(2**14), -9999, 4097, 2**14)]
    assert codes_of(make_plan(program), *rows) == [exact(program, row) for row in rows]


# In each, float arithmetic meets an integer that it cannot hold, whatever the order of summation.
WRONG = {
    # 255 * 65795 is odd and past 2^24; the bias, which is even, takes it back to -1
    "folded, a product past 2^24": (
        Carrier.FLOAT32_FOLDED,
        {"weights": [255], "codes": (0, 65795), "bias": -255 * 65795 - 1},
        [65795],
    ),
    "plain, a product past 2^24": (
        Carrier.FLOAT32,
        {"weights": [255], "codes": (0, 65795), "bias": -255 * 65795 - 1},
        [65795],
    ),
    # 2^24 + 7, of which float32 makes 2^24 + 8: one more after the shift by 3
    "folded, a biased sum past 2^24": (
        Carrier.FLOAT32_FOLDED,
        {"weights": [1], "codes": (0, 1), "bias": 2**24 + 6, "shift": 3},
        [1],
    ),
    # 255 * v = 271 * 2^20 - 1, which float32 rounds to 271 * 2^20
    "plain, a scaled sum past 2^24 within the clip": (
        Carrier.FLOAT32,
        {"weights": [1], "codes": (0, 1), "bias": (271 * 2**20 - 1) // 255 - 1, "scale": 255, "shift": 20, "clip": (0, 511)},
        [1],
    ),
    # 2^53 + 2^31 - 1, of which float64 makes 2^53 + 2^31
    "float64, a biased sum past 2^53": (
        Carrier.FLOAT64,
        {"weights": [1], "codes": (0, 1), "bias": 2**53 + 2**31 - 2, "shift": 31},
        [1],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_carrier_past_its_limit_is_not_chosen_and_would_be_wrong(what: str) -> None:
    carrier, parameters, row = WRONG[what]
    program = dense(**parameters)
    wanted = exact(program, row)
    assert ORDER.index(choice_of(program).carrier) > ORDER.index(carrier)
    assert codes_of(make_plan(program), row) == [wanted]
    wrong = forced(program, lambda _: carrier)
    assert codes_of(wrong, row) != [wanted]
    assert codes_of(wrong, *[row] * 64) != [wanted] * 64


@pytest.mark.parametrize(
    "name",
    [
        "dense_plane",
        "depthwise_twice_plane",
        "three_groups_column_dilated",
        "many_channels",
        "transposed_plane",
        "average_plane",
        "sum_plane",
        "residual_plain",
        "residual_scaled",
        "connected_flattened",
        "carrier_float32",
        "moved_concat",
    ],
)
def test_every_carrier_that_is_proven_gives_the_same(name: str) -> None:
    """All layers with weights take float32 folded, plain, float64 and integers in turn, as far as they may."""
    program = InferenceSession(CASES[name]()).program
    feeds = samples_for(program, 70)
    wanted = reference_tensors(program, feeds)
    plan = make_plan(program)
    ran = []
    for carrier in ORDER:
        if carrier is Carrier.FLOAT32 and not all(fits_plain_float32(layer) for layer in program.layers):
            continue
        chosen = forced(program, lambda choice, carrier=carrier: max(choice.carrier, carrier, key=ORDER.index))
        ran.append({choice.carrier for choice in chosen.carriers.values()})
        assert_same(every_tensor(program, chosen, feeds), wanted, fixed=program.constants)
    assert ran[-2:] == [{Carrier.FLOAT64}, {Carrier.INTEGER}]
    assert ran[0] == {choice.carrier for choice in plan.carriers.values()}


def fits_plain_float32(layer: IntegerLayer) -> bool:
    if not isinstance(layer, Accumulating):
        return True
    largest = max(abs(end) for clip in (layer.requantization.clip, layer.output_clip) for end in (clip.lower, clip.upper))
    return (largest + 1) << int(layer.requantization.reduced()[1].max()) <= FLOAT32_LIMIT


def test_layers_without_weights_have_nothing_to_fold_into() -> None:
    for name in ("average_plane", "sum_plane", "residual_scaled"):
        program = InferenceSession(CASES[name]()).program
        carriers = make_plan(program).carriers
        for layer in program.layers:
            if not isinstance(layer, Weighted):
                assert carriers[layer.name].carrier is Carrier.FLOAT32


def largest_partial_sum(weights: list[int], codes: tuple[int, int]) -> int:
    """By trying every subset of the products at every combination of ends and zero."""
    return max(abs(sum(row)) for row in product(*({0, weight * codes[0], weight * codes[1]} for weight in weights)))


@given(
    st.lists(st.integers(-255, 255), min_size=1, max_size=5),
    st.tuples(st.integers(-300, 0), st.integers(0, 300)) | st.just((5, 9)) | st.just((-9, -5)),
    st.integers(-(2**24), 2**24),
    st.integers(-255, 255),
    st.integers(0, 31),
)
def test_the_bound_is_the_largest_integer_on_the_way(
    weights: list[int], codes: tuple[int, int], bias: int, scale: int, shift: int
) -> None:
    program = dense(weights, codes, bias=bias, scale=scale, shift=shift)
    choice = choose_carrier(analyse(program).layers["layer"])
    (layer,) = program.layers
    assert isinstance(layer, Accumulating)
    plain = largest_partial_sum(weights, codes) + abs(bias)
    reduced = max(1, abs(int(layer.requantization.reduced()[0][0])))
    assert choice.bound == (plain if choice.carrier is Carrier.FLOAT32 else plain * reduced)
    assert choice.bound < choice.limit
    if choice.carrier is not Carrier.FLOAT32_FOLDED:
        assert plain * reduced >= FLOAT32_LIMIT


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.lists(st.integers(-255, 255), min_size=1, max_size=40),
    st.sampled_from([(0, 255), (-128, 127), (0, 65535), (-(2**20), 2**20), (-(2**24), 2**24)]),
    st.integers(-(2**40), 2**40) | st.integers(-(2**24), 2**24),
    st.sampled_from([1, 2, 255, -255, 0, 4095, 2048]),
    st.integers(0, 31),
    st.sampled_from([(-128, 127), (0, 255), (-(2**23), 2**23)]),
    st.randoms(use_true_random=False),
)
def test_whatever_is_chosen_is_exact_on_the_inputs_that_reach_the_bound(
    weights: list[int],
    codes: tuple[int, int],
    bias: int,
    scale: int,
    shift: int,
    clip: tuple[int, int],
    random: npt.Any,
) -> None:
    program = dense(weights, codes, bias=bias, scale=scale, shift=shift, clip=clip)
    highest = [codes[1] if weight > 0 else codes[0] for weight in weights]
    lowest = [codes[0] if weight > 0 else codes[1] for weight in weights]
    rows = [highest, lowest, *([random.randint(*codes) for _ in weights] for _ in range(6))]
    plan = make_plan(program)
    wanted = [exact(program, row) for row in rows]
    assert codes_of(plan, *rows) == wanted
    assert [codes_of(plan, row)[0] for row in rows] == wanted


@given(st.lists(st.tuples(st.integers(-4095, 4095), st.integers(0, 31)), min_size=1, max_size=4))
def test_reduced_scales_are_the_same_multipliers_in_the_fewest_bits(pairs: list[tuple[int, int]]) -> None:
    scale, shift = (np.array(values, np.int64) for values in zip(*pairs, strict=True))
    before = ShiftFloor(np.zeros(len(pairs), np.int64), scale.copy(), shift.copy(), clip=Clip(0, 1))
    small, less = before.reduced()
    np.testing.assert_array_equal(np.ldexp(small, -less), np.ldexp(scale, -shift))
    assert all(value % 2 or value == 0 or left == 0 for value, left in zip(small.tolist(), less.tolist(), strict=True))
    np.testing.assert_array_equal(before.scale, scale)
    np.testing.assert_array_equal(before.shift, shift)


def test_max_pooling_has_no_carrier() -> None:
    program = InferenceSession(CASES["maximum_plane"]()).program
    assert set(make_plan(program).carriers) == {layer.name for layer in program.layers if isinstance(layer, Accumulating)}
