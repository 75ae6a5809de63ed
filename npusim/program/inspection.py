"""What a program consists of, as plain data: the numbers behind ``npusim inspect``. Nothing is computed on samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.program.layers import Accumulating, IntegerLayer, Weighted, geometry_of, weight_bits_of
from npusim.program.program import Batching, HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import Clip
from npusim.program.trace import StepKind, step_kind
from npusim.schemas.derivation import Count, Finite, Minimum

__all__ = ["Codes", "Inspection", "LayerSummary", "TensorSummary", "Totals", "inspect_program"]

Ends = tuple[int, int]
"""Smallest and largest value."""

FloatEnds = tuple[Annotated[float, Finite()], Annotated[float, Finite()]]


@dataclass(frozen=True, slots=True)
class Codes:
    """The integers a tensor can hold, proven for all inputs.

    Attributes
    ----------
    lower
        Smallest code.
    upper
        Largest code.
    """

    json_names: ClassVar[tuple[str, ...]] = ("signed", "bits", "lower", "upper")

    lower: int
    upper: int

    @property
    def signed(self) -> bool:
        """True when a code can be negative."""
        return self.lower < 0

    @property
    def bits(self) -> Annotated[int, Minimum(1)]:
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
        The integers it can hold; null where it holds floats.
    """

    name: str
    dtype: str
    shape: tuple[Count, ...]
    codes: Codes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSummary:
    """One step of a program; what a kind of step does not have is null.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    tensor
        The ONNX tensor that the layer produces.
    kind
        Kind of layer; QUANTIZE makes codes of floats, HOST is computed by the host CPU as the graph says.
    operator
        For HOST: the ONNX operator.
    reason
        For HOST: why it is not a layer in integers.
    nodes
        The ONNX nodes it stands for.
    input_shape, output_shape
        Sizes for one sample, outermost axis first, batch axis included.
    input_codes, output_codes
        Integers it reads and produces; null for floats.
    kernel_shape, strides, dilations
        Of convolutions and pools.
    pads
        Of convolutions and pools: all begins, then all ends.
    group
        Of convolutions and pools.
    weight_bits
        Inferred from the weights.
    weights, bias, scale, shift
        Smallest and largest value.
    clip
        Saturation of the result.
    inner_clip
        Saturation before a residual is added.
    offset, multiplier
        For QUANTIZE: smallest and largest value; a code is about ``floor((x + offset) * multiplier)``.
    parameters
        Weights and per-channel values; for HOST the float constants.
    multiply_accumulates
        In integers, for one sample; null for HOST and QUANTIZE, which are not counted.
    """

    name: str
    tensor: str
    kind: StepKind
    operator: str | None = None
    reason: str | None = None
    nodes: tuple[str, ...]
    input_shape: tuple[Count, ...]
    output_shape: tuple[Count, ...]
    input_codes: Codes | None
    output_codes: Codes | None
    kernel_shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None
    group: int | None = None
    weight_bits: int | None = None
    weights: Ends | None = None
    bias: Ends | None = None
    scale: Ends | None = None
    shift: Ends | None = None
    clip: Ends | None = None
    inner_clip: Ends | None = None
    offset: FloatEnds | None = None
    multiplier: FloatEnds | None = None
    parameters: Count
    multiply_accumulates: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over a program.

    Attributes
    ----------
    layers
        Steps of all sorts.
    integer_layers, quantize_stages, host_operations
        Steps of this sort.
    parameters
        Of all steps.
    multiply_accumulates
        In integers, for one sample.
    """

    layers: Count
    integer_layers: Count
    quantize_stages: Count
    host_operations: Count
    parameters: Count
    multiply_accumulates: Count


@dataclass(frozen=True, slots=True)
class Inspection:
    """A program in numbers: inputs, outputs and layers in order, opset, how samples are batched, and totals."""

    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    layers: tuple[LayerSummary, ...]
    opset: int
    batching: Batching
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
        layers=len(layers),
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
        program.batching,
        totals,
    )


def _summarise(step: Step, program: Program) -> LayerSummary:
    if isinstance(step, IntegerLayer):
        return _summarise_layer(step, program)
    if isinstance(step, QuantizeStage):
        return _summarise_stage(step, program)
    return _summarise_host_operation(step, program)


def _summarise_layer(layer: IntegerLayer, program: Program) -> LayerSummary:
    window, group = geometry_of(layer)
    part = layer.requantization.parameters if isinstance(layer, Accumulating) else {}
    ends = {name: _ends(values) for name, values in part.items()}
    has_residual = isinstance(layer, Accumulating) and layer.residual is not None
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
        kernel_shape=None if window is None else window.kernel_shape,
        strides=None if window is None else window.strides,
        pads=None if window is None else window.pads,
        dilations=None if window is None else window.dilations,
        group=None if window is None else group,
        weight_bits=weight_bits_of(layer),
        weights=_ends(layer.weights) if isinstance(layer, Weighted) else None,
        bias=ends.get("bias"),
        scale=ends.get("scale"),
        shift=ends.get("shift"),
        clip=_clip(layer.output_clip) if isinstance(layer, Accumulating) else None,
        inner_clip=_clip(layer.requantization.clip) if isinstance(layer, Accumulating) and has_residual else None,
    )


def _summarise_stage(stage: QuantizeStage, program: Program) -> LayerSummary:
    constants = (
        program.constants[name]
        for node in stage.nodes
        if is_a(node.op_type, Trait.AFFINE)
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
        clip=_clip(stage.clip),
        offset=_float_ends(stage.offset),
        multiplier=_float_ends(stage.multiplier),
    )


def _float_ends(values: Array) -> tuple[float, float]:
    """Smallest and largest; of no channels, which a tensor without elements has, 0."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


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


def _clip(clip: Clip) -> Ends:
    return clip.lower, clip.upper
