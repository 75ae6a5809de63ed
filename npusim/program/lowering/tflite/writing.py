"""Writing an int8 network as a TensorFlow Lite model, operator by operator, as TensorFlow's converter does.

Tensors have the order of the format, channels last; data with one spatial axis is held as images of one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import UnsupportedError
from npusim.graph import Array, Attribute, Node
from npusim.graph.tflite_model import TfliteModel, TfliteOperator, TfliteTensor
from npusim.graph.tflite_writer import serialize_tflite
from npusim.program.layers import Window
from npusim.program.lowering.tflite.moves import nearest_places
from npusim.program.lowering.tflite.sums import same_padding

__all__ = ["Coding", "TfliteDraft", "fixed_coding"]

IntegerArray = npt.NDArray[np.int64]

LOWEST: Final = -128
HIGHEST: Final = 127

_VERSIONS: Final = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "TRANSPOSE_CONV": 3,
    **dict.fromkeys(
        "ADD AVERAGE_POOL_2D CONCATENATION DEQUANTIZE LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN MUL PAD PADV2 "
        "RESIZE_NEAREST_NEIGHBOR SOFTMAX STRIDED_SLICE SUB TANH TRANSPOSE".split(),
        2,
    ),
}
"""Versions of the operators that have int8 kernels, where they are not 1."""

_FUNCTIONS: Final = {
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Softmax": "SOFTMAX",
    "LeakyRelu": "LEAKY_RELU",
    "HardSwish": "HARD_SWISH",
    "Mul": "MUL",
    "Sub": "SUB",
}
"""Operators of ONNX that no layer of a float network is, and that the format has for codes."""


@dataclass(frozen=True, slots=True)
class Coding:
    """What int8 codes stand for: ``(code - zero_point) * scale``; the scale is a float32."""

    scale: float
    zero_point: int


_FIXED: Final = {"LOGISTIC": Coding(1 / 256, -128), "SOFTMAX": Coding(1 / 256, -128), "TANH": Coding(1 / 128, 0)}
"""Results whose codes the runtimes prescribe."""


def fixed_coding(node: Node) -> Coding | None:
    """The codes that runtimes prescribe for a node's result; None where they may be chosen."""
    return _FIXED.get(_FUNCTIONS.get(node.op_type, ""))


