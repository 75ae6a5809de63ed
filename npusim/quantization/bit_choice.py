"""A width for the weights of each layer under limits: measured sensitivities, an exact choice, the result in integers.

What a layer loses at fewer bits is measured on the output, with all other layers at 8 bits: the walk is taken up in front of
the layer and goes on to the end, so that the layers behind make good what they can. Noise of different layers about adds, which
makes the choice a knapsack, solved exactly by :func:`scipy.optimize.milp`. Because it only about adds, several of the best
choices are made and measured in integers, the best of them are refined, and the best of these stays.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, count
from npusim.floats.forward import forward
from npusim.floats.network import WEIGHTED, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array
from npusim.program import Program
from npusim.quantization.calibration import calibration_samples, chosen_samples
from npusim.quantization.model import WEIGHT_BITS, Options, QuantizedModel
from npusim.quantization.post_training import prepare_network, quantize_network
from npusim.quantization.quantizer import Quantizer

__all__ = ["BitChoice", "BitLimits", "BitPoint", "Knapsack", "choose_bits"]

SENSITIVITY_SAMPLES: Final = 64
"""Calibration samples on which sensitivities are measured."""

CHOICES: Final = 6
"""So many of the best choices within the limits are made and measured."""

CANDIDATES: Final = 2
"""So many at each size, where the smallest one is looked for that keeps a least SQNR or accuracy."""

DOUBT: Final = 4.0
"""By so many dB a choice may be better than expected."""

REFINED: Final = 3
"""So many of the choices are refined."""

FRONT: Final = 24
"""Sizes between all layers at 2 bits and all at 8 for which the best choice is looked for."""

Bits = Mapping[str, int]
"""Widths by the names of layers."""

Cost = Callable[[Program], Mapping[str, int]]
"""Bytes of parameters of a program by the tensors that its steps give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitLimits:
    """What a choice of widths has to keep; None where nothing is asked.

    Attributes
    ----------
    max_bytes
        Of parameters: weights, biases, scales and shifts.
    min_sqnr
        Of the first output on the calibration samples, in dB.
    min_accuracy
        Share of the calibration samples, 0 to 1, whose class is the label; without labels, that of the float model.

    Raises
    ------
    UsageError
        If nothing is asked, or an accuracy is not between 0 and 1.
    """

    max_bytes: int | None = None
    min_sqnr: float | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.max_bytes is None and self.min_sqnr is None and self.min_accuracy is None:
            raise UsageError("bits are chosen under a limit: give a largest number of bytes, a least SQNR or a least accuracy")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise UsageError(f"the least accuracy is {self.min_accuracy:g}, wanted a share between 0 and 1")

    def kept_by(self, point: BitPoint) -> bool:
        """Whether a choice that was measured keeps all limits."""
        return (
            (self.max_bytes is None or point.bytes <= self.max_bytes)
            and (self.min_sqnr is None or point.sqnr >= self.min_sqnr)
            and (self.min_accuracy is None or (point.accuracy is not None and point.accuracy >= self.min_accuracy))
        )


@dataclass(frozen=True, slots=True)
class BitPoint:
    """A choice of widths that was made and measured in integers on the calibration samples.

    Attributes
    ----------
    layer_bits
        Width of the weights of each layer of the float network that has weights.
    bytes
        Of parameters.
    sqnr
        Of the first output, in dB.
    accuracy
        Share of samples with the right class; without labels, with the float model's. None where the output has no classes.
    predicted
        SQNR of all outputs together that the sensitivities led to expect, in dB; None where all layers have one width.
    refined
        Whether single weights were moved for the sake of the outputs.
    """

    layer_bits: Bits
    bytes: int
    sqnr: float
    accuracy: float | None
    predicted: float | None
    refined: bool


@dataclass(frozen=True, slots=True)
class BitChoice:
    """Chosen widths.

    Attributes
    ----------
    model
        The quantized model.
    point
        What was chosen.
    points
        All choices that were measured, by bytes.
    """

    model: QuantizedModel
    point: BitPoint
    points: tuple[BitPoint, ...]


