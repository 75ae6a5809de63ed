"""Planning and running the fast engine: carriers, paddings and the order of calls are fixed once; a run follows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.bounds import RangeAnalysis, analyse
from npusim.engine.carriers import Carrier, CarrierChoice, choose_carrier
from npusim.engine.fast.hosting import bind_as_reference, bind_quantize_stage, bind_samples_last, runs_samples_last
from npusim.engine.fast.layers import arrange, bind_accumulator, bind_layer, bind_maximum, working_set
from npusim.engine.fast.workspace import Buffer, Padding, Workspace, from_samples_last
from npusim.engine.reference import finish_layer, run_step
from npusim.engine.runner import MANY_THREADS
from npusim.graph import Array
from npusim.layer import IntegerArray, IntegerLayer, LayerKind
from npusim.program import HostOperation, Program, QuantizeStage, Step

__all__ = ["FastPlan", "make_plan"]

CACHE_BYTES: Final = 2**21
"""What a layer may touch at once: the second-level cache of current processors."""

FEWEST_SAMPLES: Final = 64
MOST_SAMPLES: Final = 128
"""BLAS kernels want at least a vector of samples; beyond some hundred the calls cost nothing any more."""

LONG_CALLS: Final = 3_000_000
"""Multiply-accumulates of an average step on one chunk from which NumPy's calls are long enough for a second thread.

