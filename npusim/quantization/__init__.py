"""From a float network to integers for the NPU: post-training quantization in NumPy, and what other quantizers build on."""

from npusim.quantization.model import LayerReport, Options, QuantizedModel
from npusim.quantization.post_training import quantize, quantize_network

__all__ = ["LayerReport", "Options", "QuantizedModel", "quantize", "quantize_network"]
