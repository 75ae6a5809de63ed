"""From operations to the steps that are quantized, and the same as arrays for post-training quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from npusim.errors import UnsupportedError
from npusim.floats.network import Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Node
from npusim.program import Window
from npusim.program.lowering.floats import Affine, Parameters, WeightForm, flatten_node
from npusim.torch.traced import Geometry, Operation, OperationKind

__all__ = ["FusedStep", "float_network", "fuse_operations"]

_FUSIBLE = (OperationKind.CONVOLUTION, OperationKind.LINEAR, OperationKind.AVERAGE_POOL, OperationKind.ADD)
"""Steps that saturate, so that an activation costs them nothing."""

_TRANSPARENT = (OperationKind.MAX_POOL, OperationKind.FLATTEN)
"""Steps that an activation may be moved in front of."""


@dataclass(slots=True)
class FusedStep:
    """A step of the network to be quantized.

    Attributes
    ----------
    name, kind, inputs, shape, module, geometry
        As of the operation. A CONVOLUTION without a module multiplies each channel by one: a batch norm or an activation that
        stands alone.
    batch_norm
        The module that follows; at INPUT the one that becomes the input stage.
    relu
        Whether negative values become zero.
    ceiling
        Where larger values saturate; None where they do not.
    unsigned
        Whether its values are never negative.
    """

    name: str
    kind: OperationKind
    inputs: list[str]
    shape: tuple[int, ...]
    module: Any = None
    geometry: Geometry | None = None
    batch_norm: Any = None
    relu: bool = False
    ceiling: float | None = None
    unsigned: bool = False

    @property
    def has_residual(self) -> bool:
        """Whether it adds the codes of its second input to its own result."""
        return self.kind is OperationKind.CONVOLUTION and len(self.inputs) == 2


@dataclass(slots=True)
class _Fusion:
    """The steps so far."""

    readers: dict[str, int]
    steps: dict[str, FusedStep] = field(default_factory=dict)
    stands_for: dict[str, str] = field(default_factory=dict)

    def add(self, step: FusedStep) -> None:
        self.steps[step.name] = step
        self.stands_for[step.name] = step.name

    def absorb(self, operation: Operation, step: FusedStep) -> None:
        """Let an operation's readers read the step that now includes it."""
        self.stands_for[operation.name] = step.name
        self.readers[step.name] = self.readers[operation.name]

    def is_read_once(self, step: FusedStep) -> bool:
        return self.readers[step.name] == 1


def fuse_operations(operations: Sequence[Operation]) -> list[FusedStep]:
    """Fuse batch norms and activations into the steps whose results they change.

    Raises
    ------
    UnsupportedError
        If a batch norm or an activation stands alone where the NPU has no layer for it.
    """
    readers = {operation.name: 0 for operation in operations}
    for operation in operations:
        for name in operation.inputs:
            readers[name] += 1
    readers[operations[-1].name] += 1
    fusion = _Fusion(readers)
    for operation in operations:
        sources = [fusion.stands_for[name] for name in operation.inputs]
        if operation.kind is OperationKind.BATCH_NORM:
            _fuse_batch_norm(fusion, operation, fusion.steps[sources[0]])
        elif operation.kind is OperationKind.RELU:
            _fuse_relu(fusion, operation, fusion.steps[sources[0]])
        else:
            step = FusedStep(operation.name, operation.kind, sources, operation.shape, operation.module, operation.geometry)
            fusion.add(step)
    return list(fusion.steps.values())


def _fuse_batch_norm(fusion: _Fusion, operation: Operation, source: FusedStep) -> None:
    foldable = source.kind in (OperationKind.INPUT, OperationKind.CONVOLUTION, OperationKind.LINEAR)
    if foldable and source.batch_norm is None and not source.relu and fusion.is_read_once(source):
        source.batch_norm = operation.module
        fusion.absorb(operation, source)
        return
    step = _pointwise(operation, source, "batch norm")
    step.batch_norm = operation.module
    fusion.add(step)


def _fuse_relu(fusion: _Fusion, operation: Operation, source: FusedStep) -> None:
    targets = _relu_targets(fusion, source)
    if targets is None:
        step = _pointwise(operation, source, "activation")
        step.relu, step.ceiling = True, operation.ceiling
        fusion.add(step)
        return
    for target in targets:
        target.relu = True
        ceilings = [value for value in (target.ceiling, operation.ceiling) if value is not None]
        target.ceiling = min(ceilings) if ceilings else None
    fusion.absorb(operation, source)


def _relu_targets(fusion: _Fusion, step: FusedStep) -> list[FusedStep] | None:
    """The steps that an activation behind `step` can be fused into; None where there is no such way."""
    if not fusion.is_read_once(step):
        return None
    if step.kind in _FUSIBLE:
        return [step]
    if step.kind in _TRANSPARENT or step.kind is OperationKind.CONCAT:
        found = [_relu_targets(fusion, fusion.steps[name]) for name in step.inputs]
        if any(targets is None for targets in found):
            return None
        return [target for targets in found if targets is not None for target in targets]
    return None


def _pointwise(operation: Operation, source: FusedStep, what: str) -> FusedStep:
    """A depthwise step that multiplies each channel by one and requantizes it."""
    if len(operation.shape) < 2:
        raise UnsupportedError(
            f"the {what} '{operation.name}' stands alone behind '{source.name}' on data of one axis, for which the NPU has no "
            "layer; put it behind a Linear layer or in front of the Flatten"
        )
    geometry = Geometry((1, 1), (1, 1), group=operation.shape[0])
    return FusedStep(operation.name, OperationKind.CONVOLUTION, [source.name], operation.shape, None, geometry)


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
