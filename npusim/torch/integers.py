"""From fake-quantized steps to integers: numbers are read off, and the result runs and exports itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError, UsageError
from npusim.files.writing import replacing
from npusim.program import (
    AveragePool,
    Clip,
    Convolution,
    FullyConnected,
    IntegerArray,
    MaxPool,
    Program,
    ShiftFloor,
    TransposedConvolution,
    Weighted,
    Window,
)
from npusim.program.lowering.floats import flatten_node, join_node
from npusim.program.lowering.tinpu.drafts import Draft, StageNumbers, with_residual
from npusim.torch.network import FakeQuantizedNetwork
from npusim.torch.steps import AveragePoolStep, Codes, ConcatStep, FlattenStep, InputStep, MaxPoolStep, Step
from npusim.torch.traced import Geometry, OperationKind
from npusim.torch.weighted import INNER_RANGE, WeightedStep

__all__ = ["INPUT", "OUTPUT", "OUTPUTS", "IntegerModel", "convert_network"]

INPUT = "input"
"""Name of the model's input."""

OUTPUT = "output"
"""Name of the model's output."""


def convert_network(
    network: FakeQuantizedNetwork, example: torch.Tensor, *, float_output: bool
) -> tuple[Program, dict[str, npt.NDArray[np.float64]]]:
    """Read the integers off a fake-quantized network.

    Parameters
    ----------
    network
        In evaluation mode.
    example
        A sample that it accepts, on the first axis; only its shape counts.
    float_output
        Whether the output is multiplied by its scale; else it is the codes of the last step.

    Returns
    -------
    (program, scales)
        The integers, and the real value of one code of each tensor.

    Raises
    ------
    UnsupportedError
        If a parameter is not finite.
    """
    with torch.no_grad():
        codes = network.codes(example[:1])
        draft = Draft()
        last = network.steps[-1].label
        names = {label: OUTPUT if label == last and not float_output else f"{label}:codes" for label in codes}
        for step in network.steps:
            _convert(draft, step, [codes[name] for name in step.sources], codes[step.label], names)
    if float_output:
        scale = codes[last].scale.detach().cpu().numpy().astype(np.float32)
        draft.dequantization(f"{last}.dequantize", names[last], OUTPUT, scale.reshape(()))
    shape = (1, *network.lifted(example[:1]).shape[1:])
    result = (1, *codes[last].values.shape[1:])
    scales = {names[label]: one.scale.detach().cpu().numpy().astype(np.float64).ravel() for label, one in codes.items()}
    return draft.program({INPUT: tuple(shape)}, {OUTPUT: tuple(result)}), scales


def _convert(draft: Draft, step: Step, inputs: list[Codes], result: Codes, names: dict[str, str]) -> None:
    sources, output = tuple(names[name] for name in step.sources), names[step.label]
    if isinstance(step, InputStep):
        draft.stage(step.label, INPUT, output, _stage_numbers(step), result.values.dim())
        return
    common: dict[str, Any] = {
        "name": step.label,
        "inputs": sources[:1],
        "output": output,
        "input_shape": _shape(inputs[0]),
        "output_shape": _shape(result),
        "nodes": (),
    }
    if isinstance(step, WeightedStep):
        layer = _weighted(step, inputs[0], common, has_residual=len(sources) == 2)
        if len(sources) == 2:
            layer = with_residual(layer, sources[1], output, Clip(step.lower, step.upper))
        draft.layer(layer)
    elif isinstance(step, AveragePoolStep):
        draft.layer(_average_pool(step, inputs[0], common))
    elif isinstance(step, MaxPoolStep):
        draft.layer(MaxPool(**common, window=_window(step.window)))
    elif isinstance(step, FlattenStep):
        draft.host(flatten_node(sources[0], output, f"{step.label}/Flatten"), {})
    elif isinstance(step, ConcatStep):
        draft.host(join_node(sources, output, f"{step.label}/Concat", axis=1), {})
    else:
        raise UnsupportedError(f"the step '{step.label}' ({step.kind}) has no integer form")


def _shape(codes: Codes) -> tuple[int, ...]:
    return (1, *codes.values.shape[1:])


