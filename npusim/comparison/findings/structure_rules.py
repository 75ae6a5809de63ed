"""Rules for findings that the program alone decides: how pools divide, what clips cut off, widths, what reads which codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from npusim.bounds.widths import widths_of
from npusim.comparison.findings.scene import Scene, Sign, moves_codes
from npusim.graph.traits import Trait, is_a, operators_with
from npusim.program import Accumulating, Clip, HostOperation, Step, Weighted
from npusim.program.inspection import Codes

__all__ = [
    "average_gain",
    "bias_width",
    "clip_in_real_units",
    "float_layer_on_codes",
    "fractional_codes",
    "function_on_codes",
    "lost_bit",
    "pool_offset",
    "rounding_twice",
    "signed_to_unsigned",
    "weight_width",
    "wide_codes",
]

GAIN_TOLERANCE: Final = 0.01
"""A multiplier of 8 bits is off by at most 1/256."""

OFFSET_TOLERANCE: Final = 0.25
"""In LSB: a bias in whole accumulator units is off by less for areas from 2 on."""

RELU6: Final = 6

FUNCTIONS: Final = operators_with(Trait.FUNCTION) - operators_with(Trait.REDUCES) - operators_with(Trait.NORMALIZES)
"""Functions of real values, which mean nothing on codes."""


def average_gain(scene: Scene) -> Iterator[Sign]:
    """Average pools that divide by a power of two instead of their area."""
    for layer in scene.pools:
        area, gain = _area(layer), _gain(layer)
        worst = float(gain[np.abs(gain - 1).argmax()])
        if abs(worst - 1) <= GAIN_TOLERANCE or _gain_is_taken_in(scene, layer):
            continue
        upper = layer.output_clip.upper
        evidence: dict[str, Any] = {
            "area": area,
            "divisor": area / worst,
            "gain": worst,
            "upper": upper,
            "limit": upper / worst,
            "input_upper": int(scene.program.tensors[layer.inputs[0]].upper),
            "readers": [step.name for step in _readers(scene, layer)],
        }
        seen = scene.observations.get(layer.name)
        if seen is not None and seen.values:
            evidence["saturated_share"] = seen.above / seen.values
        usual = area / 2 ** (area.bit_length() - 1)
        unusual = abs(worst / usual - 1) > GAIN_TOLERANCE
        yield Sign(layer.name, {**evidence, **({"fault": True} if unusual else {})})


def rounding_twice(scene: Scene) -> Iterator[Sign]:
    """Average pools whose bias holds half an output LSB twice: once of the average, once of the requantization."""
    for layer, offset, bias in _pool_offsets(scene):
        if _is_second_rounding(layer, offset) and _is_seen(scene, layer, offset):
            yield Sign(layer.name, {"offset": offset, "bias": bias})


def pool_offset(scene: Scene) -> Iterator[Sign]:
    """Average pools whose bias holds something else than rounding."""
    for layer, offset, bias in _pool_offsets(scene):
        if not _is_second_rounding(layer, offset) and _is_seen(scene, layer, offset):
            yield Sign(layer.name, {"offset": offset, "bias": bias})


def signed_to_unsigned(scene: Scene) -> Iterator[Sign]:
    """Average pools that read negative codes and can give none."""
    for layer in scene.pools:
        tensor, clip = scene.program.tensors[layer.inputs[0]], layer.output_clip
        compared, seen = scene.compared(layer.name), scene.observations.get(layer.name)
        meant = compared is not None and compared.codes.lower_is_relu
        if tensor.lower >= 0 or clip.lower < 0 or meant:
            continue
        evidence: dict[str, Any] = {
            "input_lower": int(tensor.lower),
            "input_upper": int(tensor.upper),
            "lower": clip.lower,
            "upper": clip.upper,
        }
        if seen is not None and seen.values:
            evidence["clipped_share"] = seen.below / seen.values
        yield Sign(layer.name, evidence)


def clip_in_real_units(scene: Scene) -> Iterator[Sign]:
    """Layers whose codes are clipped to 0..6."""
    for layer in scene.program.layers:
        if isinstance(layer, Accumulating) and layer.output_clip == Clip(0, RELU6):
            yield Sign(layer.name, {"lower": 0, "upper": RELU6, "levels": RELU6 + 1})


def lost_bit(scene: Scene) -> Iterator[Sign]:
    """Layers with a ReLU behind a clip to a signed range of 8 bits."""
    for layer in scene.program.layers:
        if isinstance(layer, Accumulating) and layer.output_clip == Clip(0, 127):
            yield Sign(layer.name, {"lower": 0, "upper": 127, "levels": 128})


def wide_codes(scene: Scene) -> Iterator[Sign]:
    """Steps whose codes do not fit 8 bits, signed or unsigned, and are read by a layer of the NPU."""
    found: dict[str, Sign] = {}
    for layer in scene.program.layers:
        if moves_codes(layer):
            continue
        for name in layer.inputs:
            tensor, source = scene.program.tensors[name], scene.source_of(name)
            if source is None or source.name in found or not np.isfinite([tensor.lower, tensor.upper]).all():
                continue
            codes = Codes(int(tensor.lower), int(tensor.upper))
            if codes.bits > 8:
                evidence: dict[str, Any] = {
                    "lower": codes.lower,
                    "upper": codes.upper,
                    "bits": codes.bits,
                    "reader": layer.name,
                }
                found[source.name] = Sign(source.name, evidence | _seen(scene, source))
    yield from found.values()


def float_layer_on_codes(scene: Scene) -> Iterator[Sign]:
    """Convolutions and products left in float whose input holds codes."""
    yield from _host_on_codes(scene, operators_with(Trait.WEIGHTED))


def function_on_codes(scene: Scene) -> Iterator[Sign]:
    """Functions of real values whose input holds codes."""
    yield from _host_on_codes(scene, FUNCTIONS)


def fractional_codes(scene: Scene) -> Iterator[Sign]:
    """Averages of codes on the host that are not rounded to codes again."""
    for step in scene.program.steps:
        if not isinstance(step, HostOperation) or not is_a(step.operator, Trait.AVERAGES):
            continue
        (name, *_) = scene.program.inputs_of(step)
        if scene.program.tensors[name].is_integer and not scene.program.tensors[step.tensors[0]].is_integer:
            readers = [one.name for one in _readers(scene, step)]
            reader = f"'{readers[0]}'" if readers else "the output"
            yield Sign(step.name, {"operator": step.operator, "readers": readers, "reader": reader})


def bias_width(scene: Scene) -> Iterator[Sign]:
    """Layers whose bias does not fit the bits in which the NPU keeps it."""
    for layer in scene.program.layers:
        widths = widths_of(layer)
        if widths is None or not isinstance(layer, Accumulating):
            continue
        bias = layer.requantization.parameters["bias"]
        limit = 1 << (widths.bias - 1)
        outside = np.flatnonzero((bias >= limit) | (bias < -limit))
        if outside.size:
            channel = int(outside[np.abs(bias[outside]).argmax()])
            evidence = {"bits": widths.bias, "bias": int(bias[channel]), "channel": channel, "channels": int(outside.size)}
            yield Sign(layer.name, evidence)


def weight_width(scene: Scene) -> Iterator[Sign]:
    """Layers with weights beyond the bits that they were quantized to."""
    for layer in scene.program.layers:
        if not isinstance(layer, Weighted):
            continue
        # Wider weights than the NPU has are counted against its widest.
        bits = min(layer.weight_bits, 8)
        limit = 1 << (bits - 1)
        outside = (layer.weights >= limit) | (layer.weights < -limit)
        if outside.any():
            evidence = {
                "lower": int(layer.weights.min()),
                "upper": int(layer.weights.max()),
                "bits": bits,
                "limit": limit - 1,
                "count": int(outside.sum()),
                "total": int(layer.weights.size),
            }
            yield Sign(layer.name, evidence)


def _area(layer: Accumulating) -> int:
    return layer.mean_of or 1


def _gain(layer: Accumulating) -> Any:  # noqa: ANN401 - a float64 array
    """By what each channel's codes are larger than the average: area * scale / 2**shift."""
    return _area(layer) * layer.requantization.gain


