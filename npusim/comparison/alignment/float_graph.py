"""The float model as a graph to search in: who reads a tensor, and linear operations with what follows folded into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.comparison.sums import FloatArray
from npusim.graph import Array
from npusim.program import HostOperation, Program

__all__ = ["ACTIVATIONS", "LINEAR", "MOVERS", "FloatGraph", "LinearOperation", "output_channels", "parameters_of"]

LINEAR: Final = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
"""Operations with weights."""

ACTIVATIONS: Final = frozenset(("Relu", "Clip"))
"""What an unsigned clip of codes can stand for."""

MOVERS: Final = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))
"""Operations that keep all elements in their order."""

_LOOKED_THROUGH: Final = MOVERS | ACTIVATIONS | {"BatchNormalization", "Cast"}


@dataclass(frozen=True, slots=True, eq=False)
class LinearOperation:
    """A convolution or matrix product of the float model with everything affine that follows it folded in.

    Attributes
    ----------
    step
        The operation.
    nodes
        Outputs of the operation and of the bias addition and batch norms folded in.
    output
        Tensor behind the last of these.
    weights
        float64 ``[outputs, values]``: convolutions ``[O, I / group * kernel]``, products ``[outputs, inputs]``.
    bias
        float64 ``[outputs]``.
    """

    step: HostOperation
    nodes: tuple[str, ...]
    output: str
    weights: FloatArray
    bias: FloatArray


class FloatGraph:
    """Searches in the float model's program.

    Parameters
    ----------
    program
        The float model; its steps are host operations.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._readers: dict[str, list[HostOperation]] = {}
        self.producers: dict[str, HostOperation] = {}
        for step in program.host_operations:
            for name in step.tensors:
                self.producers[name] = step
            for name in program.inputs_of(step):
                self._readers.setdefault(name, []).append(step)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor for one sample, batch axis included."""
        return self.program.tensors[self.program.resolve(tensor)].shape

    def readers(self, tensor: str, *operators: str) -> list[HostOperation]:
        """The operations of these types that read a tensor."""
        return [step for step in self._readers.get(tensor, []) if step.operator in operators]

    def all_readers(self, tensor: str) -> list[HostOperation]:
        """All operations that read a tensor."""
        return self._readers.get(tensor, [])

    def reachable(self, tensor: str, *operators: str) -> Iterator[HostOperation]:
        """Operations of these types that read a tensor, directly or behind what moves or bends its values; nearest first."""
        waiting, seen = [tensor], {tensor}
        while waiting:
            current = waiting.pop(0)
            yield from self.readers(current, *operators)
            for step in self.readers(current, *_LOOKED_THROUGH):
                if step.operator not in operators and step.tensors[0] not in seen:
                    seen.add(step.tensors[0])
                    waiting.append(step.tensors[0])

    def constant(self, step: HostOperation) -> Array | None:
        """The only constant that a binary operation reads; None where it reads none or several."""
        found = [self.program.constants[name] for name in step.node.inputs if name in self.program.constants]
        return found[0] if len(found) == 1 else None

    def linear(self, step: HostOperation) -> LinearOperation | None:
        """An operation with constant weights, the bias addition and batch norms behind it folded in; None for others."""
        parameters = parameters_of(step, self.program.constants)
        if parameters is None:
            return None
        weights, bias = parameters
        nodes, output = [step.tensors[0]], step.tensors[0]
        while True:
            following = self.all_readers(output)
            affine = _affine(following[0], self.program.constants, len(bias)) if len(following) == 1 else None
            if affine is None:
                return LinearOperation(step, tuple(nodes), output, weights, bias)
            gain, offset = affine
            weights, bias = weights * gain[:, None], bias * gain + offset
            output = following[0].tensors[0]
            nodes.append(output)

    def nodes_between(self, sources: set[str], target: str) -> tuple[str, ...]:
        """Outputs of the operations on the way from some tensors to another, in execution order."""
        needed, waiting = set(), [target]
        while waiting:
            name = waiting.pop()
            step = self.producers.get(name)
            if name in sources or step is None or step.tensors[0] in needed:
                continue
            needed.add(step.tensors[0])
            waiting.extend(self.program.inputs_of(step))
        return tuple(step.tensors[0] for step in self.program.host_operations if step.tensors[0] in needed)

    def batch_norm(self, step: HostOperation) -> tuple[FloatArray, FloatArray] | None:
        """Gain and offset of each channel of a batch norm; None where they are no constants."""
        return _batch_norm(step, self.program.constants)


def parameters_of(step: HostOperation, constants: Mapping[str, Array]) -> tuple[FloatArray, FloatArray] | None:
    """Weights as ``[outputs, values]`` and bias of an operation with constant weights; None for any other."""
    node = step.node
    if step.operator not in LINEAR or node.inputs[1] not in constants:
        return None
    weights = constants[node.inputs[1]].astype(np.float64)
    if step.operator == "ConvTranspose":
        group = node.integer("group", 1)
        split = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
        matrix = np.moveaxis(split, 2, 1).reshape(group * weights.shape[1], -1)
    elif step.operator == "Conv":
        matrix = weights.reshape(len(weights), -1)
    elif weights.ndim != 2:
        return None
    else:
        transposed = step.operator == "Gemm" and node.integer("transB", 0)
        matrix = weights if transposed else weights.T
    factor = node.real("alpha", 1.0) if step.operator == "Gemm" else 1.0
    bias = np.zeros(len(matrix))
    if len(node.inputs) > 2 and node.inputs[2]:
        if node.inputs[2] not in constants:
            return None
        share = node.real("beta", 1.0) if step.operator == "Gemm" else 1.0
        bias = bias + share * constants[node.inputs[2]].astype(np.float64).ravel()
    return matrix * factor, bias


def output_channels(step: HostOperation, values: FloatArray, rank: int) -> FloatArray:
    """Values of each output channel, shaped so that they broadcast along that axis of the weights of an operation."""
    if step.operator == "ConvTranspose" and step.node.integer("group", 1) > 1:
        return np.ones((1,) * rank)
    last = step.operator == "MatMul" or (step.operator == "Gemm" and not step.node.integer("transB", 0))
    axis = 1 if last or step.operator == "ConvTranspose" else 0
    return values.reshape(*(1,) * axis, -1, *(1,) * (rank - 1 - axis))


def _affine(step: HostOperation, constants: Mapping[str, Array], channels: int) -> tuple[FloatArray, FloatArray] | None:
    """Gain and offset of each channel of what may be folded into weights: a batch norm, or a constant added or multiplied."""
    if step.operator == "BatchNormalization":
        return _batch_norm(step, constants)
    if step.operator not in ("Add", "Mul"):
        return None
    found = [constants[name] for name in step.node.inputs if name in constants]
    if len(found) != 1 or found[0].size not in (1, channels):
        return None
    values = np.broadcast_to(found[0].astype(np.float64).ravel(), (channels,))
    return (np.ones(channels), values) if step.operator == "Add" else (values, np.zeros(channels))


def _batch_norm(step: HostOperation, constants: Mapping[str, Array]) -> tuple[FloatArray, FloatArray] | None:
    if any(name not in constants for name in step.node.inputs[1:5]):
        return None
    weight, bias, mean, variance = (constants[name].astype(np.float64) for name in step.node.inputs[1:5])
    gain = weight / np.sqrt(variance + step.node.real("epsilon", 1e-5))
    return gain, bias - mean * gain
