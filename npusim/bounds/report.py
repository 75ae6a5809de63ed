"""What a certificate means for whoever has to act on it: findings with their severity and a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from npusim.bounds.certificate import Certificate, StepCertificate
from npusim.bounds.channels import has_digits
from npusim.bounds.verdicts import Judgement, Property, Verdict
from npusim.bounds.widths import MAXIMUM_SHIFT, widths_of
from npusim.findings import Finding
from npusim.program import Accumulating, IntegerArray, IntegerLayer, Weighted

__all__ = ["RULES", "findings_of"]

RULES: Final = (*(str(statement) for statement in Property), "bias_width", "scale_width", "shift_width", "weight_width")
"""What findings on a certificate can be about."""

_HOST: Final = "compare with 'npusim verify', which holds such an operation against a proven limit and all others for equality"

_UNEXAMINED: Final = "compare its codes with the runtime's with 'npusim verify'"

_REMEDIES: Final[Mapping[Property, str]] = {
    Property.ONNXRUNTIME_EXACT: "where onnxruntime gives another code at this layer, rely on npusim's: the device computes in "
    "integers as well",
    Property.SOFT_INT32: "make the layer smaller: fewer inputs to each output, or a smaller scale or bias",
    Property.DIGIT_18BIT: "what the NPU does past 18 bits is not documented: try the layer on the device with large inputs, or "
    "split it so that fewer inputs go into each output",
    Property.ONNXRUNTIME_OPTIMIZED: "switch onnxruntime's graph optimizations off where it serves as the reference",
    Property.ACCUMULATOR_INT32: "make the layer smaller, with fewer inputs to each output, or try it on the device with large "
    "inputs",
    Property.PRODUCT_INT32: "export the layer with a smaller k or lambda, or make it smaller: fewer inputs to each output",
}


def findings_of(certificate: Certificate, *, strict: bool = False) -> tuple[Finding, ...]:
    """List what is violated, what is not proven, and which parameters do not fit their widths.

    Parameters
    ----------
    certificate
        What is known of a program.
    strict
        Make an error of a property that is not proven, else a warning.
    """
    return tuple(finding for step in certificate.steps for finding in _step_findings(step, strict))


def _step_findings(step: StepCertificate, strict: bool) -> Iterator[Finding]:
    for statement, judgement in step.judgements.items():
        same = judgement is step.judgements.get(Property.ONNXRUNTIME_EXACT) and statement is Property.ONNXRUNTIME_OPTIMIZED
        if not judgement.holds and not same:
            severity = _severity(statement, judgement, strict)
            remedy = _HOST if step.kind == "HOST" else _REMEDIES[statement]
            if step.bounds is None and not step.is_of_npu:
                remedy = _UNEXAMINED
            yield Finding(str(statement), severity, step.name, judgement.reason, remedy, judgement.evidence)
    if step.bounds is not None and step.is_of_npu:
        yield from _width_findings(step.bounds.layer)


def _severity(statement: Property, judgement: Judgement, strict: bool) -> str:
    if judgement.verdict is Verdict.VIOLATED:
        return "error"
    if statement is Property.ONNXRUNTIME_OPTIMIZED:
        return "info"
    return "error" if strict else "warning"


def _width_findings(layer: IntegerLayer) -> Iterator[Finding]:
    if not isinstance(layer, Accumulating):
        return
    part, widths = layer.requantization.parameters, widths_of(layer)
    if widths is not None:
        limit = 1 << (widths.bias - 1)
        text = f"its bias has {widths.bias} bits, signed"
        remedy = "retrain or requantize the layer: exporters do not check the width, and the device's value would be another"
        yield from _outside(layer, "bias", part["bias"], -limit, limit - 1, text, remedy)
        one = widths.scale == 1
        text = "with 8-bit weights its scale is always 1" if one else f"its scale has {widths.scale} bits, unsigned"
        remedy = "export the layer again: a scale outside of its width has no representation on the NPU"
        yield from _outside(layer, "scale", part["scale"], 1 if one else 0, (1 << widths.scale) - 1, text, remedy)
    remedy = "export the layer again: the NPU shifts by at most 31 bits"
    if "shift" in part:
        yield from _outside(layer, "shift", part["shift"], 0, MAXIMUM_SHIFT, f"its shift is 0 to {MAXIMUM_SHIFT}", remedy)
    if isinstance(layer, Weighted) and not has_digits(layer):
        reach = {"lower": int(layer.weights.min()), "upper": int(layer.weights.max()), "bits": layer.weight_bits}
        message = f"its weights reach from {reach['lower']} to {reach['upper']}, which {reach['bits']} bits do not hold"
        remedy = "clip the weights and export the layer again, or check on the device what its compiler makes of them"
        yield Finding("weight_width", "warning", layer.name, message, remedy, reach)


def _outside(
    layer: IntegerLayer, what: str, values: IntegerArray, lower: int, upper: int, rule: str, remedy: str
) -> Iterator[Finding]:
    outside = np.flatnonzero((values < lower) | (values > upper))
    if not outside.size:
        return
    channel = int(outside[np.abs(values[outside]).argmax()])
    evidence = {"channel": channel, what: int(values[channel]), "lower": lower, "upper": upper, "channels": int(outside.size)}
    message = f"{rule}, but is {values[channel]:,} in channel {channel} ({outside.size} of {values.size} channels are outside)"
    yield Finding(f"{what}_width", "error", layer.name, message, remedy, evidence)
