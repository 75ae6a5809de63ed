"""What a program consists of, as plain data: the numbers behind ``npusim inspect``. Nothing is computed on samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.graph import Array
from npusim.program import Clip, HostOperation, IntegerLayer, Program, QuantizeStage, Step, Tensor, Window
from npusim.trace import step_kind

__all__ = ["Codes", "Inspection", "LayerSummary", "TensorSummary", "Totals", "inspect_program"]

_PER_CHANNEL = frozenset(("Add", "Sub", "Mul", "Div"))
"""Nodes of a quantize stage whose constants are its offset and multipliers."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The integers a tensor can hold, proven for all inputs.

    Attributes
    ----------
    lower, upper
        Smallest and largest code.
    """

    lower: int
    upper: int

    @property
    def signed(self) -> bool:
        """True when a code can be negative."""
        return self.lower < 0

    @property
    def bits(self) -> int:
        """Bits that hold every code, the sign included.

        Examples
        --------
        >>> Codes(0, 255).bits, Codes(-128, 127).bits, Codes(-255, 255).bits
        (8, 8, 9)
        """
        if self.signed:
            return 1 + max((-self.lower - 1).bit_length(), max(self.upper, 0).bit_length())
        return max(1, self.upper.bit_length())


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """An input or output of the model.

    Attributes
    ----------
    name
        ONNX name.
    dtype
        Element type that the model declares.
    shape
        For one sample, batch axis included.
    codes
        The integers it can hold; None where it holds floats.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    codes: Codes | None


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One step of a program; what a kind of step does not have is None.

    Attributes
    ----------
    name, kind, tensor
        The step, its kind (a layer kind, ``QUANTIZE`` or ``HOST``), and the tensor it produces.
    operator, reason
        For ``HOST``: the ONNX operator, and why it is no layer in integers.
    nodes
        The ONNX nodes it stands for.
    input_shape, output_shape
        Shapes for one sample, batch axis included.
    input_codes, output_codes
        Integers it reads and produces; None for floats.
    window, group
        Geometry of convolutions and pools.
    weight_bits
        Bit width inferred from the weights.
    weights, bias, scale, shift
        Smallest and largest value.
    clip, inner_clip
        Final saturation, and the one before a residual is added.
    offset, multiplier
        For ``QUANTIZE``: smallest and largest value; a code is about ``floor((x + offset) * multiplier)``.
    parameters
        Weights and per-channel values; for ``HOST`` its float constants.
    multiply_accumulates
        For one sample; None for ``HOST`` and ``QUANTIZE``, which are not counted.
    """

    name: str
    kind: str
    tensor: str
    nodes: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_codes: Codes | None
    output_codes: Codes | None
    parameters: int
    multiply_accumulates: int | None = None
    operator: str | None = None
    reason: str | None = None
    window: Window | None = None
    group: int | None = None
    weight_bits: int | None = None
    weights: tuple[int, int] | None = None
    bias: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None
    shift: tuple[int, int] | None = None
    clip: Clip | None = None
    inner_clip: Clip | None = None
    offset: tuple[float, float] | None = None
    multiplier: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a program: steps by sort, parameters of all steps, multiply-accumulates in integers for one sample."""

    integer_layers: int
    quantize_stages: int
    host_operations: int
    parameters: int
    multiply_accumulates: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """A program in numbers: inputs, outputs and layers in order, opset, how samples are batched, and totals."""

    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    layers: tuple[LayerSummary, ...]
    opset: int
    batching: str
    totals: Totals


def inspect_program(program: Program) -> Inspection:
    """Summarise a program.

    Parameters
    ----------
    program
        The program, for example ``session.program``.

    Returns
    -------
    Inspection
        One summary for each step, in execution order, and the totals.

    Examples
    --------
    >>> session = npusim.InferenceSession("golden/vibration_w8.onnx")  # doctest: +SKIP
    >>> [layer.kind for layer in inspect_program(session.program).layers]  # doctest: +SKIP
    ['QUANTIZE', 'GCONV', 'MAXPOOL', 'DWCONV', 'PWCONV', 'AVGPOOL', 'FC']
    """
    layers = tuple(_summarise(step, program) for step in program.steps)
    totals = Totals(
        integer_layers=len(program.layers),
        quantize_stages=len(program.quantize_stages),
        host_operations=len(program.host_operations),
        parameters=sum(layer.parameters for layer in layers),
        multiply_accumulates=sum(layer.multiply_accumulates or 0 for layer in layers),
    )
    return Inspection(
        _tensors(program.inputs, program),
        _tensors(program.outputs, program),
        layers,
        program.opset,
        str(program.batching),
        totals,
    )


