"""Findings about the comparison itself: what has no counterpart, what does not fit, what was made for another scale."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.comparison.layer_result import Confidence
from npusim.comparison.result import FloatComparison, LayerComparison
from npusim.findings import Finding

__all__ = ["alignment_findings"]


def alignment_findings(comparison: FloatComparison) -> tuple[Finding, ...]:
    """What has to be known before the numbers are believed.

    Parameters
    ----------
    comparison
        A quantized model against its float model.

    Returns
    -------
    tuple of Finding
        Rules ``unpaired_layer``, ``unpaired_output``, ``unsure_pair`` (errors) and ``other_input_scale`` (a warning, with the
        effect of the layer on the output in dB as ``output_gain_db``).
    """
    return (*_unpaired(comparison), *_unsure(comparison), *_other_scales(comparison))


def _unpaired(comparison: FloatComparison) -> Iterator[Finding]:
    remedy = "compare with the float model from which this one was quantized"
    for item in comparison.unpaired:
        message = f"it has no counterpart in the float model: {item.reason}"
        yield Finding("unpaired_layer", "error", item.step, message, remedy, {"tensor": item.tensor})
    for name in comparison.unpaired_float:
        message = f"no layer stands for the float model's operation that gives '{name}'"
        yield Finding("unpaired_layer", "error", None, message, remedy, {"float_tensor": name})
    if not comparison.outputs:
        message = "no output of the model has a counterpart among the float model's outputs"
        yield Finding("unpaired_output", "error", None, message, remedy)


def _unsure(comparison: FloatComparison) -> Iterator[Finding]:
    for layer in comparison.layers:
        if layer.pair.confidence is Confidence.UNSURE:
            evidence = {"float_tensor": layer.pair.float_tensor}
            remedy = "compare with the float model from which this one was quantized"
            yield Finding("unsure_pair", "error", layer.name, layer.pair.reason, remedy, evidence)


def _other_scales(comparison: FloatComparison) -> Iterator[Finding]:
    for layer in comparison.layers:
        factor = _scale_factor(layer)
        if factor is None:
            continue
        message = (
            f"its biases are made for inputs of {layer.scales.bias_input:.3g} for one LSB, but it reads codes of "
            f"{layer.scales.input:.3g}: products are {factor:.3g} times too large beside the biases"
        )
        remedy = (
            "the exporter lost the scale on the way: look at what stands before the layer (a host operation, a reshape, a "
            "layer left in float), and quantize or export it with its scale"
        )
        evidence: dict[str, float | None] = {
            "input_scale": layer.scales.input,
            "bias_input_scale": layer.scales.bias_input,
            "factor": factor,
        }
        if layer.effect is not None:
            evidence["output_gain_db"] = layer.effect.if_float_gain_db
        yield Finding("other_input_scale", "warning", layer.name, message, remedy, evidence)


def _scale_factor(layer: LayerComparison) -> float | None:
    """By how much the scale that the biases show differs from that of the inputs, where it cannot be chance."""
    difference = layer.scales.bias_difference
    return None if layer.scales.agreed or difference is None else difference + 1
