"""How well samples cover a model: what its layers saw, channel by channel, and what no input can show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

import numpy as np

from npusim.golden.goals.goal import BoolArray, Goal, GoalGroup, GoalTable
from npusim.schemas.derivation import Count, Finite
from npusim.schemas.objects import WHERE_KNOWN

__all__ = ["BOTH", "AccumulatorCoverage", "Coverage", "LayerCoverage", "Share", "coverage_of"]

BOTH: Final[Mapping[str, tuple[Goal, Goal]]] = {
    "both_rails": (Goal.LOWER_RAIL, Goal.UPPER_RAIL),
    "sign_change": (Goal.NEGATIVE, Goal.POSITIVE),
    "boundary": (Goal.FIRST_OF_CODE, Goal.LAST_OF_CODE),
}
"""Two goals that a channel should reach both."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many goals of one kind were reached.

    Attributes
    ----------
    reached
        Reached by some sample.
    possible
        Those that are not proven unreachable; the others are not counted against the samples.
    unreachable
        Proven: no input reaches them.
    """

    reached: Count
    possible: Count
    unreachable: Count

    @property
    def share(self) -> float:
        """Reached of those possible; 1 where none is."""
        return self.reached / self.possible if self.possible else 1.0

    def __str__(self) -> str:
        return f"{self.reached}/{self.possible}" if self.possible else "-"


@dataclass(frozen=True, slots=True)
class AccumulatorCoverage:
    """How far accumulators went.

    Attributes
    ----------
    seen
        Smallest and largest.
    proven
        The interval that none can leave.
    """

    json_names: ClassVar[tuple[str, ...]] = ("seen", "proven", "share")

    seen: tuple[int, int]
    proven: tuple[int, int]

    @property
    def share(self) -> Annotated[float, Finite()]:
        """The part of the proven interval between the smallest and the largest seen, to six digits."""
        width = self.proven[1] - self.proven[0]
        return round((self.seen[1] - self.seen[0]) / width, 6) if width else 1.0


@dataclass(frozen=True, slots=True)
class LayerCoverage:
    """What one step saw.

    Attributes
    ----------
    layer
        Its name.
    kind
        Its type: a layer type, ``QUANTIZE`` for the input stage, ``OUTPUT`` for a model output.
    goals
        For each kind of goal, and each pair that a channel should reach both of, in how many channels it was reached.
    accumulator
        Left out of steps without one.
    """

    json_names: ClassVar[tuple[str, ...]] = ("name=layer", "kind", "goals", "accumulator")

    layer: str
    kind: str
    goals: Mapping[str, Share]
    accumulator: AccumulatorCoverage | None = field(default=None, metadata=WHERE_KNOWN)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well samples cover a model.

    Attributes
    ----------
    samples
        Their number.
    layers
        One row for each step with goals, in execution order; none for a model without integer layers.
    """

    json_names: ClassVar[tuple[str, ...]] = ("samples", "layers", "goals", "total")

    samples: Count
    layers: tuple[LayerCoverage, ...]

    @property
    def total(self) -> Share:
        """All goals of all layers."""
        return self._sum([share for row in self.layers for name, share in row.goals.items() if name not in BOTH])

    @property
    def goals(self) -> Mapping[str, Share]:
        """All layers together, for each kind of goal and each pair."""
        names = dict.fromkeys(name for row in self.layers for name in row.goals)
        return {name: self._sum([row.goals[name] for row in self.layers if name in row.goals]) for name in names}

    @staticmethod
    def _sum(shares: list[Share]) -> Share:
        return Share(
            sum(share.reached for share in shares),
            sum(share.possible for share in shares),
            sum(share.unreachable for share in shares),
        )


def coverage_of(
    table: GoalTable, reached: BoolArray, seen: Mapping[str, tuple[int, int]], proven: Mapping[str, tuple[int, int]]
) -> Coverage:
    """The coverage of samples.

    Parameters
    ----------
    table
        The goals of the model.
    reached
        Which of them the samples reach, bool [samples, goals].
    seen, proven
        By layer: smallest and largest accumulator in the samples, and the proven interval.
    """
    union: BoolArray = np.asarray(reached.any(axis=0))
    kinds = {meter.layer: meter.kind for meter in table.meters}
    by_layer: dict[str, dict[Goal, GoalGroup]] = {layer: {} for layer in kinds}
    for group in table.groups:
        by_layer[group.meter.layer][group.goal] = group
    rows = []
    for layer, kind in kinds.items():
        groups = by_layer[layer]
        hits = {goal: union[group.columns] for goal, group in groups.items()}
        possible = {goal: table.possible[group.columns] for goal, group in groups.items()}
        shares = {str(goal): _share(hits[goal], possible[goal]) for goal in groups}
        known = layer in seen and layer in proven
        accumulator = AccumulatorCoverage(seen[layer], proven[layer]) if known else None
        rows.append(LayerCoverage(layer, kind, {**shares, **_pairs(hits, possible)}, accumulator))
    return Coverage(len(reached), tuple(rows))


def _pairs(hits: Mapping[Goal, BoolArray], possible: Mapping[Goal, BoolArray]) -> dict[str, Share]:
    return {
        name: _share(hits[first] & hits[second], possible[first] & possible[second])
        for name, (first, second) in BOTH.items()
        if first in hits and second in hits
    }


def _share(reached: BoolArray, possible: BoolArray) -> Share:
    count = int(np.count_nonzero(possible))
    return Share(int(np.count_nonzero(reached)), count, possible.size - count)
