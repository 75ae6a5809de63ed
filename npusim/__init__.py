"""npusim: what TI's microcontroller NPU will output for a quantized ONNX model, to the bit, before flashing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from npusim.errors import InputError, ModelError, NpusimError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from npusim.engine.session import InferenceSession
    from npusim.program import Program
    from npusim.program.trace import Trace
    from npusim.results.certificate import certify
    from npusim.results.comparison import compare
    from npusim.results.equality import prove_equal
    from npusim.results.golden import check_golden, verify_golden, write_golden
    from npusim.results.lint import lint
    from npusim.results.oracle import write_oracle
    from npusim.results.quantization import quantize
    from npusim.results.readiness import check
    from npusim.results.sweep import sweep
    from npusim.results.verification import verify
    from npusim.verification.arithmetic import explain_element

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
    "certify",
    "check",
    "check_golden",
    "compare",
    "explain_element",
    "lint",
    "prove_equal",
    "quantize",
    "sweep",
    "verify",
    "verify_golden",
    "write_golden",
    "write_oracle",
]

__version__ = "0.1.0"

_MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "InferenceSession": "npusim.engine.session",
        "Program": "npusim.program",
        "Trace": "npusim.program.trace",
        "certify": "npusim.results.certificate",
        "check": "npusim.results.readiness",
        "check_golden": "npusim.results.golden",
        "compare": "npusim.results.comparison",
        "explain_element": "npusim.verification.arithmetic",
        "lint": "npusim.results.lint",
        "prove_equal": "npusim.results.equality",
        "quantize": "npusim.results.quantization",
        "sweep": "npusim.results.sweep",
        "verify": "npusim.results.verification",
        "verify_golden": "npusim.results.golden",
        "write_golden": "npusim.results.golden",
        "write_oracle": "npusim.results.oracle",
    }
)
"""Where the names live that are imported when they are first used: importing npusim loads neither NumPy nor onnx."""


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'npusim' has no attribute '{name}'")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, those not yet imported included."""
    return sorted(__all__)
