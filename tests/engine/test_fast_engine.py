"""The fast engine gives the bits of the reference engine: every tensor and kind, any number of samples, chunks and threads."""

from __future__ import annotations

import weakref
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession, UnsupportedError
from npusim.engine.fast import make_plan
from npusim.engine.fast.hosting import runs_samples_last
from npusim.engine.fast.layouts import choose_layouts
from npusim.engine.runner import ReferenceRunner
from npusim.engine.samples import join_samples
from npusim.graph import Array
from npusim.program import Batching, Program
from npusim.program.trace import step_kind
from support import Export
from support.builders import GraphBuilder
from support.engine_cases import CASES
from support.engine_check import COUNTS, Cut, assert_same, every_tensor, reference_tensors, samples_for
from support.mixed_strategies import MixedNetwork, mixed_networks
from support.sketch import Sketch
from support.strategies import Network, networks

THREADS = (1, 2, 3)


@cache
def case(name: str) -> tuple[bytes, Program, dict[str, Array], dict[str, Array]]:
    """Model, program, inputs and all tensors of a case of `CASES`, the latter by the reference engine."""
    model = CASES[name]()
    program = InferenceSession(model).program
    feeds = samples_for(program, max(COUNTS))
    return model, program, feeds, reference_tensors(program, feeds)


@pytest.mark.parametrize("factor", [2.0, 1.5, 0.5, 0.75])
def test_nearest_positions_are_repeated_evenly_or_not(factor: float) -> None:
    graph = GraphBuilder((1, 2, 8, 1))
    codes = graph.input_stage([0, 0], [16, 16], [2, 2])
    weights = np.arange(-6, 6).reshape(2, 2, 3, 1)
    hidden = graph.convolution(codes, weights, np.arange(2), [1] * 2, [3] * 2, (-128, 127), pads=[1, 0, 1, 0])
    resized = graph.node("Resize", hidden, "", graph.constant([1, 1, factor, 1]), mode="nearest", nearest_mode="floor")
    last = graph.convolution(resized, weights, np.arange(2), [1] * 2, [3] * 2, (-128, 127), pads=[1, 0, 1, 0])
    program = InferenceSession(graph.model(last)).program
    assert program.batching is Batching.STACKED
    feeds = samples_for(program, 7)
    plan = make_plan(program)
    found = every_tensor(program, Cut(plan, plan.samples), feeds, threads=1)
    assert_same(found, reference_tensors(program, feeds), slice(None), program.constants)


