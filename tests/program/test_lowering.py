"""Recognition goes by structure and values: dialects give one normal form, what is almost a layer stays as the graph says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from npusim import InferenceSession
from npusim.bounds import certify
from npusim.graph.value_range import ValueRange
from npusim.program import Accumulating, Batching, Clip, LayerKind, ResidualConvolution, Weighted, geometry_of, weight_bits_of
from npusim.program.layers import Window
from npusim.program.lowering.tinpu.layers import _check_width, _Weighted
from npusim.program.lowering.tinpu.view import NotALayer
from npusim.verification import verify
from support.builders import DIALECTS, GraphBuilder
from support.command_line import call
from support.engine_check import assert_same, every_tensor, reference_tensors
from support.runtime_check import compare_with_runtime

GENERATOR = np.random.default_rng(20)
WEIGHTS = GENERATOR.integers(-127, 128, (8, 4, 3, 1))
BIAS = GENERATOR.integers(-3000, 3000, 8)
SHIFT = np.array([7, 8, 9, 8, 7, 9, 8, 8])
FC_WEIGHTS = GENERATOR.integers(-127, 128, (8, 4))


def network(dialect: str, *, bits: int = 8) -> bytes:
    graph = GraphBuilder((1, 4, 16, 1), dialect)
    limit = 2 ** (bits - 1) - 1
    weights = np.clip(WEIGHTS, -limit, limit)
    scale = np.ones(8) if bits == 8 else np.array([129, 200, 255, 128, 131, 180, 250, 128])
    shift = SHIFT if bits == 8 else SHIFT + 5
    codes = graph.input_stage([0.25, -0.5, 0, 1], [2000, -1500, 4095, 777], [6, 6, 7, 5])
    hidden = graph.convolution(codes, weights, BIAS, scale, shift, (0, 255), pads=[1, 0, 1, 0])
    pooled = graph.node("MaxPool", hidden, kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 1, 0])
    mean = graph.global_average(pooled, 4, 1 if bits == 8 else 255, 3 if bits == 8 else 11, (0, 255))
    result = graph.fully_connected(mean, FC_WEIGHTS.clip(-limit, limit), BIAS[:4], scale[:4], shift[:4] + 1, (-128, 127))
    return graph.model(result)


def test_every_dialect_gives_the_same_program() -> None:
    for bits in (8, 4):
        programs = {dialect: InferenceSession(network(dialect, bits=bits)).program for dialect in DIALECTS}
        first = programs["ts17"]
        assert [layer.kind for layer in first.layers] == ["GCONV", "MAXPOOL", "AVGPOOL", "FC"]
        assert not first.host_operations
        assert first.layers[0].weight_bits == bits
        for dialect, program in programs.items():
            assert [layer.kind for layer in program.layers] == [layer.kind for layer in first.layers], dialect
            assert not program.host_operations, dialect
            for ours, wanted in zip(program.layers, first.layers, strict=True):
                assert weight_bits_of(ours) == weight_bits_of(wanted)
                assert geometry_of(ours) == geometry_of(wanted)
                assert type(ours) is type(wanted)
                if isinstance(ours, Weighted) and isinstance(wanted, Weighted):
                    np.testing.assert_array_equal(ours.weights, wanted.weights)
                if isinstance(ours, Accumulating) and isinstance(wanted, Accumulating):
                    for part in ("bias", "scale", "shift"):
                        np.testing.assert_array_equal(
                            getattr(ours.requantization, part),
                            getattr(wanted.requantization, part),
                            err_msg=f"{dialect} {part}",
                        )
                    assert ours.requantization.clip == wanted.requantization.clip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_every_tensor_of_every_dialect_equals_onnxruntime(dialect: str, bits: int) -> None:
    compare_with_runtime(network(dialect, bits=bits), {"input": GENERATOR.normal(0, 1, (9, 4, 16, 1)).astype(np.float32)})


def convolution_graph(**changes: object) -> tuple[GraphBuilder, str]:
    """Conv, Add, Mul, Mul, Floor, Clip on codes, with one thing changed."""
    graph = GraphBuilder((1, 4, 16, 1), "dyn18v")
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    weights = WEIGHTS.astype(np.float64) + (0.5 if changes.get("fractional_weight") else 0)
    if changes.get("wide_weight"):
        weights = weights * 100
    current = graph.node("Conv", codes, graph.constant(weights), kernel_shape=[3, 1], pads=[1, 0, 1, 0])
    taps = [current]
    bias = BIAS + (0.5 if changes.get("fractional_bias") else 0)
    current = graph.binary("Add", current, bias.reshape(1, 8, 1, 1))
    taps.append(current)
    if changes.get("spatial_bias"):
        current = graph.binary("Add", current, np.arange(16).reshape(1, 1, 16, 1))
    current = graph.binary("Mul", current, np.full((1, 8, 1, 1), changes.get("scale", 1.0)))
    taps.append(current)
    current = graph.binary("Mul", current, np.full((1, 8, 1, 1), 2.0 ** -int(changes.get("shift", 8))))  # type: ignore[call-overload]
    taps.append(current)
    current = graph.node(str(changes.get("rounding", "Floor")), current)
    taps.append(current)
    if not changes.get("no_clip"):
        current = graph.clip(current, *changes.get("clip", (0, 255)))  # type: ignore[misc]
    return graph, current if "extra" not in changes else taps[int(changes["extra"])] + "|" + current  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fractional_weight": True}, "weights are not integers"),
        ({"wide_weight": True}, "far beyond 8 bits"),
        ({"fractional_bias": True}, "bias is not an integer"),
        ({"spatial_bias": True}, "another axis than the channels"),
        ({"scale": 0.1}, "not an integer of at most 12 bits"),
        ({"scale": 1 / 3}, "not an integer of at most 12 bits"),
        ({"shift": 40}, "from 2^-31 on"),
        ({"rounding": "Round"}, "no saturation"),
        ({"rounding": "Ceil"}, "no saturation"),
        ({"no_clip": True}, "is an output of the model"),
        ({"clip": (0, 6.5)}, "no saturation"),
    ],
)
def test_what_is_almost_a_layer_runs_as_the_graph_says(change: dict[str, object], reason: str) -> None:
    graph, names = convolution_graph(**change)
    model = graph.model(*names.split("|"))
    program = InferenceSession(model).program
    assert not program.layers
    (convolution,) = [step for step in program.host_operations if step.operator == "Conv"]
    assert reason in convolution.reason
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


def handed_out(position: int, how: str) -> bytes:
    """The network with one of its inner tensors as an output, through Identity too, or read by others."""
    graph, names = convolution_graph(extra=position)
    inner, result = names.split("|")
    match how:
        case "output":
            return graph.model(inner, result)
        case "alias":
            return graph.model(result, graph.node("Identity", inner))
        case "reader":
            return graph.model(graph.node("Concat", graph.node("Abs", inner), result, axis=1))
        case "early reader":
            # stands before the chain, looks like it, and leads nowhere
            graph.nodes.insert(-4, onnx.helper.make_node("Mul", [inner, graph.constant(0.3)], ["aside"]))
            at = next(index for index, node in enumerate(graph.nodes) if inner in node.output)
            graph.nodes.insert(at + 1, graph.nodes.pop(-5))
            return graph.model(result, "aside")
    other = graph.clip(graph.node("Floor", graph.binary("Mul", inner, 0.25)), -20, 20)
    return graph.model(result, other)


@pytest.mark.parametrize("how", ["output", "alias", "reader", "early reader", "second chain"])
@pytest.mark.parametrize("position", range(5))
def test_an_inner_tensor_that_is_handed_out_never_costs_the_layer(position: int, how: str) -> None:
    model, plain = handed_out(position, how), convolution_graph()
    session, alone = InferenceSession(model), InferenceSession(plain[0].model(plain[1])).program
    (layer,) = session.program.layers
    assert isinstance(layer, Accumulating)
    assert sum(tap.handed_out for tap in layer.taps) == 1
    feeds = {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)}
    compare_with_runtime(model, feeds)
    assert session._static is not None
    fast, slow = every_tensor(session.program, session._static.runner, feeds), reference_tensors(session.program, feeds)
    assert_same(fast, slow)
    assert verify(session, feeds)
    order = ["violated", "unknown", "proven"]
    before, after = certify(alone).verdicts, certify(session.program).verdicts
    for name in ("onnxruntime_exact", "soft_int32", "digit_18bit"):
        assert order.index(getattr(after, name)) <= order.index(getattr(before, name)), name


@pytest.mark.parametrize("position", range(4))
def test_inner_tensors_of_pools_are_handed_out(position: int) -> None:
    graph = GraphBuilder((1, 4, 6, 1), "dyn18v")
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    start = len(graph.nodes)
    result = graph.average_pool(codes, [2, 1], [2, 1], [0, 0, 0, 0], 1, 1, 1, (-128, 127))
    model = graph.model(result, graph.nodes[start + position].output[0])
    (layer,) = InferenceSession(model).program.layers
    assert layer.kind == "AVGPOOL"
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 6, 1)).astype(np.float32)})


def test_what_floats_round_is_not_proven_of_a_tensor_that_is_handed_out() -> None:
    """The saturation hides it from the codes: products with 4095 pass 2^24."""
    verdicts = []
    for how in (False, True):
        graph = GraphBuilder((1, 64), "dyn18v")
        codes = graph.input_stage([0] * 64, [1] * 64, [0] * 64)
        sums = graph.node("Gemm", codes, graph.constant(np.full((64, 2), 7)))
        product = graph.binary("Mul", sums, [[4095.0, 4093.0]])
        result = graph.clip(graph.node("Floor", graph.binary("Mul", product, [[2.0**-4, 2.0**-4]])), -128, 127)
        program = InferenceSession(graph.model(result, *([product] if how else []))).program
        assert len(program.layers) == 1
        verdicts.append(certify(program).verdicts.onnxruntime_exact)
    assert verdicts == ["proven", "unknown"]


def test_stages_hand_out_their_inner_tensors() -> None:
    graph = GraphBuilder((1, 4, 6, 1), "dyn18v")
    codes = graph.input_stage([0.5] * 4, [1000] * 4, [5] * 4)
    inner = [node.output[0] for node in graph.nodes[:-1]]
    weights = WEIGHTS[:4]
    result = graph.convolution(codes, weights, BIAS[:4], np.ones(4), SHIFT[:4], (0, 255), pads=[1, 0, 1, 0])
    last = graph.node("Concat", graph.node("Abs", inner[1]), graph.node("Neg", inner[3]), result, axis=1)
    model = graph.model(last, inner[0], inner[2])
    program = InferenceSession(model).program
    assert len(program.quantize_stages) == len(program.layers) == 1
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 6, 1)).astype(np.float32)})


def test_an_extra_reader_of_the_codes_keeps_the_layer() -> None:
    graph, codes = convolution_graph()
    model = graph.model(graph.node("Concat", graph.node("Abs", codes), codes, axis=1))
    program = InferenceSession(model).program
    assert [layer.kind for layer in program.layers] == [LayerKind.GCONV]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


def test_a_reader_before_the_relu_ends_the_layer_at_the_nine_bit_clip() -> None:
    graph, wide = convolution_graph(clip=(-255, 255))
    codes = graph.clip(graph.node("Relu", wide), 0, 255)
    model = graph.model(graph.clip(graph.node("Add", wide, codes), 0, 255))
    program = InferenceSession(model).program
    assert [(layer.kind, layer.requantization and layer.requantization.clip) for layer in program.layers] == [
        (LayerKind.GCONV, Clip(-255, 255)),
        (LayerKind.ADD, Clip(0, 255)),
    ]
    assert program.tensors[wide].stored == np.int32
    assert program.tensors[codes].stored == np.uint8
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


def test_relu6_on_codes_is_part_of_the_clip() -> None:
    graph, codes = convolution_graph()
    model = graph.model(graph.clip(codes, 0, 6))
    (layer,) = InferenceSession(model).program.layers
    assert isinstance(layer, Accumulating)
    assert layer.requantization.clip == Clip(0, 6)
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


def pointwise_residual(dialect: str, *, offset: int = 0) -> bytes:
    graph = GraphBuilder((1, 4, 16, 1), dialect)
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    hidden = graph.convolution(codes, WEIGHTS, BIAS, np.ones(8), SHIFT, (0, 255), pads=[1, 0, 1, 0])
    weights = np.random.default_rng(3).integers(-127, 128, (8, 8, 1, 1))
    branch = graph.convolution(hidden, weights, BIAS, np.ones(8), SHIFT + 1, (-255, 255))
    summed = graph.node("Add", branch, hidden)
    if offset:
        summed = graph.requantize(summed, (1, 1, 1, 1), [offset], [1], [0], (0, 255))
        return graph.model(summed)
    return graph.model(graph.clip(graph.node("Relu", summed), 0, 255))


def test_a_pointwise_convolution_with_a_plain_residual_is_one_layer() -> None:
    for dialect in DIALECTS:
        model = pointwise_residual(dialect)
        first, second = InferenceSession(model).program.layers
        assert (first.kind, second.kind) == (LayerKind.GCONV, LayerKind.PWCONVRES)
        assert second.inputs[1] == first.output
        assert isinstance(second, ResidualConvolution)
        assert second.requantization.clip == Clip(-255, 255)
        assert second.output_clip == second.saturation == Clip(0, 255)
        compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


def test_a_residual_with_its_own_offset_stays_a_layer_of_its_own() -> None:
    model = pointwise_residual("ts17", offset=128)
    assert [layer.kind for layer in InferenceSession(model).program.layers] == ["GCONV", "PWCONV", "ADD"]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "group", "kind"),
    [
        (1, 4, (5, 1), 1, "FCONV"),
        (1, 4, (3, 3), 1, "FCONV"),
        (1, 4, (1, 1), 1, "PWCONV"),
        (4, 4, (1, 1), 1, "PWCONV"),
        (4, 8, (3, 1), 1, "GCONV"),
        (3, 8, (3, 3), 1, "GCONV"),
        (4, 4, (3, 1), 4, "DWCONV"),
        (4, 8, (3, 3), 4, "DWCONV"),
        (4, 4, (1, 1), 4, "DWCONV"),
        (4, 8, (3, 3), 2, "GCONV"),
    ],
)
def test_kinds_of_convolutions(channels: int, outputs: int, kernel: tuple[int, int], group: int, kind: str) -> None:
    graph = GraphBuilder((1, channels, 9, 5))
    codes = graph.input_stage([0] * channels, [1000] * channels, [5] * channels)
    weights = GENERATOR.integers(-127, 128, (outputs, channels // group, *kernel))
    result = graph.convolution(codes, weights, np.arange(outputs), np.ones(outputs), np.full(outputs, 7), (0, 255), group=group)
    model = graph.model(result)
    assert [layer.kind for layer in InferenceSession(model).program.layers] == [kind]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, channels, 9, 5)).astype(np.float32)})


@pytest.mark.parametrize("group", [1, 2, 4])
def test_integer_transposed_convolutions_are_layers(group: int) -> None:
    graph = GraphBuilder((1, 4, 9, 1))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    weights = GENERATOR.integers(-127, 128, (4, 8 // group, 4, 1))
    result = graph.convolution(
        codes, weights, np.arange(8), np.ones(8), np.full(8, 7), (0, 255), transposed=True, group=group,
        strides=[2, 1], pads=[1, 0, 0, 0], output_padding=[1, 0],
    )  # fmt: skip
    model = graph.model(result)
    assert [layer.kind for layer in InferenceSession(model).program.layers] == ["TCONV"]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, 4, 9, 1)).astype(np.float32)})


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [2], [3]])
def test_forms_of_average_pooling(keepdims: int, axes: list[int]) -> None:
    graph = GraphBuilder((1, 4, 6, 5))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    summed = graph.node("ReduceSum", codes, graph.constant(axes, np.int64), keepdims=keepdims)
    model = graph.model(graph.requantize(summed, (1, 1), [8], [1], [4], (-128, 127)))
    program = InferenceSession(model).program
    assert [layer.kind for layer in program.layers] == ["AVGPOOL"]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, 4, 6, 5)).astype(np.float32)})


def test_average_pools_with_padding_and_stride() -> None:
    graph = GraphBuilder((1, 4, 9, 7))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    pooled = graph.average_pool(codes, [3, 2], [2, 1], [1, 0, 1, 1], 6, 1, 2, (0, 255))
    model = graph.model(pooled)
    assert [layer.kind for layer in InferenceSession(model).program.layers] == ["AVGPOOL"]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, 4, 9, 7)).astype(np.float32)})


def test_an_average_that_is_not_multiplied_back_stays_float() -> None:
    graph = GraphBuilder((1, 4, 9, 7))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    model = graph.model(graph.node("AveragePool", codes, kernel_shape=[3, 3]))
    program = InferenceSession(model).program
    assert not program.layers
    assert "fractions flow on" in program.host_operations[0].reason
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, 4, 9, 7)).astype(np.float32)})


def test_float_islands_do_not_become_layers() -> None:
    graph = GraphBuilder((1, 4, 16, 1), "dyn18v")
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    weights = graph.constant(np.random.default_rng(5).normal(0, 1, (8, 4, 3, 1)))
    island = graph.node("Relu", graph.node("Conv", codes, weights, kernel_shape=[3, 1]))
    again = graph.clip(
        graph.node("Floor", graph.scale(graph.binary("Add", island, [[[[0.25]]]]), [[[[128]]]], [[[[1]]]])), 0, 255
    )
    second = graph.convolution(
        again, np.random.default_rng(6).integers(-127, 128, (4, 8, 3, 1)), BIAS[:4], np.ones(4), SHIFT[:4], (0, 255)
    )
    model = graph.model(second)
    program = InferenceSession(model).program
    assert [layer.kind for layer in program.layers] == ["GCONV"]
    assert len(program.quantize_stages) == 2
    assert [step.operator for step in program.host_operations] == ["Conv", "Relu"]
    result = verify(InferenceSession(model), {"input": GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)})
    assert result
    assert [step.comparison for step in result.steps] == [
        "exact", "bounded", "exact_given_inputs", "exact_given_inputs", "exact_given_inputs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "batching"),
    [
        (lambda g, t: g.node("Reshape", t, g.constant([1, 64], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Reshape", t, g.constant([1, -1], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Reshape", t, g.constant([-1, 64], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Flatten", t, axis=1), Batching.STACKED),
        (lambda g, t: g.node("Flatten", t, axis=0), Batching.STACKED),
        (lambda g, t: g.node("Flatten", t, axis=2), Batching.SINGLE),
        (lambda g, t: g.node("Reshape", t, g.constant([4, 16], np.int64)), Batching.SINGLE),
        (lambda g, t: g.node("Squeeze", t), Batching.SINGLE),
        (lambda g, t: g.node("Transpose", t, perm=[0, 2, 1, 3]), Batching.STACKED),
        (lambda g, t: g.node("Transpose", t, perm=[2, 1, 0, 3]), Batching.SINGLE),
        (lambda g, t: g.node("ReduceSum", t, keepdims=0), Batching.SINGLE),
        (lambda g, t: g.node("Softmax", t, axis=0), Batching.SINGLE),
        (lambda g, t: g.node("Softmax", t, axis=-1), Batching.STACKED),
        (lambda g, t: g.node("Concat", t, t, axis=0), Batching.SINGLE),
        (lambda g, t: g.node("Resize", t, "", "", g.constant([1, 4, 32, 1], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Expand", t, g.constant([1, 4, 16, 3], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Expand", t, g.constant([2, 4, 16, 3], np.int64)), Batching.SINGLE),
        (lambda g, t: g.node("Pad", t, g.constant([0, 0, 1, 0, 0, 0, 2, 0], np.int64)), Batching.STACKED),
        (lambda g, t: g.node("Add", t, g.constant(np.ones((3, 1, 16, 1)))), Batching.SINGLE),
    ],
)
def test_many_samples_equal_single_ones(build: object, batching: Batching) -> None:
    graph = GraphBuilder((1, 4, 16, 1))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    model = graph.model(build(graph, codes))  # type: ignore[operator]
    session = InferenceSession(model)
    assert session.program.batching is batching
    x = GENERATOR.normal(0, 1, (5, 4, 16, 1)).astype(np.float32)
    together = session.run(None, {"input": x})[0]
    single = [session.run(None, {"input": x[i : i + 1]})[0] for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(single) if single[0].ndim else np.stack(single))
    runtime = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for i in range(5):
        np.testing.assert_allclose(single[i], runtime.run(None, {"input": x[i : i + 1]})[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"), [(2, 1, 2, [0, 0]), (7, 2, 2, [0, 0]), (7, 3, 2, [1, 1]), (5, 2, 3, [0, 1])]
)
def test_max_pools_that_round_up(size: int, kernel: int, stride: int, pads: list[int]) -> None:
    graph = GraphBuilder((1, 4, size, 1))
    codes = graph.input_stage([0] * 4, [1000] * 4, [5] * 4)
    pooled = graph.node(
        "MaxPool", codes, kernel_shape=[kernel, 1], strides=[stride, 1], pads=[pads[0], 0, pads[1], 0], ceil_mode=1
    )
    model = graph.model(graph.node("Flatten", pooled, axis=1))
    assert [layer.kind for layer in InferenceSession(model).program.layers] == ["MAXPOOL"]
    compare_with_runtime(model, {"input": GENERATOR.normal(0, 1, (4, 4, size, 1)).astype(np.float32)})


@pytest.mark.slow
def test_golden_folders_and_faults_of_a_tensor_that_two_nodes_read(tmp_path: Path) -> None:
    graph, names = convolution_graph(extra=4)
    inner, result = names.split("|")
    model = tmp_path / "model.onnx"
    model.write_bytes(graph.model(graph.node("Concat", graph.clip(inner, -128, 127), result, axis=1)))
    assert call("golden", "write", model, "-o", tmp_path / "golden", "--format", "npz,bin", "-q").code == 0
    assert call("golden", "verify", tmp_path / "golden").code == 0
    with np.load(tmp_path / "golden" / "vectors.npz") as vectors:
        name = InferenceSession(str(model)).program.outputs[0]
        np.savez(tmp_path / "dump.npz", **{name: vectors[name] + 1})
    assert call("golden", "check", tmp_path / "golden", "--dump", tmp_path / "dump.npz").code == 1


@pytest.mark.parametrize(("length", "kinds"), [(32767, ["AVGPOOL"]), (32768, [])])
def test_averages_are_pools_while_their_sums_stay_below_2_22(length: int, kinds: list[str]) -> None:
    """32,768 codes of -128 sum up to -2**22: from there two roundings in float32 may move a sum by a half."""
    graph = GraphBuilder((1, 1, length, 1))
    codes = graph.input_stage([0], [1], [0])
    mean = graph.node("GlobalAveragePool", codes)
    rounded = graph.node("Round", graph.binary("Mul", mean, float(length)))
    program = InferenceSession(graph.model(graph.requantize(rounded, (1, 1, 1, 1), [0], [1], [15], (-128, 127)))).program
    assert [layer.kind for layer in program.layers] == kinds


def test_sums_below_2_22_come_back_from_their_float32_average() -> None:
    """What the limit rests on, for the largest sums and odd areas: ``round(f32(f32(sum / area) * area)) == sum``."""
    sums = np.arange(2**22 - 4096, 2**22, dtype=np.float32)
    for area in (3, 7, 9, 25, 49, 121, 1001, 32767):
        average = sums / np.float32(area)
        assert (np.round(average * np.float32(area)) == sums).all(), area


@pytest.mark.parametrize(
    ("window", "group", "transposed", "shape", "terms"),
    [
        (None, 1, False, (6, 4), 6),  # [in, out]
        (Window((3, 5), (1, 1), (0, 0, 0, 0), (1, 1)), 1, False, (4, 2, 3, 5), 30),  # [out, in, kernel]
        (Window((3, 5), (1, 1), (0, 0, 0, 0), (1, 1)), 2, False, (4, 1, 3, 5), 15),
    ],
)
def test_accumulators_are_held_against_what_int64_takes(
    window: Window | None, group: int, transposed: bool, shape: tuple[int, ...], terms: int
) -> None:
    """So many products of the largest weight and the largest code must lie inside of the staircase's domain."""
    weights = np.full(shape, -3, np.int64)
    found = _Weighted("x", weights, None, 1, window, group, transposed)
    reach = terms * 3 * 100
    for limit, fits in ((reach + 1, True), (reach, False)):
        chain = SimpleNamespace(requantization=SimpleNamespace(domain=Clip(-limit, limit)))
        if fits:
            _check_width(found, weights, chain, ValueRange(-100, 7, True))
        else:
            with pytest.raises(NotALayer, match="62 bits"):
                _check_width(found, weights, chain, ValueRange(-100, 7, True))
