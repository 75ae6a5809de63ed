"""Make the models, inputs and golden vectors of this folder: ``python golden/make_models.py`` writes the same bytes every time.

Two are a small network for vibration signals of three axes, written down by hand in the form in which the TorchScript exporter
writes quantized networks for the NPU. Weights come from a fixed seed. Biases, scales and shifts are calibrated by running the
network in integers on synthetic signals, so that every layer uses the range of its codes. The others are the float networks of
networks.py, quantized by npusim.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from networks import NETWORKS
from onnx import TensorProto, helper, numpy_helper

from npusim import quantize, write_golden

Integers = npt.NDArray[np.int64]

LENGTH = 64
RESOLUTION = 4096
"""Steps of the accelerometer in one g: signals are rounded to them, so that they are the same on every machine."""

OFFSET = (0.0127, -0.0061, -1.0048)
MULTIPLIER = (4033, -2891, 3370)
"""The second axis is mounted the other way round, so its gain is negative."""
INPUT_SHIFT = (6, 5, 6)


def make_signals(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Accelerations in g, float32 [count, 3, 64, 1]: a good machine, imbalance, a bad bearing and a loose foot, in turn."""
    noise = random.Random(seed)
    samples = [_make_signal(index % 4, noise) for index in range(count)]
    return np.array(samples, dtype=np.float32).reshape(count, 3, LENGTH, 1)


def _make_signal(fault: int, noise: random.Random) -> list[list[float]]:
    speed, phase, start = 3 + 2 * noise.random(), 7 * noise.random(), noise.random()
    amplitude = (0.25, 1.3, 0.3, 0.5)[fault] * (0.8 + 0.4 * noise.random())
    axes: list[list[float]] = [[], [], []]
    for step in range(LENGTH):
        angle = 2 * math.pi * speed * step / LENGTH + phase
        ring = ((step / LENGTH * speed + start) % 1) if fault == 2 else 1.0
        burst = 1.5 * math.exp(-9 * ring) * math.sin(19 * ring) if fault == 2 else 0.0
        rattle = 0.5 * abs(math.sin(3 * angle)) if fault == 3 else 0.0
        values = (
            amplitude * math.sin(angle) + burst,
            0.6 * amplitude * math.cos(angle) + 0.4 * burst + rattle,
            1.0 + 0.4 * amplitude * math.sin(2 * angle) - rattle + 0.7 * burst,
        )
        for axis, value in zip(axes, values, strict=True):
            axis.append(round((value + 0.06 * (noise.random() - 0.5)) * RESOLUTION) / RESOLUTION)
    return axes


@dataclass(frozen=True)
class Requantization:
    """``clip(((accumulator + bias) * scale) >> shift, lower, upper)``, one bias, scale and shift for each channel."""

    bias: Integers
    scale: Integers
    shift: Integers
    lower: int
    upper: int

    def apply(self, accumulator: Integers) -> Integers:
        bias, scale, shift = (
            values.reshape(-1, *(1,) * (accumulator.ndim - 2)) for values in (self.bias, self.scale, self.shift)
        )
        return np.clip(((accumulator + bias) * scale) >> shift, self.lower, self.upper)


