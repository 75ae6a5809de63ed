"""Random host operations between integer layers, on every input there is (`support/enumerated_models.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.enumerated_models import check

MODELS = 300
PARTS = 6
WRITTEN = 6
"""Of the models of a part one in so many is written to files too."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_host_operations_on_all_inputs(part: int, tmp_path: Path) -> None:
    numbers = range(part, MODELS, PARTS)
    found = [one for place, number in enumerate(numbers) for one in check(number, None if place % WRITTEN else tmp_path)]
    count = len(numbers)
    assert found.count("refused") < count / 3
    assert found.count("proven") > count / 5
    assert found.count("open and different") < count / 20
    assert found.count("vectors") > count / WRITTEN / 2
    assert found.count("repaired") > 0
