"""What quantization gives: the model, and what each of its layers loses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npusim.errors import UsageError
from npusim.files.arrays import replacing
from npusim.floats.concern import Concern
from npusim.floats.network import FloatArray
from npusim.program import Program

__all__ = ["LayerReport", "QuantizedModel", "signal_to_noise"]


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
        with replacing(target) as stream:
            stream.write(self.content)


def signal_to_noise(wanted: FloatArray, real: FloatArray) -> float:
    """Signal to noise ratio in dB; infinite without noise."""
    noise = float(np.square(wanted - real).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(float(np.square(wanted).sum()), 1e-300) / noise))
