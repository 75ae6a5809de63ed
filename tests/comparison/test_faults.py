"""Faults put into a layer of a quantized model are found in that layer, named, and nothing else is blamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import npusim
from npusim.comparison.faults.numbers import misfit
from npusim.comparison.faults.suspicion import Suspicion
from npusim.comparison.findings.fault_rules import suspected
from npusim.comparison.findings.scene import Scene
from npusim.program import Clip, Program, QuantizeStage, ShiftFloor, Step
from npusim.program.lowering.tinpu.emitter import emit
from support.float_pairs import network, samples

Change = Callable[[Any], Any]

FIRST, SECOND, POOL, LAST = range(1, 5)
"""Steps of `network`, behind its input stage."""


@cache
def pair() -> tuple[Program, bytes]:
    quantized, reference = network().models()
    program = npusim.InferenceSession(quantized).program
    return npusim.InferenceSession(emit(program)).program, reference


def findings(program: Program, reference: bytes | None = None) -> list[npusim.Finding]:
    found = npusim.compare(emit(program), pair()[1] if reference is None else reference, samples())
    return [finding for finding in found.findings if finding.severity != "info"]


def changed(place: int, change: Change) -> Program:
    program = pair()[0]
    steps: list[Step] = list(program.steps)
    steps[place] = change(steps[place])
    return replace(program, steps=tuple(steps))


def weights(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda layer: replace(layer, weights=change(layer.weights.copy()))


def part(**changes: Callable[[Any], Any]) -> Change:
    def made(layer: Any) -> Any:
        own: ShiftFloor = layer.requantization
        return replace(layer, requantization=replace(own, **{name: one(getattr(own, name)) for name, one in changes.items()}))

    return made


def at(channel: int, change: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def made(values: np.ndarray) -> np.ndarray:
        result = values.copy()
        result[channel] = change(values[channel])
        return result

    return made


def test_nothing_is_wrong_with_the_network_itself() -> None:
    assert findings(pair()[0]) == []


FAULTS: dict[str, tuple[int, Change, str, list[int]]] = {
    "one filter negated": (FIRST, weights(at(2, lambda row: -row)), "weights_off", [2]),
    "one filter zero": (SECOND, weights(at(1, lambda row: 0 * row)), "weights_off", [1]),
    "one filter halved": (SECOND, weights(at(3, lambda row: row // 2)), "weights_off", [3]),
    "one input channel negated": (
        SECOND,
        weights(lambda rows: rows * np.array([1, 1, -1, 1]).reshape(1, 4, 1, 1)),
        "weights_off",
        [2],
    ),
    "two filters swapped": (FIRST, weights(lambda rows: rows[[0, 3, 2, 1]]), "channels_swapped", [1, 3]),
    "two input channels swapped": (SECOND, weights(lambda rows: rows[:, [2, 1, 0, 3]]), "channels_swapped", [0, 2]),
    "one bias with the other sign": (FIRST, part(bias=at(0, lambda bias: -bias)), "bias_off", [0]),
    "all biases zero": (SECOND, part(bias=lambda bias: 0 * bias), "bias_off", [0, 1, 2, 3, 4]),
    "shift one more": (FIRST, part(shift=lambda shift: shift + 1), "shift_off", []),
    "shift of one channel one less": (FIRST, part(shift=at(1, lambda shift: shift - 1)), "shift_off", [1]),
    "scale of one channel times three": (FIRST, part(scale=at(2, lambda scale: 3 * scale)), "scale_off", [2]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_in_its_layer_and_nowhere_else(name: str) -> None:
    place, change, rule, channels = FAULTS[name]
    found = findings(changed(place, change))
    layer = pair()[0].steps[place].name
    assert (found[0].rule, found[0].layer) == (rule, layer), [(one.rule, one.layer) for one in found]
    assert sorted(found[0].evidence["channels"]) == channels
    assert {one.layer for one in found} == {layer}
    assert found[0].evidence["output_gain_db"] > 0


def test_a_clip_that_cuts_off_is_too_narrow() -> None:
    (first, *_) = findings(changed(FIRST, part(clip=lambda _: Clip(0, 40))))
    assert (first.rule, first.layer) == ("clip_narrowed", pair()[0].steps[FIRST].name)
    assert (first.evidence["upper"], first.evidence["wide_upper"]) == (40, 255)


def test_a_clip_that_cuts_nothing_off_is_not() -> None:
    assert findings(changed(LAST, part(clip=lambda _: Clip(-120, 120)))) == []


def test_a_relu_that_is_missing() -> None:
    (first, *_) = findings(changed(SECOND, part(clip=lambda _: Clip(-255, 255))))
    assert (first.rule, first.layer) == ("activation_missing", pair()[0].steps[SECOND].name)


@pytest.mark.parametrize(("shift", "gain"), [(-1, 2.0), (1, 0.5)])
def test_a_divisor_that_no_exporter_takes_comes_first(shift: int, gain: float) -> None:
    found = findings(changed(POOL, part(shift=lambda values: values + shift)))
    assert (found[0].rule, found[0].evidence["gain"]) == ("average_gain", gain)


def test_an_input_stage_with_another_offset() -> None:
    program = pair()[0]
    stage = next(step for step in program.steps if isinstance(step, QuantizeStage))
    name = next(one for node in stage.nodes if node.op_type == "Add" for one in node.inputs if one in program.constants)
    constants = {**program.constants, name: (program.constants[name] + 1.0).astype(np.float32)}
    found = findings(replace(program, constants=constants))
    assert (found[0].rule, found[0].layer) == ("input_offset", stage.name)
    # one LSB is 2**-5
    assert found[0].evidence["distance"] == 32.0


def test_two_faults_are_both_named() -> None:
    program = changed(FIRST, weights(at(2, lambda row: -row)))
    steps = list(program.steps)
    steps[LAST] = part(bias=lambda bias: 0 * bias)(steps[LAST])
    found = {(one.rule, one.layer) for one in findings(replace(program, steps=tuple(steps)))}
    assert found >= {("weights_off", steps[FIRST].name), ("bias_off", steps[LAST].name)}


def test_what_is_left_of_weights() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, -1.0]])
    assert misfit(rows, 0.5 * rows).tolist() == [0.0, 0.0, 0.0]
    assert misfit(rows, -rows).tolist() == [1.0, 0.0, 1.0]


def test_scales_that_the_file_declares_are_used_and_checked() -> None:
    program, reference = pair()
    plain = npusim.compare(emit(program), reference, samples())
    declared = {layer.tensor: np.array([layer.scales.output]) for layer in plain.layers}
    same = npusim.compare(emit(program, declared), reference, samples())
    assert all(layer.scales.declared for layer in same.layers)
    assert [layer.scales.output for layer in same.layers] == [layer.scales.output for layer in plain.layers]
    first = program.steps[FIRST]
    declared[first.tensors[-1]] = 4 * declared[first.tensors[-1]]
    found = [one for one in npusim.compare(emit(program, declared), reference, samples()).findings if one.severity != "info"]
    assert [(one.rule, one.layer) for one in found] == [("declared_scale", first.name)]
    assert found[0].evidence["factor"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("rule", "channels", "share", "beside", "gain", "stated"),
    [
        ("bias_off", (1,), 0.31, 0.0, 0.0, True),
        ("bias_off", (1,), 0.29, 0.0, 0.0, False),
        ("bias_off", (1,), 0.29, 0.0, 3.0, True),
        ("bias_off", (1,), 0.2, 0.11, 0.0, True),
        ("scale_off", (), 1.0, 0.0, 1.9, False),
        ("scale_off", (), 1.0, 0.0, 2.0, True),
        ("shift_off", (), 1.0, 0.0, 0.0, True),
    ],
)
def test_a_fault_explains_its_layer_or_the_output(
    rule: str, channels: tuple[int, ...], share: float, beside: float, gain: float, stated: bool
) -> None:
    evidence = {"output_gain_db": gain, "octaves": 1, "where": "", "looks": "", "offset": 1.0}
    one = Suspicion(rule, "layer", channels, {**evidence, "share_of_introduced": share})
    other = Suspicion("weights_off", "layer", (2,), {"share_of_introduced": beside})
    comparison: Any = SimpleNamespace(suspicions=(one, other), layers=())
    assert bool(list(suspected(rule)(Scene(pair()[0], {}, comparison)))) == stated
