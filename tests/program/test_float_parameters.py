"""What float operations with weights compute, read from their constants."""

from __future__ import annotations

import numpy as np
import pytest

from npusim.graph import Node
from npusim.program.lowering.floats.refusal import Refusal
from npusim.program.lowering.floats.weighted import read_parameters


@pytest.mark.parametrize("operator", ["Conv", "Gemm"])
def test_a_computed_bias_is_not_taken_for_none(operator: str) -> None:
    weights = np.ones((2, 2, 1, 1) if operator == "Conv" else (2, 2), np.float32)
    bias = np.float32([3, 4])
    node = Node(operator, "layer", ("x", "w", "b"), ("y",))
    assert read_parameters(node, {"w": weights, "b": bias}).bias.tolist() == [3.0, 4.0]
    with pytest.raises(Refusal, match="its bias is not constant"):
        read_parameters(node, {"w": weights})
