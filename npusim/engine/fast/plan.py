"""Planning and running the fast engine: carriers, layouts and the order of calls are fixed once; a run follows them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from npusim.engine.carriers import FLOAT32_LIMIT, Carrier, CarrierChoice, choose_carrier
from npusim.engine.fast.direct import direct_calls, runs_on_buffers
from npusim.engine.fast.hosting import reference_calls, runs_samples_last, samples_last_calls
from npusim.engine.fast.layers import (
    accumulator_calls,
    arrange,
    arrange_sums,
    empty_accumulator,
    layer_calls,
    maximum_calls,
    may_pool_first,
    working_set,
)
from npusim.engine.fast.layouts import choose_layouts
from npusim.engine.fast.quantizing import quantize_stage_calls
from npusim.engine.fast.workspace import Tenant, Workspace, allocate
from npusim.engine.reference import inner_tensors, run_step
from npusim.graph import Array
from npusim.kernels.samples_last import Call
from npusim.program import (
    Accumulating,
    Direct,
    FullyConnected,
    HostOperation,
    IntegerArray,
    IntegerLayer,
    MaxPool,
    Program,
    QuantizeStage,
    Step,
    Tensor,
)
from npusim.program.accumulation import unknown_kind
from npusim.program.input_stage import DeviceStage
from npusim.program.intervals import RangeAnalysis, analyse

__all__ = ["FastPlan", "make_plan"]

CACHE_BYTES: Final = 2**23
"""What a layer may touch at once: a part of the last-level cache of current processors."""

FEWEST_SAMPLES: Final = 16
GOOD_SAMPLES: Final = 64
MANY_SAMPLES: Final = 512
MOST_SAMPLES: Final = 4096
"""BLAS kernels want at least a vector of samples, better several; beyond many the calls cost nothing any more, unless they are
so short that threads wait for each other."""

THREAD_NANOSECONDS: Final = 300_000
"""Work from which a thread of its own pays: starting one takes a part of that, and Python runs one thread at a time between
calls, so that those of little work wait for each other longer than they compute."""

KEPT_WORKSPACES: Final = 4
"""Workspaces kept for the next run."""

KEPT_LISTS: Final = 8
"""Lists of calls kept with each, one for each choice of tensors."""


@dataclass(frozen=True, slots=True)
class FastPlan:
    """A program arranged for the fast engine.

    Attributes
    ----------
    program
        The program.
    carriers
        The choice for each layer that requantizes, by layer name.
    samples
        Samples computed at once.
    fewest_samples
        Samples from which a thread of its own pays.
    native
        Indices of the steps that work on buffers; all others run as in the reference engine.
    pooled
        Index of each step whose result only a max pooling reads, and of that pooling, where both may be computed together.
    passed_over
        The tensors between the two, which are computed for those who ask for them only.
    """

    program: Program
    carriers: Mapping[str, CarrierChoice]
    samples: int
    fewest_samples: int
    native: frozenset[int]
    pooled: Mapping[int, int]
    passed_over: frozenset[str]
    _idle: deque[_Bound] = field(default_factory=deque)

    def __reduce__(self) -> tuple[type[FastPlan], tuple[object, ...]]:
        """What is pickled and copied: the plan, without the memory of earlier runs."""
        parts = self.program, self.carriers, self.samples, self.fewest_samples, self.native, self.pooled, self.passed_over
        return FastPlan, parts

    def run(
        self, feeds: Mapping[str, Array], targets: Iterable[str], start: int = 0, stop: int | None = None
    ) -> dict[str, Array]:
        """Compute tensors for at most `samples` samples; the results equal those of the reference engine.

        Parameters
        ----------
        feeds
            What the first step that runs and those behind it read and do not make, as the program holds it. Codes lie within
            the intervals that the plan was made with.
        targets
            Names of tensors that those steps make.
        start, stop
            The first step that runs, and the one behind the last; by default all run.
        """
        wanted = frozenset(targets)
        bound = self._bound(len(next(iter(feeds.values()))), pools_first=self.passed_over.isdisjoint((*wanted, *feeds)))
        try:
            # infinities and NaN are results of float steps, as IEEE 754 says, not warnings
            with np.errstate(all="ignore"):
                return bound.run(feeds, wanted, slice(start, stop))
        finally:
            # the memory is kept, the samples are not
            bound.forget()
            if len(self._idle) < KEPT_WORKSPACES:
                self._idle.append(bound)

    def _bound(self, samples: int, *, pools_first: bool) -> _Bound:
        """Memory and calls for a number of samples, kept from an earlier run where there are any."""
        for _ in range(len(self._idle)):
            try:
                bound = self._idle.popleft()
            except IndexError:
                break
            if bound.kept.workspace.samples == samples and bound.pools_first == pools_first:
                return bound
            self._idle.append(bound)
        return _bind(self, samples, pools_first=pools_first)


def make_plan(program: Program, analysis: RangeAnalysis | None = None) -> FastPlan:
    """Arrange a program that takes stacked samples.

    Parameters
    ----------
    program
        The program.
    analysis
        Its intervals, when they are known already.
    """
    ranges = analyse(program) if analysis is None else analysis
    carriers = {name: choose_carrier(bounds) for name, bounds in ranges.layers.items()}
    native = frozenset(index for index, step in enumerate(program.steps) if _is_native(step, program, carriers))
    touched = [
        working_set(step) for index, step in enumerate(program.steps) if index in native and isinstance(step, IntegerLayer)
    ]
    fewest = max(1, THREAD_NANOSECONDS // max(1, _nanoseconds(program)))
    fitting = CACHE_BYTES // (4 * max(touched, default=1))
    step = GOOD_SAMPLES if fitting >= GOOD_SAMPLES else FEWEST_SAMPLES
    most = min(fitting, max(MANY_SAMPLES, min(2 * fewest, MOST_SAMPLES)))
    samples = max(most // step * step, FEWEST_SAMPLES)
    pooled = _pooled(program, native, carriers)
    passed_over = frozenset(program.steps[index].tensors[-1] for index in pooled)
    return FastPlan(program, carriers, samples, fewest, native, pooled, passed_over)


def _nanoseconds(program: Program) -> int:
    """What a sample takes, roughly: multiplications in products, and passes over the results of all steps."""
    elements = sum(math.prod(program.tensors[step.tensors[-1]].shape) for step in program.steps)
    return sum(layer.multiply_accumulates for layer in program.layers) // 60 + elements // 2


def _pooled(program: Program, native: frozenset[int], carriers: Mapping[str, CarrierChoice]) -> dict[int, int]:
    """Layers and the max poolings that can be computed with them, by index."""
    readers: dict[str, list[int]] = {}
    for index, step in enumerate(program.steps):
        for name in program.inputs_of(step):
            readers.setdefault(name, []).append(index)
    kept = {program.resolve(name) for name in program.outputs}
    found: dict[int, int] = {}
    for index in native:
        layer = program.steps[index]
        read_by = readers.get(layer.tensors[-1], [])
        pool = program.steps[read_by[0]] if len(read_by) == 1 and read_by[0] in native else None
        if (
            isinstance(layer, Accumulating)
            and isinstance(pool, MaxPool)
            and layer.output not in kept
            and layer.name in carriers
            and may_pool_first(layer, carriers[layer.name], pool)
        ):
            found[index] = read_by[0]
    return found


def _is_native(step: Step, program: Program, carriers: Mapping[str, CarrierChoice]) -> bool:
    if isinstance(step, HostOperation):
        return runs_samples_last(step, program)
    if isinstance(step, DeviceStage):
        return False
    if isinstance(step, QuantizeStage):
        tensors = [program.tensors[name] for name in (step.input, *step.tensors)]
        shapes = {tensor.shape for tensor in tensors}
        return len(shapes) == 1 and all(tensor.dtype == np.float32 and len(tensor.shape) > 1 for tensor in tensors)
    if not all(_fits_float32(program.tensors[name]) for name in (*step.inputs, step.output)):
        return False
    if isinstance(step, FullyConnected) and len(step.input_shape) != 2:
        return False
    if isinstance(step, Direct):
        return runs_on_buffers(step, program)
    return isinstance(step, MaxPool) or carriers[step.name].carrier is not Carrier.INTEGER


def _fits_float32(tensor: Tensor) -> bool:
    """Whether a buffer of float32 holds a tensor: that of the graph, or codes of an integer type."""
    if tensor.dtype == np.float32:
        return True
    return tensor.dtype.kind in "iu" and -FLOAT32_LIMIT < tensor.lower <= tensor.upper < FLOAT32_LIMIT


@dataclass(frozen=True, slots=True)
class _BoundStep:
    """A step with everything that is the same in every run."""

    step: Step
    native: bool
    calls: tuple[Call, ...]
    buffers: tuple[str, ...]
    fills: tuple[str, ...]
    inner: frozenset[str]
    read: frozenset[str]
    gives: tuple[str, ...]


@dataclass(slots=True)
class _Kept:
    """The memory for a fixed number of samples, and what a run takes out of it."""

    plan: FastPlan
    workspace: Workspace
    accumulators: dict[str, tuple[Array, list[Call]]] = field(default_factory=dict)
    results: dict[str, Array] = field(default_factory=dict)

    def keep(self, name: str) -> None:
        """Keep a tensor as a result."""
        self.results[name] = self.workspace.stored(name)

    def keep_inner(self, bound: _BoundStep, asked: frozenset[str]) -> None:
        """Keep inner tensors of a step as results, and leave behind those that other steps read."""
        found = self._inner(bound.step, bound.native, {*asked, *bound.read})
        self.results.update({name: found[name] for name in asked})
        self.workspace.standard.update({name: found[name] for name in bound.read})

    def _inner(self, step: Step, native: bool, targets: set[str]) -> dict[str, Array]:
        """Inner tensors of a step, as the reference engine computes them."""
        program, workspace = self.plan.program, self.workspace
        if native and isinstance(step, Accumulating):
            residual = None if step.residual is None else workspace.stored(step.residual).astype(np.int64)
            return inner_tensors(step, self._accumulator(step), residual, targets, program)
        values = {name: workspace.stored(name) for name in program.inputs_of(step)}
        produced = run_step(program, step, values, targets)
        return {name: produced[name] for name in targets}

    def _accumulator(self, layer: Accumulating) -> IntegerArray:
        if layer.name not in self.accumulators:
            arithmetic = arrange_sums(layer, self.plan.carriers[layer.name])
            out = empty_accumulator(arithmetic, self.workspace.samples)
            calls, _ = accumulator_calls(arithmetic, out, self.workspace, with_bias=False)
            self.accumulators[layer.name] = out, calls
        accumulator, calls = self.accumulators[layer.name]
        for call in calls:
            call()
        return np.asarray(self.workspace.turned(accumulator, np.int64), np.int64)


@dataclass(slots=True)
class _Bound:
    """A plan bound to the memory for a fixed number of samples."""

    kept: _Kept
    steps: tuple[_BoundStep, ...]
    pools_first: bool
    listed: dict[tuple[frozenset[str], int, int | None], tuple[Call, ...]] = field(default_factory=dict)

    def run(self, feeds: Mapping[str, Array], targets: frozenset[str], part: slice) -> dict[str, Array]:
        """Compute tensors for exactly the number of samples that the memory is for."""
        kept, constants = self.kept, self.kept.plan.program.constants
        kept.workspace.reset(feeds)
        for name in targets:
            if name in constants:
                kept.results[name] = constants[name]
            elif name in feeds:
                kept.results[name] = kept.workspace.stored(name).copy()
        for call in self._list(targets, part):
            call()
        return dict(kept.results)

    def forget(self) -> None:
        """Let go of everything of a run but the memory."""
        self.kept.workspace.reset({})
        self.kept.results.clear()

    def _list(self, targets: frozenset[str], part: slice) -> tuple[Call, ...]:
        """Everything that is called for some tensors, in order: listed once, so that a run looks nothing up."""
        key = targets, part.start, part.stop
        if key in self.listed:
            return self.listed[key]
        calls, kept, ready = list[Call](), self.kept, set[str]()
        for bound in self.steps[part]:
            # what no native step has computed is brought into its buffer before its first native reader
            calls += [partial(kept.workspace.load, name) for name in bound.buffers if name not in ready]
            ready.update(bound.buffers, bound.fills)
            calls += bound.calls
            # at once, because the memory is for others later on
            asked = targets & bound.inner
            if asked or bound.read:
                calls.append(partial(kept.keep_inner, bound, asked))
            calls += [partial(kept.keep, name) for name in bound.gives if name in targets]
        if len(self.listed) == KEPT_LISTS:
            self.listed.pop(next(iter(self.listed)))
        self.listed[key] = tuple(calls)
        return self.listed[key]


def _bind(plan: FastPlan, samples: int, *, pools_first: bool) -> _Bound:
    program, pooled = plan.program, plan.pooled if pools_first else {}
    workspace = Workspace(program, samples, allocate(_tenants(plan, samples, pooled), samples))
    steps, read_by_steps = [], program.read_by_steps
    for index, step in enumerate(program.steps):
        native = index in plan.native
        reads_buffers = native and not isinstance(step, QuantizeStage)
        buffers = tuple(dict.fromkeys(program.inputs_of(step))) if reads_buffers else ()
        fills = step.tensors[-1:] if native else ()
        calls = tuple(_calls(plan, index, workspace, pooled))
        # what runs as in the reference engine leaves all its tensors behind, but for the inner ones of a layer
        inner = step.tensors[:-1] if native or isinstance(step, IntegerLayer) else ()
        gives = () if index in pooled else step.tensors[len(inner) :]
        read = read_by_steps.intersection(inner)
        steps.append(_BoundStep(step, native, calls, buffers, fills, frozenset(inner), read, gives))
    return _Bound(_Kept(plan, workspace), tuple(steps), pools_first)


def _tenants(plan: FastPlan, samples: int, pooled: Mapping[int, int]) -> list[Tenant]:
    """The tensors that native steps read or write, and how long they do."""
    program = plan.program
    first, last = dict[str, int](), dict[str, int]()
    for index, step in enumerate(program.steps):
        # a pooling that is computed with the layer before it is written by that one
        written = program.steps[pooled[index]].tensors[-1] if index in pooled else step.tensors[-1]
        for name in (*program.inputs_of(step), written):
            first.setdefault(name, index)
            last[name] = index
    return [
        Tenant(name, program.tensors[name].shape, layout, first[name], last[name])
        for name, layout in choose_layouts(program, plan.native, single=samples == 1).items()
        if name in first and not (pooled and name in plan.passed_over)
    ]


def _calls(plan: FastPlan, index: int, workspace: Workspace, pooled: Mapping[int, int]) -> list[Call]:
    """The calls of a step; a pooling that is computed with the layer before it has none."""
    program = plan.program
    step = program.steps[index]
    if index not in plan.native:
        return reference_calls(step, program, workspace)
    if isinstance(step, QuantizeStage):
        return quantize_stage_calls(step, program, workspace)
    if isinstance(step, HostOperation):
        return samples_last_calls(step, program, workspace)
    if isinstance(step, MaxPool):
        return [] if index in pooled.values() else maximum_calls(step, workspace)
    if isinstance(step, Direct):
        return direct_calls(step, program, workspace)
    if not isinstance(step, Accumulating):
        raise unknown_kind(step)
    pool = program.steps[pooled[index]] if index in pooled else None
    return layer_calls(arrange(step, plan.carriers[step.name]), workspace, pool if isinstance(pool, MaxPool) else None)
