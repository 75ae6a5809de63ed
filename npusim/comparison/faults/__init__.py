"""What in a quantized model contradicts its float model, layer by layer: weights, biases, scales, clips, activations, offsets.

A fault is local: with the layer's own numbers beside those of the float layer it stands for, whatever comes before it, only the
layer that has it is wrong.
"""

from __future__ import annotations

from npusim.comparison.faults.diagnosis import Diagnosis, diagnose
from npusim.comparison.faults.suspicion import Suspicion

__all__ = ["Diagnosis", "Suspicion", "diagnose"]
