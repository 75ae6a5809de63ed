"""Choosing the matrix kernels of OpenBLAS before NumPy loads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["prefer_wide_kernels"]


def prefer_wide_kernels() -> None:
    """Let OpenBLAS use its AVX-512 kernels where the processor has them and the user has chosen none.

    OpenBLAS takes its AVX2 kernels on AMD processors that have AVX-512, which halves the speed of matrix products. Exact
    results cannot change. It has to be set before NumPy is first imported.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ:
        return
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    flags = next((line.split() for line in described.splitlines() if line.startswith("flags")), [])
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= set(flags):
        os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
