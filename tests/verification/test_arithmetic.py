"""The arithmetic of single elements: by hand for every kind of layer, and against the trace of every real export."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from npusim import InferenceSession
from npusim.errors import UnknownTensorError, UsageError
from npusim.program import Accumulating, Clip, HostOperation, IntegerLayer, MeanTap, ResidualTap, Tap
from npusim.program.trace import Trace
from npusim.schemas.objects import json_object
from npusim.verification import ElementArithmetic, explain_element
from npusim.verification.arithmetic import paired_lines, real_text
from npusim.verification.pairing import pair_steps
from support import Export
from support.builders import GraphBuilder
from support.command_line import model_with_float_layer
from support.sketch import Sketch
from support.strategies import Network, networks

IDENTITY = ([0.0] * 2, [1] * 2, [0] * 2)


def line_of(values: list[list[int]]) -> np.ndarray:
    """One sample of two channels along one axis."""
    return np.array(values, np.float32)[np.newaxis, :, :, np.newaxis]


def explained(model: bytes, x: np.ndarray, index: tuple[int, ...], layer: int = 0) -> ElementArithmetic:
    session = InferenceSession(model)
    step = session.program.layers[layer]
    found = explain_element(session, {"input": x}, step.name, 0, index)
    assert found.code == session.trace({"input": x}, step.output)[step.output][(0, *index)]
    return found


def test_a_convolution_shows_its_taps_and_leaves_out_the_padding() -> None:
    graph = GraphBuilder((1, 2, 4, 1))
    weights = np.array([[[[1], [2], [3]], [[-1], [0], [5]]]])
    output = graph.convolution(
        graph.input_stage(*IDENTITY), weights, np.array([10]), [3], [2], (-128, 127), pads=[1, 0, 1, 0], strides=[2, 1]
    )
    found = explained(graph.model(output), line_of([[1, 2, 3, 4], [5, 6, 7, 8]]), (0, 0, 0))
    assert [(one.position, one.code, one.weight, one.product) for one in found.contributions] == [
        ((0, 0, 0), 1, 2, 2),
        ((0, 1, 0), 2, 3, 6),
        ((1, 0, 0), 5, 0, 0),
        ((1, 1, 0), 6, 5, 30),
    ]
    assert found.padded == 2
    assert (found.accumulator, found.bias, found.biased) == (38, 10, 48)
    assert (found.scale, found.scaled, found.shift, found.unclipped, found.code) == (3, 144, 2, 36, 36)
    assert found.clip == Clip(-128, 127)


def test_two_elements_side_by_side_show_code_weight_and_product_of_both() -> None:
    def convolution(weight: int) -> ElementArithmetic:
        graph = GraphBuilder((1, 2, 4, 1))
        weights = np.array([[[[1], [2], [3]], [[-1], [0], [weight]]]])
        codes = graph.input_stage(*IDENTITY)
        output = graph.convolution(codes, weights, np.array([10]), [3], [2], (-128, 127), pads=[1, 0, 1, 0], strides=[2, 1])
        return explained(graph.model(output), line_of([[1, 2, 3, 4], [5, 6, 7, 8]]), (0, 0, 0))

    lines = [line.split() for line in paired_lines(convolution(5), convolution(-7), ("first", "second"))]
    assert ["at", "code", "weight", "product", "code", "weight", "product"] in lines
    for place, first, second in (([0, 0, 0], (1, 2, 2), (1, 2, 2)), ([1, 1, 0], (6, 5, 30), (6, -7, -42))):
        assert [*str(place).split(), *map(str, (*first, *second))] in lines
    # only the one that differs most, and the sums of the products of the rest on both sides: 2 + 6 + 0
    short = [line.split() for line in paired_lines(convolution(5), convolution(-7), ("first", "second"), shown=1)]
    assert ["[1,", "1,", "0]", "6", "5", "30", "6", "-7", "-42"] in short
    assert ["3", "others", "8", "8"] in short


def test_elements_that_read_other_places_are_paired_with_nothing_there() -> None:
    """At the edge half of the window lies in the padding: in the sum of the rest what is not read counts as 0."""
    graph = GraphBuilder((1, 1, 4, 1))
    codes = graph.input_stage([0], [1], [0])
    output = graph.convolution(codes, np.array([[[[2], [3], [4]]]]), np.array([0]), [1], [0], (-128, 127), pads=[1, 0, 1, 0])
    model, x = graph.model(output), np.array([[[[1], [10], [20], [30]]]], np.float32)
    edge, inner = explained(model, x, (0, 0, 0)), explained(model, x, (0, 2, 0))
    lines = [line.split() for line in paired_lines(edge, inner, ("edge", "inner"), shown=1)]
    # 1*3 + 10*4 at the edge, 10*2 + 20*3 + 30*4 inside; the last one differs most
    assert ["[0,", "3,", "0]", "30", "4", "120"] in lines
    assert ["3", "others", "43", "80"] in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (3.0, "3"), (0.25, "0.25"), (float(np.float32(0.7)), "0.7"), (math.inf, "inf")],
)
def test_real_numbers_have_the_digits_that_tell_them_apart(value: float | None, text: str) -> None:
    assert real_text(value) == text


def test_a_depthwise_convolution_reads_its_own_channel_only() -> None:
    graph = GraphBuilder((1, 2, 3, 1))
    weights = np.array([[[[1], [2], [3]]], [[[4], [-5], [6]]]])
    output = graph.convolution(graph.input_stage(*IDENTITY), weights, np.array([0, -1]), [1, 1], [1, 1], (-9, 9), group=2)
    found = explained(graph.model(output), line_of([[1, 1, 1], [7, 8, 9]]), (1, 0, 0))
    assert [one.product for one in found.contributions] == [28, -40, 54]
    # (42 - 1) >> 1 is 20, which saturates
    assert (found.biased, found.unclipped, found.code) == (41, 20, 9)


def test_a_transposed_convolution_shows_the_inputs_that_reach_an_element() -> None:
    graph = GraphBuilder((1, 2, 2, 1))
    weights = np.array([[[[1], [2], [3]]], [[[10], [20], [30]]]])
    output = graph.convolution(
        graph.input_stage(*IDENTITY), weights, np.array([0]), [1], [0], (-255, 255), transposed=True, strides=[2, 1]
    )
    # output 2 of stride 2: input 1 through tap 0 and input 0 through tap 2
    found = explained(graph.model(output), line_of([[1, 2], [3, 4]]), (0, 2, 0))
    assert [(one.position, one.weight) for one in found.contributions] == [
        ((0, 1, 0), 1),
        ((0, 0, 0), 3),
        ((1, 1, 0), 10),
        ((1, 0, 0), 30),
    ]
    assert found.accumulator == found.code == 2 + 3 + 40 + 90


def test_a_fully_connected_layer_shows_a_column_of_weights() -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage(*IDENTITY)
    output = graph.fully_connected(codes, np.array([[1, 2], [3, -4]]), np.array([0, 5]), [1, 200], [0, 3], (-128, 127))
    found = explained(graph.model(output), np.array([[6, 7]], np.float32), (1,))
    assert [(one.code, one.weight) for one in found.contributions] == [(6, 2), (7, -4)]
    # (12 - 28 + 5) * 200 = -2200, and -2200 / 8 = -275
    assert (found.scaled, found.unclipped, found.code) == (-2200, -275, -128)


def test_pools_show_their_windows() -> None:
    graph = GraphBuilder((1, 2, 4, 1))
    pooled = graph.node("MaxPool", graph.input_stage(*IDENTITY), kernel_shape=[2, 1], strides=[2, 1])
    model = graph.model(graph.global_average(pooled, 1, 1, 1, (-128, 127)))
    x = line_of([[1, 9, 3, 4], [-5, -6, -8, -7]])
    largest = explained(model, x, (1, 1, 0))
    assert [(one.position, one.code, one.weight) for one in largest.contributions] == [
        ((1, 2, 0), -8, None),
        ((1, 3, 0), -7, None),
    ]
    assert (largest.accumulator, largest.code) == (None, -7)
    mean = explained(model, x, (0,), layer=1)
    assert [(one.position, one.code, one.weight) for one in mean.contributions] == [((0, 0, 0), 9, 1), ((0, 1, 0), 4, 1)]
    assert (mean.accumulator, mean.unclipped, mean.code) == (13, 7, 7)


def test_residuals_show_both_operands() -> None:
    graph = GraphBuilder((1, 2, 2, 1))
    codes = graph.input_stage(*IDENTITY)
    weights = np.array([[[[3]], [[0]]], [[[0]], [[-3]]]])
    pointwise = graph.convolution(codes, weights, np.array([0, 0]), [1, 1], [0, 0], (-10, 10))
    fused = graph.clip(graph.node("Add", pointwise, codes), -128, 127)
    output = graph.requantize(graph.node("Add", fused, codes), (1, -1, 1, 1), [1, 1], [1, 1], [1, 1], (-128, 127))
    x = line_of([[5, 0], [2, 0]])
    residual = explained(graph.model(output), x, (0, 0, 0))
    assert residual.kind == "PWCONVRES"
    assert (residual.unclipped, residual.inner_clip, residual.inner_code) == (15, Clip(-10, 10), 10)
    assert (residual.residual, residual.code) == (5, 15)
    total = explained(graph.model(output), x, (0, 0, 0), layer=1)
    assert total.kind == "ADD"
    assert [(one.operand, one.code) for one in total.contributions] == [(0, 15), (1, 5)]
    assert (total.biased, total.code) == (21, 10)


def test_a_quantize_stage_shows_each_float_operation() -> None:
    graph = GraphBuilder((1, 2))
    model = graph.model(graph.input_stage([0.5, 0.25], [3, -3], [1, 1]))
    session = InferenceSession(model)
    x = np.array([[1.0, 7.0]], np.float32)
    found = explain_element(session, {"input": x}, session.program.steps[0].name, 0, (1,))
    assert (found.value, found.code) == (7.0, -11)
    assert [(one.operator, one.operands, one.result) for one in found.operations] == [
        ("Add", (0.25,), 7.25),
        ("Mul", (-3.0,), -21.75),
        ("Mul", (0.5,), -10.875),
        ("Floor", (), -11.0),
        ("Clip", (-128.0, 127.0), -11.0),
    ]


def test_a_long_sum_is_shortened_and_stays_complete() -> None:
    sketch = Sketch(4, 12, 1)
    model = sketch.finish(sketch.layer(sketch.weights(4, 4, 9, 1), pads=[4, 0, 4, 0]))
    session = InferenceSession(model)
    x = np.random.default_rng(0).normal(0, 2, (3, 4, 12, 1)).astype(np.float32)
    layer = session.program.layers[0]
    found = explain_element(session, {"input": x}, layer.name, 2, (1, 6, 0))
    text = str(found).splitlines()
    assert len(found.contributions) == 36
    others = next(line for line in text if "others" in line)
    shown = [line for line in text if line.startswith("    [")]
    assert len(shown) == 12
    assert sum(int(line.split()[-1]) for line in [*shown, others]) == found.accumulator
    assert f"sample 2, element [1, 6, 0] of '{layer.output}'" in text[0]
    assert text[-1].split()[-1] == str(found.code)
    value = json.loads(json.dumps(json_object(found)))
    assert sum(one["product"] for one in value["contributions"]) == value["accumulator"]


@pytest.mark.parametrize(
    ("layer", "sample", "index", "kind", "says"),
    [
        ("nowhere", 0, (0, 0, 0), UnknownTensorError, "there is no tensor 'nowhere'"),
        ("input", 0, (0, 0, 0), UnknownTensorError, "an input of the model"),
        ("/t12_Clip", 1, (0, 0, 0), UsageError, "no sample 1"),
        ("/t12_Clip", 0, (9, 0, 0), UsageError, r"no element \[9, 0, 0\]"),
        ("host", 0, (0, 0, 0), UsageError, "runs on the host"),
    ],
)
def test_what_does_not_exist_is_refused(
    layer: str, sample: int, index: tuple[int, ...], kind: type[Exception], says: str
) -> None:
    session = InferenceSession(model_with_float_layer())
    host = session.program.host_operations[0].name
    names = {"host": host, "/t12_Clip": session.program.layers[0].name}
    with pytest.raises(kind, match=says):
        explain_element(session, {"input": np.zeros((1, 4, 16, 1), np.float32)}, names.get(layer, layer), sample, index)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_every_layer_of_a_random_network_is_explained_as_the_trace_has_it(network: Network) -> None:
    session = InferenceSession(network.model)
    feeds = {"input": np.random.default_rng(network.seed).normal(0, 1, (2, *network.shape)).astype(np.float32)}
    assert _check_elements(session, feeds, network.seed) == len(network.kinds) + 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_a_random_network_is_paired_with_itself(network: Network) -> None:
    program = InferenceSession(network.model).program
    pairing = pair_steps(program, program)
    assert [one.name for one, _ in pairing.pairs] == [other.name for _, other in pairing.pairs]
    assert (pairing.only_first, pairing.only_second) == ((), ())


def test_every_layer_of_an_export_is_explained_as_the_trace_has_it(export: Export) -> None:
    session = InferenceSession(export.model)
    feeds = {session.get_inputs()[0].name: export.inputs()[[3, 68]]}
    assert _check_elements(session, feeds, 0) == len(session.program.layers) + len(session.program.quantize_stages) > 1


def _check_elements(session: InferenceSession, feeds: dict[str, np.ndarray], seed: int) -> int:
    """Explain the first, the last and another element of each step for the second sample; gives the number of steps."""
    trace = session.trace(feeds)
    generator = np.random.default_rng(seed)
    steps = [step for step in session.program.steps if not isinstance(step, HostOperation)]
    for step in steps:
        shape = session.program.tensors[step.tensors[-1]].shape[1:]
        for flat in {0, math.prod(shape) - 1, int(generator.integers(math.prod(shape)))}:
            index = tuple(int(item) for item in np.unravel_index(flat, shape))
            found = explain_element(session, feeds, step.name, 1, index)
            assert found.code == trace[step.tensors[-1]][(1, *index)], (step.name, index)
            if isinstance(step, IntegerLayer):
                _check_inner_tensors(step, found, trace, flat)
    return len(steps)


def _check_inner_tensors(layer: IntegerLayer, found: ElementArithmetic, trace: Trace, flat: int) -> None:
    if not isinstance(layer, Accumulating):
        return
    place = np.unravel_index(flat, layer.accumulator_shape[1:])
    for tap in layer.taps:
        assert _inner_value(tap, found, int(place[layer.channel_axis - 1])) == trace[tap.tensor][1].reshape(-1)[flat], (
            tap.tensor
        )


def _inner_value(tap: Tap, found: ElementArithmetic, channel: int) -> float:
    assert found.accumulator is not None
    if isinstance(tap, MeanTap):
        return float(np.float32(np.float32(found.accumulator) / np.float32(tap.divisor)) * np.float32(tap.factor))
    if isinstance(tap, ResidualTap):
        value = (found.inner_code or 0) + (found.residual or 0)
    else:
        value = (found.accumulator + int(tap.part.bias[channel])) * int(tap.part.scale[channel])
        shift = int(tap.part.shift[channel])
        if shift and not tap.floored:
            return float(np.float32(value / 2**shift))
        value >>= shift
    return value if tap.clip is None else min(max(value, tap.clip.lower), tap.clip.upper)
