"""Every test run tries 500 damaged models, data, dumps and golden folders; `benchmarks/fuzz.py` tries more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from support.fuzz_seeds import Seeds, make_seeds
from support.fuzzing import Case, fuzz
from support.isolated import Outcome

CASES = 500
PARTS = 10


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    folder: Path = tmp_path_factory.mktemp("seeds")
    return make_seeds(folder)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_input_is_answered_or_refused(part: int, seeds: Seeds) -> None:
    wrong = []

    def report(case: Case, faults: Sequence[str], outcome: Outcome) -> None:
        if faults:
            wrong.append((case, faults, outcome.err[-300:]))

    size = CASES // PARTS
    counts = fuzz(range(part * size, (part + 1) * size), seeds, report)
    assert counts["cases"] == size
    assert not wrong
