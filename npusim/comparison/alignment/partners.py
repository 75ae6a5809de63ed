"""The tensor of the float model that one step of the quantized program stands for, found behind tensors that are known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from npusim.comparison.alignment.float_graph import ACTIVATIONS, LINEAR, MOVERS, FloatGraph, LinearOperation
from npusim.comparison.alignment.stage_fit import fit_batch_norm
from npusim.comparison.alignment.weights import overall_cosine, weights_of
from npusim.comparison.layer_result import Confidence
from npusim.program import HostOperation, IntegerLayer, LayerKind, Program, QuantizeStage, Step

__all__ = ["Partner", "confidence_of", "find_partner"]

FITTING: Final = {8: 0.98, 4: 0.9, 2: 0.6}
"""Cosine of the weights from which on a pair counts as certain, by weight bits."""

ROUGHLY_FITTING: Final = 0.5
"""Cosine from which on it counts as likely."""

_RESCALING: Final = frozenset(("Add", "Sub", "Mul", "Div"))
_KEEPING: Final = frozenset(("Round", "Floor", "Ceil", "Cast", "Clip", "Min", "Max", "Abs"))
_AVERAGES: Final = ("GlobalAveragePool", "AveragePool", "ReduceMean")
_MAXIMA: Final = ("MaxPool", "GlobalMaxPool", "ReduceMax")


@dataclass(frozen=True, slots=True, eq=False)
class Partner:
    """A tensor of the float model, how sure it is, why, and the operation with weights before it, if that was looked for."""

    tensor: str
    confidence: Confidence
    reason: str
    linear: LinearOperation | None = None


def find_partner(
    step: Step, sources: Sequence[str], program: Program, graph: FloatGraph, taken: Collection[str]
) -> Partner | str:
    """Find what a step stands for.

    Parameters
    ----------
    step
        A step of `program`.
    sources
        The float tensors that mean what the step reads.
    program
        The quantized program.
    graph
        The float model.
    taken
        Operations with weights that other steps stand for, by output.

    Returns
    -------
    Partner or str
        A sentence that says what was looked for in vain where there is none.
    """
    if isinstance(step, QuantizeStage):
        return _behind_stage(step, sources[0], graph)
    if weights_of(step, program) is not None:
        return _with_weights(step, sources, program, graph, taken)
    if isinstance(step, HostOperation):
        return _host(step, sources, program, graph)
    shape = program.tensors[step.output].shape
    lower = 0 if step.requantization is None else step.requantization.clip.lower
    if step.kind is LayerKind.ADD:
        return _of_kind(sources, ("Add",), shape, graph, bent=lower == 0)
    if step.kind is LayerKind.MAXPOOL:
        return _of_kind(sources, _MAXIMA, shape, graph)
    return _of_kind(sources, _AVERAGES, shape, graph)


def confidence_of(step: Step, cosine: float) -> Confidence:
    """How sure a pair is whose weights have this cosine."""
    bits = step.weight_bits if isinstance(step, IntegerLayer) else None
    limit = FITTING.get(bits or 8, FITTING[8])
    return Confidence.CERTAIN if cosine >= limit else Confidence.LIKELY if cosine >= ROUGHLY_FITTING else Confidence.UNSURE


def _behind_stage(stage: QuantizeStage, source: str, graph: FloatGraph) -> Partner:
    """An input stage takes in a batch norm that reads the same tensor, if offset and multiplier are that batch norm's."""
    for step in graph.readers(source, "BatchNormalization"):
        affine = graph.batch_norm(step)
        distance = None if affine is None else fit_batch_norm(stage, *affine)
        if distance is not None:
            sure = Confidence.CERTAIN if distance < 1.0 else Confidence.LIKELY
            reason = f"multipliers follow the gains of the batch norm, with offsets that differ by {distance:.2g} LSB at most"
            return Partner(step.tensors[0], sure, reason)
    if stage.clip.lower == 0:
        for step in graph.readers(source, "Relu"):
            return Partner(step.tensors[0], Confidence.LIKELY, "the stage clips at 0 and the float model has a ReLU there")
    return Partner(source, Confidence.CERTAIN, "the codes of the same tensor")


def _with_weights(
    step: Step, sources: Sequence[str], program: Program, graph: FloatGraph, taken: Collection[str]
) -> Partner | str:
    weights = weights_of(step, program)
    if weights is None:
        return f"step '{step.name}' has no weights"
    candidates: list[tuple[float, LinearOperation]] = []
    for candidate in graph.reachable(sources[0], *LINEAR):
        linear = graph.linear(candidate)
        if linear is None or linear.weights.shape != weights.shape or candidate.tensors[0] in taken:
            continue
        candidates.append((overall_cosine(weights, linear.weights), linear))
    if not candidates:
        wanted = "x".join(str(size) for size in weights.shape)
        return f"the float model has no unpaired operation with weights of shape {wanted} behind '{sources[0]}'"
    cosine, linear = max(candidates, key=lambda item: item[0])
    sure = confidence_of(step, cosine)
    reason = f"weights fit with a cosine of {cosine:.4f}, the best of {len(candidates)} with this shape"
    output = linear.output
    if isinstance(step, IntegerLayer):
        if step.kind is LayerKind.PWCONVRES:
            summed = _of_kind((output, *sources[1:]), ("Add",), step.output_shape, graph)
            if isinstance(summed, str):
                return summed
            output = summed.tensor
        clip = None if step.requantization is None else step.requantization.clip
        output = _bent(output, graph) if clip is not None and clip.lower >= 0 else output
    shape = program.tensors[step.tensors[-1]].shape
    return Partner(_moved_to(output, shape, graph), sure, reason, linear)


