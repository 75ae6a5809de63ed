"""How one element of a layer came about: its inputs and weights, and every value up to the code, in Python integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from npusim.engine.reference import run_step
from npusim.engine.session import InferenceSession
from npusim.errors import UnknownTensorError, UsageError
from npusim.graph import Array
from npusim.program import (
    Accumulating,
    Batching,
    Clip,
    HostOperation,
    IntegerLayer,
    Program,
    QuantizeStage,
    Step,
    TextRow,
)
from npusim.program.input_stage import DeviceStage
from npusim.program.program import Tensor
from npusim.program.terms import has_terms, padded_count, terms_of
from npusim.program.trace import StepKind, step_kind, unknown_tensor
from npusim.schemas.derivation import Count
from npusim.schemas.objects import UNLISTED

__all__ = [
    "Contribution",
    "ElementArithmetic",
    "FloatOperation",
    "aligned_lines",
    "arithmetic_lines",
    "contributions_of",
    "explain_element",
    "explain_step",
    "find_step",
    "paired_lines",
    "passing_value",
    "real_text",
]


@dataclass(frozen=True, slots=True)
class FloatOperation:
    """One float32 operation of a quantize stage at an element.

    Attributes
    ----------
    operator
        The ONNX operator; words for what a device's own input stage does.
    operands
        Values of its constants there.
    result
        What it gives.
    """

    operator: str
    operands: tuple[float, ...]
    result: float


@dataclass(frozen=True, slots=True)
class ElementArithmetic:
    """How an element comes about; what a kind of layer does not have is null.

    ``biased = accumulator + bias``, ``scaled = biased * scale``, ``unclipped = scaled >> shift`` (floor), and the code is
    `unclipped` within `clip`. With a residual, `unclipped` is first brought into `inner_clip` (`inner_code`), the residual is
    added and the sum brought into `clip`. What a kind of layer does not have is None.

    Attributes
    ----------
    layer
        The layer.
    kind
        Kind of layer, QUANTIZE or HOST.
    tensor
        The tensor of its codes.
    inputs
        Names of the tensors it reads.
    sample
        Number of the sample.
    index
        Position in the sample.
    contributions
        Codes and weights whose products the accumulator is the sum of; for MAXPOOL what the maximum is taken of.
    padded
        Weights that meet padding, which contributes nothing.
    accumulator
        Sum of the products.
    bias
        Added to it.
    scale
        Multiplied with it.
    shift
        Bits it is shifted by.
    biased
        accumulator + bias
    scaled
        biased * scale
    unclipped
        scaled >> shift
    rows
        The arithmetic of the requantization as text.
    zero_point
        What is added to the saturated result; contributions are codes less their zero points.
    residual
        Added behind the inner clip.
    inner_clip
        For PWCONVRES: saturation before the residual is added.
    inner_code
        unclipped within inner_clip
    clip
        Final saturation.
    operations
        For QUANTIZE: the float32 operations in order.
    value
        For QUANTIZE: the float it starts from.
    code
        The result.
    """

    layer: str
    kind: StepKind
    tensor: str
    inputs: tuple[str, ...]
    sample: Count
    index: tuple[Count, ...]
    code: int
    contributions: tuple[Contribution, ...] = ()
    padded: Count = 0
    accumulator: int | None = None
    bias: int | None = None
    scale: int | None = None
    shift: int | None = None
    biased: int | None = None
    scaled: int | None = None
    unclipped: int | None = None
    residual: int | None = None
    inner_clip: Clip | None = None
    inner_code: int | None = None
    rows: tuple[TextRow, ...] = field(default=(), metadata=UNLISTED)
    zero_point: int = field(default=0, metadata=UNLISTED)
    clip: Clip | None = None
    operations: tuple[FloatOperation, ...] = ()
    value: float | None = None

    def __str__(self) -> str:
        """The block that people read; see :func:`arithmetic_lines`."""
        return "\n".join(arithmetic_lines(self))


def explain_element(
    session: InferenceSession, feeds: Mapping[str, Array], layer: str, sample: int, index: Sequence[int]
) -> ElementArithmetic:
    """Show how one element of a layer's codes comes about.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    layer
        Name of the layer, or of a tensor that it gives.
    sample
        Number of the sample.
    index
        Position in the layer's codes, without the sample axis.

    Returns
    -------
    ElementArithmetic
        Prints as one block.

    Raises
    ------
    UnknownTensorError
        If there is no such layer.
    UsageError
        If there is no such sample or element, or the host computes the layer in the graph's float operations.

    Examples
    --------
    >>> arithmetic = explain_element(session, {"input": x}, "/fc/Gemm", 0, (2,))  # doctest: +SKIP
    >>> (arithmetic.biased * arithmetic.scale) >> arithmetic.shift == arithmetic.unclipped  # doctest: +SKIP
    True
    """
    program = session.program
    step = find_step(program, layer)
    count = len(next(iter(feeds.values()))) if feeds else 0
    if not 0 <= sample < count:
        raise UsageError(f"there is no sample {sample}; there are {count}, counted from 0")
    fixed = program.batching is Batching.FIXED
    one = dict(feeds) if fixed else {name: values[sample : sample + 1] for name, values in feeds.items()}
    names = [name for name in program.inputs_of(step) if name not in program.constants]
    trace = session.trace(one, names)
    place = sample if fixed else 0
    if isinstance(step, QuantizeStage):
        return explain_step(program, step, {name: trace[name][place] for name in names}, sample, index)
    # codes stand in traces as in the file, layers compute with them less their zero point and with the channels first
    inputs = {name: program.tensors[program.resolve(name)].as_held(trace[name][place : place + 1])[0] for name in names}
    output = program.tensors[step.tensors[-1]]
    element = explain_step(program, step, inputs, sample, _held_index(output, index))
    if output.order is None and not output.zero_point:
        return element
    return replace(element, index=tuple(index), code=element.code + output.zero_point, zero_point=output.zero_point)


def _held_index(tensor: Tensor, index: Sequence[int]) -> Sequence[int]:
    """A position in a tensor of the file as one in the tensor that the program holds, both without the sample axis."""
    order = tensor.order
    if order is None or len(index) != len(order) - 1:
        return index
    return [index[order.index(axis) - 1] for axis in range(1, len(order))]


def find_step(program: Program, name: str) -> Step:
    """The step of this name, or the one that gives the tensor of this name.

    Raises
    ------
    UnknownTensorError
        If there is none.
    """
    target = program.resolve(name)
    for step in program.steps:
        if name == step.name or target in step.tensors:
            return step
    if name in program.inputs:
        raise UnknownTensorError(f"'{name}' is an input of the model: no layer computes it")
    raise unknown_tensor(name, {step.name: step for step in program.steps})


def explain_step(
    program: Program, step: Step, inputs: Mapping[str, Array], sample: int, index: Sequence[int]
) -> ElementArithmetic:
    """Show how one element of a step's codes comes about from given inputs.

    Parameters
    ----------
    program
        The program of the step.
    step
        The step.
    inputs
        Values of the tensors that it reads as the program holds them (codes less their zero points), for one sample, without
        the sample axis.
    sample
        Number of the sample; it is only reported.
    index
        Position in the step's codes, without the sample axis.

    Raises
    ------
    UsageError
        If there is no such element, or the host computes the step.
    """
    if isinstance(step, HostOperation):
        raise UsageError(
            f"'{step.name}' ({step.operator}) runs on the host as the graph says, not in integers; "
            "ask for a layer that 'npusim inspect' does not call HOST"
        )
    shape = program.tensors[step.tensors[-1]].shape[1:]
    place = tuple(int(item) for item in index)
    if len(place) != len(shape) or not all(0 <= at < size for at, size in zip(place, shape, strict=True)):
        raise UsageError(
            f"there is no element {list(place)} in '{step.tensors[-1]}', which has shape {list(shape)} for one sample"
        )
    if isinstance(step, QuantizeStage):
        return _explain_stage(program, step, inputs[step.input], sample, place)
    if not has_terms(step):
        stacked = {name: inputs[name][np.newaxis] for name in step.inputs}
        code = int(run_step(program, step, stacked, set())[step.output][(0, *place)])
        return ElementArithmetic(step.name, step_kind(step), step.output, step.inputs, sample, place, code)
    return _explain_layer(step, [inputs[name] for name in step.inputs], sample, place)


def _explain_layer(layer: IntegerLayer, inputs: Sequence[Array], sample: int, index: tuple[int, ...]) -> ElementArithmetic:
    inner = _accumulator_index(layer, index)
    contributions = contributions_of(layer, inputs, inner)
    largest = max((one.code for one in contributions), default=0)
    element = ElementArithmetic(layer.name, step_kind(layer), layer.output, layer.inputs, sample, index, largest, contributions)
    if not isinstance(layer, Accumulating):
        return element
    channel = inner[layer.channel_axis - 1]
    part = layer.requantization.for_channels([channel])
    parameters = {name: int(values[0]) for name, values in part.parameters.items()}
    accumulator = sum(one.product for one in contributions)
    sums = np.array([accumulator], np.int64)
    unclipped = part.unclipped(sums)
    added = layer.residual_of(inputs)
    residual = None if added is None else int(added[index])
    return replace(
        element,
        code=int(layer.finish(unclipped, None if residual is None else np.array([residual], np.int64))[0]),
        padded=padded_count(layer, len(contributions)),
        accumulator=accumulator,
        bias=parameters.get("bias"),
        scale=parameters.get("scale"),
        shift=parameters.get("shift"),
        biased=int(part.biased(sums)[0]),
        scaled=int(part.scaled(sums)[0]),
        unclipped=int(unclipped[0]),
        clip=layer.output_clip,
        rows=part.text(accumulator, 0),
        residual=residual,
        inner_clip=None if residual is None else part.clip,
        inner_code=None if residual is None else int(part.clip.apply(unclipped)[0]),
    )


def _accumulator_index(layer: IntegerLayer, index: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(layer, Accumulating) or layer.accumulator_shape == layer.output_shape:
        return index
    flat = int(np.ravel_multi_index(index, layer.output_shape[1:]))
    return tuple(int(item) for item in np.unravel_index(flat, layer.accumulator_shape[1:]))


def _explain_stage(
    program: Program, stage: QuantizeStage, values: Array, sample: int, index: tuple[int, ...]
) -> ElementArithmetic:
    given = values.astype(program.tensors[stage.input].dtype, copy=False)[np.newaxis]
    known = program.stage_values(stage, given)
    if isinstance(stage, DeviceStage):
        return _explain_device_stage(stage, given, known[stage.output], sample, index)
    operations = []
    for node in stage.nodes:
        result = known[node.outputs[0]]
        constants = (program.constants[name] for name in dict.fromkeys(node.inputs) if name in program.constants)
        operands = tuple(float(np.broadcast_to(constant, result.shape)[(0, *index)]) for constant in constants)
        operations.append(FloatOperation(node.op_type, operands, float(result[(0, *index)])))
    start = np.broadcast_to(values, result.shape[1:])
    return ElementArithmetic(
        layer=stage.name,
        kind=step_kind(stage),
        tensor=stage.output,
        inputs=(stage.input,),
        sample=sample,
        index=index,
        code=int(operations[-1].result),
        clip=stage.clip,
        operations=tuple(operations),
        value=float(start[index]),
    )


def _explain_device_stage(
    stage: DeviceStage, values: Array, codes: Array, sample: int, index: tuple[int, ...]
) -> ElementArithmetic:
    place = (0, *index)
    operations = tuple(
        FloatOperation(
            word, () if constant is None else (float(np.broadcast_to(constant, result.shape)[place]),), float(result[place])
        )
        for word, constant, result in stage.operations(values)
    )
    return ElementArithmetic(
        layer=stage.name,
        kind=step_kind(stage),
        tensor=stage.output,
        inputs=(stage.input,),
        sample=sample,
        index=index,
        code=int(codes[place]),
        clip=stage.clip,
        operations=operations,
        value=float(values[place]),
    )


def passing_value(element: ElementArithmetic, limit: int) -> tuple[str, int] | None:
    """The first inner value of an element that passes a limit, and what it is; None where none does.

    Sums may be added in any order, so that a partial sum can be that of all positive, or all negative, products.

    Parameters
    ----------
    element
        How the element comes about.
    limit
        The largest magnitude that does not pass.

    Examples
    --------
    The products 9, 9 and -9 are summed to 9, and on the way perhaps to 18: with a limit of 10 that is the partial sum 18.
    """
    named = (
        ("accumulator", element.accumulator),
        ("sum with the bias", element.biased),
        ("scaled accumulator", element.scaled),
    )
    products = [one.product for one in element.contributions] if element.accumulator is not None else []
    ends = (sum(value for value in products if value > 0), sum(value for value in products if value < 0))
    inner = (*named, ("sum of the products of one sign", max(ends, key=abs)))
    return next(((what, int(value)) for what, value in inner if value is not None and abs(value) > limit), None)


@dataclass(frozen=True, slots=True)
class Contribution:
    """A code that goes into an element.

    Attributes
    ----------
    position
        Where the code is in the layer's input (for ADD in the operand), without the sample axis.
    code
        The code.
    weight
        What it is multiplied with; 1 for sums, null for a maximum.
    operand
        Number of the input it comes from.
    """

    json_names: ClassVar[tuple[str, ...]] = ("position", "code", "weight", "operand", "product")

    position: tuple[Count, ...]
    code: int
    weight: int | None
    operand: Count = 0

    @property
    def product(self) -> int:
        """``code * weight``; the code where there is no weight."""
        return self.code * (1 if self.weight is None else self.weight)


def contributions_of(layer: IntegerLayer, inputs: Sequence[Array], index: tuple[int, ...]) -> tuple[Contribution, ...]:
    """List what an element of a layer's accumulator is the sum of, or for MAXPOOL the maximum of.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs for one sample, without the sample axis.
    index
        Position in the accumulator, without the sample axis.

    Returns
    -------
    tuple of Contribution
        In the order of the weights. Codes in the padding, which are 0, are left out.

    Examples
    --------
    A kernel of 3 with stride 2 and one padded code in front: element 1 reads the codes 1, 2 and 3.
    """
    terms = terms_of(layer, index)
    found = []
    for operand, place, weight in zip(terms.inputs.tolist(), terms.places.tolist(), terms.weights.tolist(), strict=True):
        position = tuple(int(item) for item in np.unravel_index(place, inputs[operand].shape))
        found.append(Contribution(position, int(inputs[operand][position]), weight if terms.summed else None, operand))
    return tuple(found)


_LETTERS = ("A", "B")

SHOWN = 12
"""Contributions listed; of more than these, the largest ones and the sum of the rest."""


def arithmetic_lines(element: ElementArithmetic, *, shown: int = SHOWN) -> list[str]:
    """One block: the inputs and weights, then every value up to the code.

    Parameters
    ----------
    element
        The arithmetic.
    shown
        Contributions listed at most; the others are summed up in one line.
    """
    lines = [f"{element.kind} '{element.layer}', sample {element.sample}, element {list(element.index)} of '{element.tensor}'"]
    lines.extend(f"  {line}" for line in _contribution_lines(element, shown))
    rows = _rows(element)
    label, formula, value = (max((len(row[column]) for row in rows), default=0) for column in range(3))
    lines.extend(f"  {row[0]:<{label}}  {row[1]:<{formula}}  {row[2]:>{value}}".rstrip() for row in rows)
    return lines


def paired_lines(
    first: ElementArithmetic, second: ElementArithmetic, names: tuple[str, str], *, shown: int = SHOWN
) -> list[str]:
    """Two elements side by side, rows that differ marked with ``!!``.

    Parameters
    ----------
    first, second
        The arithmetic of both.
    names
        What the columns are called.
    shown
        Contributions listed at most: those whose products differ most.
    """
    lines = [
        f"{letter}: {name}, {side.kind} '{side.layer}', element {list(side.index)} of '{side.tensor}'"
        for letter, name, side in zip(_LETTERS, names, (first, second), strict=True)
    ]
    lines.append(f"sample {first.sample}")
    lines.extend(f"  {line}" for line in _paired_contributions(first, second, shown))
    left, right = _values(first), _values(second)
    labels = list(dict.fromkeys([*left, *right]))
    return [*lines, *_marked([("", *_LETTERS), *((label, left.get(label, ""), right.get(label, "")) for label in labels)])]


def _values(element: ElementArithmetic) -> dict[str, str]:
    """Parameters and results in order, by label."""
    if element.operations:
        found = {"input": real_text(element.value)}
        for one in element.operations:
            operands = ", ".join(real_text(operand) for operand in one.operands)
            found[_free(found, one.operator + (" of" if operands else ""))] = operands or real_text(one.result)
            if operands:
                found[_free(found, f"after {one.operator}")] = real_text(one.result)
        return {**found, "code": str(element.code)}
    listed: dict[str, int | None] = {
        "accumulator": element.accumulator,
        "bias": element.bias,
        "+ bias": element.biased,
        "scale": element.scale,
        "* scale": element.scaled,
        "shift": element.shift,
        ">> shift": element.unclipped,
        "inner clip": element.inner_code,
        "residual": element.residual,
    }
    shown = {label: str(value) for label, value in listed.items() if value is not None}
    limits = {} if element.clip is None else {"clip": f"{element.clip.lower}..{element.clip.upper}"}
    return {**shown, **limits, "code": str(element.code)}


def _free(known: Mapping[str, str], label: str) -> str:
    """A label that is not used yet: a stage may hold two operations of one kind."""
    return next(name for name in (label, *(f"{label} ({count})" for count in range(2, 99))) if name not in known)


def _rows(element: ElementArithmetic) -> list[tuple[str, str, str]]:
    """Label, formula and result of each operation."""
    if element.operations:
        return _stage_rows(element)
    if element.accumulator is None:
        return [("maximum", f"of {len(element.contributions)}", str(element.code)), ("code", "", str(element.code))]
    rows = [
        ("accumulator", _sum_text(element), str(element.accumulator)),
        *((row.label, row.formula, str(row.value)) for row in element.rows),
    ]
    if element.inner_clip is not None:
        rows.append(("clip", f"to {element.inner_clip.lower}..{element.inner_clip.upper}", str(element.inner_code)))
        total = (element.inner_code or 0) + (element.residual or 0)
        rows.append(("residual", f"{element.inner_code} + {_signed(element.residual)}", str(total)))
    if element.clip is not None:
        centred = element.code - element.zero_point
        rows.append(("code", f"clip to {element.clip.lower}..{element.clip.upper}", str(centred)))
        if element.zero_point:
            rows.append(("zero point", f"{centred} + {_signed(element.zero_point)}", str(element.code)))
    return rows


def _stage_rows(element: ElementArithmetic) -> list[tuple[str, str, str]]:
    rows = [("input", "float32", real_text(element.value))]
    rows.extend(
        (one.operator, ", ".join(real_text(operand) for operand in one.operands), real_text(one.result))
        for one in element.operations
    )
    return [*rows, ("code", "", str(element.code))]


def _contribution_lines(element: ElementArithmetic, shown: int) -> list[str]:
    items = element.contributions
    if not items:
        return []
    listed = _largest(items, [abs(one.product) for one in items], shown)
    names = [f"'{name}'" for name in element.inputs[: 1 + max(one.operand for one in items)]]
    weighted = element.accumulator is not None
    table = [("at", "code", "weight", "product") if weighted else ("at", "code")]
    for one in listed:
        where = str(list(one.position)) + (f" of {names[one.operand]}" if len(names) > 1 else "")
        table.append((where, str(one.code), str(one.weight), str(one.product)) if weighted else (where, str(one.code)))
    rest = len(items) - len(listed)
    if rest and weighted:
        total = sum(one.product for one in items) - sum(one.product for one in listed)
        table.append((f"{rest} others, each at most {min(abs(one.product) for one in listed)}", "", "", str(total)))
    elif rest:
        table.append((f"{rest} others, none larger", ""))
    heading = f"input {' and '.join(names)}" + (f" ({element.padded} more in the padding, 0)" if element.padded else "")
    return [heading, *(f"  {line}" for line in aligned_lines(table))]


def _largest(items: Sequence[Contribution], sizes: Sequence[int], shown: int) -> list[Contribution]:
    """The items with the largest sizes, in their own order."""
    order = sorted(range(len(items)), key=lambda at: -sizes[at])[:shown]
    return [items[at] for at in sorted(order)]


def _paired_contributions(first: ElementArithmetic, second: ElementArithmetic, shown: int) -> list[str]:
    left, right = ({(one.operand, one.position): one for one in side.contributions} for side in (first, second))
    keys = list(dict.fromkeys([*left, *right]))
    if not keys:
        return []
    sizes = [abs(_product(left.get(key)) - _product(right.get(key))) for key in keys]
    order = sorted(sorted(range(len(keys)), key=lambda at: -sizes[at])[:shown])
    table = [("at", "code", "weight", "product", "code", "weight", "product")]
    for key in (keys[at] for at in order):
        table.append((str(list(key[1])), *_cells(left.get(key)), *_cells(right.get(key))))
    rest = [keys[at] for at in range(len(keys)) if at not in set(order)]
    if rest:
        totals = [str(sum(_product(side.get(key)) for key in rest)) for side in (left, right)]
        table.append((f"{len(rest)} others", "", "", totals[0], "", "", totals[1]))
    return ["inputs: left A, right B", *(f"  {line}" for line in aligned_lines(table))]


def _product(one: Contribution | None) -> int:
    return 0 if one is None else one.product


def _cells(one: Contribution | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    return str(one.code), "" if one.weight is None else str(one.weight), str(one.product)


def _marked(table: Sequence[tuple[str, ...]]) -> list[str]:
    lines = aligned_lines(table)
    return [
        ("!! " if at and row[1] != row[2] else "   ") + line for at, (row, line) in enumerate(zip(table, lines, strict=True))
    ]


def aligned_lines(table: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows of a table as lines, each column as wide as its longest cell."""
    sizes = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.rjust(size) if column else cell.ljust(size) for column, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in table
    ]


def _sum_text(element: ElementArithmetic) -> str:
    return f"sum of {len(element.contributions)} products"


def _signed(value: int | None) -> str:
    return f"({value})" if value is not None and value < 0 else str(value)


def real_text(value: float | None) -> str:
    """A float32 with the digits that tell it from all others."""
    if value is None:
        return ""
    return str(int(value)) if value % 1 == 0 and abs(value) < 2**53 else str(np.float32(value))
