"""Changes of a candidate, and combinations of them that promise more."""

from __future__ import annotations

from typing import Final

import numpy as np

from npusim.program import IntegerArray

__all__ = ["Changes", "combine_changes", "pick_parent"]

COMBINATIONS: Final = 32
"""Combinations tried after each round of changes."""


class Changes:
    """Changes vectors of input levels at random.

    Parameters
    ----------
    generator
        Where randomness comes from.
    limits
        Highest level of each input, the lowest being 0; int64 [size].
    count
        Candidates to make at once.
    """

    def __init__(self, generator: np.random.Generator, limits: IntegerArray, count: int) -> None:
        self._generator = generator
        self._limits = limits
        self._count = count

    def fresh(self) -> IntegerArray:
        """Candidates from nothing: both ends, the middle, ends at random, levels at random."""
        limits, count = self._limits, self._count
        random = self._generator.integers(0, limits + 1, (count, limits.size))
        corners = limits * self._generator.integers(0, 2, (max(count // 4, 1), limits.size))
        return np.concatenate([np.stack([0 * limits, limits // 2, limits]), corners, random])

    def children(self, parent: IntegerArray, others: IntegerArray) -> IntegerArray:
        """Candidates that differ from one in one way each; `others` are good candidates too."""
        kind = self._generator.integers(5)
        return self._mutated(parent, others, few=kind == 0) if kind < 3 else self._swept(parent, fine=kind == 3)

    def _mutated(self, parent: IntegerArray, others: IntegerArray, *, few: bool) -> IntegerArray:
        """Some inputs, neighbours or scattered, changed together."""
        generator, size = self._generator, parent.size
        most = min(size, 8) if few else size
        children = np.repeat(parent[None], self._count, axis=0)
        for child in children:
            count = int(np.exp(generator.uniform(0, np.log(most + 1))))
            scattered = generator.random() < 0.5
            chosen = generator.integers(0, size, count) if scattered else (generator.integers(size) + np.arange(count)) % size
            near = few and generator.random() < 0.5
            other = others[generator.integers(len(others)), chosen]
            child[chosen] = self._moved(child[chosen], self._limits[chosen], other, near=near)
        return np.clip(children, 0, self._limits)

    def _moved(self, values: IntegerArray, limits: IntegerArray, other: IntegerArray, *, near: bool) -> IntegerArray:
        """Levels moved by a little or a lot, set to random ones or to the ends, or taken from another candidate."""
        generator = self._generator
        match 1 if near else int(generator.integers(6)):
            case 0:
                return generator.integers(0, limits + 1)
            case 1:
                return values + generator.integers(-3, 4, values.size)
            case 2:
                return limits * generator.integers(2)
            case 3:
                return values + int(generator.normal(0, limits.max() / 8))
            case 4:
                return other
            case _:
                return np.asarray(limits * generator.integers(0, 2, values.size))

    def _swept(self, parent: IntegerArray, *, fine: bool) -> IntegerArray:
        """Single inputs moved both ways: by a few levels, to the ends, or to random levels."""
        generator, limits = self._generator, self._limits
        chosen = generator.permutation(parent.size)[: 2 * self._count]
        down, up = (np.repeat(parent[None], chosen.size, axis=0) for _ in range(2))
        diagonal = np.arange(chosen.size), chosen
        if fine:
            step = generator.integers(1, 5)
            down[diagonal], up[diagonal] = parent[chosen] - step, parent[chosen] + step
        elif generator.random() < 0.3:
            down[diagonal], up[diagonal] = (generator.integers(0, limits[chosen] + 1) for _ in range(2))
        else:
            down[diagonal], up[diagonal] = 0, limits[chosen]
        both: IntegerArray = np.clip(np.concatenate([down, up]), 0, limits)
        return both

    def sets(self, effects: IntegerArray, gap: int) -> list[IntegerArray]:
        """Sets of changes that, if their effects add up, come closest to the gap."""
        ranked = np.argsort(-np.sign(gap) * effects, kind="stable")
        helpful = ranked[np.sign(gap) * effects[ranked] > 0]
        found: list[IntegerArray] = []
        count = 2
        while count <= helpful.size:
            found.append(helpful[:count])
            count = int(count * 1.5)
        for _ in range(COMBINATIONS // 4 if helpful.size else 0):
            shuffled = self._generator.permutation(helpful)
            found.append(shuffled[: int(np.abs(np.cumsum(effects[shuffled]) - gap).argmin()) + 1])
        first, second = np.triu_indices(effects.size, 1)
        pairs = np.argsort(np.abs(effects[first] + effects[second] - gap), kind="stable")[: COMBINATIONS - len(found)]
        return [*found, *(np.array([first[pair], second[pair]]) for pair in pairs)]


def combine_changes(parent: IntegerArray, children: IntegerArray) -> IntegerArray:
    """A candidate with the changes of several others."""
    result = parent.copy()
    for child in children:
        changed = child != parent
        result[changed] = child[changed]
    return result


def pick_parent(generator: np.random.Generator, chance: float, count: int) -> int:
    """The number of one of `count` candidates, the best first: the first with this chance, else the second, and so on."""
    return min(int(generator.geometric(chance)) - 1, count - 1)