def _host(step: HostOperation, sources: Sequence[str], program: Program, graph: FloatGraph) -> Partner | str:
    shape = program.tensors[step.tensors[-1]].shape
    if len(set(sources)) == 1 and (step.operator in _KEEPING or _rescales(step, program)):
        return _rescaled(step, sources[0], program, graph)
    if step.operator == "Relu":
        return _rectified(sources[0], graph)
    operators = MOVERS if step.operator in MOVERS else {step.operator}
    if step.operator in ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"):
        operators = frozenset(_AVERAGES)
    found = _of_kind(sources, tuple(operators), shape, graph)
    if isinstance(found, str) and step.operator in MOVERS and _same_elements(graph.shape(sources[0]), shape):
        return Partner(sources[0], Confidence.CERTAIN, "it only drops axes of size 1")
    return found


def _rescales(step: HostOperation, program: Program) -> bool:
    """Whether a host operation adds, multiplies with or divides by one number, which changes scale and zero point only."""
    found = [program.constants[name] for name in step.node.inputs if name in program.constants]
    return step.operator in _RESCALING and len(found) == 1 and bool((found[0] == found[0].ravel()[0]).all())


def _rescaled(step: HostOperation, source: str, program: Program, graph: FloatGraph) -> Partner:
    if step.operator in ("Clip", "Relu"):
        for other in graph.readers(source, *ACTIVATIONS):
            return Partner(other.tensors[0], Confidence.CERTAIN, "the float model's own activation")
    for other in graph.readers(source, step.operator) if step.operator in _RESCALING else ():
        constant, mine = graph.constant(other), [program.constants[n] for n in step.node.inputs if n in program.constants]
        if constant is not None and constant.size == 1 and float(constant.ravel()[0]) == float(mine[0].ravel()[0]):
            return Partner(other.tensors[0], Confidence.LIKELY, "the float model does the same with the same number")
    return Partner(source, Confidence.CERTAIN, "it changes scale, zero point or rounding, not what the values mean")


def _rectified(source: str, graph: FloatGraph) -> Partner:
    for other in graph.readers(source, *ACTIVATIONS):
        return Partner(other.tensors[0], Confidence.CERTAIN, "the float model's own activation")
    return Partner(source, Confidence.LIKELY, "a ReLU that the float model has not, or has had before")


def _of_kind(
    sources: Sequence[str], operators: tuple[str, ...], shape: tuple[int, ...], graph: FloatGraph, *, bent: bool = False
) -> Partner | str:
    """The output of the operation of these types that reads exactly the tensors known, in the shape wanted if it is there."""
    wanted = set(sources)
    found = []
    for step in graph.reachable(sources[0], *operators):
        read = set(graph.program.inputs_of(step))
        behind = all(any(_leads_to(source, name, graph) for source in sources) for name in read)
        if len(read) == len(wanted) and behind and step not in found:
            found.append(step)
    kinds = "/".join(sorted(operators))
    fitting = [step for step in found if _same_elements(graph.shape(_moved_to(step.tensors[0], shape, graph)), shape)]
    if not fitting:
        return f"the float model has no {kinds} with this shape behind '{sources[0]}'"
    output = _bent(fitting[0].tensors[0], graph) if bent else fitting[0].tensors[0]
    sure = Confidence.CERTAIN if len(fitting) == 1 else Confidence.LIKELY
    place = "the only" if len(fitting) == 1 else "the nearest"
    return Partner(
        _moved_to(output, shape, graph), sure, f"{place} {fitting[0].operator} of the float model behind what it reads"
    )


def _leads_to(source: str, tensor: str, graph: FloatGraph) -> bool:
    """Whether a tensor is another one, or that one moved or bent."""
    while tensor != source:
        step = graph.producers.get(tensor)
        if step is None or step.operator not in MOVERS | ACTIVATIONS:
            return False
        tensor = graph.program.inputs_of(step)[0]
    return True


def _bent(tensor: str, graph: FloatGraph) -> str:
    """The tensor behind the activation that reads a tensor, if one does."""
    for step in graph.readers(tensor, *ACTIVATIONS):
        return step.tensors[0]
    return tensor


def _moved_to(tensor: str, shape: tuple[int, ...], graph: FloatGraph) -> str:
    """The tensor of this shape behind data movers, if there is one; otherwise the tensor itself."""
    waiting: Iterable[str] = [tensor]
    while waiting:
        for name in waiting:
            if graph.shape(name) == shape:
                return name
        waiting = [step.tensors[0] for name in waiting for step in graph.readers(name, *MOVERS)]
    return tensor


def _same_elements(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two shapes differ in axes of size 1 only."""
    return [size for size in first if size > 1] == [size for size in second if size > 1]
