"""The goals of a program, found step by step."""

from __future__ import annotations

import numpy as np

from npusim.bounds import RangeAnalysis, analyse
from npusim.golden.goals.effects import effect_meters
from npusim.golden.goals.goal import GoalTable, Meter
from npusim.golden.goals.other_steps import ClassMeter, CodesMeter, StageMeter, WindowMeter, has_classes
from npusim.golden.goals.requantization import RequantizationMeter
from npusim.program import Accumulating, Direct, Program, QuantizeStage, Step, Windowed
from npusim.program.intervals import declared_interval

__all__ = ["goal_table"]


def goal_table(program: Program) -> GoalTable:
    """All goals of a program; none for a program without integer layers.

    Parameters
    ----------
    program
        A program that takes samples on the first axis.
    """
    if not program.layers:
        return GoalTable(())
    analysis = analyse(program)
    found = [_meter(program, analysis, step) for step in program.steps]
    measured = (*(meter for meter in found if meter is not None), *_class_meters(program, analysis))
    return GoalTable((*measured, *effect_meters(program, measured)))


def _meter(program: Program, analysis: RangeAnalysis, step: Step) -> Meter | None:
    if isinstance(step, QuantizeStage):
        return StageMeter(program, step, analysis.tensors[step.output])
    if isinstance(step, Accumulating):
        return RequantizationMeter(analysis.layers[step.name])
    if isinstance(step, Direct):
        tensor = program.tensors[step.output]
        if tensor.dtype.kind not in "iu":
            return None
        limits = np.iinfo(tensor.dtype.name)
        return CodesMeter(step, analysis.tensors[step.output], tensor.zero_point, (int(limits.min), int(limits.max)))
    return WindowMeter(step, analysis.tensors[step.inputs[0]]) if isinstance(step, Windowed) else None


def _class_meters(program: Program, analysis: RangeAnalysis) -> list[Meter]:
    meters: list[Meter] = []
    for name in program.outputs:
        resolved = program.resolve(name)
        if resolved in program.tensors and has_classes(program.tensors[resolved].shape):
            known = analysis.tensors.get(resolved)
            meters.append(ClassMeter(resolved, declared_interval(program.tensors[resolved]) if known is None else known))
    return meters