def _stage_numbers(step: InputStep) -> StageNumbers:
    numbers, _ = step.numbers()
    offset = numbers.offset.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(offset).all():
        raise UnsupportedError(f"the input's batch norm or scale holds {offset}, wanted finite numbers; check the training")
    multiplier, shift = _integers(step, numbers.multiplier), _integers(step, numbers.shift)
    return StageNumbers(offset, multiplier, shift, Clip(step.lower, step.upper))


def _weighted(step: WeightedStep, data: Codes, common: dict[str, Any], *, has_residual: bool) -> Weighted:
    numbers = step.integers(data)
    requantization = ShiftFloor(
        _integers(step, numbers.bias),
        _integers(step, numbers.multiplier),
        _integers(step, numbers.shift),
        clip=Clip(*INNER_RANGE) if has_residual else Clip(step.lower, step.upper),
    )
    weights = _integers(step, numbers.weights)
    parts = {**common, **_accumulated(common, requantization), "weight_bits": step.weight_bits}
    if step.kind is OperationKind.LINEAR:
        return FullyConnected(**parts, weights=np.ascontiguousarray(weights.T))
    made = TransposedConvolution if step.transposed else Convolution
    return made(**parts, weights=weights, window=_window(step.window), group=step.window.group)


def _average_pool(step: AveragePoolStep, data: Codes, common: dict[str, Any]) -> AveragePool:
    channels = data.values.shape[1]
    numbers = [np.full(channels, _integers(step, item).item()) for item in step.requantization(data.scale)]
    requantization = ShiftFloor(numbers[0], numbers[1], numbers[2], clip=Clip(step.lower, step.upper))
    return AveragePool(**common, **_accumulated(common, requantization), window=_window(step.window))


def _accumulated(common: dict[str, Any], requantization: ShiftFloor) -> dict[str, Any]:
    return {
        "accumulator_shape": common["output_shape"],
        "channel_axis": 1,
        "requantization": requantization,
        "taps": (),
    }


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


OUTPUTS = ("float", "int")
"""What a converted network may give: real values, or the codes of its last layer."""


class IntegerModel:
    """A network in integers, as the NPU computes it.

    Parameters
    ----------
    onnx
        The ONNX model.
    input_shape, output_shape
        Shapes of a sample as the original network sees them, without the batch axis.

    Examples
    --------
    >>> integer = model.convert()  # doctest: +SKIP
    >>> integer.export("motor_4bit.onnx")  # doctest: +SKIP
    >>> y = integer(x)  # doctest: +SKIP
    """

    def __init__(self, onnx: bytes, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._input_shape = input_shape
        self._output_shape = output_shape
        self._onnx = onnx
        self._session: InferenceSession | None = None

    @property
    def program(self) -> Program:
        """The integers: what the ONNX model is lowered to."""
        return self.session.program

    @property
    def onnx(self) -> bytes:
        """The ONNX model."""
        return self._onnx

    @property
    def session(self) -> InferenceSession:
        """The simulator that runs the model."""
        if self._session is None:
            self._session = InferenceSession(self._onnx)
        return self._session

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Run the exported model in npusim.

        Parameters
        ----------
        x
            float32 samples on the first axis, shaped as the original network takes them.

        Returns
        -------
        Tensor
            float32: codes, or real values with a float output; shaped as the original network gives them.

        Raises
        ------
        UsageError
            If the samples have another shape.
        """
        if tuple(x.shape[1:]) != self._input_shape:
            raise UsageError(f"samples have shape {tuple(x.shape[1:])}, wanted {self._input_shape} behind the batch axis")
        program = self.session.program
        (name,) = program.inputs
        samples = x.detach().cpu().numpy().astype(np.float32, copy=False)
        samples = samples.reshape(len(samples), *program.tensors[name].shape[1:])
        (result,) = self.session.run(None, {name: np.ascontiguousarray(samples)})
        return torch.from_numpy(np.array(result)).reshape(len(x), *self._output_shape)

    def export(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the ONNX model, whole or not at all.

        Parameters
        ----------
        path
            Where to.
        force
            Whether an existing file may be replaced.

        Raises
        ------
        UsageError
            If the file exists, or its folder does not.
        """
        target = Path(path)
        if target.exists() and not force:
            raise UsageError(f"{target}: exists; remove it, name another file or use force=True")
        with replacing(target, overwrite=force) as beside:
            beside.write(self._onnx)
