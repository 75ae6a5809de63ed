"""The rule for the factor with which a model turns its last codes into real values, and why it does not fit them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from npusim.comparison.findings.scene import Scene, Sign
from npusim.graph.traits import Trait, is_a
from npusim.program import HostOperation, Program, QuantizeStage
from npusim.program.lowering.floats import Role

if TYPE_CHECKING:
    from npusim.comparison.result import LayerComparison

__all__ = ["AGREEING", "output_scale", "scales_apart"]

AGREEING: Final = 0.05
"""Scales of the output that differ by no more than this share agree."""

COSTLY_DB: Final = 3.0
"""From this loss on the factor makes more of the output's error than everything else."""

SIGNAL_DB: Final = 6.0
"""Below this SQNR with the best factor the output is not a scaled copy of the float one; least squares shrinks the factor."""

LARGE_SHARE: Final = 0.5
"""A cause that makes this share of the factor's logarithm explains it."""

MOST_SHARE: Final = 0.8
"""From here on nothing else is worth looking for."""

SMALL_SHARE: Final = 0.2
"""From this share on a cause is named as one of several."""

SUDDEN: Final = 1.3
"""Scales that part by more than this from one layer to the next part there; training moves them little by little."""


def output_scale(scene: Scene) -> Iterator[Sign]:
    """The multiplication that gives a float output, where another factor would be much better on all samples."""
    layers = () if scene.comparison is None else scene.comparison.layers
    for layer in layers:
        written = _written(scene.program, layer)
        if written is None:
            continue
        lost = layer.metrics.fitted_sqnr_db - layer.metrics.sqnr_db
        ratio = layer.scales.fitted_difference + 1
        if not (lost >= COSTLY_DB and layer.metrics.fitted_sqnr_db >= SIGNAL_DB and ratio > 0):
            continue
        evidence: dict[str, Any] = {
            "written": written,
            "fitted": written * ratio,
            "ratio": ratio,
            "lost_db": lost,
            "sqnr_db": layer.metrics.sqnr_db,
            "fitted_sqnr_db": layer.metrics.fitted_sqnr_db,
            "recovered": layer.scales.input,
            "said": "",
        }
        if layer.scales.input is not None and abs(layer.scales.input - written) > AGREEING * abs(written):
            evidence["said"] = f" (the weights give these a scale of {layer.scales.input:.4g})"
        cause = _cause(scene, layer, written, ratio)
        if cause["cause"] == "average_gain":
            # the pool's own finding ranks by what it costs; this is what it looks like at the output
            yield Sign(layer.name, {**evidence, **cause}, "info")
        else:
            yield Sign(layer.name, {**evidence, **cause, "output_gain_db": lost})


def scales_apart(scene: Scene) -> Iterator[Sign]:
    """The same multiplication, where its factor is not the scale that the weights give its codes, whatever that costs."""
    stated = {sign.layer for sign in output_scale(scene)}
    for layer in () if scene.comparison is None else scene.comparison.layers:
        written = _written(scene.program, layer)
        recovered = None if written is None else layer.scales.input
        if written is None or recovered is None or layer.name in stated:
            continue
        difference = abs(recovered - written) / abs(written)
        if difference > AGREEING:
            times = recovered / written
            yield Sign(layer.name, {"written": written, "recovered": recovered, "difference": difference, "times": times})


def _written(program: Program, layer: LayerComparison) -> float | None:
    """The number by which a step multiplies codes to give an output in real values; None for all other steps."""
    if layer.kind != "HOST" or not is_a(layer.operator, Trait.PRODUCT, Trait.QUOTIENT):
        return None
    step = next(one for one in program.steps if one.name == layer.name)
    outputs = {program.resolve(name) for name in program.outputs}
    if not isinstance(step, HostOperation) or layer.tensor not in outputs or program.tensors[layer.tensor].is_integer:
        return None
    constants = [program.constants[name] for name in step.node.inputs if name in program.constants]
    read = program.inputs_of(step)
    if len(constants) != 1 or constants[0].size != 1 or len(read) != 1 or not program.tensors[read[0]].is_integer:
        return None
    number = float(constants[0].ravel()[0])
    return number if is_a(layer.operator, Trait.PRODUCT) else 1 / number


