"""Whether anything of a model is quantized: what is proven or compared of a float model says nothing about an NPU."""

from __future__ import annotations

from typing import Final

from npusim.findings import Finding
from npusim.graph.traits import FOREIGN_QUANTIZATION
from npusim.program import Program

__all__ = ["NOT_QUANTIZED", "not_quantized"]

NOT_QUANTIZED: Final = "not-quantized"
"""The rule, as in `npusim lint`."""


def not_quantized(program: Program, *, allow_float: bool) -> tuple[Finding, ...]:
    """The finding on a model of which nothing is quantized; none where that is allowed.

    Parameters
    ----------
    program
        The model's program.
    allow_float
        Whether a float model is what is wanted.
    """
    foreign = any(step.operator in FOREIGN_QUANTIZATION for step in program.host_operations)
    if allow_float or program.layers or program.quantize_stages or foreign:
        return ()
    message = "nothing of the model is quantized: it has no integer layer, no quantize stage and no quantized operator"
    remedy = (
        "quantize it first ('npusim quantize MODEL --calibration FILE -o OUT.onnx', or the vendor's wrapper); where a float "
        "model is meant, say so with --allow-float"
    )
    return (Finding(NOT_QUANTIZED, "error", None, message, remedy, None),)
