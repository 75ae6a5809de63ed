"""The fuzz command: how often each kind of fault was seen in so many damaged models, data and dumps (`support/fuzzing.py`).

python benchmarks/fuzz.py --cases 500 [--first 0] [--corpus FOLDER ...] [--report faults.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.fuzzing import Case, fuzz, seeds  # noqa: E402
from support.isolated import Outcome  # noqa: E402


def main() -> int:
    """The command; exit code 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--corpus", nargs="*", default=[], type=Path, help="folders of more models to start from")
    parser.add_argument("--report", type=Path, help="write the faults to this file, one JSON object a line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = seeds(Path(folder))
    for root in given.corpus:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".onnx", ".tflite", ".h") and path.stat().st_size < 200_000:
                models["_".join(path.relative_to(root).parts)] = path.read_bytes()
    lines = given.report.open("a", encoding="utf-8") if given.report else None

    def report(case: Case, found: Sequence[str], outcome: Outcome) -> None:
        row = {"case": case.number, "faults": found, "command": case.arguments, "changes": case.changes}
        row |= {"exit": outcome.code, "seconds": outcome.seconds, "peak": outcome.peak, "err": outcome.err[-600:]}
        text = json.dumps(row)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        if lines is not None:
            lines.write(f"{text}\n")
            lines.flush()

    counts = fuzz(range(given.first, given.first + given.cases), models, report)
    sys.stdout.write(f"{dict(sorted(counts.items()))}\n")
    return int(any(not kind.startswith(("exit", "cases")) for kind in counts))


if __name__ == "__main__":
    sys.exit(main())
