"""The scales of a model that everything supports best, and what contradicts them or the float model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from npusim.comparison.alignment.channel_scales import middle_scale
from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.alignment.scales import recover_scales
from npusim.comparison.faults.breaks import Break, find_breaks
from npusim.comparison.faults.numbers import LayerNumbers, layer_numbers
from npusim.comparison.faults.structure import find_structure_faults
from npusim.comparison.faults.suspicion import Suspicion
from npusim.comparison.faults.weighted import find_weighted_faults
from npusim.comparison.layer_result import LayerScales
from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph
from npusim.program import Program, QuantizeStage

__all__ = ["Diagnosis", "diagnose"]

CONTRADICTION: Final = 0.35
"""Logarithm of a ratio of scales that rounding and training do not make."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Scales by step, and suspicions in execution order of their steps."""

    scales: Mapping[str, LayerScales]
    suspicions: tuple[Suspicion, ...]


def diagnose(
    alignment: Alignment,
    quantized: Program,
    reference: Program,
    largest: Callable[[str], float],
    declared: Mapping[str, FloatArray],
) -> Diagnosis:
    """Recover scales, and hold every number of the quantized model against the float model.

    Parameters
    ----------
    alignment
        Of the two models.
    quantized, reference
        Their programs.
    largest
        The largest magnitude of the float tensor that a step stands for, on data; asked only where scales contradict.
    declared
        By tensor the scales that the file of the quantized model gives.
    """
    scales = recover_scales(alignment, quantized, reference, declared=declared)
    found = find_breaks(quantized, layer_numbers(alignment, scales, quantized), scales, largest)
    wrong = _wrongly_declared(layer_numbers(alignment, scales, quantized))
    if wrong:
        said = scales
        tensors = {pair.tensor for pair in alignment.pairs if pair.step in wrong}
        declared = {name: values for name, values in declared.items() if name not in tensors}
        scales = recover_scales(alignment, quantized, reference, declared=declared)
        found = find_breaks(quantized, layer_numbers(alignment, scales, quantized), scales, largest)
        wrong = {name: said[name].output / scales[name].output for name in wrong}
    if found.breaks or found.taken or found.silent:
        corrections = {**found.silent, **{one.step: one.factor for one in found.breaks}}
        scales = recover_scales(alignment, quantized, reference, corrections=corrections, taken=found.taken, declared=declared)
    numbers = layer_numbers(alignment, scales, quantized)
    suspicions = [
        *_broken(found.breaks, quantized),
        *(Suspicion("declared_scale", name, (), {"factor": factor}) for name, factor in wrong.items()),
        *find_weighted_faults(numbers, found.witnesses, found.alone),
        *find_structure_faults(alignment, quantized, FloatGraph(reference)),
    ]
    order = {step.name: place for place, step in enumerate(quantized.steps)}
    return Diagnosis(scales, tuple(sorted(suspicions, key=lambda one: order[one.step])))


def _wrongly_declared(numbers: Mapping[str, LayerNumbers]) -> dict[str, float]:
    """Layers whose output's scale in the file contradicts their own numbers and, the other way round, those of a reader."""
    makers = {one.step.output: (name, one) for name, one in numbers.items() if one.declared}
    found: dict[str, float] = {}
    for one in numbers.values():
        name, maker = makers.get(one.step.inputs[0], ("", one))
        made, read = (math.log(middle_scale(part.ratio)) for part in (maker, one))
        if name and abs(made) > CONTRADICTION and abs(made + read) < abs(made) / 2:
            found[name] = math.exp(-made)
    return found


def _broken(breaks: tuple[Break, ...], quantized: Program) -> Iterator[Suspicion]:
    steps = {step.name: step for step in quantized.steps}
    for one in breaks:
        octaves = one.octaves
        is_shift = octaves != 0 and not isinstance(steps[one.step], QuantizeStage)
        evidence = {
            "where": "in all channels",
            "channels": [],
            # codes are that much larger than what was meant
            "factor": one.factor,
            "octaves": octaves,
            "witnesses": list(one.witnesses),
        }
        yield Suspicion("shift_off" if is_shift else "scale_off", one.step, (), evidence)
