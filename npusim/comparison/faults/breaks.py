"""Where the scale that a layer's integers give and the scale that everything behind it was made for part at once.

A layer whose shift is off by one gives codes that are half or twice as large. That contradicts nothing in the layer: its
weights, its shift and its codes say together that one LSB is twice as much. But the biases behind it, and the factor that turns
the last codes into real values, were made for the scale that was meant. Each layer's biases are a witness of its input's scale;
training lets witnesses and scales part little by little, a fault at one place: all witnesses behind it are off by the same
factor. One witness that is off alone, with the next ones right again, has wrong biases itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.comparison.faults.numbers import LayerNumbers
from npusim.comparison.layer_result import LayerScales
from npusim.program import Accumulating, Program, QuantizeStage, Step, Weighted

__all__ = ["Break", "Breaks", "Witnesses", "find_breaks"]

LEAST_JUMP: Final = 0.28
"""Logarithm of a ratio of scales, from one layer to the next, that is no break yet."""

TIMES_USUAL: Final = 4.0
"""A break is so many times what scales part by from layer to layer elsewhere in the model."""

LEAST_GAIN: Final = 0.01
"""Logarithm of the gain of an average pool that is none."""

NEAR_GAIN: Final = 0.15
"""The biases behind a pool know its gain where they are this near to it, in logarithms."""

NEAR_SHARE: Final = 0.4
"""The same as a share of the gain's own logarithm."""

USUAL_FILLING: Final = (-1.15, 0.35)
"""Binary logarithm of the largest float value over the end of a quantizer's range, as quantizers are calibrated."""


@dataclass(frozen=True, slots=True)
class Break:
    """The step whose codes are not what everything behind was made for.

    Attributes
    ----------
    step
        The step.
    factor
        The scale that was meant over the one that the step's integers give.
    witnesses
        Steps behind it that agree on that.
    """

    step: str
    factor: float
    witnesses: tuple[str, ...]

    @property
    def octaves(self) -> int:
        """By how many bits the shift is off; 0 where the factor is not a power of two."""
        near = round(math.log2(self.factor))
        return near if self.factor == 2.0**near else 0


@dataclass(frozen=True, slots=True)
class Breaks:
    """What witnesses say of a program's scales.

    Attributes
    ----------
    witnesses
        Breaks forgiven: what is left are wrong biases, and what training moves.
    breaks
        Steps whose codes are not what everything behind was made for.
    taken
        Average pools whose gain the layers behind them take back.
    silent
        Steps whose weights training has moved so far that they tell no scale; the factor that what is behind them tells.
    alone
        Layers whose biases contradict those before and behind them: the logarithm of the factor.
    """

    witnesses: Witnesses
    breaks: tuple[Break, ...] = ()
    taken: frozenset[str] = frozenset()
    silent: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)


Branch = tuple[tuple[str, ...], tuple[str, ...], float]
"""An operand: witnesses before it, the steps that made it since, logarithm of the first operand's scale over its own."""


@dataclass(slots=True)
class Witnesses:
    """Who says what of scales, each as the logarithm of the scale that was meant over the chain's.

    Attributes
    ----------
    values
        By step.
    before
        For each step the nearest witnesses before it, the input as ``""``.
    makers
        For each witness the steps between it and those before it that make codes of their own, the nearest first.
    pools
        For each the average pools on that way.
    branches
        For each behind a sum or concatenation of codes: the operands, the first one first, whose scale the chain goes on with.
    """

    values: dict[str, float] = field(default_factory=lambda: {"": 0.0})
    before: dict[str, tuple[str, ...]] = field(default_factory=dict)
    makers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pools: dict[str, tuple[str, ...]] = field(default_factory=dict)
    branches: dict[str, tuple[Branch, ...]] = field(default_factory=dict)

    def expected(self, step: str) -> float:
        """What the witnesses before a step say."""
        return float(np.median([self.values[name] for name in self.before[step]])) if self.before.get(step) else 0.0

    def jump(self, step: str) -> float:
        """By how much a witness parts from those before it."""
        return self.values[step] - self.expected(step)

    def behind(self, step: str) -> list[str]:
        """The nearest witnesses behind one."""
        return [name for name, before in self.before.items() if step in before and name in self.values]


WHOLE_OCTAVE: Final = 0.2
"""A factor is a power of two where it is this near to one, in octaves."""

STAGE_OCTAVE: Final = 0.05
"""The same for an input stage, whose scale a batch norm in it moves as well."""

LEAST_ALONE: Final = 0.45
"""Logarithm of a factor that only the biases of one layer show, from which on these are wrong."""

SURE: Final = 0.3
"""In octaves."""


