"""Certificates: what is proven of a program for every input, layer by layer and as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from npusim.bounds.channels import ChannelBounds, channel_bounds
from npusim.bounds.host_verdicts import judge_host_operation, judge_quantize_stage
from npusim.bounds.layer_verdicts import (
    judge_accumulator,
    judge_digits,
    judge_onnxruntime,
    judge_optimized,
    judge_product,
    judge_soft_library,
)
from npusim.bounds.verdicts import (
    STATEMENTS_OF,
    Evidence,
    Judgement,
    Property,
    Reasons,
    Refutation,
    Statement,
    Verdict,
    Verdicts,
    conjunction,
    proven,
    unknown,
)
from npusim.errors import InternalMismatchError
from npusim.graph.rounding_limits import is_free
from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage, Step
from npusim.program.intervals import IntegerEnds, Interval, analyse, hull_of
from npusim.program.trace import StepKind, step_kind

__all__ = ["Certificate", "StepCertificate", "certify"]


@dataclass(frozen=True, slots=True)
class StepCertificate:
    """What is known of one step for every input.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    tensor
        The ONNX tensor that the layer produces.
    kind
        Kind of layer; QUANTIZE makes codes of floats, HOST is computed by the host CPU as the graph says.
    judgements
        One for each statement about the format.
    bounds
        Reachable intervals inside of it; None where there is no accumulator (MAXPOOL, QUANTIZE, HOST).
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name", "tensor", "kind", "attained", "accumulator", "partial_sums", "biased", "scaled", "floored"),
        *("digit_accumulator", "verdicts", "reasons", "onnxruntime_optimized"),
    )

    name: str
    kind: StepKind
    tensor: str
    judgements: Mapping[Property, Judgement]
    bounds: ChannelBounds | None

    @property
    def attained(self) -> bool | None:
        """True when the intervals are exact: some input reaches each end.

        False when they are bounds that no input can leave. None where there is no accumulator.
        """
        return None if self.bounds is None else self.bounds.attained

    @property
    def accumulator(self) -> IntegerEnds | None:
        """Sum of products before the bias, over all channels; null where the kind has none."""
        return None if self.bounds is None else hull_of(self.bounds.accumulator)

    @property
    def partial_sums(self) -> IntegerEnds | None:
        """Every partial sum of the accumulator, in whatever order the products are added; null where the kind has none."""
        return None if self.bounds is None else hull_of(self.bounds.partial)

    @property
    def biased(self) -> IntegerEnds | None:
        """Accumulator + bias; null where the kind has none."""
        return None if self.bounds is None else hull_of(self.bounds.biased)

    @property
    def scaled(self) -> IntegerEnds | None:
        """(accumulator + bias) * scale, or k * phi + lambda; null where the kind or the format has none."""
        judged = not {Property.SOFT_INT32, Property.PRODUCT_INT32}.isdisjoint(self.judgements)
        return None if self.bounds is None or not judged else hull_of(self.bounds.scaled)

    @property
    def floored(self) -> IntegerEnds | None:
        """After the shift, before the first clip; null where the kind has none."""
        return None if self.bounds is None else hull_of(self.bounds.floored)

    @property
    def digit_accumulator(self) -> IntegerEnds | None:
        """Accumulators of the 2-bit weight digits, over all channels and digits; null where weights leave their bits, too."""
        return hull_of(*(self.bounds.digits or ())) if self.bounds is not None and self.is_of_npu else None

    @property
    def is_of_npu(self) -> bool:
        """Whether the statements are those about the NPU, whose weights have digits and whose parameters have widths."""
        return Property.DIGIT_18BIT in self.judgements

    @property
    def verdicts(self) -> Verdicts:
        """What is known for every input."""
        return Verdicts.of(self.judgements)

    @property
    def reasons(self) -> Reasons:
        """Why, one clause for each verdict."""
        return Reasons.of(self.judgements)

    @property
    def onnxruntime_optimized(self) -> Statement | None:
        """The statement onnxruntime_exact for an onnxruntime that folds bias and scale into weights, as it does by default."""
        return Statement.about_optimizers(self.judgements)

    @property
    def evidence(self) -> Evidence:
        """Where limits are passed or codes differ; empty for what is proven."""
        return Evidence.of(self.judgements)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a program for every input.

    Attributes
    ----------
    steps
        In execution order.
    model
        For each statement about the format the conjunction over all steps.
    """

    json_names: ClassVar[tuple[str, ...]] = ("verdicts", "reasons", "onnxruntime_optimized")

    steps: tuple[StepCertificate, ...]
    model: Mapping[Property, Judgement]

    @property
    def verdicts(self) -> Verdicts:
        """What is known for every input."""
        return Verdicts.of(self.model)

    @property
    def reasons(self) -> Reasons:
        """Why, one clause for each verdict."""
        return Reasons.of(self.model)

    @property
    def onnxruntime_optimized(self) -> Statement | None:
        """The statement onnxruntime_exact for an onnxruntime that folds bias and scale into weights, as it does by default."""
        return Statement.about_optimizers(self.model)


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
    model = {statement: _whole(steps, statement) for statement in STATEMENTS_OF[program.format]}
    return Certificate(tuple(steps), MappingProxyType(model))


def _judge(
    program: Program, step: Step, bounds: ChannelBounds | None, tensors: Mapping[str, Interval]
) -> dict[Property, Judgement]:
    if Property.DIGIT_18BIT not in STATEMENTS_OF[program.format]:
        return {statement: _judge_int32(program, step, bounds, statement) for statement in STATEMENTS_OF[program.format]}
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


def _judge_int32(program: Program, step: Step, bounds: ChannelBounds | None, statement: Property) -> Judgement:
    """Whether int32 holds what a runtime adds up and multiplies."""
    if bounds is not None:
        product = statement is Property.PRODUCT_INT32
        return judge_product(bounds) if product else judge_accumulator(program, bounds)
    if isinstance(step, IntegerLayer) and step.computes_inside:
        return unknown(f"what {step_kind(step)} computes inside is not examined")
    if isinstance(step, HostOperation) and is_free(step.node) and program.tensors[step.tensors[0]].dtype.kind != "f":
        return unknown(f"what {step.operator} adds up in integers is not examined")
    return proven("it adds up no codes")


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
