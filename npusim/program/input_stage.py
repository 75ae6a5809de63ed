"""The input stage as devices compute it: implementations of one formula, of which the graph's is one.

A host CPU turns measured float32 values into codes before the first layer. Each channel has an offset, an integer multiplier
and a shift n; ``p = (x + offset) * multiplier``, both operations rounded to float32. Then

============= ==================================================================================================
``graph``     ``clip(floor(p * 2**-n))`` in float32, operation by operation as the graph is written. Files of golden
              vectors call it ``onnx``.
``c28``       ``floor(p)`` becomes an int32, which is shifted right by n and saturated to -128..127, whatever range the
              graph names. Codes of an unsigned model are then the low 8 bits, so that -1 is read as 255. C2000 and AM26x.
``mspm0``     ``p`` becomes an int32 as C converts it, **toward zero**, is shifted right by n and saturated to the graph's
              range. MSPM0, and the formula in the compiler's header.
``truncated`` ``(int)(p * 2**-n)``: the graph's own float, converted as C does it, **toward zero**, instead of floored; then
              saturated to the graph's range. What an application computes that writes the formula out by hand.
============= ==================================================================================================

A float beyond int32 becomes the nearest int32, as the processors' conversion instructions do it. Floors compose, so
``c28`` equals ``graph`` wherever p fits int32 and the range is -128..127; ``mspm0`` is one more where p is negative, not whole,
and ``floor(p)`` and ``floor(p) + 1`` lie on two sides of a multiple of ``2**n``; ``truncated`` is one more wherever
``p * 2**-n`` is negative and not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import InternalMismatchError, UnsupportedError
from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.kernels.requantize import codes_dtype, shift_right_floor
from npusim.program.program import Program, QuantizeStage
from npusim.program.requantization import Clip, IntegerArray

__all__ = [
    "DEVICES",
    "SIGNED_BYTE",
    "DeviceStage",
    "InputStage",
    "StageParameters",
    "device_stage",
    "input_stages",
    "parameters_of",
]

_INT32 = np.iinfo(np.int32)

SIGNED_BYTE: Final = Clip(-128, 127)
"""What `c28` saturates to."""


class InputStage(StrEnum):
    """Implementations of the input stage."""

    GRAPH = "graph"
    C28 = "c28"
    MSPM0 = "mspm0"
    TRUNCATED = "truncated"

    @classmethod
    def _missing_(cls, value: object) -> InputStage | None:
        return cls.GRAPH if value == "onnx" else None

    @property
    def recorded(self) -> str:
        """Its name in files of golden vectors."""
        return "onnx" if self is InputStage.GRAPH else str(self)


DEVICES: Final = (InputStage.C28, InputStage.MSPM0)
"""Those of the vendor's devices."""


@dataclass(frozen=True, slots=True)
class StageParameters:
    """What a device knows of an input stage, broadcastable to the input.

    Attributes
    ----------
    offset
        float32.
    multiplier
        float32 holding whole numbers.
    shift
        int64, not negative.
    derived
        True where the graph holds one factor ``multiplier * 2**-shift`` only. It is then split with the smallest shift that
        leaves a whole multiplier; `mspm0` depends on that choice, the others do not.
    """

    offset: npt.NDArray[np.float32]
    multiplier: npt.NDArray[np.float32]
    shift: npt.NDArray[np.int64]
    derived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStage(QuantizeStage):
    """A quantize stage as a device computes it. Only its codes are defined, not what the graph computes on the way.

    Attributes
    ----------
    variant
        Which implementation; never the graph's.
    parameters
        Offset, multiplier and shift.
    wraps
        Codes are the low 8 bits of what `clip` leaves, read as unsigned.
    """

    variant: InputStage
    parameters: StageParameters
    wraps: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """The name of the codes."""
        return (self.output,)

    @property
    def codes_range(self) -> Clip:
        """What the codes can be."""
        return Clip(0, 255) if self.wraps else self.clip

    def values(self, value: Array, constants: Mapping[str, Array], opset: int) -> dict[str, Array]:
        """The input and the codes, in the element type of the graph; NaN where the product is not a number."""
        codes, product = self._saturated(value)
        whole = codes & 0xFF if self.wraps else codes
        made = whole.astype(value.dtype)
        lost = np.isnan(product)
        return {self.input: value, self.output: np.where(lost, np.array(np.nan, value.dtype), made) if lost.any() else made}

    def ends(self, lower: Array, upper: Array) -> tuple[IntegerArray, IntegerArray] | None:
        """Smallest and largest code of each element for inputs of an interval; None where one may be no number.

        Each operation but the wrapping rises or falls with its input, so that the ends of the input give those of the codes.
        """
        largest = np.finfo(np.float32).max
        first, last = (self._saturated(np.clip(end, -largest, largest)) for end in (lower, upper))
        if np.isnan(first[1]).any() or np.isnan(last[1]).any():
            return None
        low, high = np.minimum(first[0], last[0]), np.maximum(first[0], last[0])
        if not self.wraps:
            return low, high
        crosses = (low < 0) & (high >= 0)
        return np.where(crosses, 0, low & 0xFF), np.where(crosses, 255, high & 0xFF)

    def operations(self, value: Array) -> list[tuple[str, Array | None, Array]]:
        """What is computed one after the other: a word for it, its constant, and the result."""
        known, toward_zero = self.parameters, "to an integer, toward zero"
        with np.errstate(over="ignore", invalid="ignore"):
            moved = value.astype(np.float32) + known.offset
            product = moved * known.multiplier
            done: list[tuple[str, Array | None, Array]] = [
                ("add", known.offset, moved),
                ("multiply", known.multiplier, product),
            ]
            if self.variant is InputStage.TRUNCATED:
                factor = np.ldexp(np.float32(1), -known.shift)
                scaled = product * factor
                return [*done, ("multiply by", factor, scaled), (toward_zero, None, _int32(np.trunc(scaled)))]
            if self.variant is InputStage.C28:
                whole, word = _int32(np.floor(product)), "to an integer, floored"
            else:
                whole, word = _int32(np.trunc(product)), toward_zero
        return [*done, (word, None, whole), ("shift right", known.shift, shift_right_floor(whole, known.shift))]

    def _saturated(self, value: Array) -> tuple[IntegerArray, npt.NDArray[np.float32]]:
        """Codes before they wrap, and the float32 product that they are made of."""
        done = self.operations(value)
        return self.clip.apply(done[-1][2].astype(np.int64)), done[1][2].astype(np.float32, copy=False)


