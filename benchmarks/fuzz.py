"""The fuzz command: how often each kind of fault was seen in so many damaged models, data, dumps and golden folders.

python benchmarks/fuzz.py --cases 500 [--first 0] [--corpus FOLDER ...] [--report faults.jsonl] [--refusals 30 --seed 14]

`support/fuzzing.py` says what is damaged and what counts as a fault. With --refusals, so many of the commands that refused are
drawn by the seed and printed, for a reader to judge whether they say what, where, seen against wanted, and what to do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.fuzz_seeds import make_seeds  # noqa: E402
from support.fuzzing import Case, fuzz  # noqa: E402
from support.isolated import Outcome, message  # noqa: E402


def main() -> int:
    """The command; exit code 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--corpus", nargs="*", default=[], type=Path, help="folders of more models to start from")
    parser.add_argument("--report", type=Path, help="write the faults to this file, one JSON object a line")
    parser.add_argument("--refusals", type=int, default=0, help="print so many of the refused cases")
    parser.add_argument("--seed", type=int, default=14, help="which of them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = make_seeds(Path(folder))
    more = {}
    for root in given.corpus:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".onnx", ".tflite", ".h") and path.stat().st_size < 200_000:
                more["_".join(path.relative_to(root).parts)] = path.read_bytes()
    seeds = replace(seeds, models={**more, **seeds.models})
    lines = given.report.open("a", encoding="utf-8") if given.report else None
    refusals: list[tuple[bytes, Case, str]] = []

    def report(case: Case, found: Sequence[str], outcome: Outcome) -> None:
        if outcome.code in (2, 3):
            digest = hashlib.sha256(f"{given.seed} {case.number}".encode()).digest()
            refusals.append((digest, case, message(outcome)))
            refusals.sort(key=lambda row: row[0])
            del refusals[given.refusals :]
        if not found:
            return
        row = {"case": case.number, "faults": found, "command": case.arguments, "changes": case.changes}
        row |= {"exit": outcome.code, "seconds": outcome.seconds, "peak": outcome.peak, "said": message(outcome)[-600:]}
        text = json.dumps(row)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        if lines is not None:
            lines.write(f"{text}\n")
            lines.flush()

    counts = fuzz(range(given.first, given.first + given.cases), seeds, report)
    for number, (_, case, text) in enumerate(refusals, 1):
        sys.stdout.write(f"{number}. npusim {' '.join(case.arguments)} ({'; '.join(case.changes)})\n   {text}\n")
    sys.stdout.write(f"{dict(sorted(counts.items()))}\n")
    return int(any(not kind.endswith(("answered", "refused", "cases")) for kind in counts))


if __name__ == "__main__":
    sys.exit(main())
