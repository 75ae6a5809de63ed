"""The most memory that commands hold on large work, and on files that are refused: each in a process of its own.

python benchmarks/memory.py [--only NAME ...] [--python PYTHON]

`--python` measures the npusim of another environment. The exit code is 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import ROOT
from support.builders import GraphBuilder

LAUNCHER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:], timeout=float(sys.argv[1]), capture_output=True, stdin=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps([done.returncode, used.ru_maxrss * scale, used.ru_utime + used.ru_stime, done.stderr.decode()[-200:]]))
"""
"""A small process between the measured one and this one, whose own size would count."""

MIB = 2**20
LIMIT = 1024 * MIB
SECONDS = 1800

MODEL = ROOT / "golden" / "vibration_w4.onnx"
OTHER = ROOT / "golden" / "vibration_w8.onnx"
SAMPLE = (3, 64, 1)


@dataclass(frozen=True)
class Case:
    """A command on files that `make` writes to a folder."""

    make: Callable[[Path], list[str]]
    limit: int = LIMIT
    code: int = 0


def stored(folder: Path, count: int) -> Path:
    """Random samples in a .npy file, written in parts."""
    path, generator = folder / "samples.npy", np.random.default_rng(0)
    with path.open("wb") as stream:
        described = {"descr": "<f4", "fortran_order": False, "shape": (count, *SAMPLE)}
        np.lib.format.write_array_header_1_0(stream, described)
        part = generator.normal(0, 1000, (min(count, 10_000), *SAMPLE)).astype(np.float32)
        for start in range(0, count, len(part)):
            stream.write(part[: count - start].tobytes())
    return path


def long_signal(folder: Path) -> Path:
    """A network on a signal of a million points."""
    graph, generator = GraphBuilder((1, 1, 1_000_000, 1)), np.random.default_rng(1)
    codes = graph.input_stage([0], [1], [0])
    weights = generator.integers(-100, 100, (4, 1, 7, 1))
    current = graph.convolution(codes, weights, np.zeros(4), [1] * 4, [8] * 4, (0, 255), strides=[4, 1], pads=[3, 0, 3, 0])
    weights = generator.integers(-100, 100, (4, 4, 3, 1))
    current = graph.convolution(current, weights, np.zeros(4), [1] * 4, [9] * 4, (0, 255), pads=[1, 0, 1, 0])
    (folder / "model.onnx").write_bytes(graph.model(graph.global_average(current, 0, 1, 20, (0, 255))))
    np.save(folder / "x.npy", generator.integers(-128, 128, (1, 1, 1_000_000, 1)).astype(np.float32))
    return folder


def deep(folder: Path) -> Path:
    """500 layers of 16 channels."""
    graph, generator = GraphBuilder((1, 16, 64, 1)), np.random.default_rng(2)
    current = graph.input_stage([0] * 16, [1] * 16, [0] * 16)
    for _ in range(500):
        weights = generator.integers(-127, 128, (16, 16, 3, 1))
        current = graph.convolution(current, weights, np.arange(16), [1] * 16, [10] * 16, (0, 255), pads=[1, 0, 1, 0])
    path = folder / "deep.onnx"
    path.write_bytes(graph.model(current))
    return path


def wide(folder: Path) -> Path:
    """A layer of 4096 x 4096 channels."""
    graph, generator = GraphBuilder((1, 4096)), np.random.default_rng(3)
    codes = graph.input_stage([0] * 4096, [1] * 4096, [0] * 4096)
    weights = generator.integers(-127, 128, (4096, 4096))
    path = folder / "wide.onnx"
    path.write_bytes(graph.model(graph.fully_connected(codes, weights, np.zeros(4096), [1] * 4096, [12] * 4096, (-128, 127))))
    return path


def unpacking(folder: Path, shape: tuple[int, ...], size: int) -> Path:
    """An archive of zeros behind a header."""
    path, head = folder / "bomb.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("input.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.getvalue())
        for _ in range(size // MIB):
            member.write(bytes(MIB))
    return path


def hollow(folder: Path, name: str, size: int) -> Path:
    """A file of zeros that takes no space."""
    path = folder / name
    path.touch()
    os.truncate(path, size)
    return path


def _run(folder: Path, data: Path, *more: str) -> list[str]:
    return ["run", str(MODEL), str(data), "-o", str(folder / "o.npz"), *more]


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "run, 800 MB of samples": Case(lambda folder: _run(folder, stored(folder, 1_000_000)), 300 * MIB),
        "compare with onnxruntime, 24 MB of samples": Case(
            lambda folder: ["compare", str(MODEL), "--against", "ort", "--data", str(stored(folder, 30_000))], 500 * MIB
        ),
        "run --trace '*', 200,000 samples": Case(
            lambda folder: _run(folder, stored(folder, 200_000), "--trace", "*"), 600 * MIB
        ),
        "run --trace '*', 2,000,000 samples": Case(lambda folder: _run(folder, stored(folder, 2_000_000), "--trace", "*")),
        "golden write, a signal of a million points": Case(
            lambda folder: [
                *("golden", "write", str(long_signal(folder) / "model.onnx"), str(folder / "x.npy")),
                *("-o", str(folder / "golden"), "--samples", "1"),
            ]
        ),
        "verify, 500 layers": Case(lambda folder: ["verify", str(deep(folder))]),
        "verify, 4096 x 4096 channels": Case(lambda folder: ["verify", str(wide(folder))]),
        "refused: 2 GB behind a small header": Case(
            lambda folder: _run(folder, unpacking(folder, (2, *SAMPLE), 2048 * MIB)), code=2
        ),
        "refused: 2 GB of another shape": Case(lambda folder: _run(folder, unpacking(folder, (2**29,), 2048 * MIB)), code=2),
        "refused: 10 GB of zeros as .csv": Case(lambda folder: _run(folder, hollow(folder, "x.csv", 10240 * MIB)), code=2),
        "refused: 10 GB of zeros as .npy": Case(lambda folder: _run(folder, hollow(folder, "x.npy", 10240 * MIB)), code=2),
        "refused: 10 GB of zeros as a model": Case(
            lambda folder: ["verify", str(hollow(folder, "x.onnx", 10240 * MIB))], code=2
        ),
    }
)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names")
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    failed = False
    for name, case in CASES.items():
        if not any(part in name for part in given.only):
            continue
        with tempfile.TemporaryDirectory() as made:
            arguments = case.make(Path(made))
            command = [sys.executable, "-S", "-c", LAUNCHER, str(SECONDS), given.python, "-P", "-m", "npusim", *arguments]
            code, peak, seconds, err = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        passed = code == case.code and peak < case.limit
        failed |= not passed
        sys.stdout.write(
            f"{name}: {peak / MIB:,.0f} MiB (limit {case.limit / MIB:,.0f}), {seconds:.1f} s of CPU, exit code {code}"
            f"{'' if passed else f'  FAILED {err}'}\n"
        )
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