def _gain_is_taken_in(scene: Scene, layer: Accumulating) -> bool:
    """Whether what reads a pool's codes is made for them as they are, which its weights tell."""
    compared = scene.compared(layer.name)
    return compared is not None and (compared.scales.channels is not None or compared.scales.gain == 1)


def _pool_offsets(scene: Scene) -> Iterator[tuple[Accumulating, float, int]]:
    """Average pools whose bias is more or less than half an output LSB, by how many LSB, and the bias."""
    for layer in scene.pools:
        part = layer.requantization
        bias = part.parameters.get("bias")
        if bias is None:
            continue
        offsets = bias * part.gain - 0.5
        worst = int(np.abs(offsets).argmax())
        if abs(offsets[worst]) > OFFSET_TOLERANCE:
            yield layer, float(offsets[worst]), int(bias[worst])


def _is_second_rounding(layer: Accumulating, offset: float) -> bool:
    """Whether an offset is what a second half LSB of the average becomes: the bias is then the pool's area."""
    expected = float(np.max(_gain(layer))) - 0.5
    return abs(offset - expected) <= OFFSET_TOLERANCE / 2


def _is_seen(scene: Scene, layer: Accumulating, offset: float) -> bool:
    """Whether an average's codes are off by its offset, rather than that it makes good what its input has lost."""
    compared = scene.compared(layer.name)
    return compared is None or abs(compared.metrics.mean_error_lsb) >= min(abs(offset) / 2, 1.0)


def _readers(scene: Scene, source: Step) -> Iterator[Step]:
    """The steps that read a step's result, through operations that only move it."""
    for step in scene.program.steps:
        if not moves_codes(step) and any(scene.source_of(name) is source for name in scene.program.inputs_of(step)):
            yield step


def _seen(scene: Scene, step: Step) -> dict[str, int]:
    seen = scene.observations.get(step.name)
    return {} if seen is None else {"smallest_seen": int(seen.smallest.min()), "largest_seen": int(seen.largest.max())}


def _host_on_codes(scene: Scene, operators: frozenset[str]) -> Iterator[Sign]:
    for step in scene.program.steps:
        if not isinstance(step, HostOperation) or step.operator not in operators:
            continue
        for name in scene.program.inputs_of(step):
            tensor = scene.program.tensors[name]
            if tensor.is_integer and scene.source_of(name) is not None:
                yield Sign(step.name, {"operator": step.operator, "lower": int(tensor.lower), "upper": int(tensor.upper)})
                break
