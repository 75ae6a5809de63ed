"""Bits chosen for each layer against 4 bits everywhere, at equal bytes: writes BITS.md after each network.

    python benchmarks/bits.py [-o BITS.md] [NETWORK ...]

The networks are the float models with four or more layers with weights, in the folder that NPUSIM_EXPORTS names: calibrated on
calibration/, measured on the realistic samples of inputs/, everything run by npusim.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npusim import InferenceSession, quantize

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = Path(os.environ.get("NPUSIM_EXPORTS") or ROOT.parent / "shared" / "models")
REALISTIC = 64
"""Of the samples in inputs/, so many at the beginning are realistic."""

FEWEST_LAYERS = 4

INTRODUCTION = """# Bits chosen for each layer against 4 bits everywhere

`npusim quantize --weight-bits auto --max-bytes N`, where N is what the parameters take with `--weight-bits 4`, on the float
networks with four or more layers with weights. Calibrated on the same samples, measured on 64 others. SQNR: output against the
float model's, in dB, after the best common scale. Seconds of the processor, one thread.
"""


@dataclass(frozen=True)
class Row:
    network: str
    bytes: tuple[int, int]
    uniform: float
    chosen: float
    bits: tuple[int, ...]
    seconds: float

    @property
    def gain(self) -> float:
        return self.chosen - self.uniform


def only(path: Path) -> np.ndarray:
    """The samples of the only input, whatever the file calls them."""
    with np.load(path) as file:
        return np.asarray(file["x" if "x" in file else "input"])


def run(model: Path | bytes, x: np.ndarray) -> np.ndarray:
    session = InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def sqnr(content: bytes, samples: np.ndarray, wanted: np.ndarray) -> float:
    given = run(content, samples)
    real, reference = given.astype(np.float64).reshape(-1), wanted.astype(np.float64).reshape(-1)
    scale = real @ reference / max(real @ real, 1e-300)
    return float(10 * np.log10(reference @ reference / np.square(reference - scale * real).sum()))


def measure(network: str) -> Row | None:
    model = EXPORTS / "float" / f"{network}.onnx"
    calibration = only(EXPORTS / "calibration" / f"{network}.npz")
    uniform = quantize(model, calibration, 4)
    if len(uniform.layer_bits) < FEWEST_LAYERS:
        return None
    samples = only(EXPORTS / "inputs" / f"{network}.npz")[:REALISTIC]
    wanted = run(model, samples)
    start = time.process_time()
    most = uniform.totals.parameter_bytes
    chosen = quantize(model, calibration, "auto", max_bytes=most)
    seconds = time.process_time() - start
    return Row(
        network,
        (most, chosen.totals.parameter_bytes),
        sqnr(uniform.content, samples, wanted),
        sqnr(chosen.content, samples, wanted),
        tuple(chosen.layer_bits.values()),
        seconds,
    )


def render(rows: Sequence[Row]) -> str:
    gains = np.array([row.gain for row in rows])
    lines = [INTRODUCTION]
    lines.append(
        f"Of {len(rows)} networks {(gains > 0).sum()} are better, {(gains == 0).sum()} equal, {(gains < 0).sum()} worse; on "
        f"average by {gains.mean():.1f} dB, median {np.median(gains):.1f} dB, least {gains.min():.1f} dB, most "
        f"{gains.max():.1f} dB."
    )
    lines += ["", "| network | bytes at 4 bits | chosen | SQNR at 4 bits | chosen | gain | bits | seconds |"]
    lines.append("|---|---:|---:|---:|---:|---:|---|---:|")
    for row in rows:
        cells = [
            row.network,
            *(f"{size:,}" for size in row.bytes),
            f"{row.uniform:.1f}",
            f"{row.chosen:.1f}",
            f"{row.gain:+.1f}",
        ]
        lines.append(f"| {' | '.join((*cells, ' '.join(map(str, row.bits)), f'{row.seconds:.0f}'))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "BITS.md")
    parser.add_argument("networks", nargs="*", default=sorted(path.stem for path in (EXPORTS / "float").glob("*.onnx")))
    given = parser.parse_args()
    rows = []
    for network in given.networks:
        row = measure(network)
        if row is not None:
            rows.append(row)
            print(
                f"{network}: {row.uniform:.1f} to {row.chosen:.1f} dB, {row.bytes}, {row.bits}, {row.seconds:.1f} s", flush=True
            )
            given.output.write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
