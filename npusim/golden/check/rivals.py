"""Faults that are no common mistake but may give the same dump: a cause is stated only where none of them does.

The list of faults is short, and devices are wrong in many more ways. Around every layer some dozens of these are simulated:
other parameters, one channel alone, inputs and codes that are moved, negated or cut. Where one of them gives the dump that a
fault of the list gives, the dump does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from npusim.golden.faults import Fault, FaultKind, FaultRunner, faults_of_layer, faulty_codes
from npusim.graph import Array
from npusim.program import Accumulating, IntegerArray, IntegerLayer, QuantizeStage, ShiftFloor, Step, Weighted, along
from npusim.program.accumulation import accumulate

__all__ = ["AT_ONCE", "Observation", "layers_needed", "rivals", "sentence_of"]

AT_ONCE: Final = 32
"""Sets simulated at a time: bounds the memory."""

SINGLE_CHANNELS: Final = 256
"""Most channels of a layer that are looked at one by one."""

Named = tuple[str, IntegerArray]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A dump, and what simulates faults on some of its rows.

    Attributes
    ----------
    seen, right
        What the device wrote and what is right, ``[rows, values]``.
    runner
        Makes what simulates faults on some rows.
    ordered
        Brings a tensor into the order of the dump, ``[rows, values]``.
    """

    seen: Array
    right: Array
    runner: Callable[[list[int]], FaultRunner]
    ordered: Callable[[Array], Array]

    def parts(self) -> Iterator[tuple[FaultRunner, Array]]:
        """All rows, some at a time."""
        for start in range(0, len(self.seen), AT_ONCE):
            rows = list(range(start, min(start + AT_ONCE, len(self.seen))))
            yield self.runner(rows), self.seen[rows]


def rivals(observation: Observation, winner: Fault, *, everywhere: bool) -> list[str]:
    """What else gives the dump that a fault of the list gives, as sentences; in its own layer, or everywhere."""
    row = int((observation.seen != observation.right).sum(axis=1).argmax())
    runner = observation.runner([row])
    alike = {
        (step.name, name)
        for step in runner.steps
        if everywhere or step.name == winner.step
        for name in _matching(runner, step, winner, observation, observation.seen[[row]], None)
    }
    for runner, seen in observation.parts() if alike else ():
        still = set[tuple[str, str]]()
        for step in runner.steps:
            names = {name for place, name in alike if place == step.name}
            if names:
                still |= {(step.name, name) for name in _matching(runner, step, winner, observation, seen, names)}
        alike &= still
    return [f"in '{place}' {name}" for place, name in sorted(alike)]


def layers_needed(observation: Observation, kind: FaultKind) -> tuple[list[str], int]:
    """Layers in which a fault that may be in all of them is needed to give the dump, and how many can have it."""
    runner = observation.runner([0])
    every = [step.name for step in runner.steps if step.name in runner.layers_with(kind)]
    kept = list(every)
    for name in every:
        fewer = [one for one in kept if one != name]
        if all(np.array_equal(observation.ordered(one.run_in(kind, fewer)), seen) for one, seen in observation.parts()):
            kept = fewer
    return kept, len(every)


def _matching(
    runner: FaultRunner, step: Step, winner: Fault, observation: Observation, seen: Array, names: set[str] | None
) -> list[str]:
    """The faults of one step that give what was seen; with `names` only these are tried."""
    right = runner.values(step.tensors[-1])
    found: dict[bytes, tuple[list[str], Array]] = {}
    for name, codes in _near(runner, step, winner):
        if names is None or name in names:
            kept = codes.astype(right.dtype)
            if np.array_equal(kept, right) and names is None:
                continue
            found.setdefault(kept.tobytes(), ([], kept))[0].append(name)
    results = runner.replaced(step, [codes for _, codes in found.values()])
    return [
        name
        for (alike, _), values in zip(found.values(), results, strict=True)
        if np.array_equal(observation.ordered(values), seen)
        for name in alike
    ]


def _near(runner: FaultRunner, step: Step, winner: Fault) -> Iterator[Named]:
    right = runner.values(step.tensors[-1]).astype(np.int64)
    if isinstance(step, QuantizeStage) and runner.is_input_stage(step):
        yield from _near_codes(right, step.clip.lower, step.clip.upper)
        yield from _moved(right)
        yield from (
            (f"its codes are {name}", codes)
            for name, codes in (("negated", -right), ("halved", right >> 1), ("doubled", 2 * right))
        )
    elif isinstance(step, Accumulating) and faults_of_layer(step):
        inputs = [runner.values(name).astype(np.int64) for name in step.inputs]
        yield from _near_layer(step, inputs, right)
        if winner.step == step.name:
            (wrong,) = faulty_codes(step, inputs, [winner.kind], np.int64).values()
            yield from _single_channels(step, wrong.astype(np.int64), right)


