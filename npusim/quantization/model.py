"""What quantization is asked and what it gives: options, the model, what each layer loses, what a user should know."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import UsageError
from npusim.files.writing import replacing
from npusim.floats.concern import Concern
from npusim.floats.network import FloatArray, FloatLayer
from npusim.graph.tflite_writer import c_header
from npusim.program import Program

__all__ = [
    "ACTIVATION_BITS",
    "AUTO",
    "MIXED",
    "TARGETS",
    "WEIGHT_BITS",
    "LayerReport",
    "Options",
    "QuantizedModel",
    "bias_saturated",
    "check_ending",
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
    channel_bits
        Output channels by the bits of their weights, of which `weight_bits` is the largest; empty without weights.
    """

    name: str
    tensor: str
    kind: str
    weight_bits: int | None
    weight_scale: tuple[float, float] | None
    output_scale: tuple[float, float] | None
    sqnr: float
    channel_bits: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A quantized model.

    Attributes
    ----------
    content
        The model file: ONNX or, with ``to="tflite"``, TensorFlow Lite.
    program
        The same in integers: what the file is lowered to.
    layers
        A report for each layer, in execution order.
    output_scales
        Real value of one code of each output; 1 where the model gives real values itself.
    warnings
        What could not be quantized, does not fit or looks wrong.
    to
        The format, one of :data:`TARGETS`.
    input_alpha
        For a file of the MATCH family the ends of the quantizer in front of each input, which the file does not hold: codes are
        ``floor(255 / (high - low + 0.001) * clamp(x, low, high))``.
    layer_bits
        Width of the weights of each layer of the float network that has weights; empty where channels or formats decide.
    """

    content: bytes
    program: Program
    layers: tuple[LayerReport, ...]
    output_scales: Mapping[str, float]
    warnings: tuple[Concern, ...]
    to: str = "tinpu"
    input_alpha: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    layer_bits: Mapping[str, int] = field(default_factory=dict)

    def file(self, path: str | os.PathLike[str]) -> bytes:
        """What a file of this name holds: the model, or C source with it as an array named after the file.

        Raises
        ------
        UsageError
            If files with such an ending hold other models.
        """
        check_ending(path, self.to)
        target = Path(path)
        if target.suffix not in C_SOURCES:
            return self.content
        name = re.sub(r"\W", "_", target.stem, flags=re.ASCII)
        return c_header(
            self.content, name if name[:1].isalpha() else f"model_{name}", source=".h" not in target.suffix
        ).encode()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model file, whole or not at all; see :meth:`file`.

        Raises
        ------
        UsageError
            If the file exists and is not to be overwritten, or has the ending of another format.
        """
        target = Path(path)
        content = self.file(target)
        if target.exists() and not overwrite:
            raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
        with replacing(target, overwrite=overwrite) as stream:
            stream.write(content)


def check_ending(path: str | os.PathLike[str], to: str) -> None:
    """Make sure that a file's ending is not that of another format.

    Raises
    ------
    UsageError
        If it is.
    """
    ending = Path(path).suffix.lower()
    if to == "tflite" and ending not in (*C_SOURCES, *TFLITE_ENDINGS):
        raise UsageError(
            f"{path}: TensorFlow Lite models are written to {', '.join((*TFLITE_ENDINGS, *C_SOURCES))}; name such a file"
        )
    if to != "tflite" and ending in (*C_SOURCES, *TFLITE_ENDINGS):
        raise UsageError(f"{path}: is the name of a TensorFlow Lite model; name an .onnx file, or quantize to tflite")


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


C_SOURCES: Final = (".h", ".hpp", ".c", ".cc", ".cpp")
"""Endings of files that hold a TensorFlow Lite model as an array."""

TFLITE_ENDINGS: Final = (".tflite", ".lite")

AUTO: Final = "auto"
"""The word for weights of 8, 4 or 2 bits, chosen for each layer under limits."""

MIXED: Final = "mixed"
"""The word for weights of 8, 4 and 2 bits, chosen for each output channel."""

WEIGHT_BITS: Final = (8, 4, 2)
"""Widths of weights that the NPU has."""

ACTIVATION_BITS: Final = (8, 4)
"""Widths of codes between layers."""


TARGETS: Final = ("tinpu", "tflite", "match")
"""Formats that quantization writes: TI's NPU, TensorFlow Lite, the PLiNIO / MATCH family."""


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
        Whether the model gives real values, by a last multiplication, instead of codes; with ``to="tflite"`` inputs are real
        values then, too.
    to
        One of :data:`TARGETS`.
    mixed
        Whether output channels whose weights bear it take fewer bits than `weight_bits`.
    layer_bits
        Widths of the weights of single layers, by name, where they are not `weight_bits`. Averages have weights of one, and a
        requantization of the same two kinds, so that they may be named, too.
    refine
        Whether single weights are moved afterwards for the sake of the whole network's outputs; for the NPU.

    Raises
    ------
    UsageError
        If a width is not one of these, or the format does not have it.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    float_output: bool = False
    to: str = "tinpu"
    mixed: bool = False
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    refine: bool = False

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise UsageError(f"there is no format '{self.to}' to quantize to, wanted {', '.join(TARGETS)}")
        if self.to == "tflite" and (self.weight_bits, self.activation_bits) != (8, 8):
            raise UsageError("TensorFlow Lite's integer kernels have weights and codes of 8 bits: leave both widths at 8")
        if self.mixed and (self.to, self.weight_bits) != ("match", 8):
            raise UsageError('bits of weights that differ by channel are a thing of the MATCH family: quantize with to="match"')
        if self.to == "match" and self.float_output:
            raise UsageError("files of the MATCH family give codes, not real values: multiply them by the output's scale")
        if self.layer_bits and self.to != "tinpu":
            raise UsageError('widths of single layers are for the NPU: quantize with to="tinpu"')
        for name, bits in {"weight_bits": self.weight_bits, **self.layer_bits}.items():
            if bits not in WEIGHT_BITS:
                raise UsageError(f"{name} is {bits}, wanted 8, 4 or 2")
        if self.activation_bits not in ACTIVATION_BITS:
            raise UsageError(f"activation_bits is {self.activation_bits}, wanted 8 or 4")

    def bits_of(self, name: str) -> int:
        """Width of the weights of a layer."""
        return self.layer_bits.get(name, self.weight_bits)
