"""What a device would compute if its arithmetic were wrong in one way: layers with an injected fault, run exactly.

A fault changes how a layer gets from its accumulator to its codes, in one layer or in all, or which implementation of the
input stage runs. Everything behind it is simulated as it should be. To add a fault, give it a kind and a place in
:func:`faulty_codes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.bounds.channels import digits_of
from npusim.engine.reference import accumulate, maximum_of_windows, unknown_kind
from npusim.graph import Array
from npusim.program import Accumulating, Add, Alternative, Clip, IntegerArray, IntegerLayer, MaxPool

__all__ = ["INNER_CLIP", "Fault", "FaultKind", "faults_of_layer", "faulty_codes", "wrapped"]

INNER_CLIP: Final = Clip(-512, 511)
"""Range to which the hardware saturates a convolution before it adds the residual."""

DIGIT_BITS: Final = 18
"""Width in which the accumulator of a 2-bit weight digit is read out."""


class FaultKind(StrEnum):
    """What is done wrong.

    ROUND_HALF_UP, TOWARD_ZERO: the shift rounds to nearest or truncates instead of flooring. NO_BIAS: the bias is not added.
    NO_CLIP: the codes are cut to their low bits instead of saturated. INNER_512, NO_INNER: before a residual the codes are
    saturated to -512..511, or not at all. WRAP_18, WRAP_24: the accumulator wraps at so many bits; WRAP_32: the product
    ``(accumulator + bias) * scale`` does. DIGITS_WRAP, DIGITS_SATURATE: what the accumulators of 2-bit weight digits do past 18
    bits. C28, MSPM0, ONNX: that implementation of the input stage.
    """

    ROUND_HALF_UP = "round_half_up"
    TOWARD_ZERO = "toward_zero"
    NO_BIAS = "missing_bias"
    NO_CLIP = "missing_clip"
    INNER_512 = "inner_clip_512"
    NO_INNER = "no_inner_clip"
    WRAP_18 = "accumulator_wraps_18"
    WRAP_24 = "accumulator_wraps_24"
    WRAP_32 = "product_wraps_32"
    DIGITS_WRAP = "digits_wrap_18"
    DIGITS_SATURATE = "digits_saturate_18"
    C28 = "input_stage_c28"
    MSPM0 = "input_stage_mspm0"
    ONNX = "input_stage_onnx"


_SENTENCES: Final[Mapping[FaultKind, str]] = {
    FaultKind.ROUND_HALF_UP: "the shift rounds half up instead of flooring",
    FaultKind.TOWARD_ZERO: "the shift rounds toward zero instead of flooring",
    FaultKind.NO_BIAS: "the bias is missing",
    FaultKind.NO_CLIP: "the clip is missing, codes are cut to their low bits",
    FaultKind.INNER_512: "the codes are saturated to -512..511 before the residual is added",
    FaultKind.NO_INNER: "the codes are not saturated before the residual is added",
    FaultKind.WRAP_18: "the accumulator wraps at 18 bits",
    FaultKind.WRAP_24: "the accumulator wraps at 24 bits",
    FaultKind.WRAP_32: "(accumulator + bias) * scale wraps at 32 bits",
    FaultKind.DIGITS_WRAP: "the accumulators of 2-bit weight digits wrap at 18 bits",
    FaultKind.DIGITS_SATURATE: "the accumulators of 2-bit weight digits saturate at 18 bits",
    FaultKind.C28: "the input stage is the one of C2000 and AM26x (c28)",
    FaultKind.MSPM0: "the input stage is the one of MSPM0 (mspm0), which truncates toward zero",
    FaultKind.ONNX: "the input stage is the one of the ONNX graph (onnx)",
}


_ALTERNATIVES: Final[Mapping[FaultKind, Alternative]] = {
    FaultKind.ROUND_HALF_UP: Alternative.HALF_UP,
    FaultKind.TOWARD_ZERO: Alternative.TOWARD_ZERO,
    FaultKind.NO_BIAS: Alternative.NO_BIAS,
}
"""Faults that are another staircase."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in one place.

    Attributes
    ----------
    kind
        What is done wrong.
    step
        Name of the layer or of the input stage; None for all layers.
    """

    kind: FaultKind
    step: str | None

    def __str__(self) -> str:
        place = "in all layers" if self.step is None else f"in '{self.step}'"
        return f"{place} {_SENTENCES[self.kind]}"


def faults_of_layer(layer: IntegerLayer) -> tuple[FaultKind, ...]:
    """The faults that a layer can have; none for MAXPOOL."""
    if not isinstance(layer, Accumulating):
        return ()
    known = layer.requantization.alternatives
    kinds = [kind for kind, alternative in _ALTERNATIVES.items() if alternative in known]
    kinds.append(FaultKind.NO_CLIP)
    if layer.residual is not None:
        kinds += [FaultKind.INNER_512, FaultKind.NO_INNER]
    if not isinstance(layer, Add):
        kinds += [FaultKind.WRAP_18, FaultKind.WRAP_24, FaultKind.WRAP_32]
    if digits_of(layer) is not None:
        kinds += [FaultKind.DIGITS_WRAP, FaultKind.DIGITS_SATURATE]
    return tuple(kinds)


def faulty_codes(
    layer: IntegerLayer, inputs: Sequence[Array], kinds: Sequence[FaultKind], stored: npt.DTypeLike
) -> dict[FaultKind, Array]:
    """The codes of a layer under each of some faults.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs, samples on the first axis.
    kinds
        Faults; those that the layer cannot have leave it right.
    stored
        Element type of the codes.

    Returns
    -------
    dict
        Codes by fault, in the order of `kinds`.

    Examples
    --------
    A product of -3 shifted by 1 is -2. Rounded half up it is -1, as it is rounded toward zero.
    """
    codes = [np.asarray(values).astype(np.int64) for values in inputs]
    if isinstance(layer, MaxPool):
        right = maximum_of_windows(layer, codes[0]).astype(stored)
        return dict.fromkeys(kinds, right)
    if not isinstance(layer, Accumulating):
        raise unknown_kind(layer)
    accumulator = accumulate(layer, codes)
    residual = layer.residual_of(codes)
    found: dict[FaultKind, Array] = {}
    for kind in kinds:
        if kind in (FaultKind.DIGITS_WRAP, FaultKind.DIGITS_SATURATE):
            chosen = _digit_accumulator(layer, codes, accumulator, saturates=kind is FaultKind.DIGITS_SATURATE)
        else:
            chosen = accumulator
        found[kind] = _finish(layer, chosen, residual, kind).astype(stored)
    return found


def wrapped(values: IntegerArray, bits: int) -> IntegerArray:
    """Two's complement integers of so many bits: ``((v + 2**(bits - 1)) mod 2**bits) - 2**(bits - 1)``.

    Examples
    --------
    >>> wrapped(np.array([127, 128, -129]), 8)
    array([ 127, -128,  127])
    """
    half = 1 << (bits - 1)
    return np.asarray(((values + half) & (2 * half - 1)) - half)


def _finish(layer: Accumulating, accumulator: IntegerArray, residual: IntegerArray | None, kind: FaultKind) -> IntegerArray:
    """From accumulator to codes, before they are stored."""
    part, axis = layer.requantization, layer.channel_axis
    if kind in (FaultKind.WRAP_18, FaultKind.WRAP_24):
        accumulator = wrapped(accumulator, 18 if kind is FaultKind.WRAP_18 else 24)
    other = part.alternatives.get(_ALTERNATIVES[kind], part) if kind in _ALTERNATIVES else part
    if kind is FaultKind.WRAP_32:
        values = part.codes_of_scaled(wrapped(part.scaled(accumulator, axis), 32), axis)
    else:
        values = other.unclipped(accumulator, axis)
    if residual is not None and kind in (FaultKind.INNER_512, FaultKind.NO_INNER):
        values = (INNER_CLIP.apply(values) if kind is FaultKind.INNER_512 else values) + residual
    else:
        values = layer.before_clip(values, residual)
    return values if kind is FaultKind.NO_CLIP else layer.output_clip.apply(values)


def _digit_accumulator(
    layer: Accumulating, codes: Sequence[IntegerArray], accumulator: IntegerArray, *, saturates: bool
) -> IntegerArray:
    """The accumulator put together from those of the weight digits, each of which wraps or saturates at 18 bits."""
    planes = digits_of(layer)
    if planes is None:
        return accumulator
    total = np.zeros_like(accumulator)
    limit = 1 << (DIGIT_BITS - 1)
    for place, digits in enumerate(planes):
        part = accumulate(layer, codes, digits)
        part = np.clip(part, -limit, limit - 1) if saturates else wrapped(part, DIGIT_BITS)
        total += part << (2 * place)
    return total
