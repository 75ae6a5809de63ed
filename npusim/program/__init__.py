"""The integer program: what lowering produces and the engines execute.

Layers are a closed set (:mod:`~npusim.program.layers`), and so is what turns an accumulator into codes
(:mod:`~npusim.program.requantization`).
"""

from __future__ import annotations

from npusim.program.layers import IntegerLayer, LayerKind, Tap, TapSource, Window
from npusim.program.program import Batching, HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import INT32, Alternative, Clip, IntegerArray, Requantization, TextRow, along
from npusim.program.shift_floor import ShiftFloor

__all__ = [
    "INT32",
    "Alternative",
    "Batching",
    "Clip",
    "HostOperation",
    "IntegerArray",
    "IntegerLayer",
    "LayerKind",
    "Program",
    "QuantizeStage",
    "Requantization",
    "ShiftFloor",
    "Step",
    "Tap",
    "TapSource",
    "Tensor",
    "TextRow",
    "Window",
    "along",
]
