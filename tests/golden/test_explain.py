"""Explanations: every injected cause is named, and random corruption stays unexplained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.golden.check.buffer_causes import Buffer
from npusim.golden.check.evidence import NO_TIE, OTHER_LAYERS, Hypothesis, Ranking, WeighedCause, judge, rank
from npusim.golden.check.explanation import Simulated, explain
from npusim.golden.faults import Fault, FaultKind, FaultRunner, run_with_fault
from npusim.program.input_stage import InputStage
from npusim.schemas import load_schema
from npusim.search.sampling import generate_inputs
from support.fuzz_seeds import quantized, small_tflite
from support.golden_check_models import MODELS, feeds_for, session_for


def wide_type(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "f" else values.astype(np.int64)


class Bench:
    """A model, a tensor of it and six sets."""

    def __init__(self, name: str, tensor: str | None = None, *, layout: str = "nchw") -> None:
        self.session = session_for(name)
        program = self.session.program
        self.feeds = feeds_for(name)
        self.tensor = program.resolve(program.outputs[0] if tensor is None else tensor)
        right = self.session.trace(self.feeds, [self.tensor])[self.tensor]
        self.right = right if len(right) == 6 else right.reshape(6, -1, *right.shape[1:])
        self.layout = layout
        self.simulated = Simulated(program, self.feeds, InputStage.GRAPH, self.tensor)

    def flat(self, values: np.ndarray) -> np.ndarray:
        if self.layout == "nhwc" and values.ndim > 2:
            values = np.moveaxis(values, 1, -1)
        return wide_type(values).reshape(-1, self.right[0].size)

    def explain(self, observed: np.ndarray, sets: list[int] | None = None) -> Ranking:
        chosen = list(range(len(self.right))) if sets is None else sets
        everything = self.flat(self.right)
        buffer = Buffer(observed, everything[chosen], self.right[chosen], self.layout, chosen, everything)
        return explain(buffer, self.simulated)


KNOWN = load_schema("golden_check")["$defs"]["WeighedCause"]["properties"]["cause"]["enum"]


def causes(ranking: Ranking) -> list[str]:
    found = [item.hypothesis.cause for item in ranking.stated]
    assert set(found) <= set(KNOWN), "the schema lists every cause"
    return found


NEAREST = {FaultKind.ROUND_HALF_UP, FaultKind.ROUND_HALF_EVEN, FaultKind.ROUND_HALF_AWAY}


def is_named(fault: Fault, found: Iterable[WeighedCause]) -> bool:
    """Whether a fault is among causes: in its own words, or in those that say how far the dump tells it from its kin."""
    for item in found:
        hypothesis = item.hypothesis
        rounds = {fault.kind, hypothesis.cause} <= NEAREST and NO_TIE in hypothesis.note
        place = fault.step == hypothesis.step or (fault.step is None and OTHER_LAYERS in hypothesis.note)
        if (fault.kind == hypothesis.cause or rounds) and place:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_fault_that_shows_is_named(name: str) -> None:
    bench = Bench(name)
    named = stated = 0
    for fault, values in FaultRunner(bench.session.program, bench.feeds, bench.tensor).runs():
        if values is None:
            continue
        ranking = bench.explain(bench.flat(values))
        differing = int((bench.flat(values) != bench.flat(bench.right)).sum())
        # it is stated, alone; or a few values prove nothing; or something else gives the same dump and is listed with it
        found = ranking.stated or [item for item in ranking.possible if item.complete]
        assert is_named(fault, found), (fault, differing)
        assert len(found) == 1 or not ranking.stated, (fault, differing)
        assert len(found) > 1 or ranking.stated or differing <= 4, (fault, differing)
        assert all(item.explained == item.differing == differing and not item.broken for item in ranking.stated)
        named += 1
        stated += bool(ranking.stated)
    assert named > 10
    assert stated >= 0.6 * named, (stated, named)


def test_the_models_here_show_every_kind_of_fault() -> None:
    assert set(FaultKind) <= set(KNOWN)
    shown = defaultdict(list)
    for name in MODELS:
        bench = Bench(name)
        for fault, values in FaultRunner(bench.session.program, bench.feeds, bench.tensor).runs():
            if values is not None:
                shown[fault.kind].append(name)
    points = {FaultKind.INPUT_POINT, FaultKind.OUTPUT_POINT, FaultKind.PADDING}
    assert set(FaultKind) - set(shown) - points == {FaultKind.ONNX, FaultKind.C28}, "the graph has no fault; c28 equals it"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vibration_w8", "picture"])
def test_one_set_of_an_inner_tensor_is_enough(name: str) -> None:
    program = session_for(name).program
    tensor = program.layers[-2].output if name == "picture" else program.layers[3].output
    bench = Bench(name, tensor)
    count = 0
    for fault, values in FaultRunner(program, bench.feeds, bench.tensor).runs():
        if values is None or np.array_equal(values[2], bench.right[2]):
            continue
        ranking = bench.explain(bench.flat(values)[2:3], [2])
        few = int((values[2] != bench.right[2]).sum()) < 4
        found = ranking.stated or (ranking.possible if few or len(ranking.possible) > 1 else ())
        assert is_named(fault, found), fault
        count += 1
    assert count > 3


def test_the_right_input_stage_may_be_another_one() -> None:
    bench = Bench("vibration_w8")
    program = bench.session.program
    runner = FaultRunner(program, bench.feeds, bench.tensor, variant=InputStage.MSPM0)
    right, observed = bench.flat(runner.expected), bench.flat(bench.right)
    buffer = Buffer(observed, right, runner.expected, "nchw", range(6), right)
    ranking = explain(buffer, Simulated(program, bench.feeds, InputStage.MSPM0, bench.tensor))
    assert ranking.stated == ()
    assert {item.hypothesis.cause for item in ranking.possible} == {FaultKind.ONNX, FaultKind.C28}, "they give the same here"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("inner", [False, True])
def test_random_corruption_stays_unexplained(name: str, inner: bool) -> None:
    program = session_for(name).program
    bench = Bench(name, program.layers[0].output if inner else None)
    generator = np.random.default_rng(5)
    flat = bench.flat(bench.right)
    held = program.tensors[bench.tensor]
    for trial in range(12):
        sets = [1] if trial % 3 == 0 else list(range(6))
        observed = flat[sets].copy()
        places = generator.choice(observed.size, generator.integers(1, observed.size + 1) if trial % 2 else 3, replace=False)
        if trial % 4 < 2:
            observed.flat[places] = generator.integers(int(held.lower), int(held.upper) + 1, len(places))
        else:
            observed.flat[places] += generator.choice([-1, 1], len(places))
        if not np.array_equal(observed, flat[sets]):
            assert causes(bench.explain(observed, sets)) == [], trial


def inner_bench(layout: str = "nchw") -> Bench:
    """The first layer of the pictures: 8 channels of 6x5."""
    return Bench("picture", session_for("picture").program.layers[0].output, layout=layout)


def signed_bench() -> Bench:
    return Bench("picture")


def test_layouts() -> None:
    bench = inner_bench()
    last = np.moveaxis(bench.right, 1, -1).reshape(6, -1).astype(np.int64)
    assert causes(bench.explain(last)) == ["channels_last"]
    assert causes(bench.explain(last[4:5], [4])) == ["channels_last"]
    assert causes(inner_bench("nhwc").explain(bench.flat(bench.right))) == ["channels_first"]
    swapped = np.swapaxes(bench.right, 2, 3).reshape(6, -1).astype(np.int64)
    ranking = bench.explain(swapped)
    assert causes(ranking) == ["axes_permuted"]
    assert "NCWH" in ranking.stated[0].hypothesis.message


@pytest.mark.parametrize("width", [2, 4, 8])
def test_bytes_swapped_in_words(width: int) -> None:
    bench = inner_bench()
    swapped = bench.flat(bench.right).reshape(6, -1, width)[:, :, ::-1].reshape(6, -1)
    ranking = bench.explain(swapped)
    assert causes(ranking) == ["bytes_swapped"]
    assert f"{8 * width}-bit" in ranking.stated[0].hypothesis.message


def test_signs() -> None:
    bench = signed_bench()
    assert bench.right.dtype == np.int8
    assert causes(bench.explain(bench.flat(bench.right) & 0xFF)) == ["read_as_uint8"]
    unsigned = inner_bench()
    assert unsigned.right.dtype == np.uint8
    assert causes(unsigned.explain(unsigned.right.view(np.int8).reshape(6, -1).astype(np.int64))) == ["read_as_int8"]


def test_words_of_16_bits() -> None:
    for bench in (signed_bench(), inner_bench()):
        count = bench.flat(bench.right).shape[1]
        memory = bench.right.reshape(6, -1).astype("<i2").view(bench.right.dtype)[:, :count]
        assert causes(bench.explain(memory.astype(np.int64))) == ["words_of_16_bits"]


@pytest.mark.parametrize("places", [1, 3, -2, 40])
def test_shifted_buffers(places: int) -> None:
    bench = inner_bench()
    moved = np.roll(bench.flat(bench.right), places, axis=1)
    edge = moved[:, :places] if places > 0 else moved[:, places:]
    edge[...] = 85
    ranking = bench.explain(moved)
    assert causes(ranking) == ["shifted_buffer"]
    assert f"{abs(places)} places too {'late' if places > 0 else 'early'}" in ranking.stated[0].hypothesis.message


def test_truncated_buffers() -> None:
    bench = inner_bench()
    flat = bench.flat(bench.right)
    cut = flat[3:4].copy()
    cut[:, 100:] = 0xA5
    ranking = bench.explain(cut, [3])
    assert causes(ranking) == ["truncated_buffer"]
    assert "the rest is 165" in ranking.stated[0].hypothesis.message
    left = flat[3:4].copy()
    left[:, 100:] = flat[2, 100:]
    ranking = bench.explain(left, [3])
    assert causes(ranking) == ["truncated_buffer"]
    assert "left from set 2" in ranking.stated[0].hypothesis.message


def test_a_dead_last_channel_is_no_buffer_that_ends_early() -> None:
    bench = inner_bench()
    flat = bench.flat(bench.right)
    size = flat.shape[1] // bench.right.shape[1]
    flat[:, -size : -size + 3] = 0
    seen = flat.copy()
    seen[:, -size:] = 0
    ranking = explain(Buffer(seen, flat, bench.right, "nchw", range(6), flat), None)
    assert ranking.stated == ()
    assert [item.hypothesis.cause for item in ranking.possible] == ["truncated_buffer", "unlisted"]


def test_one_set_that_holds_the_next_one_does_not_stand_for_all() -> None:
    bench = inner_bench()
    flat = bench.flat(bench.right)[:2]
    ranking = explain(Buffer(flat[[1, 1]], flat, bench.right[:2], "nchw", range(2), flat), None)
    assert ranking.stated == ()


def test_stale_buffers_and_wrong_sets() -> None:
    bench = inner_bench()
    flat = bench.flat(bench.right)
    assert causes(bench.explain(np.full_like(flat, 0xA5))) == ["constant_buffer"]
    # a network that is dead or saturates gives these too
    for usual in (0, 255):
        ranking = bench.explain(np.full_like(flat, usual))
        assert ranking.stated == ()
        assert [item.hypothesis.cause for item in ranking.possible][:1] == ["constant_buffer"]
        assert ranking.possible[-1].hypothesis.cause == "unlisted"
    assert causes(bench.explain(flat[1:2], [2])) == ["stale_previous_set"]
    ranking = bench.explain(flat[4:5], [2])
    assert causes(ranking) == ["wrong_set"]
    assert ranking.stated[0].hypothesis.remedy == "give --set 4"
    assert "stale_previous_set" in causes(bench.explain(np.concatenate([flat[:1], flat[:-1]])))
    assert causes(bench.explain(np.repeat(flat[:1], 6, axis=0))) == ["stale_previous_set"]
    assert causes(bench.explain(np.concatenate([flat[1:], flat[:1]]))) == ["wrong_set"]


def test_floats_printed_with_few_decimals() -> None:
    generator = np.random.default_rng(2)
    right = generator.normal(0, 1, (1, 12)).astype(np.float32)
    seen = np.array([[np.float32(f"{value:f}") for value in right[0]]])
    ranking = explain(Buffer(seen, right, right, "nchw", [0], right), None)
    assert causes(ranking) == ["printed_decimals"]
    assert "with 6 decimals" in ranking.stated[0].hypothesis.message


def test_a_cause_beside_other_corruption_is_listed_and_not_stated() -> None:
    bench = inner_bench()
    program = bench.session.program
    faults = {str(fault): values for fault, values in FaultRunner(program, bench.feeds, bench.tensor).runs()}
    name = f"in '{program.layers[0].name}' the bias is missing"
    observed = bench.flat(faults[name]).copy()
    wrong = np.flatnonzero(observed.ravel() != bench.flat(bench.right).ravel())
    observed.flat[wrong[:5]] = 99
    ranking = bench.explain(observed)
    assert ranking.stated == ()
    assert ranking.untried == ()
    assert [item.hypothesis.message for item in ranking.possible] == [name]
    assert len(wrong) - 5 <= ranking.possible[0].explained < ranking.possible[0].differing
    assert not ranking.possible[0].complete


def test_many_sets_are_screened_and_then_simulated_all() -> None:
    session = session_for("vibration_w4")
    program = session.program
    feeds = generate_inputs(program, 75, seed=1)
    right = session.trace(feeds, ["output"])["output"]
    fault = Fault(FaultKind.ROUND_HALF_UP, program.layers[0].name)
    seen = run_with_fault(program, feeds, fault, "output")
    flat = right.reshape(75, -1).astype(np.int64)
    observed = seen.reshape(75, -1).astype(np.int64)
    simulated = Simulated(program, feeds, InputStage.GRAPH, "output")
    ranking = explain(Buffer(observed, flat, right, "nchw", range(75), flat), simulated)
    assert is_named(fault, ranking.stated)
    observed[60, 2] += 1
    again = explain(Buffer(observed, flat, right, "nchw", range(75), flat), simulated)
    assert flat[60, 2] == observed[60, 2] or again.stated == ()
    assert fault.kind in [item.hypothesis.cause for item in (*again.stated, *again.possible)]


def test_weak_evidence_is_listed_and_not_stated() -> None:
    right = np.array([[10, 20, 30, 40]])
    seen = np.array([[10, 21, 30, 40]])
    found = rank(
        [Hypothesis(f"cause {place}", "", "", right + np.eye(4, dtype=int)[place : place + 1]) for place in range(4)],
        seen,
        right,
    )
    assert found.stated == ()
    assert [item.hypothesis.cause for item in found.possible] == ["cause 1"]
    assert found.tried == 4


def test_causes_that_exclude_each_other_are_never_stated() -> None:
    right = np.arange(40)[None]
    seen = right + (np.arange(40) < 20) * (1 + np.arange(40) % 7)
    alone = Hypothesis("toward_zero", "in a", "", seen, step="a")
    everywhere = Hypothesis("toward_zero", "in all", "", seen)
    assert len(rank([alone], seen, right).stated) == 1
    (both,) = rank([alone, everywhere], seen, right).stated
    assert both.hypothesis.step == "a"
    assert (both.hypothesis.message, both.hypothesis.note) == ("in a", OTHER_LAYERS)
    for rival in (
        Hypothesis("missing_bias", "other", "", seen, step="a"),
        Hypothesis("toward_zero", "in b", "", seen, step="b"),
    ):
        found = rank([alone, rival], seen, right)
        assert found.stated == ()
        assert len(found.possible) == 2
        assert all(item.complete for item in found.possible)


def test_what_breaks_right_values_is_no_cause() -> None:
    right, seen = np.arange(40)[None], np.arange(40)[None] + (np.arange(40) < 20)
    broken = Hypothesis("too much", "", "", right + (np.arange(40) < 21))
    assert judge(broken, seen, right).broken == 1
    assert rank([broken], seen, right).stated == ()
    assert rank([Hypothesis("just that", "", "", seen)], seen, right).stated[0].explained == 20


@pytest.mark.exports
@pytest.mark.parametrize("model", ["CNN_TS_GEN_BASE_1K_NPU__qat_w8a8_oi__ts17", "AE_CNN_TS_GEN_BASE_2K_NPU__ptq_w4a8_of__ts17"])
def test_faults_in_real_exports_are_named(model: str) -> None:
    from npusim import InferenceSession
    from support import load_export

    export = load_export(model)
    session = InferenceSession(export.model)
    program = session.program
    feeds = {program.inputs[0]: export.inputs()[:4]}
    target = program.resolve(program.outputs[0])
    right = session.trace(feeds, [target])[target]
    flat = wide_type(right).reshape(4, -1)
    simulated = Simulated(program, feeds, InputStage.GRAPH, target)
    shown = [(fault, values) for fault, values in FaultRunner(program, feeds, target).runs() if values is not None]
    assert len(shown) > 10
    for fault, values in shown[::4]:
        if int((values != right).sum()) >= 4:
            ranking = explain(Buffer(wide_type(values).reshape(4, -1), flat, right, "nchw", range(4), flat), simulated)
            assert is_named(fault, ranking.stated or ranking.possible), fault
            assert ranking.stated or len(ranking.possible) > 1, fault


@pytest.mark.parametrize("name", ["zero points", "channels last"])
def test_faults_of_models_whose_tensors_are_held_otherwise_than_in_the_file(name: str, tmp_path: Path) -> None:
    """What a fault gives is compared as dumps have it: with zero points, in the order of the file."""
    content = quantized(tmp_path, "qdq") if name == "zero points" else small_tflite()
    session = InferenceSession(content)
    program = session.program
    given = session.get_inputs()[0]
    shape = (6, *given.shape[1:])
    values = np.random.default_rng(5).integers(-128, 128, shape)
    feeds = {given.name: values.astype(np.float32) / 16 if given.type == "tensor(float)" else values.astype(np.int8)}
    layer = program.layers[0]
    target = program.tensors[layer.output]
    right = session.trace(feeds, [layer.output])[layer.output]
    held = {key: program.tensors[key].as_held(array) for key, array in feeds.items()}
    simulated = Simulated(program, feeds, InputStage.GRAPH, layer.output)
    shown, kinds = 0, set[FaultKind]()
    for fault, codes in FaultRunner(program, held, layer.output).runs():
        if codes is None:
            continue
        # what such a device dumps: codes with the zero point, axes in the order of the file, 8 bits each
        turned = codes if target.order is None else codes.transpose(target.order)
        seen = (turned.astype(np.int64) + target.zero_point).astype(right.dtype).astype(np.int64).reshape(6, -1)
        flat = right.astype(np.int64).reshape(6, -1)
        ranking = explain(Buffer(seen, flat, right, "nchw", range(6), flat), simulated)
        assert is_named(fault, [item for item in (*ranking.stated, *ranking.possible) if item.complete]), fault
        # that other roundings of a layer are not tried is said wherever no cause is stated
        assert bool(ranking.untried) == (not ranking.stated and name == "channels last")
        shown += 1
        kinds.add(fault.kind)
    assert shown
    if name == "zero points":
        assert kinds >= {FaultKind.OUTPUT_POINT, FaultKind.FIRST_SCALE, FaultKind.TOWARD_ZERO}
