"""Small float networks that together have every layer type of the NPU, and how they are quantized.

Weights and samples come from fixed seeds and are rounded to fractions of two, so that they are the same on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from npusim.graph import Attribute, Node
from npusim.graph.onnx_writer import write_model

__all__ = ["NETWORKS", "GoldenNetwork"]

FRACTION = 1024
"""Weights and samples are multiples of one part in so many."""

SAMPLES = 64


@dataclass
class FloatGraph:
    """A float graph under construction; each method appends a layer to the current tensor."""

    shape: tuple[int, ...]
    chance: random.Random
    tensor: str = "input"
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs["input"] = self.shape

    def node(self, operator: str, name: str, *constants: str, **attributes: Attribute) -> str:
        label = f"/{name}/{operator}"
        self.nodes.append(Node(operator, label, (self.tensor, *constants), (f"{label}_output_0",), attributes))
        self.tensor = f"{label}_output_0"
        return self.tensor

    def values(self, name: str, shape: Sequence[int], spread: float, middle: float = 0.0) -> str:
        """Random numbers, small ones more often than large ones."""
        drawn = [
            round((middle + spread * (self.chance.random() + self.chance.random() - 1)) * FRACTION) / FRACTION
            for _ in range(math.prod(shape))
        ]
        self.constants[name] = np.array(drawn, np.float32).reshape(shape)
        return name

    def batch_norm(self, name: str, middle: float = 0.0, spread: float = 1.0) -> None:
        channels = self.shape[1:2]
        parts = (("weight", 0.2, 1.0), ("bias", 0.2, 0.0), ("mean", 0.1 * spread, middle), ("var", 0.1 * spread**2, spread**2))
        constants = [self.values(f"{name}.{part}", channels, wide, centre) for part, wide, centre in parts]
        self.node("BatchNormalization", name, *constants, epsilon=1e-5)

    def convolution(
        self,
        name: str,
        outputs: int,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] = (1, 1),
        depthwise: bool = False,
        relu: bool = True,
    ) -> str:
        channels = self.shape[1]
        inner = 1 if depthwise else channels
        weights = self.values(f"{name}.weight", (outputs, inner, *kernel), 2.6 / math.sqrt(inner * math.prod(kernel)))
        bias = self.values(f"{name}.bias", (outputs,), 0.3)
        pads = (kernel[0] // 2, kernel[1] // 2) * 2
        group = channels if depthwise else 1
        self.node("Conv", name, weights, bias, kernel_shape=kernel, strides=strides, pads=pads, group=group)
        sizes = [
            (size + 2 * (reach // 2) - reach) // step + 1
            for size, reach, step in zip(self.shape[2:], kernel, strides, strict=True)
        ]
        self.shape = (1, outputs, *sizes)
        return self.node("Relu", name) if relu else self.tensor

    def transposed(self, name: str, outputs: int, *, relu: bool) -> None:
        """A transposed convolution that doubles the length."""
        weights = self.values(f"{name}.weight", (self.shape[1], outputs, 4, 1), 2.6 / math.sqrt(2 * self.shape[1]))
        bias = self.values(f"{name}.bias", (outputs,), 0.3)
        self.node("ConvTranspose", name, weights, bias, kernel_shape=(4, 1), strides=(2, 1), pads=(1, 0, 1, 0))
        self.shape = (1, outputs, 2 * self.shape[2], self.shape[3])
        if relu:
            self.node("Relu", name)

    def pool(self, operator: str, name: str, kernel: tuple[int, int]) -> None:
        extra: dict[str, Attribute] = {"count_include_pad": 1} if operator == "AveragePool" else {}
        self.node(operator, name, kernel_shape=kernel, strides=kernel, **extra)
        self.shape = (*self.shape[:2], self.shape[2] // kernel[0], self.shape[3] // kernel[1])

    def add(self, name: str, other: str) -> None:
        self.node("Add", name, other)
        self.node("Relu", name)

    def flatten(self, name: str) -> None:
        self.node("Flatten", name, axis=1)
        self.shape = (1, math.prod(self.shape))

    def global_average(self, name: str) -> None:
        self.node("GlobalAveragePool", name)
        self.shape = (*self.shape[:2], 1, 1)
        self.flatten(f"{name}_flat")

    def linear(self, name: str, outputs: int, *, relu: bool = False) -> None:
        weights = self.values(f"{name}.weight", (outputs, self.shape[1]), 2.6 / math.sqrt(self.shape[1]))
        self.node("Gemm", name, weights, self.values(f"{name}.bias", (outputs,), 0.3), alpha=1.0, beta=1.0, transB=1)
        self.shape = (1, outputs)
        if relu:
            self.node("Relu", name)

    def model(self) -> bytes:
        last = self.nodes[-1]
        self.nodes[-1] = Node(last.op_type, last.name, last.inputs, ("output",), last.attributes)
        return write_model(
            self.nodes, self.constants, inputs=self.inputs, outputs={"output": self.shape}, producer="golden/networks.py"
        )


@dataclass(frozen=True)
class GoldenNetwork:
    """A float network and how it is quantized.

    `build` appends its layers; `middle` and `spread` are those of the samples.
    """

    name: str
    shape: tuple[int, ...]
    weight_bits: int
    float_output: bool
    build: Callable[[FloatGraph], object]
    activation_bits: int = 8
    middle: float = 0.0
    spread: float = 1.0

    def float_model(self) -> bytes:
        """The float network as an ONNX file."""
        graph = FloatGraph(self.shape, random.Random(self.name))
        self.build(graph)
        return graph.model()

    def samples(self) -> npt.NDArray[np.float32]:
        """Waves and noise, float32 [64, ...], for calibration and as inputs."""
        chance = random.Random(f"{self.name} samples")
        size = math.prod(self.shape[1:])
        rows = []
        for index in range(SAMPLES):
            step, phase = 0.05 + 0.1 * (index % 4) + 0.02 * chance.random(), 7 * chance.random()
            values = (math.sin(step * place + phase) + chance.random() - 0.5 for place in range(size))
            rows.append([round((self.middle + self.spread * value) * FRACTION) / FRACTION for value in values])
        return np.array(rows, np.float32).reshape(SAMPLES, *self.shape[1:])


def _keywords(graph: FloatGraph) -> None:
    graph.convolution("first", 8, (5, 3), strides=(2, 2))
    graph.convolution("depthwise", 8, (3, 3), depthwise=True)
    graph.convolution("pointwise", 16, (1, 1))
    graph.global_average("average")
    graph.linear("classifier", 6)


def _residual(graph: FloatGraph) -> None:
    graph.batch_norm("input_norm", 2.0, 0.5)
    trunk = graph.convolution("first", 8, (3, 1))
    graph.convolution("inner", 8, (5, 1))
    graph.convolution("outer", 8, (1, 1), relu=False)
    graph.add("sum", trunk)
    graph.pool("MaxPool", "pool", (2, 1))
    graph.flatten("flat")
    graph.linear("classifier", 4)


def _autoencoder(graph: FloatGraph) -> None:
    graph.convolution("encoder_1", 8, (3, 1), strides=(2, 1))
    graph.convolution("encoder_2", 8, (3, 1), strides=(2, 1))
    graph.transposed("decoder_1", 8, relu=True)
    graph.transposed("decoder_2", 4, relu=False)


def _ternary(graph: FloatGraph) -> None:
    graph.batch_norm("input_norm")
    graph.convolution("first", 16, (5, 1))
    graph.pool("AveragePool", "halve", (2, 1))
    graph.convolution("depthwise", 16, (3, 1), depthwise=True)
    graph.convolution("pointwise", 16, (1, 1))
    graph.global_average("average")
    graph.linear("regressor", 4, relu=True)


def _dense(graph: FloatGraph) -> None:
    graph.batch_norm("input_norm", 100.0, 20.0)
    graph.flatten("flat")
    graph.linear("hidden_1", 32, relu=True)
    graph.linear("hidden_2", 16)
    graph.linear("regressor", 1)


def _signed(graph: FloatGraph) -> None:
    graph.convolution("first", 8, (3, 3), relu=False)
    graph.pool("AveragePool", "halve", (2, 2))
    graph.convolution("second", 16, (3, 3), relu=False)
    graph.pool("MaxPool", "pool", (2, 2))
    graph.global_average("average")
    graph.linear("classifier", 4)


NETWORKS = (
    GoldenNetwork("keywords_w8", (1, 1, 20, 10), 8, False, _keywords),
    GoldenNetwork("residual_w4", (1, 4, 32, 1), 4, False, _residual, middle=2.0, spread=0.5),
    GoldenNetwork("autoencoder_w8", (1, 4, 32, 1), 8, True, _autoencoder),
    GoldenNetwork("ternary_w2", (1, 4, 48, 1), 2, True, _ternary),
    GoldenNetwork("dense_w8", (1, 4, 16, 1), 8, True, _dense, middle=100.0, spread=20.0),
    GoldenNetwork("signed_w4a4", (1, 4, 12, 12), 4, False, _signed, activation_bits=4),
)
"""What the folder holds besides the vibration networks."""