@pytest.mark.parametrize("first", [False, True])
def test_a_constant_among_joined_tensors_is_joined_too(first: bool) -> None:
    """Joins run in the engine's own layout where all parts are computed; a constant has none."""
    graph = GraphBuilder((1, 2, 4, 1))
    codes = graph.input_stage([0, 0], [16, 16], [2, 2])
    weights = np.arange(-6, 6).reshape(2, 2, 3, 1)
    hidden = graph.convolution(codes, weights, np.arange(2), [1] * 2, [3] * 2, (-128, 127), pads=[1, 0, 1, 0])
    constant = graph.constant(np.arange(4).reshape(1, 1, 4, 1) - 2)
    parts = [constant, hidden] if first else [hidden, constant]
    model = graph.model(graph.node("Concat", *parts, axis=1))
    feeds = samples_for(InferenceSession(model).program, 7)
    results = [InferenceSession(model, engine=engine).run(None, feeds)[0] for engine in ("reference", "fast")]
    assert results[0].shape == (7, 3, 4, 1)
    assert (results[0][:, 0 if first else 2, :, 0] == np.arange(4) - 2).all()
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("constant", [False, True])
def test_joins_run_in_the_engines_layout_where_all_parts_are_computed(constant: bool) -> None:
    graph = GraphBuilder((1, 2, 4, 1))
    codes = graph.input_stage([0, 0], [16, 16], [2, 2])
    other = graph.constant(np.zeros((1, 1, 4, 1))) if constant else codes
    program = InferenceSession(graph.model(graph.node("Concat", codes, other, axis=1))).program
    (join,) = program.host_operations
    assert runs_samples_last(join, program) is not constant


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_hand_built_networks(name: str) -> None:
    _, program, feeds, wanted = case(name)
    assert program.batching is Batching.STACKED
    assert program.layers
    plan = make_plan(program)
    for count in COUNTS:
        few = {key: array[:count] for key, array in feeds.items()}
        found = every_tensor(program, Cut(plan, plan.samples), few, threads=THREADS[count % 3])
        assert_same(found, wanted, slice(count), program.constants)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_chunks_and_threads_change_no_bit_of_hand_built_networks(name: str) -> None:
    _, program, feeds, wanted = case(name)
    plan = make_plan(program)
    for samples, count in ((1, 9), (5, 23), (64, 70), (69, 70)):
        few = {key: array[:count] for key, array in feeds.items()}
        for threads in THREADS:
            found = every_tensor(program, Cut(plan, samples), few, threads=threads)
            assert_same(found, wanted, slice(count), program.constants)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_outputs_alone_are_the_same(name: str) -> None:
    """Without traces nothing is computed twice, and results lie in the memory that the next run uses again."""
    model, program, feeds, wanted = case(name)
    session = InferenceSession(model, threads=2)
    kept = [session.run(None, {key: array[start:] for key, array in feeds.items()}) for start in (0, 3, 0, 199)]
    for outputs, start in zip(kept, (0, 3, 0, 199), strict=True):
        for output, output_name in zip(outputs, program.outputs, strict=True):
            assert output.dtype == program.tensors[output_name].dtype
            np.testing.assert_array_equal(output, wanted[program.resolve(output_name)][start:])


@pytest.mark.slow
def test_the_cases_are_of_every_kind_and_carrier() -> None:
    kinds, carriers = set(), set()
    for name in CASES:
        program = case(name)[1]
        kinds |= {str(layer.kind) for layer in program.layers}
        carriers |= {str(choice.carrier) for choice in make_plan(program).carriers.values()}
    assert kinds == {"FCONV", "GCONV", "DWCONV", "PWCONV", "PWCONVRES", "TCONV", "FC", "AVGPOOL", "MAXPOOL", "ADD"}
    assert carriers == {"float32_folded", "float32", "float64", "integer"}


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        ("plainly", {"GCONV": "MAXPOOL"}),
        ("signed", {"GCONV": "MAXPOOL"}),
        ("padded", {"GCONV": "MAXPOOL"}),
        ("scales_of_all_signs", {"GCONV": "MAXPOOL"}),
        ("wide_positive", {"GCONV": "MAXPOOL"}),
        ("sum", {"ADD": "MAXPOOL"}),
        ("twice", {"GCONV": "MAXPOOL"}),
        ("no_tap_everywhere", {}),
        ("wide_negative", {}),
        ("codes_given_out", {}),
    ],
)
def test_pools_are_computed_before_codes_where_that_is_the_same(kind: str, pairs: dict[str, str]) -> None:
    program = case(f"pooled_{kind}")[1]
    found = make_plan(program).pooled
    assert {step_kind(program.steps[index]): step_kind(program.steps[pool]) for index, pool in found.items()} == pairs
    assert all(pool == index + 1 for index, pool in found.items())


def test_a_tensor_that_is_passed_over_can_still_be_asked_for() -> None:
    """Runs with and without it follow each other in one session."""
    model, program, feeds, wanted = case("pooled_plainly")
    (index,) = make_plan(program).pooled
    codes = program.steps[index].tensors[-1]
    session = InferenceSession(model, threads=1)
    for names in (None, [codes], None, [*program.outputs, codes], None):
        for array, name in zip(session.run(names, feeds), names or program.outputs, strict=True):
            np.testing.assert_array_equal(array, wanted[program.resolve(name)])


