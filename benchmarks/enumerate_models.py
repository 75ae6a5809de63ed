"""Random host operations between integer layers on all of their inputs: as many models as are asked for.

Each model is held against onnxruntime and plain integers: outputs of both engines, ranges, stored types, certificate, golden
vectors written and verified, and what `lint --fix` writes (`tests/support/enumerated_models.py`).

python benchmarks/enumerate_models.py --models 20000 [--first 0]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.enumerated_models import check  # noqa: E402

REPORTED = 500
"""Models from one line of progress to the next."""


def main() -> int:
    """The command; exit code 1 where a model failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    given = parser.parse_args()
    counts, failed = Counter[str](), 0
    for done, number in enumerate(range(given.first, given.first + given.models), 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                counts.update(check(number, Path(folder)))
            except Exception:  # noqa: BLE001 - every failure is reported, and the others are run
                failed += 1
                sys.stdout.write(f"model {number}:\n{traceback.format_exc()}\n")
        if done % REPORTED == 0 or done == given.models:
            sys.stdout.write(f"{done} models, {failed} failed: {dict(counts)}\n")
            sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
