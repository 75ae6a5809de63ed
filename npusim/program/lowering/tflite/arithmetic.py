"""The arithmetics of TensorFlow Lite's runtimes: for each operator the formula that a runtime's kernel computes.

TFLM is the microcontroller runtime, CMSIS-NN agrees with it; LiteRT has reference kernels, others for x86 (ruy), and XNNPACK,
which takes the operators it knows and leaves the rest to those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import UsageError
from npusim.kernels.fixed_point import Rounding, multiply_fixed_point, quantize_multipliers
from npusim.kernels.qlinear import Affine, requantization_multiplier
from npusim.kernels.tflite import (
    Activation,
    add_codes,
    fixed_point_sigmoid_codes,
    gemmlowp_softmax,
    hard_swish_codes,
    layer_multipliers,
    leaky_relu_codes,
    litert_mean_codes,
    mean_multiplier,
    multiply_codes,
    relu_codes,
    requantize_8_bit_codes,
    requantize_codes,
    sigmoid_16_codes,
    softmax_16_codes,
    table_sigmoid_codes,
    table_softmax_codes,
    xnnpack_add_codes,
    xnnpack_mean_codes,
    xnnpack_multiply_codes,
)
from npusim.program.fixed_point import FixedPoint
from npusim.program.float_multiplier import FloatMultiplier
from npusim.program.requantization import Clip, Requantization

__all__ = ["ARITHMETICS", "WIDE_VECTOR", "Arithmetic", "Codes", "NotComputed", "arithmetic_named"]

Int64Array = npt.NDArray[np.int64]
LARGEST_EXPONENT: Final = 30

WIDE_VECTOR: Final = 16
"""Elements that LiteRT's elementwise kernels for x86 compute together; those left over at the end round in another way."""

VECTOR: Final = 8
"""Channels that LiteRT's depthwise and transposed kernels for x86 requantize together; those left over round in another way."""

Codes = Callable[..., Int64Array]
"""From codes to codes, zero points included."""


