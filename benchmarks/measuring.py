"""How contenders are timed: turn by turn, in a steady state, each without the others' threads."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from threadpoolctl import threadpool_info

import npusim

__all__ = ["blas_kernels", "geometric_mean", "machine", "medians"]

PAUSE = 0.05
"""Seconds of rest before each turn. onnxruntime's threads go on spinning after a run: without a rest, whoever follows them on a
machine with two cores takes twice as long. Ten milliseconds are not enough for that."""

SHORTEST = 0.002
"""Seconds that a turn lasts at least; shorter runs are repeated."""


def medians(contenders: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Seconds of a run of each contender, the median over repetitions in which all take turns.

    A turn is a rest, a run that is not timed (so that caches and threads are warm) and as many timed runs as are needed to
    measure them.
    """
    turns = {name: max(1, math.ceil(SHORTEST / _seconds(run, 2))) for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, run in contenders.items():
            time.sleep(PAUSE)
            run()
            seconds[name].append(_seconds(run, turns[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds(run: Callable[[], object], turns: int) -> float:
    start = time.perf_counter()
    for _ in range(turns):
        run()
    return (time.perf_counter() - start) / turns


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def blas_kernels() -> str:
    """Which of its kernels BLAS runs."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(f"{library['internal_api']} {library['version']} with its {library['architecture']}" for library in found)


def machine() -> list[str]:
    """What was measured with."""
    processor = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        processor = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return [
        f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, npusim {npusim.__version__}; "
        f"{blas_kernels()} kernels.",
    ]
