"""Rules for findings that need the float model: what bits cost at the output, scales and biases that do not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npusim.comparison.findings.fault_rules import suspected
from npusim.comparison.findings.scene import Scene, Sign
from npusim.graph.traits import Trait, is_a
from npusim.program.lowering.floats import Role

if TYPE_CHECKING:
    from npusim.comparison.result import FloatComparison, LayerComparison

__all__ = ["bias_off", "dead_channels", "mixed_scales", "too_few_bits", "zero_point"]

COSTLY_DB: Final = 3.0
"""From this gain at the output on a layer matters: half of the error's energy comes from it."""

NOTICEABLE_DB: Final = 1.0
"""From this gain at the output on dead channels are a warning."""

LOST_DB: Final = 10.0
"""Below this SQNR of the output the task is lost; what single layers win is then masked by the others."""

LOST_SHARE: Final = 0.1
"""The same where classes are known: accuracy lost, or samples that change their class."""

ROUNDED_COSINE: Final = {4: 0.985, 2: 0.6}
"""Cosine that integer and float weights have at least where only rounding parts them, by bits."""

POOR_DB: Final = 15.0
"""A layer that is worse than this alone is a cause of that."""

LARGE_SHARE: Final = 0.5
"""A part that makes this share of the energy of the error that a layer introduces is its cause."""

SMALL_SHARE: Final = 0.1
"""A part below this share is not a cause; training moves weights and biases together, a wrong bias comes alone."""

ZERO_POINT: Final = 64.0
"""In LSB: an offset from here on is a zero point in the wrong place, not rounding."""

HEAVY_RATIO: Final = 1.5
"""Scales that are this far apart are an error, whatever it costs on these data."""

VISIBLE_RANGE: Final = 2.0
"""In LSB: a channel whose real values move less may well have one code."""


def too_few_bits(scene: Scene) -> Iterator[Sign]:
    """Layers that would improve the output a lot in float, because of the bits of their weights or of their codes."""
    lost = scene.comparison is not None and _is_lost(scene.comparison)
    for layer in _layers(scene):
        gain = _gain(layer)
        if lost and layer.effect is not None and gain < COSTLY_DB:
            yield from _masked(scene, layer)
        if layer.effect is None or gain < COSTLY_DB:
            continue
        shares = _shares(layer)
        bits = (layer.codes.upper - layer.codes.lower).bit_length()
        told = (
            f"cost {gain:.1f} dB at the output: with this layer in float the model would have {layer.effect.if_float_db:.1f} dB"
        )
        evidence: dict[str, Any] = {"output_gain_db": gain, "if_float_db": layer.effect.if_float_db, "told": told}
        if shares["weights"] >= LARGE_SHARE and layer.weight_bits is not None and layer.weight_bits < 8:
            share = shares["weights"]
            yield Sign(layer.name, {**evidence, "what": "weights", "bits": layer.weight_bits, "share_of_introduced": share})
        elif shares["rounding"] >= LARGE_SHARE and bits < 8:
            yield Sign(layer.name, {**evidence, "what": "codes", "bits": bits, "share_of_introduced": shares["rounding"]})


def _is_lost(comparison: FloatComparison) -> bool:
    """Whether the outputs are of no more use: by the accuracy where it is known, by the classes, else by the SQNR."""
    classes = comparison.outputs[0].classification if comparison.outputs else None
    if classes is None:
        return comparison.experiment_sqnr_db < LOST_DB
    if classes.float_accuracy is not None and classes.quantized_accuracy is not None:
        return classes.float_accuracy - classes.quantized_accuracy > LOST_SHARE
    return comparison.experiment_sqnr_db < LOST_DB and 1 - classes.agreement > LOST_SHARE


def _masked(scene: Scene, layer: LayerComparison) -> Iterator[Sign]:
    """A layer whose bits cost much by themselves, though the output wins nothing as long as others are as bad."""
    alone = None if layer.attribution is None else layer.attribution.alone
    if alone is None or layer.effect is None or layer.weight_bits is None or layer.pair.weight_correlation is None:
        return
    # weights that training has moved are not what bits have made of them
    if float(np.median(layer.pair.weight_correlation)) < ROUNDED_COSINE.get(layer.weight_bits, 2.0):
        return
    whole = alone.total.root_mean_square_error**2
    share = alone.weights.root_mean_square_error**2 / whole if whole else 0.0
    if alone.sqnr_db < POOR_DB and share >= LARGE_SHARE:
        told = (
            f"leave {alone.sqnr_db:.1f} dB of this layer alone; other layers are as bad, so that the output wins little "
            f"with this one in float: they count together{_together(scene)}"
        )
        evidence = {"output_gain_db": _gain(layer), "if_float_db": layer.effect.if_float_db, "alone_sqnr_db": alone.sqnr_db}
        found = {**evidence, "what": "weights", "bits": layer.weight_bits, "share_of_introduced": share, "told": told}
        yield Sign(layer.name, found, "error")