class NotComputed(Exception):  # noqa: N818 - a finding; the caller makes an error of it that says where
    """Raised for an operator whose result in a runtime npusim does not know; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How one runtime rounds.

    Attributes
    ----------
    name
        What sessions call it.
    rounding
        Of everything that is not named below.
    convolution, fully_connected
        Roundings of layers with weights of 8-bit activations; None for XNNPACK's float32.
    wide_fully_connected
        Rounding of FULLY_CONNECTED with 16-bit activations; convolutions round as Q15 then.
    requantize
        Rounding of QUANTIZE between 8-bit codes.
    float32_scales
        Quotients of scales are made in float32, where TFLM makes them in double precision.
    micro
        TFLM: tables in fixed point, RELU6 that does not rescale, static shapes as the file has them.
    gemmlowp_softmax
        SOFTMAX in fixed point.
    optimized
        LiteRT's kernels for x86, which round some sums and quotients in their own way.
    xnnpack
        XNNPACK takes the operators it knows.
    """

    name: str
    rounding: Rounding
    convolution: Rounding | None
    fully_connected: Rounding | None
    wide_fully_connected: Rounding
    requantize: Rounding
    float32_scales: bool = True
    micro: bool = False
    gemmlowp_softmax: bool = False
    optimized: bool = False
    xnnpack: bool = False

    def weighted(
        self,
        source: Affine,
        weights: npt.NDArray[np.float32],
        result: Affine,
        bias: Int64Array,
        clip: Clip,
        operator: str,
        *,
        grouped: bool = False,
        delegated: bool = True,
    ) -> Requantization:
        """The staircase of CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV or FULLY_CONNECTED; `clip` is centred.

        What XNNPACK does not take (`delegated` is False), LiteRT's kernels for x86 compute; a CONV_2D with groups
        (`grouped`), its reference kernels.
        """
        wide, dense = source.upper > 255, operator == "FULLY_CONNECTED"
        channels = bias.size
        if wide:
            rounding: Rounding | None = self.wide_fully_connected if dense else Rounding.Q15
        else:
            rounding = self.fully_connected if dense else self.convolution
            if grouped and not self.xnnpack:
                rounding = self.rounding
            elif rounding is None and not delegated:
                rounding = Rounding.UPUP
        if rounding is None:
            try:
                factor = np.broadcast_to(requantization_multiplier(source.scale, weights, result.scale), (channels,))
            except ValueError as reason:
                raise NotComputed(str(reason)) from None
            return FloatMultiplier(bias, factor.astype(np.float32), clip=clip)
        one_product = dense and not wide and weights.size == 1 and self.float32_scales
        reals = np.broadcast_to(
            layer_multipliers(source.scale, weights, result.scale, float32_product=one_product), (channels,)
        )
        _check_factor(float(reals.max(initial=0.0)))
        multiplier, exponent = quantize_multipliers(reals)
        if operator in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") and rounding is Rounding.UPUP:
            away = np.arange(channels) >= channels // VECTOR * VECTOR
            return FixedPoint(bias, multiplier, exponent, rounding, away, clip=clip)
        return FixedPoint(bias, multiplier, exponent, rounding, clip=clip)

    def mean(self, source: Affine, result: Affine, count: int, *, in_rows: bool = False) -> Codes:
        """MEAN from the sums of `count` codes, zero points included; `in_rows` where it keeps the axes of rows and columns.

        LiteRT has another kernel for that, which takes the sums of all channels of a sample.
        """
        _check_factor(source.scale / result.scale)
        if in_rows and self.optimized and not self.xnnpack and _is_byte(source):
            return partial(litert_mean_codes, count=count, source=source, result=result)
        if self.xnnpack and _is_byte(source):
            return partial(xnnpack_mean_codes, count=count, source=source, result=result)
        multiplier, exponent = mean_multiplier(source.scale, result.scale, count)
        return partial(
            _mean_codes,
            offset=count * source.zero_point,
            factor=(multiplier, exponent),
            rounding=self.rounding,
            result=result,
        )

    def add(
        self, first: Affine, second: Affine, result: Affine, clip: tuple[int, int], *, subtract: bool, tail: bool, scalar: bool
    ) -> Codes:
        """ADD and SUB; `tail` for the elements that a vectorized kernel leaves over, `scalar` where one operand is a number."""
        once = self.optimized and not subtract and not tail
        _check_factor(max(first.scale, second.scale) / result.scale)
        affine = {"first": first, "second": second, "result": result}
        if (
            self.xnnpack
            and _is_byte(first)
            and _within(first.scale / result.scale, second.scale / result.scale, 2.0**-10, 2.0**8)
        ):
            return partial(xnnpack_add_codes, **affine, clip=clip, subtract=subtract)
        if scalar and self.optimized and not subtract:
            raise NotComputed(
                "LiteRT's kernel for x86 rounds a number that is added to many in a way that npusim does not know"
            )
        return partial(
            add_codes,
            **affine,
            clip=clip,
            rounding=self.rounding,
            rounding_operands=Rounding.SINGLE if once else None,
            left_shift=20 if _is_byte(first) else 15,
            subtract=subtract,
        )

    def multiply(self, first: Affine, second: Affine, result: Affine, clip: tuple[int, int]) -> Codes:
        """MUL."""
        _check_factor(first.scale * second.scale / result.scale)
        affine = {"first": first, "second": second, "result": result}
        factor = first.scale * second.scale / result.scale
        if self.xnnpack and _is_byte(first) and 2.0**-16 <= factor < 2.0**8:
            return partial(xnnpack_multiply_codes, **affine, clip=clip)
        largest = _reach(first) * _reach(second) * factor + abs(result.zero_point) + 1
        if self.optimized and _is_byte(first) and largest > 32767:
            raise NotComputed("LiteRT's kernel for x86 holds products in 16 bits, and with these scales they wrap around")
        return partial(multiply_codes, **affine, clip=clip, rounding=self.rounding, in_float32=self.float32_scales)

    def quantize(self, source: Affine, result: Affine, *, tail: bool = False) -> Codes:
        """QUANTIZE from codes to codes; `tail` for the elements that a vectorized kernel leaves over."""
        _check_factor(source.scale / result.scale)
        bytes_only = _is_byte(source) and _is_byte(result)
        same = (source.lower, source.upper) == (result.lower, result.upper)
        if self.xnnpack and bytes_only and same and 2.0**-8 <= source.scale / result.scale <= 2.0**7:
            return partial(requantize_8_bit_codes, source=source, result=result)
        rounding = self.requantize if bytes_only and not tail else self.rounding
        return partial(requantize_codes, source=source, result=result, rounding=rounding)

    def relu(self, source: Affine, result: Affine, activation: Activation) -> Codes:
        """RELU, RELU6 and their like as operators."""
        _check_factor(source.scale / result.scale)
        return partial(
            relu_codes,
            source=source,
            result=result,
            activation=activation,
            rounding=self.rounding,
            in_float32=self.float32_scales,
            rescale=not (self.micro and activation is Activation.RELU6),
        )

    def leaky_relu(self, source: Affine, result: Affine, alpha: float) -> Codes:
        """LEAKY_RELU."""
        _check_factor(max(1.0, abs(alpha)) * source.scale / result.scale)
        ratio = source.scale / result.scale
        slope = ratio * alpha
        known = 2.0**-8 <= ratio <= 2.0**7 and -127.99 <= slope <= 2.0**7 and abs(slope) >= 2.0**-8
        if self.xnnpack and _is_byte(source) and known:
            return partial(requantize_8_bit_codes, source=source, result=result, slope_below=alpha)
        return partial(
            leaky_relu_codes,
            source=source,
            result=result,
            alpha=alpha,
            rounding=self.rounding,
            in_float32=self.float32_scales,
        )

    def hard_swish(self, source: Affine, result: Affine) -> Codes:
        """HARD_SWISH."""
        _check_factor(source.scale / result.scale)
        _check_factor(source.scale * 256)
        if not _is_byte(source):
            raise NotComputed("no runtime computes it on 16-bit codes")
        return partial(hard_swish_codes, source=source, result=result)

    def sigmoid(self, source: Affine, result: Affine, *, hyperbolic: bool) -> Codes:
        """LOGISTIC and TANH."""
        if not _is_byte(source):
            own = (2.0**-12, 2.0**-11) if hyperbolic else (2.0**-12,)
            if self.optimized and source.scale in own:
                raise NotComputed(
                    "LiteRT's kernels for x86 have a formula of their own for this scale, which npusim does not know"
                )
            return partial(sigmoid_16_codes, source=source, hyperbolic=hyperbolic)
        if self.micro:
            return partial(
                fixed_point_sigmoid_codes, source=source, result=result, hyperbolic=hyperbolic, rounding=self.rounding
            )
        return partial(table_sigmoid_codes, source=source, result=result, hyperbolic=hyperbolic)

    def softmax(self, source: Affine, result: Affine, beta: float) -> Codes:
        """SOFTMAX over the last axis."""
        if not _is_byte(source):
            return partial(
                softmax_16_codes, source=source, beta=beta, rounding=self.rounding, in_float32=not self.float32_scales
            )
        if self.gemmlowp_softmax:
            return partial(gemmlowp_softmax, source=source, result=result, beta=beta, rounding=self.rounding)
        return partial(table_softmax_codes, source=source, result=result, beta=beta)


