"""Why a sample was chosen, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from npusim.golden.goals.goal import BoolArray, Goal, GoalTable

__all__ = ["reasons_for"]

NAMED: Final = 4
"""Kinds of goals that a sentence names."""

NOUNS: Final = {
    Goal.LOWER_RAIL: ("lower rail", "lower rails"),
    Goal.UPPER_RAIL: ("upper rail", "upper rails"),
    Goal.INNER_LOWER: ("inner lower rail", "inner lower rails"),
    Goal.INNER_UPPER: ("inner upper rail", "inner upper rails"),
    Goal.NEGATIVE: ("negative sum", "negative sums"),
    Goal.POSITIVE: ("positive sum", "positive sums"),
    Goal.FIRST_OF_CODE: ("first sum of a code", "first sums of a code"),
    Goal.LAST_OF_CODE: ("last sum of a code", "last sums of a code"),
    Goal.TIE: ("tie", "ties"),
    Goal.ROUNDING: ("sum that rounding to nearest changes", "sums that rounding to nearest changes"),
    Goal.TRUNCATION: ("sum that truncation changes", "sums that truncation changes"),
    Goal.SIGN: ("code that depends on the sign of bytes", "codes that depend on the sign of bytes"),
    Goal.SMALLEST: ("step to the smallest accumulators", "steps to the smallest accumulators"),
    Goal.LARGEST: ("step to the largest accumulators", "steps to the largest accumulators"),
    Goal.WINDOW: ("window with different values", "windows with different values"),
    Goal.C28: ("input that c28 reads otherwise", "inputs that c28 reads otherwise"),
    Goal.MSPM0: ("input that mspm0 reads otherwise", "inputs that mspm0 reads otherwise"),
    Goal.CODE_SHOWS: ("error of one code that shows", "errors of one code that show"),
    Goal.SUM_SHOWS: ("error of one in a sum that shows", "errors of one in a sum that show"),
}
"""One and many of what a channel saw."""


def reasons_for(table: GoalTable, reached: BoolArray, origins: Sequence[str]) -> tuple[str, ...]:
    """For each sample where it comes from and what it is the first to show.

    Parameters
    ----------
    table
        The goals.
    reached
        Which of them each sample reaches, bool [samples, goals], in the order of choice.
    origins
        Where each sample comes from.
    """
    before = np.zeros(table.size, np.bool_)
    sentences = []
    for row, origin in zip(reached, origins, strict=True):
        sentences.append(f"{origin[:1].upper()}{origin[1:]}{_news(table, row & ~before)}.")
        before |= row
    return tuple(sentences)


def _news(table: GoalTable, fresh: BoolArray) -> str:
    if not table.size:
        return ""
    if not fresh.any():
        return ": repeats what others show, with other values"
    counts: dict[Goal, int] = {}
    classes: list[str] = []
    for group in table.groups:
        hits = np.flatnonzero(fresh[group.columns])
        if group.goal is Goal.CLASS:
            classes.extend(f"class {number}" for number in hits)
        elif hits.size:
            counts[group.goal] = counts.get(group.goal, 0) + hits.size
    ranked = sorted(counts, key=lambda goal: -counts[goal])
    named = [*classes, *(f"{counts[goal]} {NOUNS[goal][counts[goal] > 1]}" for goal in ranked[:NAMED])]
    more = sum(counts[goal] for goal in ranked[NAMED:])
    return f": first to show {', '.join(named)}" + (f" and {more} more" if more else "")
