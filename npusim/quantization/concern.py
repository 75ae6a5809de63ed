"""What a user should know about a quantized model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npusim.floats.concern import Concern
from npusim.floats.network import FloatArray, FloatLayer

__all__ = ["bias_saturated", "coarse_input", "silent_channels"]


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
