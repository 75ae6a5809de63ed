"""A fused network in the form that post-training quantization reads: arrays instead of modules."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import torch

from npusim.errors import UnsupportedError
from npusim.floats.network import Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Node
from npusim.program import Window
from npusim.program.lowering.floats import Affine, Parameters, WeightForm, flatten_node
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
    return flatten_node(sources[0], output, f"{step.name}/Flatten")


def _window(geometry: Geometry) -> Window:
    extra = geometry.output_padding if geometry.transposed else ()
    return Window(geometry.kernel_shape, geometry.strides, geometry.pads * 2, geometry.dilations, output_padding=extra)


def _parameters(step: FusedStep) -> tuple[FloatArray | None, FloatArray | None]:
    """Weights in ONNX layout and bias, the batch norm folded in."""
    if step.kind not in (OperationKind.INPUT, OperationKind.CONVOLUTION, OperationKind.LINEAR):
        return None, None
    channels = step.shape[0]
    affine = _batch_norm(step, channels)
    if step.kind is OperationKind.INPUT:
        return affine.gain, affine.offset
    if step.module is None:
        weights, bias = np.ones((channels, 1, 1, 1)), np.zeros(channels)
    else:
        weights = _array(step, step.module.weight)
        bias = np.zeros(channels) if step.module.bias is None else _array(step, step.module.bias)
    weights = weights[..., None] if weights.ndim == 3 else weights
    form = WeightForm(_kind(step))
    group = 1 if step.geometry is None else step.geometry.group
    folded = Parameters(form, np.ascontiguousarray(weights.T) if weights.ndim == 2 else weights, bias, group).followed_by(
        affine
    )
    return folded.weights, folded.bias


def _batch_norm(step: FusedStep, channels: int) -> Affine:
    """What the batch norm behind a step computes."""
    norm = step.batch_norm
    if norm is None:
        return Affine.identity(channels)
    scale = np.ones(channels) if norm.weight is None else _array(step, norm.weight)
    shift = np.zeros(channels) if norm.bias is None else _array(step, norm.bias)
    return Affine.of_batch_norm(scale, shift, _array(step, norm.running_mean), _array(step, norm.running_var), norm.eps)


def _array(step: FusedStep, values: torch.Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(array).all():
        raise UnsupportedError(f"'{step.name}' holds parameters that are not finite; check the training (NaN losses?)")
    return array
