"""Reading a requantization of the family: everything between an accumulator and the codes it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.graph import Node
from npusim.program.lowering.tinpu.chain import Chain, integer_bounds, merge_clips
from npusim.program.lowering.tinpu.unfolding import Unfolded
from npusim.program.lowering.tinpu.view import NotALayer, View, is_integral, per_channel, read_addend
from npusim.program.requantization import INT32, Clip, IntegerArray, Requantization
from npusim.program.scale_divide import ScaleDivide
from npusim.program.shift_floor import ShiftFloor
from npusim.program.taps import ArithmeticTap, CodesTap, Tap

__all__ = ["MEANT", "Written", "read_chain", "read_divided"]

MAXIMUM_SHIFT: Final = 31
"""A longer shift is a division."""

LARGEST: Final = 2.0**40
"""Constants beyond this are not those of an integer arithmetic of 32 bits."""


@dataclass(frozen=True, slots=True)
class Written:
    """How a file's divisions are read.

    Attributes
    ----------
    literal
        As ONNX says: integers divide toward zero, floats keep their fractions. Otherwise as the arithmetic shift that is meant.
    typed
        Whether all of the file's numbers are integers, whatever types the graph has been given.
    """

    literal: bool = False
    typed: bool = False


MEANT: Final = Written()
"""Arithmetic shifts, as in files of floats."""


@dataclass
class _Reading:
    """The state while a chain is read: ``(accumulator * scale + addend) / divisor``."""

    view: View
    shape: tuple[int, ...]
    axis: int
    as_written: Written
    scale: IntegerArray
    addend: IntegerArray
    divisor: IntegerArray
    floored: bool = False
    toward_zero: bool = False
    clip: Clip | None = None
    nodes: list[Node] = field(default_factory=list)
    taps: list[Tap] = field(default_factory=list)

    @property
    def is_divided(self) -> bool:
        """Whether fractions may have arisen."""
        return bool((self.divisor != 1).any())

    def is_integer(self, node: Node) -> bool:
        """Whether a node computes in integers."""
        return self.as_written.typed or self.view.graph.types[node.outputs[0]].dtype.kind in "iu"

    def part(self, clip: Clip) -> Requantization:
        """What has been read: a shift where the divisor is a power of two, without a multiplication a bias."""
        nothing = np.zeros_like(self.scale)
        shift = np.frexp(self.divisor.astype(np.float64))[1].astype(np.int64) - 1
        if (shift > MAXIMUM_SHIFT).any() or (self.divisor != np.int64(1) << shift).any():
            return ScaleDivide(self.scale, self.addend, self.divisor, self.toward_zero, clip=clip)
        bias, addend = (self.addend, nothing) if (self.scale == 1).all() else (nothing, self.addend)
        return ShiftFloor(bias, self.scale, shift, addend, clip=clip, toward_zero=self.toward_zero)

    def tap(self, tensor: str) -> None:
        """Note an inner tensor; a quotient that floats round has no place in an integer program."""
        part = self.part(self.clip or INT32)
        if isinstance(part, ShiftFloor):
            self.taps.append(ArithmeticTap(tensor, part, self.floored, self.clip))
        elif self.floored:
            self.taps.append(CodesTap(tensor, part, self.clip))


def read_chain(
    view: View,
    tensor: str,
    shape: tuple[int, ...],
    axis: int,
    *,
    unfolded: Unfolded | None = None,
    as_written: Written = MEANT,
    first: Node | None = None,
) -> Chain:
    """Read the requantization of an accumulator; without a saturation at its end the codes are int32.

    The other parameters and the errors are those of :func:`npusim.program.lowering.tinpu.chain.read_chain`.

    Parameters
    ----------
    as_written
        What a division means.
    first
        The node that the chain starts with, where the tensor has other readers as well.
    """
    channels = shape[axis]
    nothing, one = np.zeros(channels, np.int64), np.ones(channels, np.int64)
    if unfolded is not None and unfolded.is_scaled:
        raise NotALayer("no file of its dialect has a scale folded into weights")
    bias = nothing if unfolded is None else unfolded.bias
    return read_divided(view, tensor, shape, axis, bias, one, as_written=as_written, first=first)


def read_divided(
    view: View,
    tensor: str,
    shape: tuple[int, ...],
    axis: int,
    bias: IntegerArray,
    divisor: IntegerArray,
    *,
    as_written: Written = MEANT,
    first: Node | None = None,
) -> Chain:
    """Read the requantization of ``(accumulator + bias) / divisor``, which `tensor` holds."""
    reading = _Reading(view, shape, axis, as_written, np.ones_like(divisor), bias, divisor)
    if not reading.is_divided:
        reading.tap(tensor)
    node = view.only_reader(tensor) if first is None else first
    while node is not None and _step(reading, node):
        tensor = node.outputs[0]
        reading.nodes.append(node)
        reading.tap(tensor)
        node = view.only_reader(tensor)
    if reading.clip is None and reading.is_divided and not reading.floored:
        raise NotALayer("its division is followed by neither a floor nor a saturation", tuple(reading.nodes))
    taps = tuple(tap for tap in reading.taps if tap.tensor != tensor)
    return Chain(reading.part(reading.clip or INT32), taps, tensor, tuple(reading.nodes))


def _step(reading: _Reading, node: Node) -> bool:
    """Take one node into the chain; False when it is not part of it."""
    parts = reading.view.operand_and_constant(node)
    addend = read_addend(reading.view, node)
    if addend is not None:
        return _add(reading, per_channel(addend, reading.shape, reading.axis))
    if parts is not None and node.op_type in ("Mul", "Div"):
        values = per_channel(parts[1], reading.shape, reading.axis)
        if node.op_type == "Mul":
            return _multiply(reading, values)
        return not parts[2] and _divide(reading, values, is_integer=reading.is_integer(node))
    if node.op_type == "Cast":
        return _cast(reading, node)
    if node.op_type == "Floor":
        reading.floored = True
        return reading.clip is None
    bounds = integer_bounds(reading.view, node)
    if bounds is None or (reading.as_written.literal and reading.is_divided and not reading.floored):
        return False
    # where it is not taken literally, a division without a floor is the arithmetic shift all the same
    reading.clip, reading.floored = merge_clips(reading.clip, bounds), True
    return True


def _cast(reading: _Reading, node: Node) -> bool:
    """A cast to wide integers ends a division; one of integers to float changes nothing."""
    wide = reading.view.graph.types[node.outputs[0]].dtype
    if wide.kind not in "if" or wide.itemsize < 4:
        return False
    if wide.kind == "i" and reading.is_divided and not reading.floored:
        reading.floored, reading.toward_zero = True, reading.as_written.literal
    return True


def _is_open(reading: _Reading, values: npt.NDArray[np.float64] | None) -> bool:
    return values is not None and reading.clip is None and not reading.floored and bool((np.abs(values) <= LARGEST).all())


def _add(reading: _Reading, values: npt.NDArray[np.float64] | None) -> bool:
    if values is None or not _is_open(reading, values) or not is_integral(values):
        return False
    reading.addend = reading.addend + values.astype(np.int64) * reading.divisor
    return True


def _multiply(reading: _Reading, values: npt.NDArray[np.float64] | None) -> bool:
    if values is None or not _is_open(reading, values):
        return False
    if is_integral(values):
        factor = values.astype(np.int64)
        reading.scale, reading.addend = reading.scale * factor, reading.addend * factor
        return True
    mantissa, _ = np.frexp(values)
    return bool((mantissa == 0.5).all()) and _divide(reading, 1.0 / values, is_integer=False)


def _divide(reading: _Reading, values: npt.NDArray[np.float64] | None, *, is_integer: bool) -> bool:
    if values is None or not _is_open(reading, values) or not is_integral(values) or not (values >= 1).all():
        return False
    if is_integer and reading.is_divided and reading.as_written.literal:
        return False
    reading.divisor = reading.divisor * values.astype(np.int64)
    if is_integer:
        reading.floored, reading.toward_zero = True, reading.as_written.literal
    return True