def _int32(values: npt.NDArray[np.float32]) -> IntegerArray:
    """Whole floats as int32, the nearest one for what lies beyond; held as int64."""
    return np.clip(np.nan_to_num(values.astype(np.float64)), _INT32.min, _INT32.max).astype(np.int64)


def device_stage(stage: QuantizeStage, variant: InputStage, parameters: StageParameters) -> DeviceStage:
    """A stage of a graph as a device computes it.

    Parameters
    ----------
    stage
        The stage as the graph is written.
    variant
        Which implementation; not the graph's.
    parameters
        What :func:`parameters_of` gives for the stage.

    Examples
    --------
    With offset 0, multiplier 3 and shift 1, the value -0.5 gives p = -1.5: the graph floors -0.75 to -1, ``c28`` shifts
    floor(-1.5) = -2 to -1, ``mspm0`` shifts -1 to -1, ``truncated`` cuts -0.75 to 0. The value -0.25 gives p = -0.75 and the
    codes -1, -1, 0 and 0.
    """
    own = {field.name: getattr(stage, field.name) for field in fields(QuantizeStage)}
    unsigned = codes_dtype(stage.clip.lower, stage.clip.upper) == np.uint8
    if variant is InputStage.C28:
        own["clip"] = SIGNED_BYTE
    return DeviceStage(**own, variant=variant, parameters=parameters, wraps=variant is InputStage.C28 and unsigned)


def input_stages(program: Program) -> tuple[QuantizeStage, ...]:
    """The stages that make codes of the model's inputs; empty for a model that takes codes."""
    return tuple(stage for stage in program.quantize_stages if program.resolve(stage.input) in program.inputs)


def parameters_of(
    stage: QuantizeStage, constant: Callable[[str], Array | None], shape: Callable[[str], tuple[int, ...]], *, handed_out: bool
) -> StageParameters:
    """Offset, multiplier and shift of an input stage.

    Parameters
    ----------
    stage
        The stage as the graph is written.
    constant, shape
        Give the value of a constant, None for other tensors, and the shape of a tensor.
    handed_out
        Whether something else reads what the graph computes on the way to the codes.

    Raises
    ------
    UnsupportedError
        If the multiplier is not a whole number times a power of two, or larger than float32 holds exactly.
    """
    shapes = [list(shape(name)) for name in (stage.input, stage.output)]
    if shapes[0] != shapes[1]:
        raise UnsupportedError(
            f"input stage '{stage.name}' makes codes of shape {shapes[1]} from {shapes[0]}, so devices' variants of it are not "
            f"defined; use the input stage '{InputStage.GRAPH}'"
        )
    if handed_out:
        raise UnsupportedError(
            f"the model reads inner tensors of input stage '{stage.name}', so devices' variants of it are not defined; use the "
            f"input stage '{InputStage.GRAPH}'"
        )
    factors = [_constant(stage, constant, index) for index, node in enumerate(stage.nodes) if is_a(node.op_type, Trait.PRODUCT)]
    divided = any(is_a(node.op_type, Trait.QUOTIENT) for node in stage.nodes)
    offset = stage.offset.astype(np.float32)
    if (
        len(factors) == 2
        and not divided
        and bool((np.frexp(np.abs(factors[1]))[0] == 0.5).all())
        and bool((factors[1] > 0).all())
    ):
        multiplier, shift, derived = factors[0], 1 - np.frexp(factors[1])[1].astype(np.int64), False
    else:
        multiplier, shift = _split(stage.multiplier)
        derived = True
    whole = bool((multiplier == np.rint(multiplier)).all()) and bool((np.abs(multiplier) < 2**24).all())
    if stage.nearest or not whole or bool((shift < 0).any()) or bool((shift > 31).any()) or len(factors) > 2:
        raise UnsupportedError(
            f"input stage '{stage.name}' is not an offset, a whole multiplier and a shift, so devices' variants of it "
            f"are not defined; use the input stage '{InputStage.GRAPH}'"
        )
    return StageParameters(offset, multiplier.astype(np.float32), shift, derived)


def _constant(stage: QuantizeStage, constant: Callable[[str], Array | None], index: int) -> npt.NDArray[np.float64]:
    for name in stage.nodes[index].inputs:
        value = constant(name)
        if value is not None:
            return value.astype(np.float64)
    raise InternalMismatchError(
        f"'{stage.nodes[index].name}' of input stage '{stage.name}' has no constant; please report this"
    )


def _split(factor: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Whole multiplier and smallest shift, not negative, with ``multiplier * 2**-shift == factor``."""
    shift = np.zeros(factor.shape, np.int64)
    for bits in range(1, 32):
        scaled = np.ldexp(factor, shift)
        shift = np.where(scaled == np.rint(scaled), shift, bits)
    return np.ldexp(factor, shift), shift
