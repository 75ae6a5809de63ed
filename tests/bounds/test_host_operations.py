"""Intervals through host operations: monotonic ones are followed, all others claim nothing but what is declared."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.bounds import RangeAnalysis, analyse
from npusim.program import LayerKind, Program, Tensor
from npusim.program.intervals import declared_interval
from support.builders import GraphBuilder


def graph_of(shape: tuple[int, ...] = (1, 2, 4, 1)) -> tuple[GraphBuilder, str]:
    graph = GraphBuilder(shape)
    channels = shape[1]
    return graph, graph.input_stage(np.zeros(channels), np.ones(channels), np.zeros(channels))


def analysed(model: bytes, samples: int = 300) -> tuple[Program, RangeAnalysis]:
    """The intervals of a model, after checking that no sample leaves them."""
    session = InferenceSession(model)
    found = analyse(session.program)
    (argument,) = session.get_inputs()
    generator = np.random.default_rng(1)
    shape = (samples, *session.program.tensors[argument.name].shape[1:])
    x = np.concatenate([generator.integers(-140, 140, shape), generator.choice([-200, 200], shape)]).astype(np.float32)
    trace = session.trace({argument.name: x})
    for name, interval in found.tensors.items():
        assert (trace[name] >= interval.lower).all(), name
        assert (trace[name] <= interval.upper).all(), name
    return session.program, found


def ending_in_float(graph: GraphBuilder, result: str) -> bytes:
    return graph.model(graph.node("Cast", result, to=1))


@pytest.mark.parametrize(
    ("operator", "attributes", "hull"),
    [
        ("Relu", {}, (0, 127)),
        ("Neg", {}, (-127, 128)),
        ("Transpose", {"perm": [0, 2, 1, 3]}, (-128, 127)),
        ("Flatten", {"axis": 1}, (-128, 127)),
        ("ReduceMax", {"axes": [2], "keepdims": 1}, (-128, 127)),
        ("Cast", {"to": 7}, (-128, 127)),
        ("Abs", {}, (0, 128)),
    ],
)
def test_range_behind_an_operation(operator: str, attributes: dict[str, object], hull: tuple[float, float]) -> None:
    graph, codes = graph_of()
    result = graph.node(operator, codes, **attributes)
    assert analysed(ending_in_float(graph, result))[1].tensors[result].hull == hull


@pytest.mark.parametrize(
    ("operator", "constant", "hull"),
    [("Add", 3.0, (-125, 130)), ("Sub", 3.0, (-131, 124)), ("Mul", -2.0, (-254, 256)), ("Min", 5.0, (-128, 5))],
)
def test_arithmetic_with_a_constant(operator: str, constant: float, hull: tuple[float, float]) -> None:
    graph, codes = graph_of()
    result = graph.binary(operator, codes, constant)
    assert analysed(graph.model(result))[1].tensors[result].hull == hull


def test_product_of_two_tensors_takes_the_corners() -> None:
    graph, codes = graph_of()
    result = graph.node("Mul", codes, graph.node("Relu", codes))
    assert analysed(graph.model(result))[1].tensors[result].hull == (-128 * 127, 127 * 127)


def test_conversion_that_wraps_around_claims_no_more_than_its_type() -> None:
    graph, codes = graph_of()
    doubled = graph.binary("Mul", codes, 2.0)
    for target, hull in ((3, (-128, 127)), (2, (0, 255)), (9, (0, 1))):
        other = GraphBuilder(graph.input_shape, nodes=list(graph.nodes), initializers=graph.initializers, count=graph.count)
        result = other.node("Cast", doubled, to=target)
        lower, upper = analysed(ending_in_float(other, result))[1].tensors[result].hull
        assert lower in (hull[0], -np.inf)
        assert upper in (hull[1], np.inf)


def test_indices_are_no_values_to_be_ordered() -> None:
    graph, codes = graph_of()
    indices = graph.node("Cast", graph.node("Relu", graph.clip(codes, -3, 3)), to=7)
    table = graph.constant([5.0, -7.0, 9.0, 1.0])
    gathered = graph.node("Gather", table, indices, axis=0)
    lower, upper = analysed(graph.model(gathered))[1].tensors[gathered].hull
    assert lower <= -7
    assert upper >= 9


def test_positions_of_maxima_are_not_followed() -> None:
    graph, codes = graph_of()
    values = graph.node("MaxPool", codes, outputs=2, kernel_shape=[2, 1])
    positions = next(node for node in graph.nodes if node.op_type == "MaxPool").output[1]
    shifted = graph.node("Cast", positions, to=1)
    _, found = analysed(graph.model(graph.node("Add", values, shifted)))
    assert found.tensors[values].hull == (-128, 127)
    assert found.tensors[positions].hull == (-(2**63), 2**63)


def test_position_of_the_largest_is_a_place_on_its_axis() -> None:
    graph, codes = graph_of()
    result = graph.node("ArgMax", codes, axis=1)
    assert analysed(ending_in_float(graph, result))[1].tensors[result].hull == (0, 1)


@pytest.mark.parametrize(("mode", "hull"), [("nearest", (-128, 127)), ("linear", (-128, 127)), ("cubic", (-np.inf, np.inf))])
def test_interpolation_with_negative_weights_is_not_monotonic(mode: str, hull: tuple[float, float]) -> None:
    graph, codes = graph_of((1, 2, 4, 4))
    scales = graph.constant([1, 1, 2, 2])
    result = graph.node("Resize", codes, "", scales, mode=mode)
    assert analysed(graph.model(result))[1].tensors[result].hull == hull


def test_declared_ranges_of_every_integer_type() -> None:
    def declared(lower: float, upper: float) -> tuple[object, float, float]:
        kind = np.dtype(np.int64)
        found = declared_interval(Tensor("t", (2,), kind, kind, lower, upper))
        return found.lower.dtype, *found.hull

    assert declared(-5, 7) == (np.int64, -5, 7)
    assert declared(-(2**63), 2**63 - 1) == (np.int64, -(2**63), 2**63)
    assert declared(0, 2**64 - 1) == (np.float64, 0, 2**64)
    assert declared(-np.inf, np.inf) == (np.float64, -np.inf, np.inf)
    assert declared(0, np.inf) == (np.float64, 0, np.inf)


def attained(graph: GraphBuilder, result: str) -> list[bool]:
    program, found = analysed(graph.model(result))
    return [found.layers[layer.name].attained for layer in program.layers if layer.kind is not LayerKind.MAXPOOL]


def convolve(graph: GraphBuilder, codes: str, channels: int = 2) -> str:
    weights = np.arange(1, 2 * channels + 1).reshape(2, channels, 1, 1)
    return graph.convolution(codes, weights, np.zeros(2), np.ones(2), np.full(2, 3), (-128, 127))


def test_ends_are_attained_where_elements_come_from_elements_of_the_input() -> None:
    graph, codes = graph_of()
    assert attained(graph, convolve(graph, codes)) == [True]
    graph, codes = graph_of()
    moved = graph.node("Transpose", graph.node("Transpose", codes, perm=[0, 2, 1, 3]), perm=[0, 2, 1, 3])
    assert attained(graph, convolve(graph, moved)) == [True]
    graph, codes = graph_of()
    assert attained(graph, convolve(graph, convolve(graph, codes))) == [True, False]


def test_ends_are_not_attained_where_elements_depend_on_each_other() -> None:
    graph, codes = graph_of()
    pooled = graph.node("MaxPool", codes, kernel_shape=[2, 1], strides=[1, 1])
    assert attained(graph, convolve(graph, pooled)) == [False]
    graph, codes = graph_of()
    assert attained(graph, graph.requantize(graph.node("Add", codes, codes), (1, 1, 1, 1), [0], [1], [1], (-9, 9))) == [False]
    graph, codes = graph_of()
    assert attained(graph, convolve(graph, graph.node("Concat", codes, codes, axis=1), 4)) == [False]


def test_ends_are_not_attained_where_the_input_stage_repeats_its_input() -> None:
    graph = GraphBuilder((1, 1, 4, 1))
    offset = graph.binary("Add", "input", np.zeros((1, 2, 1, 1)))
    codes = graph.clip(graph.node("Floor", graph.binary("Mul", offset, np.ones((1, 2, 1, 1)))), -128, 127)
    assert attained(graph, convolve(graph, codes)) == [False]
