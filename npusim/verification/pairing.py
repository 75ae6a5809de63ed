"""Which layer of one quantized model is which of another, though names, nodes and bit widths differ."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage, Step, Weighted, geometry_of

__all__ = ["Pairing", "pair_steps"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Steps of two programs that stand for the same layer.

    Attributes
    ----------
    pairs
        Integer layers and quantize stages, in the first program's order.
    only_first, only_second
        Those without a counterpart, because a layer was left in float or split on one side, for example.
    """

    pairs: tuple[tuple[Step, Step], ...]
    only_first: tuple[Step, ...]
    only_second: tuple[Step, ...]


def pair_steps(first: Program, second: Program) -> Pairing:
    """Align two programs by structure.

    Two steps are paired when kind, geometry, weights' shape and output shape agree and what they read goes back to steps that
    are paired with each other (host operations and steps without a counterpart are looked through). Where several qualify,
    as the branches of a residual do, the one with the most similar weights is taken, then the first. A step that finds none
    by what it reads is paired with the next one of its form.

    Parameters
    ----------
    first, second
        The programs.

    Examples
    --------
    Two exports of one network with 8- and with 4-bit weights: every layer is paired with the layer of the same place.
    """
    partners: dict[str, Step] = {}
    taken: set[str] = set()
    candidates = [step for step in second.steps if not isinstance(step, HostOperation)]
    steps = [step for step in first.steps if not isinstance(step, HostOperation)]
    for step in steps:
        free = [other for other in candidates if other.name not in taken and _form(other, second) == _form(step, first)]
        wanted = {partners[one].name for one in _ancestors(first, step, set(partners))}
        fitting = [other for other in free if _ancestors(second, other, taken) == wanted] or free[:1]
        if fitting:
            partner = max(fitting, key=lambda other, step=step: _likeness(step, other))  # type: ignore[misc]
            partners[step.name] = partner
            taken.add(partner.name)
    pairs = tuple((step, partners[step.name]) for step in steps if step.name in partners)
    return Pairing(
        pairs,
        tuple(step for step in steps if step.name not in partners),
        tuple(other for other in candidates if other.name not in taken),
    )


def _form(step: Step, program: Program) -> Hashable:
    shape = program.tensors[step.tensors[-1]].shape
    if isinstance(step, IntegerLayer):
        weights = step.weights.shape if isinstance(step, Weighted) else None
        return str(step.kind), shape, weights, *geometry_of(step)
    return "QUANTIZE" if isinstance(step, QuantizeStage) else "HOST", shape, None, None, 1


def _ancestors(program: Program, step: Step, known: set[str]) -> set[str]:
    """Names of the nearest known steps that a step's inputs come from."""
    producers = {name: one for one in program.steps for name in one.tensors}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(program.inputs_of(step))
    while waiting:
        source = producers.get(program.resolve(waiting.pop()))
        if source is None or source.name in seen:
            continue
        seen.add(source.name)
        if source.name in known:
            found.add(source.name)
        else:
            waiting.extend(program.inputs_of(source))
    return found


def _likeness(step: Step, other: Step) -> float:
    """Cosine of the weights; 0 without weights."""
    if not isinstance(step, Weighted) or not isinstance(other, Weighted):
        return 0.0
    left, right = step.weights.astype(np.float64).ravel(), other.weights.astype(np.float64).ravel()
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / size if size else 0.0
