"""Programs of one layer whose bound can be chosen to the last unit, and plans that take a carrier by force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from npusim import Program
from npusim.engine.carriers import Carrier, CarrierChoice, choose_carrier
from npusim.engine.fast import FastPlan, make_plan
from npusim.program import (
    INT32,
    Accumulating,
    ArithmeticTap,
    Batching,
    Clip,
    FullyConnected,
    ShiftFloor,
    Tensor,
    Weighted,
)

__all__ = ["ORDER", "choice_of", "codes_of", "dense", "exact", "forced"]

ORDER = (Carrier.FLOAT32_FOLDED, Carrier.FLOAT32, Carrier.FLOAT64, Carrier.INTEGER)
"""From the fastest to the one that is always exact."""


def dense(
    weights: list[int],
    codes: tuple[int, int],
    *,
    bias: int = 0,
    scale: int = 1,
    shift: int = 0,
    clip: tuple[int, int] = (-(2**23), 2**23),
) -> Program:
    """A program of one fully connected layer with one output, straight on inputs that hold codes of a range."""
    count = len(weights)
    parameters = [np.array([value], np.int64) for value in (bias, scale, shift)]
    nothing, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    layer = FullyConnected(
        name="layer",
        inputs=("x",),
        output="y",
        input_shape=(1, count),
        output_shape=(1, 1),
        accumulator_shape=(1, 1),
        channel_axis=1,
        weights=np.array(weights, np.int64).reshape(count, 1),
        weight_bits=8,
        requantization=ShiftFloor(*parameters, clip=Clip(*clip)),
        taps=(ArithmeticTap("sum", ShiftFloor(nothing, one, nothing, clip=INT32), floored=False),),
        nodes=("layer",),
    )
    tensors = {
        "x": Tensor("x", (1, count), np.dtype(np.float32), np.dtype(np.int32), *codes),
        "sum": Tensor("sum", (1, 1), np.dtype(np.float32), np.dtype(np.int64), -np.inf, np.inf),
        "y": Tensor("y", (1, 1), np.dtype(np.float32), np.dtype(np.int32), *clip),
    }
    return Program(("x",), ("y",), (layer,), tensors, {}, {}, 17, Batching.STACKED)


def choice_of(program: Program) -> CarrierChoice:
    return make_plan(program).carriers["layer"]


def forced(program: Program, decide: Callable[[CarrierChoice], Carrier]) -> FastPlan:
    """A plan in which `decide` gives the carrier of each layer, whether it is proven or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "npusim.engine.fast.plan.choose_carrier",
            lambda bounds: CarrierChoice(decide(choose_carrier(bounds)), 0, 0),
        )
        return make_plan(program)


def codes_of(plan: FastPlan, *rows: list[int]) -> list[int]:
    x = np.array(rows, np.float32)
    assert x.tolist() == [list(map(float, row)) for row in rows]
    return plan.run({"x": x}, ["y"])["y"][:, 0].tolist()


def exact(program: Program, row: list[int]) -> int:
    """The layer in Python's integers."""
    (layer,) = program.layers
    assert isinstance(layer, Weighted)
    assert isinstance(layer, Accumulating)
    accumulator = sum(code * int(weight) for code, weight in zip(row, layer.weights[:, 0], strict=True))
    scaled = (accumulator + int(layer.requantization.bias[0])) * int(layer.requantization.scale[0])
    clip = layer.requantization.clip
    return min(max(scaled >> int(layer.requantization.shift[0]), clip.lower), clip.upper)
