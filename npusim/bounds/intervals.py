"""Interval execution of a program: the reachable interval of every element of every tensor, over all inputs.

Each layer is evaluated on the box that its inputs can reach. A sum of products reaches its ends where each input stands at
one of its own ends, so for one layer on independent inputs the intervals are exact, element by element, padding included.
Behind several layers inputs are correlated, and the intervals are bounds that no input can leave. The certificate and the
choice of carriers read them here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from npusim.bounds.host_intervals import host_intervals, permutes_elements, stage_interval
from npusim.bounds.interval import Interval, declared_interval
from npusim.engine.reference import accumulate, maximum_of_windows, unknown_kind
from npusim.program import (
    Accumulating,
    Direct,
    HostOperation,
    IntegerArray,
    IntegerLayer,
    MaxPool,
    Program,
    QuantizeStage,
    Weighted,
)

__all__ = [
    "Interval",
    "LayerBounds",
    "RangeAnalysis",
    "accumulator_interval",
    "analyse",
    "including_zero",
    "layer_bounds",
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
    tensors = {name: declared_interval(program.tensors[name]) for name in program.inputs}
    origins = {name: name for name in program.inputs}
    layers = {}
    for step in program.steps:
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
            found = stage_interval(program, step, tensors[step.input])
            tensors[step.output] = declared_interval(program.tensors[step.output]) if found is None else found
            if found is not None and program.tensors[step.input].shape == program.tensors[step.output].shape:
                _inherit(origins, step.input, step.output)
        elif isinstance(step, HostOperation):
            tensors.update(host_intervals(program, step, tensors))
            if permutes_elements(program, step):
                _inherit(origins, step.node.inputs[0], step.tensors[0])
        else:
            assert_never(step)
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
    rising, falling = np.maximum(weights, 0), np.minimum(weights, 0)
    if not falling.any():
        return Interval(accumulate(layer, lowers, rising), accumulate(layer, uppers, rising))
    return Interval(
        accumulate(layer, lowers, rising) + accumulate(layer, uppers, falling),
        accumulate(layer, uppers, rising) + accumulate(layer, lowers, falling),
    )


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
