"""Whether what the host computes in floats has one result only: every correct implementation of ONNX gives the same one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.bounds.verdicts import Judgement, proven, unknown
from npusim.graph.ranges import range_of_type
from npusim.graph.rounding_limits import is_free
from npusim.graph.traits import Trait, is_a, traits_of
from npusim.program import HostOperation, Program, QuantizeStage, Tensor
from npusim.program.input_stage import DeviceStage
from npusim.program.intervals import Interval, stage_interval

__all__ = ["judge_host_operation", "judge_quantize_stage"]


def judge_quantize_stage(program: Program, stage: QuantizeStage, tensors: Mapping[str, Interval]) -> Judgement:
    """Whether a quantize stage gives the same codes everywhere: it does unless it may be given, or make, NaN.

    Nothing is claimed of a device's own stage, which onnxruntime does not compute.

    Parameters
    ----------
    program
        The program.
    stage
        One of its quantize stages.
    tensors
        Intervals of the program's tensors.
    """
    if isinstance(stage, DeviceStage):
        return unknown(
            f"onnxruntime computes the graph's input stage, not '{stage.variant}', which makes other codes of some values; of "
            "what is behind it, what is proven holds for all codes that it can make"
        )
    if stage_interval(program, stage, tensors[stage.input]) is None:
        return unknown("NaN may come into it, which becomes no code; that it does not is assumed")
    return proven("each of its operations is rounded as IEEE 754 says, in the order of the graph")


def judge_host_operation(program: Program, step: HostOperation) -> Judgement:
    """Whether a host operation has one result only: by the order of its sums, its functions, NaN, zeros of both signs.

    Parameters
    ----------
    program
        The program.
    step
        One of its host operations.
    """
    result = program.tensors[step.tensors[0]]
    if program.computes_in_float16(step):
        return unknown(f"{step.operator} is computed in float16, and where that is rounded differs between runtimes")
    if is_free(step.node) and result.dtype.kind == "f" and not result.is_integer:
        return unknown(
            f"{step.operator} is computed by the host in floats, and IEEE 754 does not say in which order or how exactly; what "
            "is behind it is proven only given its results"
        )
    known = traits_of(step.operator)
    operands = {place: program.tensors[name] for place, name in enumerate(step.node.inputs) if name in program.inputs_of(step)}
    if Trait.SELECTS_NAN in known.traits and any(tensor.nan for tensor in operands.values()):
        return unknown(
            f"{step.operator} may read NaN, of which implementations make different values; that it does not is assumed"
        )
    if is_a(step.operator, Trait.CONVERTS) and not _fits(operands[0], result):
        return unknown(f"{step.operator} may read numbers that {result.dtype} does not hold, for which ONNX defines no result")
    signed = [operands[place] for place in known.observes_zero_sign if place in operands]
    if any(tensor.negative_zero and tensor.lower <= 0 <= tensor.upper for tensor in signed):
        return unknown(f"{step.operator} may read a zero, whose sign decides and is not the same in all implementations")
    return proven("it moves data, or each of its operations is rounded as IEEE 754 says")


def _fits(source: Tensor, result: Tensor) -> bool:
    """Whether an integer type holds every float that may be converted to it."""
    if source.dtype.kind != "f" or result.dtype.kind not in "iu":
        return True
    whole = range_of_type(result.dtype)
    inside = np.isfinite([source.lower, source.upper]).all() and whole.lower <= source.lower and source.upper <= whole.upper
    return not source.nan and bool(inside)
