"""Sums of a comparison merge exactly: in which parts samples come, and in which order parts are merged, does not matter."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.verification import LayerDifferences

VALUES = st.one_of(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=12),
    st.lists(st.tuples(st.floats(-1e30, 1e30), st.sampled_from([0.1, 1e-9, 3.0])), min_size=1, max_size=12),
)


def rows_of(pairs: list[tuple[float, float]]) -> list[LayerDifferences]:
    """What each sample alone gives."""
    rows = []
    for number, (ours, theirs) in enumerate(pairs):
        row = LayerDifferences("fc", "FC", "y")
        row.take(np.array([[ours]]), np.array([[theirs]]), number)
        rows.append(row)
    return rows


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_in_which_parts_are_merged_does_not_matter(pairs: list[tuple[float, float]], random: Random) -> None:
    straight = LayerDifferences("fc", "FC", "y")
    for row in rows_of(pairs):
        straight.merge(row)
    tree = rows_of(pairs)
    random.shuffle(tree)
    while len(tree) > 1:
        tree[0].merge(tree.pop(random.randrange(1, len(tree))))
        random.shuffle(tree)
    assert tree[0] == straight
    differences = [Fraction(float(np.float64(ours) - np.float64(theirs))) for ours, theirs in pairs]
    assert straight.total == sum(differences)
    assert straight.mean_difference == float(sum(differences) / len(pairs))
    assert straight.mismatches == sum(ours != theirs for ours, theirs in pairs)
    assert straight.largest == max(abs(float(one)) for one in differences)
    first = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
    assert (None if straight.first is None else straight.first.sample) == first
    if isinstance(pairs[0][0], int):
        whole = LayerDifferences("fc", "FC", "y")
        whole.take(np.array([[one] for one, _ in pairs]), np.array([[other] for _, other in pairs]), 0)
        assert whole == straight


def test_a_begun_row_has_the_names_and_no_values() -> None:
    row = rows_of([(1, 2)])[0]
    assert row.begun() == LayerDifferences("fc", "FC", "y")
