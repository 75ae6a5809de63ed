"""Small float networks for tests of quantization: a builder, and a hypothesis strategy that draws random ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import helper

from npusim.graph import Array
from support.models import model_of

__all__ = ["FloatBuilder", "RandomNetwork", "random_networks", "samples"]


@dataclass
class FloatBuilder:
    """Appends float layers one after the other; every method makes the next tensor the current one and returns its name."""

    shape: tuple[int, ...]
    seed: int = 0
    tensor: str = "input"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.shapes["input"] = self.shape

    @property
    def current(self) -> tuple[int, ...]:
        """Shape of the current tensor."""
        return self.shapes[self.tensor]

    def constant(self, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def node(
        self, operator: str, *others: str, shape: tuple[int, ...] | None = None, source: str = "", **attributes: object
    ) -> str:
        name = f"/n{len(self.nodes)}/{operator}"
        inputs = (source or self.tensor, *others)
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}_output_0"], name, **attributes))
        before = self.shapes[inputs[0]]
        self.tensor = f"{name}_output_0"
        self.shapes[self.tensor] = before if shape is None else shape
        return self.tensor

    def batch_norm(self, gain: npt.ArrayLike | None = None) -> str:
        channels = self.current[1]
        scale = self.random.uniform(0.5, 2, channels) if gain is None else gain
        values = (
            scale,
            self.random.normal(0, 0.3, channels),
            self.random.normal(0, 0.3, channels),
            self.random.uniform(0.5, 2, channels),
        )
        return self.node("BatchNormalization", *(self.constant(value) for value in values), epsilon=1e-5)

    def relu(self, upper: float | None = None) -> str:
        if upper is None:
            return self.node("Relu")
        return self.node("Clip", self.constant(0.0), self.constant(upper))

    def conv(
        self, outputs: int, kernel: int, stride: int = 1, *, group: int = 1, bias: bool = True, pad: int | None = None
    ) -> str:
        shape = self.current
        spatial = len(shape) - 2
        sizes = (kernel, *(1,) * (spatial - 1))
        pads = (kernel // 2 if pad is None else pad, *(0,) * (spatial - 1))
        strides = (stride, *(1,) * (spatial - 1))
        fan = shape[1] // group * kernel
        weights = self.random.normal(0, 1.4 / np.sqrt(fan), (outputs, shape[1] // group, *sizes))
        names = [self.constant(weights)] + ([self.constant(self.random.normal(0, 0.2, outputs))] if bias else [])
        result = tuple(
            (size + 2 * edge - reach) // step + 1
            for size, edge, reach, step in zip(shape[2:], pads, sizes, strides, strict=True)
        )
        attributes: dict[str, object] = {"kernel_shape": sizes, "pads": (*pads, *pads), "strides": strides, "group": group}
        attributes["dilations"] = (1,) * spatial
        return self.node("Conv", *names, shape=(1, outputs, *result), **attributes)

    def conv_transpose(self, outputs: int, kernel: int, stride: int, pad: int = 0, group: int = 1) -> str:
        shape = self.current
        spatial = len(shape) - 2
        ones = (1,) * (spatial - 1)
        weights = self.random.normal(0, 1.4 / np.sqrt(shape[1]), (shape[1], outputs // group, kernel, *ones))
        names = self.constant(weights), self.constant(self.random.normal(0, 0.2, outputs))
        length = (shape[2] - 1) * stride + kernel - 2 * pad
        pads = (pad, *(0,) * (spatial - 1))
        attributes: dict[str, object] = {"kernel_shape": (kernel, *ones), "strides": (stride, *ones), "pads": (*pads, *pads)}
        return self.node("ConvTranspose", *names, shape=(1, outputs, length, *shape[3:]), group=group, **attributes)

    def linear(self, outputs: int) -> str:
        features = self.current[1]
        weights = self.random.normal(0, 1.4 / np.sqrt(features), (outputs, features))
        names = self.constant(weights), self.constant(self.random.normal(0, 0.2, outputs))
        return self.node("Gemm", *names, shape=(1, outputs), transB=1)

    def max_pool(self) -> str:
        shape = self.current
        ones = (1,) * (len(shape) - 3)
        result = (*shape[:2], shape[2] // 2, *shape[3:])
        return self.node("MaxPool", shape=result, kernel_shape=(2, *ones), strides=(2, *ones))

    def average_pool(self, size: int = 2) -> str:
        shape = self.current
        ones = (1,) * (len(shape) - 3)
        result = (*shape[:2], shape[2] // size, *shape[3:])
        return self.node("AveragePool", shape=result, kernel_shape=(size, *ones), strides=(size, *ones), count_include_pad=1)

    def global_average(self) -> str:
        shape = self.current
        return self.node("GlobalAveragePool", shape=(*shape[:2], *(1,) * (len(shape) - 2)))

    def flatten(self) -> str:
        return self.node("Flatten", shape=(1, int(np.prod(self.current))), axis=1)

    def add(self, other: str) -> str:
        return self.node("Add", other)

    def concat(self, *others: str, axis: int = 1) -> str:
        shapes = [self.current, *(self.shapes[name] for name in others)]
        result = tuple(sum(shape[place] for shape in shapes) if place == axis else size for place, size in enumerate(shapes[0]))
        return self.node("Concat", *others, shape=result, axis=axis)

    def model(self, opset: int = 17, outputs: tuple[str, ...] = ()) -> bytes:
        names = outputs or (self.tensor,)
        results = {name: (np.float32, self.shapes[name]) for name in names}
        return model_of(self.nodes, {"input": (np.float32, self.shape)}, results, self.constants, opset=opset)


def samples(shape: tuple[int, ...], count: int = 48, seed: int = 1) -> npt.NDArray[np.float32]:
    """Smooth random signals with a drift, [count, ...]."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (count, *shape[1:]))
    drift = random.normal(0, 0.7, (count, shape[1], *(1,) * (len(shape) - 2)))
    return (noise + drift).astype(np.float32)


