"""Which tensor of the float model means what a step of the quantized program produces, though names and nodes differ.

The walk follows the quantized program. The inputs mean each other by their order. A step reads tensors whose meaning is
known; what it produces means a tensor that the float model computes from those: layers with weights the output of the
operation whose weights fit, channel by channel, up to a positive factor (batch norm folded in, the product transposed or not);
pools, sums and data movers the output of the same kind of operation. Behind an unsigned clip that is the tensor behind the
ReLU. Steps that only change the scale keep the meaning of what they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from npusim.comparison.alignment.channel_scales import ChannelScales, find_channel_scales
from npusim.comparison.alignment.partners import Partner, confidence_of, find_partner
from npusim.comparison.alignment.weights import channel_cosine, overall_cosine, weights_of
from npusim.comparison.layer_result import LayerPair, UnpairedLayer
from npusim.floats import FloatGraph, LinearOperation
from npusim.program import Program, Step
from npusim.program.trace import step_kind

__all__ = ["Alignment", "align"]


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
        kind, tensor = step_kind(step), step.tensors[-1]
        if len(known) < len(sources):
            lost = next(name for name in quantized.inputs_of(step) if name not in meaning)
            unpaired.append(UnpairedLayer(step.name, kind, tensor, f"it reads '{lost}', which has no counterpart"))
            continue
        taken = {one.step.tensors[0] for one in linear.values() if one.step is not None}
        partner = find_partner(step, known, quantized, graph, taken)
        if isinstance(partner, str):
            unpaired.append(UnpairedLayer(step.name, kind, tensor, partner))
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
