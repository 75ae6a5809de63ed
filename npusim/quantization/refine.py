"""Moving single weights by one step so that the outputs of the whole network lose less, and not those of their layer.

The walk makes each layer's own output as good as it can. At its end the noise of the network's outputs is known on every
sample, and so is, by the chain rule, how much a step of any weight changes them, rounding and saturation taken for straight
lines. The steps that promise most are made, as many as really make the outputs better in integers: on the samples that the
derivatives are from, and on others that were left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.floats.columns import accumulate, from_matrix, row_blocks, sum_windows, to_matrix, window_elements
from npusim.floats.forward import forward_layer
from npusim.floats.network import WEIGHTED, FloatArray, FloatKind, FloatLayer
from npusim.program import Accumulating, Clip, ShiftFloor, Weighted
from npusim.quantization.model import signal_to_noise
from npusim.quantization.parameters import EXACT_FLOAT32, width_rules
from npusim.quantization.quantizer import Quantizer
from npusim.quantization.solve import requantize_codes
from npusim.quantization.weight_steps import largest_sum

__all__ = ["refine"]

PASSES: Final = 3
"""How often each layer is looked at."""

LARGEST: Final = 2**25
"""Most elements of a layer's table of derivatives; larger layers stay as they are."""

DIRECTIONS: Final = 16
"""Values of the outputs beyond so many are summed with random signs into so many."""

MOST_MOVES: Final = 0.2
"""Part of a layer's weights that is moved at most in a pass."""

LEAST_GAIN: Final = 1e-5
"""Part of the noise that a step must promise to take away."""


def refine(quantizer: Quantizer) -> int:
    """Move weights and biases of a network that has been walked over; gives how many steps were made.

    Networks with nodes that are computed in float stay as they are.
    """
    if any(layer.kind is FloatKind.HOST for layer in quantizer.network.layers):
        return 0
    made = _Refinement(quantizer).run()
    if made:
        quantizer.reports = [
            replace(report, sqnr=_sqnr(quantizer, layer))
            for report, layer in zip(quantizer.reports, _reported(quantizer), strict=True)
        ]
    return made


def _reported(quantizer: Quantizer) -> Iterator[FloatLayer]:
    return (layer for layer in quantizer.network.layers if layer.output not in quantizer.riding)


def _sqnr(quantizer: Quantizer, layer: FloatLayer) -> float:
    return signal_to_noise(quantizer.floats[layer.output], quantizer.codes[layer.output] * quantizer.scales[layer.output])


