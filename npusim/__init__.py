"""npusim: what TI's microcontroller NPU will output for a quantized ONNX model, to the bit, before flashing."""

from __future__ import annotations

from npusim.errors import InputError, ModelError, NpusimError, UnsupportedError, UsageError
from npusim.program import Program
from npusim.session import InferenceSession
from npusim.trace import Trace

__all__ = [
    "InferenceSession",
    "InputError",
    "ModelError",
    "NpusimError",
    "Program",
    "Trace",
    "UnsupportedError",
    "UsageError",
    "__version__",
]

__version__ = "0.1.0"
