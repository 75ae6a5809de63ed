"""Interval execution of a program: the reachable interval of every element of every tensor, over all inputs.

Each layer is evaluated on the box that its inputs can reach. A sum of products reaches its ends where each input stands at
one of its own ends, so for one layer on independent inputs the intervals are exact, element by element, padding included.
Behind several layers inputs are correlated, and the intervals are bounds that no input can leave. The certificate and the
choice of carriers read them here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from npusim.graph import Node, TensorType
from npusim.graph.ranges import Ends, ends_of_results, range_of_input
from npusim.graph.traits import Trait, is_a
from npusim.program.accumulation import accumulate, maximum_of_windows, unknown_kind
from npusim.program.direct import Direct
from npusim.program.input_stage import DeviceStage
from npusim.program.layers import Accumulating, IntegerLayer, MaxPool, Weighted
from npusim.program.program import HostOperation, Program, QuantizeStage, Tensor
from npusim.program.requantization import IntegerArray

__all__ = [
    "IntegerEnds",
    "Interval",
    "LayerBounds",
    "RangeAnalysis",
    "accumulator_interval",
    "analyse",
    "declared_interval",
    "host_intervals",
    "hull_of",
    "including_zero",
    "layer_bounds",
    "permutes_elements",
    "stage_interval",
]


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
        What the staircase says of it: after the bias, the widest integer behind that (after the scale), before the clip.
    output
        The codes.
    attained
        True when the intervals are exact: every end, and every combination of ends of the inputs, occurs for some model
        input. Otherwise they are bounds, which may be wider than what occurs.
    """

    layer: Accumulating
    inputs: tuple[Interval, ...]
    accumulator: Interval
    partial: Interval
    biased: Interval
    scaled: Interval
    floored: Interval
    output: Interval
    attained: bool = False


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


def analyse(program: Program, *, given: Mapping[str, Interval] | None = None, any_codes: bool = False) -> RangeAnalysis:
    """Find the reachable intervals of a program.

    Parameters
    ----------
    program
        Any program; its tensors' declared ranges are used where an operation has no rule.
    given
        Intervals of inputs or of the codes of quantize stages, where other values are left out.
    any_codes
        The codes of each step are taken to be any of their declared range, as where they are given instead of computed.

    Returns
    -------
    RangeAnalysis
        No value that the program can compute lies outside of its interval.
    """
    fixed = given or {}
    tensors = {name: fixed.get(name, declared_interval(program.tensors[name])) for name in program.inputs}
    origins = {name: name for name in program.inputs}
    layers = {}
    read = program.read_by_steps
    for step in program.steps:
        inner = read.intersection(step.tensors[:-1])
        tensors.update({name: declared_interval(program.tensors[name]) for name in sorted(inner)})
        if isinstance(step, IntegerLayer):
            inputs = tuple(tensors[name] for name in step.inputs)
            match step:
                case MaxPool():
                    tensors[step.output] = _maxima(step, inputs[0])
                case Accumulating():
                    layers[step.name] = layer_bounds(step, inputs, attained=_is_free(step, origins))
                    tensors[step.output] = layers[step.name].output
                case Direct():
                    ends = step.interval([(part.lower.astype(np.int64), part.upper.astype(np.int64)) for part in inputs])
                    tensors[step.output] = Interval(*(end.reshape(step.output_shape) for end in ends))
                case _:
                    raise unknown_kind(step)
        elif isinstance(step, QuantizeStage):
            found = fixed.get(step.output) or stage_interval(program, step, tensors[step.input])
            tensors[step.output] = declared_interval(program.tensors[step.output]) if found is None else found
            if found is not None and program.tensors[step.input].shape == program.tensors[step.output].shape:
                _inherit(origins, step.input, step.output)
        elif isinstance(step, HostOperation):
            tensors.update(host_intervals(program, step, tensors))
            if permutes_elements(program, step):
                _inherit(origins, step.node.inputs[0], step.tensors[0])
        else:
            assert_never(step)
        if any_codes and isinstance(step, IntegerLayer | QuantizeStage):
            tensors[step.output] = declared_interval(program.tensors[step.output])
            origins.pop(step.output, None)
    return RangeAnalysis(tensors, layers)