def test_layers_that_work_by_channel_have_their_channels_outermost() -> None:
    program = case("by_channels_plainly")[1]
    plan = make_plan(program)
    for single in (False, True):
        layouts = choose_layouts(program, plan.native, single=single)
        read_by_channel = {layer.inputs[0] for layer in program.layers}
        assert {name for name, layout in layouts.items() if layout.channels_outermost} == (set() if single else read_by_channel)
        assert single or not any(layout.is_padded for layout in layouts.values())


def test_every_tensor_of_every_export(export: Export) -> None:
    program = InferenceSession(export.model).program
    x = export.inputs()
    (name,) = program.inputs
    wanted = reference_tensors(program, {name: x})
    plan = make_plan(program)
    heavy = int(export.row["macs"]) >= 500_000
    for count in (7, 74) if heavy else (1, 2, 63, 65, 74):
        found = every_tensor(program, Cut(plan, plan.samples), {name: x[:count]}, threads=THREADS[count % 3])
        assert_same(found, wanted, slice(count), program.constants)


def test_outputs_of_every_export_for_any_number_of_samples_and_threads(export: Export) -> None:
    x = export.inputs()
    sessions = [InferenceSession(export.model, threads=threads) for threads in THREADS]
    wanted = InferenceSession(export.model, engine="reference", threads=1).run(None, {sessions[0].get_inputs()[0].name: x})
    for count in COUNTS:
        chosen = np.arange(count) * 5 % len(x)
        session = sessions[count % 3]
        outputs = session.run(None, {session.get_inputs()[0].name: x[chosen]})
        for output, expected in zip(outputs, wanted, strict=True):
            assert output.dtype == expected.dtype
            assert np.ascontiguousarray(output).tobytes() == expected[chosen].tobytes()


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.sampled_from(COUNTS), st.sampled_from(THREADS), st.integers(1, 90))
def test_random_networks(network: Network, count: int, threads: int, samples: int) -> None:
    program = InferenceSession(network.model).program
    feeds = samples_for(program, count, network.seed)
    found = every_tensor(program, Cut(make_plan(program), samples), feeds, threads=threads)
    assert_same(found, reference_tensors(program, feeds), fixed=program.constants)


@pytest.mark.slow
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(mixed_networks(), st.sampled_from(COUNTS[:6]), st.sampled_from(THREADS), st.integers(1, 90))
def test_random_networks_of_any_geometry_and_width(network: MixedNetwork, count: int, threads: int, samples: int) -> None:
    program = InferenceSession(network.model).program
    assert program.batching is Batching.STACKED
    feeds = samples_for(program, count, network.seed)
    found = every_tensor(program, Cut(make_plan(program), samples), feeds, threads=threads)
    assert_same(found, reference_tensors(program, feeds), fixed=program.constants)


@pytest.mark.parametrize("name", ["dense_plane", "island_functions", "connected_flattened", "two_inputs"])
def test_inputs_that_overflow_saturate(name: str) -> None:
    """The largest floats times a multiplier are infinite, which is what the graph says, and no reason for a warning."""
    program = case(name)[1]
    feeds = {key: np.where(array < 0, np.float32(-3e38), np.float32(3e38)) for key, array in case(name)[2].items()}
    assert_same(every_tensor(program, make_plan(program), feeds), reference_tensors(program, feeds), fixed=program.constants)


def model_that_mixes_samples() -> bytes:
    """Integer layers, then a sum over the first axis: only sample by sample is what the model says."""
    sketch = Sketch(3, 8, 1)
    codes = sketch.layer(sketch.weights(3, 3, 3, 1), pads=(1, 0, 1, 0))
    summed = sketch.graph.node("ReduceSum", codes, sketch.graph.constant([0], np.int64), keepdims=1)
    return sketch.finish(summed, codes)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("count", [1, 2, 9, 70])
def test_samples_that_would_mix_run_one_by_one_in_both_engines(count: int, threads: int) -> None:
    model = model_that_mixes_samples()
    fast, reference = (InferenceSession(model, engine=engine, threads=threads) for engine in ("fast", "reference"))
    assert fast.program.batching is Batching.SINGLE
    feeds = samples_for(fast.program, count)
    found, wanted = fast.trace(feeds), reference.trace(feeds)
    assert_same(found, wanted)
    for index in range(count):
        alone = reference_tensors(fast.program, {"input": feeds["input"][index : index + 1]})
        assert_same({name: values[index : index + 1] for name, values in found.items()}, alone, fixed=fast.program.constants)


