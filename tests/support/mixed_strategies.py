"""Hypothesis strategy for networks of any geometry and width: what an engine must take beyond what exporters write today.

Unlike `strategies.networks`, sums may pass what float32 and float64 hold, so nothing here can be compared with onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from support.builders import DIALECTS, GraphBuilder

__all__ = ["MixedNetwork", "mixed_networks"]

CLIPS = ((0, 255), (0, 255), (-128, 127), (-128, 127), (-8, 7), (0, 15), (-255, 255), (-(2**12), 2**15), (-(2**20), 2**20))
LARGEST_ELEMENTS = 1500
"""Of one tensor and sample, so that examples stay small."""


@dataclass(frozen=True)
class MixedNetwork:
    """A random network: its ONNX bytes, and a seed for its inputs."""

    model: bytes
    seed: int


@dataclass(frozen=True)
class _Codes:
    """A tensor of codes: its name, its shape without the samples, and its largest magnitude."""

    name: str
    shape: tuple[int, ...]
    largest: int


@dataclass
class _Drawing:
    draw: st.DrawFn
    graph: GraphBuilder
    generator: np.random.Generator
    pool: list[_Codes]

    def one_of(self, *values: object) -> object:
        return self.draw(st.sampled_from(values))

    def number(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def numbers(self, count: int, least: int, most: int) -> tuple[int, ...]:
        return tuple(self.number(least, most) for _ in range(count))

    def weights(self, *shape: int) -> np.ndarray:
        limit = int(self.one_of(1, 7, 127, 255))  # type: ignore[call-overload]
        return self.generator.integers(-limit, limit, shape, endpoint=True)

    def requantization(self, channels: int, sums: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        """Bias, scale, shift and clip for sums of about a magnitude; negative, zero and common-factor scales among them."""
        clip = self.one_of(*CLIPS)
        scale = np.ones(channels, np.int64)
        if self.draw(st.booleans()):
            largest = int(self.one_of(4, 255, 4095))  # type: ignore[call-overload]
            scale = self.generator.integers(-largest, largest, channels, endpoint=True)
        bias = self.generator.integers(-min(sums, 2**23), min(sums, 2**23) + 1, channels)
        spread = sums / 4 * np.maximum(np.abs(scale), 1) / max(1, clip[1])
        shift = np.clip(np.log2(np.maximum(spread, 1)).astype(np.int64) + self.generator.integers(-2, 3, channels), 0, 31)
        return bias, scale, shift, clip

    def add(self, name: str, shape: tuple[int, ...], clip: tuple[int, int]) -> None:
        self.pool.append(_Codes(name, shape, max(abs(clip[0]), abs(clip[1]))))


@st.composite
def mixed_networks(draw: st.DrawFn) -> MixedNetwork:
    """Up to six steps, each of which reads any tensor before it, behind one input stage."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    spatial = tuple(draw(st.integers(1, {1: 20, 2: 10, 3: 5}[rank])) for _ in range(rank))
    shape = (draw(st.integers(1, 6)), *spatial)
    seed, bits = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([8, 8, 8, 4, 16, 21]))
    generator = np.random.default_rng(seed)
    graph = GraphBuilder((1, *shape), draw(st.sampled_from(DIALECTS)))
    multiplier = generator.integers(-4095, 4096, shape[0])
    codes = graph.input_stage(
        generator.normal(0, 1, shape[0]).astype(np.float32), multiplier, generator.integers(0, 9, shape[0]), bits
    )
    drawing = _Drawing(draw, graph, generator, [_Codes(codes, shape, 2 ** (bits - 1))])
    for _ in range(draw(st.integers(1, 6))):
        source = draw(st.sampled_from(drawing.pool))
        draw(st.sampled_from(_STEPS))(drawing, source)
    outputs = [drawing.pool[-1].name, draw(st.sampled_from(drawing.pool)).name]
    if draw(st.booleans()):
        outputs.append(_fully_connected(drawing, drawing.pool[-1]))
    return MixedNetwork(graph.model(*dict.fromkeys(outputs)), seed)


