"""Normal forms: equal for every spelling of a network, different wherever some input shows a difference (all are tried)."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession
from npusim.graph import Node
from npusim.program import Convolution, FullyConnected, HostOperation, Program, Weighted
from npusim.program.forms import Maps, StepFunction, outline, step_functions
from npusim.program.shift_floor import ShiftFloor
from npusim.verification.equality import EqualityVerdict, prove_programs_equal
from support.builders import DIALECTS
from support.small_networks import ALL_INPUTS, changed, small
from support.strategies import Network, networks

Numbers = npt.NDArray[np.int64]


def forms_of(*programs: Program) -> list[tuple[Numbers, ...]]:
    maps = Maps()
    return [outline(program, maps, {name: place for place, name in enumerate(program.inputs)}).outputs for program in programs]


def are_the_same(one: Program, other: Program) -> bool:
    first, second = forms_of(one, other)
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def test_examples() -> None:
    assert doctest.testmod(step_functions).failed == 0


def test_functions_differ_where_their_values_do() -> None:
    one = StepFunction.of(np.array([-3, 0, 4]), np.array([1, 2, 3]), 9)
    other = StepFunction.of(np.array([-3, 1, 4]), np.array([1, 2, 5]), 9)
    assert one.runs_unlike(other).tolist() == [[0, 0], [4, 9]]
    assert one.runs_unlike(one).size == 0
    zeros = StepFunction.identity(0, 0).then(lambda values: -values)
    assert zeros.key != StepFunction.identity(0, 0).key, "0 and -0 are different values"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_says_the_same(dialect: str) -> None:
    network = small(5)
    programs = [InferenceSession(network.model(name)).program for name in ("ts17", dialect)]
    assert are_the_same(*programs)


@pytest.mark.slow
@settings(max_examples=25)
@given(networks(), st.integers(0, 2**32 - 1))
def test_channels_in_another_order_behind_any_layer(network: Network, seed: int) -> None:
    program = InferenceSession(network.model).program
    generator = np.random.default_rng(seed)
    weighted = [layer for layer in program.layers if isinstance(layer, Convolution | FullyConnected)]
    grouped = [layer for layer in weighted if isinstance(layer, FullyConnected) or layer.group == 1]
    if not grouped:
        return
    layer = grouped[int(generator.integers(len(grouped)))]
    order = generator.permutation(layer.requantization.channels)
    assert are_the_same(program, _shuffled(program, layer, order))


def _shuffled(program: Program, layer: Weighted, order: Numbers) -> Program:
    """The program with the outputs of a layer in another order, and a step behind it that puts them back."""
    tensor, axis = program.tensors[layer.output], layer.output_channel_axis
    weights = layer.weights[:, order] if isinstance(layer, FullyConnected) else layer.weights[order]
    inside = replace(tensor, name="shuffled")
    changed_layer = replace(
        layer, output="shuffled", weights=weights, requantization=layer.requantization.for_channels(order.tolist()), taps=()
    )
    if layer.residual is not None:
        return program  # its operand would have to be put in that order as well
    node = Node("Gather", "back", ("shuffled", "order"), (layer.output,), {"axis": axis})
    back = HostOperation("back", "Gather", node, "it puts channels back")
    steps = []
    for step in program.steps:
        steps.extend([changed_layer, back] if step is layer else [step])
    constants = {**program.constants, "order": np.argsort(order)}
    return replace(program, steps=tuple(steps), tensors={**program.tensors, "shuffled": inside}, constants=constants)


@pytest.mark.slow
@settings(max_examples=25)
@given(networks())
def test_factors_of_weights_and_clips_that_change_nothing(network: Network) -> None:
    program = InferenceSession(network.model).program
    doubled = tuple(_doubled(step) if isinstance(step, Weighted) else step for step in program.steps)
    assert are_the_same(program, replace(program, steps=doubled))


def _doubled(layer: Weighted) -> Weighted:
    part = layer.requantization
    assert isinstance(part, ShiftFloor)
    twice = replace(part, bias=part.bias * 2, shift=part.shift + 1)
    return replace(layer, weights=layer.weights * 2, requantization=twice, taps=())


@settings(max_examples=300)
@given(
    st.integers(-(2**24) + 1, 2**24 - 1),
    st.integers(0, 20),
    st.one_of(
        st.integers(-(2**26), 2**26).map(lambda units: units * 2.0**-149),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.sampled_from([np.floor, np.rint]),
)
def test_a_power_of_two_may_be_part_of_a_whole_factor(factor: int, shift: int, x: float, rounded: np.ufunc) -> None:
    """What the form of an input stage takes for one multiplication."""
    value, whole, power = (np.float32(part) for part in (x, factor, 2.0**-shift))
    with np.errstate(over="ignore"):
        apart, together = value * whole * power, value * np.float32(factor * 2.0**-shift)
    codes = [float(np.clip(rounded(part), -(2**31), 2**31 - 1)) for part in (apart, together)]
    assert codes[0] == codes[1]


def _judged(seeds: range) -> tuple[int, int]:
    """How many of some changed networks differ at some input, and for how many of those one was found."""
    differing = shown = 0
    for seed in seeds:
        network = small(seed)
        one, other = (InferenceSession(part.model()) for part in (network, changed(network, seed + 1)))
        outputs = [session.run(None, {"input": ALL_INPUTS})[0] for session in (one, other)]
        equal = bool(np.array_equal(*outputs))
        verdict = prove_programs_equal(one, other, seconds=60, evaluations=3000, seed=seed).verdict
        assert equal or verdict is not EqualityVerdict.PROVEN, f"seed {seed}: proven equal, though an input shows a difference"
        assert not (equal and verdict is EqualityVerdict.DIFFERENT), f"seed {seed}: called different, though no input shows it"
        differing += not equal
        shown += verdict is EqualityVerdict.DIFFERENT
    return differing, shown


def test_what_differs_at_some_input_is_never_proven_equal() -> None:
    differing, shown = _judged(range(12))
    assert shown == differing > 4


@pytest.mark.slow
def test_nearly_every_difference_is_shown() -> None:
    differing, shown = _judged(range(100, 160))
    assert differing > 20
    assert shown >= 0.9 * differing


def sum_with_a_constant(*, first: bool) -> bytes:
    """Codes of x and a constant of another scale and zero point, added."""
    arrays = {"sx": np.float32(0.5), "zx": np.uint8(128), "c": np.uint8([10, 200, 90]), "sc": np.float32(0.25)}
    arrays |= {"zc": np.uint8(100), "sy": np.float32(1), "zy": np.uint8(120)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["c", "sc", "zc"], ["cr"]),
        helper.make_node("Add", ["cr", "xr"] if first else ["xr", "cr"], ["yr"]),
        helper.make_node("QuantizeLinear", ["yr", "sy", "zy"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 3]) for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "sum", ends[:1], ends[1:], held)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def test_operands_of_a_sum_change_places() -> None:
    assert are_the_same(*(InferenceSession(sum_with_a_constant(first=first)).program for first in (False, True)))


def test_constants_are_one_element_for_each_value() -> None:
    """In the places of the values; 0 and -0 are two."""
    found = Maps().constants(np.array([[2.0, -1.0], [2.0, 0.5]]))
    assert found[0, 0] == found[1, 0]
    assert len(set(found.reshape(-1).tolist())) == 3
    zeros = Maps().constants(np.array([0.0, -0.0, 0.0]))
    assert zeros[0] == zeros[2] != zeros[1]
