"""Every test run tries 500 damaged models, data and dumps; `benchmarks/fuzz.py` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fuzzing import fuzz, seeds

CASES = 500
PARTS = 10


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder: Path = tmp_path_factory.mktemp("seeds")
    return seeds(folder)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_input_is_answered_or_refused(part: int, models: dict[str, bytes]) -> None:
    found = []
    size = CASES // PARTS
    counts = fuzz(
        range(part * size, (part + 1) * size),
        models,
        lambda case, faults, outcome: found.append((case, faults, outcome.err[-300:])),
    )
    assert counts["cases"] == size
    assert not found