def calibrate(accumulator: Integers, weight_bits: int, lower: int, upper: int) -> Requantization:
    """Choose bias, scale and shift of every channel from the accumulators [samples, channels, ...] that signals lead to."""
    rows = []
    for values in np.moveaxis(accumulator, 1, 0):
        ordered = np.sort(values, axis=None)
        bias = -int(ordered[len(ordered) * 2 // 5 if lower == 0 else len(ordered) // 2])
        tail = len(ordered) // 200
        peak = max(int(ordered[-1 - tail]) + bias, 1 if lower == 0 else -int(ordered[tail]) - bias)
        scale, shift = _multiplier(upper, peak, weight_bits)
        # Half an output step in units of the accumulator: the floor then rounds half up.
        rows.append((bias + round(Fraction(2**shift, 2 * scale)), scale, shift))
    bias_column, scale_column, shift_column = np.array(rows, dtype=np.int64).T
    return Requantization(bias_column, scale_column, shift_column, lower, upper)


def _multiplier(upper: int, peak: int, weight_bits: int) -> tuple[int, int]:
    """Scale and shift that take `peak` to about `upper`; the scale is 1 with 8-bit weights, otherwise 128 to 255."""
    if weight_bits == 8:
        return 1, next(shift for shift in range(32) if peak <= upper << shift)
    shift = max(shift for shift in range(32) if upper << shift <= 255 * peak)
    return round(Fraction(upper << shift, peak)), shift


@dataclass
class Network:
    """A graph under construction, run in integers alongside."""

    weight_bits: int
    codes: Integers
    tensor: str = "input"
    nodes: list[object] = field(default_factory=list)
    initializers: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(20))

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """The initializer of this value; like exporters, equal ones are stored once."""
        array = np.asarray(value, dtype=dtype)
        for known, stored in self.initializers.items():
            if stored.shape == array.shape and stored.dtype == array.dtype and bool((stored == array).all()):
                return known
        self.initializers[name] = array
        return name

    def node(
        self, operator: str, name: str, *constants: str, output: str = "", named: bool = True, **attributes: object
    ) -> None:
        """Append a node that reads the current tensor and makes the next one."""
        result = output or f"{name}_output_0"
        label = name if named else ""
        self.nodes.append(helper.make_node(operator, [self.tensor, *constants], [result], label, **attributes))
        self.tensor = result

    def clip(self, name: str, lower: int, upper: int, output: str = "") -> None:
        bounds = [self.constant(f"{name}/{side}", bound) for side, bound in (("min", lower), ("max", upper))]
        self.node("Clip", name, *bounds, output=output)

    def weights(self, *shape: int) -> Integers:
        """Random weights in the narrow range, small ones more often than large ones."""
        largest = 2 ** (self.weight_bits - 1) - 1
        count = math.prod(shape)
        values = [round(largest * (self.chance.random() + self.chance.random() - 1)) for _ in range(count)]
        return np.array(values, dtype=np.int64).reshape(shape)

    def requantize(self, name: str, found: Requantization, *, bias: bool = True, output: str = "") -> None:
        """Append ``Add, Mul, Mul, Floor, Clip``, and for a layer with ReLU ``Relu, Clip`` after a clip to nine bits."""
        rank, relu = self.codes.ndim, found.lower == 0 and self.codes.ndim == 4
        column = (1, -1) + (1,) * (rank - 2)
        if bias:
            self.node("Add", f"{name}/Add", self.constant(f"{name}.offset", found.bias.reshape(column)))
        self.node("Mul", f"{name}/Mul", self.constant(f"{name}.mult", found.scale.reshape(column)))
        power = np.ldexp(np.float32(1), -found.shift).reshape(column)
        self.node("Mul", f"{name}/Mul_1", self.constant(f"{name}.shift_mult", power))
        self.node("Floor", f"{name}/Floor")
        if relu:
            self.clip(f"{name}/Clip", -255, 255)
            self.node("Relu", f"{name}/Relu")
            self.clip(f"{name}/Clip_1", 0, 255)
        else:
            self.clip(f"{name}/Clip", found.lower, found.upper, output)

    def convolution(self, name: str, outputs: int, kernel: int, *, depthwise: bool = False) -> None:
        channels = self.codes.shape[1]
        weights = self.weights(outputs, 1 if depthwise else channels, kernel, 1)
        taps = _windows(self.codes, kernel, fill=0)
        equation = "nchk,ck->nch" if depthwise else "nchk,ock->noh"
        taps_weights = weights[:, 0, :, 0] if depthwise else weights[..., 0]
        accumulator = np.einsum(equation, taps, taps_weights)[..., np.newaxis]
        pad = kernel // 2
        self.node(
            "Conv",
            f"{name}/Conv",
            self.constant(f"{name}.weight", weights),
            dilations=[1, 1],
            group=channels if depthwise else 1,
            kernel_shape=[kernel, 1],
            pads=[pad, 0, pad, 0],
            strides=[1, 1],
        )
        found = calibrate(accumulator, self.weight_bits, 0, 255)
        self.requantize(f"{name}/requantize", found)
        self.codes = found.apply(accumulator)

    def max_pool(self, name: str) -> None:
        self.node(
            "MaxPool",
            f"{name}/MaxPool",
            ceil_mode=0,
            dilations=[1, 1],
            kernel_shape=[3, 1],
            pads=[1, 0, 1, 0],
            strides=[2, 1],
        )
        self.codes = _windows(self.codes, 3, fill=0)[:, :, ::2].max(axis=-1)[..., np.newaxis]

    def global_average(self, name: str) -> None:
        area = self.codes.shape[2]
        self.node("ReduceSum", f"{name}/ReduceSum", self.constant(f"{name}.axes", [2, 3], np.int64), keepdims=0)
        self.node("Round", f"{name}/Round")
        scale, shift = _multiplier(1, area, self.weight_bits)
        accumulator = self.codes.sum(axis=(2, 3))
        one = np.ones(1, np.int64)
        found = Requantization(one * round(Fraction(2**shift, 2 * scale)), one * scale, one * shift, 0, 255)
        self.codes = accumulator
        self.requantize(f"{name}/requantize", found)
        self.codes = found.apply(self.codes)

    def fully_connected(self, name: str, outputs: int, output: str) -> None:
        weights = self.weights(self.codes.shape[1], outputs)
        accumulator = self.codes @ weights
        found = calibrate(accumulator, self.weight_bits, -128, 127)
        constants = self.constant(f"{name}.weight", weights), self.constant(f"{name}.offset", found.bias.reshape(1, -1))
        self.node("Gemm", f"{name}/Gemm", *constants, named=False, alpha=1.0, beta=1.0, transA=0, transB=0)
        self.requantize(f"{name}/requantize", found, bias=False, output=output)
        self.codes = found.apply(accumulator)

    def input_stage(self, name: str, signals: npt.NDArray[np.float32]) -> None:
        """Append float32 acceleration to signed 8-bit codes."""
        columns = [np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (OFFSET, MULTIPLIER)]
        power = np.ldexp(np.float32(1), -np.array(INPUT_SHIFT)).reshape(1, 3, 1, 1)
        self.node("Add", f"{name}/Add", self.constant(f"{name}.offset", columns[0]))
        self.node("Mul", f"{name}/Mul", self.constant(f"{name}.mult", columns[1]))
        self.node("Mul", f"{name}/Mul_1", self.constant(f"{name}.shift_mult", power))
        self.node("Floor", f"{name}/Floor")
        self.clip(f"{name}/Clip", -128, 127)
        self.codes = np.clip(np.floor((signals + columns[0]) * columns[1] * power), -128, 127).astype(np.int64)


def _windows(codes: Integers, size: int, *, fill: int) -> Integers:
    """Windows along the time axis, [samples, channels, length, size]; outside of the signal stands `fill`."""
    pad = size // 2
    padded = np.pad(codes[..., 0], ((0, 0), (0, 0), (pad, pad)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, size, axis=2)


def make_model(weight_bits: int) -> bytes:
    """The vibration network with weights of 8 or 4 bits as a serialized ONNX model."""
    signals = make_signals(96, seed=1)
    network = Network(weight_bits, np.zeros(signals.shape, np.int64))
    network.input_stage("/input_stage", signals)
    network.convolution("/conv", 8, 5)
    network.max_pool("/pool")
    network.convolution("/depthwise", 8, 3, depthwise=True)
    network.convolution("/pointwise", 16, 1)
    network.global_average("/average")
    network.fully_connected("/classifier", 4, "output")
    graph = helper.make_graph(
        network.nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, LENGTH, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in network.initializers.items()],
    )
    model = helper.make_model(graph, producer_name="golden/make_models.py", opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))


def write_networks(folder: Path) -> None:
    """The quantized networks of networks.py; of the first also the float network and its samples, to try quantization on."""
    for network in NETWORKS:
        model, samples = network.float_model(), network.samples()
        found = quantize(model, samples, network.weight_bits, network.activation_bits, float_output=network.float_output)
        (folder / f"{network.name}.onnx").write_bytes(found.content)
    first = NETWORKS[0]
    (folder / "keywords_float.onnx").write_bytes(first.float_model())
    np.savez(folder / "keywords_samples.npz", input=first.samples())


def main(folder: Path) -> None:
    """Write all files to a folder."""
    for weight_bits in (8, 4):
        content = make_model(weight_bits)
        (folder / f"vibration_w{weight_bits}.onnx").write_bytes(content)
    signals = make_signals(16, seed=2)
    np.savez(folder / "vibration_inputs.npz", input=signals)
    write_networks(folder)
    samples = dict.fromkeys(("vibration_w8", "vibration_w4"), signals)
    for name, found in {**samples, **{network.name: network.samples() for network in NETWORKS}}.items():
        formats = ("c", "npz", "onnx") if name in samples else ("c", "npz")
        write_golden(folder / f"{name}.onnx", folder / name, found, sets=4, formats=formats, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
