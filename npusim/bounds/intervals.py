"""Interval execution of a program: the reachable interval of every element of every tensor, over all inputs.

Each layer is evaluated on the box that its inputs can reach. A sum of products reaches its ends where each input stands at
one of its own ends, so for one layer on independent inputs the intervals are exact, element by element, padding included.
Behind several layers inputs are correlated, and the intervals are bounds that no input can leave. The certificate and the
choice of carriers read them here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

import numpy as np
import numpy.typing as npt

from npusim.engine.reference import accumulate, maximum_of_windows
from npusim.folding import evaluate_node
from npusim.graph import Array
from npusim.program import HostOperation, IntegerArray, IntegerLayer, LayerKind, Program, QuantizeStage, Requantization

__all__ = ["Interval", "LayerBounds", "RangeAnalysis", "accumulator_interval", "analyse"]

_SAME_DIRECTION: Final = frozenset(
    "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather GatherND Expand Tile Pad MaxPool GlobalMaxPool "
    "ReduceMax ReduceMin Add Sum Relu Clip Floor Ceil Round Min Max Cast DepthToSpace SpaceToDepth".split()
)
"""Operators that never fall when an operand rises; moving data is one way not to."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Closed intervals, element by element.

    Attributes
    ----------
    lower, upper
        Arrays of one shape, the batch axis of one sample included; infinite where nothing is known.
    """

    lower: npt.NDArray[Any]
    upper: npt.NDArray[Any]

    @property
    def hull(self) -> tuple[float, float]:
        """The smallest interval around all elements."""
        return float(self.lower.min()), float(self.upper.max())

    def by_channel(self, axis: int) -> Interval:
        """The smallest interval of each channel, int64 or float64 [channels]."""
        others = tuple(position for position in range(self.lower.ndim) if position != axis)
        return Interval(self.lower.min(axis=others), self.upper.max(axis=others))


@dataclass(frozen=True, slots=True)
class LayerBounds:
    """Reachable intervals inside one integer layer.

    Attributes
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs.
    accumulator
        Sum of products before the bias, int64 in the shape of the accumulator.
    partial
        Every partial sum of it, in whatever order the products are added.
    biased, scaled, floored
        After the bias, after the scale, after the shift (before the clip).
    output
        The codes.
    """

    layer: IntegerLayer
    inputs: tuple[Interval, ...]
    accumulator: Interval
    partial: Interval
    biased: Interval
    scaled: Interval
    floored: Interval
    output: Interval


@dataclass(frozen=True, slots=True)
class RangeAnalysis:
    """The intervals of a program.

    Attributes
    ----------
    tensors
        Of step results and inputs, by ONNX name.
    layers
        Of the inside of each integer layer that requantizes, by the name of the layer.
    """

    tensors: Mapping[str, Interval]
    layers: Mapping[str, LayerBounds]


def analyse(program: Program) -> RangeAnalysis:
    """Find the reachable intervals of a program.

    Parameters
    ----------
    program
        Any program; its tensors' declared ranges are used where an operation has no rule.

    Returns
    -------
    RangeAnalysis
        No value that the program can compute lies outside of its interval.
    """
    tensors = {name: _declared(program, name) for name in program.inputs}
    layers = {}
    for step in program.steps:
        if isinstance(step, IntegerLayer):
            inputs = tuple(tensors[name] for name in step.inputs)
            if step.requantization is None:
                tensors[step.output] = Interval(
                    maximum_of_windows(step, inputs[0].lower.astype(np.int64)),
                    maximum_of_windows(step, inputs[0].upper.astype(np.int64)),
                )
            else:
                layers[step.name] = layer_bounds(step, step.requantization, inputs)
                tensors[step.output] = layers[step.name].output
        elif isinstance(step, QuantizeStage):
            tensors[step.output] = _quantize(program, step, tensors[step.input])
        elif isinstance(step, HostOperation):
            tensors.update(_host(program, step, tensors))
        else:
            assert_never(step)
    return RangeAnalysis(tensors, layers)


def layer_bounds(layer: IntegerLayer, requantization: Requantization, inputs: tuple[Interval, ...]) -> LayerBounds:
    """The intervals inside a layer whose inputs lie in a box."""
    codes = tuple(Interval(part.lower.astype(np.int64), part.upper.astype(np.int64)) for part in inputs)
    accumulator = accumulator_interval(layer, codes, layer.weights)
    with_zero = tuple(Interval(np.minimum(part.lower, 0), np.maximum(part.upper, 0)) for part in codes)
    widened = any(bool((part.lower > 0).any() or (part.upper < 0).any()) for part in codes)
    partial = accumulator_interval(layer, with_zero, layer.weights) if widened else accumulator
    bias, scale, shift = (
        values.reshape(-1, *(1,) * (accumulator.lower.ndim - 1 - layer.channel_axis))
        for values in (requantization.bias, requantization.scale, requantization.shift)
    )
    biased = Interval(accumulator.lower + bias, accumulator.upper + bias)
    ends = biased.lower * scale, biased.upper * scale
    scaled = Interval(np.minimum(*ends), np.maximum(*ends))
    floored = Interval(scaled.lower >> shift, scaled.upper >> shift)
    output = _saturate(floored, layer, requantization, codes)
    shape = layer.output_shape
    return LayerBounds(
        layer,
        codes,
        accumulator,
        partial,
        biased,
        scaled,
        floored,
        Interval(output.lower.reshape(shape), output.upper.reshape(shape)),
    )


def accumulator_interval(layer: IntegerLayer, inputs: tuple[Interval, ...], weights: IntegerArray | None) -> Interval:
    """The interval of a layer's accumulator for given weights (the layer's own, or one digit of them).

    ``upper = sum(max(w, 0) * upper + min(w, 0) * lower)`` over the products, and the other way round for the lower end.
    """
    lowers, uppers = [part.lower for part in inputs], [part.upper for part in inputs]
    if weights is None:
        return Interval(accumulate(layer, lowers), accumulate(layer, uppers))
    rising, falling = np.maximum(weights, 0), np.minimum(weights, 0)
    if not falling.any():
        return Interval(accumulate(layer, lowers, rising), accumulate(layer, uppers, rising))
    return Interval(
        accumulate(layer, lowers, rising) + accumulate(layer, uppers, falling),
        accumulate(layer, uppers, rising) + accumulate(layer, lowers, falling),
    )


def _saturate(floored: Interval, layer: IntegerLayer, requantization: Requantization, codes: tuple[Interval, ...]) -> Interval:
    clip = requantization.clip
    if layer.kind is not LayerKind.PWCONVRES or layer.inner_clip is None:
        return Interval(np.clip(floored.lower, clip.lower, clip.upper), np.clip(floored.upper, clip.lower, clip.upper))
    inner, residual = layer.inner_clip, codes[1]
    lower = np.clip(floored.lower, inner.lower, inner.upper) + residual.lower
    upper = np.clip(floored.upper, inner.lower, inner.upper) + residual.upper
    return Interval(np.clip(lower, clip.lower, clip.upper), np.clip(upper, clip.lower, clip.upper))


def _declared(program: Program, name: str) -> Interval:
    tensor = program.tensors[name]
    kind = np.int64 if tensor.is_integer else np.float64
    return Interval(np.full(tensor.shape, tensor.lower, kind), np.full(tensor.shape, tensor.upper, kind))


def _quantize(program: Program, stage: QuantizeStage, source: Interval) -> Interval:
    """Evaluate the stage itself at both ends of its input: each of its operations is monotonic, in float32 as well."""
    largest = np.finfo(np.float32).max
    ends = []
    for end in (source.lower, source.upper):
        values = {stage.input: np.clip(end, -largest, largest).astype(program.tensors[stage.input].dtype)}
        for node in stage.nodes:
            values.update({name: program.constants[name] for name in node.inputs if name in program.constants})
            with np.errstate(over="ignore", invalid="ignore"):
                (values[node.outputs[0]],) = evaluate_node(node, values, program.opset)
        ends.append(values[stage.output])
    if any(np.isnan(end).any() for end in ends):
        return _declared(program, stage.output)
    return Interval(np.minimum(*ends).astype(np.int64), np.maximum(*ends).astype(np.int64))


def _host(program: Program, step: HostOperation, tensors: Mapping[str, Interval]) -> dict[str, Interval]:
    declared = {name: _declared(program, name) for name in step.tensors}
    operands = [
        Interval(program.constants[name], program.constants[name]) if name in program.constants else tensors[name]
        for name in step.node.inputs
        if name
    ]
    if any(not np.isfinite(np.asarray(part, np.float64)).all() for one in operands for part in (one.lower, one.upper)):
        return declared
    ends = _candidates(step.node.op_type, operands)
    if ends is None:
        return declared
    results = [_evaluate(program, step, list(values)) for values in ends]
    found = {}
    for position, name in enumerate(step.tensors):
        stacked = np.stack([result[position].astype(np.float64) for result in results])
        if np.isnan(stacked).any():
            return declared
        lower, upper = stacked.min(axis=0), stacked.max(axis=0)
        exact = program.tensors[name].is_integer
        found[name] = Interval(lower.astype(np.int64), upper.astype(np.int64)) if exact else Interval(lower, upper)
    return found


def _candidates(operator: str, operands: list[Interval]) -> list[tuple[Array, ...]] | None:
    """Operand values among which an operator takes its smallest and largest result, element by element."""
    if operator in _SAME_DIRECTION or (operator == "Resize"):
        return [tuple(part.lower for part in operands), tuple(part.upper for part in operands)]
    if operator in ("Sub", "Mul") and len(operands) == 2:
        first, second = operands
        return [(a, b) for a in (first.lower, first.upper) for b in (second.lower, second.upper)]
    if operator == "Neg":
        return [(operands[0].lower,), (operands[0].upper,)]
    return None


def _evaluate(program: Program, step: HostOperation, operands: list[Array]) -> tuple[Array, ...]:
    names = [name for name in step.node.inputs if name]
    values = {}
    for name, operand in zip(names, operands, strict=True):
        dtype = program.constants[name].dtype if name in program.constants else program.tensors[name].dtype
        values[name] = operand.astype(dtype)
    return evaluate_node(step.node, values, program.opset)
