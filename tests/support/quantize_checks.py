"""What every quantized network must keep, for the tests of quantization."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npusim.program import Accumulating, LayerKind, Program, Weighted
from npusim.quantization.parameters import width_rules

__all__ = ["check_widths", "signal_to_noise"]

CLIPS = {8: {(0, 255), (-128, 127)}, 4: {(0, 255), (-128, 127), (0, 15), (-8, 7)}}


def signal_to_noise(wanted: npt.NDArray[np.generic], given: npt.NDArray[np.generic]) -> float:
    noise = np.square(wanted.astype(np.float64) - given).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-30)))


def check_widths(program: Program, weight_bits: int, activation_bits: int = 8) -> None:
    rules = width_rules(weight_bits)
    for layer in program.layers:
        assert layer.kind is not LayerKind.ADD
        if isinstance(layer, Weighted):
            assert np.abs(layer.weights).max() <= rules.largest_weight
        if not isinstance(layer, Accumulating):
            continue
        found = layer.requantization
        assert np.abs(found.bias).max() <= rules.largest_bias
        assert found.scale.min() >= 1
        assert found.scale.max() <= rules.largest_scale
        assert found.shift.min() >= 0
        assert found.shift.max() <= 31
        for clip in (found.clip, layer.output_clip):
            assert (clip.lower, clip.upper) in CLIPS[activation_bits]
