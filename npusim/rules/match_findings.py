"""Findings on models of the PLiNIO and MATCH family: damages, what the file leaves open, and where its kernels may err."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from npusim.findings import SourcedFinding
from npusim.graph import Graph
from npusim.program import Accumulating, AveragePool, IntegerLayer, Program
from npusim.program.intervals import RangeAnalysis, analyse
from npusim.program.lowering.match.facts import MatchFacts, facts_of
from npusim.program.requantization import INT32
from npusim.program.scale_divide import ScaleDivide

__all__ = ["match_findings"]

MATCH: Final = "match"
"""The format."""

COARSE: Final = 0.01
"""A multiplier whose rounding up may change the scale by more is reported."""

KERNELS: Final = "PULP-NN, pulp_nn_utils.h: pulp_nn_bn_quant_u8"
"""The kernels that MATCH and DORY generate calls of."""


def match_findings(graph: Graph, program: Program) -> Iterator[SourcedFinding]:
    """All findings on a model of the family; none for others.

    Parameters
    ----------
    graph
        As read.
    program
        Its program.
    """
    if program.format != MATCH:
        return
    yield from _damages(facts_of(graph), program)
    yield from _means(program)
    ranges = analyse(program)
    for layer in program.layers:
        yield from _overflow(layer, ranges)
        yield from _coarse(layer)


def _damages(facts: MatchFacts, program: Program) -> Iterator[SourcedFinding]:
    if facts.bound_input is not None:
        yield SourcedFinding(
            "dangling-input",
            "warning",
            None,
            f"nothing produces tensor '{facts.bound_input}', and nothing reads input '{program.inputs[0]}': the exporter "
            "renamed only one of both; they were taken for the same",
            "onnxruntime refuses the file as it is: rename the first node's input",
            {"tensor": facts.bound_input, "input": program.inputs[0]},
            tensor=facts.bound_input,
        )
    if facts.is_unannotated:
        yield SourcedFinding(
            "no-annotations",
            "warning",
            None,
            "the file has no annotations of bits: PLiNIO's exporter ends before it writes them where torch exports opset 11 or "
            "later; widths were taken from the values",
            "export again with torch.onnx.export(..., dynamo=False), opset 10",
        )
    if facts.wrapped:
        taken = "unsigned, as the file says" if program.arithmetic == "onnx" else "signed"
        yield SourcedFinding(
            "wrapped-weights",
            "warning",
            None,
            f"{len(facts.wrapped)} layers, '{facts.wrapped[0]}' first, have bytes of int8 weights stored as uint8, so that -1 "
            f"stands there as 255; they were computed {taken}",
            "export signed weights, or compute what was meant with --arithmetic match",
            {"nodes": list(facts.wrapped)},
            node=facts.wrapped[0],
        )
    if facts.truncating:
        literal = program.arithmetic == "onnx"
        yield SourcedFinding(
            "truncating-division",
            "warning",
            None,
            f"{len(facts.truncating)} divisions of integers, '{facts.truncating[0]}' first, cut toward zero by ONNX, but the "
            f"design floors them; this is '{program.arithmetic}', which {'cuts' if literal else 'floors'}",
            "choose --arithmetic match for the device, onnx for what onnxruntime computes",
            {"nodes": list(facts.truncating)},
            node=facts.truncating[0],
        )
    for name, codes in facts.assumed:
        held = program.tensors[name]
        yield SourcedFinding(
            "input-codes",
            "info",
            None,
            f"input '{name}' is declared float and holds codes from {held.lower:g} to {held.upper:g}; its quantizer is not in "
            f"the file, and without input_codes it is taken as '{codes}'",
            'give input_codes="u8", "s8" or "u4", and feed floor((2**bits - 1) / (alpha + 0.001) * clamp(x, 0, alpha)), the '
            "quantizer of the training",
            {"lower": held.lower, "upper": held.upper},
            tensor=name,
        )


def _means(program: Program) -> Iterator[SourcedFinding]:
    for layer in program.layers:
        part = layer.requantization if isinstance(layer, AveragePool) else None
        if not isinstance(part, ScaleDivide) or (part.scale != 1).any() or len(layer.nodes) > 1:
            continue
        how = "rounded half up" if part.addend.any() else "floored"
        yield SourcedFinding(
            "mean-without-requantization",
            "warning",
            layer.name,
            f"the means of '{layer.name}' have no requantization in the file: they are {how} here, as kernels in integers do; "
            "onnxruntime lets their fractions flow on",
            "choose --arithmetic match, match_half_up or onnx, as the device's kernel does",
            {"divisor": int(part.divisor[0])},
            tensor=layer.output,
        )


def _overflow(layer: IntegerLayer, ranges: RangeAnalysis) -> Iterator[SourcedFinding]:
    """``k * phi + lambda`` beyond int32."""
    if not isinstance(layer, Accumulating) or not (layer.requantization.parameters.get("scale", np.ones(1)) != 1).any():
        return
    bounds = ranges.layers[layer.name]
    scaled = bounds.scaled
    low, high = (int(end) for end in scaled.hull)
    if INT32.lower <= low and high <= INT32.upper:
        return
    beyond = scaled.upper if high > INT32.upper else scaled.lower
    place = tuple(
        int(at) for at in np.unravel_index(int(beyond.argmax() if high > INT32.upper else beyond.argmin()), beyond.shape)
    )
    channel = place[layer.channel_axis]
    sums = bounds.accumulator
    accumulator = [int(end[place]) for end in (sums.lower, sums.upper)]
    reached = "is reached" if bounds.attained else "can be reached by codes of the layer's input"
    yield SourcedFinding(
        "int32-overflow",
        "warning",
        layer.name,
        f"accumulator * multiplier + addend of '{layer.name}' lies between {low} and {high}, beyond int32, in which PULP-NN's "
        f"kernels compute it; the extreme {reached}, in channel {channel}",
        "export with a smaller shift (shift_pos=16), or use kernels with 64 bits; npusim computes with 64",
        {"scaled": [low, high], "channel": channel, "accumulator": accumulator, "attained": bounds.attained},
        tensor=layer.output,
        source=KERNELS,
    )


def _coarse(layer: IntegerLayer) -> Iterator[SourcedFinding]:
    """Multipliers so small that their rounding to whole numbers changes the scale by percents."""
    if not isinstance(layer, Accumulating):
        return
    scale = np.abs(layer.requantization.parameters.get("scale", np.zeros(1)))
    used = scale[scale > 1]
    if not used.size or 1 / used.min() <= COARSE:
        return
    worst, count = float(1 / used.min()), int((1 / used > COARSE).sum())
    yield SourcedFinding(
        "coarse-multiplier",
        "warning",
        layer.name,
        f"{count} of {scale.size} multipliers of '{layer.name}' are below {round(1 / COARSE)}, the smallest is "
        f"{int(used.min())}: rounding it to a whole number changes its scale by up to {100 * worst:.1f} %",
        "export with more bits for the multiplier (scale_bit and shift_pos of 24)",
        {"smallest": int(used.min()), "percent": round(100 * worst, 2), "channels": count},
        tensor=layer.output,
    )
