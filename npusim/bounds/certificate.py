"""Certificates: what is proven of a program for every input, layer by layer and as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from npusim.bounds.channels import ChannelBounds, channel_bounds
from npusim.bounds.host_properties import judge_host_operation, judge_quantize_stage
from npusim.bounds.interval import Interval
from npusim.bounds.intervals import analyse
from npusim.bounds.properties import judge_digits, judge_onnxruntime, judge_optimized, judge_soft_library
from npusim.bounds.verdicts import Judgement, Property, Refutation, Verdict, conjunction, proven, unknown
from npusim.errors import InternalMismatchError
from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage, Step
from npusim.program.trace import step_kind

__all__ = ["Certificate", "StepCertificate", "certify"]


@dataclass(frozen=True, slots=True)
class StepCertificate:
    """What is known of one step for every input.

    Attributes
    ----------
    name, kind, tensor
        The step, its kind (a layer kind, ``QUANTIZE`` or ``HOST``), and the tensor it produces.
    judgements
        One for each property.
    bounds
        Reachable intervals inside of it; None where there is no accumulator (MAXPOOL, QUANTIZE, HOST).
    """

    name: str
    kind: str
    tensor: str
    judgements: Mapping[Property, Judgement]
    bounds: ChannelBounds | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a program for every input.

    Attributes
    ----------
    steps
        In execution order.
    model
        For each property the conjunction over all steps.
    """

    steps: tuple[StepCertificate, ...]
    model: Mapping[Property, Judgement]


def certify(program: Program, *, refutations: Iterable[Refutation] = ()) -> Certificate:
    """Prove what can be proven of a program for every input.

    A layer is judged on the box of codes that its inputs can reach. What holds there holds for every input of the model. What
    fails there may be beyond every input, since earlier layers tie codes to each other: then nothing is known. It is
    violated only where an input is known to exist: for a layer whose codes come from the model's inputs one by one, so that
    each end of each interval occurs, or by a refutation that was found and run.

    Parameters
    ----------
    program
        The program.
    refutations
        Model inputs at which layers were seen to break a property.

    Returns
    -------
    Certificate
        The same for the same program, wherever it is computed.

    Raises
    ------
    InternalMismatchError
        If a refutation contradicts a proof.
    """
    found = analyse(program)
    refuted = {(item.layer, item.statement): item for item in refutations}
    steps = []
    for step in program.steps:
        bounds = channel_bounds(found.layers[step.name]) if step.name in found.layers else None
        judged = {
            statement: _refuted(step.name, judgement, refuted.get((step.name, statement)))
            for statement, judgement in _judge(program, step, bounds, found.tensors).items()
        }
        steps.append(StepCertificate(step.name, step_kind(step), step.tensors[-1], MappingProxyType(judged), bounds))
    model = {statement: _whole(steps, statement) for statement in Property}
    return Certificate(tuple(steps), MappingProxyType(model))


def _judge(
    program: Program, step: Step, bounds: ChannelBounds | None, tensors: Mapping[str, Interval]
) -> dict[Property, Judgement]:
    if bounds is not None:
        as_written = judge_onnxruntime(program, bounds)
        return {
            Property.ONNXRUNTIME_EXACT: as_written,
            Property.SOFT_INT32: judge_soft_library(bounds),
            Property.DIGIT_18BIT: judge_digits(bounds),
            Property.ONNXRUNTIME_OPTIMIZED: judge_optimized(program, bounds, as_written),
        }
    floats = _judge_floats(program, step, tensors)
    device = proven("it has no accumulator") if isinstance(step, IntegerLayer) else proven("the host computes it")
    return {
        Property.ONNXRUNTIME_EXACT: floats,
        Property.SOFT_INT32: device,
        Property.DIGIT_18BIT: device,
        Property.ONNXRUNTIME_OPTIMIZED: floats,
    }


def _judge_floats(program: Program, step: Step, tensors: Mapping[str, Interval]) -> Judgement:
    """Whether a step without accumulator has one result only in floating point."""
    if isinstance(step, QuantizeStage):
        return judge_quantize_stage(program, step, tensors)
    if isinstance(step, HostOperation):
        return judge_host_operation(program, step)
    return proven("the largest of some codes is one of them")


def _refuted(name: str, judgement: Judgement, refutation: Refutation | None) -> Judgement:
    if refutation is None:
        return judgement
    if judgement.holds:
        raise InternalMismatchError(
            f"layer '{name}': it is proven that {judgement.reason}, yet {refutation.reason}; please report this"
        )
    return Judgement(Verdict.VIOLATED, refutation.reason, refutation.evidence)


def _whole(steps: Iterable[StepCertificate], statement: Property) -> Judgement:
    judgements = [(step.name, step.judgements[statement]) for step in steps]
    if not any(step.kind not in ("HOST", "QUANTIZE") for step in steps):
        return unknown("the model has no layer in integers")
    return conjunction(judgements)
