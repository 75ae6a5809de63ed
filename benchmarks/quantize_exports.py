"""Post-training quantization against the vendor's, on the same float networks: writes QUANTIZE.md, prints how long it took.

    python benchmarks/quantize_exports.py [-o QUANTIZE.md]

The networks are looked for in the folder that NPUSIM_EXPORTS names: calibrated on calibration/, measured on the realistic
samples of inputs/, everything run by npusim.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npusim import InferenceSession, certify, quantize

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = Path(os.environ.get("NPUSIM_EXPORTS") or ROOT.parent / "shared" / "models")
REALISTIC = 64
"""Of the samples in inputs/, so many at the beginning are realistic."""

INTRODUCTION = """# Post-training quantization against the vendor's

The same float networks, quantized by `npusim quantize` and by the vendor's wrapper (after training, too; of several exports of
a network and width, the best). Calibrated on the same samples, measured on 64 others, all models run by npusim.

* SQNR: output against the float model's, in dB, after the best common scale.
* agreement: samples (and places) whose arg max is the float model's.
* NPU: all layers are layers of the NPU and no operation but moves of data runs on the host.
* 2^24: proven for every input that no integer passes 2^24, so that onnxruntime is exact.
* digits: proven that no accumulator of a weight digit passes 18 bits.
"""

Array = np.ndarray


@dataclass(frozen=True)
class Score:
    """What a quantized model gives on the samples."""

    sqnr: float
    agreement: float


@dataclass(frozen=True)
class Row:
    """One network at one width."""

    network: str
    bits: int
    ours: Score
    theirs: Score | None
    on_npu: bool
    exact: bool
    digits: bool
    seconds: float

    @property
    def gain(self) -> float:
        return float("nan") if self.theirs is None else self.ours.sqnr - self.theirs.sqnr


def run(model: Path | bytes, x: Array) -> Array:
    session = InferenceSession(model if isinstance(model, bytes) else str(model))
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float64)


def score(wanted: Array, given: Array) -> Score:
    flat, other = wanted.ravel(), given.reshape(wanted.shape).ravel()
    scale = (flat @ other) / max(other @ other, 1e-300)
    noise = np.square(flat - scale * other).sum()
    places = (len(wanted), wanted.shape[1], -1)
    same = wanted.reshape(places).argmax(axis=1) == given.reshape(places).argmax(axis=1)
    return Score(float(10 * np.log10(np.square(flat).sum() / max(noise, 1e-300))), float(same.mean()))


def measure(network: str, bits: int, exports: Sequence[str]) -> Row:
    with np.load(EXPORTS / "inputs" / f"{network}.npz") as arrays:
        x = arrays["x"][:REALISTIC]
    with np.load(EXPORTS / "calibration" / f"{network}.npz") as arrays:
        calibration = arrays["input"].astype(np.float32)
    path = EXPORTS / "float" / f"{network}.onnx"
    wanted = run(path, x)
    start = time.perf_counter()
    content = quantize(path, calibration, bits).content
    seconds = time.perf_counter() - start
    program = InferenceSession(content).program
    verdicts = certify(content).proof.model
    theirs = [score(wanted, run(EXPORTS / "quantized" / f"{name}.onnx", x)) for name in exports]
    moves = {"Reshape", "Flatten", "Transpose", "Resize", "Concat"}
    return Row(
        network,
        bits,
        score(wanted, run(content, x)),
        max(theirs, key=lambda one: one.sqnr, default=None),
        {step.operator for step in program.host_operations} <= moves and all(one.kind != "ADD" for one in program.layers),
        verdicts["onnxruntime_exact"].holds,
        verdicts["digit_18bit"].holds,
        seconds,
    )


def render(rows: Sequence[Row]) -> str:
    lines = [INTRODUCTION]
    for bits in (8, 4, 2):
        some = [row for row in rows if row.bits == bits]
        lines += [f"## Weights of {bits} bits", "", *summary(some), ""]
        lines += ["| network | SQNR | vendor's | gain | agreement | vendor's | NPU | 2^24 | digits |"]
        lines += ["|---|---:|---:|---:|---:|---:|---|---|---|", *(line(row) for row in some), ""]
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> list[str]:
    gains = np.array([row.gain for row in rows if row.theirs is not None])
    ours = [row.ours for row in rows]
    lines = [f"* median SQNR {np.median([one.sqnr for one in ours]):.1f} dB, lowest {min(one.sqnr for one in ours):.1f} dB"]
    lines.append(f"* mean agreement {np.mean([one.agreement for one in ours]):.3f}")
    if len(gains):
        theirs = [row.theirs for row in rows if row.theirs is not None]
        lines.append(
            f"* against the vendor's on {len(gains)} networks (median {np.median([one.sqnr for one in theirs]):.1f} dB, "
            f"agreement {np.mean([one.agreement for one in theirs]):.3f}): better on {(gains > 0).sum()}, on average by "
            f"{gains.mean():.1f} dB, median gain {np.median(gains):.1f} dB, least {gains.min():.1f} dB"
        )
    return lines


def line(row: Row) -> str:
    theirs = ("", "", "")
    if row.theirs is not None:
        theirs = (f"{row.theirs.sqnr:.1f}", f"{row.gain:+.1f}", f"{row.theirs.agreement:.3f}")
    yes = ["yes" if holds else "no" for holds in (row.on_npu, row.exact, row.digits)]
    cells = [row.network, f"{row.ours.sqnr:.1f}", theirs[0], theirs[1], f"{row.ours.agreement:.3f}", theirs[2], *yes]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "QUANTIZE.md")
    output = parser.parse_args().output
    exports: dict[tuple[str, int], list[str]] = {}
    networks: dict[str, None] = {}
    with (EXPORTS / "INDEX.csv").open(newline="", encoding="utf-8") as lines:
        for entry in csv.DictReader(lines):
            networks.setdefault(entry["network"])
            if entry["method"] == "PTQ" and entry["activation_bits"] == "8" and not entry["mixed_precision"]:
                exports.setdefault((entry["network"], int(entry["weight_bits"])), []).append(entry["name"])
    rows = []
    for network in networks:
        for bits in (8, 4, 2):
            rows.append(measure(network, bits, exports.get((network, bits), ())))
            print(f"{network} W{bits}: {rows[-1].ours.sqnr:.1f} dB, gain {rows[-1].gain:+.1f} dB, {rows[-1].seconds:.1f} s")
    output.write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
