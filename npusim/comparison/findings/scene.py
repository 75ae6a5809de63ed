"""What the rules for findings look at: the program, what was seen on data, what the comparison with the float model found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from npusim.comparison.findings.observation import CodeObservation
from npusim.graph.traits import Trait, is_a
from npusim.program import AveragePool, HostOperation, IntegerLayer, MaxPool, Program, Step

if TYPE_CHECKING:
    from npusim.comparison.result import FloatComparison, LayerComparison

__all__ = ["Scene", "Sign", "moves_codes"]


@dataclass(frozen=True, slots=True)
class Sign:
    """One occurrence of what a rule looks for.

    Attributes
    ----------
    layer
        Name of the step.
    evidence
        The numbers, for the rule's message.
    severity
        Instead of the rule's own.
    """

    layer: str
    evidence: Mapping[str, Any]
    severity: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is known of a model.

    Attributes
    ----------
    program
        Its program.
    observations
        Codes on data by name of the step; empty where no data was given.
    comparison
        The comparison with the float model; None without one.
    """

    program: Program
    observations: Mapping[str, CodeObservation] = field(default_factory=dict)
    comparison: FloatComparison | None = None

    @property
    def pools(self) -> Iterator[AveragePool]:
        """The average pools."""
        return (layer for layer in self.program.layers if isinstance(layer, AveragePool))

    def compared(self, name: str) -> LayerComparison | None:
        """A step's comparison with the float model, where there is one."""
        layers = () if self.comparison is None else self.comparison.layers
        return next((layer for layer in layers if layer.name == name), None)

    def source_of(self, tensor: str) -> Step | None:
        """The step whose codes a tensor holds, through operations that only move codes; None for inputs of the model."""
        producers = {name: step for step in self.program.steps for name in step.tensors}
        step = producers.get(self.program.resolve(tensor))
        while step is not None and moves_codes(step):
            step = producers.get(self.program.resolve(self.program.inputs_of(step)[0]))
        return step


def moves_codes(step: Step) -> bool:
    """Whether a step only moves codes or brings them into another range: a maximum pool, a reshape, a concatenation."""
    if isinstance(step, IntegerLayer):
        return isinstance(step, MaxPool)
    return isinstance(step, HostOperation) and is_a(step.operator, Trait.MOVES, Trait.LIMITS)
