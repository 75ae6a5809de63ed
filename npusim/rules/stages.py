"""The parts of a model that the host computes: those that every model has, and those that cost.

The input stage, views (Reshape and its like, which move nothing) and the scaling of the output to float are run by the host by
design and are listed apart; every other host operation is a layer that the NPU does not take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from npusim.graph.traits import Trait, is_a
from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage, Step

__all__ = ["Stage", "host_layers", "stages_of"]

StageRole = Literal["input", "view", "output"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the host computes by design.

    Attributes
    ----------
    step
        The step.
    role
        Why the host computes it.
    """

    json_names: ClassVar[tuple[str, ...]] = ("name", "tensor", "kind", "role")

    step: HostOperation | QuantizeStage
    role: StageRole

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.step.name

    @property
    def tensor(self) -> str:
        """The ONNX tensor that it produces."""
        return self.step.tensors[-1]

    @property
    def kind(self) -> Literal["HOST", "QUANTIZE"]:
        """What it is."""
        return "HOST" if isinstance(self.step, HostOperation) else "QUANTIZE"


def stages_of(program: Program) -> tuple[Stage, ...]:
    """What the host computes in every model."""
    found = []
    before = set(program.inputs)
    for step in program.steps:
        role = _role(step, program, before)
        if role is None or isinstance(step, IntegerLayer):
            continue
        found.append(Stage(step, role))
        if role != "output" and all(name in before for name in program.inputs_of(step)):
            before.update(step.tensors)
    return tuple(found)


def host_layers(program: Program) -> tuple[HostOperation | QuantizeStage, ...]:
    """What the host computes because the NPU does not."""
    by_design = {stage.step.name for stage in stages_of(program)}
    return tuple(step for step in program.steps if not isinstance(step, IntegerLayer) and step.name not in by_design)


def _role(step: Step, program: Program, before: set[str]) -> StageRole | None:
    if isinstance(step, IntegerLayer):
        return None
    at_input = all(name in before for name in program.inputs_of(step))
    if isinstance(step, QuantizeStage):
        return "input" if at_input else None
    if is_a(step.operator, Trait.RESHAPES):
        return "view"
    if at_input and is_a(step.operator, Trait.MOVES) and not is_a(step.operator, Trait.INTERPOLATES, Trait.ELEMENTWISE):
        return "input"
    if is_a(step.operator, Trait.AFFINE, Trait.CONVERTS) and len(program.inputs_of(step)) == 1 and _leads_out(step, program):
        return "output"
    return None


def _leads_out(step: HostOperation, program: Program) -> bool:
    """True where everything behind a step is scaling and views, up to an output of the model."""
    for name in step.tensors:
        readers = [other for other in program.steps if name in program.inputs_of(other)]
        if not readers and name not in map(program.resolve, program.outputs):
            return False
        for reader in readers:
            if not isinstance(reader, HostOperation) or not is_a(reader.operator, Trait.AFFINE, Trait.CONVERTS, Trait.RESHAPES):
                return False
            if not _leads_out(reader, program):
                return False
    return True
