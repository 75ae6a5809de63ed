"""Small float networks and their quantized counterparts, made by hand so that the error of every layer is known.

All numbers are dyadic, so that float32 computes the float network without rounding. A layer's float weights are exactly
``scale * integer weights``, its float bias exactly what the integer bias stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from support.builders import GraphBuilder

__all__ = [
    "FIRST",
    "FIRST_BIAS",
    "GENERATOR",
    "INPUT_LSB",
    "LAST",
    "LAST_BIAS",
    "SECOND",
    "SECOND_BIAS",
    "PairBuilder",
    "network",
    "samples",
]

INPUT_LSB = 2.0**-5
"""Real value of one LSB of the input stage."""

Floats = npt.NDArray[np.float64]


GENERATOR = np.random.default_rng(7)
FIRST = GENERATOR.integers(-7, 8, (4, 3, 3, 1))
FIRST_BIAS = GENERATOR.integers(-400, 400, 4)
SECOND = GENERATOR.integers(-7, 8, (5, 4, 1, 1))
SECOND_BIAS = GENERATOR.integers(-200, 200, 5)
LAST = GENERATOR.integers(-7, 8, (5, 3))
LAST_BIAS = GENERATOR.integers(-200, 200, 3)


@dataclass
class PairBuilder:
    """Appends the same layer to a float and to a quantized graph; `codes` and `values` are the tensors appended last."""

    shape: tuple[int, ...]
    dialect: str = "ts17"
    scale: float = INPUT_LSB
    quantized: GraphBuilder = field(init=False)
    reference: GraphBuilder = field(init=False)
    codes: str = field(init=False)
    values: str = field(init=False)

    def __post_init__(self) -> None:
        self.quantized = GraphBuilder((1, *self.shape), self.dialect)
        self.reference = GraphBuilder((1, *self.shape))
        channels = self.shape[0]
        self.codes = self.quantized.input_stage([self.scale / 2] * channels, [1 / self.scale] * channels, [0] * channels)
        self.values = "input"

    def convolution(
        self,
        weights: npt.NDArray[np.int64],
        bias: npt.NDArray[np.int64],
        *,
        weight_scale: npt.ArrayLike = 2.0**-4,
        shift: int = 4,
        clip: tuple[int, int] = (0, 255),
        relu: bool = True,
        bias_change: int = 0,
        weight_change: npt.NDArray[np.int64] | None = None,
        norm: bool = False,
    ) -> None:
        """A convolution. The float bias is that of `bias` in accumulator units, to which the quantized one adds half an LSB.

        `bias_change` and `weight_change` are errors of the quantized layer. With `norm`, the float weights and biases are
        spread over a convolution and a batch norm whose gains alternate in sign.
        """
        rank, channels = weights.ndim - 2, len(weights)
        scales = np.broadcast_to(np.asarray(weight_scale, np.float64), (channels,))
        real = weights * scales.reshape(-1, *(1,) * (rank + 1))
        offset = bias * scales * self.scale
        pads = [(size - 1) // 2 for size in weights.shape[2:]] * 2
        inputs = [self.values]
        if norm:
            gain = np.where(np.arange(channels) % 2, -2.0, 0.5)
            inputs.append(self.reference.constant(real / gain.reshape(-1, *(1,) * (rank + 1))))
            raw = self.reference.node("Conv", *inputs, kernel_shape=list(weights.shape[2:]), pads=pads)
            ones = np.ones(channels)
            parameters = [self.reference.constant(one) for one in (gain, offset, 0 * ones, ones)]
            self.values = self.reference.node("BatchNormalization", raw, *parameters, epsilon=0.0)
        else:
            inputs += [self.reference.constant(real), self.reference.constant(offset)]
            self.values = self.reference.node("Conv", *inputs, kernel_shape=list(weights.shape[2:]), pads=pads)
        if relu:
            self.values = self.reference.node("Relu", self.values)
        integers = weights if weight_change is None else weights + weight_change
        shifts = shift + np.log2(scales[0] / scales).astype(np.int64)
        half = np.where(shifts > 0, 2 ** np.maximum(shifts - 1, 0), 0)
        self.codes = self.quantized.convolution(
            self.codes, integers, bias + half + bias_change, np.ones(channels), shifts, clip, pads=pads
        )
        self.scale *= float(scales[0]) * 2.0**shift

    def fully_connected(
        self, weights: npt.NDArray[np.int64], bias: npt.NDArray[np.int64], *, weight_scale: float = 2.0**-4, shift: int = 4
    ) -> None:
        """A product with weights ``[in, out]`` and no activation."""
        real, offset = weights * weight_scale, bias * weight_scale * self.scale
        inputs = (self.reference.constant(real.T), self.reference.constant(offset))
        self.values = self.reference.node("Gemm", self.values, *inputs, transB=1)
        half = 2 ** (shift - 1) if shift else 0
        count = weights.shape[1]
        self.codes = self.quantized.fully_connected(
            self.codes, weights, bias + half, np.ones(count), np.full(count, shift), (-128, 127)
        )
        self.scale *= weight_scale * 2.0**shift

    def global_average(self, area: int) -> None:
        """A global average as exporters write it: the divisor is the power of two below the area."""
        pooled = self.reference.node("GlobalAveragePool", self.values)
        self.values = self.reference.node("Flatten", pooled)
        shift = int(np.log2(area))
        self.codes = self.quantized.global_average(self.codes, 2 ** (shift - 1), 1, shift, (0, 255))

    def models(self) -> tuple[bytes, bytes]:
        """The quantized and the float model."""
        return self.quantized.model(self.codes), self.reference.model(self.values)


def samples(count: int = 24, length: int = 8) -> np.ndarray:
    """Values that the input stage takes without rounding."""
    codes = np.random.default_rng(3).integers(-100, 100, (count, 3, length, 1))
    return (codes * INPUT_LSB).astype(np.float32)


def network(dialect: str = "ts17", *, norm: bool = False, length: int = 8, **changes) -> PairBuilder:
    """Two convolutions, a global average and a dense layer; `changes` are errors of the first layer."""
    pair = PairBuilder((3, length, 1), dialect)
    pair.convolution(FIRST, FIRST_BIAS, shift=5, norm=norm, weight_scale=2.0 ** -np.array([4, 5, 4, 6]), **changes)
    pair.convolution(SECOND, SECOND_BIAS, shift=4, norm=norm)
    pair.global_average(length)
    pair.fully_connected(LAST, LAST_BIAS, shift=4)
    return pair