def _micro(name: str, rounding: Rounding) -> Arithmetic:
    return Arithmetic(
        name,
        rounding,
        convolution=rounding,
        fully_connected=rounding,
        wide_fully_connected=Rounding.Q15,
        requantize=rounding,
        float32_scales=False,
        micro=True,
        gemmlowp_softmax=True,
    )


ARITHMETICS: Final[Mapping[str, Arithmetic]] = MappingProxyType(
    {
        item.name: item
        for item in (
            _micro("tflm", Rounding.DOUBLE),
            _micro("tflm_single", Rounding.SINGLE),
            Arithmetic(
                "litert_ref",
                Rounding.DOUBLE,
                convolution=Rounding.DOUBLE,
                fully_connected=Rounding.SINGLE,
                wide_fully_connected=Rounding.SINGLE,
                requantize=Rounding.DOUBLE,
                gemmlowp_softmax=True,
            ),
            Arithmetic(
                "litert",
                Rounding.DOUBLE,
                convolution=Rounding.UPUP,
                fully_connected=Rounding.UPUP,
                wide_fully_connected=Rounding.SINGLE,
                requantize=Rounding.UPUP,
                optimized=True,
            ),
            Arithmetic(
                "xnnpack",
                Rounding.DOUBLE,
                convolution=None,
                fully_connected=None,
                wide_fully_connected=Rounding.SINGLE,
                requantize=Rounding.UPUP,
                optimized=True,
                xnnpack=True,
            ),
        )
    }
)
"""The arithmetics by name, the default first."""


def arithmetic_named(name: str | None) -> Arithmetic:
    """An arithmetic by name; the default for None.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name is None:
        return next(iter(ARITHMETICS.values()))
    if name not in ARITHMETICS:
        raise UsageError(f"there is no arithmetic '{name}' for TensorFlow Lite models; there are {', '.join(ARITHMETICS)}")
    return ARITHMETICS[name]


def _check_factor(factor: float) -> None:
    """Refuse factors that the runtimes cannot hold in a 31-bit multiplier and an exponent."""
    if not factor < 2.0**LARGEST_EXPONENT:
        raise NotComputed(f"its scales give the factor {factor:.3g}, which is not below 2**{LARGEST_EXPONENT}")


def _is_byte(affine: Affine) -> bool:
    return affine.upper - affine.lower == 255


def _reach(affine: Affine) -> int:
    """The largest magnitude of a centred code."""
    return max(affine.upper - affine.zero_point, affine.zero_point - affine.lower)


def _within(first: float, second: float, lower: float, upper: float) -> bool:
    return lower <= first < upper and lower <= second < upper


def _mean_codes(
    total: Int64Array, /, *, offset: int, factor: tuple[int, int], rounding: Rounding, result: Affine
) -> Int64Array:
    multiplier, exponent = (np.array(part, np.int64) for part in factor)
    scaled = multiply_fixed_point(total - offset, multiplier, exponent, rounding)
    return np.asarray(np.clip(scaled + result.zero_point, result.lower, result.upper), np.int64)
