"""The real value of codes that a file declares is read back as it was written, and nonsense is no declaration."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.graph.scale_metadata import CODE_SCALES, read_scales, write_scales


def test_scales_come_back() -> None:
    scales = {"a": np.array([0.1, 0.1]), "b": np.float32([0.1, 0.3]).astype(np.float64)}
    found = read_scales(write_scales(scales))
    assert found["a"].tolist() == [0.1]
    assert np.float32(found["b"]).tolist() == np.float32([0.1, 0.3]).tolist()
    assert write_scales({}) == {}


@pytest.mark.parametrize(
    "text",
    ["", "?", "[1]", '{"a": 1}', '{"a": []}', '{"a": [0]}', '{"a": [-1]}', '{"a": [true]}', '{"a": ["1"]}', '{"a": [NaN]}'],
)
def test_what_is_no_scale_is_left_out(text: str) -> None:
    assert read_scales({CODE_SCALES: text}) == {}
