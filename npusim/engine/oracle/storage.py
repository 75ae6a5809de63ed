"""How tensors of a program are held in C: their types, and where they lie while they are needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph.traits import Trait, is_a
from npusim.program import Add, Program, Tensor
from npusim.program.forms import Maps, numbers_of, outline_step, places_of
from npusim.program.program import HostOperation, Step
from npusim.program.requantization import IntegerArray

__all__ = ["Area", "CType", "Moved", "Storage", "moved_elements", "plan_storage", "type_of"]


TRIED_ORDERS: Final = 300
"""Orders in which blocks are placed, where the usual ones leave gaps."""

MOST_BLOCKS: Final = 60
"""With more blocks only the usual orders are tried."""


class Area(Enum):
    """Parts of the arena: values of one width, which may take each other's place."""

    CODES_8 = "codes8"
    CODES_16 = "codes16"
    CODES_32 = "codes32"
    FLOATS = "floats"


class CType(Enum):
    """Types of elements, by their name in C, their area, bits, and how a hook is told.

    The narrow ones are at least that wide: no code relies on how a type wraps.
    """

    S8 = ("npusim_s8", Area.CODES_8, 8)
    U8 = ("npusim_u8", Area.CODES_8, 8)
    S16 = ("int_least16_t", Area.CODES_16, 16)
    S32 = ("int32_t", Area.CODES_32, 32)
    F32 = ("float", Area.FLOATS, 32)

    @property
    def label(self) -> str:
        """The name in C."""
        return self.value[0]

    @property
    def area(self) -> Area:
        """Where it lies."""
        return self.value[1]

    @property
    def bits(self) -> int:
        """Its width on a machine with bytes of 8 bits."""
        return self.value[2]


def type_of(tensor: Tensor, where: str) -> CType:
    """How a tensor is held.

    Raises
    ------
    UnsupportedError
        If it is neither float32 nor integers of at most 32 bits, or its axes are in another order than in the file.
    """
    if tensor.order is not None or tensor.zero_point:
        raise UnsupportedError(
            f"{where}: tensor '{tensor.name}' has a zero point or another order of axes, which C is not written for"
        )
    if not tensor.is_integer:
        if tensor.dtype != np.float32:
            raise UnsupportedError(
                f"{where}: tensor '{tensor.name}' is {tensor.dtype.name}, and C is written for float32 and codes"
            )
        return CType.F32
    for kind, lower, upper in ((CType.S8, -128, 127), (CType.U8, 0, 255), (CType.S16, -(2**15), 2**15 - 1)):
        if lower <= tensor.lower and tensor.upper <= upper:
            return kind
    if tensor.lower < -(2**31) or tensor.upper >= 2**31:
        raise UnsupportedError(f"{where}: codes of tensor '{tensor.name}' do not fit 32 bits, the widest that C is written for")
    return CType.S32


@dataclass(frozen=True, slots=True)
class Moved:
    """A step that moves elements and computes nothing.

    Attributes
    ----------
    sources
        The tensors that elements come from.
    source, place
        int64, for each element of the result which of `sources` it comes from, -1 for a constant 0, and its place there.
    """

    sources: tuple[str, ...]
    source: IntegerArray
    place: IntegerArray

    @property
    def is_whole(self) -> bool:
        """Whether it is its only source, in the same order."""
        return len(self.sources) == 1 and not self.source.any() and bool((self.place == np.arange(self.place.size)).all())


def moved_elements(program: Program, step: Step) -> Moved | None:
    """What a step moves; None for one that computes."""
    if not isinstance(step, HostOperation) or len(step.tensors) != 1:
        return None
    names = tuple(dict.fromkeys(program.inputs_of(step)))
    maps = Maps()
    found = outline_step(program, step, maps, dict.fromkeys(names)).elements.reshape(-1)
    known = {}
    for number, name in enumerate(names):
        size = math.prod(program.tensors[name].shape)
        known[maps.opaque(("tensor", name), size)] = number
    zero = int(numbers_of(maps.constants(np.zeros(1)))[0])
    numbers = numbers_of(found)
    if not set(np.unique(numbers).tolist()) <= {*known, zero}:
        return None
    source = np.array([known.get(int(number), -1) for number in numbers], np.int64)
    size = math.prod(program.tensors[step.tensors[0]].shape)
    return Moved(names, source, places_of(found)) if source.size == size else None