def _near_layer(layer: Accumulating, inputs: list[IntegerArray], right: IntegerArray) -> Iterator[Named]:
    sums = accumulate(layer, inputs)
    residual = layer.residual_of(inputs)

    def finished(values: IntegerArray) -> IntegerArray:
        return layer.finish(values, residual)

    def of_sums(values: IntegerArray, staircase: Accumulating = layer) -> IntegerArray:
        return staircase.finish(staircase.requantization.unclipped(values, staircase.channel_axis), residual)

    part = layer.requantization
    if isinstance(part, ShiftFloor) and not part.toward_zero:
        for name, other in _near_staircases(part):
            yield name, of_sums(sums, replace(layer, requantization=other))
        bias, scale, shift = (along(values, sums.ndim, layer.channel_axis) for values in (part.bias, part.scale, part.shift))
        yield "the bias is added behind the scale", finished((sums * scale + bias) >> shift)
        yield "the bias is added behind the shift", finished(((sums * scale) >> shift) + bias)
        yield "the shift is done before the scale", finished(((sums + bias) >> shift) * scale)
        yield "the shift rounds up", finished(-((-(sums + bias) * scale) >> shift))
    for name, values in (
        ("the sums are one more", sums + 1),
        ("the sums are one less", sums - 1),
        ("the sums lack their low bits", sums & ~7),
        ("the sums are negated", -sums),
        ("the sums saturate at 16 bits", np.clip(sums, -(2**15), 2**15 - 1)),
        ("the sums wrap at 16 bits", ((sums + 2**15) & 0xFFFF) - 2**15),
    ):
        yield name, of_sums(values)
    yield from _near_codes(right, layer.output_clip.lower, layer.output_clip.upper)
    yield from _moved(right)
    if residual is not None:
        unclipped = part.unclipped(sums, layer.channel_axis)
        yield "the residual is missing", layer.finish(unclipped, np.zeros_like(residual))
        yield "the residual is added twice", layer.finish(unclipped, 2 * residual)
    yield from ((name, of_sums(accumulate(layer, [values, *inputs[1:]]))) for name, values in _near_inputs(inputs[0]))
    if isinstance(layer, Weighted):
        for name, weights in _near_weights(layer.weights, layer.weight_bits):
            yield name, of_sums(accumulate(layer, inputs, weights))


def _near_staircases(part: ShiftFloor) -> Iterator[tuple[str, ShiftFloor]]:
    bias, scale, shift = part.bias, part.scale, part.shift
    for name, values in (
        ("is doubled", 2 * bias),
        ("is halved", bias >> 1),
        ("is one more", bias + 1),
        ("is one less", bias - 1),
        ("is negated", -bias),
        ("is cut to 8 bits", ((bias + 128) & 255) - 128),
        ("is the one of the channel before", np.roll(bias, 1)),
        ("is the one of the first channel", np.full_like(bias, bias[0])),
    ):
        yield f"the bias {name}", replace(part, bias=values)
    for name, values in (
        ("is one more", scale + 1),
        ("is one less", scale - 1),
        ("lacks its lowest bit", scale & ~1),
        ("is the one of the channel before", np.roll(scale, 1)),
    ):
        yield f"the scale {name}", replace(part, scale=values)
    for name, values in (
        ("is one more", shift + 1),
        ("is one less", np.maximum(shift - 1, 0)),
        ("is the one of the channel before", np.roll(shift, 1)),
    ):
        yield f"the shift {name}", replace(part, shift=values)


def _near_codes(codes: IntegerArray, lower: int, upper: int) -> Iterator[Named]:
    yield "every code is one more", np.clip(codes + 1, lower, upper)
    yield "every code is one less", np.clip(codes - 1, lower, upper)
    yield "the codes lack their lowest bit", codes & ~1
    yield "the codes are zero", np.zeros_like(codes)
    yield "the codes saturate one earlier above", np.minimum(codes, upper - 1)
    yield "the codes saturate one earlier below", np.maximum(codes, lower + 1)


def _moved(codes: IntegerArray) -> Iterator[Named]:
    for axis in range(1, codes.ndim):
        if codes.shape[axis] > 1:
            yield f"the codes are moved along axis {axis}", np.roll(codes, 1, axis)
            yield f"the codes are moved back along axis {axis}", np.roll(codes, -1, axis)
            yield f"the codes are turned around along axis {axis}", np.flip(codes, axis)


def _near_inputs(values: IntegerArray) -> Iterator[Named]:
    yield "the input is one more", values + 1
    yield "the input is one less", values - 1
    yield "the input is negated", -values
    yield "the input is doubled", 2 * values
    yield "the input lacks its lowest bit", values & ~1
    yield "the input lacks its 4 low bits", values & ~15
    yield "the input has the other sign", np.where(values < 0, values + 256, np.where(values > 127, values - 256, values))
    for name, moved in _moved(values):
        yield name.replace("the codes are", "the input is"), moved


def _near_weights(weights: IntegerArray, bits: int) -> Iterator[Named]:
    flat = weights.reshape(-1)
    for name, values in (
        ("are negated", -flat),
        ("are moved by one", np.roll(flat, 1)),
        ("are turned around", flat[::-1]),
        ("lack their lowest bit", flat & ~1),
        ("are read as unsigned", flat & (2**bits - 1)),
    ):
        yield f"the weights {name}", np.ascontiguousarray(values).reshape(weights.shape)


def _single_channels(layer: IntegerLayer, wrong: IntegerArray, right: IntegerArray) -> Iterator[Named]:
    """The fault in one channel only, for every channel that it changes."""
    axis = layer.output_channel_axis if isinstance(layer, Accumulating) else 1
    changed = np.flatnonzero((wrong != right).any(axis=tuple(place for place in range(right.ndim) if place != axis)))
    if right.shape[axis] == 1 or changed.size > SINGLE_CHANNELS:
        return
    for channel in changed:
        chosen = np.arange(right.shape[axis]) == channel
        shape = [1] * right.ndim
        shape[axis] = -1
        yield f"channel {channel} alone is wrong", np.where(chosen.reshape(shape), wrong, right)


def sentence_of(names: Sequence[str]) -> str:
    """Names of layers in a sentence.

    Examples
    --------
    >>> sentence_of(["a", "b"])
    "'a' and 'b'"
    """
    quoted = [f"'{name}'" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
