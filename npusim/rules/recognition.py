"""Findings on how a file was read: what a tool between the exporter and npusim has done to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from npusim.findings import SourcedFinding
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, Program

__all__ = ["is_for_npu", "recognition_findings"]

NPU_ARITHMETIC: Final = "npu"
"""The arithmetic that TI's NPU computes."""

INFERRED: Final = "tvm"
"""The arithmetic that is known from sources, not measured on a device."""


def recognition_findings(program: Program) -> Iterator[SourcedFinding]:
    """All findings on how a program was read; none for what the known exporters write."""
    yield from _folded(program)
    yield from _other_format(program)
    yield from _float(program)


def is_for_npu(program: Program) -> bool:
    """Whether the layers of a program are in the arithmetic of TI's NPU, so that its rules apply to them."""
    return program.arithmetic == NPU_ARITHMETIC


def _other_format(program: Program) -> Iterator[SourcedFinding]:
    """What a TI device does with a model of another format."""
    if is_for_npu(program) or not program.layers:
        return
    inferred = "; how that code rounds is inferred, not measured" if program.arithmetic == INFERRED else ""
    yield SourcedFinding(
        "other-format",
        "warning",
        None,
        f"the model is of the format '{program.format}': a device of TI runs its {len(program.layers)} integer layers as C "
        f"code on the CPU, none on the NPU; npusim computes them in the arithmetic '{program.arithmetic}'{inferred}",
        "for the NPU, train or quantize with the wrapper for it (TINPUTinyMLQATFxModule), or take 'npusim quantize' on the "
        "float model",
        {"format": program.format, "arithmetic": program.arithmetic, "layers": len(program.layers)},
    )


def _float(program: Program) -> Iterator[SourcedFinding]:
    """A model that nothing was quantized in, though it has layers that could be."""
    weighted = [step for step in program.host_operations if is_a(step.operator, Trait.WEIGHTED)]
    if program.layers or not weighted:
        return
    yield SourcedFinding(
        "no-quantization",
        "warning",
        None,
        f"no layer of the model is quantized: all of its {len(weighted)} layers with weights are computed in float on the host",
        "quantize it with 'npusim quantize' or the vendor's wrapper, and look whether the export dropped the quantization",
        {"layers": len(weighted)},
        node=weighted[0].name,
        tensor=weighted[0].tensors[0],
    )


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