def _together(scene: Scene) -> str:
    """What the output has with all layers with weights in float, where that is more."""
    found = scene.comparison
    if found is None or not found.weights_float_sqnr_db > found.experiment_sqnr_db:
        return ""
    return f", and with all layers with weights in float it has {found.weights_float_sqnr_db:.1f} dB"


def zero_point(scene: Scene) -> Iterator[Sign]:
    """Residuals that add or take away a zero point that their operands do not have."""
    for layer in _layers(scene):
        if layer.attribution is None or not (
            Role.ADDITION in layer.pair.roles or is_a(layer.operator, Trait.SUM, Trait.DIFFERENCE)
        ):
            continue
        offset = layer.attribution.introduced.mean_error / layer.scales.output
        if abs(offset) >= ZERO_POINT:
            yield Sign(layer.name, {"offset": offset, "scale": layer.scales.output})


def mixed_scales(scene: Scene) -> Iterator[Sign]:
    """Residuals and concatenations whose operands have different scales and are put together as they are."""
    scales = {layer.name: layer.scales.output for layer in _layers(scene)}
    for layer in _layers(scene):
        found = [scales[name] for name in layer.inputs if name in scales]
        if layer.scales.agreed or len(found) < 2:
            continue
        ratio = max(found) / min(found)
        evidence = {"ratio": ratio, "scales": found, "inputs": list(layer.inputs)}
        yield Sign(layer.name, evidence, "error" if ratio >= HEAVY_RATIO else "warning")


def bias_off(scene: Scene) -> Iterator[Sign]:
    """Layers whose biases are not the float model's; or whose introduced error is one of bias and scale, and costly."""
    yield from suspected("bias_off")(scene)
    stated = {one.step for one in (() if scene.comparison is None else scene.comparison.suspicions)}
    for layer in _layers(scene):
        if (
            layer.name in stated
            or not layer.scales.agreed
            or layer.weight_bits is None
            or layer.attribution is None
            or _gain(layer) < COSTLY_DB
        ):
            continue
        shares = _shares(layer)
        if shares["bias_and_scale"] >= LARGE_SHARE and shares["weights"] < SMALL_SHARE:
            offset = layer.attribution.introduced.mean_error / layer.scales.output
            difference = layer.scales.bias_difference
            fits = "" if difference is None else f"; its biases fit an input scale {difference + 1:.3g} times that of its codes"
            evidence: dict[str, Any] = {
                "offset": offset,
                "output_gain_db": _gain(layer),
                "share_of_introduced": shares["bias_and_scale"],
            }
            evidence |= {"where": "its bias or scale is", "looks": ""}
            yield Sign(layer.name, {**evidence, "bias_difference": difference, "fits": fits})


def dead_channels(scene: Scene) -> Iterator[Sign]:
    """Channels that give one code for every sample, though the float model's move by an LSB or two; where they first do."""
    dead = {layer.name: set(layer.codes.dead_channels) for layer in _layers(scene)}
    for layer in _layers(scene):
        if layer.kind == "HOST":
            continue
        pools = layer.weight_bits is None
        before = set().union(*(dead.get(name, set()) for name in layer.inputs)) if pools else set()
        moved = (layer.channels.float_largest - layer.channels.float_smallest) / layer.scales.output
        visible = set(np.flatnonzero(np.abs(moved) >= VISIBLE_RANGE).tolist())
        died = [channel for channel in layer.codes.dead_channels if channel in visible - before]
        if died:
            listed = ", ".join(str(channel) for channel in died[:8]) + (" ..." if len(died) > 8 else "")
            # channels that nothing hangs on are no cause
            severity = None if _gain(layer) >= NOTICEABLE_DB else "info"
            yield Sign(layer.name, {"count": len(died), "channels": died, "listed": listed}, severity)


def _layers(scene: Scene) -> tuple[LayerComparison, ...]:
    return () if scene.comparison is None else scene.comparison.layers


def _gain(layer: LayerComparison) -> float:
    """What the output would win with the layer in float, in dB; minus infinity where it was not measured."""
    gain = math.nan if layer.effect is None else layer.effect.if_float_gain_db
    return -math.inf if math.isnan(gain) else gain


def _shares(layer: LayerComparison) -> dict[str, float]:
    """The energy of each part of what the layer introduces, over the energy of all of it."""
    parts: Any = layer.attribution
    whole = 0.0 if parts is None else parts.introduced.root_mean_square_error**2
    names = ("weights", "bias_and_scale", "rounding", "clipping")
    return {name: getattr(parts, name).root_mean_square_error ** 2 / whole if whole else 0.0 for name in names}
