"""Intervals: equal to brute force where inputs are independent, never left by any value elsewhere."""

from __future__ import annotations

from itertools import chain, combinations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from npusim import InferenceSession
from npusim.bounds import LayerBounds, RangeAnalysis, analyse
from npusim.bounds.channels import channel_bounds, digits_of
from npusim.bounds.widths import float_bits
from npusim.engine.reference import run_layer
from npusim.program import Accumulating, IntegerLayer, LayerKind, Program, Weighted, weight_bits_of
from npusim.program.accumulation import accumulate, maximum_of_windows
from npusim.program.intervals import Interval, layer_bounds
from npusim.program.trace import Trace
from npusim.search.sampling import generate_inputs
from support import Export
from support.builders import GraphBuilder
from support.strategies import Network, networks

INNER = ("accumulator", "biased", "scaled", "floored", "output")


def one_layer(kind: str, generator: np.random.Generator) -> tuple[Program, IntegerLayer]:
    """A layer of a kind on at most six elements, with weights of random bits and scales of either sign."""
    bits = 2 if kind in ("ADD", "PWCONVRES") else int(generator.choice([2, 4, 8]))

    def weights(*shape: int) -> np.ndarray:
        values = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
        values.reshape(-1)[0] = -(2 ** (bits - 1))
        return values

    def parameters(channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        scale = np.ones(channels) if bits == 8 else generator.integers(-255, 256, channels)
        return generator.integers(-50, 50, channels), scale, generator.integers(0, 6, channels), (-128, 127)

    shapes = {"FCONV": (1, 6, 1), "FC": (5, 1, 1), "TCONV": (2, 2, 1), "PWCONV": (3, 2, 1), "MAXPOOL": (1, 3, 2)}
    shape = shapes.get(kind, (2, 3, 1))
    graph = GraphBuilder((1, *shape), "ts17new")
    codes = graph.input_stage(np.zeros(shape[0]), np.ones(shape[0]), np.zeros(shape[0]))
    if kind == "FCONV":
        result = graph.convolution(codes, weights(2, 1, 3, 1), *parameters(2), strides=[2, 1], pads=[1, 0, 2, 0])
    elif kind == "GCONV":
        result = graph.convolution(codes, weights(3, 2, 2, 1), *parameters(3), dilations=[2, 1], pads=[1, 0, 1, 0])
    elif kind == "DWCONV":
        result = graph.convolution(codes, weights(4, 1, 3, 1), *parameters(4), group=2, pads=[2, 0, 0, 0])
    elif kind == "PWCONV":
        result = graph.convolution(codes, weights(2, 3, 1, 1), *parameters(2))
    elif kind == "TCONV":
        result = graph.convolution(codes, weights(2, 2, 3, 1), *parameters(2), transposed=True, strides=[2, 1])
    elif kind == "FC":
        result = graph.fully_connected(graph.node("Flatten", codes, axis=1), weights(5, 3), *parameters(3))
    elif kind == "AVGPOOL":
        result = graph.average_pool(codes, [2, 1], [1, 1], [0, 0, 1, 0], 1, 200, 8, (-128, 127))
    elif kind == "GLOBAL":
        result = graph.global_average(codes, 3, 1, 1, (-128, 127))
    elif kind == "MAXPOOL":
        result = graph.node("MaxPool", codes, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    else:
        branch = graph.convolution(codes, weights(2, 2, 1, 1), *parameters(2)[:3], (-7, 9))
        summed = graph.node("Add", codes, branch)
        plain = kind == "PWCONVRES"
        result = (
            graph.saturate(summed, (-20, 20)) if plain else graph.requantize(summed, (1, 1, 1, 1), [5], [-3], [1], (-20, 20))
        )
    program = InferenceSession(graph.model(result)).program
    layer = program.layers[-1]
    assert layer.kind == ("AVGPOOL" if kind == "GLOBAL" else kind)
    return program, layer


def random_boxes(layer: IntegerLayer, program: Program, generator: np.random.Generator) -> tuple[Interval, ...]:
    """A box for each input; at most 4096 combinations of codes in all."""
    shapes = [program.tensors[name].shape for name in layer.inputs]
    elements = sum(int(np.prod(shape)) for shape in shapes)
    spread = 3 if elements <= 6 else 1
    lower = [generator.integers(-6, 7, shape) for shape in shapes]
    return tuple(Interval(part, part + generator.integers(0, spread + 1, part.shape)) for part in lower)


def all_codes(boxes: tuple[Interval, ...]) -> list[np.ndarray]:
    """Every combination of the codes in some boxes, samples on the first axis."""
    lower = np.concatenate([box.lower.reshape(-1) for box in boxes])
    upper = np.concatenate([box.upper.reshape(-1) for box in boxes])
    rows = np.array(list(product(*(range(a, b + 1) for a, b in zip(lower, upper, strict=True)))), np.int64)
    parts = np.split(rows, np.cumsum([box.lower.size for box in boxes])[:-1], axis=1)
    return [part.reshape(-1, *box.lower.shape[1:]) for part, box in zip(parts, boxes, strict=True)]


def by_channel(values: np.ndarray, layer: IntegerLayer) -> np.ndarray:
    return values.reshape(-1, *(1,) * (len(layer.accumulator_shape) - 1 - layer.channel_axis))


def inner_values(layer: IntegerLayer, program: Program, codes: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What stands inside of a layer for given codes, by the definition."""
    part = layer.requantization
    assert part is not None
    values = {"accumulator": accumulate(layer, codes)}
    values["biased"] = values["accumulator"] + by_channel(part.bias, layer)
    values["scaled"] = values["biased"] * by_channel(part.scale, layer)
    values["floored"] = np.floor_divide(values["scaled"], by_channel(2**part.shift, layer))
    values["output"] = run_layer(layer, list(codes), set(), program)[layer.output].astype(np.int64)
    return values


def digit_values(layer: IntegerLayer, codes: list[np.ndarray]) -> list[np.ndarray]:
    digits = digits_of(layer)
    if layer.kind is LayerKind.AVGPOOL:
        return [accumulate(layer, codes)]
    return [] if digits is None else [accumulate(layer, codes, digit) for digit in digits]


def assert_equal_to(interval: Interval, values: np.ndarray, what: str) -> None:
    np.testing.assert_array_equal(interval.lower[0], values.min(axis=0), err_msg=what)
    np.testing.assert_array_equal(interval.upper[0], values.max(axis=0), err_msg=what)


KINDS = ["FCONV", "GCONV", "DWCONV", "PWCONV", "TCONV", "FC", "AVGPOOL", "GLOBAL", "ADD", "PWCONVRES"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_intervals_equal_brute_force(kind: str, seed: int) -> None:
    generator = np.random.default_rng([seed, *kind.encode()])
    program, layer = one_layer(kind, generator)
    boxes = random_boxes(layer, program, generator)
    codes = all_codes(boxes)
    assert isinstance(layer, Accumulating)
    bounds = layer_bounds(layer, boxes)
    for name, values in inner_values(layer, program, codes).items():
        assert_equal_to(getattr(bounds, name), values, name)
    found = channel_bounds(bounds)
    assert found.digits is not None
    digits = digit_values(layer, codes)
    assert (
        len(found.digits) == len(digits) == {"AVGPOOL": 1, "GLOBAL": 1, "ADD": 0}.get(kind, (weight_bits_of(layer) or 0) // 2)
    )
    others = tuple(axis for axis in range(len(layer.accumulator_shape)) if axis != layer.channel_axis)
    for interval, values in zip(found.digits, digits, strict=True):
        np.testing.assert_array_equal(interval.lower, values.min(axis=others))
        np.testing.assert_array_equal(interval.upper, values.max(axis=others))


@pytest.mark.parametrize("seed", range(6))
def test_maxima_equal_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    program, layer = one_layer("MAXPOOL", generator)
    graph_input = program.quantize_stages[0].output
    found = analyse(program).tensors
    assert found[graph_input].hull == (-128, 127)
    (box,) = random_boxes(layer, program, generator)
    codes = all_codes((box,))
    brute_force = [maximum_of_windows(layer, some) for some in (codes[0], box.lower, box.upper)]
    assert_equal_to(Interval(*brute_force[1:]), brute_force[0], "maxima")


@pytest.mark.parametrize("kind", ["FCONV", "GCONV", "DWCONV", "PWCONV", "TCONV", "FC", "AVGPOOL", "GLOBAL"])
def test_intervals_of_a_first_layer_equal_all_inputs_of_the_model(kind: str) -> None:
    """Not on boxes made for the test: from the model's input on, with the codes cut down by the input stage itself."""
    program, layer = one_layer(kind, np.random.default_rng(list(kind.encode())))
    stage = program.quantize_stages[0]
    bounds = analyse(program).layers[layer.name]
    assert bounds.attained
    assert bounds.inputs[0].hull == (-128, 127)
    ends = all_codes((Interval(np.zeros_like(bounds.inputs[0].lower), np.ones_like(bounds.inputs[0].upper)),))[0]
    codes = np.where(ends == 0, stage.clip.lower, stage.clip.upper)
    for name, values in inner_values(layer, program, [codes]).items():
        assert_equal_to(getattr(bounds, name), values, name)


@pytest.mark.parametrize("seed", range(10))
def test_partial_sums_equal_every_subset_of_products(seed: int) -> None:
    generator = np.random.default_rng(seed)
    program, layer = one_layer("FC", generator)
    (box,) = random_boxes(layer, program, generator)
    if seed >= 5:
        box = Interval(box.lower + 10, box.upper + 10)  # 0 is in no interval: leaving products out goes further
    assert isinstance(layer, Weighted)
    assert isinstance(layer, Accumulating)
    bounds = layer_bounds(layer, (box,))
    (codes,) = all_codes((box,))
    products = codes[:, :, None] * layer.weights
    subsets = [list(some) for some in chain.from_iterable(combinations(range(5), size) for size in range(6))]
    sums = np.concatenate([products[:, some].sum(axis=1) for some in subsets])
    assert_equal_to(bounds.partial, sums, "partial")
    digits, found = digits_of(layer), channel_bounds(bounds)
    assert digits is not None
    assert found.digit_partials is not None
    for digit, interval in zip(digits, found.digit_partials, strict=True):
        sums = np.concatenate([(codes[:, :, None] * digit)[:, some].sum(axis=1) for some in subsets])
        np.testing.assert_array_equal(interval.lower, sums.min(axis=0))
        np.testing.assert_array_equal(interval.upper, sums.max(axis=0))


def assert_within(interval: Interval, values: np.ndarray, what: str) -> None:
    assert (values >= interval.lower).all(), what
    assert (values <= interval.upper).all(), what


def assert_sound(program: Program, trace: Trace, found: RangeAnalysis) -> None:
    """No value of a trace lies outside of its interval."""
    for name, interval in found.tensors.items():
        assert_within(interval, trace[name].reshape(-1, *interval.lower.shape[1:]), name)
    for layer in program.layers:
        if layer.name not in found.layers:
            continue
        bounds: LayerBounds = found.layers[layer.name]
        codes = [trace[name].astype(np.int64) for name in layer.inputs]
        for name, values in inner_values(layer, program, codes).items():
            assert_within(getattr(bounds, name), values, f"{layer.name}: {name}")
        digits = channel_bounds(bounds).digits
        for interval, values in zip(digits or (), digit_values(layer, codes), strict=True):
            ends = Interval(by_channel(interval.lower, layer), by_channel(interval.upper, layer))
            assert_within(ends, values, f"{layer.name}: digits")


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_no_value_of_a_random_network_leaves_its_interval(network: Network) -> None:
    session = InferenceSession(network.model)
    feeds = generate_inputs(session.program, 16, seed=network.seed)
    assert_sound(session.program, session.trace(feeds), analyse(session.program))


def test_no_value_of_an_export_leaves_its_interval(export: Export) -> None:
    session = InferenceSession(str(export.model))
    found = analyse(session.program)
    trace = session.trace({session.get_inputs()[0].name: export.inputs()})
    assert set(found.layers) == {layer.name for layer in session.program.layers if isinstance(layer, Accumulating)}
    assert_sound(session.program, trace, found)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(networks(max_depth=2))
def test_attained_ends_are_reached_by_running_the_model(network: Network) -> None:
    session = InferenceSession(network.model)
    program, first = session.program, session.program.layers[0]
    exact = [bounds for bounds in analyse(program).layers.values() if bounds.attained]
    requantizes_codes = isinstance(first, Accumulating) and len(first.inputs) == 1
    assert [bounds.layer for bounds in exact] == ([first] if requantizes_codes else [])
    for bounds in exact:
        multiplier = np.broadcast_to(program.quantize_stages[0].multiplier, bounds.inputs[0].lower.shape)
        places = list(np.ndindex(*bounds.accumulator.lower.shape))
        for index in np.random.default_rng(network.seed).integers(0, len(places), 4):
            place = places[index]
            rising = influence(bounds, place) * np.where(multiplier < 0, -1, 1) > 0
            x = np.concatenate([np.where(rising, side, -side) for side in (-1e30, 1e30)]).astype(np.float32)
            codes = session.trace({"input": x}, first.inputs[0])[first.inputs[0]]
            reached = accumulate(first, [codes.astype(np.int64)])[(slice(None), *place[1:])]
            assert tuple(reached) == (bounds.accumulator.lower[place], bounds.accumulator.upper[place])


def influence(bounds: LayerBounds, place: tuple[int, ...]) -> np.ndarray:
    """By how much one accumulator rises when an element of the input rises by one, for each element."""
    shape = bounds.inputs[0].lower.shape
    unit = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape[1:])
    return accumulate(bounds.layer, [unit])[(slice(None), *place[1:])].reshape(shape)


def test_bits_of_a_float_that_holds_every_integer_up_to_the_largest() -> None:
    for power in range(1, 40):
        for value in (2**power, -(2**power), 2**power - 1, 2**power + 1, -(2**power) - 1):
            interval = Interval(np.array([min(value, 0)]), np.array([max(value, 0)]))
            assert 2 ** (float_bits(interval) - 1) < abs(value) <= 2 ** float_bits(interval)
