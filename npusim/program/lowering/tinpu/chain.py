"""Reading a requantization: everything between an accumulator and the codes it becomes.

``Add`` (bias), ``Mul`` (scale, power of two, or their product), ``Floor`` and any saturations, in any of the exporters'
spellings, become one :class:`~npusim.program.ShiftFloor`; each tensor on the way becomes a
:class:`~npusim.program.Tap`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from npusim.graph import Node
from npusim.program.lowering.tinpu.scale import decompose_multipliers
from npusim.program.lowering.tinpu.unfolding import Unfolded
from npusim.program.lowering.tinpu.view import NotALayer, View, is_integral, per_channel, read_addend, read_clip, read_factor
from npusim.program.requantization import INT32, Clip, IntegerArray, Requantization
from npusim.program.shift_floor import ShiftFloor
from npusim.program.taps import ArithmeticTap, Tap

__all__ = ["Chain", "ChainReader", "integer_bounds", "merge_clips", "node_label", "read_chain", "read_clips"]

MAXIMUM_BIAS = 2**40
"""Far beyond the NPU's 24 bits, so that a bias that is too wide is still simulated and reported, and int64 never overflows."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What stands between an accumulator and its codes.

    Attributes
    ----------
    requantization
        The integer arithmetic.
    taps
        All inner tensors, the accumulator first.
    output
        Name of the tensor with the codes.
    nodes
        The nodes read, the accumulator's own excluded.
    """

    requantization: Requantization
    taps: tuple[Tap, ...]
    output: str
    nodes: tuple[Node, ...]


class ChainReader(Protocol):
    """Reads what a dialect writes between an accumulator and its codes, as :func:`read_chain` does."""

    def __call__(
        self, view: View, tensor: str, shape: tuple[int, ...], axis: int, *, unfolded: Unfolded | None = None
    ) -> Chain:
        """Read a chain."""
        ...


@dataclass
class _Reading:
    """The state while a chain is read."""

    view: View
    shape: tuple[int, ...]
    axis: int
    bias: npt.NDArray[np.float64]
    addend: IntegerArray
    multipliers: list[npt.NDArray[np.float64]] = field(default_factory=list)
    floored: bool = False
    clip: Clip | None = None
    nodes: list[Node] = field(default_factory=list)
    taps: list[Tap] = field(default_factory=list)

    def copy(self) -> _Reading:
        """The same state, for another way on."""
        return replace(self, multipliers=[*self.multipliers], nodes=[*self.nodes], taps=[*self.taps])

    def fail(self, reason: str) -> NotALayer:
        return NotALayer(reason, tuple(self.nodes))

    def tap(self, tensor: str) -> None:
        scale, shift = self.scale_and_shift()
        bias = self.bias.astype(np.int64)
        part = ShiftFloor(bias, scale, shift, clip=INT32 if self.clip is None else self.clip, addend=self.addend)
        self.taps.append(ArithmeticTap(tensor, part, self.floored, self.clip))

    def scale_and_shift(self) -> tuple[IntegerArray, IntegerArray]:
        channels = self.shape[self.axis]
        if not self.multipliers:
            return np.ones(channels, np.int64), np.zeros(channels, np.int64)
        found = decompose_multipliers(self.multipliers)
        if found is None:
            raise self.fail("its multiplier is not an integer of at most 12 bits times a power of two from 2^-31 on")
        return found


def read_chain(view: View, tensor: str, shape: tuple[int, ...], axis: int, *, unfolded: Unfolded | None = None) -> Chain:
    """Read the requantization of an accumulator.

    Parameters
    ----------
    view
        The folded graph.
    tensor
        Tensor that holds the accumulator, or what `unfolded` says of it.
    shape, axis
        Its shape for one sample and its channel axis.
    unfolded
        Bias, scale, shift and addend that the accumulator's own node has applied already.

    Raises
    ------
    NotALayer
        If the nodes behind the tensor are not a requantization in integers that ends in a saturation to a finite range.

    Notes
    -----
    An inner tensor may be an output of the model or have other readers too: of several readers the first is taken that leads
    to such an end. What is saturated to a finite range and shared is the end.
    """
    reading = _Reading(view, shape, axis, np.zeros(shape[axis]), np.zeros(shape[axis], np.int64))
    if unfolded is not None:
        reading.bias, reading.addend = unfolded.bias.astype(np.float64), unfolded.addend
        if unfolded.is_scaled:
            reading.multipliers += [unfolded.scale.astype(np.float64), np.ldexp(1.0, -unfolded.shift)]
    reading.tap(tensor)
    branches, refusal = [(reading, tensor)], None
    while branches:
        try:
            return _end(*_follow(*branches.pop(), branches))
        except NotALayer as finding:
            refusal = refusal or finding
    raise refusal or reading.fail("nothing follows")


def _follow(reading: _Reading, tensor: str, branches: list[tuple[_Reading, str]]) -> tuple[_Reading, str]:
    """Take nodes into a chain as far as they go; where there is a choice, the other ways are left in `branches`."""
    view = reading.view
    while True:
        if view.is_shared(tensor) and reading.clip is not None and _is_finite(reading.clip):
            return reading, tensor
        ways, refusal = [], None
        for node in view.readers_of(tensor):
            way = reading.copy()
            try:
                if _step(way, node):
                    way.nodes.append(node)
                    way.tap(node.outputs[0])
                    ways.append((way, node.outputs[0]))
            except NotALayer as finding:
                refusal = finding
        if not ways:
            if refusal is not None:
                raise refusal
            return reading, tensor
        (reading, tensor), *others = ways
        branches.extend(reversed(others))


def _end(reading: _Reading, tensor: str) -> Chain:
    """The chain that was read up to a tensor."""
    if reading.clip is None or not _is_finite(reading.clip):
        raise reading.fail(_why_open(reading, tensor))
    taps = reading.taps[:-1]
    scale, shift = reading.scale_and_shift()
    if reading.multipliers and not reading.floored and shift.any():
        raise reading.fail("its result is not floored after the multiplication")
    requantization = ShiftFloor(reading.bias.astype(np.int64), scale, shift, clip=reading.clip, addend=reading.addend)
    return Chain(requantization, tuple(taps), tensor, tuple(reading.nodes))


def read_clips(view: View, tensor: str) -> tuple[Clip, tuple[tuple[Node, Clip], ...]]:
    """Read the saturations behind a tensor of integers: the merged clip, and each node with the clip up to and including it.

    Raises
    ------
    NotALayer
        If there is none or the merged range is not finite.
    """
    clip = None
    steps: list[tuple[Node, Clip]] = []
    while clip is None or not (_is_finite(clip) and view.is_shared(tensor)):
        following = ((node, integer_bounds(view, node)) for node in view.readers_of(tensor))
        found = next(((node, bounds) for node, bounds in following if bounds is not None), None)
        if found is None:
            break
        node, bounds = found
        clip = merge_clips(clip, bounds)
        steps.append((node, clip))
        tensor = node.outputs[0]
    if clip is None or not _is_finite(clip):
        raise NotALayer("no saturation to a finite range follows", tuple(node for node, _ in steps))
    return clip, tuple(steps)


def merge_clips(first: Clip | None, second: Clip) -> Clip:
    """The one saturation that equals `first` and then `second`.

    Examples
    --------
    >>> merge_clips(Clip(-255, 255), Clip(0, 300))
    Clip(lower=0, upper=255)
    """
    if first is None:
        return second
    return Clip(
        min(max(first.lower, second.lower), second.upper),
        min(max(first.upper, second.lower), second.upper),
    )


def node_label(node: Node) -> str:
    """The node's name, or the name of what it produces when it has none."""
    return node.name or node.outputs[0]