Python runs one thread at a time between calls. With shorter ones, threads wait for each other longer than they compute.
"""

KEPT_WORKSPACES: Final = 4
"""Workspaces kept for the next run."""


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
    most_threads
        Most chunks worth computing at the same time: one, unless the layers are large.
    """

    program: Program
    carriers: Mapping[str, CarrierChoice]
    samples: int
    most_threads: int
    native: frozenset[int]
    paddings: Mapping[str, Padding]
    _idle: deque[_Bound] = field(default_factory=deque)

    def run(self, feeds: Mapping[str, Array], targets: Iterable[str]) -> dict[str, Array]:
        """Compute tensors for at most `samples` samples; the results equal those of the reference engine."""
        wanted = set(targets)
        bound = self._bound(len(next(iter(feeds.values()))))
        try:
            # infinities and NaN are results of float steps, as IEEE 754 says, not warnings
            with np.errstate(all="ignore"):
                return bound.run(feeds, wanted)
        finally:
            # the memory is kept, the samples are not
            bound.workspace.reset({})
            if len(self._idle) < KEPT_WORKSPACES:
                self._idle.append(bound)

    def _bound(self, samples: int) -> _Bound:
        for _ in range(len(self._idle)):
            try:
                bound = self._idle.popleft()
            except IndexError:
                break
            if bound.workspace.samples == samples:
                return bound
            self._idle.append(bound)
        return _bind(self, samples)


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
    paddings = _paddings(program, native)
    touched = [
        working_set(step) for index, step in enumerate(program.steps) if index in native and isinstance(step, IntegerLayer)
    ]
    fitting = CACHE_BYTES // (4 * max(touched, default=1))
    samples = min(max(fitting // FEWEST_SAMPLES * FEWEST_SAMPLES, FEWEST_SAMPLES), MOST_SAMPLES)
    work = sum(layer.multiply_accumulates for layer in program.layers) * samples
    most_threads = MANY_THREADS if work >= LONG_CALLS * len(program.steps) else 1
    return FastPlan(program, carriers, samples, most_threads, native, paddings)


def _is_native(step: Step, program: Program, carriers: Mapping[str, CarrierChoice]) -> bool:
    if isinstance(step, HostOperation):
        return runs_samples_last(step, program)
    if isinstance(step, QuantizeStage):
        tensors = [program.tensors[name] for name in (step.input, *step.tensors)]
        shapes = {tensor.shape for tensor in tensors}
        return len(shapes) == 1 and all(tensor.dtype == np.float32 and len(tensor.shape) > 1 for tensor in tensors)
    if any(program.tensors[name].dtype != np.float32 for name in (*step.inputs, step.output)):
        return False
    if step.kind is LayerKind.FC and len(step.input_shape) != 2:
        return False
    return step.kind is LayerKind.MAXPOOL or carriers[step.name].carrier is not Carrier.INTEGER


def _paddings(program: Program, native: frozenset[int]) -> dict[str, Padding]:
    """The buffers that native steps need, with the padding that convolutions want around their inputs."""
    found: dict[str, Padding] = {}

    def want(name: str, padding: Padding | None = None) -> None:
        rank = len(program.tensors[name].shape) - 2
        wanted = padding or Padding((0,) * rank, (0,) * rank)
        found[name] = found[name].merged(wanted) if name in found else wanted

    for index in native:
        step = program.steps[index]
        for name in (*(() if isinstance(step, QuantizeStage) else program.inputs_of(step)), step.tensors[-1]):
            want(name)
        if isinstance(step, IntegerLayer) and step.window is not None and step.kind not in _UNPADDED:
            rank = len(step.window.kernel_shape)
            want(step.inputs[0], Padding(step.window.pads[:rank], step.window.pads[rank:]))
    return found


_UNPADDED: Final = (LayerKind.AVGPOOL, LayerKind.MAXPOOL, LayerKind.TCONV)


@dataclass(frozen=True, slots=True)
class _BoundStep:
    """A step with everything that is the same in every run."""

    step: Step
    native: bool
    call: Callable[[], None]
    loads: tuple[str, ...]
    inner: frozenset[str]


@dataclass(slots=True)
class _Bound:
    """A plan bound to the memory for a fixed number of samples."""

    plan: FastPlan
    workspace: Workspace
    steps: tuple[_BoundStep, ...]
    accumulators: dict[str, tuple[Array, Callable[[], None]]] = field(default_factory=dict)

    def run(self, feeds: Mapping[str, Array], targets: set[str]) -> dict[str, Array]:
        """Compute tensors for exactly the number of samples that the memory is for."""
        program, workspace = self.plan.program, self.workspace
        workspace.reset(feeds)
        results = {name: program.constants[name] for name in targets if name in program.constants}
        for bound in self.steps:
            for name in bound.loads:
                workspace.load(name)
            bound.call()
            if not targets.isdisjoint(bound.inner):
                results.update(self._inner(bound.step, bound.native, targets & bound.inner))
        for name in targets - results.keys():
            stored = workspace.stored(name)
            results[name] = stored.copy() if name in feeds else stored
        return results

    def _inner(self, step: Step, native: bool, targets: set[str]) -> dict[str, Array]:
        """Inner tensors of a step, as the reference engine computes them."""
        program, workspace = self.plan.program, self.workspace
        values = {name: workspace.stored(name) for name in program.inputs_of(step)}
        if native and isinstance(step, IntegerLayer):
            codes = [values[name].astype(np.int64) for name in step.inputs]
            produced = finish_layer(step, self._accumulator(step), codes, targets, program)
        else:
            produced = run_step(program, step, values, targets)
        return {name: produced[name] for name in targets}

    def _accumulator(self, layer: IntegerLayer) -> IntegerArray:
        if layer.name not in self.accumulators:
            choice = self.plan.carriers[layer.name]
            plain = CarrierChoice(
                Carrier.FLOAT64 if choice.carrier is Carrier.FLOAT64 else Carrier.FLOAT32, choice.bound, choice.limit
            )
            arithmetic = arrange(layer, plain)
            shape = layer.accumulator_shape
            out = np.empty((*shape[2:], shape[1], self.workspace.samples), arithmetic.dtype)
            self.accumulators[layer.name] = out, bind_accumulator(arithmetic, out, self.workspace)
        accumulator, call = self.accumulators[layer.name]
        call()
        return from_samples_last(accumulator).astype(np.int64)


def _bind(plan: FastPlan, samples: int) -> _Bound:
    program = plan.program
    buffers = {name: Buffer.of(program.tensors[name].shape, padding, samples) for name, padding in plan.paddings.items()}
    workspace = Workspace(program, samples, buffers)
    steps, ready = [], set[str]()
    for index, step in enumerate(program.steps):
        native = index in plan.native
        # what no native step has computed is brought into its buffer before its first native reader
        wanted = program.inputs_of(step) if native and not isinstance(step, QuantizeStage) else ()
        loads = tuple(name for name in dict.fromkeys(wanted) if name not in ready)
        ready.update(loads, step.tensors[-1:] if native else ())
        steps.append(_BoundStep(step, native, _call(plan, index, step, workspace), loads, frozenset(step.tensors[:-1])))
    return _Bound(plan, workspace, tuple(steps))


def _call(plan: FastPlan, index: int, step: Step, workspace: Workspace) -> Callable[[], None]:
    program = plan.program
    if index not in plan.native:
        return bind_as_reference(step, program, workspace)
    if isinstance(step, QuantizeStage):
        return bind_quantize_stage(step, program, workspace)
    if isinstance(step, HostOperation):
        return bind_samples_last(step, program, workspace)
    if step.kind is LayerKind.MAXPOOL:
        return bind_maximum(step, workspace)
    return bind_layer(arrange(step, plan.carriers[step.name]), workspace)
