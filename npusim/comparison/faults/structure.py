"""Offsets of input stages, missing activations, divisors of averages and clips that are not those of the float model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.alignment.weights import stage_parameters
from npusim.comparison.faults.suspicion import Suspicion, listed
from npusim.comparison.layer_result import LayerPair
from npusim.floats import FloatGraph
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, Clip, HostOperation, Program, QuantizeStage, Step

__all__ = ["find_structure_faults"]

OFFSET_LSB: Final = 8.0
"""Offsets of an input stage that differ by less may come from the statistics of a batch norm that training moved."""


def find_structure_faults(alignment: Alignment, quantized: Program, graph: FloatGraph) -> Iterator[Suspicion]:
    """Suspicions that need no weights.

    Parameters
    ----------
    alignment
        Of the two models.
    quantized
        The quantized program.
    graph
        The float model.
    """
    steps = {step.name: step for step in quantized.steps}
    usual = _usual_ends(quantized)
    for pair in alignment.pairs:
        step = steps[pair.step]
        if isinstance(step, QuantizeStage):
            yield from _offset(step, pair, quantized, graph)
        if isinstance(step, Accumulating):
            yield from _activation(step, pair, alignment, quantized, graph)
            yield from _narrow(step, usual)


def _offset(stage: QuantizeStage, pair: LayerPair, quantized: Program, graph: FloatGraph) -> Iterator[Suspicion]:
    if stage.nearest or quantized.format != "tinpu" or quantized.resolve(stage.input) not in quantized.inputs:
        return
    affine = graph.affine_of(pair.float_nodes)
    count = max(stage.multiplier.size, stage.offset.size) if affine is None else len(affine.gain)
    multiplier, offset = stage_parameters(stage, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.zeros(count) if affine is None else affine.offset / affine.gain
        distance = (offset - wanted) * multiplier
    known = np.isfinite(distance) & (np.abs(multiplier) > 1e-6)
    off = np.flatnonzero(known & (np.abs(distance) > OFFSET_LSB))
    if not off.size:
        return
    worst = int(off[np.abs(distance[off]).argmax()])
    whole = off.size == known.sum()
    evidence = {
        "offset": float(offset[worst]),
        "wanted": float(wanted[worst]),
        "distance": float(distance[worst]),
        "where": "" if whole else f" in {listed([int(one) for one in off])}",
        "channels": [int(one) for one in off],
    }
    yield Suspicion("input_offset", stage.name, () if whole else tuple(int(one) for one in off), evidence)


def _activation(
    layer: Accumulating, pair: LayerPair, alignment: Alignment, quantized: Program, graph: FloatGraph
) -> Iterator[Suspicion]:
    """A signed clip where the float model has a ReLU, and nothing that reads the codes takes its place."""
    bent = graph.saturated(pair.float_tensor)
    lower = layer.output_clip.lower
    if lower >= 0 or bent == pair.float_tensor or not graph.is_rectified(bent):
        return
    readers = [step for step in quantized.steps if layer.output in quantized.inputs_of(step)]
    if not readers and bent not in graph.view.graph.outputs:
        return
    if readers and all(_rectifies(step, quantized) for step in readers):
        return
    # an operation of the float model that reads the tensor in front of its ReLU wants the signed values
    if any(not graph.bends(step) for step in graph.readers(pair.float_tensor)):
        return
    yield Suspicion("activation_missing", layer.name, (), {"lower": lower, "upper": layer.output_clip.upper})


def _rectifies(step: Step, quantized: Program) -> bool:
    """Whether a step is an activation on the host."""
    limits = isinstance(step, HostOperation) and is_a(step.operator, Trait.LIMITS, Trait.ACTIVATION)
    return limits and quantized.tensors[step.tensors[-1]].lower >= 0


def _usual_ends(quantized: Program) -> Mapping[bool, int]:
    """The upper end that most unsigned and most signed codes of a program have."""
    found: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for layer in quantized.layers:
        if isinstance(layer, Accumulating):
            found[layer.output_clip.lower < 0][layer.output_clip.upper] += 1
    return {signed: max(counted, key=lambda end: (counted[end], end)) for signed, counted in found.items() if counted}


def _narrow(layer: Accumulating, usual: Mapping[bool, int]) -> Iterator[Suspicion]:
    """A clip to less than the codes that the model's other layers have, or to a range that is no width; if it cuts off."""
    clip = layer.output_clip
    # of signed codes that are a bit narrower than the widest the others may be the strange ones: -255..255 has 9 bits
    wanted = max(min(usual.get(clip.lower < 0, clip.upper), 127 if clip.lower < 0 else 255), clip.upper)
    if (clip.upper + 1) & clip.upper or clip.upper < wanted:
        wider = _wider(clip, wanted)
        evidence = {"lower": clip.lower, "upper": clip.upper, "wide_lower": wider.lower, "wide_upper": wider.upper}
        yield Suspicion("clip_narrowed", layer.name, (), evidence, needs_effect=True)


def _wider(clip: Clip, wanted: int) -> Clip:
    end = 1
    while end - 1 < max(wanted, clip.upper):
        end *= 2
    return Clip(-end if clip.lower < 0 else 0, end - 1)