def _is_free(layer: IntegerLayer, origins: Mapping[str, str]) -> bool:
    """True when a layer's inputs take every combination of their interval ends.

    So they do where each element comes from another element of the model's inputs, which can be chosen without regard to the
    others.
    """
    sources = [origins.get(name) for name in layer.inputs]
    return None not in sources and len(set(sources)) == len(sources)


def _inherit(origins: dict[str, str], source: str, result: str) -> None:
    if source in origins:
        origins[result] = origins[source]


def _maxima(layer: MaxPool, codes: Interval) -> Interval:
    return Interval(
        maximum_of_windows(layer, codes.lower.astype(np.int64)), maximum_of_windows(layer, codes.upper.astype(np.int64))
    )


def layer_bounds(layer: Accumulating, inputs: tuple[Interval, ...], *, attained: bool = False) -> LayerBounds:
    """The intervals inside a layer whose inputs lie in a box.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs.
    attained
        Whether its inputs take every combination of their ends.
    """
    codes = tuple(Interval(part.lower.astype(np.int64), part.upper.astype(np.int64)) for part in inputs)
    weights = layer.weights if isinstance(layer, Weighted) else None
    accumulator = accumulator_interval(layer, codes, weights)
    with_zero = including_zero(codes)
    partial = accumulator if with_zero is codes else accumulator_interval(layer, with_zero, weights)
    part, axis = layer.requantization, layer.channel_axis
    biased, scaled, floored = (_image(function, accumulator, axis) for function in (part.biased, part.scaled, part.unclipped))
    residual = layer.residual_of(codes)
    output = Interval(
        layer.finish(floored.lower, None if residual is None else residual.lower),
        layer.finish(floored.upper, None if residual is None else residual.upper),
    )
    shape = layer.output_shape
    codes_interval = Interval(output.lower.reshape(shape), output.upper.reshape(shape))
    return LayerBounds(layer, codes, accumulator, partial, biased, scaled, floored, codes_interval, attained)


def accumulator_interval(layer: Accumulating, inputs: tuple[Interval, ...], weights: IntegerArray | None) -> Interval:
    """The interval of a layer's accumulator for given weights (the layer's own, or one digit of them).

    ``upper = sum(max(w, 0) * upper + min(w, 0) * lower)`` over the products, and the other way round for the lower end.
    """
    lowers, uppers = [part.lower for part in inputs], [part.upper for part in inputs]
    if weights is None:
        return Interval(accumulate(layer, lowers), accumulate(layer, uppers))
    half = np.maximum(weights, 0)
    lower, upper = accumulate(layer, lowers, half), accumulate(layer, uppers, half)
    if not weights.size or weights.min() >= 0:
        return Interval(lower, upper)
    # in the same memory, which is large where the layer is
    np.minimum(weights, 0, out=half)
    return Interval(lower + accumulate(layer, uppers, half), upper + accumulate(layer, lowers, half))


