"""Which tensor of the float model means what a step of the quantized program produces, though names and nodes differ.

The walk follows the quantized program. The inputs mean each other by their order. A step reads tensors whose meaning is
known; what it produces means a tensor that the float model computes from those: layers with weights the output of the
operation whose weights fit, channel by channel, up to a positive factor (batch norm folded in, the product transposed or not);
pools, sums and data movers the output of the same kind of operation. Behind an unsigned clip that is the tensor behind the
ReLU. Steps that only change the scale keep the meaning of what they read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from npusim.comparison.alignment.channel_scales import ChannelScales, find_channel_scales
from npusim.comparison.alignment.weights import channel_cosine, fit_batch_norm, overall_cosine, weights_of
from npusim.comparison.layer_result import Confidence, LayerPair, UnpairedLayer, without_ones
from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph, LinearOperation
from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, HostOperation, Program, QuantizeStage, Step, weight_bits_of
from npusim.program.lowering.floats import Role, role_of_operator, roles_of_step
from npusim.program.trace import step_kind

__all__ = ["Alignment", "Partner", "align", "confidence_of", "find_partner"]


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """What the steps of a quantized program mean.

    Attributes
    ----------
    pairs
        In execution order.
    unpaired
        Steps without a counterpart.
    unpaired_float
        Operations of the float model with weights that no step stands for.
    meaning
        Tensors of the quantized program (inputs and results of steps) to tensors of the float model.
    linear
        Of layers with weights, by the name of the step: the float operation.
    by_channel
        Names of the steps whose codes have one scale per channel.
    """

    pairs: tuple[LayerPair, ...]
    unpaired: tuple[UnpairedLayer, ...]
    unpaired_float: tuple[str, ...]
    meaning: Mapping[str, str]
    linear: Mapping[str, LinearOperation]
    by_channel: frozenset[str] = frozenset()


def align(quantized: Program, reference: Program) -> Alignment:
    """Align a quantized program with the program of its float model.

    Parameters
    ----------
    quantized, reference
        The programs, with the same number of inputs.

    Returns
    -------
    Alignment
        Every step of the quantized program is paired or unpaired.
    """
    graph = FloatGraph(reference)
    meaning = dict(zip(quantized.inputs, reference.inputs, strict=False))
    pairs: list[LayerPair] = []
    unpaired: list[UnpairedLayer] = []
    linear: dict[str, LinearOperation] = {}
    for step in quantized.steps:
        sources = [meaning.get(name) for name in quantized.inputs_of(step)]
        known = [name for name in sources if name is not None]
        kind, tensor, roles = step_kind(step), step.tensors[-1], roles_of_step(step)
        if len(known) < len(sources):
            lost = next(name for name in quantized.inputs_of(step) if name not in meaning)
            unpaired.append(UnpairedLayer(step.name, kind, tensor, f"it reads '{lost}', which has no counterpart", roles))
            continue
        taken = {one.step.tensors[0] for one in linear.values() if one.step is not None}
        partner = find_partner(step, known, quantized, graph, taken)
        if isinstance(partner, str):
            unpaired.append(UnpairedLayer(step.name, kind, tensor, partner, roles))
            continue
        meaning[tensor] = partner.tensor
        if partner.linear is not None:
            linear[step.name] = partner.linear
        pairs.append(_pair(step, known, partner, quantized, graph))
    taken = {one.step.tensors[0] for one in linear.values() if one.step is not None}
    missing = tuple(
        step.tensors[0] for step in reference.host_operations if step.tensors[0] not in taken and graph.linear(step) is not None
    )
    scaled = find_channel_scales(pairs, linear, quantized, graph)
    again = tuple(_scaled_pair(pair, scaled, linear, quantized) for pair in pairs)
    return Alignment(again, tuple(unpaired), missing, meaning, linear, scaled.steps)


def _pair(step: Step, sources: list[str], partner: Partner, quantized: Program, graph: FloatGraph) -> LayerPair:
    correlation = None
    weights = weights_of(step, quantized)
    if partner.linear is not None and weights is not None:
        correlation = channel_cosine(weights, partner.linear.weights)
    return LayerPair(
        step=step.name,
        kind=step_kind(step),
        tensor=step.tensors[-1],
        operator=getattr(step, "operator", None),
        float_tensor=partner.tensor,
        float_nodes=graph.nodes_between(set(sources), partner.tensor),
        confidence=partner.confidence,
        reason=partner.reason,
        weight_correlation=correlation,
        squeezed=quantized.tensors[step.tensors[-1]].shape != graph.shape(partner.tensor),
        roles=roles_of_step(step),
    )


def _scaled_pair(
    pair: LayerPair, scaled: ChannelScales, linear: Mapping[str, LinearOperation], quantized: Program
) -> LayerPair:
    """The pair with its weights compared for inputs of one scale per channel, where it reads such."""
    if pair.step not in scaled.columns:
        return pair
    step = next(one for one in quantized.steps if one.name == pair.step)
    weights, reference = weights_of(step, quantized), linear[pair.step].weights * scaled.columns[pair.step]
    if weights is None:
        return pair
    cosine = overall_cosine(weights, reference)
    reason = f"weights fit with a cosine of {cosine:.4f}, for inputs with one scale per channel"
    return replace(
        pair, confidence=confidence_of(step, cosine), reason=reason, weight_correlation=channel_cosine(weights, reference)
    )


FITTING: Final = {8: 0.98, 4: 0.9, 2: 0.6}
"""Cosine of the weights from which on a pair counts as certain, by weight bits."""

ROUGHLY_FITTING: Final = 0.5
"""Cosine from which on it counts as likely."""

_AVERAGES: Final = (Role.AVERAGE, Role.SUM)

_DECIDED: Final = 0.02
"""By so much must the cosine of arithmetic on each channel be better than that of a layer with weights."""


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
    lower = step.output_clip.lower if isinstance(step, Accumulating) else 0
    roles = roles_of_step(step) or _AVERAGES
    return _of_role(sources, roles, shape, graph, bent=lower == 0 and Role.ADDITION in roles)


def confidence_of(step: Step, cosine: float) -> Confidence:
    """How sure a pair is whose weights have this cosine."""
    bits = weight_bits_of(step)
    limit = FITTING.get(bits or 8, FITTING[8])
    return Confidence.CERTAIN if cosine >= limit else Confidence.LIKELY if cosine >= ROUGHLY_FITTING else Confidence.UNSURE


def _behind_stage(stage: QuantizeStage, source: str, graph: FloatGraph) -> Partner:
    """An input stage takes in arithmetic that reads the same tensor, if offset and multiplier are those of the arithmetic."""
    for tensor, affine in reversed(graph.arithmetic_prefixes(source)):
        distance = fit_batch_norm(stage, affine.gain, affine.offset)
        if distance is not None:
            sure = Confidence.CERTAIN if distance < 1.0 else Confidence.LIKELY
            reason = f"multipliers follow the gains of the batch norm, with offsets that differ by {distance:.2g} LSB at most"
            return Partner(graph.saturated(tensor) if stage.clip.lower >= 0 else tensor, sure, reason)
    if stage.clip.lower == 0 and graph.saturated(source) != source:
        reason = "the stage clips at 0 and the float model has a ReLU there"
        return Partner(graph.saturated(source), Confidence.LIKELY, reason)
    return Partner(source, Confidence.CERTAIN, "the codes of the same tensor")


def _with_weights(
    step: Step, sources: Sequence[str], program: Program, graph: FloatGraph, taken: Collection[str]
) -> Partner | str:
    weights = weights_of(step, program)
    if weights is None:
        return f"step '{step.name}' has no weights"
    linear, cosine, count = _fitting(weights, sources[0], graph, taken)
    if linear is None:
        wanted = "x".join(str(size) for size in weights.shape)
        return f"the float model has no unpaired operation with weights of shape {wanted} behind '{sources[0]}'"
    sure = confidence_of(step, cosine)
    reason = f"weights fit with a cosine of {cosine:.4f}, the best of {count} with this shape"
    output = linear.output
    if isinstance(step, Accumulating):
        if step.residual is not None:
            summed = _of_role((output, *sources[1:]), (Role.ADDITION,), step.output_shape, graph)
            if isinstance(summed, str):
                return summed
            output = summed.tensor
        output = graph.saturated(output) if step.output_clip.lower >= 0 else output
    shape = program.tensors[step.tensors[-1]].shape
    return Partner(_moved_to(output, shape, graph), sure, reason, linear)


def _fitting(
    weights: FloatArray, source: str, graph: FloatGraph, taken: Collection[str]
) -> tuple[LinearOperation | None, float, int]:
    """What fits weights best behind a tensor, its cosine, and of how many it is the best.

    Where no operation with weights fits, arithmetic on each channel may, or that nothing is computed but another scale.
    """
    shape = (weights.shape[0], weights.shape[1])
    weighted = (graph.linear(step) for step in graph.reachable(source, lambda step: graph.role(step) is Role.WEIGHTED))
    found = [linear for linear in weighted if linear is not None and linear.weights.shape == shape]
    candidates = [(overall_cosine(weights, one.weights), one) for one in found if not _is_taken(one, taken)]
    others = [one for one in graph.arithmetic(source, shape) if not _is_taken(one, taken)]
    unchanged = graph.identity(source, shape)
    for one in others or ([] if unchanged is None else [unchanged]):
        cosine = overall_cosine(weights, one.weights)
        if cosine >= FITTING[8] and (not candidates or cosine > _DECIDED + max(best for best, _ in candidates)):
            return one, cosine, 1
    if not candidates:
        return None, 0.0, 0
    cosine, linear = max(candidates, key=lambda item: item[0])
    return linear, cosine, len(candidates)


def _is_taken(linear: LinearOperation, taken: Collection[str]) -> bool:
    return linear.step is not None and linear.step.tensors[0] in taken


def _host(step: HostOperation, sources: Sequence[str], program: Program, graph: FloatGraph) -> Partner | str:
    shape = program.tensors[step.tensors[-1]].shape
    if len(set(sources)) == 1 and (_keeps_meaning(step.operator) or _rescales(step, program)):
        return _rescaled(step, sources[0], program, graph)
    role = role_of_operator(step.node)
    if is_a(step.operator, Trait.LIMITS):
        return _rectified(sources[0], graph)
    if role in _AVERAGES:
        return _of_role(sources, _AVERAGES, shape, graph)
    if role is Role.RESHAPE:
        found = _of_role(sources, (Role.RESHAPE,), shape, graph)
        if isinstance(found, str) and without_ones(graph.shape(sources[0])) == without_ones(shape):
            return Partner(sources[0], Confidence.CERTAIN, "it only drops axes of size 1")
        return found
    return _behind(sources, lambda other: other.operator == step.operator, step.operator, shape, graph)


def _keeps_meaning(operator: str) -> bool:
    """Whether an operation rounds, converts or saturates, which codes do that mean the same; a ReLU means something else."""
    return is_a(operator, Trait.ROUNDS, Trait.CONVERTS, Trait.LIMITS) and not is_a(operator, Trait.ACTIVATION)


def _rescales(step: HostOperation, program: Program) -> bool:
    """Whether a host operation adds, multiplies with or divides by one number, which changes scale and zero point only."""
    found = _constants(step, program)
    return is_a(step.operator, Trait.AFFINE) and len(found) == 1 and bool((found[0] == found[0].ravel()[0]).all())


def _constants(step: HostOperation, program: Program) -> list[Array]:
    return [program.constants[name] for name in step.node.inputs if name in program.constants]


def _rescaled(step: HostOperation, source: str, program: Program, graph: FloatGraph) -> Partner:
    if is_a(step.operator, Trait.LIMITS) and graph.readers(source, Role.SATURATION):
        return Partner(graph.saturated(source), Confidence.CERTAIN, "the float model's own activation")
    mine = _constants(step, program)
    for other in graph.readers(source) if is_a(step.operator, Trait.AFFINE) else ():
        constants = _constants(other, graph.program)
        same = other.operator == step.operator and len(constants) == 1 and constants[0].size == 1
        if same and float(constants[0].ravel()[0]) == float(mine[0].ravel()[0]):
            return Partner(other.tensors[0], Confidence.LIKELY, "the float model does the same with the same number")
    return Partner(source, Confidence.CERTAIN, "it changes scale, zero point or rounding, not what the values mean")


def _rectified(source: str, graph: FloatGraph) -> Partner:
    if graph.readers(source, Role.SATURATION):
        return Partner(graph.saturated(source), Confidence.CERTAIN, "the float model's own activation")
    return Partner(source, Confidence.LIKELY, "a ReLU that the float model has not, or has had before")


def _of_role(
    sources: Sequence[str], roles: tuple[Role, ...], shape: tuple[int, ...], graph: FloatGraph, *, bent: bool = False
) -> Partner | str:
    """The output of the operation of these roles that reads exactly the tensors known; with `bent` behind its activation."""
    what = " or ".join(role.name.lower() for role in roles)
    return _behind(sources, lambda step: graph.role(step) in roles, what, shape, graph, bent=bent)


def _behind(
    sources: Sequence[str],
    wanted: Callable[[HostOperation], bool],
    what: str,
    shape: tuple[int, ...],
    graph: FloatGraph,
    *,
    bent: bool = False,
) -> Partner | str:
    """The output of a wanted operation that reads exactly the tensors known, in the shape wanted if it is there."""
    read = set(sources)
    found = []
    for step in graph.reachable(sources[0], wanted):
        names = set(graph.program.inputs_of(step))
        behind = all(any(graph.leads_to(source, name) for source in sources) for name in names)
        if len(names) == len(read) and behind and step not in found:
            found.append(step)
    fitting = []
    for step in found:
        moved = _moved_to(graph.result_of(step), shape, graph)
        if without_ones(graph.shape(moved)) == without_ones(shape):
            fitting.append(step)
    if not fitting:
        return f"the float model has no {what} with this shape behind '{sources[0]}'"
    result = graph.result_of(fitting[0])
    output = graph.saturated(result) if bent else result
    sure = Confidence.CERTAIN if len(fitting) == 1 else Confidence.LIKELY
    place = "the only" if len(fitting) == 1 else "the nearest"
    return Partner(
        _moved_to(output, shape, graph), sure, f"{place} {fitting[0].operator} of the float model behind what it reads"
    )


def _moved_to(tensor: str, shape: tuple[int, ...], graph: FloatGraph) -> str:
    """The tensor of this shape behind data movers, if there is one; otherwise the tensor itself."""
    waiting: Iterable[str] = [tensor]
    while waiting:
        for name in waiting:
            if graph.shape(name) == shape:
                return name
        waiting = [step.tensors[0] for name in waiting for step in graph.readers(name, Role.RESHAPE)]
    return tensor
