"""The float model as a graph to search in: who reads a tensor, and linear operations with what follows folded into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.floats.chains import follow
from npusim.floats.network import FloatArray
from npusim.graph import Graph, TensorType
from npusim.program import HostOperation, Program
from npusim.program.lowering.floats import (
    Affine,
    Refusal,
    Role,
    WeightForm,
    read_affine,
    read_average,
    read_parameters,
    read_saturation,
    role_of,
)
from npusim.program.lowering.tinpu.view import View

__all__ = ["FloatGraph", "LinearOperation"]

_BENT: Final = frozenset((Role.RESHAPE, Role.SATURATION))
_KEEPING_SIGNS: Final = frozenset((Role.RESHAPE, Role.MOVE, Role.MAXIMUM, Role.AVERAGE))
_LOOKED_THROUGH: Final = _BENT | {Role.AFFINE, Role.RENAMING}


@dataclass(frozen=True, slots=True, eq=False)
class LinearOperation:
    """A convolution or matrix product of the float model with everything affine that follows it folded in.

    Arithmetic that follows no such operation is one of its own, and so is a tensor that a layer only gives another scale.

    Attributes
    ----------
    step
        The operation; None for a tensor that stays what it is.
    output
        Tensor behind the last operation folded in.
    weights
        float64 ``[outputs, values]``: convolutions ``[O, I / group * kernel]``, products ``[outputs, inputs]``.
    bias
        float64 ``[outputs]``.
    """

    step: HostOperation | None
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
        nodes = tuple(step.node for step in program.host_operations)
        types = {name: TensorType(tensor.dtype, tensor.shape) for name, tensor in program.tensors.items()}
        outputs = tuple(program.resolve(name) for name in program.outputs)
        self.view = View.of(Graph(program.opset, program.inputs, outputs, nodes, program.constants, types))
        self._readers: dict[str, list[HostOperation]] = {}
        self.producers: dict[str, HostOperation] = {}
        self._roles: dict[str, Role] = {}
        for step in program.host_operations:
            self._roles[step.name] = role_of(self.view, step.node)
            for name in step.tensors:
                self.producers[name] = step
            for name in program.inputs_of(step):
                self._readers.setdefault(name, []).append(step)

    def role(self, step: HostOperation) -> Role:
        """What an operation is."""
        return self._roles[step.name]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor for one sample, batch axis included."""
        return self.program.tensors[self.program.resolve(tensor)].shape

    def readers(self, tensor: str, *roles: Role) -> list[HostOperation]:
        """The operations that read a tensor, of these roles where any are given."""
        found = self._readers.get(tensor, [])
        return [step for step in found if self.role(step) in roles] if roles else found

    def reachable(self, tensor: str, wanted: Callable[[HostOperation], bool]) -> Iterator[HostOperation]:
        """Wanted operations that read a tensor, directly or behind what moves, scales or bends its values; nearest first."""
        waiting, seen = [tensor], {tensor}
        while waiting:
            readers = self.readers(waiting.pop(0))
            yield from (step for step in readers if wanted(step))
            for step in readers:
                looked_through = self.role(step) in _LOOKED_THROUGH
                if looked_through and not wanted(step) and step.tensors[0] not in seen:
                    seen.add(step.tensors[0])
                    waiting.append(step.tensors[0])

    def linear(self, step: HostOperation) -> LinearOperation | None:
        """An operation with constant weights, the arithmetic behind it folded in; None for others."""
        if self.role(step) is not Role.WEIGHTED:
            return None
        try:
            parameters = read_parameters(step.node, self.program.constants)
        except Refusal:
            return None
        output = step.tensors[0]
        axis = 1 if parameters.form is not WeightForm.LINEAR else len(self.shape(output)) - 1
        chain = follow(self.view, output, axis=axis)
        folded = parameters.followed_by(chain.affine)
        return LinearOperation(step, chain.linear, folded.matrix, folded.bias)

    def arithmetic(self, tensor: str, shape: tuple[int, int]) -> Iterator[LinearOperation]:
        """Arithmetic behind a tensor that follows no operation with weights, as weights ``[outputs, values]`` of a shape."""
        for start in self._moved(tensor):
            for step in self.readers(start, Role.AFFINE):
                chain = follow(self.view, start, first=step.node)
                weights = _diagonal(chain.affine.gain, shape)
                if weights is not None:
                    yield LinearOperation(step, chain.linear, weights, chain.affine.offset)

    def identity(self, tensor: str, shape: tuple[int, int]) -> LinearOperation | None:
        """A tensor as it is, with weights ``[outputs, values]`` of a shape; None where they have another one."""
        channels = self.shape(tensor)[1]
        weights = _diagonal(np.ones(channels), shape)
        return None if weights is None else LinearOperation(None, tensor, weights, np.zeros(channels))

    def _moved(self, tensor: str) -> Iterator[str]:
        """A tensor, and what it becomes by reshapes and activations."""
        yield tensor
        for step in self.readers(tensor, *_BENT):
            yield from self._moved(step.tensors[0])

    def arithmetic_prefixes(self, tensor: str) -> list[tuple[str, Affine]]:
        """The tensors that arithmetic with constants makes of a tensor, nearest first, each with gain and offset in all."""
        found: list[tuple[str, Affine]] = []
        shape = self.shape(tensor)
        waiting = [(tensor, Affine.identity(shape[1]))] if len(shape) > 1 else []
        while waiting:
            source, total = waiting.pop(0)
            for step in self.readers(source, Role.AFFINE, Role.RESHAPE):
                if self.role(step) is Role.RESHAPE:
                    waiting.append((step.tensors[0], total))
                    continue
                affine = read_affine(self.view, step.node, shape)
                if affine is not None:
                    found.append((step.tensors[0], total.then(affine)))
                    waiting.append(found[-1])
        return found

    def affine_of(self, nodes: tuple[str, ...]) -> Affine | None:
        """Gain and offset that operations, given by their outputs in execution order, have together; None without any."""
        if not nodes:
            return None
        shape = self.shape(self.program.inputs_of(self.producers[nodes[0]])[0])
        affines = [read_affine(self.view, self.producers[name].node, shape) for name in nodes]
        known = [affine for affine in affines if affine is not None]
        others = [name for name, affine in zip(nodes, affines, strict=True) if affine is None]
        if not known or any(self.role(self.producers[name]) not in _BENT for name in others):
            return None
        total = known[0]
        for affine in known[1:]:
            total = total.then(affine)
        return total

    def bounds(self, step: HostOperation) -> tuple[float, float] | None:
        """The ends of a saturation; None for any other operation."""
        return read_saturation(self.view, step.node) if self.role(step) is Role.SATURATION else None

    def saturated(self, tensor: str) -> str:
        """The tensor behind the activation that reads a tensor, if one does."""
        for step in self.readers(tensor, Role.SATURATION):
            return self.saturated(step.tensors[0])
        for step in self.readers(tensor, Role.RESHAPE):
            found = self.saturated(step.tensors[0])
            if found != step.tensors[0]:
                return found
        return tensor

    def result_of(self, step: HostOperation) -> str:
        """The tensor that an operation gives; of an average that is a sum and a division, the one behind the division."""
        if self.role(step) is Role.SUM:
            try:
                return read_average(self.view, step.node).output
            except Refusal:
                pass
        return step.tensors[0]

    def bends(self, step: HostOperation) -> bool:
        """Whether an operation is an activation or a reshape."""
        return self.role(step) in _BENT

    def is_rectified(self, tensor: str) -> bool:
        """Whether a tensor cannot be negative because of an activation, also behind what keeps that so."""
        while (step := self.producers.get(tensor)) is not None:
            bounds = self.bounds(step)
            if bounds is not None:
                return bounds[0] >= 0
            if self.role(step) not in _KEEPING_SIGNS:
                return False
            tensor = self.program.inputs_of(step)[0]
        return False

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

    def leads_to(self, source: str, tensor: str) -> bool:
        """Whether a tensor is another one, or that one moved or bent."""
        while tensor != source:
            step = self.producers.get(tensor)
            if step is None or self.role(step) not in _BENT:
                return False
            tensor = self.program.inputs_of(step)[0]
        return True


def _diagonal(gain: FloatArray, shape: tuple[int, int]) -> FloatArray | None:
    """Gains as weights of a shape: of a depthwise layer of one element, or of one that mixes nothing."""
    channels = gain.size
    if shape == (channels, 1):
        return gain[:, np.newaxis]
    return np.diag(gain) if shape == (channels, channels) else None
