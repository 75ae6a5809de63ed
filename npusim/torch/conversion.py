"""From fake-quantized steps to the integer network that the emitter writes: numbers are read off, none is computed anew."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from npusim.errors import UnsupportedError
from npusim.lowering.floats import flatten_node, join_node
from npusim.program import Clip, IntegerArray, ShiftFloor, Window
from npusim.quantization.integer_network import (
    Dequantize,
    InputStage,
    IntegerNetwork,
    IntegerStep,
    NodeStep,
    QuantizedKind,
    QuantizedLayer,
    Residual,
)
from npusim.torch.input_step import InputStep
from npusim.torch.network import FakeQuantizedNetwork
from npusim.torch.steps import AveragePoolStep, Codes, ConcatStep, FlattenStep, MaxPoolStep, Step
from npusim.torch.traced import Geometry, OperationKind
from npusim.torch.weighted import INNER_RANGE, WeightedStep

__all__ = ["INPUT", "OUTPUT", "convert_network"]

INPUT = "input"
"""Name of the model's input."""

OUTPUT = "output"
"""Name of the model's output."""


def convert_network(network: FakeQuantizedNetwork, example: torch.Tensor, *, float_output: bool) -> IntegerNetwork:
    """Read the integers off a fake-quantized network.

    Parameters
    ----------
    network
        In evaluation mode.
    example
        A sample that it accepts, on the first axis; only its shape counts.
    float_output
        Whether the output is multiplied by its scale; else it is the codes of the last step.

    Raises
    ------
    UnsupportedError
        If a parameter is not finite.
    """
    with torch.no_grad():
        codes = network.codes(example[:1])
        steps: list[IntegerStep] = []
        last = network.steps[-1].label
        names = {label: OUTPUT if label == last and not float_output else f"{label}:codes" for label in codes}
        for step in network.steps:
            steps.append(_converted(step, [codes[name] for name in step.sources], codes[step.label], names))
    if float_output:
        scale = codes[last].scale.detach().cpu().numpy().astype(np.float32)
        steps.append(Dequantize(f"{last}.dequantize", names[last], OUTPUT, scale.reshape(())))
    shape = (1, *network.lifted(example[:1]).shape[1:])
    result = (1, *codes[last].values.shape[1:])
    return IntegerNetwork({INPUT: tuple(shape)}, {OUTPUT: tuple(result)}, tuple(steps))


def _converted(step: Step, inputs: list[Codes], result: Codes, names: dict[str, str]) -> IntegerStep:
    sources, output, rank = [names[name] for name in step.sources], names[step.label], result.values.dim()
    if isinstance(step, InputStep):
        return _input_stage(step, output, rank)
    if isinstance(step, WeightedStep):
        return _layer(step, inputs, sources, output, rank)
    if isinstance(step, AveragePoolStep):
        return _average_pool(step, inputs[0], sources[0], output, rank)
    if isinstance(step, MaxPoolStep):
        window = _window(step.window)
        return QuantizedLayer(step.label, QuantizedKind.MAX_POOL, sources[0], output, rank, None, 8, None, window)
    if isinstance(step, FlattenStep):
        return NodeStep(flatten_node(sources[0], output, f"{step.label}/Flatten"))
    if isinstance(step, ConcatStep):
        return NodeStep(join_node(sources, output, f"{step.label}/Concat", axis=1))
    raise UnsupportedError(f"the step '{step.label}' ({step.kind}) has no integer form")


def _input_stage(step: InputStep, output: str, rank: int) -> InputStage:
    numbers, _ = step.numbers()
    offset = numbers.offset.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(offset).all():
        raise UnsupportedError(f"the input's batch norm or scale holds {offset}, wanted finite numbers; check the training")
    multiplier, shift = _integers(step, numbers.multiplier), _integers(step, numbers.shift)
    return InputStage(step.label, INPUT, output, offset, multiplier, shift, Clip(step.lower, step.upper), rank)


def _layer(step: WeightedStep, inputs: list[Codes], sources: list[str], output: str, rank: int) -> QuantizedLayer:
    numbers = step.integers(inputs[0])
    weights = _integers(step, numbers.weights)
    clip = Clip(step.lower, step.upper)
    residual = Residual(sources[1], clip) if len(sources) == 2 else None
    requantization = ShiftFloor(
        _integers(step, numbers.bias),
        _integers(step, numbers.multiplier),
        _integers(step, numbers.shift),
        clip=clip if residual is None else Clip(*INNER_RANGE),
    )
    if step.kind is OperationKind.LINEAR:
        kind, weights = QuantizedKind.LINEAR, np.ascontiguousarray(weights.T)
        return QuantizedLayer(step.label, kind, sources[0], output, rank, weights, step.weight_bits, requantization)
    return QuantizedLayer(
        step.label,
        QuantizedKind.CONV_TRANSPOSE if step.transposed else QuantizedKind.CONV,
        sources[0],
        output,
        rank,
        weights,
        step.weight_bits,
        requantization,
        _window(step.window),
        step.window.group,
        residual,
    )


def _average_pool(step: AveragePoolStep, data: Codes, source: str, output: str, rank: int) -> QuantizedLayer:
    channels = data.values.shape[1]
    numbers = [np.full(channels, _integers(step, item).item()) for item in step.requantization(data.scale)]
    over_all = step.window.area == math.prod(data.values.shape[2:]) and not any(step.window.pads)
    return QuantizedLayer(
        step.label,
        QuantizedKind.AVERAGE_POOL,
        source,
        output,
        rank,
        None,
        step.weight_bits,
        ShiftFloor(numbers[0], numbers[1], numbers[2], clip=Clip(step.lower, step.upper)),
        _window(step.window),
        over_all=over_all,
    )


def _window(geometry: Geometry) -> Window:
    return Window(
        geometry.kernel_shape,
        geometry.strides,
        geometry.pads * 2,
        geometry.dilations,
        output_padding=geometry.output_padding if geometry.transposed else (),
    )


def _integers(step: Step, values: torch.Tensor) -> IntegerArray:
    array: npt.NDArray[np.float64] = values.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(array).all():
        raise UnsupportedError(f"'{step.label}' holds parameters that are not finite; check the training (NaN losses?)")
    return array.astype(np.int64)