def _cause(scene: Scene, layer: LayerComparison, written: float, ratio: float) -> dict[str, Any]:
    """What explains a ratio: the gain of average pools, scales that part on the way, or neither."""
    pools = _pools_before(scene, layer)
    gain = math.prod(one.scales.gain for one in pools)
    recovered = written if layer.scales.input is None else layer.scales.input
    by_gain, by_scale = (-math.log(gain) / math.log(ratio), math.log(recovered / written) / math.log(ratio))
    names = " and ".join(f"'{one.name}'" for one in pools)
    found: dict[str, Any] = {"pool_gain": gain, "share_of_pools": by_gain, "share_of_scales": by_scale}
    instead = ""
    if by_gain >= LARGE_SHARE:
        most = "it" if by_gain >= MOST_SHARE else "most of it"
        text = f"; the finding average_gain explains {most}: the gain of {gain:.3g} of {names}"
        return {**found, "cause": "average_gain", "why": text, "instead": "; better take the pool's gain away"}
    if by_scale >= LARGE_SHARE:
        cause = "scales"
        text, instead, where = _parting(scene, layer, written / recovered)
        found |= where
    else:
        cause = "codes"
        part = "a part" if by_scale >= SMALL_SHARE else "none"
        size = "large" if ratio < 1 else "small"
        text = (
            f"; the scale that the weights give, {recovered:.4g}, explains {part} of it: the values themselves are too {size}"
        )
    if by_gain >= SMALL_SHARE:
        text += f"; the gain of {gain:.3g} of {names} (average_gain) is a part of it"
    return {**found, "cause": cause, "why": text, "instead": instead}


def _pools_before(scene: Scene, layer: LayerComparison) -> list[LayerComparison]:
    """The average pools with a gain on the way to a step, along the first operand of each."""
    found, names = [], list(layer.inputs[:1])
    while names:
        before = scene.compared(names.pop())
        if before is None:
            break
        if Role.AVERAGE in before.pair.roles and abs(before.scales.gain - 1) > 0.01:
            found.append(before)
        names = list(before.inputs[:1])
    return found


def _parting(scene: Scene, layer: LayerComparison, drift: float) -> tuple[str, str, dict[str, Any]]:
    """Where the scale of the codes and the one that biases and factor were made for part: why, what else to do, evidence.

    The biases of a layer show the input scale that the exporter had in mind. Where what they show and the scale of the codes
    part suddenly, the step that makes these codes is the place.
    """
    place, jump, seen = _sudden(scene, layer)
    if abs(math.log(seen)) < LARGE_SHARE * abs(math.log(drift)):
        text = f"; the weights and biases of all layers agree on {drift:.3g} times less, so this factor alone is off"
        if drift < 1:
            text = f"; the weights and biases of all layers agree on {1 / drift:.3g} times more, so this factor alone is off"
        return text, "", {"drift": drift}
    if place is None or max(jump, 1 / jump) < SUDDEN:
        text = f"; scales and factor part little by little, by {drift:.3g} in all: training moved the weights, not the factor"
        return text, "", {"drift": drift}
    evidence = {"drift": drift, "origin": place.name, "origin_ratio": jump}
    text = f"; one LSB of '{place.name}' counts as {jump:.3g} times its value in the biases behind it and in this factor"
    step = next((one for one in scene.program.steps if one.name == place.name), None)
    if isinstance(step, QuantizeStage) and place.pair.float_nodes:
        text += ": the batch norm that it takes in has other statistics than the float model's"
        instead = (
            "; better train until the statistics of the batch norm stand still, keep them fixed while calibrating, and compare "
            "with the float model that has them"
        )
        return text, instead, evidence
    return text, "; better export it with the float model's own weights and batch norms", evidence


def _sudden(scene: Scene, layer: LayerComparison) -> tuple[LayerComparison | None, float, float]:
    """The step whose codes part most from what the biases behind them were made for, by what factor, and all together."""
    chain: list[LayerComparison] = []
    before = scene.compared(layer.inputs[0]) if layer.inputs else None
    while before is not None:
        chain.append(before)
        before = scene.compared(before.inputs[0]) if before.inputs else None
    seen, place, largest = 1.0, None, 1.0
    source: LayerComparison | None = None
    for one in reversed(chain):
        shown = one.scales.bias_difference
        if source is not None and shown is not None and one.scales.agreed:
            jump = (1 + shown) / seen
            seen = 1 + shown
            if abs(math.log(jump)) > abs(math.log(largest)):
                place, largest = source, jump
        if source is None or one.weight_bits is not None or one.kind == "QUANTIZE":
            source = one
    return place, largest, seen
