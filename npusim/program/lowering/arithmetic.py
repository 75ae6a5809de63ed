"""Arithmetics: how a runtime or a device computes what the affine form says, as an integer layer.

``ort``: ONNX Runtime's fused integer kernels. ``onnx``: the graph as it is written, each float operation rounded; operators
that the file itself holds fused (QLinearConv ...) stay what they are. ``tvm``: 31-bit multipliers from a float32 product of
scales, one rounding half up; it is inferred from TVM's sources for what generated C code computes, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Protocol, assert_never

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph.rounding_limits import FUNCTION_LIMIT
from npusim.kernels.fixed_point import Rounding, quantize_multipliers
from npusim.kernels.qlinear import (
    add_codes,
    add_dequantized,
    global_average_multiplier,
    lookup_table,
    multiply_codes,
    multiply_dequantized,
    requantization_multiplier,
)
from npusim.program.dequantized_sum import DequantizedSum
from npusim.program.direct import (
    AffineCombination,
    Average,
    Averaging,
    Combination,
    CombinedCodes,
    Concatenation,
    Elementwise,
    FusedAverage,
    PlaneAverage,
    Softmax,
    Table,
    WrittenAverage,
)
from npusim.program.fixed_point import FixedPoint
from npusim.program.float_multiplier import FloatMultiplier
from npusim.program.layers import (
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    LayerKind,
    MatrixProduct,
    MaxPool,
    TransposedConvolution,
    Window,
)
from npusim.program.lowering.affine import (
    AffineForm,
    AffineTensor,
    AverageForm,
    ConcatenationForm,
    Float32Array,
    FunctionForm,
    MatrixProductForm,
    MaximumForm,
    ProductForm,
    RealFunction,
    SoftmaxForm,
    SumForm,
    WeightedForm,
)
from npusim.program.requantization import Clip, IntegerArray, Requantization

__all__ = ["ARITHMETICS", "Arithmetic", "LeftInFloat"]

ONE_BYTE: Final = 255
"""Codes of 8 bits reach so far."""


class LeftInFloat(Exception):  # noqa: N818 - a finding that decides between two lowerings, never an error the user sees
    """Raised where an arithmetic computes a layer in float, as the graph says; the text says why."""


class Arithmetic(Protocol):
    """One way to compute the affine form."""

    @property
    def name(self) -> str:
        """As users choose it."""
        ...

    def layer(self, form: AffineForm) -> IntegerLayer:
        """The integer layer of a form.

        Raises
        ------
        LeftInFloat
            If this arithmetic leaves it to float operations.
        UnsupportedError
            If it is not known how this arithmetic computes it.
        """
        ...


@dataclass(frozen=True, slots=True)
class FusedKernels:
    """``ort``: ONNX Runtime at its default optimizations.

    It fuses layers of 8-bit codes whose activation only does what saturation does anyway; others stay as written.
    """

    name: str = "ort"

    def layer(self, form: AffineForm) -> IntegerLayer:
        """The formula of the fused kernel."""
        fuses = form.fused or (_has_bytes_only(form) and form.activation.is_saturation_of(form.result))
        return _FUSED.layer(form) if fuses else _WRITTEN.layer(form)


@dataclass(frozen=True, slots=True)
class AsWritten:
    """``onnx``: dequantize, compute in float32, quantize."""

    name: str = "onnx"

    def layer(self, form: AffineForm) -> IntegerLayer:
        """The graph's own operations; a fused operator of the file is one operation."""
        return (_FUSED if form.fused else _WRITTEN).layer(form)


