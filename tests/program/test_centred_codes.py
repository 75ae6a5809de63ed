"""Codes less their zero point inside, codes of the file in inputs, outputs and traces, in the order of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.engine.runner import run_chunked
from npusim.engine.selection import make_runner
from npusim.program import Batching, Clip, Convolution, Program, ShiftFloor, Tensor, Window

CHANNELS_LAST = (0, 2, 3, 1)


def program_of(weights: np.ndarray, zero_points: tuple[int, int], sizes: tuple[int, int]) -> Program:
    """A padded convolution, uint8 to int8, channels last in the file."""
    outputs, inputs = weights.shape[:2]
    one = np.ones(outputs, np.int64)
    clip = Clip(-128 - zero_points[1], 127 - zero_points[1])
    layer = Convolution(
        name="layer",
        inputs=("x",),
        output="y",
        input_shape=(1, inputs, *sizes),
        output_shape=(1, outputs, *sizes),
        nodes=("layer",),
        accumulator_shape=(1, outputs, *sizes),
        channel_axis=1,
        requantization=ShiftFloor(8 * one, 3 * one, 5 * one, clip=clip),
        taps=(),
        weights=weights,
        weight_bits=8,
        window=Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        group=1,
    )
    held = np.dtype(np.int32)
    x = Tensor("x", layer.input_shape, np.dtype(np.uint8), held, -zero_points[0], 255 - zero_points[0])
    y = Tensor("y", layer.output_shape, np.dtype(np.int8), held, clip.lower, clip.upper)
    tensors = {
        "x": replace(x, scale=0.5, zero_point=zero_points[0], order=CHANNELS_LAST),
        "y": replace(y, scale=0.25, zero_point=zero_points[1], order=CHANNELS_LAST),
    }
    return Program(("x",), ("y",), (layer,), tensors, {}, {}, 17, Batching.STACKED)


def by_definition(x: np.ndarray, weights: np.ndarray, zero_points: tuple[int, int]) -> np.ndarray:
    """Channels last, padded with the zero point, in Python's integers."""
    samples, height, width, inputs = x.shape
    result = np.empty((samples, height, width, len(weights)), np.int8)
    for place in np.ndindex(result.shape):
        sample, row, column, output = place
        total = 0
        for a, b, channel in np.ndindex(3, 3, inputs):
            i, j = row + a - 1, column + b - 1
            code = int(x[sample, i, j, channel]) if 0 <= i < height and 0 <= j < width else zero_points[0]
            total += (code - zero_points[0]) * int(weights[output, channel, a, b])
        result[place] = min(max((((total + 8) * 3) >> 5) + zero_points[1], -128), 127)
    return result


@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(0, 255), st.integers(-128, 127)),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_zero_points_and_orders_stand_at_the_edges_only(
    engine: str, seed: int, zero_points: tuple[int, int], sizes: tuple[int, int]
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.integers(-128, 128, (2, 3, 3, 3))
    program = program_of(weights, zero_points, sizes)
    x = generator.integers(0, 256, (3, *sizes, 3)).astype(np.uint8)
    found = run_chunked(program, make_runner(program, engine), {"x": x}, ["x", "y"])
    wanted = by_definition(x, weights, zero_points)
    assert found["y"].min() >= program.tensors["y"].lower
    for name, values in (("x", x), ("y", wanted)):
        tensor = program.tensors[name]
        for given_back in (tensor.as_declared(found[name]), tensor.as_shown(found[name])):
            assert given_back.dtype == values.dtype
            np.testing.assert_array_equal(given_back, values)
        np.testing.assert_array_equal(tensor.as_held(values), found[name])
    assert program.tensors["y"].declared_shape == (1, *sizes, 2)


def test_without_zero_point_nothing_is_copied() -> None:
    tensor = Tensor("x", (1, 2), np.dtype(np.float32), np.dtype(np.uint8), 0, 255)
    codes, floats = np.zeros((4, 2), np.uint8), np.zeros((4, 2), np.float32)
    assert tensor.as_held(codes) is codes
    assert tensor.as_held(floats).dtype == np.uint8
    assert replace(tensor, stored=np.dtype(np.float32)).as_held(floats) is floats
    assert tensor.as_shown(codes) is codes
    assert tensor.as_declared(codes).dtype == np.float32


@pytest.mark.parametrize("zero_point", [0, 7])
def test_a_number_without_axes_stays_one(zero_point: int) -> None:
    kinds = np.dtype(np.float32 if zero_point == 0 else np.uint8), np.dtype(np.int16)
    tensor = Tensor("x", (), *kinds, -7, 248, zero_point=zero_point)
    held = tensor.as_held(np.asarray(9, kinds[0]))
    assert (type(held), held.shape, held.dtype, int(held)) == (np.ndarray, (), kinds[1], 9 - zero_point)
    declared = tensor.as_declared(held)
    assert (type(declared), declared.shape, declared.dtype, int(declared)) == (np.ndarray, (), kinds[0], 9)