def including_zero(inputs: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """The inputs' intervals with 0 in each: a partial sum is a sum in which the missing products are 0.

    Returns `inputs` itself where 0 is in all of them.
    """
    if all(bool((part.lower <= 0).all() and (part.upper >= 0).all()) for part in inputs):
        return inputs
    return tuple(Interval(np.minimum(part.lower, 0), np.maximum(part.upper, 0)) for part in inputs)


def _image(function: Callable[[IntegerArray, int], IntegerArray], interval: Interval, axis: int) -> Interval:
    """What a function that rises or falls makes of an interval: its values at the ends, in order."""
    ends = function(interval.lower, axis), function(interval.upper, axis)
    return Interval(np.minimum(*ends), np.maximum(*ends))


IntegerEnds = tuple[int, int]
"""Smallest and largest value."""


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


def declared_interval(tensor: Tensor) -> Interval:
    """What a tensor's declared range alone says: int64 for integers of a finite range that int64 holds, float64 otherwise."""
    finite = tensor.is_integer and tensor.lower >= -(2**63) and tensor.upper < 2**63
    ends = (int(tensor.lower), int(tensor.upper)) if finite else (float(tensor.lower), float(tensor.upper))
    kind = np.int64 if finite else np.float64
    return Interval(np.full(tensor.shape, ends[0], kind), np.full(tensor.shape, ends[1], kind))


def hull_of(*intervals: Interval) -> IntegerEnds | None:
    """``(lower, upper)`` around intervals; None around none."""
    if not intervals:
        return None
    return int(min(np.min(one.lower) for one in intervals)), int(max(np.max(one.upper) for one in intervals))


def stage_interval(program: Program, stage: QuantizeStage, source: Interval) -> Interval | None:
    """The codes of a quantize stage, operation by operation; None where one of them may give no number."""
    if program.tensors[stage.input].nan:
        return None
    if isinstance(stage, DeviceStage):
        found = stage.ends(source.lower, source.upper)
        return None if found is None else Interval(*found)
    tensors = {stage.input: source}
    for node in stage.nodes:
        (ends,) = _results(program, node, tensors)
        if ends is None:
            return None
        tensors[node.outputs[0]] = _held(program.tensors[node.outputs[0]], ends)
    codes = tensors[stage.output]
    return Interval(codes.lower.astype(np.int64), codes.upper.astype(np.int64))


def permutes_elements(program: Program, step: HostOperation) -> bool:
    """True when each element of the result is another element of the first input, unchanged."""
    rest = all(name in program.constants for name in step.node.inputs[1:] if name)
    return is_a(step.operator, Trait.PERMUTES) and rest


def host_intervals(program: Program, step: HostOperation, tensors: Mapping[str, Interval]) -> dict[str, Interval]:
    """The intervals of a host operation's results: those declared, where its operator has no closer ones."""
    found = {name: declared_interval(program.tensors[name]) for name in step.tensors}
    if any(program.tensors[name].nan for name in program.inputs_of(step)):
        return found
    for name, ends in zip(step.node.outputs, _results(program, step.node, tensors), strict=True):
        if not name or ends is None or program.tensors[name].nan:
            continue
        kind = found[name].lower.dtype
        if kind == np.int64 or program.tensors[name].dtype.kind == "f":
            found[name] = _held(program.tensors[name], (ends[0].astype(kind), ends[1].astype(kind)))
    return found


def _results(program: Program, node: Node, tensors: Mapping[str, Interval]) -> tuple[Ends | None, ...]:
    ends = [_ends(program, name, tensors) if name else None for name in node.inputs]
    types = {name: _type(program, name) for name in (*node.inputs, *node.outputs) if name}
    return ends_of_results(node, ends, program.constants, types, program.opset)


def _ends(program: Program, name: str, tensors: Mapping[str, Interval]) -> Ends:
    if name in program.constants:
        return program.constants[name], program.constants[name]
    lower, upper = _declared(program.tensors[name], tensors[name])
    if name not in program.inputs or program.tensors[name].dtype.kind != "f":
        return lower, upper
    # the numbers that an input can be are finite
    known = range_of_input(_type(program, name))
    return np.maximum(lower, known.lower), np.minimum(upper, known.upper)


def _type(program: Program, name: str) -> TensorType:
    constant = program.constants.get(name)
    if constant is not None:
        return TensorType(constant.dtype, constant.shape)
    tensor = program.tensors[name]
    return TensorType(tensor.dtype, tensor.declared_shape)


def _declared(tensor: Tensor, held: Interval) -> Ends:
    """Ends as the file has them: in its order, zero points included. Host operations compute on that."""
    ends = held.lower, held.upper
    if tensor.order is not None:
        ends = ends[0].transpose(tensor.order), ends[1].transpose(tensor.order)
    return (ends[0] + tensor.zero_point, ends[1] + tensor.zero_point) if tensor.zero_point else ends


def _held(tensor: Tensor, declared: Ends) -> Interval:
    """Ends as the program holds them: the inverse of :func:`_declared`."""
    ends = (declared[0] - tensor.zero_point, declared[1] - tensor.zero_point) if tensor.zero_point else declared
    if tensor.order is None:
        return Interval(*ends)
    back = tuple(int(axis) for axis in np.argsort(tensor.order))
    return Interval(ends[0].transpose(back), ends[1].transpose(back))
