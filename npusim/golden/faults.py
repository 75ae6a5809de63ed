"""What a device would compute if its arithmetic were wrong in one way: layers with an injected fault, run exactly.

A fault changes how a layer gets from its accumulator to its codes, in one layer or in all, or which implementation of the
input stage runs. Everything behind it is simulated as it should be. To add a fault, give it a kind and a place in
:func:`faulty_codes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.bounds.channels import digits_of
from npusim.engine.input_stages import stage_codes, stage_parameters
from npusim.engine.reference import run_step
from npusim.engine.replay import program_from
from npusim.engine.samples import join_samples, of_sample
from npusim.errors import UnsupportedError
from npusim.graph import Array
from npusim.program import (
    Accumulating,
    Alternative,
    Batching,
    Clip,
    IntegerArray,
    IntegerLayer,
    Program,
    QuantizeStage,
    Requantization,
    Step,
    Weighted,
    along,
)
from npusim.program.accumulation import accumulate
from npusim.program.direct import direct_codes
from npusim.program.input_stage import InputStage, input_stages

__all__ = [
    "INNER_CLIP",
    "Fault",
    "FaultKind",
    "FaultRunner",
    "codes_without_point",
    "faults_of_layer",
    "faulty_codes",
    "point_faults",
    "run_with_fault",
    "wrapped",
]

INNER_CLIP: Final = Clip(-512, 511)
"""Range to which the hardware saturates a convolution before it adds the residual."""

DIGIT_BITS: Final = 18
"""Width in which the accumulator of a 2-bit weight digit is read out."""


class FaultKind(StrEnum):
    """What is done wrong.

    ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_HALF_AWAY, TOWARD_ZERO: the shift rounds to nearest, halves up, to even or away from
    zero, or truncates instead of flooring. NO_BIAS: the bias is not added.
    NO_CLIP: the codes are cut to their low bits instead of saturated. INNER_512, NO_INNER: before a residual the codes are
    saturated to -512..511, or not at all. WRAP_18, WRAP_24: the accumulator wraps at so many bits; WRAP_32: the product
    ``(accumulator + bias) * scale`` does. DIGITS_WRAP, DIGITS_SATURATE: what the accumulators of 2-bit weight digits do past 18
    bits. C28, MSPM0, ONNX, TRUNCATED: that implementation of the input stage; ROUNDED: its float is rounded to nearest instead
    of floored. FIRST_SCALE: the scale of the first channel in all of them. INPUT_POINT, OUTPUT_POINT: that zero point is left
    out; PADDING: the padding is the code 0, not the zero point.
    """

    ROUND_HALF_UP = "round_half_up"
    ROUND_HALF_EVEN = "round_half_even"
    ROUND_HALF_AWAY = "round_half_away"
    TOWARD_ZERO = "toward_zero"
    NO_BIAS = "missing_bias"
    NO_CLIP = "missing_clip"
    INNER_512 = "inner_clip_512"
    NO_INNER = "no_inner_clip"
    WRAP_18 = "accumulator_wraps_18"
    WRAP_24 = "accumulator_wraps_24"
    WRAP_32 = "product_wraps_32"
    DIGITS_WRAP = "digits_wrap_18"
    DIGITS_SATURATE = "digits_saturate_18"
    C28 = "input_stage_c28"
    MSPM0 = "input_stage_mspm0"
    ONNX = "input_stage_onnx"
    TRUNCATED = "input_stage_truncated"
    ROUNDED = "input_stage_rounded"
    FIRST_SCALE = "scale_of_first_channel"
    INPUT_POINT = "missing_input_zero_point"
    OUTPUT_POINT = "missing_output_zero_point"
    PADDING = "padding_without_zero_point"


_SENTENCES: Final[Mapping[FaultKind, str]] = {
    FaultKind.ROUND_HALF_UP: "the shift rounds half up instead of flooring",
    FaultKind.ROUND_HALF_EVEN: "the shift rounds half to even instead of flooring",
    FaultKind.ROUND_HALF_AWAY: "the shift rounds half away from zero instead of flooring",
    FaultKind.TOWARD_ZERO: "the shift rounds toward zero instead of flooring",
    FaultKind.NO_BIAS: "the bias is missing",
    FaultKind.NO_CLIP: "the clip is missing, codes are cut to their low bits",
    FaultKind.INNER_512: "the codes are saturated to -512..511 before the residual is added",
    FaultKind.NO_INNER: "the codes are not saturated before the residual is added",
    FaultKind.WRAP_18: "the accumulator wraps at 18 bits",
    FaultKind.WRAP_24: "the accumulator wraps at 24 bits",
    FaultKind.WRAP_32: "(accumulator + bias) * scale wraps at 32 bits",
    FaultKind.DIGITS_WRAP: "the accumulators of 2-bit weight digits wrap at 18 bits",
    FaultKind.DIGITS_SATURATE: "the accumulators of 2-bit weight digits saturate at 18 bits",
    FaultKind.C28: "the input stage is the one of C2000 and AM26x (c28)",
    FaultKind.MSPM0: "the input stage is the one of MSPM0 (mspm0), which truncates toward zero",
    FaultKind.ONNX: "the input stage is the one of the ONNX graph (onnx)",
    FaultKind.TRUNCATED: "the scaled float is truncated toward zero, as a conversion in C does, instead of floored",
    FaultKind.ROUNDED: "the scaled float is rounded to nearest instead of floored",
    FaultKind.FIRST_SCALE: "the scale of the first channel is used in all channels",
    FaultKind.INPUT_POINT: "the zero point of the input is not subtracted",
    FaultKind.OUTPUT_POINT: "the zero point of the output is not added",
    FaultKind.PADDING: "the padding is the code 0 instead of the zero point",
}


_ALTERNATIVES: Final[Mapping[FaultKind, Alternative]] = {
    FaultKind.ROUND_HALF_UP: Alternative.HALF_UP,
    FaultKind.TOWARD_ZERO: Alternative.TOWARD_ZERO,
    FaultKind.NO_BIAS: Alternative.NO_BIAS,
}
"""Faults that are another staircase."""

_TIES: Final = (FaultKind.ROUND_HALF_EVEN, FaultKind.ROUND_HALF_AWAY)
"""Roundings to nearest that part from halves up only where the staircases with halves up and down differ."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in one place.

    Attributes
    ----------
    kind
        What is done wrong.
    step
        Name of the layer or of the input stage; None for all layers.
    """

    kind: FaultKind
    step: str | None

    def __str__(self) -> str:
        place = "in all layers" if self.step is None else f"in '{self.step}'"
        return f"{place} {_SENTENCES[self.kind]}"


def faults_of_layer(layer: IntegerLayer) -> tuple[FaultKind, ...]:
    """The faults that a layer can have; none for MAXPOOL."""
    if not isinstance(layer, Accumulating):
        return ()
    known = layer.requantization.alternatives
    kinds = [kind for kind, alternative in _ALTERNATIVES.items() if alternative in known]
    if Alternative.HALF_UP in known and Alternative.HALF_DOWN in known:
        kinds += _TIES
    if _first_scale(layer.requantization) != layer.requantization:
        kinds.append(FaultKind.FIRST_SCALE)
    kinds.append(FaultKind.NO_CLIP)
    if layer.residual is not None:
        kinds += [FaultKind.INNER_512, FaultKind.NO_INNER]
    if layer.multiply_accumulates:
        kinds += [FaultKind.WRAP_18, FaultKind.WRAP_24, FaultKind.WRAP_32]
    if digits_of(layer) is not None:
        kinds += [FaultKind.DIGITS_WRAP, FaultKind.DIGITS_SATURATE]
    return tuple(kinds)


def faulty_codes(
    layer: IntegerLayer, inputs: Sequence[Array], kinds: Sequence[FaultKind], stored: npt.DTypeLike
) -> dict[FaultKind, Array]:
    """The codes of a layer under each of some faults.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs, samples on the first axis.
    kinds
        Faults; those that the layer cannot have leave it right.
    stored
        Element type of the codes.

    Returns
    -------
    dict
        Codes by fault, in the order of `kinds`.

    Examples
    --------
    A product of -3 shifted by 1 is -2. Rounded half up it is -1, as it is rounded toward zero.
    """
    codes = [np.asarray(values).astype(np.int64) for values in inputs]
    if not isinstance(layer, Accumulating):
        return dict.fromkeys(kinds, direct_codes(layer, codes).astype(stored))
    accumulator = accumulate(layer, codes)
    residual = layer.residual_of(codes)
    found: dict[FaultKind, Array] = {}
    for kind in kinds:
        if kind in (FaultKind.DIGITS_WRAP, FaultKind.DIGITS_SATURATE):
            chosen = _digit_accumulator(layer, codes, accumulator, saturates=kind is FaultKind.DIGITS_SATURATE)
        else:
            chosen = accumulator
        found[kind] = _finish(layer, chosen, residual, kind).astype(stored)
    return found


def wrapped(values: IntegerArray, bits: int) -> IntegerArray:
    """Two's complement integers of so many bits: ``((v + 2**(bits - 1)) mod 2**bits) - 2**(bits - 1)``.

    Examples
    --------
    >>> wrapped(np.array([127, 128, -129]), 8)
    array([ 127, -128,  127])
    """
    half = 1 << (bits - 1)
    return np.asarray(((values + half) & (2 * half - 1)) - half)


def _finish(layer: Accumulating, accumulator: IntegerArray, residual: IntegerArray | None, kind: FaultKind) -> IntegerArray:
    """From accumulator to codes, before they are stored."""
    part, axis = layer.requantization, layer.channel_axis
    if kind in (FaultKind.WRAP_18, FaultKind.WRAP_24):
        accumulator = wrapped(accumulator, 18 if kind is FaultKind.WRAP_18 else 24)
    other = part.alternatives.get(_ALTERNATIVES[kind], part) if kind in _ALTERNATIVES else part
    if kind is FaultKind.FIRST_SCALE:
        values = _first_scale(part).unclipped(accumulator, axis)
    elif kind in _TIES:
        values = _nearest(part, accumulator, axis, away=kind is FaultKind.ROUND_HALF_AWAY)
    elif kind is FaultKind.WRAP_32 and part.has_product:
        values = part.codes_of_scaled(wrapped(part.scaled(accumulator, axis), 32), axis)
    else:
        values = other.unclipped(accumulator, axis)
    if residual is not None and kind in (FaultKind.INNER_512, FaultKind.NO_INNER):
        values = (INNER_CLIP.apply(values) if kind is FaultKind.INNER_512 else values) + residual
    else:
        values = layer.before_clip(values, residual)
    return values if kind is FaultKind.NO_CLIP else layer.output_clip.apply(values)


def _first_scale(part: Requantization) -> Requantization:
    """The staircase with the scale of its first channel in all channels; what is added stays that of each channel."""
    added: dict[str, Any] = {name: getattr(part, name) for name in ("bias", "addend") if hasattr(part, name)}
    return replace(part.for_channels([0] * part.channels), **added)


def point_faults(layer: IntegerLayer, input_point: int, output_point: int) -> tuple[FaultKind, ...]:
    """The faults that a layer between codes with zero points can have."""
    if not isinstance(layer, Weighted):
        return ()
    kinds = [FaultKind.INPUT_POINT] if input_point else []
    if input_point and layer.pads_input:
        kinds.append(FaultKind.PADDING)
    return (*kinds, FaultKind.OUTPUT_POINT) if output_point else tuple(kinds)


def codes_without_point(
    layer: Weighted, inputs: Sequence[Array], kind: FaultKind, input_point: int, output_point: int
) -> IntegerArray:
    """The centred codes, ``code - zero_point``, of a layer that leaves a zero point out, int64.

    Parameters
    ----------
    layer
        The layer, which takes and gives centred codes.
    inputs
        Centred codes of its inputs.
    kind
        One of :func:`point_faults`.
    input_point, output_point
        Zero points of its first input and of its output.

    Examples
    --------
    With weights that add up to 3, an input zero point of 5 that is not subtracted makes the sums 15 more.
    """
    codes = [np.asarray(values).astype(np.int64) for values in inputs]
    point = input_point if kind is FaultKind.INPUT_POINT else 0
    sums = accumulate(layer, [codes[0] + point, *codes[1:]])
    if kind is FaultKind.PADDING:
        # where the window lies in the padding, weights meet the code 0, which is minus the zero point when centred
        total = layer.weight_rows.sum(axis=1)
        within = accumulate(layer, [np.ones_like(codes[0]), *codes[1:]])
        sums = sums - input_point * (along(total, sums.ndim, layer.channel_axis) - within)
    values = layer.before_clip(layer.requantization.unclipped(sums, layer.channel_axis), layer.residual_of(codes))
    clip = layer.output_clip
    if kind is FaultKind.OUTPUT_POINT:
        return Clip(clip.lower + output_point, clip.upper + output_point).apply(values) - output_point
    return clip.apply(values)


def _nearest(part: Requantization, accumulator: IntegerArray, axis: int, *, away: bool) -> IntegerArray:
    """Codes rounded to nearest; at a tie, where halves up and halves down differ, to even or away from zero."""
    up, down = (
        part.alternatives.get(one, part).unclipped(accumulator, axis) for one in (Alternative.HALF_UP, Alternative.HALF_DOWN)
    )
    return np.where(up >= 1 if away else up % 2 == 0, up, down)


def _digit_accumulator(
    layer: Accumulating, codes: Sequence[IntegerArray], accumulator: IntegerArray, *, saturates: bool
) -> IntegerArray:
    """The accumulator put together from those of the weight digits, each of which wraps or saturates at 18 bits."""
    planes = digits_of(layer)
    if planes is None:
        return accumulator
    total = np.zeros_like(accumulator)
    limit = 1 << (DIGIT_BITS - 1)
    for place, digits in enumerate(planes):
        part = accumulate(layer, codes, digits)
        part = np.clip(part, -limit, limit - 1) if saturates else wrapped(part, DIGIT_BITS)
        total += part << (2 * place)
    return total


ROWS: Final = 32
"""Most samples of a stacked run, all faults together: bounds the memory."""

EVERYWHERE: Final = (
    FaultKind.ROUND_HALF_UP,
    FaultKind.ROUND_HALF_EVEN,
    FaultKind.ROUND_HALF_AWAY,
    FaultKind.TOWARD_ZERO,
    FaultKind.NO_BIAS,
    FaultKind.FIRST_SCALE,
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
    InputStage.GRAPH: FaultKind.ONNX,
    InputStage.C28: FaultKind.C28,
    InputStage.MSPM0: FaultKind.MSPM0,
    InputStage.TRUNCATED: FaultKind.TRUNCATED,
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
        variant: InputStage = InputStage.GRAPH,
    ) -> None:
        self._program = program
        self._target = target
        self._variant = variant
        self._steps = program_from(program, (), [target]).steps
        self._read = program.read_by_steps
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

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that the target depends on, in their order."""
        return tuple(self._steps)

    def is_input_stage(self, stage: QuantizeStage) -> bool:
        """Whether a stage makes codes of the model's inputs, and shows a fault in them."""
        return stage.name in self._stages and self._target not in stage.tensors[:-1]

    def layers_with(self, kind: FaultKind) -> frozenset[str]:
        """Names of the layers that can have a fault and show it in their codes."""
        layers = (step for step in self._steps if isinstance(step, IntegerLayer))
        return frozenset(layer.name for layer in layers if kind in faults_of_layer(layer) and self._is_open(layer))

    def run_in(self, kind: FaultKind, layers: Collection[str]) -> Array:
        """The target under a fault in some layers."""
        return self._run(dict(self._given), kind, layers)

    def values(self, name: str) -> Array:
        """A tensor upstream of the target without any fault."""
        return self._value(name)

    def replaced(self, step: Step, codes: list[Array]) -> list[Array]:
        """The target where a step gives other codes, for each of some arrays of them."""
        if step.tensors[-1] == self._target or not codes:
            return codes
        size = max(1, ROWS // self._count) if self._program.batching is Batching.STACKED else 1
        index = next(place for place, one in enumerate(self._steps) if one.name == step.name)
        found: list[Array] = []
        for start in range(0, len(codes), size):
            found += self._behind(index, codes[start : start + size])
        return found

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
            return (*faults_of_layer(step), *point_faults(step, *self._points(step))) if self._is_open(step) else ()
        if isinstance(step, QuantizeStage) and self.is_input_stage(step):
            return (
                *(kind for variant, kind in _STAGES.items() if variant is not self._variant),
                FaultKind.ROUNDED,
            )
        return ()

    def _inputs(self, layer: IntegerLayer) -> list[Array]:
        return [self._value(name) for name in layer.inputs]

    def _points(self, layer: IntegerLayer) -> tuple[int, int]:
        """Zero points of a layer's first input and of its output."""
        tensors = self._program.tensors
        return tensors[layer.inputs[0]].zero_point, tensors[layer.output].zero_point

    def _is_open(self, layer: IntegerLayer) -> bool:
        """Whether only a layer's codes show a fault in it: inner tensors that others read are not simulated with one."""
        return self._target not in layer.tensors[:-1] and self._read.isdisjoint(layer.tensors[:-1])

    def _alternatives(self, step: Step, kinds: list[FaultKind] | tuple[FaultKind, ...]) -> dict[FaultKind, Array]:
        """A step's codes under faults."""
        if isinstance(step, IntegerLayer):
            stored, inputs, points = self._program.tensors[step.output].stored, self._inputs(step), self._points(step)
            without = [kind for kind in kinds if isinstance(step, Weighted) and kind in point_faults(step, *points)]
            codes = faulty_codes(step, inputs, [kind for kind in kinds if kind not in without], stored)
            if isinstance(step, Weighted):
                codes |= {kind: codes_without_point(step, inputs, kind, *points).astype(stored) for kind in without}
            return codes
        found: dict[FaultKind, Array] = {}
        if isinstance(step, QuantizeStage):
            variants = {kind: variant for variant, kind in _STAGES.items()}
            for kind in kinds:
                try:
                    if kind is FaultKind.ROUNDED:
                        found[kind] = _rounded(self._program, step, self._value(step.input))
                    else:
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

    def _run(self, values: dict[str, Array], kind: FaultKind | None, layers: Collection[str] | None = None) -> Array:
        """Run all steps, each layer (or each of some) with the fault, and keep every result in `values`."""
        if self._program.batching is Batching.SINGLE and self._count > 1:
            parts = []
            for sample in range(self._count):
                part = {name: of_sample(self._program, name, array, sample) for name, array in values.items()}
                self._run_steps(part, kind, layers)
                parts.append(part)
            values.update({name: join_samples([part[name] for part in parts]) for name in parts[0]})
        else:
            self._run_steps(values, kind, layers)
        return values[self._target] if self._target in values else self._program.constants[self._target]

    def _run_steps(self, values: dict[str, Array], kind: FaultKind | None, layers: Collection[str] | None) -> None:
        program = self._program
        wrong = frozenset() if kind is None else self.layers_with(kind)
        wrong = wrong if layers is None else wrong & frozenset(layers)
        for step in self._steps:
            if isinstance(step, IntegerLayer) and kind is not None and step.name in wrong:
                inputs = [values[name] for name in step.inputs]
                stored = program.tensors[step.output].stored
                (values[step.output],) = faulty_codes(step, inputs, [kind], stored).values()
            elif isinstance(step, QuantizeStage) and step.name in self._stages and self._variant is not InputStage.GRAPH:
                values[step.output] = stage_codes(program, step, values[step.input], self._variant)
            else:
                values.update(run_step(program, step, values, {self._target}))


def _rounded(program: Program, stage: QuantizeStage, values: Array) -> Array:
    """Codes of an input stage that rounds to nearest: ``clip(rint((x + offset) * multiplier * 2**-n))``."""
    known = stage_parameters(program, stage)
    with np.errstate(over="ignore"):  # what passes float32 saturates
        product = (values.astype(np.float32) + known.offset) * known.multiplier * np.ldexp(np.float32(1), -known.shift)
    codes: Array = np.clip(np.rint(product), stage.clip.lower, stage.clip.upper)
    return codes.astype(program.tensors[stage.output].stored)


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