@dataclass(frozen=True, slots=True)
class GeneratedCode:
    """``tvm``: what TVM generates for processors without a floating-point unit; inferred."""

    name: str = "tvm"

    def layer(self, form: AffineForm) -> IntegerLayer:
        """Layers with weights and changes of scale in fixed point; what does no arithmetic is the same everywhere."""
        match form:
            case WeightedForm() | MatrixProductForm():
                return _weighted(form, _fixed_point)
            case MaximumForm():
                return _FUSED.layer(form)
            case FunctionForm(label=label) if label == FunctionForm.ANOTHER_SCALE:
                return _rescaled(form)
            case ConcatenationForm(sources=sources) if all(source.with_codes_of(form.result) for source in sources):
                return _FUSED.layer(form)
            case _:
                raise UnsupportedError(
                    f"arithmetic 'tvm' has no known formula for {_what(form)} '{form.name}': it covers layers with weights, "
                    "changes of scale and max pools; choose 'ort' or 'onnx'"
                )


class _Formulas(Protocol):
    def layer(self, form: AffineForm) -> IntegerLayer: ...


@dataclass(frozen=True, slots=True)
class _Fused:
    """The formulas of ONNX Runtime's integer kernels."""

    def layer(self, form: AffineForm) -> IntegerLayer:
        match form:
            case WeightedForm() | MatrixProductForm():
                return _weighted(form, _float_multiplier)
            case SumForm():
                return _elementwise(form, _combination(form, LayerKind.ADD, add_codes))
            case ProductForm():
                return _elementwise(form, _combination(form, LayerKind.MUL, multiply_codes))
            case AverageForm(window=None):
                return _plane_sum(form)
            case AverageForm(window=Window() as window):
                ends = form.source.affine, form.result.affine, form.activation.clip(form.result)
                return _average(form, FusedAverage(*ends, window, form.count_include_pad))
            case SoftmaxForm():
                return Softmax(
                    **_common(form, form.source),
                    source=form.source.affine,
                    result=form.result.affine,
                    axis=form.axis,
                    flat=form.flat,
                )
            case _:
                return _without_sums(form)


@dataclass(frozen=True, slots=True)
class _Written:
    """The formulas of float operations between codes."""

    def layer(self, form: AffineForm) -> IntegerLayer:
        match form:
            case WeightedForm() | MatrixProductForm():
                return _weighted(form, _dequantized_sum)
            case SumForm():
                return _elementwise(form, _combination(form, LayerKind.ADD, add_dequantized))
            case ProductForm():
                return _elementwise(form, _combination(form, LayerKind.MUL, multiply_dequantized))
            case AverageForm(window=window):
                ends = form.source.affine, form.result.affine, form.activation.clip(form.result)
                if window is None:
                    return _average(form, PlaneAverage(*ends))
                return _average(form, WrittenAverage(*ends, window, form.count_include_pad, form.in_window_order))
            case SoftmaxForm():
                raise LeftInFloat("softmax is computed in float32 as the graph says")
            case _:
                return _without_sums(form)


_FUSED: Final[_Formulas] = _Fused()
_WRITTEN: Final[_Formulas] = _Written()


def _has_bytes_only(form: AffineForm) -> bool:
    """Whether all operands and the result have codes of 8 bits."""
    tensors: list[AffineTensor] = [form.result]
    match form:
        case WeightedForm():
            tensors += [form.source, form.weights]
        case MatrixProductForm() | SumForm() | ProductForm():
            tensors += [form.first, form.second]
        case ConcatenationForm():
            tensors += form.sources
        case AverageForm() | MaximumForm() | FunctionForm() | SoftmaxForm():
            tensors.append(form.source)
        case _:
            assert_never(form)
    return all(tensor.upper - tensor.lower == ONE_BYTE for tensor in tensors)


def _what(form: AffineForm) -> str:
    return type(form).__name__.removesuffix("Form").lower()


def _common(form: AffineForm, *sources: AffineTensor) -> dict[str, Any]:
    """The fields that all layers have."""
    variable = [source for source in sources if source.codes is None]
    return {
        "name": form.name,
        "inputs": tuple(source.name for source in variable),
        "output": form.result.name,
        "input_shape": variable[0].shape,
        "output_shape": form.result.shape,
        "nodes": form.nodes,
    }


