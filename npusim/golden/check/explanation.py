"""Why a dump differs from what is right: causes are tried one by one, those about arithmetic by simulating them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from npusim.engine.replay import program_from, run_with
from npusim.golden.check.buffer_causes import Buffer, buffer_causes
from npusim.golden.check.evidence import OTHER_LAYERS, UNLISTED, Hypothesis, Ranking, judge, rank
from npusim.golden.check.rivals import AT_ONCE, Observation, layers_needed, rivals, sentence_of
from npusim.golden.faults import Fault, FaultKind, FaultRunner, faults_of_layer
from npusim.graph import Array
from npusim.program import Accumulating, Program
from npusim.program.input_stage import InputStage

__all__ = ["Simulated", "explain"]

SCREENED: Final = 4
"""Sets on which faults are tried first; those that survive are simulated on all."""

SURVIVORS: Final = 12

STRONG: Final = 100.0
"""Bits of evidence from which on faults of other layers need not be held against a cause: chance does not bring them about."""

_REMEDIES: Final[Mapping[FaultKind, str]] = {
    FaultKind.ROUND_HALF_UP: "shift arithmetically without adding a half; exported biases hold it already",
    FaultKind.ROUND_HALF_EVEN: "shift arithmetically without rounding; exported biases hold the half already",
    FaultKind.ROUND_HALF_AWAY: "shift arithmetically without rounding; exported biases hold the half already",
    FaultKind.TOWARD_ZERO: "shift arithmetically; a division in C truncates",
    FaultKind.NO_BIAS: "check that the bias array of this layer is linked and passed",
    FaultKind.NO_CLIP: "saturate before storing 8 bits",
    FaultKind.INNER_512: "check which library runs: the hardware saturates here, its software counterpart does not",
    FaultKind.NO_INNER: "check which library runs: the software library does not saturate here",
    FaultKind.WRAP_18: "run 'npusim bounds' to see which accumulators can pass 18 bits",
    FaultKind.WRAP_24: "check the width of the accumulator",
    FaultKind.WRAP_32: "run 'npusim bounds' to see which products can pass 32 bits",
    FaultKind.DIGITS_WRAP: "run 'npusim bounds' to see which digit accumulators can pass 18 bits",
    FaultKind.DIGITS_SATURATE: "run 'npusim bounds' to see which digit accumulators can pass 18 bits",
    FaultKind.C28: "compare with golden vectors of this input stage: --input-stage c28",
    FaultKind.MSPM0: "compare with golden vectors of this input stage: --input-stage mspm0",
    FaultKind.ONNX: "compare with golden vectors of this input stage: --input-stage onnx",
    FaultKind.TRUNCATED: "floor the scaled value (floorf) before it is converted, or compare with --input-stage truncated",
    FaultKind.FIRST_SCALE: "pass the scales of all channels: the weights are quantized per channel",
    FaultKind.INPUT_POINT: "subtract the zero point of the input, or take it into the bias",
    FaultKind.OUTPUT_POINT: "add the zero point of the output before saturating",
    FaultKind.PADDING: "pad with the zero point of the input",
    FaultKind.ROUNDED: "floor the scaled value before it becomes an integer (floorf)",
}

_UNLISTED: Final = "look at an inner tensor, which tells more"

_CODE: Final = 1 / 64
"""Chance that a float is the whole number that stands for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What is needed to simulate a device with a fault.

    Attributes
    ----------
    program
        The model.
    feeds
        Inputs of all sets, as the file has them.
    variant
        The right input stage.
    tensor
        The tensor of the dump, aliases resolved.
    """

    program: Program
    feeds: Mapping[str, Array]
    variant: InputStage
    tensor: str

    def runner(self, sets: list[int]) -> FaultRunner:
        """What simulates faults on some sets."""
        return FaultRunner(self.program, self.held(sets), self.tensor, variant=self.variant)

    @property
    def untried(self) -> tuple[str, ...]:
        """Layers in front of the tensor in whose arithmetic no other rounding is known."""
        steps = program_from(self.program, (), [self.tensor]).steps
        layers = [step for step in steps if isinstance(step, Accumulating)]
        return tuple(layer.name for layer in layers if FaultKind.TOWARD_ZERO not in faults_of_layer(layer))

    def held(self, sets: list[int]) -> dict[str, Array]:
        """The inputs of some sets as the program holds them."""
        tensors = self.program.tensors
        return {name: tensors[name].as_held(np.asarray(values)[sets]) for name, values in self.feeds.items()}

    def shown(self, values: Array) -> Array:
        """The tensor under a fault as traces and dumps have it: in the order of the file, with the zero point."""
        return self.program.tensors[self.tensor].as_shown(values)


def explain(buffer: Buffer, simulated: Simulated | None) -> Ranking:
    """Find the causes that account for the differences in a dump.

    Each cause predicts every value. One is stated only if it breaks no value that is right, explains all of those that are
    not, and does so much better than chance among so many causes, while no other explains them all: none of the list, and none
    of some dozens for each layer that are simulated only then (:mod:`npusim.golden.check.rivals`). Where values stand
    elsewhere, or were read otherwise, that is tried before any fault of the arithmetic.

    Parameters
    ----------
    buffer
        What was read and what was wanted; they differ.
    simulated
        The model; without it only the causes that lie in buffers are tried.
    """
    causes = list(buffer_causes(buffer))
    if simulated is not None:
        causes.extend(_codes_for_values(buffer, simulated))
    moved = rank(causes, buffer.observed, buffer.expected)
    if moved.stated or simulated is None:
        return moved
    causes.extend(_faults(buffer, simulated))
    found = rank(causes, buffer.observed, buffer.expected)
    if not found.stated:
        return replace(found, untried=simulated.untried)
    if found.stated[0].hypothesis.cause not in set(FaultKind):
        return found
    fault = Fault(FaultKind(found.stated[0].hypothesis.cause), found.stated[0].hypothesis.step)
    observation = _observation(buffer, simulated)
    names = rivals(observation, fault, everywhere=found.stated[0].bits < STRONG)
    others = [Hypothesis(UNLISTED, name, _UNLISTED, buffer.observed) for name in names]
    if others:
        return replace(rank([*causes, *others], buffer.observed, buffer.expected), untried=simulated.untried)
    return _of_layers(found, fault, observation) if fault.step is None else found


def _observation(buffer: Buffer, simulated: Simulated) -> Observation:
    sets = list(buffer.sets)

    def runner(rows: list[int]) -> FaultRunner:
        return simulated.runner([sets[row] for row in rows])

    return Observation(buffer.observed, buffer.expected, runner, lambda values: _in_dump_order(simulated.shown(values), buffer))


def _of_layers(ranking: Ranking, fault: Fault, observation: Observation) -> Ranking:
    """A fault in all layers, stated of those in which the dump shows it."""
    (stated,) = ranking.stated
    needed, every = layers_needed(observation, fault.kind)
    if len(needed) == every:
        return ranking
    message = stated.hypothesis.message.replace("in all layers", f"in {sentence_of(needed)}", 1)
    note = "; ".join(filter(None, (stated.hypothesis.note, OTHER_LAYERS)))
    return replace(ranking, stated=(replace(stated, hypothesis=replace(stated.hypothesis, message=message, note=note)),))


def _codes_for_values(buffer: Buffer, simulated: Simulated) -> Iterator[Hypothesis]:
    """The codes that a float output is made of, in its place."""
    program, count = simulated.program, buffer.expected.shape[1]
    if buffer.expected.dtype.kind != "f":
        return
    feeds = simulated.held(list(buffer.sets))
    names = [step.output for step in program.layers if math.prod(program.tensors[step.output].shape[1:]) == count]
    for name, values in run_with(program, feeds, {}, names).items() if names else ():
        if values.size != buffer.expected.size:
            continue
        yield Hypothesis(
            "codes_for_values",
            f"these are the codes of '{name}', not the values that the model makes of them",
            f"compare them with --tensor '{name}', or convert them as the model does",
            _in_dump_order(program.tensors[name].as_shown(values), buffer),
            chance=_CODE,
        )


def _faults(buffer: Buffer, simulated: Simulated) -> Iterator[Hypothesis]:
    """Every fault that changes the tensor, as a hypothesis about all sets of the dump."""
    sets = list(buffer.sets)
    rows = _screened(buffer)
    chosen = [sets[row] for row in rows]
    found: list[tuple[Fault, Array]] = []
    for fault, values in simulated.runner(chosen).runs():
        if values is not None:
            found.append((fault, _in_dump_order(simulated.shown(values), buffer)))
    if len(rows) == len(sets):
        for fault, predicted in found:
            yield _hypothesis(fault, predicted)
        return
    observed, expected = buffer.observed[rows], buffer.expected[rows]
    judged = [(judge(_hypothesis(fault, predicted), observed, expected), fault) for fault, predicted in found]
    alive = sorted(
        ((item.explained, item.bits, index) for index, (item, _) in enumerate(judged) if not item.broken), reverse=True
    )
    survivors = [index for _, _, index in alive[:SURVIVORS]]
    everywhere = _on_all_sets([found[index][0] for index in survivors], buffer, simulated)
    complete = dict(zip(survivors, everywhere, strict=True))
    for index, (fault, predicted) in enumerate(found):
        if index in complete:
            yield _hypothesis(fault, complete[index])
        else:
            # a prediction that failed on some sets still counts among those tried, and cannot come back
            full = buffer.expected.copy()
            full[rows] = predicted
            yield _hypothesis(fault, full)


def _on_all_sets(faults: list[Fault], buffer: Buffer, simulated: Simulated) -> list[Array]:
    """The tensor under each fault on all sets, some sets at a time."""
    sets = list(buffer.sets)
    parts: list[list[Array]] = [[] for _ in faults]
    for start in range(0, len(sets) if faults else 0, AT_ONCE):
        runner = simulated.runner(sets[start : start + AT_ONCE])
        for part, fault in zip(parts, faults, strict=True):
            part.append(_in_dump_order(simulated.shown(runner.run(fault)), buffer))
    return [np.concatenate(part) for part in parts]


def _screened(buffer: Buffer) -> list[int]:
    """Rows to try faults on: those with most differences, and one that is right."""
    differing = (buffer.observed != buffer.expected).sum(axis=1)
    order = [int(row) for row in np.argsort(-differing, kind="stable")]
    if len(order) <= SCREENED:
        return sorted(order)
    return sorted([*order[: SCREENED - 1], order[-1]])


def _hypothesis(fault: Fault, predicted: Array) -> Hypothesis:
    return Hypothesis(str(fault.kind), str(fault), _REMEDIES[fault.kind], predicted, step=fault.step)


def _in_dump_order(values: Array, buffer: Buffer) -> Array:
    """A tensor in ONNX layout as ``[sets, values]`` of the dump."""
    values = values.reshape(-1, *buffer.wanted.shape[1:])
    if buffer.layout == "nhwc" and values.ndim > 2:
        values = np.moveaxis(values, 1, -1)
    return values.reshape(-1, buffer.expected.shape[1]).astype(buffer.expected.dtype)
