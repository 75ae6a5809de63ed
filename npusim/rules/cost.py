"""What a model costs on a device: multiply-accumulates, parameter memory, activation memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from npusim.bounds.widths import widths_of
from npusim.graph.traits import Trait, is_a
from npusim.graph.weights import multiplications
from npusim.program import (
    Accumulating,
    Add,
    Convolution,
    HostOperation,
    IntegerLayer,
    LayerKind,
    Program,
    QuantizeStage,
    Step,
    Weighted,
)
from npusim.rules.layer_properties import codes_of
from npusim.schemas.derivation import Count

__all__ = ["Memory", "StepCost", "peak_memory", "step_cost"]

FLOAT_BYTES: Final = 4
CHANNELS_IN_BYTE: Final = 4
"""A byte holds one 2-bit digit of four input channels of a generic convolution."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step costs for one sample.

    Attributes
    ----------
    multiply_accumulates
        In integers for layers, in float for host operations.
    weight_bytes
        Weights as stored: 2-bit digits, four to a byte.
    channel_bytes
        Bias, scale and shift of all channels.
    output_bytes
        Memory of the result: codes of at most 8 bits take one byte, wider ones two or four, floats four.
    """

    multiply_accumulates: Count
    weight_bytes: Count
    channel_bytes: Count
    output_bytes: Count

    @property
    def parameter_bytes(self) -> Count:
        """Weights packed in 2-bit digits, bias, scale and shift."""
        return self.weight_bytes + self.channel_bytes


@dataclass(frozen=True, slots=True)
class Memory:
    """The largest memory that live tensors take at one time.

    Attributes
    ----------
    codes_bytes
        Largest sum over tensors of codes only.
    peak_bytes
        Largest sum over all live tensors, floats of the host included.
    step
        Where `peak_bytes` is reached.
    live
        The tensors that live there, with their bytes.
    """

    codes_bytes: int
    peak_bytes: int
    step: str
    live: Mapping[str, int]


def step_cost(step: Step, program: Program) -> StepCost:
    """The cost of a step.

    A bias takes four bytes with 8-bit weights (24 bits are not a size of a memory access), else two; a scale takes one byte
    with 4-bit and 2-bit weights and is not stored with 8-bit ones; a shift takes one byte. The constants of host operations are
    float32.
    """
    output = sum(tensor_bytes(name, program) for name in step.tensors[-1:])
    if isinstance(step, IntegerLayer):
        return StepCost(step.multiply_accumulates, _weight_bytes(step), _channel_bytes(step), output)
    if isinstance(step, QuantizeStage):
        return StepCost(0, 0, 2 * FLOAT_BYTES * max(step.offset.size, step.multiplier.size), output)
    constants = [program.constants[name] for name in step.node.inputs if name in program.constants]
    held = sum(FLOAT_BYTES * constant.size for constant in constants if constant.dtype.kind == "f")
    return StepCost(_host_multiplications(step, program), held, 0, output)


def peak_memory(program: Program) -> Memory:
    """The peak of live tensors when the steps run in order.

    A tensor lives from the step that makes it to the last one that reads it; inputs and outputs of the model live to its
    end where the program says so. Views take no memory of their own. Element-wise steps whose result is not larger work in
    place on an input that dies with them.
    """
    last = _last_use(program)
    live = {name: tensor_bytes(name, program) for name in program.inputs}
    storage = {name: name for name in program.inputs}
    codes_peak, best = 0, Memory(0, sum(live.values()), "", dict(live))
    for index, step in enumerate(program.steps):
        made = step.tensors[-1]
        sources = [storage.get(name, name) for name in program.inputs_of(step)]
        dying = [name for name in dict.fromkeys(sources) if name in live and last.get(name, -1) <= index]
        size = tensor_bytes(made, program)
        home = _in_place(step, dying, live, size)
        if home is None and isinstance(step, HostOperation) and is_a(step.operator, Trait.RESHAPES) and sources:
            home = sources[0]
        if home is None:
            home = made
            live[made] = size
        storage[made] = home
        last[home] = max(last.get(home, -1), last.get(made, -1))
        codes_peak = max(codes_peak, sum(taken for name, taken in live.items() if codes_of(program.tensors[name]) is not None))
        if sum(live.values()) > best.peak_bytes:
            best = Memory(0, sum(live.values()), step.name, dict(live))
        for name in [name for name in live if last.get(name, -1) <= index]:
            del live[name]
    return Memory(codes_peak, best.peak_bytes, best.step, best.live)


def tensor_bytes(name: str, program: Program) -> int:
    """Memory of a tensor for one sample."""
    tensor = program.tensors[name]
    codes = codes_of(tensor)
    if codes is None:
        return math.prod(tensor.shape) * FLOAT_BYTES
    return math.prod(tensor.shape) * (1 if codes.bits <= 8 else 2 if codes.bits <= 16 else 4)


def _last_use(program: Program) -> dict[str, int]:
    """The number of the last step that reads each tensor; outputs of the model are read after all steps."""
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        last.update(dict.fromkeys(program.inputs_of(step), index))
    last.update({program.resolve(name): len(program.steps) for name in program.outputs})
    return last


def _in_place(step: Step, dying: Sequence[str], live: Mapping[str, int], size: int) -> str | None:
    elementwise = isinstance(step, QuantizeStage | Add) or (
        isinstance(step, HostOperation) and is_a(step.operator, Trait.ELEMENTWISE)
    )
    return next((name for name in dying if live[name] == size), None) if elementwise else None


def _weight_bytes(layer: IntegerLayer) -> int:
    if not isinstance(layer, Weighted):
        return 0
    bits = next((width for width in (2, 4, 8) if layer.weight_bits <= width), 16)
    if isinstance(layer, Convolution) and layer.kind is LayerKind.GCONV and layer.group == 1:
        outputs, inputs = layer.weights.shape[:2]
        positions = math.prod(layer.weights.shape[2:])
        return int(outputs * positions * -(-inputs // CHANNELS_IN_BYTE) * bits // 2)
    return -(-int(layer.weights.size) * bits // 8)


def _channel_bytes(layer: IntegerLayer) -> int:
    if not isinstance(layer, Accumulating):
        return 0
    widths = widths_of(layer)
    wide = widths is None or widths.scale == 1
    return layer.requantization.channels * ((4 + 1) if wide else (2 + 1 + 1))


def _host_multiplications(step: HostOperation, program: Program) -> int:
    weights = next((program.constants[name] for name in step.node.inputs[1:2] if name in program.constants), None)
    if weights is None or not is_a(step.operator, Trait.WEIGHTED):
        return 0
    source, made = (math.prod(program.tensors[name].shape) for name in (step.node.inputs[0], step.tensors[0]))
    return multiplications(step.node, weights.shape, source, made)