@dataclass(frozen=True, slots=True)
class Knapsack:
    """Choose one width for each layer.

    Attributes
    ----------
    options
        Layer and width of each variable; those of a layer stand together.
    bytes, noise
        What each variable costs, int64 and float64.
    """

    options: tuple[tuple[str, int], ...]
    bytes: npt.NDArray[np.int64]
    noise: FloatArray

    def best(self, most: int, number: int = 1) -> Iterator[tuple[Bits, float]]:
        """The choices of least noise within so many bytes, the best first, with their noise; none where nothing fits.

        Of equal noise the smaller one comes first: 1e-4 of the whole noise stands against all bytes.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        layers = list(dict.fromkeys(name for name, _ in self.options))
        narrowed = {name for name, bits in self.options if bits == min(WEIGHT_BITS)}
        weighted = np.array([name in narrowed for name, _ in self.options])
        one_each = np.array([[name == layer for name, _ in self.options] for layer in layers], np.float64)
        price = self.noise / max(float(self.noise.max()), 1e-300) + 1e-4 * self.bytes / max(int(self.bytes.sum()), 1)
        rules = [LinearConstraint(one_each, 1, 1), LinearConstraint(self.bytes[np.newaxis].astype(np.float64), -np.inf, most)]
        for _ in range(number):
            found = milp(price, integrality=np.ones(price.size), bounds=Bounds(0, 1), constraints=rules)
            if found.x is None:
                return
            taken = found.x > 0.5
            yield (
                dict(option for option, chosen in zip(self.options, taken, strict=True) if chosen),
                float(self.noise[taken].sum()),
            )
            # the next one differs in a layer with weights at least
            told = taken & weighted
            rules.append(LinearConstraint(told[np.newaxis].astype(np.float64), -np.inf, int(told.sum()) - 1))


def choose_bits(
    network: FloatNetwork,
    calibration: Array | Mapping[str, Array],
    options: Options,
    limits: BitLimits,
    cost: Cost,
    *,
    labels: Array | None = None,
    front: bool = False,
    progress: Progress | None = None,
) -> BitChoice:
    """Choose the width of each layer's weights and quantize with it.

    With a largest number of bytes: what loses least within it. Else: the smallest that keeps the least SQNR or accuracy.

    Parameters
    ----------
    network, calibration
        As for :func:`~npusim.quantization.quantize_network`.
    options
        Choices of the user beside the widths of weights.
    limits
        What is to be kept.
    cost
        Bytes of a program's parameters.
    labels
        Classes of the calibration samples, [N].
    front
        Whether to measure the best choices for all sizes, whatever the limits.
    progress
        Called with the number of steps done and of all.

    Raises
    ------
    UsageError
        If scipy is missing, or no choice keeps the limits; the message says what the best one reaches.
    """
    if importlib.util.find_spec("scipy") is None:
        raise UsageError("widths are chosen with scipy, which is not installed: pip install '.[solver]'")
    search = _Search(network, calibration, options, limits, cost, labels, progress or _ignored)
    return search.run(front=front)


def _ignored(_done: int, _all: int) -> None:
    """Report nothing."""


@dataclass
class _Search:
    """Choices that were made, and what the next ones are looked for with."""

    network: FloatNetwork
    calibration: Array | Mapping[str, Array]
    options: Options
    limits: BitLimits
    cost: Cost
    labels: Array | None
    progress: Progress
    samples: dict[str, Array] = field(init=False)
    wanted: FloatArray = field(init=False)
    classes: Array | None = field(init=False)
    floor: float = 0.0
    rest: int = 0
    known: list[tuple[Bits, BitPoint, QuantizedModel]] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        self.samples = calibration_samples(self.network, self.calibration)
        name = self.network.outputs[0]
        self.wanted = forward(self.network, self.samples)[name]
        self.classes = None
        if self.wanted.ndim > 1 and self.wanted.shape[1] > 1:
            self.classes = self.wanted.argmax(axis=1)
        if self.labels is not None:
            self.classes = self._given_classes(self.labels)
        if self.limits.min_accuracy is not None and self.classes is None:
            raise UsageError("a least accuracy is for an output of classes, which this one is not; limit the SQNR instead")

    def _given_classes(self, labels: Array) -> Array:
        given = next(iter(self.calibration.values())) if isinstance(self.calibration, Mapping) else self.calibration
        if self.classes is None or labels.dtype.kind not in "iu" or labels.shape != (len(given), *self.classes.shape[1:]):
            told = f"{labels.dtype} {labels.shape}"
            raise UsageError(f"labels are {told}, wanted a class, a whole number, for each of the {len(given)} samples")
        return labels[chosen_samples(self.network, len(given))]

    def run(self, *, front: bool) -> BitChoice:
        uniform = {bits: self.make({}, bits, None) for bits in WEIGHT_BITS}
        knapsack = self._knapsack(uniform)
        smallest, largest = (uniform[bits][1].bytes for bits in (2, 8))
        sizes = np.linspace(smallest, largest, FRONT).astype(int).tolist()
        if self.limits.max_bytes is not None:
            self._try_all(knapsack, self.limits.max_bytes, CHOICES)
        elif not front:
            self._climb(knapsack, sizes)
        if front:
            for size in sizes:
                self._try_all(knapsack, size, 1)
        self._refine()
        return self._chosen()

    def _refine(self) -> None:
        """Refine the most promising of those that are small enough; without a size the smallest, and some below it."""
        limits = self.limits
        if limits.max_bytes is not None:
            fitting = [item for item in self.known if item[1].bytes <= limits.max_bytes]
            promising = sorted(fitting, key=lambda item: -item[1].sqnr)
        else:
            kept = min((item[1].bytes for item in self.known if limits.kept_by(item[1])), default=None)
            fitting = [item for item in self.known if kept is None or item[1].bytes <= kept]
            promising = sorted(fitting, key=lambda item: -item[1].bytes)
        for bits, point, _ in promising[:REFINED]:
            others = next(iter(point.layer_bits.values()), 8) if not bits else 8
            self.make(
                bits, others, None if point.predicted is None else 10 ** (-point.predicted / 10) - self.floor, refine=True
            )

    def _climb(self, knapsack: Knapsack, sizes: Sequence[int]) -> None:
        """From small to large until a choice keeps the limits; what is expected to miss them by far is not made."""
        least = -math.inf if self.limits.min_sqnr is None else self.limits.min_sqnr - DOUBT
        for size in sizes:
            for bits, noise in knapsack.best(size - self.rest, CANDIDATES):
                if _decibels(noise + self.floor) >= least and self.limits.kept_by(self.make(bits, 8, noise)[1]):
                    return

    def _try_all(self, knapsack: Knapsack, most: int, number: int) -> None:
        for bits, noise in knapsack.best(most - self.rest, number):
            self.make(bits, 8, noise)

    def _chosen(self) -> BitChoice:
        kept = [item for item in self.known if self.limits.kept_by(item[1])]
        if not kept:
            raise UsageError(self._refusal())
        if self.limits.max_bytes is not None:
            _, point, model = max(kept, key=lambda item: (item[1].sqnr, -item[1].bytes))
        else:
            _, point, model = min(kept, key=lambda item: (item[1].bytes, -item[1].sqnr))
        points = sorted((item[1] for item in self.known), key=lambda item: (item.bytes, item.sqnr))
        return BitChoice(model, point, tuple(points))

    def _refusal(self) -> str:
        limits = self.limits
        smallest = min(item[1].bytes for item in self.known)
        if limits.max_bytes is not None and smallest > limits.max_bytes:
            return f"the parameters take {count(smallest, 'byte')} at 2 bits everywhere, wanted at most {limits.max_bytes:,}"
        within = [item[1] for item in self.known if limits.max_bytes is None or item[1].bytes <= limits.max_bytes]
        size = "" if limits.max_bytes is None else f" within {count(limits.max_bytes, 'byte')}"
        best = max(within, key=lambda point: point.sqnr)
        reached, wanted = [f"{best.sqnr:.1f} dB"], [] if limits.min_sqnr is None else [f"{limits.min_sqnr:g} dB"]
        if limits.min_accuracy is not None:
            most = max(point.accuracy or 0.0 for point in within)
            reached.append(f"{most:.2%} of the classes")
            wanted.append(f"{limits.min_accuracy:.2%}")
        return (
            f"no choice of widths keeps the limits: the best one{size} reaches {' and '.join(reached)} on the calibration "
            f"samples, wanted {' and '.join(wanted)}; ask for less, or train with QATModule"
        )

    def make(
        self, bits: Bits, others: int, noise: float | None, *, refine: bool = False
    ) -> tuple[Bits, BitPoint, QuantizedModel]:
        """Quantize with these widths and measure; what was made already is not made again."""
        for item in self.known:
            if item[0] == bits and bits and not refine:
                return item
        options = replace(self.options, weight_bits=others, layer_bits=bits, refine=refine)
        model = quantize_network(self.network, self.calibration, options)
        self.done += 1
        self.progress(self.done, self.done + 1)
        (values, *_) = InferenceSession(model.content).run(None, self.samples)
        real = np.asarray(values, np.float64).reshape(self.wanted.shape) * model.output_scales[self.network.outputs[0]]
        noise_seen = float(np.square(self.wanted - real).sum())
        signal = max(float(np.square(self.wanted).sum()), 1e-300)
        point = BitPoint(
            model.layer_bits,
            sum(self.cost(model.program).values()),
            _decibels(noise_seen / signal),
            None if self.classes is None else float((real.argmax(axis=1) == self.classes).mean()),
            None if noise is None else _decibels(noise + self.floor),
            refine,
        )
        self.known.append((bits, point, model))
        return self.known[-1]

    def _knapsack(self, uniform: Mapping[int, tuple[Bits, BitPoint, QuantizedModel]]) -> Knapsack:
        """Bytes and noise of each layer at each width."""
        prepared, positive = prepare_network(self.network, self.samples)
        few = {name: values[_spread(len(values))] for name, values in self.samples.items()}
        walk = Quantizer(prepared, forward(prepared, few), replace(self.options, weight_bits=8), positive)
        costs = {bits: self.cost(item[2].program) for bits, item in uniform.items()}
        options: list[tuple[str, int]] = []
        sizes: list[int] = []
        noise: list[float] = []
        weighed = 0
        for index, layer in enumerate(prepared.layers):
            owner = _owner(walk, layer)
            if owner is not None:
                tensor = walk.tensor_name(layer.output)
                weighed += costs[8][tensor]
                for bits in WEIGHT_BITS if owner.kind in WEIGHTED else (8, 4):
                    options.append((owner.name, bits))
                    sizes.append(costs[bits][tensor])
                    noise.append(0.0 if bits == 8 else _noise_with(walk, prepared.layers[index:], owner.name, bits))
            walk.step(layer)
            self.progress(self.done + index, self.done + len(prepared.layers) + CHOICES)
        self.done += len(prepared.layers)
        self.floor = walk.noise()
        self.rest = sum(costs[8].values()) - weighed
        more = np.array([0.0 if bits == 8 else value - self.floor for (_, bits), value in zip(options, noise, strict=True)])
        return Knapsack(tuple(options), np.array(sizes, np.int64), np.maximum(more, 0.0))


def _decibels(noise: float) -> float:
    """Signal to noise of a noise that is given as a part of the signal."""
    return math.inf if noise == 0 else float(-10 * np.log10(noise))


def _noise_with(walk: Quantizer, layers: Sequence[FloatLayer], name: str, bits: int) -> float:
    """The noise of the outputs if one layer, the next or one that it rides on, has so many bits and all others 8."""
    other = walk.fork(replace(walk.options, layer_bits={name: bits}))
    for layer in layers:
        other.step(layer)
    return other.noise()


def _owner(walk: Quantizer, layer: FloatLayer) -> FloatLayer | None:
    """The layer that has the weights of a step, or whose multiplier has a width; None without."""
    if layer.kind is FloatKind.ADD:
        return walk.producers[layer.inputs[0]]
    if layer.kind is FloatKind.AVERAGE_POOL or (layer.kind in WEIGHTED and layer.output not in walk.riding):
        return layer
    return None


def _spread(samples: int) -> npt.NDArray[np.int64]:
    """Places of some samples, spread over all."""
    return np.linspace(0, samples - 1, min(samples, SENSITIVITY_SAMPLES)).astype(np.int64)
