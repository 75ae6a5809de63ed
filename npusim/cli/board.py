"""What ``npusim golden check`` prints of a board: its layers, the first that differs, and the element with its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.cli.output import Column, Row, count, number, paragraph, render_table
from npusim.results.board import BoardCheckResult

__all__ = ["board_lines"]

COLUMNS = (
    Column("tensor", shrinks=True),
    Column("kind"),
    Column("sets", right=True),
    Column("differing\nsets", right=True),
)


def board_lines(result: BoardCheckResult, width: int) -> Iterator[str]:
    """A table of the layers, what differs first, and what to do next."""
    rows = [
        Row((layer.tensor, layer.kind, str(len(layer.sets)), str(len(layer.wrong))), marked=not layer)
        for layer in result.layers
    ]
    yield from render_table(COLUMNS, rows, width)
    yield ""
    for finding in result.findings:
        yield paragraph(f"{finding.message[:1].upper()}{finding.message[1:]}. To do: {finding.remedy}.", width)
    if result.first is not None:
        first = result.first
        place = ", ".join(str(item) for item in first.index)
        yield paragraph(
            f"First value that differs: set {first.set}, element [{place}]: seen {number(first.seen)}, wanted "
            f"{number(first.wanted)}.",
            width,
        )
        yield from (f"  {line}" for line in first.arithmetic)
    if result.next:
        yield paragraph(f"Next: {result.next}.", width)
    totals = result.totals
    verdict = f"{totals.differing:,} of {count(totals.sums, 'CRC-32')} differ" if totals.differing else "all equal"
    runs = count(totals.runs, "run")
    yield f"{result.record}: {count(totals.sums, 'CRC-32')} of {count(totals.layers, 'layer')} in {runs}, {verdict}"
