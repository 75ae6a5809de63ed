"""Running a program with a fault: only what depends on the fault is computed again, several faults of a layer at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from npusim.engine.reference import run_step
from npusim.engine.replay import program_from
from npusim.engine.samples import join_samples, of_sample
from npusim.errors import UnsupportedError
from npusim.golden.faults import Fault, FaultKind, faults_of_layer, faulty_codes
from npusim.golden.input_stage import InputStage, input_stages, stage_codes
from npusim.graph import Array
from npusim.program import Batching, IntegerLayer, Program, QuantizeStage, Step

__all__ = ["FaultRunner", "run_with_fault"]

ROWS: Final = 32
"""Most samples of a stacked run, all faults together: bounds the memory."""

EVERYWHERE: Final = (
    FaultKind.ROUND_HALF_UP,
    FaultKind.TOWARD_ZERO,
    FaultKind.NO_BIAS,
    FaultKind.NO_CLIP,
    FaultKind.INNER_512,
    FaultKind.NO_INNER,
    FaultKind.WRAP_18,
    FaultKind.WRAP_24,
    FaultKind.WRAP_32,
    FaultKind.DIGITS_WRAP,
    FaultKind.DIGITS_SATURATE,
)
"""Faults that a device can have in all of its layers."""

_STAGES: Final = {
    InputStage.ONNX: FaultKind.ONNX,
    InputStage.C28: FaultKind.C28,
    InputStage.MSPM0: FaultKind.MSPM0,
}


class FaultRunner:
    """Simulates faults upstream of a tensor.

    Parameters
    ----------
    program
        The program.
    feeds
        Its inputs, samples on the first axis.
    target
        The tensor to look at, aliases resolved.
    variant
        The implementation of the input stage that is right; the others are faults.
    """

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Array],
        target: str,
        *,
        variant: InputStage = InputStage.ONNX,
    ) -> None:
        self._program = program
        self._target = target
        self._variant = variant
        self._steps = program_from(program, (), [target]).steps
        self._stages = {stage.name for stage in input_stages(program)}
        self._given: dict[str, Array] = {name: np.asarray(values) for name, values in feeds.items()}
        self._count = len(next(iter(self._given.values())))
        self._values = dict(self._given)
        self._run(self._values, None)

    @property
    def expected(self) -> Array:
        """The tensor without any fault."""
        return self._value(self._target)

    def runs(self) -> Iterator[tuple[Fault, Array | None]]:
        """Every fault that the target can depend on, and the target under it; None where it changes no code on the way."""
        for index, step in enumerate(self._steps):
            yield from self._faults_at(index, step)
        layers = [step for step in self._steps if isinstance(step, IntegerLayer) and faults_of_layer(step)]
        if len(layers) > 1:
            for kind in EVERYWHERE:
                if any(kind in faults_of_layer(layer) for layer in layers):
                    yield Fault(kind, None), self._changed(self.run(Fault(kind, None)))

    def run(self, fault: Fault) -> Array:
        """The target under one fault."""
        if fault.step is None:
            return self._run(dict(self._given), fault.kind)
        for index, step in enumerate(self._steps):
            if step.name == fault.step:
                (found,) = self._alternatives(step, [fault.kind]).values() or (None,)
                if found is None:
                    return self.expected
                return found if step.tensors[-1] == self._target else self._behind(index, [found])[0]
        return self.expected

    def _changed(self, values: Array) -> Array | None:
        return None if np.array_equal(values, self.expected) else values

    def _faults_at(self, index: int, step: Step) -> Iterator[tuple[Fault, Array | None]]:
        kinds = self._kinds(step)
        right = self._value(step.tensors[-1]) if kinds else None
        pending: list[tuple[Fault, Array]] = []
        for kind, codes in self._alternatives(step, kinds).items():
            fault = Fault(kind, step.name)
            if right is None or np.array_equal(codes, right):
                yield fault, None
            elif step.tensors[-1] == self._target:
                yield fault, codes
            else:
                pending.append((fault, codes))
        size = max(1, ROWS // self._count) if self._program.batching is Batching.STACKED else 1
        for start in range(0, len(pending), size):
            part = pending[start : start + size]
            for (fault, _), values in zip(part, self._behind(index, [codes for _, codes in part]), strict=True):
                yield fault, self._changed(values)

    def _kinds(self, step: Step) -> tuple[FaultKind, ...]:
        if isinstance(step, IntegerLayer):
            # inside of a layer only its inner tensors could show a fault, which are not simulated with one
            return faults_of_layer(step) if self._target not in step.tensors[:-1] else ()
        if isinstance(step, QuantizeStage) and step.name in self._stages and self._target not in step.tensors[:-1]:
            return tuple(kind for variant, kind in _STAGES.items() if variant is not self._variant)
        return ()

    def _alternatives(self, step: Step, kinds: list[FaultKind] | tuple[FaultKind, ...]) -> dict[FaultKind, Array]:
        """A step's codes under faults."""
        if isinstance(step, IntegerLayer):
            stored = self._program.tensors[step.output].stored
            return faulty_codes(step, [self._value(name) for name in step.inputs], kinds, stored)
        found: dict[FaultKind, Array] = {}
        if isinstance(step, QuantizeStage):
            variants = {kind: variant for variant, kind in _STAGES.items()}
            for kind in kinds:
                try:
                    found[kind] = stage_codes(self._program, step, self._value(step.input), variants[kind])
                except UnsupportedError:
                    # a stage of another form has no variants
                    continue
        return found

    def _behind(self, index: int, alternatives: list[Array]) -> list[Array]:
        """The target when a step's result is replaced, for each of some alternatives."""
        if self._program.batching is Batching.SINGLE and self._count > 1:
            return [self._sample_by_sample(index, codes) for codes in alternatives]
        copies = len(alternatives)
        changed: dict[str, Array] = {self._steps[index].tensors[-1]: np.concatenate(alternatives)}
        self._continue(index + 1, changed, copies, None)
        if self._target not in changed:
            return [self.expected] * copies
        result = changed[self._target]
        return [result] if copies == 1 else list(np.split(result, copies))

    def _sample_by_sample(self, index: int, codes: Array) -> Array:
        rows = []
        program, output = self._program, self._steps[index].tensors[-1]
        for sample in range(self._count):
            changed = {output: of_sample(program, output, codes, sample)}
            self._continue(index + 1, changed, 1, sample)
            right = of_sample(program, self._target, self.expected, sample)
            rows.append(changed.get(self._target, right))
        return join_samples(rows)

    def _continue(self, start: int, changed: dict[str, Array], copies: int, sample: int | None) -> None:
        """Compute again what depends on changed tensors, of all samples or of one."""
        program = self._program
        for step in self._steps[start:]:
            names = program.inputs_of(step)
            if not any(name in changed for name in names):
                continue
            values = {
                name: changed[name] if name in changed else self._tiled(name, copies, sample)
                for name in names
                if name not in program.constants
            }
            changed.update(run_step(program, step, values, {self._target}))

    def _tiled(self, name: str, copies: int, sample: int | None) -> Array:
        values = self._value(name)
        if sample is not None:
            values = of_sample(self._program, name, values, sample)
        return values if copies == 1 else np.concatenate([values] * copies)

    def _value(self, name: str) -> Array:
        return self._values[name] if name in self._values else self._program.constants[name]

    def _run(self, values: dict[str, Array], kind: FaultKind | None) -> Array:
        """Run all steps, each layer with the fault, and keep every result in `values`."""
        if self._program.batching is Batching.SINGLE and self._count > 1:
            parts = []
            for sample in range(self._count):
                part = {name: of_sample(self._program, name, array, sample) for name, array in values.items()}
                self._run_steps(part, kind)
                parts.append(part)
            values.update({name: join_samples([part[name] for part in parts]) for name in parts[0]})
        else:
            self._run_steps(values, kind)
        return values[self._target] if self._target in values else self._program.constants[self._target]

    def _run_steps(self, values: dict[str, Array], kind: FaultKind | None) -> None:
        program = self._program
        for step in self._steps:
            if (
                isinstance(step, IntegerLayer)
                and kind is not None
                and kind in faults_of_layer(step)
                and self._target not in step.tensors[:-1]
            ):
                inputs = [values[name] for name in step.inputs]
                stored = program.tensors[step.output].stored
                (values[step.output],) = faulty_codes(step, inputs, [kind], stored).values()
            elif isinstance(step, QuantizeStage) and step.name in self._stages and self._variant is not InputStage.ONNX:
                values[step.output] = stage_codes(program, step, values[step.input], self._variant)
            else:
                values.update(run_step(program, step, values, {self._target}))


def run_with_fault(program: Program, feeds: Mapping[str, Array], fault: Fault, target: str) -> Array:
    """A tensor of a program that is run with a fault.

    Parameters
    ----------
    program
        The program.
    feeds
        Its inputs, samples on the first axis.
    fault
        The fault.
    target
        Name of the tensor.
    """
    return FaultRunner(program, feeds, program.resolve(target)).run(fault)