def find_breaks(
    program: Program,
    numbers: Mapping[str, LayerNumbers],
    scales: Mapping[str, LayerScales],
    largest: Callable[[str], float],
) -> Breaks:
    """Find the breaks in the scales of a program.

    Parameters
    ----------
    program
        The quantized program.
    numbers
        Of its layers with weights.
    scales
        As the chain gives them, by step.
    largest
        The largest magnitude of the float tensor that a step stands for, on data.
    """
    witnesses = _hear(program, numbers, scales)
    taken = _take_gains(witnesses, scales)
    jumps = {name: witnesses.jump(name) for name in witnesses.values if name}
    # most jumps may be one fault's, if there are few: the small ones are what is usual
    sizes = sorted(abs(jump) for jump in jumps.values())
    usual = sizes[(len(sizes) - 1) // 4] if sizes else 0.0
    limit = max(LEAST_JUMP, TIMES_USUAL * usual)
    steps = {step.name: step for step in program.steps}
    found: list[Break] = []
    alone: dict[str, float] = {}
    silent: dict[str, float] = {}
    for name in jumps:
        jump, makers = witnesses.jump(name), witnesses.makers[name]
        broken = [
            (one, branch)
            for one, branch in _broken_branches(witnesses, name, limit)
            if _octaves(branch, STAGE_OCTAVE) or _better(steps[one], scales, largest, branch) > SURE
        ]
        if broken:
            for maker, branch in broken:
                found.append(Break(maker, _rounded(branch), (name,)))
            if any(maker in witnesses.branches[name][0][1] for maker, _ in broken):
                _follow(witnesses, name, jump)
            continue
        if makers and makers[0] in numbers and numbers[makers[0]].is_far and abs(jump) > LEAST_GAIN:
            silent[makers[0]] = math.exp(jump)
            _follow(witnesses, name, jump)
            continue
        if abs(jump) < limit:
            continue
        if not makers:
            _leave_alone(witnesses, name, jump, max(limit, LEAST_ALONE), alone)
            continue
        behind = witnesses.behind(name)
        later = [witnesses.values[one] - witnesses.expected(name) for one in behind]
        if later and np.median([abs(one - jump) for one in later]) > np.median([abs(one) for one in later]):
            _leave_alone(witnesses, name, jump, max(limit, LEAST_ALONE), alone)
            continue
        maker = max(makers, key=lambda one: _better(steps[one], scales, largest, jump))
        if not later and not _is_made_elsewhere(steps[maker], name in numbers, scales, largest, jump):
            _leave_alone(witnesses, name, jump, max(limit, LEAST_ALONE), alone)
            continue
        written = any(one not in numbers for one in witnesses.values if one)
        if isinstance(steps[maker], QuantizeStage) and (written or not _octaves(jump, STAGE_OCTAVE)):
            # a batch norm that training moved makes the input's scale another one: no fault of the integers
            continue
        found.append(Break(maker, _rounded(jump), (name, *behind)))
        _follow(witnesses, name, jump)
    return Breaks(witnesses, tuple(found), taken, silent, {name: jump for name, jump in alone.items() if name in numbers})


def _broken_branches(witnesses: Witnesses, name: str, limit: float) -> list[tuple[str, float]]:
    """The steps that made operands of other scales than what a witness behind their sum knows, if it knows that of others."""
    branches = witnesses.branches.get(name, ())
    jumps = []
    for before, makers, ratio in branches:
        expected = float(np.median([witnesses.values[one] for one in before])) if before else 0.0
        jumps.append((makers[0] if makers else "", witnesses.values[name] + ratio - expected))
    off = [(maker, jump) for maker, jump in jumps if abs(jump) >= limit]
    return off if off and len(off) < len(jumps) and all(maker for maker, _ in off) else []


def _take_gains(witnesses: Witnesses, scales: Mapping[str, LayerScales]) -> frozenset[str]:
    """Average pools whose gain the biases behind them know."""
    taken: set[str] = set()
    for name in [one for one in witnesses.values if one]:
        pools = [one for one in witnesses.pools[name] if one not in taken]
        gain = math.prod(scales[one].gain for one in pools)
        jump = witnesses.jump(name)
        near = max(min(NEAR_GAIN, abs(math.log(gain)) / 2), NEAR_SHARE * abs(math.log(gain)))
        if abs(math.log(gain)) > LEAST_GAIN and abs(jump + math.log(gain)) < near:
            taken.update(pools)
            _follow(witnesses, name, -math.log(gain))
    return frozenset(taken)


def _leave_alone(witnesses: Witnesses, name: str, jump: float, limit: float, alone: dict[str, float]) -> None:
    """A witness that contradicts all others is no witness."""
    if abs(jump) >= limit:
        alone[name] = jump
    witnesses.values[name] -= jump


def _follow(witnesses: Witnesses, start: str, jump: float) -> None:
    """Forgive a break: what is behind it was made for another scale, and is right by itself."""
    waiting = [start]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(witnesses.behind(name))
    for name in seen:
        witnesses.values[name] -= jump


def _rounded(jump: float) -> float:
    """The factor of a jump, a power of two where it is nearly one."""
    near = _octaves(jump)
    return 2.0**near if near else math.exp(jump)


def _octaves(jump: float, near: float = WHOLE_OCTAVE) -> int:
    """The power of two that a jump nearly is; 0 where it is none."""
    octaves = jump / math.log(2)
    whole = round(octaves)
    return whole if abs(octaves - whole) <= near else 0


def _is_made_elsewhere(
    maker: Step, has_biases: bool, scales: Mapping[str, LayerScales], largest: Callable[[str], float], jump: float
) -> bool:
    """Whether the only witness is right and the step before it wrong, which its range tells.

    A factor at the output is not a witness by itself unless the two differ by a power of two.
    """
    whole = _octaves(jump) != 0
    better = _better(maker, scales, largest, jump)
    # biases that are doubled with the rounding in them are not exactly doubled without it
    exact = _octaves(jump, STAGE_OCTAVE) != 0
    if not has_biases:
        # the factor at the output is as likely to be wrong itself, unless codes that are too large leave their range
        return whole and jump > 0 and better > SURE
    return better > SURE or (whole and better > 0) or (exact and better == 0)


def _better(step: Step, scales: Mapping[str, LayerScales], largest: Callable[[str], float], jump: float) -> float:
    """How much more usually a step fills its range if its scale is off by a jump, in octaves."""
    return round(_strange(step, scales, largest, 0.0) - _strange(step, scales, largest, jump), 6)


def _strange(step: Step, scales: Mapping[str, LayerScales], largest: Callable[[str], float], jump: float) -> float:
    """How far from usual a step fills its range if its scale were off by a jump, in octaves."""
    clip = step.clip if isinstance(step, QuantizeStage) else step.output_clip if isinstance(step, Accumulating) else None
    reach = largest(step.name)
    if clip is None or reach <= 0:
        return 0.0
    filling = math.log2(reach / (scales[step.name].output * math.exp(jump) * max(clip.upper, -clip.lower)))
    return max(0.0, filling - USUAL_FILLING[1], USUAL_FILLING[0] - filling)


def _hear(program: Program, numbers: Mapping[str, LayerNumbers], scales: Mapping[str, LayerScales]) -> Witnesses:
    witnesses = Witnesses()
    heard: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]
    heard = dict.fromkeys(program.inputs, (("",), (), ()))
    joined: dict[str, tuple[Branch, ...]] = dict.fromkeys(program.inputs, ())
    outputs = {name: scales[step.name].output for step in program.steps if step.name in scales for name in step.tensors}
    for step in program.steps:
        # what is added behind a layer's own sum is not what its weights and biases are for
        names = program.inputs_of(step)[:1] if isinstance(step, Weighted) else program.inputs_of(step)
        known = [heard[name] for name in names if name in heard]
        before, makers, pools = (_joined([one[place] for one in known]) for place in range(3))
        witnesses.before[step.name], witnesses.makers[step.name], witnesses.pools[step.name] = before, makers, pools
        branches = _operands(names, heard, joined, outputs)
        if branches:
            witnesses.branches[step.name] = branches
        value = numbers[step.name].witness() if step.name in numbers and scales[step.name].agreed else None
        if value is None and step.name in scales:
            value = _written(scales[step.name])
        if value is not None:
            witnesses.values[step.name] = value
            before, makers, pools, branches = (step.name,), (), (), ()
        if step.name in scales and isinstance(step, (Weighted, QuantizeStage)):
            makers = (step.name, *makers)
        if step.name in scales and isinstance(step, Accumulating) and step.mean_of is not None:
            pools = (step.name, *pools)
        if step.name in scales and isinstance(step, (Weighted, QuantizeStage)):
            branches = ()
        for name in step.tensors:
            heard[name], joined[name] = (before, makers, pools), branches
    return witnesses


def _operands(
    names: Sequence[str],
    heard: Mapping[str, tuple[tuple[str, ...], ...]],
    joined: Mapping[str, tuple[Branch, ...]],
    outputs: Mapping[str, float],
) -> tuple[Branch, ...]:
    """The operands of a step that joins tensors; of any other those of the join that it reads."""
    known = [name for name in dict.fromkeys(names) if name in heard and name in outputs]
    if len(known) < 2:
        return joined.get(known[0], ()) if known else ()
    return tuple((heard[name][0], heard[name][1], math.log(outputs[known[0]] / outputs[name])) for name in known)


def _written(scales: LayerScales) -> float | None:
    """What the factor that a model itself multiplies its codes by says; None where a step is not such a multiplication."""
    if scales.weights is not None or scales.by_channel is None or scales.input is None or scales.output != 1.0:
        return None
    chain = float(scales.by_channel[0])
    return -math.log(chain) if chain > 0 else None


def _joined(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))
