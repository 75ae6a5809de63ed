"""Whether two arithmetics give the same codes: layer by layer, for all codes that a layer's inputs can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

import numpy as np

from npusim.bounds.verdicts import Property
from npusim.bounds.witness.layer_solution import LayerSolver
from npusim.bounds.witness.observation import observation
from npusim.program import Accumulating, IntegerArray, IntegerLayer, Program
from npusim.program.accumulation import accumulate
from npusim.program.direct import direct_codes
from npusim.program.forms import Maps, StepOutline, numbers_of, outline_step
from npusim.program.intervals import Interval, LayerBounds, analyse
from npusim.verification.equality import unlike_sums

__all__ = ["Agreement", "LayerAgreement", "compare_layers"]

SOLVED_RUNS: Final = 64
"""Runs of sums with other codes that are solved for."""

RANDOM_INPUTS: Final = 256


class Agreement(StrEnum):
    """What is known of a layer in two arithmetics.

    EQUAL: the same codes for all codes of its inputs. DIFFERENT: codes of its inputs were found, and run, that give others.
    UNKNOWN: neither.
    """

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LayerAgreement:
    """A layer in two arithmetics.

    Attributes
    ----------
    layer, tensor
        Its name, and the tensor that it gives.
    agreement
        What is known.
    reason
        Why, a clause.
    position
        The element at which codes were seen to differ, without the axis of samples; null where none is known.
    codes
        What the two arithmetics give there, as the file has codes, zero points included.
    inputs
        Codes of the layer's inputs that show it, less zero points; None where none are known.
    """

    layer: str
    tensor: str
    agreement: Agreement
    reason: str
    position: tuple[int, ...] | None = None
    codes: tuple[int, int] | None = None
    inputs: Mapping[str, IntegerArray] | None = None


def compare_layers(one: Program, other: Program, *, seed: int = 0) -> tuple[LayerAgreement, ...]:
    """Hold the integer layers of two programs against each other, each for all codes that its inputs can hold.

    Parameters
    ----------
    one, other
        The same model in two arithmetics: layers go together by the tensor that they give.
    seed
        Of pseudo-random codes.

    Returns
    -------
    tuple
        An entry for each integer layer of either program, in the order of the first.
    """
    generator = np.random.default_rng(seed)
    ranges = analyse(one), analyse(other)
    twins = {layer.output: layer for layer in other.layers}
    names = [layer.output for layer in one.layers]
    found = []
    for layer in one.layers:
        twin = twins.get(layer.output)
        if twin is None or twin.inputs != layer.inputs or twin.input_shape != layer.input_shape:
            found.append(_unpaired(layer, "the other arithmetic has no layer that gives this tensor from the same ones"))
            continue
        boxes = {
            name: Interval(
                np.minimum(*(part.tensors[name].lower.astype(np.int64) for part in ranges)),
                np.maximum(*(part.tensors[name].upper.astype(np.int64) for part in ranges)),
            )
            for name in layer.inputs
        }
        maps = Maps()
        ends = {name: (int(box.lower.min()), int(box.upper.max())) for name, box in boxes.items()}
        mine, theirs = outline_step(one, layer, maps, ends), outline_step(other, twin, maps, ends)
        if (mine.elements == theirs.elements).all():
            reason = "the same function of its inputs, for all codes that they can hold"
            found.append(LayerAgreement(layer.name, layer.output, Agreement.EQUAL, reason))
            continue
        bounds = ranges[0].layers.get(layer.name)
        zero = one.tensors[layer.output].zero_point
        shown = None if bounds is None else _solved(layer, twin, bounds, maps, mine, theirs, zero)
        found.append(shown or _tried(layer, twin, boxes, generator, zero))
    rest = [layer for layer in other.layers if layer.output not in names]
    return (*found, *(_unpaired(layer, "the first arithmetic has no layer that gives this tensor") for layer in rest))


def _unpaired(layer: IntegerLayer, reason: str) -> LayerAgreement:
    return LayerAgreement(layer.name, layer.output, Agreement.UNKNOWN, reason)


def _codes(layer: IntegerLayer, inputs: list[IntegerArray]) -> IntegerArray:
    if not isinstance(layer, Accumulating):
        return direct_codes(layer, inputs)
    unclipped = layer.requantization.unclipped(accumulate(layer, inputs), axis=layer.channel_axis)
    return layer.finish(unclipped, layer.residual_of(inputs)).reshape(-1, *layer.output_shape[1:])


def _shown(layer: IntegerLayer, twin: IntegerLayer, inputs: Mapping[str, IntegerArray], zero: int) -> LayerAgreement | None:
    """The difference at the first of some inputs that has one; None where none has."""
    given = [inputs[name] for name in layer.inputs]
    mine, theirs = _codes(layer, given), _codes(twin, given)
    unlike = np.argwhere(mine != theirs)
    if not len(unlike):
        return None
    sample, *position = (int(item) for item in unlike[0])
    place = (sample, *position)
    codes = int(mine[place]) + zero, int(theirs[place]) + zero
    one = {name: array[sample : sample + 1] for name, array in inputs.items()}
    reason = f"at codes of its inputs that were found, they give {codes[0]} and {codes[1]}"
    return LayerAgreement(layer.name, layer.output, Agreement.DIFFERENT, reason, tuple(position), codes, one)


def _solved(
    layer: IntegerLayer,
    twin: IntegerLayer,
    bounds: LayerBounds,
    maps: Maps,
    mine: StepOutline,
    theirs: StepOutline,
    zero: int,
) -> LayerAgreement | None:
    """Codes of the inputs whose sum is one at which both make other codes of it, solved for exactly."""
    if mine.orientation is None or not isinstance(layer, Accumulating):
        return None
    wanted = unlike_sums(mine.orientation, maps, (int(number) for number in np.unique(numbers_of(theirs.elements))))
    if wanted is None:
        return None
    solver = LayerSolver(bounds, observation(layer, Property.ACCUMULATOR_INT32), wanted)
    for run in np.unique(np.linspace(0, len(wanted) - 1, min(len(wanted), SOLVED_RUNS)).astype(np.int64)):
        for solution in islice(solver.solutions(int(run)), 1):
            found = _shown(layer, twin, solution.inputs, zero)
            if found is not None:
                return found
    return None


def _tried(
    layer: IntegerLayer, twin: IntegerLayer, boxes: Mapping[str, Interval], generator: np.random.Generator, zero: int
) -> LayerAgreement:
    """Random codes of the inputs: one value everywhere, and all different."""
    inputs = {}
    for name, box in boxes.items():
        shape = (RANDOM_INPUTS, *box.lower.shape[1:])
        flat = generator.integers(box.lower.min(), box.upper.max() + 1, (RANDOM_INPUTS, *(1,) * (len(shape) - 1)))
        mixed = generator.integers(box.lower, box.upper + 1, shape)
        alike = generator.random((RANDOM_INPUTS, *(1,) * (len(shape) - 1))) < 0.5
        inputs[name] = np.where(alike, np.clip(np.broadcast_to(flat, shape), box.lower, box.upper), mixed).astype(np.int64)
    found = _shown(layer, twin, inputs, zero)
    reason = f"their forms differ, and {RANDOM_INPUTS} inputs of the layer give the same codes"
    return found or LayerAgreement(layer.name, layer.output, Agreement.UNKNOWN, reason)
