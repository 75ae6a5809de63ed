"""Layers of models with zero points on the fast engine's buffers: equal to the reference engine, whatever the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.engine.fast import direct, hosting
from npusim.engine.fast.direct import runs_on_buffers
from npusim.engine.fast.plan import make_plan
from npusim.kernels.qlinear import Affine
from npusim.kernels.quantization import quantize
from npusim.program import Clip, Direct, Tensor, Window
from npusim.program.direct import FusedAverage
from npusim.search.sampling import generate_inputs
from support.qdq_networks import qdq_network
from support.tflite_models import one_operator, tensor


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "int8"]),
    arithmetic=st.sampled_from(["ort", "onnx"]),
    seed=st.integers(0, 2**20),
    count=st.sampled_from([1, 3, 17]),
)
def test_both_engines_agree_on_every_tensor(dtype: str, arithmetic: str, seed: int, count: int) -> None:
    model = qdq_network(dtype, seed)
    fast, reference = (InferenceSession(model, engine=name, arithmetic=arithmetic) for name in ("fast", "reference"))
    feeds = generate_inputs(fast.program, count, seed=seed)
    mine, wanted = fast.trace(feeds), reference.trace(feeds)
    assert set(mine) == set(wanted)
    for name in wanted:
        assert mine[name].dtype == wanted[name].dtype
        assert np.array_equal(mine[name], wanted[name]), name
    assert all(np.array_equal(a, b) for a, b in zip(fast.run(None, feeds), reference.run(None, feeds), strict=True))


def test_8_bit_layers_are_looked_up_and_16_bit_pairs_are_not() -> None:
    program = InferenceSession(qdq_network("uint8")).program
    layers = [index for index, step in enumerate(program.steps) if isinstance(step, Direct)]
    native = make_plan(program).native
    looked_up = {program.steps[index].kind for index in layers if index in native}
    assert looked_up == {"TABLE", "ADD", "MUL", "CONCAT", "AVGPOOL"}
    wide = InferenceSession(qdq_network("int16", opset=21)).program
    found = {step.kind: runs_on_buffers(step, wide) for step in wide.steps if isinstance(step, Direct)}
    assert found == {"TABLE": True, "ADD": False, "MUL": False, "CONCAT": True, "AVGPOOL": False}


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_both_engines_agree_with_16_bits(dtype: str) -> None:
    model = qdq_network(dtype, opset=21)
    fast, reference = (InferenceSession(model, engine=name) for name in ("fast", "reference"))
    feeds = generate_inputs(fast.program, 9, seed=2)
    mine, wanted = fast.trace(feeds), reference.trace(feeds)
    assert all(np.array_equal(mine[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("arithmetic", ["tflm", "litert", "xnnpack"])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("other", ["same", "constant", "broadcast", "broadcast constant"])
def test_pairs_of_tflite_codes_are_equal(arithmetic: str, name: str, other: str) -> None:
    """Broadcast operands, constants, and elements that vectors leave over, for which kernels have another formula."""
    random = np.random.default_rng(4)
    shape = (1, 3, 7, 5)
    second = (1, 1, 1, 5) if "broadcast" in other else shape
    data = random.integers(-128, 128, second) if "constant" in other else None
    scale = 0.4 if name == "MUL" else 0.15
    parts = [tensor("a", "INT8", shape, 0.1, 7), tensor("b", "INT8", second, 0.05, 3, data)]
    content = one_operator(name, parts, tensor("y", "INT8", shape, scale, -9), {"activation": "RELU"})
    fast, reference = (InferenceSession(content, engine=engine, arithmetic=arithmetic) for engine in ("fast", "reference"))
    feeds = {
        argument.name: random.integers(-128, 128, (33, *argument.shape[1:])).astype(np.int8) for argument in fast.get_inputs()
    }
    (mine,), (wanted,) = fast.run(None, feeds), reference.run(None, feeds)
    assert np.array_equal(mine, wanted)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_special_numbers_become_codes_and_codes_become_numbers_alike(dtype: str) -> None:
    """Ties, the smallest and the largest numbers, and zeros of both signs at the input; the sign of a zero at the output."""
    model = qdq_network(dtype, opset=21)
    fast, reference = (InferenceSession(model, engine=name) for name in ("fast", "reference"))
    special = np.array([0.0, -0.0, 0.015, -0.015, 1e-30, -1e-30, 3e38, -3e38], np.float32)
    x = np.random.default_rng(3).choice(special, (40, 2, 8, 8))
    mine, wanted = fast.trace({"input": x}), reference.trace({"input": x})
    for name in wanted:
        assert np.array_equal(mine[name].view(np.uint8), wanted[name].view(np.uint8)), name
    native = make_plan(fast.program).native
    assert {0, len(fast.program.steps) - 1} <= native


def test_what_is_not_a_number_becomes_the_code_that_the_operator_gives() -> None:
    real = np.array([[np.nan, np.inf, -np.inf, 1e30, 0.5, -0.5]], np.float32)
    wanted = quantize(real, np.array(1, np.float32), np.array(7, np.uint8), dtype=np.dtype(np.uint8))
    made = Tensor("y", real.shape, np.dtype(np.uint8), np.dtype(np.int16), -7, 248, scale=1.0, zero_point=7)
    found = np.empty_like(real)
    for call in hosting._scaled(real, found, np.float32(1), made):
        call()
    assert (found + 7).tolist() == wanted.tolist()


@given(st.data())
def test_means_are_those_of_the_kernel(data: st.DataObject) -> None:
    """Windows that overlap or leave cells out, scales that make ties, odd zero points, activations."""
    rank = data.draw(st.integers(1, 2))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    scales = [data.draw(st.sampled_from([0.5, 0.25, 0.1, 0.0037])) for _ in range(2)]
    points = [data.draw(st.integers(0, 255)) for _ in range(2)]
    source, result = (Affine(float(np.float32(scale)), point, 0, 255) for scale, point in zip(scales, points, strict=True))
    clip = Clip(data.draw(st.sampled_from([-points[1], 0])), 255 - points[1])
    window = Window(kernel, strides, (0,) * (2 * rank), (1,) * rank)
    average = FusedAverage(source, result, clip, window, data.draw(st.booleans()))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, (4, 3, *(7, 6)[:rank])) - points[0]
    wanted = average.codes(x)
    turned = np.ascontiguousarray(x.astype(np.float32).transpose(*range(2, 2 + rank), 1, 0))
    found = np.empty((*wanted.shape[2:], 3, 4), np.float32)
    for call in direct._averaged(average, turned, found):
        call()
    assert np.array_equal(found.transpose(rank + 1, rank, *range(rank)), wanted)