@dataclass(frozen=True, slots=True)
class Storage:
    """Where tensors lie.

    Attributes
    ----------
    types
        How each tensor is held.
    homes
        For tensors that lie where another one does, or did: that one.
    views
        Of those the ones that are the other one, in the same order: nothing computes them.
    offsets
        Of tensors with a place of their own, in elements from the start of their area; inputs of the model lie outside.
    sizes
        Elements of each area.
    """

    types: Mapping[str, CType]
    homes: Mapping[str, str]
    views: frozenset[str]
    offsets: Mapping[str, int]
    sizes: Mapping[Area, int]

    def home(self, name: str) -> str:
        """The tensor whose memory a tensor is in."""
        return self.homes.get(name, name)

    @property
    def arena_bytes(self) -> int:
        """Bytes of all areas, on a machine with bytes of 8 bits."""
        bits = {Area.CODES_8: 8, Area.CODES_16: 16, Area.CODES_32: 32, Area.FLOATS: 32}
        return sum(size * bits[area] // 8 for area, size in self.sizes.items())


def plan_storage(program: Program, moves: Mapping[str, Moved], where: str) -> Storage:
    """Give each tensor a type and a place; those that do not live at the same time may have the same.

    Parameters
    ----------
    program
        The program.
    moves
        Of the steps that move elements, by name.
    where
        The model, for messages.
    """
    types = {name: type_of(program.tensors[name], where) for name in program.inputs}
    homes: dict[str, str] = {}
    views = set()
    last = _last_uses(program)
    there = {name: [name] for name in program.inputs}  # all tensors in the memory of each home
    for index, step in enumerate(program.steps):
        name = step.tensors[-1]
        types[name] = type_of(program.tensors[name], where)
        moved = moves.get(step.name)
        place = None
        if moved is not None and moved.is_whole and types[moved.sources[0]] is types[name]:
            place = homes.get(moved.sources[0], moved.sources[0])
            views.add(name)
        else:
            for operand in _operands_in_place(program, step, types):
                home = homes.get(operand, operand)
                if home not in program.inputs and all(last.get(other, 0) <= index for other in there[home]):
                    place = home
                    break
        if place is None:
            there[name] = [name]
        else:
            homes[name] = place
            there[place].append(name)
    lives: dict[str, list[int]] = {}
    planned = Storage(types, homes, frozenset(views), {}, {})
    for index, step in enumerate(program.steps):
        for name in (*program.inputs_of(step), step.tensors[-1]):
            lives.setdefault(planned.home(name), []).append(index)
    for name in program.outputs:
        lives.setdefault(planned.home(program.resolve(name)), []).append(len(program.steps))
    spans = {name: (min(times), max(times)) for name, times in lives.items() if name not in program.inputs and name in types}
    offsets: dict[str, int] = {}
    sizes: dict[Area, int] = {}
    for area in Area:
        blocks = [
            _Block(name, math.prod(program.tensors[name].shape), *span)
            for name, span in spans.items()
            if types[name].area is area
        ]
        if blocks:
            placed, sizes[area] = _best_placement(blocks)
            offsets.update(placed)
    return Storage(types, homes, frozenset(views), offsets, sizes)


def _last_uses(program: Program) -> dict[str, int]:
    """The number of the last step that reads each tensor; outputs of the model are read after all steps."""
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        last.update(dict.fromkeys(program.inputs_of(step), index))
    last.update({program.resolve(name): len(program.steps) for name in program.outputs})
    return last


def _operands_in_place(program: Program, step: Step, types: Mapping[str, CType]) -> list[str]:
    """Operands whose place the result can take: each of their elements is read for the one at its own place alone."""
    alone = isinstance(step, Add) or (isinstance(step, HostOperation) and is_a(step.operator, Trait.ELEMENTWISE))
    output = step.tensors[-1]
    return [
        name
        for name in (program.inputs_of(step) if alone else ())
        if types[name] is types[output] and program.tensors[name].shape == program.tensors[output].shape
    ]


@dataclass(frozen=True, slots=True)
class _Block:
    """Memory that is needed from one step to another, both included."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: _Block) -> bool:
        """Whether both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def _best_placement(blocks: Sequence[_Block]) -> tuple[dict[str, int], int]:
    """The smallest of some placements: by size, by time, in random orders, until one needs no more than what lives at once."""
    least = max(sum(block.size for block in blocks if block.first <= one.first <= block.last) for one in blocks)
    generator = np.random.default_rng(0)
    orders = [
        sorted(blocks, key=lambda block: (-block.size, block.first, block.name)),
        sorted(blocks, key=lambda block: (block.first, -block.size, block.name)),
        sorted(blocks, key=lambda block: (-block.last, -block.size, block.name)),
    ]
    best = min((_placed(order) for order in orders), key=lambda found: found[1])
    for _ in range(TRIED_ORDERS if len(blocks) <= MOST_BLOCKS else 0):
        if best[1] <= least:
            break
        best = min(best, _placed([blocks[number] for number in generator.permutation(len(blocks))]), key=lambda found: found[1])
    return best


def _placed(order: Sequence[_Block]) -> tuple[dict[str, int], int]:
    """The lowest free place for each block, one after the other, and the end of the highest."""
    offsets: dict[str, int] = {}
    done: list[_Block] = []
    for block in order:
        taken = sorted((offsets[other.name], offsets[other.name] + other.size) for other in done if block.meets(other))
        start = 0
        for begin, end in taken:
            if start + block.size <= begin:
                break
            start = max(start, end)
        offsets[block.name] = start
        done.append(block)
    return offsets, max(offsets[block.name] + block.size for block in order)
