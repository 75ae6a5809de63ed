"""Steps that a quantizer makes, in the form in which the emitter writes them: a program before anything is proven of it.

Lowering what :func:`~npusim.program.lowering.tinpu.emitter.emit` makes of a draft gives the whole program, inner tensors and
ranges included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.program.layers import AveragePool, Convolution, IntegerLayer, ResidualConvolution, Weighted
from npusim.program.program import Batching, HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import Clip, IntegerArray

__all__ = ["Draft", "StageNumbers", "with_residual"]

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class StageNumbers:
    """Float32 values to codes: ``clip(floor((x + offset) * multiplier * 2**-shift))``, in float32, step by step.

    Attributes
    ----------
    offset
        float32 [C] (or [1]): fractional, half a code included, so that the floor rounds.
    multiplier
        int64 [C]: up to 12 bits, negative where a batch norm's gain is.
    shift
        int64 [C]: 0..31.
    clip
        Range of the codes.
    """

    offset: npt.NDArray[np.float32]
    multiplier: IntegerArray
    shift: IntegerArray
    clip: Clip


def with_residual(own: Weighted, tensor: str, output: str, clip: Clip) -> ResidualConvolution:
    """A pointwise convolution that adds the codes of a tensor to its own: ``clip(own + codes)``.

    Raises
    ------
    ValueError
        If the layer is not a convolution.
    """
    if not isinstance(own, Convolution):
        raise ValueError(f"layer '{own.name}' is not a convolution that a residual can be added to")
    fields = {name: getattr(own, name) for name in own.__dataclass_fields__}
    return ResidualConvolution(**{**fields, "inputs": (*own.inputs, tensor), "output": output, "saturation": clip})


@dataclass
class Draft:
    """Steps so far, and the constants that they read."""

    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def layer(self, layer: IntegerLayer) -> None:
        """Append a layer; the strides of an average over everything, which mean nothing, become 1."""
        if isinstance(layer, AveragePool) and _covers_all(layer):
            layer = replace(layer, window=replace(layer.window, strides=(1,) * len(layer.window.strides)))
        self.steps.append(layer)

    def stage(self, name: str, source: str, output: str, numbers: StageNumbers, rank: int) -> None:
        """Append what turns float values, channels on axis 1 of `rank`, into codes."""
        column = (1, -1) + (1,) * (rank - 2)
        offset = numbers.offset.reshape(column)
        multiplier = numbers.multiplier.astype(np.float32).reshape(column)
        power = np.ldexp(np.float32(1), -numbers.shift).astype(np.float32).reshape(column)
        parts = (("Add", "Add", f"{name}.offset", offset), ("Mul", "Mul", f"{name}.mult", multiplier))
        tensor, nodes = source, []
        for operator, label, constant, value in (*parts, ("Mul", "Mul_1", f"{name}.shift_mult", power)):
            self.constants[constant] = value
            nodes.append(Node(operator, f"{name}/{label}", (tensor, constant), (f"{name}/{label}_output_0",)))
            tensor = nodes[-1].outputs[0]
        nodes.append(Node("Floor", f"{name}/Floor", (tensor,), (f"{name}/Floor_output_0",)))
        bounds = {f"{name}/Clip/min": numbers.clip.lower, f"{name}/Clip/max": numbers.clip.upper}
        self.constants.update({key: np.array(value, np.float32) for key, value in bounds.items()})
        nodes.append(Node("Clip", f"{name}/Clip", (nodes[-1].outputs[0], *bounds), (output,)))
        product = np.asarray(multiplier.astype(np.float64) * power)
        self.steps.append(
            QuantizeStage(nodes[0].name, source, output, tuple(nodes), offset.astype(np.float64), product, numbers.clip)
        )

    def dequantization(self, name: str, source: str, output: str, scale: npt.NDArray[np.float32]) -> None:
        """Append ``code * scale``, the scale of shape () or broadcastable to the tensor."""
        self.host(Node("Mul", f"{name}/Mul", (source, f"{name}.scale"), (output,)), {f"{name}.scale": scale})

    def host(self, node: Node, constants: Mapping[str, Array]) -> None:
        """Append a node that only moves codes, or one that computes in float32."""
        self.constants.update(constants)
        self.steps.append(HostOperation(node.name, node.op_type, node, ""))

    def program(
        self, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]], opset: int = 17
    ) -> Program:
        """The program, with these inputs and outputs, all float32, and their shapes for one sample."""
        tensors = {
            name: Tensor(name, tuple(shape), _FLOAT32, _FLOAT32, -np.inf, np.inf)
            for name, shape in {**inputs, **outputs}.items()
        }
        steps = tuple(self.steps)
        return Program(tuple(inputs), tuple(outputs), steps, tensors, self.constants, {}, opset, Batching.STACKED)


def _covers_all(pool: AveragePool) -> bool:
    return pool.window.kernel_shape == pool.input_shape[2:] and not any(pool.window.pads)