_OPEN = 2**62
"""Stands for a missing bound while saturations are merged."""


def _is_finite(clip: Clip) -> bool:
    return -_OPEN < clip.lower <= clip.upper < _OPEN


def integer_bounds(view: View, node: Node) -> Clip | None:
    """The bounds of a saturation to integers; None for any other node."""
    bounds = read_clip(view, node)
    if bounds is None or any(bound != bound for bound in bounds):
        return None
    # exporters write the largest float for a bound that is not there; no integer here comes near it
    lower, upper = (-np.inf if bounds[0] <= -_OPEN else bounds[0]), (np.inf if bounds[1] >= _OPEN else bounds[1])
    finite = [bound for bound in (lower, upper) if np.isfinite(bound)]
    if any(bound != np.floor(bound) or abs(bound) >= 2**24 for bound in finite) or lower > upper:
        return None
    return Clip(int(lower) if lower > -np.inf else -_OPEN, int(upper) if upper < np.inf else _OPEN)


def _step(reading: _Reading, node: Node) -> bool:
    """Take one node into the chain; False when it is not part of a requantization at this point."""
    addend = read_addend(reading.view, node)
    if addend is not None:
        return _add(reading, addend)
    factor = read_factor(reading.view, node)
    if factor is not None:
        return _multiply(reading, factor)
    if node.op_type == "Floor":
        return _floor(reading)
    bounds = integer_bounds(reading.view, node)
    if bounds is None or (reading.multipliers and not reading.floored and reading.scale_and_shift()[1].any()):
        return False
    reading.clip = merge_clips(reading.clip, bounds)
    return True


def _add(reading: _Reading, addend: npt.NDArray[np.generic]) -> bool:
    if reading.multipliers or reading.floored or reading.clip is not None:
        return False
    bias = per_channel(addend, reading.shape, reading.axis)
    if bias is None:
        raise reading.fail("its bias varies along another axis than the channels")
    if not is_integral(bias) or not (np.abs(bias) <= MAXIMUM_BIAS).all():
        raise reading.fail("its bias is not an integer")
    reading.bias = reading.bias + bias
    return True


def _multiply(reading: _Reading, factor: npt.NDArray[np.generic]) -> bool:
    if reading.floored or reading.clip is not None or reading.addend.any():
        return False
    multiplier = per_channel(factor, reading.shape, reading.axis)
    if multiplier is None:
        raise reading.fail("its scale varies along another axis than the channels")
    reading.multipliers.append(multiplier)
    return True


def _floor(reading: _Reading) -> bool:
    if reading.floored or reading.clip is not None:
        return False
    reading.floored = True
    return True


def _why_open(reading: _Reading, tensor: str) -> str:
    view = reading.view
    if tensor in view.graph.outputs:
        return f"its inner tensor '{tensor}' is an output of the model"
    readers = view.readers.get(tensor, [])
    if len(readers) > 1:
        return f"its inner tensor '{tensor}' is read by {len(readers)} nodes"
    follows = f"{readers[0].op_type} follows" if readers else "nothing follows"
    return f"no saturation to a finite integer range ends it ({follows} '{tensor}')"
