"""What is proven for every input of each real export: writes BOUNDS.md, prints how long it took.

    python benchmarks/bounds_exports.py [-o BOUNDS.md]

The exports are looked for in the folder that NPUSIM_EXPORTS names.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from npusim import InferenceSession, certify

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = Path(os.environ.get("NPUSIM_EXPORTS") or ROOT.parent / "shared" / "models")
STATEMENTS = ("onnxruntime_exact", "onnxruntime_optimized", "soft_int32", "digit_18bit")
TITLES = ("onnxruntime as written", "onnxruntime optimized", "soft library int32", "NPU digits 18 bit")

INTRODUCTION = """# What is proven for every input

One row for each real export, one column for each statement about all inputs (see "Bounds" in the README). `proven`: it holds
for every input. `unknown`: it is not proven, and no input that breaks it is known. `violated`: there is one.

* onnxruntime as written: ONNX Runtime without graph optimizations gives the integers' codes in every layer.
* onnxruntime optimized: it does when an optimizer folds scales into weights.
* soft library int32: `(accumulator + bias) * scale` does not overflow in any layer.
* NPU digits 18 bit: no accumulator of a 2-bit weight digit leaves 18 bits in any layer.
* accumulator bits: bits of the largest accumulator of any layer, the sign included.
"""


@dataclass(frozen=True)
class Row:
    """One export."""

    name: str
    judgements: dict[str, tuple[str, str | None]]
    accumulator_bits: int
    errors: tuple[str, ...]
    seconds: float


def measure(name: str) -> Row:
    session = InferenceSession(EXPORTS / "quantized" / f"{name}.onnx")
    start = time.perf_counter()
    result = certify(session)
    seconds = time.perf_counter() - start
    accumulators = [layer["accumulator"] for layer in result.to_dict()["layers"] if layer["accumulator"] is not None]
    bits = max((max(max(~lower, 0).bit_length(), max(upper, 0).bit_length()) + 1 for lower, upper in accumulators), default=0)
    errors = tuple(f"{one.layer}: {one.message}" for one in result.findings if one.severity == "error")
    judgements = {str(statement): (str(found.verdict), found.reason) for statement, found in result.proof.model.items()}
    return Row(name, judgements, bits, errors, seconds)


def render(rows: list[Row]) -> str:
    lines = [INTRODUCTION, f"| export | {' | '.join(TITLES)} | accumulator bits |", f"|---|{'---|' * len(TITLES)}---:|"]
    for row in rows:
        verdicts = (row.judgements[statement][0] for statement in STATEMENTS)
        lines.append(f"| {row.name} | {' | '.join(verdicts)} | {row.accumulator_bits} |")
    lines += ["", "## Proven", ""]
    for statement, title in zip(STATEMENTS, TITLES, strict=True):
        counts = Counter(row.judgements[statement][0] for row in rows)
        others = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("violated", "unknown") if counts[verdict])
        lines.append(f"* {title}: {counts['proven']} of {len(rows)}{f' ({others})' if others else ''}")
    both = sum(all(row.judgements[one][0] == "proven" for one in STATEMENTS) for row in rows)
    lines += [f"* all four: {both} of {len(rows)}", "", "## Not proven, and why", ""]
    for row in rows:
        for statement, title in zip(STATEMENTS, TITLES, strict=True):
            verdict, reason = row.judgements[statement]
            same = statement == "onnxruntime_optimized" and row.judgements[STATEMENTS[0]][0] != "proven"
            if verdict != "proven" and not same:
                lines.append(f"* {row.name}, {title}: {reason}")
    lines += ["", "## Parameters wider than their bits", ""]
    lines += [f"* {row.name}, {error}" for row in rows for error in row.errors]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "BOUNDS.md")
    output = parser.parse_args().output
    with (EXPORTS / "INDEX.csv").open(newline="", encoding="utf-8") as lines:
        rows = [measure(entry["name"]) for entry in csv.DictReader(lines)]
    output.write_text(render(rows), encoding="utf-8")
    slowest = max(rows, key=lambda row: row.seconds)
    print(f"{len(rows)} exports in {sum(row.seconds for row in rows):.1f} s; slowest: {slowest.name}, {slowest.seconds:.2f} s")
    for network in ("CNN_TS_GEN_BASE_1K_NPU", "CNN_IMG_MOBILENETV1_58K_NPU"):
        seconds = [row.seconds for row in rows if row.name.startswith(network)]
        print(f"{network}: at most {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