def _weighted(form: WeightedForm | MatrixProductForm, requantization: Any) -> IntegerLayer:  # noqa: ANN401
    shape = form.result.shape
    if isinstance(form, MatrixProductForm):
        made = requantization(form, shape[-1])
        return MatrixProduct(
            **_common(form, form.first, form.second),
            accumulator_shape=shape,
            channel_axis=len(shape) - 1,
            requantization=made,
            taps=(),
        )
    weights = form.weights.centred
    axis = 1 if form.window is not None else len(shape) - 1
    fields = {
        **_common(form, form.source),
        "accumulator_shape": shape,
        "channel_axis": axis,
        "requantization": requantization(form, shape[axis]),
        "taps": (),
        "weights": weights,
        "weight_bits": (form.weights.upper - form.weights.lower).bit_length(),
    }
    if form.window is None:
        return FullyConnected(**fields)
    kind = TransposedConvolution if form.transposed else Convolution
    return kind(**fields, window=form.window, group=form.group)


def _scales(form: WeightedForm | MatrixProductForm, channels: int) -> tuple[float, Float32Array, float]:
    """Scales of input, weights (one for each channel) and result."""
    first, second = (form.source, form.weights) if isinstance(form, WeightedForm) else (form.first, form.second)
    return first.affine.scale, np.broadcast_to(second.scale, (channels,)), form.result.affine.scale


def _integer_bias(form: WeightedForm | MatrixProductForm, channels: int) -> IntegerArray:
    """The bias in units of the accumulator; a float bias is quantized as ONNX Runtime quantizes it."""
    if isinstance(form, MatrixProductForm):
        return np.zeros(channels, np.int64)
    if form.bias is not None:
        return form.bias
    if form.real_bias is None:
        return np.zeros(channels, np.int64)
    source, weights, _ = _scales(form, channels)
    unit = np.float32(source) * weights
    return np.clip(np.rint(form.real_bias / unit), -(2**31), 2**31 - 1).astype(np.int64)


def _float_multiplier(form: WeightedForm | MatrixProductForm, channels: int) -> Requantization:
    source, weights, result = _scales(form, channels)
    try:
        multiplier = requantization_multiplier(source, weights, result)
    except ValueError as reason:
        raise LeftInFloat(str(reason)) from None
    return FloatMultiplier(_integer_bias(form, channels), multiplier, clip=form.activation.clip(form.result))


def _dequantized_sum(form: WeightedForm | MatrixProductForm, channels: int) -> Requantization:
    source, weights, result = _scales(form, channels)
    product = np.float64(source) * weights.astype(np.float64)
    addend = np.zeros(channels, np.float32)
    if isinstance(form, WeightedForm) and form.real_bias is not None:
        addend = form.real_bias
    elif isinstance(form, WeightedForm) and form.bias is not None:
        addend = form.bias.astype(np.float32) * (np.float32(source) * weights)
    return DequantizedSum(product, addend, np.full(channels, result, np.float32), clip=form.activation.clip(form.result))


def _fixed_point(form: WeightedForm | MatrixProductForm, channels: int) -> Requantization:
    source, weights, result = _scales(form, channels)
    product = (np.float32(source) * weights).astype(np.float64)
    multiplier, exponent = quantize_multipliers(product / result)
    clip = form.activation.clip(form.result)
    return FixedPoint(_integer_bias(form, channels), multiplier, exponent, Rounding.SINGLE, clip=clip)


def _combination(form: SumForm | ProductForm, kind: LayerKind, formula: CombinedCodes) -> Combination:
    ends = form.first.affine, form.second.affine, form.result.affine
    return AffineCombination(kind, formula, *ends, clip=form.activation.clip(form.result))


def _elementwise(form: SumForm | ProductForm, combination: Combination) -> IntegerLayer:
    constants = [part.centred for part in (form.first, form.second) if part.codes is not None]
    return Elementwise(
        **_common(form, form.first, form.second),
        combination=combination,
        constant=constants[0] if constants else None,
        constant_first=form.first.codes is not None,
    )