@dataclass
class TfliteDraft:
    """Tensors and operators so far; tensors are known by their names."""

    tensors: dict[str, TfliteTensor] = field(default_factory=dict)
    operators: list[TfliteOperator] = field(default_factory=list)

    def coding(self, name: str) -> Coding:
        """What the codes of a tensor stand for."""
        tensor = self.tensors[name]
        return Coding(tensor.scales[0], tensor.zero_points[0])

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.tensors[name].shape

    def codes(self, name: str, shape: Sequence[int], coding: Coding) -> str:
        """Enter a tensor of int8 codes."""
        return self._enter(TfliteTensor(name, "INT8", tuple(shape), (), None, (coding.scale,), (coding.zero_point,)))

    def reals(self, name: str, shape: Sequence[int]) -> str:
        """Enter a tensor of float32."""
        return self._enter(TfliteTensor(name, "FLOAT32", tuple(shape)))

    def content(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """The file."""
        places = {name: index for index, name in enumerate(self.tensors)}
        named = tuple(places[name] for name in inputs), tuple(places[name] for name in outputs)
        return serialize_tflite(TfliteModel(tuple(self.tensors.values()), tuple(self.operators), *named, "npusim"))

    def convolution(
        self,
        source: str,
        output: str,
        weights: IntegerArray,
        scales: npt.NDArray[np.float32],
        bias: IntegerArray,
        window: Window,
        group: int,
        activation: str,
    ) -> None:
        """CONV_2D, or DEPTHWISE_CONV_2D where each channel is a group.

        Parameters
        ----------
        weights
            ``[out, in / group, *kernel]``.
        scales, bias
            For each output channel.
        """
        spatial = self.shape(output)[1:3]
        image = weights.reshape(*weights.shape[:2], *_rows(window.kernel_shape))
        place = self._place(source, window, spatial, None)
        options: dict[str, Attribute] = {
            **_steps(window),
            "padding": place[1],
            "activation": activation,
            "dilation_h": _rows(window.dilations)[0],
            "dilation_w": _rows(window.dilations)[1],
        }
        channels = self.shape(source)[3]
        depthwise = group == channels and group > 1
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        if depthwise:
            options["depth_multiplier"] = weights.shape[0] // channels
        arranged = image.transpose(1, 2, 3, 0) if depthwise else image.transpose(0, 2, 3, 1)
        parameters = self._parameters(source, output, arranged, scales, bias, 3 if depthwise else 0)
        self._call(name, (place[0], *parameters), output, options)

    def transposed_convolution(
        self,
        source: str,
        output: str,
        weights: IntegerArray,
        scales: npt.NDArray[np.float32],
        bias: IntegerArray,
        window: Window,
        group: int,
        activation: str,
    ) -> None:
        """TRANSPOSE_CONV without padding, and a slice where the layer has some.

        Groups become zeros between the channels and dilations zeros in the kernel, which the format does not have.

        Parameters
        ----------
        weights
            ``[in, out / group, *kernel]``.
        """
        dense = _spread(
            _dense(weights.reshape(*weights.shape[:2], *_rows(window.kernel_shape)), group), _rows(window.dilations)
        )
        batch, height, width, channels = self.shape(output)
        strides, kernel, pads = _rows(window.strides), dense.shape[2:], _pads(window)
        whole = [
            max((size - 1) * step + length, begin + wanted)
            for size, step, length, begin, wanted in zip(
                self.shape(source)[1:3], strides, kernel, pads[0], (height, width), strict=True
            )
        ]
        cut = any(pads[0]) or whole != [height, width]
        made = f"{output}/whole" if cut else output
        if cut:
            self.codes(made, (batch, *whole, channels), self.coding(output))
        parameters = self._parameters(source, output, dense.transpose(1, 2, 3, 0), scales, bias, 0)
        shape = self._integers(f"{output}/shape", (batch, *whole, channels))
        options: dict[str, Attribute] = {**_steps(window), "padding": "VALID", "activation": activation}
        self._call("TRANSPOSE_CONV", (shape, parameters[0], source, parameters[1]), made, options)
        if cut:
            begins = (0, *pads[0], 0)
            ends = (batch, pads[0][0] + height, pads[0][1] + width, channels)
            self._slice(made, output, begins, ends, (1, 1, 1, 1))

    def fully_connected(
        self,
        source: str,
        output: str,
        weights: IntegerArray,
        scales: npt.NDArray[np.float32],
        bias: IntegerArray,
        activation: str,
    ) -> None:
        """FULLY_CONNECTED; `weights` are ``[in, out]``."""
        parameters = self._parameters(source, output, weights.T, scales, bias, 0)
        self._call("FULLY_CONNECTED", (source, *parameters), output, {"activation": activation})

    def pool(self, source: str, output: str, window: Window, activation: str = "NONE", *, maximum: bool) -> None:
        """MAX_POOL_2D, or AVERAGE_POOL_2D in which padding counts as zeros."""
        lowest = LOWEST if maximum else None
        place = self._place(source, window, self.shape(output)[1:3], lowest, same=maximum)
        height, width = _rows(window.kernel_shape)
        options: dict[str, Attribute] = {
            **_steps(window),
            "padding": place[1],
            "filter_h": height,
            "filter_w": width,
            "activation": activation,
        }
        self._call("MAX_POOL_2D" if maximum else "AVERAGE_POOL_2D", (place[0],), output, options)

    def mean(self, source: str, output: str) -> None:
        """MEAN over all rows and columns."""
        axes = self._integers(f"{output}/axes", (1, 2))
        self._call("MEAN", (source, axes), output, {"keep_dims": len(self.shape(output)) > 2})

    def add(self, first: str, second: str, output: str, activation: str) -> None:
        """ADD."""
        self._call("ADD", (first, second), output, {"activation": activation})

    def concatenation(self, sources: Sequence[str], output: str, axis: int) -> None:
        """CONCATENATION; operands with other codes than the result are requantized before."""
        operands = [self.recoded(name, self.coding(output), f"{output}/operand_{at}") for at, name in enumerate(sources)]
        self._call("CONCATENATION", operands, output, {"axis": axis})

    def recoded(self, source: str, coding: Coding, name: str) -> str:
        """A tensor in other codes."""
        if self.coding(source) == coding:
            return source
        self.codes(name, self.shape(source), coding)
        self._call("QUANTIZE", (source,), name, version=2)
        return name

    def quantize(self, source: str, output: str) -> None:
        """QUANTIZE: codes of real numbers."""
        self._call("QUANTIZE", (source,), output)

    def dequantize(self, source: str, output: str) -> None:
        """DEQUANTIZE: real numbers of codes."""
        self._call("DEQUANTIZE", (source,), output)

    def relu(self, source: str, output: str) -> None:
        """RELU between tensors with the same codes."""
        self._call("RELU", (source,), output)

    def reshape(self, source: str, output: str) -> None:
        """RESHAPE to the shape of the output."""
        shape = self.shape(output)
        target = self._integers(f"{output}/shape", shape)
        self._call("RESHAPE", (source, target), output, {"new_shape": shape})

    def regroup(self, source: str, output: str, axes: Sequence[int], order: Sequence[int]) -> None:
        """RESHAPE, TRANSPOSE, RESHAPE, those that change nothing left out; axes are without that of the samples."""
        before, coding = (1, *axes), self.coding(source)
        turned = (0, *(axis + 1 for axis in order))
        after = tuple(before[axis] for axis in turned)
        if before != self.shape(source):
            name = self.codes(f"{output}/axes", before, coding)
            self.reshape(source, name)
            source = name
        made = output if after == self.shape(output) else self.codes(f"{output}/turned", after, coding)
        self._call("TRANSPOSE", (source, self._integers(f"{output}/order", turned)), made)
        if made != output:
            self.reshape(made, output)

    def choose(self, source: str, output: str, indices: Sequence[IntegerArray]) -> None:
        """STRIDED_SLICE or RESIZE_NEAREST_NEIGHBOR for chosen places along each axis but that of the samples.

        Raises
        ------
        UnsupportedError
            If neither of them chooses so.
        """
        slices = [_progression(places) for places in indices]
        steps = [step for step in slices if step is not None]
        if len(steps) == len(slices):
            begins, ends, strides = zip(*steps, strict=True)
            self._slice(source, output, (0, *begins), (1, *ends), (1, *strides))
            return
        for options in _RESIZES:
            if len(indices) == 3 and self._resizes(source, indices, options):
                sizes = self._integers(f"{output}/sizes", [places.size for places in indices[:2]])
                self._call("RESIZE_NEAREST_NEIGHBOR", (source, sizes), output, options)
                return
        raise UnsupportedError(f"no operator of TensorFlow Lite that npusim writes chooses the values of '{output}'")

    def function(self, node: Node, sources: Sequence[str], output: str) -> None:
        """An operator that is computed from codes to codes.

        Raises
        ------
        UnsupportedError
            If the format has none.
        """
        name = _FUNCTIONS.get(node.op_type)
        if name is None:
            raise UnsupportedError(
                f"{node} is not written as TensorFlow Lite: of what no layer computes, only "
                f"{', '.join(sorted(_FUNCTIONS))} are; replace it in the model, or leave it to the application"
            )
        options: dict[str, Attribute] = {}
        rank = len(self.shape(output))
        if name == "SOFTMAX":
            if node.integer("axis", -1) % max(rank, 2) not in (1, rank - 1) or (rank > 2 and node.integer("axis", -1) != 1):
                raise UnsupportedError(f"{node} is not over the channels, as runtimes of TensorFlow Lite compute it")
            options["beta"] = 1.0
        elif name == "LEAKY_RELU":
            options["alpha"] = node.real("alpha", 0.01)
        elif name in ("MUL", "SUB") and len(sources) != 2:
            raise UnsupportedError(f"{node} has a constant operand that differs within a channel, which npusim does not write")
        self._call(name, tuple(sources), output, options)

    def _resizes(self, source: str, indices: Sequence[IntegerArray], options: Mapping[str, Attribute]) -> bool:
        sizes = self.shape(source)[1:]
        corners, centers = bool(options["align_corners"]), bool(options["half_pixel_centers"])
        wanted = [nearest_places(size, places.size, corners, centers) for size, places in zip(sizes, indices[:2], strict=False)]
        same = all(np.array_equal(one, other) for one, other in zip(wanted, indices, strict=False))
        return same and np.array_equal(indices[2], np.arange(sizes[2]))

    def _enter(self, tensor: TfliteTensor) -> str:
        if tensor.name in self.tensors:
            raise ValueError(f"two tensors are named '{tensor.name}'")
        self.tensors[tensor.name] = tensor
        return tensor.name

    def _call(
        self,
        name: str,
        inputs: Sequence[str],
        output: str,
        options: Mapping[str, Attribute] | None = None,
        version: int | None = None,
    ) -> None:
        places = {known: index for index, known in enumerate(self.tensors)}
        chosen = _VERSIONS.get(name, 1) if version is None else version
        numbers = tuple(places[item] for item in inputs)
        self.operators.append(TfliteOperator(name, numbers, (places[output],), dict(options or {}), chosen))

    def _integers(self, name: str, values: Sequence[int]) -> str:
        data = np.array(values, np.int32)
        return self._enter(TfliteTensor(name, "INT32", data.shape, (), data))

    def _parameters(
        self,
        source: str,
        output: str,
        weights: IntegerArray,
        scales: npt.NDArray[np.float32],
        bias: IntegerArray,
        axis: int,
    ) -> tuple[str, str]:
        """Weights and bias; the scales of the bias are the products of those of data and weights."""
        data: Array = np.ascontiguousarray(weights.astype(np.int8))
        points, steps = (0,) * scales.size, tuple(float(scale) for scale in scales)
        held = self._enter(TfliteTensor(f"{output}/weights", "INT8", data.shape, (), data, steps, points, axis))
        products = tuple(float(np.float32(self.coding(source).scale) * scale) for scale in scales)
        added = bias.astype(np.int32)
        return held, self._enter(TfliteTensor(f"{output}/bias", "INT32", added.shape, (), added, products, points))

    def _place(
        self, source: str, window: Window, spatial: Sequence[int], code: int | None, *, same: bool = True
    ) -> tuple[str, str]:
        """Where a window slides: the tensor, padded where neither padding of the format does, and which of them it is."""
        begins, _ = _pads(window)
        sizes = self.shape(source)[1:3]
        geometry = list(zip(sizes, *map(_rows, (window.kernel_shape, window.strides, window.dilations)), strict=True))
        around = [same_padding(size, length, step, dilation, "SAME") for size, length, step, dilation in geometry]
        if same and [part[::2] for part in around] == list(zip(begins, spatial, strict=True)):
            return source, "SAME" if any(begin or end for begin, end, _ in around) else "VALID"
        ends = [
            max((wanted - 1) * step + (length - 1) * dilation + 1 - size - begin, 0)
            for (size, length, step, dilation), begin, wanted in zip(geometry, begins, spatial, strict=True)
        ]
        if not any(begins) and not any(ends):
            return source, "VALID"
        amounts = np.array([(0, 0), *zip(begins, ends, strict=True), (0, 0)], np.int32)
        padded = f"{source}/padded{len(self.operators)}"
        shape = (1, *(size + begin + end for size, begin, end in zip(sizes, begins, ends, strict=True)), self.shape(source)[3])
        named = self._enter(TfliteTensor(f"{padded}/amounts", "INT32", amounts.shape, (), amounts))
        coding = self.coding(source)
        self.codes(padded, shape, coding)
        if code is None:
            self._call("PAD", (source, named), padded)
            return padded, "VALID"
        value = np.full((1,), code, np.int8)
        lowest = TfliteTensor(f"{padded}/value", "INT8", (1,), (), value, (coding.scale,), (coding.zero_point,))
        self._call("PADV2", (source, named, self._enter(lowest)), padded)
        return padded, "VALID"

    def _slice(self, source: str, output: str, begins: Sequence[int], ends: Sequence[int], strides: Sequence[int]) -> None:
        # an end below 0 means the front of the axis, which the format says with a mask
        mask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
        named = [
            self._integers(f"{output}/{what}", values)
            for what, values in (("begin", begins), ("end", [max(end, 0) for end in ends]), ("strides", strides))
        ]
        self._call("STRIDED_SLICE", (source, *named), output, {"end_mask": mask})


_RESIZES: Final[tuple[Mapping[str, Attribute], ...]] = (
    {"align_corners": 0, "half_pixel_centers": 0},
    {"align_corners": 0, "half_pixel_centers": 1},
    {"align_corners": 1, "half_pixel_centers": 0},
)


def _rows(values: Sequence[int]) -> tuple[int, int]:
    """A number for each spatial axis as numbers for rows and columns."""
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def _pads(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding in front of rows and columns, and behind them."""
    half = len(window.pads) // 2
    begins, ends = window.pads[:half], window.pads[half:]
    return ((begins[0], begins[1]), (ends[0], ends[1])) if half == 2 else ((0, begins[0]), (0, ends[0]))


def _steps(window: Window) -> dict[str, Attribute]:
    height, width = _rows(window.strides)
    return {"stride_h": height, "stride_w": width}


def _dense(weights: IntegerArray, group: int) -> IntegerArray:
    """Weights ``[in, out / group, ...]`` of all outputs for all inputs."""
    if group == 1:
        return weights
    inputs, outputs = weights.shape[0] // group, weights.shape[1]
    dense = np.zeros((weights.shape[0], outputs * group, *weights.shape[2:]), np.int64)
    for index in range(group):
        part = slice(index * inputs, (index + 1) * inputs)
        dense[part, index * outputs : (index + 1) * outputs] = weights[part]
    return dense


def _spread(weights: IntegerArray, dilations: tuple[int, int]) -> IntegerArray:
    """A kernel with zeros between its weights."""
    height, width = ((size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True))
    spread = np.zeros((*weights.shape[:2], height, width), np.int64)
    spread[:, :, :: dilations[0], :: dilations[1]] = weights
    return spread


def _progression(places: IntegerArray) -> tuple[int, int, int] | None:
    """Begin, end and stride of equally distant places; None for others."""
    step = int(places[1] - places[0]) if places.size > 1 else 1
    if step == 0 or not np.array_equal(places, places[0] + step * np.arange(places.size)):
        return None
    return int(places[0]), int(places[-1]) + (1 if step > 0 else -1), step
