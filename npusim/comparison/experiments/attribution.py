"""Experiments on some samples: where each layer's error comes from, in parts that add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np

from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.experiments.partial_runs import evaluate_float, run_real_from
from npusim.comparison.experiments.stages import LayerStages, Stages
from npusim.comparison.faults import Suspicion
from npusim.comparison.layer_result import (
    PART_NAMES,
    Attribution,
    ErrorPart,
    Introduced,
    LayerEffect,
    LayerScales,
    channel_axis,
)
from npusim.comparison.metrics import ErrorSums, sqnr_db
from npusim.comparison.outputs.output_errors import OutputScale
from npusim.comparison.sums import FloatArray, rows_of
from npusim.engine.session import InferenceSession
from npusim.engine.threads import blas_threads
from npusim.graph import Array
from npusim.graph.traits import Trait, operators_with
from npusim.program import Program

__all__ = ["AttributionSums", "Experiments", "PartSums", "experiment_samples", "feeds_of", "run_experiments"]


@dataclass(frozen=True, slots=True, eq=False)
class PartSums:
    """Sums over elements for parts that add up to a whole, which is the last of them.

    Attributes
    ----------
    names
        Of the parts, then of the whole.
    count
        Elements of each channel.
    error, energy, product
        ``sum e_part``, ``sum e_part^2`` and ``sum e_part e_whole``, ``[parts, channels]``.
    largest
        ``max |e_part|``, ``[parts]``.
    signal
        Sum of the squares of what the error is compared with.
    """

    names: tuple[str, ...]
    count: int
    error: FloatArray
    energy: FloatArray
    product: FloatArray
    largest: FloatArray
    signal: float

    @classmethod
    def of(cls, parts: Mapping[str, FloatArray], reference: FloatArray, /, *, channel_axis: int) -> Self:
        """Take the sums.

        Parameters
        ----------
        parts
            Errors by name, the whole last.
        reference
            What they are errors of.
        channel_axis
            The axis that tells channels apart.
        """
        rows = [rows_of(one, channel_axis) for one in parts.values()]
        return cls(
            tuple(parts),
            rows[0].shape[1],
            np.stack([one.sum(axis=1) for one in rows]),
            np.stack([np.einsum("ij,ij->i", one, one) for one in rows]),
            np.stack([np.einsum("ij,ij->i", one, rows[-1]) for one in rows]),
            np.array([np.abs(one).max() for one in rows]),
            float(np.einsum("i,i->", reference.ravel(), reference.ravel())),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        return type(self)(
            self.names,
            self.count + other.count,
            self.error + other.error,
            self.energy + other.energy,
            self.product + other.product,
            np.maximum(self.largest, other.largest),
            self.signal + other.signal,
        )

    def sqnr_db(self) -> float:
        """SQNR of the whole."""
        noise = float(self.energy[-1].sum())
        with np.errstate(divide="ignore"):
            return 10 * float(np.log10(self.signal) - np.log10(noise)) if noise > 0 else np.inf

    def part(self, name: str) -> ErrorPart:
        """What the sums say of one part."""
        index = self.names.index(name)
        elements = self.count * self.error.shape[1]
        whole = float(self.energy[-1].sum())
        return ErrorPart(
            name,
            mean_error=float(self.error[index].sum()) / elements,
            root_mean_square_error=float(np.sqrt(self.energy[index].sum() / elements)),
            largest_error=float(self.largest[index]),
            share=float(self.product[index].sum()) / whole if whole > 0 else 0.0,
            channel_mean_error=self.error[index] / self.count,
            channel_root_mean_square_error=np.sqrt(self.energy[index] / self.count),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AttributionSums:
    """The sums of one layer: on the codes that it really gets, and fed with the float model's activations."""

    in_place: PartSums
    alone: PartSums

    @classmethod
    def of(cls, real: FloatArray, alone: Stages, tensor: FloatArray, /, *, in_place: Stages, channel_axis: int) -> Self:
        """Take the sums.

        Parameters
        ----------
        real
            What the quantized layer gives in the quantized model.
        alone, in_place
            The stages on the float model's activations, and on the codes that the layer really gets.
        tensor
            The float tensor.
        channel_axis
            The axis that tells channels apart.
        """
        total = real - tensor
        introduced = real - in_place.reference
        parts = dict(zip(PART_NAMES[1:], in_place.parts, strict=True))
        everything = {"inherited": in_place.reference - tensor, **parts, "introduced": introduced, "total": total}
        apart = {**dict(zip(PART_NAMES[1:], alone.parts, strict=True)), "introduced": alone.introduced}
        return cls(
            PartSums.of(everything, tensor, channel_axis=channel_axis),
            PartSums.of(apart, alone.reference, channel_axis=channel_axis),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        return type(self)(self.in_place + other.in_place, self.alone + other.alone)

    def attribution(self) -> Attribution:
        """What the sums say."""
        parts = {name: self.in_place.part(name) for name in self.in_place.names}
        apart = {name: self.alone.part(name) for name in PART_NAMES[1:]}
        return Attribution(
            **parts, alone=Introduced(total=self.alone.part("introduced"), **apart, sqnr_db=self.alone.sqnr_db())
        )


WORK: Final = 3e9
"""Multiply-accumulates that the experiments may cost, about; decides on how many samples they are made."""

FEWEST: Final = 8
MOST: Final = 256

CHUNK: Final = 16
"""Samples of one experiment: bounds the memory."""

TOGETHER: Final = "float together"
"""The experiment with every layer with weights in float."""

MOVING: Final = operators_with(Trait.MOVES) - operators_with(Trait.INTERPOLATES)
"""Host operations that only move data: they have no error of their own."""


@dataclass(frozen=True, slots=True)
class Experiments:
    """What the experiments gave.

    Attributes
    ----------
    samples
        Samples they were made on.
    sqnr_db
        SQNR of the final output, all layers quantized.
    weights_float_sqnr_db
        The same with every layer with weights in float at once; NaN where no output has a counterpart.
    attributions, effects
        By name of the step; steps that only move data have none.
    suspicions
        With what the output would win without them, and their share of the error that their step introduces.
    """

    samples: int
    sqnr_db: float
    weights_float_sqnr_db: float
    attributions: Mapping[str, Attribution]
    effects: Mapping[str, LayerEffect]
    suspicions: tuple[Suspicion, ...] = ()


@dataclass(slots=True)
class _Sums:
    """Sums over the chunks of the experiments."""

    parts: dict[str, AttributionSums] = field(default_factory=dict)
    outputs: dict[str, ErrorSums] = field(default_factory=dict)

    def add_parts(self, name: str, sums: AttributionSums) -> None:
        self.parts[name] = self.parts[name] + sums if name in self.parts else sums

    def add_outputs(self, name: str, reference: list[FloatArray], found: list[FloatArray]) -> None:
        for one, other in zip(reference, found, strict=True):
            sums = ErrorSums.of(one, other)
            self.outputs[name] = self.outputs[name] + sums if name in self.outputs else sums

    def db(self, name: str) -> float:
        """SQNR of the output; NaN where no output has a counterpart."""
        return float(sqnr_db(self.outputs[name])[0]) if name in self.outputs else float("nan")


def experiment_samples(program: Program, count: int) -> tuple[int, ...]:
    """Which samples the experiments are made on: as many as the work allows, spread evenly over all.

    Parameters
    ----------
    program
        The quantized program.
    count
        Samples there are.
    """
    macs = max(sum(layer.multiply_accumulates for layer in program.layers), 1)
    wanted = int(WORK / (2.5 * macs * max(len(program.steps), 1)))
    chosen = min(count, max(FEWEST, min(MOST, wanted)))
    return tuple(int(one) for one in np.linspace(0, count - 1, chosen).round().astype(np.int64))


def feeds_of(reference: Program, quantized: Program, chunk: Mapping[str, Array]) -> dict[str, Array]:
    """Samples of a quantized model under the names of the float model's inputs, whose shapes may differ in axes of size 1."""
    pairs = zip(reference.inputs, quantized.inputs, strict=True)
    return {name: chunk[other].reshape(-1, *reference.tensors[name].shape[1:]) for name, other in pairs}


def run_experiments(
    quantized: InferenceSession,
    reference: InferenceSession,
    alignment: Alignment,
    scales: Mapping[str, LayerScales],
    outputs: tuple[OutputScale, ...],
    feeds: Mapping[str, Array],
    *,
    suspicions: Sequence[Suspicion] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Experiments:
    """Make the experiments.

    Parameters
    ----------
    quantized, reference
        Sessions of the quantized and the float model.
    alignment, scales, outputs
        How they belong together.
    feeds
        Samples of the quantized model's inputs.
    suspicions
        Whose effects are measured.
    progress
        Called with experiments done and all.
    """
    program, float_program = quantized.program, reference.program
    stages = {
        pair.step: LayerStages.of(pair, alignment, scales, program, float_program)
        for pair in alignment.pairs
        if pair.operator not in MOVING
    }
    weighted = {stage.step.tensors[-1]: stage for stage in stages.values() if stage.linear is not None}
    sums, done = _Sums(), 0
    count = len(next(iter(feeds.values())))
    chunks = -(-count // CHUNK)
    for chunk in _chunks(feeds, count):
        codes = quantized.trace(chunk, [*program.inputs, *(step.tensors[-1] for step in program.steps)])
        values = reference.trace(feeds_of(float_program, program, chunk))
        run = _Run(program, float_program, codes, values, outputs)
        sums.add_outputs("", run.reference, run.quantized)
        # small products: several threads of BLAS would mostly wait for each other
        with blas_threads().pinned():
            sums.add_outputs(TOGETHER, run.reference, run.with_floats(weighted))
            for name, stage in stages.items():
                _one_layer(name, stage, run, sums, [one for one in suspicions if one.step == name])
                done += 1
                if progress is not None:
                    progress(done, chunks * len(stages))
    baseline = sums.db("")
    effects = {
        name: LayerEffect(sums.db(f"float {name}"), _gain(sums.db(f"float {name}"), baseline), sums.db(f"quantized {name}"))
        for name in stages
    }
    attributions = {name: one.attribution() for name, one in sums.parts.items()}
    measured = tuple(_with_effect(one, sums, baseline) for one in suspicions)
    return Experiments(count, baseline, sums.db(TOGETHER), attributions, effects, measured)


@dataclass(frozen=True, slots=True)
class _Run:
    """One chunk of samples through both models."""

    quantized_program: Program
    float_program: Program
    codes: Mapping[str, Array]
    values: Mapping[str, Array]
    outputs: tuple[OutputScale, ...]

    @property
    def reference(self) -> list[FloatArray]:
        """The float model's outputs."""
        return [np.asarray(self.values[one.float_tensor], np.float64) for one in self.outputs]

    @property
    def quantized(self) -> list[FloatArray]:
        """The quantized model's outputs as real values."""
        return [one.real(self.codes[one.tensor], self.values[one.float_tensor].shape) for one in self.outputs]

    def with_codes(self, tensor: str, codes: FloatArray) -> list[FloatArray]:
        """The quantized model's outputs with other codes in one place."""
        names = tuple(one.tensor for one in self.outputs)
        found = run_real_from(self.quantized_program, self.codes, {tensor: codes}, names)
        return [one.real(found[one.tensor], self.values[one.float_tensor].shape) for one in self.outputs]

    def with_floats(self, stages: Mapping[str, LayerStages]) -> list[FloatArray]:
        """The quantized model's outputs with several layers, by output tensor, in float at once."""
        names = tuple(one.tensor for one in self.outputs)
        made = {tensor: stage.float_on_codes for tensor, stage in stages.items()}
        found = run_real_from(self.quantized_program, self.codes, {}, names, made)
        return [one.real(found[one.tensor], self.values[one.float_tensor].shape) for one in self.outputs]

    def with_values(self, tensor: str, values: FloatArray) -> list[FloatArray]:
        """The float model's outputs with other values in one place."""
        changed = values.astype(self.float_program.tensors[tensor].dtype)
        given = {name: self.values[name] for name in self.float_program.inputs if name != tensor}
        found = (evaluate_float(self.float_program, {**given, tensor: changed}, one.float_tensor) for one in self.outputs)
        return [np.asarray(one, np.float64) for one in found]


def _one_layer(name: str, stage: LayerStages, run: _Run, sums: _Sums, suspicions: Sequence[Suspicion]) -> None:
    tensor = np.asarray(run.values[stage.pair.float_tensor], np.float64)
    scale = stage.scales
    codes = np.asarray(run.codes[stage.pair.tensor], np.float64)
    real = ((codes - scale.zero_point) * scale.over(codes.shape)).reshape(tensor.shape)
    alone = stage.alone(run.values)
    axis = 1 if tensor.ndim > 1 else 0
    found = AttributionSums.of(real, alone, tensor, in_place=stage.in_place(run.codes), channel_axis=axis)
    sums.add_parts(name, found)
    wanted = stage.float_on_codes(run.codes)
    sums.add_outputs(f"float {name}", run.reference, run.with_codes(stage.pair.tensor, wanted))
    for one in suspicions:
        if one.channels:
            repaired = _with_channels(codes, wanted, one.channels)
            sums.add_outputs(_label(one), run.reference, run.with_codes(stage.pair.tensor, repaired))
    sums.add_outputs(f"quantized {name}", run.reference, run.with_values(stage.pair.float_tensor, tensor + alone.introduced))


def _with_channels(codes: FloatArray, wanted: FloatArray, channels: Sequence[int]) -> FloatArray:
    """Codes of which some channels are taken from others."""
    result = codes.copy()
    axis = 1 if codes.ndim > 1 and codes.shape[1] > max(channels) else channel_axis(codes.shape, max(channels) + 1)
    places = (slice(None),) * axis + (list(channels),)
    result[places] = wanted[places]
    return result


def _label(suspicion: Suspicion) -> str:
    return (
        f"repaired {suspicion.step} {suspicion.rule} {suspicion.channels}" if suspicion.channels else f"float {suspicion.step}"
    )


def _with_effect(suspicion: Suspicion, sums: _Sums, baseline: float) -> Suspicion:
    """A suspicion with what its repair wins at the output, and its share of the error that its step introduces."""
    if suspicion.step not in sums.parts:
        return suspicion
    in_place = sums.parts[suspicion.step].in_place
    energy = in_place.energy[in_place.names.index("introduced")]
    chosen = list(suspicion.channels) if suspicion.channels and max(suspicion.channels) < energy.size else slice(None)
    whole = float(energy.sum())
    evidence = {
        **suspicion.evidence,
        "output_gain_db": _gain(sums.db(_label(suspicion)), baseline),
        "share_of_introduced": float(energy[chosen].sum()) / whole if whole else 0.0,
        "introduced_sqnr_db": 10 * math.log10(in_place.signal / whole) if whole and in_place.signal else math.inf,
    }
    return replace(suspicion, evidence=evidence)


def _gain(first: float, second: float) -> float:
    """Difference of two SQNRs; 0 where both are infinite alike."""
    return 0.0 if first == second else first - second


def _chunks(feeds: Mapping[str, Array], count: int) -> Iterator[dict[str, Array]]:
    for start in range(0, count, CHUNK):
        yield {name: array[start : start + CHUNK] for name, array in feeds.items()}
