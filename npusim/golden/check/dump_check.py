"""Holding a device dump, or the parameters in a generated header, against what is right, and explaining the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.input_stages import stage_parameters
from npusim.errors import InputError
from npusim.files.dumps import Dump, DumpArray, Role
from npusim.golden.check.buffer_causes import Buffer
from npusim.golden.check.evidence import Hypothesis, Ranking, WeighedCause, rank
from npusim.golden.check.explanation import Simulated, explain
from npusim.graph import Array
from npusim.program import Program, QuantizeStage
from npusim.program.input_stage import InputStage, input_stages
from npusim.schemas.derivation import Count, Minimum
from npusim.verification.dump_reading import DumpedTensor, read_tensors

__all__ = ["Check", "Expectation", "Mismatch", "check_dump", "check_header", "is_header"]


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What is right, for all sets.

    Attributes
    ----------
    program
        The model.
    feeds
        Inputs of the sets, samples on the first axis.
    variant
        The input stage.
    values
        Gives a tensor of the program over all sets as the device holds it.
    """

    program: Program
    feeds: Mapping[str, Array]
    variant: InputStage
    values: Callable[[str], Array]

    @property
    def sets(self) -> int:
        """Number of sets."""
        return len(next(iter(self.feeds.values())))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first value that differs.

    Attributes
    ----------
    set_index
        Set or sample.
    index
        Index in the tensor of one set, in ONNX layout.
    position
        Position among the values of this set in the dump.
    seen, wanted
        The values.
    """

    set_index: Count
    index: tuple[Count, ...]
    position: Count
    seen: float
    wanted: float


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One array of the dump against one tensor.

    Attributes
    ----------
    tensor
        ONNX name.
    layer
        Name of the step that makes the tensor; empty for an input.
    kind
        Layer type, QUANTIZE, HOST or INPUT.
    array
        The array in the dump and where it starts.
    note
        How it was read where the file leaves that open; empty where it does not.
    sets
        Numbers of the sets compared.
    values
        Values compared.
    differing
        Values that differ.
    largest
        Largest difference; of codes in steps.
    first
        The first difference.
    causes
        What explains the differences; None where there are none.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name=layer", "tensor", "kind", "array", "reading=note", "sets", "values", "differing", "largest_difference=largest"),
        *("first", "explained", "causes=stated", "possible", "tried", "untried"),
    )

    tensor: str
    layer: str
    kind: str
    array: str
    note: str
    sets: tuple[Count, ...]
    values: Annotated[int, Minimum(1)]
    differing: Count
    largest: float
    first: Mismatch | None
    causes: Ranking | None

    @property
    def stated(self) -> tuple[WeighedCause, ...]:
        """What explains all differences, and better than chance, while nothing else does."""
        return () if self.causes is None else self.causes.stated

    @property
    def possible(self) -> tuple[WeighedCause, ...]:
        """What fits all differences but not alone, or too few of them to tell it from chance; or a part of them."""
        return () if self.causes is None else self.causes.possible

    @property
    def explained(self) -> bool:
        """Whether a cause is stated."""
        return bool(self.stated)

    @property
    def tried(self) -> Count:
        """Different predictions that were tried."""
        return 0 if self.causes is None else self.causes.tried

    @property
    def untried(self) -> tuple[str, ...]:
        """Layers in whose arithmetic no other rounding was tried; empty where a cause is stated."""
        return () if self.causes is None else self.causes.untried

    def __bool__(self) -> bool:
        """True when all values are equal."""
        return self.values > 0 and self.differing == 0


def check_dump(
    expectation: Expectation,
    dump: Dump,
    *,
    tensor: str | None = None,
    set_index: int | None = None,
    layout: str = "nchw",
    explained: bool = True,
) -> tuple[Check, ...]:
    """Compare a dump with what is right, exactly.

    How a dump is read says :func:`npusim.verification.dump_reading.read_tensors`.

    Parameters
    ----------
    expectation
        What is right.
    dump
        What the device wrote.
    tensor
        Name of the tensor; by default the array's name or its size says it.
    set_index
        The set that the device ran.
    layout
        One of `npusim.verification.LAYOUTS`.
    explained
        Whether to look for causes of differences.

    Returns
    -------
    tuple
        At least one check.

    Raises
    ------
    InputError
        If an array has another length than the tensor, or none is a result.
    UsageError
        If there is no such set, tensor or layout.
    """
    found = read_tensors(
        expectation.program,
        dump,
        expectation.values,
        expectation.sets,
        tensor=tensor,
        set_index=set_index,
        layout=layout,
    )
    return tuple(_check(expectation, item, explained=explained) for item in found)


def _check(expectation: Expectation, item: DumpedTensor, *, explained: bool) -> Check:
    """Compare one tensor, and look for causes of differences."""
    seen, expected = item.seen, item.expected
    differs = seen != expected
    causes = None
    if differs.any() and explained:
        buffer = Buffer(seen, expected, item.right[list(item.sets)], item.layout, item.sets, item.all_sets)
        causes = explain(buffer, Simulated(expectation.program, expectation.feeds, expectation.variant, item.name))
    return Check(
        item.name,
        item.layer,
        item.kind,
        item.described,
        item.note,
        item.sets,
        differs.size,
        int(differs.sum()),
        float(np.abs(seen.astype(np.float64) - expected.astype(np.float64)).max()),
        _first(seen, expected, item.sets, item.right.shape[1:], item.layout),
        causes,
    )


def _first(seen: Array, expected: Array, sets: Sequence[int], shape: tuple[int, ...], layout: str) -> Mismatch | None:
    differs = seen != expected
    if not differs.any():
        return None
    row, position = (int(place) for place in np.argwhere(differs)[0])
    if layout == "nhwc" and len(shape) > 1:
        *rest, channel = np.unravel_index(position, (*shape[1:], shape[0]))
        index = (int(channel), *(int(place) for place in rest))
    else:
        index = tuple(int(place) for place in np.unravel_index(position, shape)) if shape else ()
    return Mismatch(sets[row], index, position, seen[row, position].item(), expected[row, position].item())


_PARAMETERS: Final = (Role.BIAS, Role.SCALE, Role.SHIFT)


def is_header(dump: Dump) -> bool:
    """Whether a dump is a generated model header."""
    return dump.format == "tvmgen"


def check_header(program: Program, dump: Dump) -> tuple[Check, ...]:
    """Compare bias, scale and shift in a generated header with the offset, multiplier and shift of the input stage.

    An array of one value stands for all channels.

    Parameters
    ----------
    program
        The model.
    dump
        The header.

    Raises
    ------
    InputError
        If the header has no such arrays, its inputs have other names, an array has another length, or the model has no or
        several input stages.
    """
    arrays = [array for array in dump.arrays if array.role in _PARAMETERS]
    if not arrays:
        raise InputError(f"{dump.path}: holds no parameters of the input stage; compile the model with skip_normalize")
    stages = input_stages(program)
    if len(stages) != 1:
        raise InputError(f"{dump.path}: holds the parameters of one input stage, the model has {len(stages)}")
    return tuple(_check_field(program, stages[0], dump, array) for array in arrays)


def _check_field(program: Program, stage: QuantizeStage, dump: Dump, array: DumpArray) -> Check:
    known = stage_parameters(program, stage)
    right: dict[Role, npt.NDArray[Any]] = {Role.BIAS: known.offset, Role.SCALE: known.multiplier, Role.SHIFT: known.shift}
    wanted = right[Role(str(array.role))].astype(np.float64).ravel()
    channels = max(known.offset.size, known.multiplier.size, known.shift.size)
    wanted = np.broadcast_to(wanted, channels) if wanted.size == 1 else wanted
    seen = array.values.astype(np.float32).astype(np.float64).ravel()
    if seen.size not in (1, channels):
        raise InputError(f"{dump.path}: {array.described}: {seen.size} values, wanted 1 or {channels}, one for each channel")
    seen = np.broadcast_to(seen, channels)
    differs = seen != wanted
    first = None
    if differs.any():
        place = int(differs.argmax())
        first = Mismatch(0, (place,), place, float(seen[place]), float(wanted[place]))
    causes = rank(_causes(wanted), seen[None], wanted[None]) if differs.any() else None
    return Check(
        stage.output,
        stage.name,
        "QUANTIZE",
        array.described,
        f"the input stage's {array.role}",
        (0,),
        channels,
        int(differs.sum()),
        float(np.abs(seen - wanted).max()),
        first,
        causes,
    )


def _causes(wanted: npt.NDArray[np.float64]) -> Iterator[Hypothesis]:
    remedy = "compile the model with a compiler from 2.1.1 on, which keeps the fraction"
    message = "the values are rounded to integers, as compilers before 2.1.1 do it"
    ways = {rounded.tobytes(): rounded for rounded in (np.rint(wanted), np.trunc(wanted), np.floor(wanted))}
    for rounded in ways.values():
        if not np.array_equal(rounded, wanted):
            yield Hypothesis("rounded_parameters", message, remedy, rounded[None], chance=1 / 64)
