"""Integers against integers, for equality: another quantized model, onnxruntime or a device dump, and the arithmetic behind."""

from __future__ import annotations

from npusim.comparison.exact.arithmetic import ElementArithmetic, explain_element
from npusim.comparison.exact.comparison import Divergence, ExactComparison, compare_models
from npusim.comparison.exact.differences import LayerDifferences
from npusim.comparison.exact.dump import LAYOUTS, compare_with_dump
from npusim.comparison.exact.findings import exact_findings
from npusim.comparison.exact.runtime import compare_with_runtime

__all__ = [
    "LAYOUTS",
    "Divergence",
    "ElementArithmetic",
    "ExactComparison",
    "LayerDifferences",
    "compare_models",
    "compare_with_dump",
    "compare_with_runtime",
    "exact_findings",
    "explain_element",
]
