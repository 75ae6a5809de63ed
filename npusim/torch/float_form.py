"""A fused network in the form that post-training quantization reads: arrays instead of modules."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import torch

from npusim.errors import UnsupportedError
from npusim.graph import Node
from npusim.program import Window
from npusim.quantization.float_network import Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.torch.fusion import FusedStep
from npusim.torch.traced import Geometry, OperationKind

__all__ = ["float_network"]

_KINDS: Final = MappingProxyType(
    {
        OperationKind.INPUT: FloatKind.INPUT,
        OperationKind.LINEAR: FloatKind.LINEAR,
        OperationKind.MAX_POOL: FloatKind.MAX_POOL,
        OperationKind.AVERAGE_POOL: FloatKind.AVERAGE_POOL,
        OperationKind.ADD: FloatKind.ADD,
        OperationKind.CONCAT: FloatKind.CONCAT,
        OperationKind.FLATTEN: FloatKind.MOVE,
    }
)


def float_network(steps: Sequence[FusedStep], input_name: str, output_name: str) -> FloatNetwork:
    """Convert fused steps, batch norms folded with their running statistics; data of one spatial axis gets a width of 1.

    Raises
    ------
    UnsupportedError
        If a parameter is not finite.
    """
    names = {step.name: f"{step.name}:out" for step in steps}
    names[steps[-1].name] = output_name
    shapes = {step.name: _lifted(step.shape) for step in steps}
    layers = []
    for step in steps:
        sources = [names[name] for name in step.inputs] or [input_name]
        before = shapes[step.inputs[0]] if step.inputs else shapes[step.name]
        weights, bias = _parameters(step)
        layers.append(
            FloatLayer(
                step.name,
                _kind(step),
                tuple(sources),
                names[step.name],
                before,
                shapes[step.name],
                _activation(step),
                weights,
                bias,
                None if step.geometry is None else _window(step.geometry),
                1 if step.geometry is None else step.geometry.group,
                1,
                _node(step, sources, names[step.name]),
            )
        )
    return FloatNetwork({input_name: shapes[steps[0].name]}, (output_name,), tuple(layers))


def _lifted(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape, 1) if len(shape) == 2 else (1, *shape)


def _kind(step: FusedStep) -> FloatKind:
    if step.kind is OperationKind.CONVOLUTION:
        return FloatKind.CONV_TRANSPOSE if step.geometry is not None and step.geometry.transposed else FloatKind.CONV
    return _KINDS[step.kind]


def _activation(step: FusedStep) -> Activation:
    if not step.relu:
        return Activation.NONE
    return Activation.RELU if step.ceiling is None else Activation.RELU6


def _node(step: FusedStep, sources: list[str], output: str) -> Node | None:
    if step.kind is not OperationKind.FLATTEN:
        return None
    return Node("Flatten", f"{step.name}/Flatten", tuple(sources), (output,), {"axis": 1})


def _window(geometry: Geometry) -> Window:
    extra = geometry.output_padding if geometry.transposed else ()
    return Window(geometry.kernel_shape, geometry.strides, geometry.pads * 2, geometry.dilations, output_padding=extra)


def _parameters(step: FusedStep) -> tuple[FloatArray | None, FloatArray | None]:
    """Weights in ONNX layout and bias, the batch norm folded in."""
    gain, offset = _batch_norm(step)
    if step.kind not in (OperationKind.INPUT, OperationKind.CONVOLUTION, OperationKind.LINEAR):
        return None, None
    channels = step.shape[0]
    gain = np.ones(channels) if gain is None else gain
    offset = np.zeros(channels) if offset is None else offset
    if step.kind is OperationKind.INPUT:
        return gain, offset
    if step.module is None:
        weights, bias = np.ones((channels, 1, 1, 1)), np.zeros(channels)
    else:
        weights = _array(step, step.module.weight)
        bias = np.zeros(channels) if step.module.bias is None else _array(step, step.module.bias)
    weights = weights[..., None] if weights.ndim == 3 else weights
    bias = bias * gain + offset
    if step.kind is OperationKind.LINEAR:
        return np.ascontiguousarray((weights * gain[:, None]).T), bias
    if step.geometry is not None and step.geometry.transposed:
        by_input = np.repeat(gain.reshape(step.geometry.group, -1), len(weights) // step.geometry.group, axis=0)
        return weights * by_input[:, :, None, None], bias
    return weights * gain[:, None, None, None], bias


def _batch_norm(step: FusedStep) -> tuple[FloatArray | None, FloatArray | None]:
    """Gain and offset of each channel; None without a batch norm."""
    norm = step.batch_norm
    if norm is None:
        return None, None
    gain = 1 / np.sqrt(_array(step, norm.running_var) + norm.eps)
    gain = gain if norm.weight is None else gain * _array(step, norm.weight)
    offset = -_array(step, norm.running_mean) * gain
    return gain, offset if norm.bias is None else offset + _array(step, norm.bias)


def _array(step: FusedStep, values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(array).all():
        raise UnsupportedError(f"'{step.name}' holds parameters that are not finite; check the training (NaN losses?)")
    return array