@dataclass
class _Refinement:
    """The integers of a network, and its codes on all samples.

    Attributes
    ----------
    quantizer
        A walk that has come to its end.
    places
        Where each layer with integers stands in the draft.
    weights
        Those of each layer, as a matrix.
    requantizations
        Those of each layer with weights and of each average.
    elements
        For each window, move or pool the input elements that it reads, counted from 1; 0 is the border.
    """

    quantizer: Quantizer
    places: dict[str, int] = field(default_factory=dict)
    weights: dict[str, FloatArray] = field(default_factory=dict)
    requantizations: dict[str, ShiftFloor] = field(default_factory=dict)
    saturations: dict[str, Clip] = field(default_factory=dict)
    elements: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        quantizer = self.quantizer
        held = {step.tensors[-1]: place for place, step in enumerate(quantizer.draft.steps)}
        for layer in quantizer.network.layers:
            if layer.output in quantizer.riding:
                continue
            place = held.get(quantizer.tensor_name(layer.output), -1)
            step = quantizer.draft.steps[place]
            owner = quantizer.producers[layer.inputs[0]] if layer.kind is FloatKind.ADD else layer
            if layer.kind is FloatKind.ADD:
                self.saturations[layer.name] = quantizer.clips[layer.output]
            if isinstance(step, Accumulating) and isinstance(step.requantization, ShiftFloor):
                self.places[owner.name], self.requantizations[owner.name] = place, step.requantization
            if isinstance(step, Weighted):
                self.weights[owner.name] = to_matrix(owner, step.weights.astype(np.float64))

    def run(self) -> int:
        """Look at each layer some times, the last first, until nothing moves."""
        network = self.quantizer.network
        weighted = [layer for layer in reversed(network.layers) if layer.kind in WEIGHTED]
        samples = len(self.quantizer.codes[weighted[0].inputs[0]]) if weighted else 0
        kept = np.arange(samples) % 4 != 3
        starts = {layer.output: self.quantizer.codes[layer.output] for layer in network.layers if layer.kind is FloatKind.INPUT}
        codes = self.forward(starts)
        total = 0
        for _ in range(PASSES):
            moved = 0
            for layer in weighted:
                moves = self._moves(layer, codes, kept)
                steps = len(moves)
                while steps:
                    before = self.weights[layer.name], self.requantizations[layer.name]
                    if self._move(layer, moves[:steps]):
                        tried = self.forward(starts)
                        if all(self._noise(tried, part) < self._noise(codes, part) for part in (kept, ~kept)):
                            codes, moved = tried, moved + steps
                            break
                    self.weights[layer.name], self.requantizations[layer.name] = before
                    steps //= 2
            total += moved
            if not moved:
                break
        if total:
            self._keep(weighted, codes)
        return total

    def forward(self, starts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The codes of every tensor, from those of the input stages."""
        codes = dict(starts)
        for layer in self.quantizer.network.layers:
            if layer.kind is FloatKind.INPUT:
                continue
            inputs = [codes[name] for name in layer.inputs]
            if layer.kind in WEIGHTED:
                sums = accumulate(layer, inputs[0], self.weights[layer.name])
                codes[layer.output] = requantize_codes(sums, self.requantizations[layer.name])
            elif layer.kind is FloatKind.AVERAGE_POOL:
                made = requantize_codes(sum_windows(inputs[0], layer.geometry), self.requantizations[layer.name])
                codes[layer.output] = made.reshape(len(made), *layer.output_shape[1:])
            elif layer.kind is FloatKind.ADD:
                clip = self.saturations[layer.name]
                codes[layer.output] = np.clip(inputs[0] + inputs[1], clip.lower, clip.upper)
            else:
                codes[layer.output] = forward_layer(layer, inputs, self.quantizer.network)
        return codes

    def _lost(self, codes: Mapping[str, FloatArray]) -> FloatArray:
        """What the outputs lose, as parts of their signal: [N, values]."""
        parts = []
        for name in self.quantizer.network.outputs:
            wanted = self.quantizer.floats[name]
            lost = (wanted - codes[name] * self.quantizer.scales[name]) / max(float(np.linalg.norm(wanted)), 1e-150)
            parts.append(lost.reshape(len(lost), -1))
        return np.concatenate(parts, axis=1)

    def _noise(self, codes: Mapping[str, FloatArray], part: npt.NDArray[np.bool_]) -> float:
        return float(np.square(self._lost(codes)[part]).sum())

    def _keep(self, weighted: list[FloatLayer], codes: dict[str, FloatArray]) -> None:
        """Enter what was found into the draft."""
        quantizer = self.quantizer
        for layer in weighted:
            place = self.places[layer.name]
            step = quantizer.draft.steps[place]
            if isinstance(step, Weighted):
                weights = from_matrix(layer, self.weights[layer.name]).astype(np.int64)
                made = replace(step, weights=weights, requantization=self.requantizations[layer.name])
                quantizer.draft.steps[place] = made
        known = {name: values for name, values in codes.items() if name in quantizer.codes}
        quantizer.codes.update(known)

    def _move(self, layer: FloatLayer, moves: list[tuple[int, int]]) -> bool:
        """Take steps: of weights, and behind these of biases; false where an integer would be too large."""
        weights, found = self.weights[layer.name], self.requantizations[layer.name]
        change = np.zeros(weights.size + found.bias.size)
        for place, sign in moves:
            change[place] += sign
        moved = weights + change[: weights.size].reshape(weights.shape)
        bias = found.bias + change[weights.size :].astype(np.int64)
        limit = width_rules(self.quantizer.options.bits_of(layer.name)).largest_bias
        bound = largest_sum(moved, bias.reshape(weights.shape[0], -1), self.quantizer.clips[layer.inputs[0]])
        if (np.abs(bias) > limit).any() or (bound.reshape(-1) * found.scale >= EXACT_FLOAT32).any():
            return False
        self.weights[layer.name], self.requantizations[layer.name] = moved, replace(found, bias=bias)
        return True

    def _moves(self, layer: FloatLayer, codes: Mapping[str, FloatArray], kept: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Weights (and behind these biases) and the direction of their step, in the order in which they promise most."""
        some = {name: values[kept] for name, values in codes.items()}
        lost, weights = self._lost(codes)[kept], self.weights[layer.name]
        directions = _directions(lost.shape[1])
        size = weights.size + weights.shape[0] * weights.shape[2]
        if len(directions) * len(lost) * size > LARGEST:
            return []
        table = np.concatenate([self._derivatives(layer, some, direction) for direction in directions])
        noise = (lost @ directions.T).T.reshape(-1)
        least = LEAST_GAIN * float(noise @ noise)
        cost, slope = np.square(table).sum(axis=0), table.T @ noise
        reach = np.full(size, math.inf)
        reach[: weights.size] = width_rules(self.quantizer.options.bits_of(layer.name)).largest_weight
        current = np.concatenate([weights.reshape(-1), np.zeros(size - weights.size)])
        moves: list[tuple[int, int]] = []
        while len(moves) < max(4, MOST_MOVES * weights.size):
            sign = np.sign(slope)
            gain = np.where(np.abs(current + sign) <= reach, 2 * np.abs(slope) - cost, 0.0)
            place = int(gain.argmax())
            if gain[place] <= least:
                break
            moves.append((place, int(sign[place])))
            current[place] += sign[place]
            noise = noise - sign[place] * table[:, place]
            slope = table.T @ noise
        return moves

    def _derivatives(self, layer: FloatLayer, codes: Mapping[str, FloatArray], direction: FloatArray) -> FloatArray:
        """Of a sum of the outputs by each weight and bias: [N, weights + biases]."""
        weights = self.weights[layer.name]
        slopes = self._backward(layer, codes, direction)
        count, groups = len(slopes), weights.shape[0]
        column = slopes.reshape(count, groups, weights.shape[2], -1).transpose(1, 0, 3, 2)
        found = np.empty((count, groups, weights.shape[1], weights.shape[2]))
        for part, rows in row_blocks(layer, codes[layer.inputs[0]]):
            spread = rows.reshape(groups, part.stop - part.start, -1, rows.shape[-1])
            found[part] = (np.swapaxes(spread, 2, 3) @ column[:, part]).transpose(1, 0, 2, 3)
        biases = column.sum(axis=2).transpose(1, 0, 2)
        return np.concatenate([found.reshape(count, -1), biases.reshape(count, -1)], axis=1)

    def _backward(self, until: FloatLayer, codes: Mapping[str, FloatArray], direction: FloatArray) -> FloatArray:
        """The derivative of a sum of the outputs by the accumulators of a layer, [N, out, *spatial]."""
        slopes: dict[str, FloatArray] = {}
        start = 0
        for name in self.quantizer.network.outputs:
            shape = codes[name].shape
            size = math.prod(shape[1:])
            part = direction[start : start + size].reshape(shape[1:]) * self.quantizer.scales[name]
            slopes[name] = np.broadcast_to(part / max(float(np.linalg.norm(self.quantizer.floats[name])), 1e-150), shape)
            start += size
        for layer in reversed(self.quantizer.network.layers):
            if layer.output not in slopes or layer.kind is FloatKind.INPUT:
                continue
            slope = slopes[layer.output]
            if layer.kind in WEIGHTED or layer.kind is FloatKind.AVERAGE_POOL:
                slope = self._behind(layer, codes, slope)
            if layer.name == until.name:
                return slope
            for name, share in zip(layer.inputs, self._shares(layer, codes, slope), strict=True):
                slopes[name] = slopes[name] + share if name in slopes else share
        return np.zeros((len(codes[until.output]), *until.output_shape[1:]))

    def _behind(self, layer: FloatLayer, codes: Mapping[str, FloatArray], slope: FloatArray) -> FloatArray:
        """From codes to accumulators: the multiplier, and nothing where codes are at an end."""
        found, made = self.requantizations[layer.name], codes[layer.output]
        column = np.ldexp(found.scale.astype(np.float64), -found.shift).reshape(-1, *(1,) * (made.ndim - 2))
        behind: FloatArray = slope * column * ((made > found.clip.lower) & (made < found.clip.upper))
        return behind

    def _shares(self, layer: FloatLayer, codes: Mapping[str, FloatArray], slope: FloatArray) -> list[FloatArray]:
        """The derivatives by a layer's inputs, from those by its output or its accumulators."""
        count = len(slope)
        match layer.kind:
            case FloatKind.ADD:
                clip, made = self.saturations[layer.name], codes[layer.output]
                inside = slope * ((made > clip.lower) & (made < clip.upper))
                return [inside, inside]
            case FloatKind.CONCAT:
                ends = np.cumsum([codes[name].shape[layer.axis] for name in layer.inputs])[:-1]
                return np.split(slope, ends.tolist(), axis=layer.axis)
            case FloatKind.LINEAR:
                return [slope @ self.weights[layer.name][0].T]
        read = self._read(layer)
        found = np.zeros((count, math.prod(layer.input_shape[1:]) + 1))
        if layer.kind is FloatKind.MOVE:
            found[:, read.reshape(-1)] = slope.reshape(count, -1)  # a move reads each element once at most
        elif layer.kind is FloatKind.MAX_POOL:
            border = np.full((count, 1), -np.inf)
            values = np.concatenate([border, codes[layer.inputs[0]].reshape(count, -1)], axis=1)[:, read]
            largest = np.take_along_axis(read[np.newaxis], values.argmax(axis=-1)[..., np.newaxis], axis=-1)
            np.add.at(found, (np.arange(count)[:, np.newaxis], largest.reshape(count, -1)), slope.reshape(count, -1))
        else:
            matrix = self.weights.get(layer.name, np.ones((read.shape[0], read.shape[2], 1)))
            column = slope.reshape(count, matrix.shape[0], matrix.shape[2], -1).transpose(1, 0, 3, 2)
            for group, places in enumerate(read):
                shares = column[group] @ matrix[group].T
                for tap in range(places.shape[1]):
                    # an element is read by one window at most through the same tap, but for the border
                    found[:, places[:, tap]] += shares[:, :, tap]
        return [found[:, 1:].reshape(count, *layer.input_shape[1:])]

    def _read(self, layer: FloatLayer) -> npt.NDArray[np.int64]:
        """The input elements that a layer reads: [group, windows, taps]; of a move one for each element of the output."""
        if layer.name not in self.elements:
            shape = (1, *layer.input_shape[1:])
            numbers = np.arange(1, math.prod(shape) + 1, dtype=np.float64).reshape(shape)
            if layer.kind is FloatKind.MOVE:
                read = forward_layer(layer, [numbers], self.quantizer.network)
            elif layer.kind in WEIGHTED:
                read = next(rows for _, rows in row_blocks(layer, numbers))
            else:
                read = window_elements(numbers, layer.geometry)
            self.elements[layer.name] = read.astype(np.int64)
        return self.elements[layer.name]


def _directions(values: int) -> FloatArray:
    """Rows by which the values of the outputs are summed: each alone, or of many values random signs that keep the norm."""
    if values <= DIRECTIONS:
        return np.eye(values, dtype=np.float64)
    signs = np.random.default_rng(0).integers(0, 2, (DIRECTIONS, values)) * 2.0 - 1.0
    return np.asarray(signs / math.sqrt(DIRECTIONS), np.float64)