def _summarise(step: Step, program: Program) -> LayerSummary:
    if isinstance(step, IntegerLayer):
        return _summarise_layer(step, program)
    if isinstance(step, QuantizeStage):
        return _summarise_stage(step, program)
    return _summarise_host_operation(step, program)


def _summarise_layer(layer: IntegerLayer, program: Program) -> LayerSummary:
    requantization = layer.requantization
    return LayerSummary(
        name=layer.name,
        kind=step_kind(layer),
        tensor=layer.output,
        nodes=layer.nodes,
        input_shape=layer.input_shape,
        output_shape=layer.output_shape,
        input_codes=_codes(program.tensors[layer.inputs[0]]),
        output_codes=_codes(program.tensors[layer.output]),
        parameters=layer.parameter_count,
        multiply_accumulates=layer.multiply_accumulates,
        window=layer.window,
        group=None if layer.window is None else layer.group,
        weight_bits=layer.weight_bits,
        weights=None if layer.weights is None else _ends(layer.weights),
        bias=None if requantization is None else _ends(requantization.bias),
        scale=None if requantization is None else _ends(requantization.scale),
        shift=None if requantization is None else _ends(requantization.shift),
        clip=None if requantization is None else requantization.clip,
        inner_clip=layer.inner_clip,
    )


def _summarise_stage(stage: QuantizeStage, program: Program) -> LayerSummary:
    constants = (
        program.constants[name]
        for node in stage.nodes
        if node.op_type in _PER_CHANNEL
        for name in node.inputs
        if name in program.constants
    )
    return LayerSummary(
        name=stage.name,
        kind=step_kind(stage),
        tensor=stage.output,
        nodes=tuple(node.name or node.outputs[0] for node in stage.nodes),
        input_shape=program.tensors[stage.input].shape,
        output_shape=program.tensors[stage.output].shape,
        input_codes=_codes(program.tensors[stage.input]),
        output_codes=_codes(program.tensors[stage.output]),
        parameters=sum(constant.size for constant in constants),
        clip=stage.clip,
        offset=(float(stage.offset.min()), float(stage.offset.max())),
        multiplier=(float(stage.multiplier.min()), float(stage.multiplier.max())),
    )


def _summarise_host_operation(step: HostOperation, program: Program) -> LayerSummary:
    read = next((program.tensors[name] for name in program.inputs_of(step) if name in program.tensors), None)
    made = program.tensors[step.tensors[0]]
    constants = (program.constants[name] for name in step.node.inputs if name in program.constants)
    return LayerSummary(
        name=step.name,
        kind=step_kind(step),
        tensor=step.tensors[-1],
        nodes=(step.node.name or step.node.outputs[0],),
        input_shape=() if read is None else read.shape,
        output_shape=made.shape,
        input_codes=None if read is None else _codes(read),
        output_codes=_codes(made),
        parameters=sum(constant.size for constant in constants if constant.dtype.kind == "f"),
        operator=step.operator,
        reason=step.reason,
    )


def _tensors(names: Iterable[str], program: Program) -> tuple[TensorSummary, ...]:
    return tuple(_tensor(name, program) for name in names)


def _tensor(name: str, program: Program) -> TensorSummary:
    target = program.resolve(name)
    if target not in program.tensors:
        constant = program.constants[target]
        return TensorSummary(name, constant.dtype.name, constant.shape, None)
    tensor = program.tensors[target]
    return TensorSummary(name, tensor.dtype.name, tensor.shape, _codes(tensor))


def _codes(tensor: Tensor) -> Codes | None:
    if not tensor.is_integer or not np.isfinite([tensor.lower, tensor.upper]).all():
        return None
    return Codes(int(tensor.lower), int(tensor.upper))


def _ends(values: Array) -> tuple[Any, Any]:
    return values.min().item(), values.max().item()