@dataclass(frozen=True)
class RandomNetwork:
    """A float network and whether it has a sum."""

    model: bytes
    shape: tuple[int, ...]
    seed: int


@st.composite
def random_networks(draw: st.DrawFn) -> RandomNetwork:
    """Two to five layers of any kind, an optional batch norm in front, and an end that is a layer with weights or not."""
    seed = draw(st.integers(0, 2**16))
    channels, length = draw(st.integers(1, 4)), draw(st.sampled_from([8, 12, 16]))
    graph = FloatBuilder((1, channels, length, 1) if draw(st.booleans()) else (1, channels, length), seed)
    if draw(st.booleans()):
        graph.batch_norm()
    kinds = st.sampled_from(["conv", "depthwise", "pointwise", "transpose", "max", "average", "residual", "concat"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=4)):
        _append(graph, kind, draw)
    if draw(st.booleans()):
        if draw(st.booleans()):
            graph.global_average()
        graph.flatten()
        graph.linear(draw(st.integers(1, 5)))
    elif draw(st.booleans()):
        graph.conv(draw(st.integers(1, 4)), 1)
    return RandomNetwork(graph.model(), graph.shape, seed)


def _append(graph: FloatBuilder, kind: str, draw: st.DrawFn) -> None:
    channels = graph.current[1]
    match kind:
        case "conv":
            graph.conv(draw(st.integers(2, 8)), draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 2])))
        case "depthwise":
            graph.conv(channels * draw(st.integers(1, 2)), 3, group=channels)
        case "pointwise":
            graph.conv(draw(st.integers(2, 8)), 1, bias=draw(st.booleans()))
        case "transpose":
            graph.conv_transpose(draw(st.integers(1, 4)), draw(st.sampled_from([2, 3, 4])), 2)
        case "max" if graph.current[2] >= 4:
            graph.max_pool()
        case "average" if graph.current[2] >= 4:
            graph.average_pool(draw(st.integers(2, 3)))
        case "residual":
            before = graph.tensor
            graph.conv(channels, draw(st.sampled_from([1, 3])))
            if draw(st.booleans()):
                graph.relu()
            graph.add(before)
        case "concat":
            before = graph.tensor
            graph.conv(channels, 3)
            if draw(st.booleans()):
                graph.relu()
            graph.concat(before, axis=draw(st.integers(1, 2)))
        case _:
            graph.relu()
    if draw(st.booleans()):
        graph.relu(draw(st.sampled_from([None, None, 6.0])))
    if draw(st.integers(0, 4)) == 0:
        graph.batch_norm()
