"""Hypothesis strategies shared by the tests: random TINPU networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from support.builders import DIALECTS, GraphBuilder

__all__ = ["Network", "networks"]

CODE_RANGES = ((0, 255), (-128, 127), (-255, 255), (0, 15), (-8, 7), (0, 127))


@dataclass(frozen=True)
class Network:
    """A random network: its ONNX bytes, its input shape for one sample, and the kinds of its layers in order."""

    model: bytes
    shape: tuple[int, ...]
    kinds: tuple[str, ...]
    seed: int


@dataclass
class _Drawing:
    """The state while a network is drawn: the graph, the current tensor, its shape and the largest code in it."""

    draw: st.DrawFn
    graph: GraphBuilder
    generator: np.random.Generator
    tensor: str
    shape: tuple[int, int, int]
    largest: int
    kinds: list[str]

    def parameters(self, channels: int, terms: int) -> tuple[np.ndarray, int, np.ndarray, np.ndarray, tuple[int, int]]:
        """Bias, weight limit, scale, shift and clip such that codes use their range and float32 holds every integer."""
        bits = self.draw(st.sampled_from([8, 8, 4, 2]))
        limit = 2 ** (bits - 1) - 1
        clip = self.draw(st.sampled_from(CODE_RANGES))
        accumulator = max(1, terms * limit * self.largest)
        scale = np.ones(channels, np.int64) if bits == 8 else self.generator.integers(128, 256, channels)
        # float32 carries ONNX Runtime exactly while |(acc + bias) * scale| < 2^24
        room = 2**23 // int(scale.max())
        while accumulator >= room and limit > 1:
            limit, accumulator = limit // 2, accumulator // 2
        bias = self.generator.integers(-min(accumulator, room // 4) - 1, min(accumulator, room // 4) + 1, channels)
        typical = max(1.0, accumulator / 6) * float(scale.mean()) / max(1, clip[1])
        shift = np.clip(int(np.log2(typical)) + self.generator.integers(-1, 2, channels), 0, 31)
        return bias, limit, scale, shift, clip

    def weights(self, shape: tuple[int, ...], limit: int) -> np.ndarray:
        weights = self.generator.integers(-limit, limit + 1, shape)
        weights.reshape(-1)[0] = limit
        return weights

    def finish(self, tensor: str, shape: tuple[int, int, int], largest: int, kind: str) -> None:
        self.tensor, self.shape, self.largest = tensor, shape, largest
        self.kinds.append(kind)


@st.composite
def networks(draw: st.DrawFn, max_depth: int = 5) -> Network:
    """A network of up to `max_depth` random layers behind an input stage, in a random dialect."""
    shape = (draw(st.integers(1, 8)), draw(st.integers(3, 12)), draw(st.sampled_from([1, 1, 3, 8])))
    seed = draw(st.integers(0, 2**32 - 1))
    graph = GraphBuilder((1, *shape), draw(st.sampled_from(DIALECTS)))
    generator = np.random.default_rng(seed)
    channels = shape[0]
    offset, multiplier = generator.normal(0, 1, channels), generator.integers(-4095, 4096, channels)
    codes = graph.input_stage(offset.astype(np.float32), multiplier, generator.integers(4, 9, channels))
    drawing = _Drawing(draw, graph, generator, codes, shape, 128, [])
    for _ in range(draw(st.integers(1, max_depth))):
        _LAYERS[draw(st.sampled_from(sorted(_LAYERS)))](drawing)
    if draw(st.booleans()):
        _fully_connected(drawing)
    return Network(graph.model(drawing.tensor), shape, tuple(drawing.kinds), seed)


def _convolution(drawing: _Drawing) -> None:
    draw, (channels, height, width) = drawing.draw, drawing.shape
    kernel = (draw(st.integers(1, min(5, height))), draw(st.integers(1, min(3, width))))
    depthwise = channels > 1 and draw(st.booleans())
    group = channels if depthwise else 1
    outputs = channels * draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 8))
    strides, dilations = (draw(st.integers(1, 3)), draw(st.integers(1, 2))), (1, 1)
    pads = tuple(draw(st.integers(0, size - 1)) for size in kernel * 2)
    terms = channels // group * kernel[0] * kernel[1]
    bias, limit, scale, shift, clip = drawing.parameters(outputs, terms)
    weights = drawing.weights((outputs, channels // group, *kernel), limit)
    tensor = drawing.graph.convolution(
        drawing.tensor, weights, bias, scale, shift, clip, group=group, strides=strides, pads=pads, dilations=dilations
    )
    sizes = [
        (size + begin + end - reach) // stride + 1
        for size, begin, end, reach, stride in zip((height, width), pads[:2], pads[2:], kernel, strides, strict=True)
    ]
    if depthwise:
        kind = "DWCONV"
    elif kernel == (1, 1):
        kind = "PWCONV"
    else:
        kind = "FCONV" if channels == 1 else "GCONV"
    drawing.finish(tensor, (outputs, sizes[0], sizes[1]), max(-clip[0], clip[1]), kind)


def _transposed_convolution(drawing: _Drawing) -> None:
    draw, (channels, height, width) = drawing.draw, drawing.shape
    kernel, strides = (draw(st.integers(1, 4)), 1), (draw(st.integers(1, 2)), 1)
    outputs = draw(st.integers(1, 6))
    bias, limit, scale, shift, clip = drawing.parameters(outputs, channels * kernel[0])
    weights = drawing.weights((channels, outputs, *kernel), limit)
    tensor = drawing.graph.convolution(drawing.tensor, weights, bias, scale, shift, clip, transposed=True, strides=strides)
    drawing.finish(tensor, (outputs, (height - 1) * strides[0] + kernel[0], width), max(-clip[0], clip[1]), "TCONV")


def _max_pool(drawing: _Drawing) -> None:
    draw, (channels, height, width) = drawing.draw, drawing.shape
    kernel = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width))))
    pads = tuple(draw(st.integers(0, (size - 1) // 2)) for size in kernel) * 2
    strides = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    tensor = drawing.graph.node("MaxPool", drawing.tensor, kernel_shape=kernel, strides=strides, pads=pads)
    sizes = [
        (size + 2 * pad - reach) // stride + 1
        for size, pad, reach, stride in zip((height, width), pads[:2], kernel, strides, strict=True)
    ]
    drawing.finish(tensor, (channels, sizes[0], sizes[1]), drawing.largest, "MAXPOOL")


def _average_pool(drawing: _Drawing) -> None:
    draw, (channels, height, width) = drawing.draw, drawing.shape
    kernel = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width))))
    area = kernel[0] * kernel[1]
    shift = int(np.log2(area))
    clip = draw(st.sampled_from(((0, 255), (-128, 127))))
    tensor = drawing.graph.average_pool(drawing.tensor, kernel, (1, 1), (0, 0, 0, 0), area // 2, 1, shift, clip)
    drawing.finish(tensor, (channels, height - kernel[0] + 1, width - kernel[1] + 1), max(-clip[0], clip[1]), "AVGPOOL")


def _residual(drawing: _Drawing) -> None:
    """A 1x1 convolution with the layer's own input added: PWCONVRES, or ADD where the sum has an offset of its own."""
    channels, before, largest = drawing.shape[0], drawing.tensor, drawing.largest
    bias, limit, scale, shift, clip = drawing.parameters(channels, channels)
    branch = drawing.graph.convolution(
        before, drawing.weights((channels, channels, 1, 1), limit), bias, scale, shift, (-255, 255)
    )
    summed = drawing.graph.node("Add", branch, before)
    if drawing.draw(st.booleans()):
        tensor = drawing.graph.requantize(summed, (1, 1, 1, 1), [5], [1], [1], clip)
        drawing.kinds.append("PWCONV")
        drawing.finish(tensor, drawing.shape, max(-clip[0], clip[1]), "ADD")
    else:
        tensor = drawing.graph.saturate(summed, clip)
        drawing.finish(tensor, drawing.shape, max(-clip[0], clip[1], largest), "PWCONVRES")


def _fully_connected(drawing: _Drawing) -> None:
    channels, height, width = drawing.shape
    features, outputs = channels * height * width, drawing.draw(st.integers(1, 6))
    flat = drawing.graph.node("Flatten", drawing.tensor, axis=1)
    bias, limit, scale, shift, clip = drawing.parameters(outputs, features)
    tensor = drawing.graph.fully_connected(flat, drawing.weights((features, outputs), limit), bias, scale, shift, clip)
    drawing.finish(tensor, (outputs, 1, 1), max(-clip[0], clip[1]), "FC")


_LAYERS = {
    "average_pool": _average_pool,
    "convolution": _convolution,
    "max_pool": _max_pool,
    "residual": _residual,
    "transposed_convolution": _transposed_convolution,
}
