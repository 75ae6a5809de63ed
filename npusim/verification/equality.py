"""Whether two models give the same outputs for every input: a proof, an input at which they differ, or where the proof stops.

The proof compares what the elements of both programs are (:mod:`npusim.program.forms`). Where outputs are not the same there,
inputs are searched at which both models differ: samples, then changes of those whose difference gets furthest through the
network, then inputs at which the codes of the first layer that differs are known to step at different sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np

from npusim.engine.session import InferenceSession
from npusim.errors import InternalMismatchError, UsageError
from npusim.graph import Array
from npusim.program import Accumulating, Batching, HostOperation, IntegerArray, Program, QuantizeStage, Step
from npusim.program.accumulation import accumulate
from npusim.program.forms import Maps, Orientation, Outline, numbers_of, outline
from npusim.search.budget import Budget
from npusim.search.changes import Changes, pick_parent
from npusim.search.input_codes import InputCodes
from npusim.search.sampling import generate_inputs
from npusim.search.toward_values import Search
from npusim.search.wanted_values import WantedValues

__all__ = [
    "DEFAULT_SECONDS",
    "Equality",
    "EqualityVerdict",
    "SameStep",
    "prove_programs_equal",
    "unlike_sums",
    "why_not_proven",
]

DEFAULT_SECONDS: Final = 20.0
"""For the search for an input at which two models differ."""

SAMPLES: Final = 1024
"""Made samples that are tried first."""

AT_ONCE: Final = 64
"""Samples that are run together."""

CHILDREN: Final = 48
KEPT: Final = 12

CLIMBING_SHARE: Final = 0.5
"""Part of the time for changes of samples, where there are sums that can be aimed at as well."""

Progress: TypeAlias = Callable[[int, int], None]


class EqualityVerdict(StrEnum):
    """What is known of two models.

    PROVEN: their outputs are equal for every input. DIFFERENT: an input was found, and run, at which they are not. UNKNOWN:
    neither.
    """

    PROVEN = "proven"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SameStep:
    """A step of the second model and whether the first computes the same.

    Attributes
    ----------
    name, tensor
        The step and what it gives.
    same_as
        A step of the first model that gives the same values; null where several together do, or none.
    values
        Elements that it gives.
    same
        How many of them the first model computes as well.
    """

    name: str
    tensor: str
    same_as: str | None
    values: int
    same: int


@dataclass(frozen=True, slots=True)
class Equality:
    """What is known of two models; true when they are proven equal.

    Attributes
    ----------
    verdict
        In short.
    reason
        Why, a clause.
    layer
        The first step of the second model that the first does not compute; None where there is none.
    steps
        The steps of the second model in execution order.
    inputs
        Inputs at which the outputs differ, one sample; None where none is known.
    output, position
        The output and the first element that differ there.
    values
        What the two models give there.
    evaluations
        Inputs tried.
    """

    verdict: EqualityVerdict
    reason: str
    layer: str | None
    steps: tuple[SameStep, ...]
    inputs: Mapping[str, Array] | None = None
    output: str | None = None
    position: tuple[int, ...] | None = None
    values: tuple[float, float] | None = None
    evaluations: int = 0

    def __bool__(self) -> bool:
        return self.verdict is EqualityVerdict.PROVEN


def prove_programs_equal(
    one: InferenceSession,
    other: InferenceSession,
    *,
    seconds: float = DEFAULT_SECONDS,
    evaluations: int | None = None,
    seed: int = 0,
    samples: Mapping[str, Array] | None = None,
    progress: Progress | None = None,
) -> Equality:
    """Prove that two models are equal for every input, or look for an input at which they are not.

    Parameters
    ----------
    one, other
        The models. Inputs go together by name where both have the same names, else by position; outputs by position.
    seconds, evaluations
        For the search: time, and inputs tried. With a limit on time alone the verdict can depend on the speed of the machine.
    seed
        Of the pseudo-random numbers.
    samples
        Inputs of the first model to start the search from, besides made ones.
    progress
        Called with the seconds gone and those of all.

    Raises
    ------
    UsageError
        If inputs or outputs differ in number, type or size, so that the models cannot be equal.
    UnsupportedError
        If a model leaves sizes open.
    """
    names = _paired(one.program, other.program)
    maps, first, second = _outlined(one.program, other.program, names)
    steps = _same_steps(one.program, first, other.program, second)
    stop = _stop(other.program, steps)
    if _same_outputs(first, second):
        count = len(other.program.steps)
        reason = f"each output is the same function of the inputs in both, through {count} step{'s' if count != 1 else ''}"
        return Equality(EqualityVerdict.PROVEN, reason, None, steps)
    layer = None if stop is None else stop.name
    reason = _stop_reason(stop, maps, first, second)
    if Batching.FIXED in (one.program.batching, other.program.batching):
        return Equality(EqualityVerdict.UNKNOWN, f"{reason}; a model without a batch axis of one is not searched", layer, steps)
    hunt = _Hunt(one, other, names, Budget(seconds, evaluations, progress), np.random.default_rng(seed))
    aim = _aim(stop, maps, first, second)
    found = hunt.by_samples(samples) or hunt.by_changes(CLIMBING_SHARE if aim is not None else 1.0)
    if found is None and aim is not None and isinstance(stop, Accumulating):
        found = hunt.by_sums(stop, aim, seed)
    if found is None:
        tried = f"{hunt.budget.used:,} inputs give equal outputs"
        return Equality(EqualityVerdict.UNKNOWN, f"{reason}; {tried}", layer, steps, evaluations=hunt.budget.used)
    return _shown(one, other, names, found, reason, layer, steps, hunt.budget.used)


def why_not_proven(one: Program, other: Program) -> str | None:
    """Why two programs are not proven to give the same outputs for every input, a clause; None where they are.

    Raises
    ------
    UsageError
        As for :func:`prove_programs_equal`.
    """
    maps, first, second = _outlined(one, other, _paired(one, other))
    if _same_outputs(first, second):
        return None
    return _stop_reason(_stop(other, _same_steps(one, first, other, second)), maps, first, second)


def _outlined(one: Program, other: Program, names: Mapping[str, str]) -> tuple[Maps, Outline, Outline]:
    maps = Maps()
    places = {name: place for place, name in enumerate(one.inputs)}
    return maps, outline(one, maps, places), outline(other, maps, {name: places[names[name]] for name in other.inputs})


def _same_outputs(first: Outline, second: Outline) -> bool:
    return all(bool((mine == theirs).all()) for mine, theirs in zip(first.outputs, second.outputs, strict=True))


def _stop(other: Program, steps: Sequence[SameStep]) -> Step | None:
    """The first step of the second program that the first does not compute."""
    return next((step for step, same in zip(other.steps, steps, strict=True) if same.same < same.values), None)


def _paired(one: Program, other: Program) -> dict[str, str]:
    """For each input of the second program the one of the first that it stands for."""
    names = dict(zip(other.inputs, other.inputs if set(one.inputs) == set(other.inputs) else one.inputs, strict=False))
    ends = ("input", one.inputs, other.inputs), ("output", one.outputs, other.outputs)
    for kind, of_one, of_other in ends:
        if len(of_one) != len(of_other):
            seen = f"the models have {len(of_one)} and {len(of_other)} {kind}s"
            raise UsageError(f"{seen}, so they cannot be equal; compare models that have the same")
    pairs = [*((names[name], name) for name in other.inputs), *zip(one.outputs, other.outputs, strict=True)]
    for mine, theirs in pairs:
        first, second = _declared(one, mine), _declared(other, theirs)
        if first != second:
            seen = f"'{mine}' is {first[0]} {list(first[1])} and '{theirs}' is {second[0]} {list(second[1])}"
            raise UsageError(f"{seen}, so the models cannot be equal; compare models with the same inputs and outputs")
    return names


def _declared(program: Program, name: str) -> tuple[str, tuple[int, ...]]:
    resolved = program.resolve(name)
    if resolved in program.tensors:
        tensor = program.tensors[resolved]
        return tensor.dtype.name, tensor.declared_shape
    constant = program.constants[resolved]
    return constant.dtype.name, constant.shape


def _same_steps(one: Program, first: Outline, other: Program, second: Outline) -> tuple[SameStep, ...]:
    known = np.unique(np.concatenate([elements.reshape(-1) for elements in (*first.tensors.values(), *first.outputs)]))
    whole = {first.tensors[step.tensors[-1]].tobytes(): step.name for step in reversed(one.steps)}
    found = []
    for step in other.steps:
        elements = [second.tensors[name] for name in step.tensors if name in second.tensors]
        same = sum(int(np.isin(part, known).sum()) for part in elements)
        name = step.tensors[-1]
        twin = whole.get(second.tensors[name].tobytes()) if name in second.tensors else None
        found.append(SameStep(step.name, name, twin, sum(part.size for part in elements), same))
    return tuple(found)


def _stop_reason(step: Step | None, maps: Maps, first: Outline, second: Outline) -> str:
    """Why the first model does not compute what a step gives, a clause."""
    if step is None:
        return "outputs stand in another order or place"
    where = f"what '{step.name}' gives is not computed by the first model"
    if isinstance(step, HostOperation):
        return f"{where}: {step.operator} is compared as it is written, with the same operands and constants"
    if isinstance(step, QuantizeStage):
        return f"{where}: its float operations or constants differ"
    known = {maps.form(int(number)) for part in first.tensors.values() for number in np.unique(numbers_of(part))}
    numbers = np.unique(numbers_of(second.tensors[step.output]))
    unlike = [int(number) for number in numbers if int(number) not in _numbers(first)]
    if unlike and all(maps.form(number) in known for number in unlike):
        return f"{where}: the sums are the same, and {len(unlike)} of {numbers.size} channels make other codes of them"
    return f"{where}: weights, operands or geometry differ in {len(unlike)} of {numbers.size} channels"


def _numbers(found: Outline) -> frozenset[int]:
    return frozenset(int(number) for part in found.tensors.values() for number in np.unique(numbers_of(part)))


def _aim(step: Step | None, maps: Maps, first: Outline, second: Outline) -> WantedValues | None:
    """The accumulators of a layer at which its codes differ from those that the first model makes of the same sums."""
    orientation = None if not isinstance(step, Accumulating) else second.orientations.get(step.name)
    return None if orientation is None else unlike_sums(orientation, maps, _numbers(first))


def unlike_sums(orientation: Orientation, maps: Maps, others: Iterable[int]) -> WantedValues | None:
    """The accumulators of a layer at which its codes differ from those that other maps make of the same sums.

    Parameters
    ----------
    orientation
        Of the layer.
    maps
        Where maps are numbered.
    others
        The maps to differ from; the last of each form counts.

    Returns
    -------
    WantedValues
        Runs of accumulators by channel; None where there are none.
    """
    by_form = {maps.form(number): number for number in others}
    rows, lowest, highest = [], [], []
    for channel, number in enumerate(orientation.maps):
        twin = by_form.get(maps.form(int(number)))
        mine, theirs = maps.function(int(number)), None if twin is None else maps.function(twin)
        if mine is None or theirs is None or not orientation.factor[channel]:
            continue
        runs = mine.runs_unlike(theirs) * orientation.factor[channel] + orientation.offset[channel]
        rows.extend([channel] * len(runs))
        lowest.extend(runs.min(axis=1, initial=2**62))
        highest.extend(runs.max(axis=1, initial=-(2**62)))
    if not rows:
        return None
    order = np.lexsort((lowest, rows))
    return WantedValues(*(np.array(part, np.int64)[order] for part in (rows, lowest, highest)))


class _Hunt:
    """The search for an input at which two models differ."""

    def __init__(
        self,
        one: InferenceSession,
        other: InferenceSession,
        names: Mapping[str, str],
        budget: Budget,
        generator: np.random.Generator,
    ) -> None:
        self.one, self.other, self.names = one, other, names
        self.budget = budget
        self.codes = InputCodes(one.program)
        self._generator = generator
        self._pairs = _traced_pairs(one.program, other.program)
        self._best = np.zeros((0, self.codes.size), np.int64)
        self._depths = np.zeros(0, np.int64)

    def by_samples(self, samples: Mapping[str, Array] | None) -> dict[str, Array] | None:
        """Given samples, then made ones."""
        made = generate_inputs(self.one.program, SAMPLES, seed=int(self._generator.integers(2**31)))
        for feeds in ([samples] if samples is not None else []) + [made]:
            count = len(next(iter(feeds.values())))
            for start in range(0, count, AT_ONCE):
                part = {name: np.asarray(array[start : start + AT_ONCE]) for name, array in feeds.items()}
                found = self._tried(part, self.codes.levels(part))
                if found is not None or self.budget.spent:
                    return found
        return None

    def by_changes(self, share: float) -> dict[str, Array] | None:
        """Changes of the inputs whose difference gets furthest through the network."""
        changes = Changes(self._generator, self.codes.limits, CHILDREN)
        end = self.budget.elapsed + share * (self.budget.seconds - self.budget.elapsed)
        while not self.budget.spent and self.budget.elapsed < end:
            if not len(self._best) or self._generator.random() < 0.1:
                levels = changes.fresh()
            else:
                parent = self._best[pick_parent(self._generator, 0.3, len(self._best))]
                levels = changes.children(parent, self._best)
            for start in range(0, len(levels), AT_ONCE):
                part = levels[start : start + AT_ONCE]
                found = self._tried(self.codes.feeds(part), part)
                if found is not None or self.budget.spent:
                    return found
        return None

    def by_sums(self, layer: Accumulating, wanted: WantedValues, seed: int) -> dict[str, Array] | None:
        """Inputs at which the accumulators of a layer of the second model are some of those that are wanted."""

        def evaluate(levels: IntegerArray) -> tuple[IntegerArray, IntegerArray]:
            held = self.other.held(self._renamed(self.codes.feeds(levels)), layer.inputs)
            sums = accumulate(layer, [held[name].astype(np.int64) for name in layer.inputs])
            values = np.moveaxis(sums, layer.channel_axis, 1).reshape(len(levels), sums.shape[layer.channel_axis], -1)
            return values, np.zeros_like(values)

        size = math.prod(layer.accumulator_shape[1:])
        search = Search(evaluate, wanted, self.codes.limits, self.budget, seed=seed, starts=self._best[:KEPT], elements=size)
        for hit in search:
            found = self._tried(self.codes.feeds(hit.levels[None]), hit.levels[None])
            if found is not None or self.budget.spent:
                return found
        return None

    def _renamed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {theirs: feeds[mine] for theirs, mine in self.names.items()}

    def _tried(self, feeds: Mapping[str, Array], levels: IntegerArray) -> dict[str, Array] | None:
        """The first sample at which outputs differ; of others, how far differences get is remembered."""
        count = len(levels)
        self.budget.take(count)
        mine, theirs = self.one.run(None, dict(feeds)), self.other.run(None, self._renamed(feeds))
        unlike = np.zeros(count, np.bool_)
        for one, other in zip(mine, theirs, strict=True):
            unlike |= _unlike(one, other).reshape(count, -1).any(axis=1)
        if unlike.any():
            number = int(unlike.argmax())
            return {name: np.asarray(array[number : number + 1]) for name, array in feeds.items()}
        self._remember(feeds, levels)
        return None

    def _remember(self, feeds: Mapping[str, Array], levels: IntegerArray) -> None:
        if not self._pairs:
            return
        held = self.one.held(dict(feeds), [mine for mine, _ in self._pairs])
        others = self.other.held(self._renamed(feeds), [theirs for _, theirs in self._pairs])
        depths = np.zeros(len(levels), np.int64)
        for depth, (mine, theirs) in enumerate(self._pairs):
            wrong = _unlike(held[mine], others[theirs]).reshape(len(levels), -1).sum(axis=1)
            depths = np.where(wrong > 0, (depth + 1) * 2**20 + np.minimum(wrong, 2**20 - 1), depths)
        every, all_levels = np.concatenate([self._depths, depths]), np.concatenate([self._best, levels])
        order = np.argsort(-every, kind="stable")[:KEPT]
        self._depths, self._best = every[order], all_levels[order]


def _traced_pairs(one: Program, other: Program) -> list[tuple[str, str]]:
    """Results of steps that go together, in execution order, where both programs have steps of the same kinds and shapes."""
    results = [
        [(type(step).__name__, program.tensors[step.tensors[-1]].shape, step.tensors[-1]) for step in program.steps]
        for program in (one, other)
    ]
    if [row[:2] for row in results[0]] != [row[:2] for row in results[1]]:
        return []
    return [(mine[2], theirs[2]) for mine, theirs in zip(*results, strict=True)]


def _unlike(one: Array, other: Array) -> Array:
    """Where values differ; NaN is equal to NaN, and 0 is not -0."""
    if one.dtype.kind != "f":
        return np.asarray(one != other)
    both_nan = np.isnan(one) & np.isnan(other)
    return np.asarray(((one != other) | (np.signbit(one) != np.signbit(other))) & ~both_nan)


def _shown(
    one: InferenceSession,
    other: InferenceSession,
    names: Mapping[str, str],
    feeds: Mapping[str, Array],
    reason: str,
    layer: str | None,
    steps: tuple[SameStep, ...],
    evaluations: int,
) -> Equality:
    """The difference at an input, with values of the engine that is obviously right."""
    renamed = {theirs: feeds[mine] for theirs, mine in names.items()}
    mine, theirs = one.with_engine("reference").run(None, dict(feeds)), other.with_engine("reference").run(None, renamed)
    for name, left, right in zip(other.program.outputs, mine, theirs, strict=True):
        unlike = _unlike(left, right)
        if unlike.any():
            position = tuple(int(index) for index in np.unravel_index(int(unlike.argmax()), unlike.shape))
            values = float(left[position]), float(right[position])
            verdict = EqualityVerdict.DIFFERENT
            return Equality(verdict, reason, layer, steps, dict(feeds), name, position[1:], values, evaluations)
    raise InternalMismatchError("both engines disagree on an input at which two models differ; please report this")
