"""Integers against integers, for equality: another quantized model, onnxruntime or a device dump, and the arithmetic behind."""

from __future__ import annotations

from npusim.verification.arithmetic import ElementArithmetic, explain_element
from npusim.verification.comparison import Divergence, ExactComparison, compare_models
from npusim.verification.differences import LayerDifferences
from npusim.verification.dump_reading import LAYOUTS
from npusim.verification.dumps import compare_with_dump
from npusim.verification.findings import exact_findings
from npusim.verification.runtime import (
    ONNXRUNTIME,
    Difference,
    SettingComparison,
    StepComparison,
    Verification,
    compare_with_runtime,
    verify,
)

__all__ = [
    "LAYOUTS",
    "ONNXRUNTIME",
    "Difference",
    "Divergence",
    "ElementArithmetic",
    "ExactComparison",
    "LayerDifferences",
    "SettingComparison",
    "StepComparison",
    "Verification",
    "compare_models",
    "compare_with_dump",
    "compare_with_runtime",
    "exact_findings",
    "explain_element",
    "verify",
]
