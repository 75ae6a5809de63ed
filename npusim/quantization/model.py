"""What quantization is asked and what it gives: options, the model, what each layer loses, what a user should know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import UsageError
from npusim.files.writing import replacing
from npusim.floats.concern import Concern
from npusim.floats.network import FloatArray, FloatLayer
from npusim.program import Program

__all__ = [
    "ACTIVATION_BITS",
    "WEIGHT_BITS",
    "LayerReport",
    "Options",
    "QuantizedModel",
    "bias_saturated",
    "coarse_input",
    "signal_to_noise",
    "silent_channels",
]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer.

    Attributes
    ----------
    name
        Name of the layer, that of its float node where it has one.
    tensor
        Its output in the quantized graph.
    kind
        What it does: ``"input"``, ``"conv"``, ``"linear"``, ``"average_pool"`` ... ``"host"``.
    weight_bits
        2, 4 or 8; None without weights.
    weight_scale
        Smallest and largest real value of one step of the weights over the output channels, for inputs in codes; None without
        weights.
    output_scale
        Smallest and largest real value of one output code over the channels; None for float outputs.
    sqnr
        Signal to quantization noise of the output on the calibration samples against the float model, in dB: infinite
        where nothing is lost.
    """

    name: str
    tensor: str
    kind: str
    weight_bits: int | None
    weight_scale: tuple[float, float] | None
    output_scale: tuple[float, float] | None
    sqnr: float


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A quantized model.

    Attributes
    ----------
    content
        The ONNX file.
    program
        The same in integers: what the file is lowered to.
    layers
        A report for each layer, in execution order.
    output_scales
        Real value of one code of each output; 1 where the model gives real values itself.
    warnings
        What could not be quantized, does not fit or looks wrong.
    """

    content: bytes
    program: Program
    layers: tuple[LayerReport, ...]
    output_scales: Mapping[str, float]
    warnings: tuple[Concern, ...]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the ONNX file, whole or not at all.

        Raises
        ------
        UsageError
            If the file exists and is not to be overwritten.
        """
        target = Path(path)
        if target.exists() and not overwrite:
            raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
        with replacing(target, overwrite=overwrite) as stream:
            stream.write(self.content)


def signal_to_noise(wanted: FloatArray, real: FloatArray) -> float:
    """Signal to noise ratio in dB; infinite without noise."""
    noise = float(np.square(wanted - real).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(float(np.square(wanted).sum()), 1e-300) / noise))


def silent_channels(layer: FloatLayer, values: FloatArray) -> Concern | None:
    """Note the channels of a layer's output [N, C, *spatial] that are zero on all samples: their range is unknown."""
    active = values.any(axis=(0, *range(2, values.ndim)))
    if active.all():
        return None
    message = f"{int((~active).sum())} of {active.size} channels of '{layer.output}' are zero on all calibration samples"
    return Concern("silent_channels", "info", layer.name, message, "prune them, or give samples that use them")


def coarse_input(layer: FloatLayer) -> Concern:
    """Note that values are too small for the input stage's multiplier."""
    message = f"values of '{layer.inputs[0]}' are so small that the multiplier of '{layer.name}' saturates: codes are coarse"
    return Concern("coarse_input", "warning", layer.name, message, "give the model its input in a smaller unit")


def bias_saturated(layer: FloatLayer, fits: npt.NDArray[np.bool_]) -> Concern | None:
    """Note the output channels whose bias does not fit, [out]."""
    if fits.all():
        return None
    channels = ", ".join(str(index) for index in np.flatnonzero(~fits))
    message = f"the bias of '{layer.name}' does not fit into its bits in output channel {channels} and was saturated"
    remedy = "its weights are very small against it: look at the float model, or use 8-bit weights"
    return Concern("bias_saturated", "warning", layer.name, message, remedy)


WEIGHT_BITS: Final = (8, 4, 2)
"""Widths of weights that the NPU has."""

ACTIVATION_BITS: Final = (8, 4)
"""Widths of codes between layers."""


@dataclass(frozen=True, slots=True)
class Options:
    """Choices that hold for the whole network.

    Attributes
    ----------
    weight_bits
        8, 4 or 2.
    activation_bits
        8 or 4; inputs and outputs of the model always have 8.
    float_output
        Whether the model gives real values, by a last multiplication, instead of codes.

    Raises
    ------
    UsageError
        If a width is not one of these.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    float_output: bool = False

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_BITS:
            raise UsageError(f"weight_bits is {self.weight_bits}, wanted 8, 4 or 2")
        if self.activation_bits not in ACTIVATION_BITS:
            raise UsageError(f"activation_bits is {self.activation_bits}, wanted 8 or 4")
