"""``npusim golden check`` as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npusim.cli.output import count, number, paragraph
from npusim.cli.tables import Column, Row, render_table
from npusim.files.dumps import Dump
from npusim.golden.check import Check, WeighedCause

__all__ = ["check_lines"]

COLUMNS = (
    Column("tensor", shrinks=True),
    Column("kind"),
    Column("sets", right=True),
    Column("values", right=True),
    Column("differing", right=True),
    Column("largest\ndifference", right=True),
)

SHOWN = 6
"""Causes listed for one array."""


def check_lines(checks: Sequence[Check], dump: Dump, width: int) -> Iterator[str]:
    """A table of what was compared, and for each difference what explains it, line by line."""
    rows = [
        Row(
            (
                check.tensor,
                check.kind,
                _sets(check.sets),
                f"{check.values:,}",
                f"{check.differing:,}",
                number(check.largest) if check.differing else "-",
            ),
            marked=not check,
        )
        for check in checks
    ]
    yield from render_table(COLUMNS, rows, width)
    yield ""
    for note in (*dump.notes, *dict.fromkeys(check.note for check in checks if check.note)):
        yield paragraph(f"Reading: {note}.", width)
    for check in checks:
        if not check:
            yield from _difference(check, width)
    differing, values = (sum(item) for item in zip(*((check.differing, check.values) for check in checks), strict=True))
    verdict = f"{differing:,} of {count(values, 'value')} differ" if differing else f"{count(values, 'value')}, all equal"
    yield f"{dump.path} ({dump.format}): {verdict}"


def _sets(sets: Sequence[int]) -> str:
    return str(sets[0]) if len(sets) == 1 else f"{sets[0]}-{sets[-1]}"


def _difference(check: Check, width: int) -> Iterator[str]:
    if check.first is not None:
        place = ", ".join(str(item) for item in check.first.index)
        yield paragraph(
            f"First difference in {check.array}: set {check.first.set_index}, value {check.first.position}, which is "
            f"{check.tensor}[{place}]: seen {number(check.first.seen)}, wanted {number(check.first.wanted)}.",
            width,
        )
    causes = check.causes
    if causes is None:
        return
    if causes.stated:
        yield "Explained by:" if len(causes.stated) == 1 else "Explained equally well by each of:"
        yield from _causes(causes.stated, width)
    else:
        tried = count(causes.tried, "cause")
        yield paragraph(f"Unexplained: none of {tried} accounts for the differences better than chance.", width)
        if causes.possible:
            yield "Too few values differ to tell; these would fit:"
            yield from _causes(causes.possible, width)
    yield ""


def _causes(causes: Sequence[WeighedCause], width: int) -> Iterator[str]:
    for item in causes[:SHOWN]:
        cause = item.hypothesis
        text = f"* {cause.message} ({item.explained:,} of {item.differing:,} differences). To do: {cause.remedy}."
        yield "  " + paragraph(text, width - 4).replace("\n", "\n    ")
    if len(causes) > SHOWN:
        yield f"  and {len(causes) - SHOWN} more"