def _convolution(drawing: _Drawing, source: _Codes) -> None:
    channels, sizes = source.shape[0], source.shape[1:]
    rank = len(sizes)
    group = drawing.draw(st.sampled_from([number for number in range(1, channels + 1) if channels % number == 0]))
    outputs = group * drawing.number(1, 3)
    pads, strides = drawing.numbers(2 * rank, 0, 2), drawing.numbers(rank, 1, 3)
    kernel, dilations, results = [], [], []
    for axis, size in enumerate(sizes):
        whole = size + pads[axis] + pads[rank + axis]
        kernel.append(drawing.number(1, min(4, whole)))
        dilations.append(drawing.number(1, 3) if (kernel[-1] - 1) * 3 < whole else 1)
        results.append((whole - (kernel[-1] - 1) * dilations[-1] - 1) // strides[axis] + 1)
    if outputs * math.prod(results) > LARGEST_ELEMENTS:
        return
    weights = drawing.weights(outputs, channels // group, *kernel)
    bias, scale, shift, clip = drawing.requantization(outputs, weights[0].size * int(np.abs(weights).max()) * source.largest)
    made = drawing.graph.convolution(
        source.name, weights, bias, scale, shift, clip, group=group, strides=strides, pads=pads, dilations=dilations
    )
    drawing.add(made, (outputs, *results), clip)


def _transposed_convolution(drawing: _Drawing, source: _Codes) -> None:
    channels, sizes = source.shape[0], source.shape[1:]
    rank = len(sizes)
    group = drawing.draw(st.sampled_from([number for number in range(1, channels + 1) if channels % number == 0]))
    per_group = drawing.number(1, 2)
    kernel, strides, dilations = drawing.numbers(rank, 1, 3), drawing.numbers(rank, 1, 3), drawing.numbers(rank, 1, 2)
    padding = [drawing.number(0, stride - 1) for stride in strides]
    begins, ends, results = [], [], []
    for axis, size in enumerate(sizes):
        full = (size - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + padding[axis]
        begins.append(drawing.number(0, min(2, full - 1)))
        ends.append(drawing.number(0, min(2, full - 1 - begins[-1])))
        results.append(full - begins[-1] - ends[-1])
    if group * per_group * math.prod(results) > LARGEST_ELEMENTS:
        return
    weights = drawing.weights(channels, per_group, *kernel)
    sums = channels // group * math.prod(kernel) * int(np.abs(weights).max()) * source.largest
    bias, scale, shift, clip = drawing.requantization(group * per_group, sums)
    geometry = {"strides": strides, "dilations": dilations, "pads": (*begins, *ends), "output_padding": padding, "group": group}
    made = drawing.graph.convolution(source.name, weights, bias, scale, shift, clip, transposed=True, **geometry)
    drawing.add(made, (group * per_group, *results), clip)


def _max_pool(drawing: _Drawing, source: _Codes) -> None:
    sizes = source.shape[1:]
    kernel = tuple(drawing.number(1, min(3, size)) for size in sizes)
    strides = drawing.numbers(len(sizes), 1, 3)
    dilated = drawing.draw(st.booleans())
    dilations = tuple(2 if dilated and (reach - 1) * 2 < size else 1 for reach, size in zip(kernel, sizes, strict=True))
    pads = tuple(0 if dilated else drawing.number(0, reach - 1) for reach in kernel * 2)
    made = drawing.graph.node("MaxPool", source.name, kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations)
    results = [
        (size + begin + end - (reach - 1) * dilation - 1) // stride + 1
        for size, begin, end, reach, dilation, stride in zip(
            sizes, pads[: len(sizes)], pads[len(sizes) :], kernel, dilations, strides, strict=True
        )
    ]
    drawing.pool.append(_Codes(made, (source.shape[0], *results), source.largest))


def _average_pool(drawing: _Drawing, source: _Codes) -> None:
    sizes = source.shape[1:]
    rank = len(sizes)
    whole = drawing.draw(st.booleans())
    kernel = sizes if whole else tuple(drawing.number(1, min(3, size)) for size in sizes)
    strides, area = drawing.numbers(rank, 1, 2), math.prod(kernel)
    pads = tuple(drawing.number(0, min(2, reach - 1)) for reach in kernel * 2)
    if area * source.largest >= 2**22:
        return
    scale, shift = drawing.number(-3, 5), drawing.number(0, 8)
    clip = drawing.one_of(*CLIPS)
    made = drawing.graph.average_pool(source.name, kernel, strides, pads, drawing.number(-9, area), scale, shift, clip)
    results = [
        (size + begin + end - reach) // stride + 1
        for size, begin, end, reach, stride in zip(sizes, pads[:rank], pads[rank:], kernel, strides, strict=True)
    ]
    drawing.add(made, (source.shape[0], *results), clip)


def _residual(drawing: _Drawing, source: _Codes) -> None:
    """The sum with another tensor of the same shape, behind a 1x1 convolution of it or not, scaled or not."""
    channels, rank = source.shape[0], len(source.shape) - 1
    others = [codes for codes in drawing.pool if codes.shape == source.shape]
    other = drawing.draw(st.sampled_from(others))
    if drawing.draw(st.booleans()):
        weights = drawing.weights(channels, channels, *(1,) * rank)
        bias, scale, shift, clip = drawing.requantization(channels, channels * int(np.abs(weights).max()) * other.largest)
        name = drawing.graph.convolution(other.name, weights, bias, scale, shift, clip)
        other = _Codes(name, source.shape, max(abs(clip[0]), abs(clip[1])))
    if other.largest + source.largest > 2**23:
        return
    operands = (source.name, other.name) if drawing.draw(st.booleans()) else (other.name, source.name)
    summed, clip = drawing.graph.node("Add", *operands), drawing.one_of(*CLIPS)
    if drawing.draw(st.booleans()):
        made = drawing.graph.saturate(summed, clip)
    else:
        bias, scale, shift, clip = drawing.requantization(channels, other.largest + source.largest)
        made = drawing.graph.requantize(summed, (1, channels, *(1,) * rank), bias, scale, shift, clip)
    drawing.add(made, source.shape, clip)


def _concatenation(drawing: _Drawing, source: _Codes) -> None:
    fitting = [codes for codes in drawing.pool if codes.shape[1:] == source.shape[1:]]
    other = drawing.draw(st.sampled_from(fitting))
    made = drawing.graph.node("Concat", source.name, other.name, axis=1)
    shape = (source.shape[0] + other.shape[0], *source.shape[1:])
    if math.prod(shape) <= LARGEST_ELEMENTS:
        drawing.pool.append(_Codes(made, shape, max(source.largest, other.largest)))


def _enlargement(drawing: _Drawing, source: _Codes) -> None:
    factors = drawing.numbers(len(source.shape) - 1, 1, 2)
    shape = (source.shape[0], *(size * factor for size, factor in zip(source.shape[1:], factors, strict=True)))
    if math.prod(shape) <= LARGEST_ELEMENTS:
        made = drawing.graph.node("Resize", source.name, "", drawing.graph.constant([1, 1, *factors]))
        drawing.pool.append(_Codes(made, shape, source.largest))


def _reversal(drawing: _Drawing, source: _Codes) -> None:
    """The first spatial axis takes the place of the channels."""
    order = [0, 2, 1, *range(3, len(source.shape) + 1)]
    shape = (source.shape[1], source.shape[0], *source.shape[2:])
    drawing.pool.append(_Codes(drawing.graph.node("Transpose", source.name, perm=order), shape, source.largest))


def _float_island(drawing: _Drawing, source: _Codes) -> None:
    """Float operations on codes, then a stage that makes codes of them."""
    graph, rank = drawing.graph, len(source.shape) - 1
    factor = drawing.generator.normal(0, 1, (1, source.shape[0], *(1,) * rank)).astype(np.float32)
    floats = graph.binary("Mul", source.name, factor)
    operator = drawing.one_of("Relu", "Abs", "Neg", "Round", "Ceil", "Sigmoid")
    floats = graph.node(str(operator), graph.binary(str(drawing.one_of("Add", "Sub", "Div")), floats, 3.25))
    again = graph.clip(graph.node("Floor", graph.binary("Mul", graph.binary("Add", floats, 0.2), 50.0)), -128, 127)
    drawing.add(again, source.shape, (-128, 127))


def _fully_connected(drawing: _Drawing, source: _Codes) -> str:
    features, outputs = math.prod(source.shape), drawing.number(1, 6)
    weights = drawing.weights(features, outputs)
    bias, scale, shift, clip = drawing.requantization(outputs, features * int(np.abs(weights).max()) * source.largest)
    flat = drawing.graph.node("Flatten", source.name, axis=1)
    made = drawing.graph.fully_connected(flat, weights, bias, scale, shift, clip)
    return drawing.graph.binary("Mul", made, 0.037) if drawing.draw(st.booleans()) else made


_STEPS: tuple[Callable[[_Drawing, _Codes], None], ...] = (
    _convolution,
    _convolution,
    _convolution,
    _transposed_convolution,
    _max_pool,
    _average_pool,
    _residual,
    _concatenation,
    _enlargement,
    _reversal,
    _float_island,
)