def _average(form: AverageForm, averaging: Averaging) -> IntegerLayer:
    return Average(**_common(form, form.source), averaging=averaging)


def _plane_sum(form: AverageForm) -> IntegerLayer:
    """A mean over all spatial positions: a sum of integers, and one factor."""
    shape = form.source.shape
    rank = len(shape) - 2
    ones, none = (1,) * rank, (0,) * (2 * rank)
    count = int(np.prod(shape[2:]))
    factor = global_average_multiplier(form.source.affine.scale, form.result.affine.scale, count)
    if not np.isfinite(factor).all():
        raise LeftInFloat("scales of input and output give a factor that is not finite in float32")
    channels = shape[1]
    return AveragePool(
        **_common(form, form.source),
        accumulator_shape=(*shape[:2], *ones),
        channel_axis=1,
        requantization=FloatMultiplier(
            np.zeros(channels, np.int64), np.repeat(factor, channels), clip=form.activation.clip(form.result)
        ),
        taps=(),
        window=Window(shape[2:], ones, none, ones),
    )


def _without_sums(form: AffineForm) -> IntegerLayer:
    """Layers that are the same in float and fused."""
    match form:
        case MaximumForm():
            return MaxPool(**_common(form, form.source), window=form.window)
        case FunctionForm():
            return Table(
                **_common(form, form.source),
                label=form.label,
                lowest=form.source.centred_range.lower,
                values=_table(form, form.source),
                spread=_spread(form),
            )
        case ConcatenationForm():
            tables = tuple(
                None if source.with_codes_of(form.result) else (source.centred_range.lower, _table(form, source))
                for source in form.sources
            )
            return Concatenation(**_common(form, *form.sources), tables=tables, axis=form.axis)
        case _:
            raise LeftInFloat("it is computed in float32 as the graph says")


def _table(form: FunctionForm | ConcatenationForm, source: AffineTensor) -> IntegerArray:
    """Codes less their zero points for every code of a source."""
    result = form.result.affine
    function = form.function if isinstance(form, FunctionForm) else _same
    codes = lookup_table(function, source=source.affine, result=result) - result.zero_point
    return form.activation.clip(form.result).apply(codes)


def _spread(form: FunctionForm) -> IntegerArray | None:
    """How far codes may lie apart where the function is not defined to the last bit; 8-bit codes are ONNX Runtime's own."""
    if not form.is_free or _has_bytes_only(form):
        return None
    codes = _table(form, form.source)
    ends = [_table(replace(form, function=_moved(form.function, sign)), form.source) for sign in (-1, 1)]
    return np.asarray(np.max([np.abs(end - codes) for end in ends], axis=0))


def _moved(function: RealFunction, sign: int) -> RealFunction:
    """A function, and what correct implementations of it may be off by."""

    def moved(real: Float32Array) -> Float32Array:
        exact = function(real)
        return np.asarray(exact + np.float32(sign * FUNCTION_LIMIT) * np.maximum(1, np.abs(exact)), np.float32)

    return moved


def _same(real: Float32Array) -> Float32Array:
    return real


def _rescaled(form: FunctionForm) -> IntegerLayer:
    """Another scale in fixed point, tabulated."""
    multiplier, exponent = quantize_multipliers(np.array([np.float64(form.source.affine.scale) / form.result.affine.scale]))
    clip: Clip = form.activation.clip(form.result)
    staircase = FixedPoint(np.zeros(1, np.int64), multiplier, exponent, Rounding.SINGLE, clip=clip)
    reach = form.source.centred_range
    codes = staircase.codes(np.arange(reach.lower, reach.upper + 1)[None])[0]
    return Table(**_common(form, form.source), label=form.label, lowest=reach.lower, values=codes)


ARITHMETICS: Final[Mapping[str, Arithmetic]] = MappingProxyType(
    {"ort": FusedKernels(), "onnx": AsWritten(), "tvm": GeneratedCode()}
)
"""By name, the default of QDQ and QOperator models first."""
