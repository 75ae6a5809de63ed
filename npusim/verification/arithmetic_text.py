"""The arithmetic of elements as text: one block each, or two side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npusim.verification.arithmetic import ElementArithmetic
from npusim.verification.contributions import Contribution

if TYPE_CHECKING:
    from npusim.verification.comparison import Divergence

__all__ = ["arithmetic_lines", "divergence_lines", "paired_lines"]

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
        found = {"input": _real(element.value)}
        for one in element.operations:
            operands = ", ".join(_real(operand) for operand in one.operands)
            found[_free(found, one.operator + (" of" if operands else ""))] = operands or _real(one.result)
            if operands:
                found[_free(found, f"after {one.operator}")] = _real(one.result)
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


def divergence_lines(divergence: Divergence) -> list[str]:
    """The first difference of a comparison: both values, and the arithmetic of both sides as far as it is known."""
    row, names = divergence.layer, divergence.names
    if row.first is None:
        return []
    place = f"sample {row.first.sample}, element {list(row.first.index)}"
    lines = [f"first difference: '{row.name}' ({row.kind}), {place}"]
    if divergence.model is not None and divergence.other is not None:
        lines.append(f"A {_real(row.first.value)}, B {_real(row.first.other)}")
        return [*lines, *paired_lines(divergence.model, divergence.other, names)]
    lines.append(f"{names[0]} {_real(row.first.value)}, {names[1]} {_real(row.first.other)}")
    if divergence.model is None:
        return [*lines, "the host computes it in the graph's float operations"]
    lines.extend(arithmetic_lines(divergence.model))
    if divergence.other_values:
        lines.append(f"what {names[1]} holds at this element")
        lines.extend(
            f"  {line}" for line in _aligned([(name, _real(value)) for name, value in divergence.other_values.items()])
        )
    return lines


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
        rows.append(("code", f"clip to {element.clip.lower}..{element.clip.upper}", str(element.code)))
    return rows


def _stage_rows(element: ElementArithmetic) -> list[tuple[str, str, str]]:
    rows = [("input", "float32", _real(element.value))]
    rows.extend(
        (one.operator, ", ".join(_real(operand) for operand in one.operands), _real(one.result)) for one in element.operations
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
    return [heading, *(f"  {line}" for line in _aligned(table))]


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
    return ["inputs: left A, right B", *(f"  {line}" for line in _aligned(table))]


def _product(one: Contribution | None) -> int:
    return 0 if one is None else one.product


def _cells(one: Contribution | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    return str(one.code), "" if one.weight is None else str(one.weight), str(one.product)


def _marked(table: Sequence[tuple[str, ...]]) -> list[str]:
    lines = _aligned(table)
    return [
        ("!! " if at and row[1] != row[2] else "   ") + line for at, (row, line) in enumerate(zip(table, lines, strict=True))
    ]


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
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


def _real(value: float | None) -> str:
    """A float32 with the digits that tell it from all others."""
    if value is None:
        return ""
    return str(int(value)) if value % 1 == 0 and abs(value) < 2**53 else str(np.float32(value))
