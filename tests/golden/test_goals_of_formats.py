"""Goals of models with zero points: roundings of float multipliers, ends of tables, sums, products and means of codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.golden.goals.goal import Goal
from npusim.golden.goals.table import goal_table
from npusim.search.sampling import generate_inputs
from support.qdq_models import quantized_model
from support.qdq_networks import qdq_network


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_goals_are_reached_where_codes_say_so_and_only_where_they_are_possible(dtype: str) -> None:
    session = InferenceSession(qdq_network(dtype))
    table = goal_table(session.program)
    feeds = generate_inputs(session.program, 64, seed=5)
    reached = table.measure(session.held(feeds, table.tensors), 64)
    assert not (reached & ~table.possible).any()
    groups = {(group.meter.kind, group.goal): group for group in table.groups}
    for kind in ("ADD", "MUL", "TABLE", "CONCAT"):
        assert (kind, Goal.LOWER_RAIL) in groups
        assert (kind, Goal.UPPER_RAIL) in groups
    # multipliers that are no fractions of a power of two make no ties
    assert not table.possible[groups["GCONV", Goal.TIE].columns].any()
    assert reached[:, groups["GCONV", Goal.TRUNCATION].columns].any()
    layer = next(layer for layer in session.program.layers if layer.kind == "ADD")
    codes = session.trace(feeds, layer.output)[layer.output].reshape(64, layer.output_shape[1], -1)
    limits = np.iinfo(dtype)
    for goal, wanted in ((Goal.LOWER_RAIL, codes == limits.min), (Goal.UPPER_RAIL, codes == limits.max)):
        assert np.array_equal(reached[:, groups["ADD", goal].columns], wanted.any(axis=2)), goal
    sign = codes < 0 if limits.min else codes > 127
    assert np.array_equal(reached[:, groups["ADD", Goal.SIGN].columns], sign.any(axis=2))


def test_ties_of_a_multiplier_of_a_quarter_are_goals_and_found(tmp_path: Path) -> None:
    session = InferenceSession(quantized_model(tmp_path / "model.onnx"))
    table = goal_table(session.program)
    groups = {group.goal: group for group in table.groups if group.meter.kind == "FC"}
    x = np.random.default_rng(1).integers(-128, 128, (200, 3)).astype(np.float32) / 2
    reached = table.measure(session.held({"x": x}, table.tensors), 200)
    assert not (reached & ~table.possible).any()
    for goal in (Goal.TIE, Goal.ROUNDING, Goal.TRUNCATION):
        assert table.possible[groups[goal].columns].all()
        assert reached[:, groups[goal].columns].any(axis=0).all()
    # half of the ties have an even code below, and only those does rounding halves up change
    ties, others = (reached[:, groups[goal].columns].sum() for goal in (Goal.TIE, Goal.ROUNDING))
    assert 0 < others <= ties
