"""Comparing a quantized model with its float model, layer by layer: which layer errs, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from npusim.comparison.alignment.counterparts import Alignment, align
from npusim.comparison.experiments.attribution import Experiments, experiment_samples, feeds_of, run_experiments
from npusim.comparison.faults import diagnose
from npusim.comparison.layer_errors import LayerMeasure, rails_of
from npusim.comparison.layer_result import LayerPair, LayerScales, without_ones
from npusim.comparison.outputs.output_errors import OutputMeasure, OutputScale, output_scales
from npusim.comparison.result import FloatComparison, LayerComparison
from npusim.engine.cluster import Cluster, Feeds, Job, results_of
from npusim.engine.runner import available_threads
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, UsageError
from npusim.floats import FloatGraph
from npusim.graph import Array
from npusim.graph.scale_metadata import read_scales
from npusim.program import Accumulating, Batching, Program, Step, Weighted, weight_bits_of

__all__ = ["compare_with_float", "is_quantized"]

ELEMENTS: Final = 2**21
"""Elements of all tensors of both models that are held at once, about."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def is_quantized(program: Program) -> bool:
    """Whether a program has layers in integers; a float model has none."""
    return bool(program.layers)


def compare_with_float(
    quantized: InferenceSession | str | os.PathLike[str] | bytes,
    reference: InferenceSession | str | os.PathLike[str] | bytes,
    feeds: Mapping[str, Array],
    *,
    labels: Array | None = None,
    numbers: Array | None = None,
    threads: int | None = None,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> FloatComparison:
    """Compare a quantized model with its float model on samples.

    Parameters
    ----------
    quantized
        The quantized model: a session, the path of an .onnx file, or its content.
    reference
        The float model that was quantized, alike. Names and nodes may differ; batch norms may be folded or not.
    feeds
        Samples for the inputs of the quantized model; both models must take the same. Memory-mapped arrays are read piece by
        piece.
    labels
        What the samples really are: class numbers, below 0 for a sample without, or target values. One for each sample.
    numbers
        What the samples are called in the result, one number for each; by default they are counted from 0.
    threads
        Layers measured at the same time; by default one for each processor. No result depends on it.
    cluster
        Workers that measure all samples behind the first; None for this process.
    progress
        Called now and then.

    Returns
    -------
    FloatComparison
        Errors over all samples, and attributions over some, spread evenly over them.

    Raises
    ------
    InputError
        If the samples do not fit both models, or labels not the samples.
    UsageError
        If the first model is not quantized, the second one is, or they do not belong together.
    UnsupportedError
        If a model cannot be simulated.

    Examples
    --------
    >>> comparison = compare_with_float("motor_8bit.onnx", "motor_float.onnx", {"input": x})  # doctest: +SKIP
    >>> min(comparison.layers, key=lambda layer: layer.metrics.sqnr_db).name  # doctest: +SKIP
    '/features.5/Clip_1'
    """
    first, second = _session(quantized), _session(reference)
    alignment = _aligned(first, second)
    _check_samples(first.program, feeds, labels)
    reaches = _Reaches(first, second, alignment, feeds)
    declared = read_scales(first.get_modelmeta().custom_metadata_map)
    diagnosis = diagnose(alignment, first.program, second.program, reaches.largest, declared)
    scales = diagnosis.scales
    outputs = output_scales(alignment, scales, first.program, second.program)
    comparison = _Comparison(first, second, alignment, scales, outputs, len(next(iter(feeds.values()))))
    used = available_threads() if threads is None else threads
    comparison.measure(feeds, labels, numbers, used, cluster, progress)
    chosen = experiment_samples(first.program, comparison.samples)
    subset = {name: np.asarray(array)[list(chosen)] for name, array in feeds.items()}

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress("experiments", done, total)

    experiments = run_experiments(
        first, second, alignment, scales, outputs, subset, suspicions=diagnosis.suspicions, progress=report
    )
    return comparison.result(experiments)


REACH_SAMPLES: Final = 64
"""Samples that tell how far the float model's tensors reach."""


@dataclass(slots=True)
class _Reaches:
    """How far float tensors reach on some samples, measured when it is first asked for."""

    quantized: InferenceSession
    reference: InferenceSession
    alignment: Alignment
    feeds: Mapping[str, Array]
    found: dict[str, float] | None = None

    def largest(self, step: str) -> float:
        """The largest magnitude of the tensor that a step stands for; 0 of a step that stands for none."""
        if self.found is None:
            few = {name: np.asarray(array[:REACH_SAMPLES]) for name, array in self.feeds.items()}
            names = [pair.float_tensor for pair in self.alignment.pairs]
            values = self.reference.trace(feeds_of(self.reference.program, self.quantized.program, few), names)
            self.found = {pair.step: float(np.abs(values[pair.float_tensor]).max()) for pair in self.alignment.pairs}
        return self.found.get(step, 0.0)


def _session(model: InferenceSession | str | os.PathLike[str] | bytes) -> InferenceSession:
    return model if isinstance(model, InferenceSession) else InferenceSession(model)


def _aligned(quantized: InferenceSession, reference: InferenceSession) -> Alignment:
    """The alignment, if the two belong together."""
    first, second = quantized.program, reference.program
    if not is_quantized(first):
        raise UsageError(f"{quantized.model.label} has no layers in integers; give the quantized model first")
    if is_quantized(second):
        raise UsageError(f"{reference.model.label} has layers in integers; a float model has none")
    for session in (quantized, reference):
        if session.program.batching is Batching.FIXED:
            raise UsageError(f"{session.model.label} has no batch axis of one sample; export it with a batch of 1")
        _check_sizes(session)
    shapes = [[program.tensors[name].shape for name in program.inputs] for program in (first, second)]
    if [without_ones(shape) for shape in shapes[0]] != [without_ones(shape) for shape in shapes[1]]:
        raise UsageError(
            f"the inputs of {quantized.model.label} have shapes {_show(shapes[0])}, those of {reference.model.label} "
            f"{_show(shapes[1])}; give the float model of this network"
        )
    alignment = align(first, second)
    if not alignment.linear:
        raise UsageError(
            f"no layer of {quantized.model.label} has a counterpart in {reference.model.label}"
            f"{_first_reason(alignment)}; give the float model of this network"
        )
    return alignment


def _check_sizes(session: InferenceSession) -> None:
    for step in session.program.steps:
        for name in step.tensors:
            shape = session.program.tensors[name].shape
            if 0 in shape:
                raise UsageError(
                    f"tensor '{name}' of {session.model.label} has the shape {list(shape)}, so there is nothing to compare; "
                    "check the sizes of the constants before it"
                )


def _first_reason(alignment: Alignment) -> str:
    return f" ('{alignment.unpaired[0].step}': {alignment.unpaired[0].reason})" if alignment.unpaired else ""


def _show(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def _check_samples(program: Program, feeds: Mapping[str, Array], labels: Array | None) -> None:
    counts = {name: len(feeds[name]) for name in program.inputs if name in feeds}
    if len(counts) < len(program.inputs) or len(set(counts.values())) != 1 or 0 in counts.values():
        raise InputError(
            f"the samples are {counts or 'none'}, wanted at least one, the same number for each of "
            f"{', '.join(repr(name) for name in program.inputs)}"
        )
    count = next(iter(counts.values()))
    if labels is not None and len(labels) != count:
        raise InputError(f"there are {len(labels)} labels for {count} samples; give one for each")


@dataclass(slots=True)
class _Comparison:
    """The two models side by side, and what was measured of each layer."""

    quantized: InferenceSession
    reference: InferenceSession
    alignment: Alignment
    scales: Mapping[str, LayerScales]
    outputs: tuple[OutputScale, ...]
    samples: int
    measures: Mapping[str, LayerMeasure] | None = None
    output_measures: tuple[OutputMeasure, ...] = ()

    def measure(
        self,
        feeds: Mapping[str, Array],
        labels: Array | None,
        numbers: Array | None,
        threads: int,
        cluster: Cluster | None,
        progress: Progress | None,
    ) -> None:
        """Run all samples through both models, piece by piece."""
        steps = {step.name: step for step in self.quantized.program.steps}
        graph = FloatGraph(self.reference.program)
        measures = {
            pair.step: LayerMeasure(
                self.scales[pair.step],
                rails_of(steps[pair.step], self.quantized.program),
                graph.is_rectified(pair.float_tensor),
                self.samples,
            )
            for pair in self.alignment.pairs
        }
        self.measures = measures
        self.output_measures = tuple(OutputMeasure(one, labels, numbers) for one in self.outputs)
        ends = [(one.float_tensor, one.tensor) for one in self.outputs]
        size, done = self._size, 0
        # the first piece is measured here: what has no rails gets the range of its histogram from it
        rest = range(size, self.samples, size)
        with ThreadPoolExecutor(threads, "npusim-compare") as pool:
            blank = {step: measure.begun() for step, measure in measures.items()}
            work = _measuring(self.quantized, self.reference, self.alignment.pairs, blank, ends, pool)
            first = work({name: np.asarray(array[:size]) for name, array in feeds.items()}, 0)
            blank.update({step: measure.begun() for step, measure in first.measures.items()})
            job = Job(_measuring, (self.quantized, self.reference), (self.alignment.pairs, blank, ends))
            found = results_of(job, feeds, rest, cluster) if cluster is not None else _pieces(work, feeds, rest)
            for piece in chain((first,), found):
                for step, measure in piece.measures.items():
                    measures[step].merge(measure)
                for output, (wanted, seen) in zip(self.output_measures, piece.outputs, strict=True):
                    output.take(wanted, seen)
                done += piece.samples
                if progress is not None:
                    progress("samples", done, self.samples)

    def result(self, experiments: Experiments) -> FloatComparison:
        """Everything put together."""
        known = set(self.alignment.meaning)
        producers = {step.tensors[-1]: step.name for step in self.quantized.program.steps}
        layers = tuple(self._layer(pair, experiments, producers, known) for pair in self.alignment.pairs)
        real = [one.tensor for one in self.outputs if not self.quantized.program.tensors[one.tensor].is_integer]
        spreads = [self.scales[producers[name]].spread for name in real]
        agreements = [one for one in spreads if one is not None]
        return FloatComparison(
            samples=self.samples,
            experiment_samples=experiments.samples,
            experiment_sqnr_db=experiments.sqnr_db,
            weights_float_sqnr_db=experiments.weights_float_sqnr_db,
            layers=layers,
            unpaired=self.alignment.unpaired,
            unpaired_float=self.alignment.unpaired_float,
            outputs=tuple(measure.result() for measure in self.output_measures),
            scale_agreement=max(agreements) if agreements else None,
            suspicions=experiments.suspicions,
        )

    @property
    def _size(self) -> int:
        """Samples of one piece."""
        sizes = (
            sum(int(np.prod(program.tensors[name].shape)) for step in program.steps for name in step.tensors[-1:])
            for program in (self.quantized.program, self.reference.program)
        )
        return max(1, min(1024, ELEMENTS // max(sum(sizes), 1)))

    def _layer(
        self, pair: LayerPair, experiments: Experiments, producers: Mapping[str, str], known: set[str]
    ) -> LayerComparison:
        program = self.quantized.program
        index, step = next(one for one in enumerate(program.steps) if one[1].name == pair.step)
        measure = (self.measures or {})[pair.step]
        codes, errors = measure.histograms()
        weights, bits, bias = _weights(step)
        shape = program.tensors[pair.tensor].shape[1:]
        return LayerComparison(
            index=index,
            name=pair.step,
            kind=pair.kind,
            tensor=pair.tensor,
            operator=pair.operator,
            inputs=tuple(producers.get(name, name) for name in program.inputs_of(step) if name in known),
            shape=shape,
            channel_axis=1 if shape else 0,
            weight_bits=bits,
            weight_range=None if weights is None else (int(weights.min()), int(weights.max())),
            weight_shape=None if weights is None else weights.shape,
            bias_range=None if bias is None else (int(bias.min()), int(bias.max())),
            pair=pair,
            scales=measure.fitted_scales(),
            metrics=measure.metrics(),
            codes=measure.code_use(),
            channels=measure.channel_metrics(),
            attribution=experiments.attributions.get(pair.step),
            effect=experiments.effects.get(pair.step),
            code_histogram=codes,
            error_histogram=errors,
            scatter=measure.scatter(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """What a piece of the samples gave: sums of each layer, and both sides of each output."""

    samples: int
    measures: Mapping[str, LayerMeasure]
    outputs: Sequence[tuple[Array, Array]]


def _measuring(
    quantized: InferenceSession,
    reference: InferenceSession,
    pairs: Sequence[LayerPair],
    blank: Mapping[str, LayerMeasure],
    outputs: Sequence[tuple[str, str]],
    pool: ThreadPoolExecutor | None = None,
) -> Callable[[Feeds, int], _Measured]:
    """Both models on a piece of the samples; `blank` are measures of the layers that nothing was taken of."""

    def measure(feeds: Feeds, _: int) -> _Measured:
        codes = quantized.trace(feeds, [pair.tensor for pair in pairs])
        chunk = feeds_of(reference.program, quantized.program, feeds)
        values = reference.trace(chunk, [pair.float_tensor for pair in pairs])
        measures = {pair.step: blank[pair.step].begun() for pair in pairs}
        jobs = [(measures[pair.step].take, values[pair.float_tensor], _reshaped(pair, codes, values)) for pair in pairs]
        if pool is None:
            for take, *both in jobs:
                take(*both)
        else:
            for done in [pool.submit(take, *both) for take, *both in jobs]:
                done.result()
        ends = [(values[float_tensor], codes[tensor]) for float_tensor, tensor in outputs]
        return _Measured(len(next(iter(feeds.values()))), measures, ends)

    return measure


def _pieces(work: Callable[[Feeds, int], _Measured], feeds: Feeds, starts: range) -> Iterator[_Measured]:
    """All pieces in this process."""
    for start in starts:
        yield work({name: np.asarray(array[start : start + starts.step]) for name, array in feeds.items()}, start)


def _reshaped(pair: LayerPair, codes: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
    """Codes in the shape of the float tensor where one of the models has dropped axes of size 1."""
    return codes[pair.tensor].reshape(values[pair.float_tensor].shape) if pair.squeezed else codes[pair.tensor]


def _weights(step: Step) -> tuple[Array | None, int | None, Array | None]:
    """Weights, their bits and biases of an integer layer."""
    if not isinstance(step, Accumulating):
        return None, None, None
    weights = step.weights if isinstance(step, Weighted) else None
    return weights, weight_bits_of(step), step.requantization.parameters.get("bias")
