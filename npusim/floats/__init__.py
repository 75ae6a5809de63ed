"""One float network: read once, batch norms folded once; for quantization, npusim.torch and comparison."""

from npusim.floats.concern import Concern
from npusim.floats.graph import FloatGraph, LinearOperation
from npusim.floats.network import WEIGHTED, Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.floats.reader import read_float_network

__all__ = [
    "WEIGHTED",
    "Activation",
    "Concern",
    "FloatArray",
    "FloatGraph",
    "FloatKind",
    "FloatLayer",
    "FloatNetwork",
    "LinearOperation",
    "read_float_network",
]
