"""The integer program: what lowering produces and the engines execute.

Layers are a closed set (:mod:`~npusim.program.layers`), and so is what turns an accumulator into codes
(:mod:`~npusim.program.requantization`).
"""

from __future__ import annotations

from npusim.program.dequantized_sum import DequantizedSum
from npusim.program.direct import Average, Concatenation, Direct, Elementwise, Softmax, Table
from npusim.program.fixed_point import FixedPoint
from npusim.program.float_multiplier import FloatMultiplier
from npusim.program.float_operations import FloatOperation, Operator
from npusim.program.layers import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    Grouped,
    IntegerLayer,
    LayerKind,
    MatrixProduct,
    MaxPool,
    ResidualConvolution,
    TransposedConvolution,
    Weighted,
    Window,
    Windowed,
    geometry_of,
    weight_bits_of,
)
from npusim.program.program import Batching, HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import INT32, Alternative, Clip, IntegerArray, Requantization, TextRow, along
from npusim.program.shift_floor import ShiftFloor
from npusim.program.taps import ArithmeticTap, MeanTap, ResidualTap, Tap

__all__ = [
    "INT32",
    "Accumulating",
    "Add",
    "Alternative",
    "ArithmeticTap",
    "Average",
    "AveragePool",
    "Batching",
    "Clip",
    "Concatenation",
    "Convolution",
    "DequantizedSum",
    "Direct",
    "Elementwise",
    "FixedPoint",
    "FloatMultiplier",
    "FloatOperation",
    "FullyConnected",
    "Grouped",
    "HostOperation",
    "IntegerArray",
    "IntegerLayer",
    "LayerKind",
    "MatrixProduct",
    "MaxPool",
    "MeanTap",
    "Operator",
    "Program",
    "QuantizeStage",
    "Requantization",
    "ResidualConvolution",
    "ResidualTap",
    "ShiftFloor",
    "Softmax",
    "Step",
    "Table",
    "Tap",
    "Tensor",
    "TextRow",
    "TransposedConvolution",
    "Weighted",
    "Window",
    "Windowed",
    "along",
    "geometry_of",
    "weight_bits_of",
]