def test_a_batch_of_the_models_own_is_run_whole() -> None:
    sketch = Sketch(3, 8, 1)
    model = onnx.load_from_string(sketch.finish(sketch.layer(sketch.weights(3, 3, 3, 1), pads=(1, 0, 1, 0))))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    fast, reference = (InferenceSession(model.SerializeToString(), engine=engine) for engine in ("fast", "reference"))
    assert fast.program.batching is Batching.FIXED
    assert [str(layer.kind) for layer in fast.program.layers] == ["GCONV"]
    feeds = samples_for(fast.program, 4)
    assert_same(fast.trace(feeds), reference.trace(feeds))
    assert_same(fast.trace(feeds), reference_tensors(fast.program, feeds))


def test_a_network_without_integer_layers_runs() -> None:
    graph = GraphBuilder((1, 3, 4, 1))
    model = graph.model(graph.node("Relu", graph.binary("Mul", "input", -0.5)))
    fast, reference = (InferenceSession(model, engine=engine) for engine in ("fast", "reference"))
    feeds = samples_for(fast.program, 130)
    assert_same(fast.trace(feeds), reference.trace(feeds))


def test_codes_that_come_out_as_nan_are_refused_by_both_engines() -> None:
    """1e30 times the largest floats is infinite, and infinity times 0 is not a number."""
    graph = GraphBuilder((1, 4, 6, 1))
    scaled = graph.binary("Mul", graph.binary("Mul", "input", 1e30), 0.0)
    codes = graph.clip(graph.node("Floor", scaled), -128, 127)
    weights = np.ones((3, 4, 1, 1), np.int64)
    model = graph.model(graph.convolution(codes, weights, np.zeros(3), np.ones(3), np.zeros(3), (0, 255)))
    feeds = {"input": np.full((3, 4, 6, 1), 3e38, np.float32)}
    for engine in ("reference", "fast"):
        session = InferenceSession(model, engine=engine)
        with pytest.raises(UnsupportedError, match="comes out as NaN"):
            session.run(None, feeds)
        assert np.isfinite(session.run(None, {"input": feeds["input"] * 0})[0]).all()


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_results_are_the_callers_own(engine: str, count: int) -> None:
    """Writing into a result changes neither the next run nor the inputs."""
    model, program, feeds, wanted = case("dense_plane")
    session = InferenceSession(model, engine=engine, threads=1)
    mine = {"input": feeds["input"][:count].copy()}
    for values in session.trace(mine).values():
        if values.flags.writeable:
            values[...] = 0
    for values in session.run(["input", *program.outputs], mine):
        values[...] = 0
    np.testing.assert_array_equal(mine["input"], feeds["input"][:count])
    assert_same(session.trace(mine), wanted, slice(count), program.constants)


def test_the_reference_engine_is_what_its_runner_says() -> None:
    _, program, feeds, wanted = case("residual_plain")
    assert_same(every_tensor(program, ReferenceRunner(program, 9), feeds, threads=2), wanted, fixed=program.constants)


def test_joined_samples_are_longer_and_numbers_get_an_axis() -> None:
    assert join_samples([np.array([1, 2]), np.array([3, 4])]).tolist() == [1, 2, 3, 4]
    assert join_samples([np.array(1), np.array(3)]).tolist() == [1, 3]
    assert join_samples([np.array([[1]]), np.array([[3]])]).tolist() == [[1], [3]]


def test_a_session_keeps_memory_and_not_the_samples() -> None:
    session = InferenceSession(CASES[next(iter(CASES))]())
    feeds = samples_for(session.program, 3)
    held = [weakref.ref(values) for values in feeds.values()]
    session.run(None, feeds)
    feeds.clear()
    assert [ref() for ref in held] == [None] * len(held)
