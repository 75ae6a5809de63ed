"""Findings on how a file was read: what a tool between the exporter and npusim has done to it."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.findings import SourcedFinding
from npusim.program import Accumulating, Program

__all__ = ["recognition_findings"]


def recognition_findings(program: Program) -> Iterator[SourcedFinding]:
    """All findings on how a program was read; none for what the known exporters write."""
    yield from _folded(program)


def _folded(program: Program) -> Iterator[SourcedFinding]:
    folded = [layer for layer in program.layers if isinstance(layer, Accumulating) and layer.is_folded]
    if not folded:
        return
    others = f" and {len(folded) - 1} more layers" if len(folded) > 1 else ""
    yield SourcedFinding(
        "folded-scale",
        "warning",
        None,
        f"a simplifier has folded the scale into the weights of '{folded[0].name}'{others}; weights and scale were taken "
        "apart again, exactly",
        "give the vendor's compiler the file as exported: whether it reads fractional weights is not known",
        {"layers": [layer.name for layer in folded]},
        node=folded[0].nodes[0],
        tensor=folded[0].tensors[0],
    )
