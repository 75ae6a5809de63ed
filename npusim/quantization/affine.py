"""Post-training quantization to codes with a scale and a zero point, as TensorFlow Lite's integer models have them.

``real = (code - zero_point) * scale`` with int8 codes, a scale for each tensor and each output channel of weights, int32
biases. The walk solves each layer on what the quantized layers before it give, as that for the NPU does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError
from npusim.floats.columns import accumulate, from_matrix, to_matrix
from npusim.floats.concern import Concern
from npusim.floats.forward import forward_layer
from npusim.floats.layers import diagonal
from npusim.floats.moves import Chosen, Regrouped, move_between, places_of
from npusim.floats.network import WEIGHTED, Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array
from npusim.program.lowering.floats import Affine
from npusim.program.lowering.tflite.writing import HIGHEST, LOWEST, Coding, TfliteDraft, fixed_coding
from npusim.quantization.covariance import least_squares, measure
from npusim.quantization.model import LayerReport, Options, QuantizedModel, signal_to_noise, silent_channels
from npusim.quantization.scales import ChannelValues, sample_channels
from npusim.quantization.solve import ridge
from npusim.quantization.weight_rounding import round_sequentially
from npusim.quantization.weight_steps import real_bias

__all__ = ["choose_coding", "quantize_affine"]

CODES: Final = HIGHEST - LOWEST

LARGEST_WEIGHT: Final = 127

LARGEST_BIAS: Final = 2**30
"""Biases stay so far from the ends of int32 that sums beside them fit."""

RANGES: Final = tuple(2.0 ** (-part / 8) for part in range(13))
"""Parts of the range seen that are tried."""

_ACTIVATIONS: Final = {Activation.NONE: "NONE", Activation.RELU: "RELU", Activation.RELU6: "RELU6"}


def quantize_affine(
    network: FloatNetwork,
    samples: Mapping[str, Array],
    floats: Mapping[str, FloatArray],
    options: Options,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a float network into a full-integer TensorFlow Lite model.

    Parameters
    ----------
    network
        As read.
    samples
        Calibration samples by input name.
    floats
        What the network computes for them, every tensor.
    options
        Choices of the user: with `float_output` inputs and outputs are float32, with QUANTIZE and DEQUANTIZE at the ends.
    progress
        Called with the number of layers done and of all.

    Raises
    ------
    UnsupportedError
        If a layer has no form in TensorFlow Lite.
    """
    walk = AffineQuantizer(network, floats, options)
    content = walk.run(progress)
    session = InferenceSession(content)
    feeds = {name: walk.fed(name, np.asarray(samples[name])) for name in network.inputs}
    trace = session.trace(feeds, [walk.draft_names[layer.output] for layer in walk.made])
    reports = tuple(walk.report(layer, np.asarray(trace[walk.draft_names[layer.output]])) for layer in walk.made)
    scales = {
        name: 1.0 if options.float_output else walk.draft.coding(walk.draft_names[name]).scale for name in network.outputs
    }
    hosted = {layer.name for layer in network.layers if layer.kind is FloatKind.HOST}
    # what the NPU leaves to the host is an operator of this format
    kept = tuple(item for item in network.warnings if item.layer not in hosted)
    return QuantizedModel(content, session.program, reports, scales, (*kept, *walk.warnings), "tflite")


def choose_coding(values: ChannelValues, *, largest: float = math.inf) -> Coding:
    """The scale and the zero point of int8 codes at which values lose least.

    Parameters
    ----------
    values
        Of one tensor, [1, n].
    largest
        Nothing beyond this has to be told apart.

    Notes
    -----
    The range always holds 0, whose code is exact: padding is that code. Ranges smaller than that of the values are tried,
    which round finer and saturate more; see :func:`~npusim.quantization.scales.coding_error`.
    """
    lowest, highest = min(float(values.values.min()), 0.0), min(max(float(values.values.max()), 0.0), largest)
    if highest - lowest <= 0:
        return Coding(1.0, LOWEST if lowest == 0 else 0)
    return min((_coding(lowest * part, highest * part) for part in RANGES), key=lambda coding: _loss(values, coding, largest))


def _coding(lowest: float, highest: float) -> Coding:
    scale = float(np.float32((highest - lowest) / CODES))
    return Coding(scale, int(np.clip(np.rint(LOWEST - lowest / scale), LOWEST, HIGHEST)))


def _loss(values: ChannelValues, coding: Coding, largest: float) -> float:
    """Expected squared error of the codes: rounding as measured, saturation as measured or as tails lead to expect."""
    real = np.minimum(values.values, largest)
    steps = real / coding.scale
    above = (HIGHEST - coding.zero_point + 0.5) * coding.scale
    below = (coding.zero_point - LOWEST + 0.5) * coding.scale
    rounding = float(np.square(np.rint(steps) - steps).mean()) * coding.scale**2
    seen = float(np.square(np.maximum(real - above, 0.0)).mean()) + float(np.square(np.maximum(-real - below, 0.0)).mean())
    expected = float(values.below.excess(np.array([below]))[0]) if real.min() < 0 else 0.0
    if largest == math.inf:
        expected += float(values.above.excess(np.array([above]))[0])
    return rounding + max(seen, expected)


def file_axes(rank: int) -> tuple[int, ...]:
    """Axes of a float tensor in the order of the file: samples, the others, channels."""
    return (0, *range(2, rank), 1) if rank in (3, 4) else tuple(range(rank))


@dataclass
class AffineQuantizer:
    """The state of the walk.

    Attributes
    ----------
    network, floats, options
        See :func:`quantize_affine`.
    reals
        What the quantized layers give on the samples, in the float network's order.
    draft_names
        The file's tensor that holds each tensor of the network.
    orders
        Where the file holds the values of a flattened tensor in another order: the place of each.
    steps
        Real value of one step of the weights of a layer, for each output channel.
    made
        Layers that stand in the file, in execution order.
    """

    network: FloatNetwork
    floats: Mapping[str, FloatArray]
    options: Options
    draft: TfliteDraft = field(default_factory=TfliteDraft)
    reals: dict[str, FloatArray] = field(default_factory=dict)
    draft_names: dict[str, str] = field(default_factory=dict)
    orders: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    steps: dict[str, FloatArray] = field(default_factory=dict)
    made: list[FloatLayer] = field(default_factory=list)
    warnings: list[Concern] = field(default_factory=list)
    readers: dict[str, list[FloatLayer]] = field(init=False)

    def __post_init__(self) -> None:
        self.readers = self.network.readers()

    def run(self, progress: Progress | None = None) -> bytes:
        """Walk over all layers and give the file."""
        for name, shape in self.network.inputs.items():
            self._start(name, shape)
        for index, layer in enumerate(self.network.layers):
            if progress is not None:
                progress(index, len(self.network.layers))
            self._layer(layer)
            if layer.kind in WEIGHTED:
                self._note(silent_channels(layer, self.floats[layer.output]))
        outputs = [self._end(name) for name in self.network.outputs]
        return self.draft.content(tuple(self.network.inputs), outputs)

    def fed(self, name: str, values: Array) -> Array:
        """Samples of an input as the file takes them: in its order, as codes where it takes codes."""
        turned: Array = np.ascontiguousarray(values.transpose(file_axes(values.ndim)))
        if self.options.float_output:
            return turned.astype(np.float32)
        coding = self.draft.coding(name)
        codes = np.rint(turned.astype(np.float64) / coding.scale) + coding.zero_point
        fed: Array = np.clip(codes, LOWEST, HIGHEST).astype(np.int8)
        return fed

    def report(self, layer: FloatLayer, codes: Array) -> LayerReport:
        """What became of a layer, from what the file's program gives on the samples."""
        name, steps = self.draft_names[layer.output], self.steps.get(layer.name)
        coding = self.draft.coding(name)
        real = (codes.astype(np.float64) - coding.zero_point) * coding.scale
        return LayerReport(
            layer.name,
            name,
            str(layer.kind),
            None if steps is None else 8,
            None if steps is None else (float(steps.min()), float(steps.max())),
            (coding.scale, coding.scale),
            signal_to_noise(self._in_file(layer.output).reshape(real.shape), real),
            {} if steps is None else {8: steps.size},
        )

    def _note(self, concern: Concern | None) -> None:
        if concern is not None:
            self.warnings.append(concern)

    def _in_file(self, tensor: str) -> FloatArray:
        """The float network's values in the order of the file."""
        values = self.floats[tensor]
        if tensor not in self.orders:
            return values.transpose(file_axes(values.ndim))
        turned = np.empty_like(values)
        turned[:, self.orders[tensor]] = values
        return turned

    def _shape(self, shape: tuple[int, ...], *, edge: bool = False) -> tuple[int, ...]:
        """The shape in the file; inside, data with one spatial axis is an image of one row."""
        turned = tuple(shape[axis] for axis in file_axes(len(shape)))
        return turned if edge or len(turned) != 3 else (turned[0], 1, *turned[1:])

    def _start(self, name: str, shape: tuple[int, ...]) -> None:
        coding = choose_coding(sample_channels(self.floats[name]).together(), largest=math.inf)
        edge = self._shape(shape, edge=True)
        codes = name
        if self.options.float_output:
            codes = f"{name}/codes"
            self.draft.reals(name, edge)
            self.draft.codes(codes, edge, coding)
            self.draft.quantize(name, codes)
        else:
            self.draft.codes(name, edge, coding)
        inner = self._shape(shape)
        if inner != edge:
            self.draft.codes(f"{name}/image", inner, coding)
            self.draft.reshape(codes, f"{name}/image")
            codes = f"{name}/image"
        self.draft_names[name], self.reals[name] = codes, _coded(self.floats[name], coding)

    def _end(self, name: str) -> str:
        """The tensor that the model gives: codes or real values, in the shape without the row of an image of one row."""
        held, shape = self.draft_names[name], self.network.producers()[name].output_shape
        edge, coding = self._shape(shape, edge=True), self.draft.coding(held)
        if edge != self.draft.shape(held) or (held != name and not self.options.float_output):
            named = f"{name}/edge" if self.options.float_output else name
            self.draft.codes(named, edge, coding)
            self.draft.reshape(held, named)
            held = named
        if not self.options.float_output:
            return held
        self.draft.reals(name, edge)
        self.draft.dequantize(held, name)
        return name

    def _name(self, layer: FloatLayer) -> str:
        """The name of a layer's codes: that of the tensor is the outputs' own."""
        outer = layer.output in self.network.outputs
        split = outer and (
            self.options.float_output or self._shape(layer.output_shape) != self._shape(layer.output_shape, edge=True)
        )
        return f"{layer.output}/codes" if split else layer.output

    def _keep(self, layer: FloatLayer, reals: FloatArray, coding: Coding) -> str:
        """Enter what a layer gives, and remember it."""
        name = self.draft.codes(self._name(layer), self._shape(layer.output_shape), coding)
        self.draft_names[layer.output], self.reals[layer.output] = name, _coded(reals, coding)
        self.made.append(layer)
        return name

    def _choose(self, layer: FloatLayer) -> Coding:
        largest = 6.0 if layer.activation is Activation.RELU6 else math.inf
        return choose_coding(sample_channels(self.floats[layer.output]).together(), largest=largest)

    def _layer(self, layer: FloatLayer) -> None:
        sources = [self.draft_names[name] for name in layer.inputs]
        match layer.kind:
            case FloatKind.INPUT:
                self._input(layer)
            case FloatKind.AVERAGE_POOL:
                self._average(layer)
            case FloatKind.MAX_POOL:
                self._maximum(layer)
            case FloatKind.ADD:
                made = self._keep(layer, self._computed(layer), self._choose(layer))
                self.draft.add(sources[0], sources[1], made, _ACTIVATIONS[layer.activation])
            case FloatKind.CONCAT:
                self._join(layer)
            case FloatKind.MOVE:
                self._move(layer)
            case FloatKind.HOST:
                self._function(layer)
            case _:
                self._weighted(layer)

    def _computed(self, layer: FloatLayer) -> FloatArray:
        """What a layer computes from what the quantized layers give."""
        return forward_layer(layer, [self.reals[name] for name in layer.inputs], self.network)

    def _input(self, layer: FloatLayer) -> None:
        """Arithmetic on an input: nothing, or a depthwise convolution."""
        gain, offset = layer.parameters
        if (gain == 1).all() and not offset.any() and layer.activation is Activation.NONE:
            source = layer.inputs[0]
            self.draft_names[layer.output], self.reals[layer.output] = self.draft_names[source], self.reals[source]
            return
        self._weighted(_as_weighted(layer))

    def _weighted(self, layer: FloatLayer) -> None:
        if len(layer.output_shape) > 4:
            raise UnsupportedError(
                f"layer '{layer.name}' has {len(layer.output_shape) - 2} spatial axes; TensorFlow Lite's integer kernels have "
                "two: use Conv1d or Conv2d"
            )
        source = layer.inputs[0]
        held, coding = self.draft_names[source], self.draft.coding(self.draft_names[source])
        plain = replace(layer, activation=Activation.NONE)
        wanted = forward_layer(plain, [self.floats[source]], self.network)
        codes = self.reals[source] / coding.scale
        weights, _ = layer.parameters
        found = measure(layer, codes, wanted)
        problem = least_squares(
            found, to_matrix(layer, weights * coding.scale), ridge(layer, codes.shape[0], found.inputs.shape[1])
        )
        result = self._choose(layer)
        peak = np.abs(problem.target).max(axis=1) / LARGEST_WEIGHT
        # without weights a bias is left: 1/64 of an output code is fine enough
        least = np.maximum(np.abs(found.output_mean) / LARGEST_BIAS, result.scale / 64)
        step = np.where(
            peak > 1e-9 * max(float(peak.max()), 1e-300), np.maximum(peak, np.abs(found.output_mean) / LARGEST_BIAS), least
        )
        scales = (step / coding.scale).astype(np.float32)
        step = scales.astype(np.float64) * coding.scale
        integers = round_sequentially(problem, step, LARGEST_WEIGHT)
        bias = np.rint(real_bias(found, integers, step)).reshape(-1)
        sums = accumulate(layer, np.rint(codes), integers) + bias.reshape(-1, *(1,) * (len(layer.output_shape) - 2))
        column = step.reshape(-1, *(1,) * (len(layer.output_shape) - 2))
        made = self._keep(layer, layer.activation.apply(sums * column), result)
        self.steps[layer.name] = step.reshape(-1)
        stored = from_matrix(layer, integers).astype(np.int64), scales.reshape(-1), bias.astype(np.int64)
        activation = _ACTIVATIONS[layer.activation]
        if layer.kind is FloatKind.LINEAR:
            if source in self.orders:
                turned = np.empty_like(stored[0])
                turned[self.orders[source]] = stored[0]
                stored = (turned, *stored[1:])
            self.draft.fully_connected(held, made, *stored, activation)
        elif layer.kind is FloatKind.CONV:
            self.draft.convolution(held, made, *stored, layer.geometry, layer.group, activation)
        else:
            self.draft.transposed_convolution(held, made, *stored, layer.geometry, layer.group, activation)

    def _average(self, layer: FloatLayer) -> None:
        held = self.draft_names[layer.inputs[0]]
        window, values = layer.geometry, self._computed(layer)
        if window.kernel_shape == layer.input_shape[2:] and not any(window.pads):
            # a mean has codes of its own, which saturate where an activation does
            self.draft.mean(held, self._keep(layer, values, self._choose(layer)))
            return
        self.draft.pool(
            held, self._keep(layer, values, self.draft.coding(held)), window, _ACTIVATIONS[layer.activation], maximum=False
        )

    def _maximum(self, layer: FloatLayer) -> None:
        held = self.draft_names[layer.inputs[0]]
        if any(step != 1 for step in layer.geometry.dilations) or len(layer.output_shape) > 4:
            raise UnsupportedError(
                f"layer '{layer.name}' is a pool with dilations or three spatial axes, which TensorFlow Lite does not have"
            )
        self.draft.pool(held, self._keep(layer, self._computed(layer), self.draft.coding(held)), layer.geometry, maximum=True)

    def _join(self, layer: FloatLayer) -> None:
        sources = [self.draft_names[name] for name in layer.inputs]
        made = self._keep(layer, self._computed(layer), self._choose(layer))
        rank = len(layer.output_shape)
        axis = file_axes(rank).index(layer.axis) + (rank == 3)
        self.draft.concatenation(sources, made, axis)

    def _move(self, layer: FloatLayer) -> None:
        source = layer.inputs[0]
        held = self.draft_names[source]
        shape = self.draft.shape(held)[1:]
        before = np.arange(math.prod(shape)).reshape(shape)
        # the float network's order, from the file's
        rank = len(layer.input_shape)
        back = tuple(int(axis) for axis in np.argsort(file_axes(rank)))
        inner = before.reshape([layer.input_shape[axis] for axis in file_axes(rank)][1:])
        inner = inner.transpose([axis - 1 for axis in back[1:]])
        if source in self.orders:
            inner = self.orders[source]
        moved = places_of(layer, inner, self.network)
        logical = moved.reshape(layer.output_shape[1:])
        turned = logical.transpose([axis - 1 for axis in file_axes(logical.ndim + 1)[1:]])
        places = turned.reshape(self._shape(layer.output_shape)[1:])
        values = self._computed(layer)
        made = self._keep(layer, values, self.draft.coding(held))
        found = move_between(shape, places)
        if isinstance(found, Regrouped) and found.keeps_order:
            self.draft.reshape(held, made)
        elif isinstance(found, Regrouped) and self._feeds_products_only(layer):
            # the products take the data as it lies, and their weights are turned instead
            self.orders[layer.output] = logical.reshape(-1)
            self.draft.reshape(held, made)
        elif isinstance(found, Regrouped):
            self.draft.regroup(held, made, found.axes, found.order)
        elif isinstance(found, Chosen):
            self.draft.choose(held, made, found.indices)
        else:
            raise UnsupportedError(
                f"layer '{layer.name}' moves data in a way that no operator of TensorFlow Lite does that npusim writes"
            )

    def _feeds_products_only(self, layer: FloatLayer) -> bool:
        readers = self.readers.get(layer.output, [])
        products = all(reader.kind is FloatKind.LINEAR for reader in readers)
        return len(layer.output_shape) == 2 and products and layer.output not in self.network.outputs

    def _function(self, layer: FloatLayer) -> None:
        node = layer.node
        if node is None or any(name in self.orders for name in layer.inputs):
            raise ValueError(f"layer '{layer.name}' has no node that can be written")
        coding = fixed_coding(node) or self._choose(layer)
        made = self._keep(layer, self._computed(layer), coding)
        # a constant operand is not among the layer's inputs
        if len(layer.inputs) != len([name for name in node.inputs if name]):
            raise UnsupportedError(f"{node} has a constant operand, which npusim does not write as TensorFlow Lite")
        self.draft.function(node, [self.draft_names[name] for name in layer.inputs], made)


def _coded(values: FloatArray, coding: Coding) -> FloatArray:
    """Values as codes hold them."""
    codes = np.clip(np.rint(values / coding.scale) + coding.zero_point, LOWEST, HIGHEST)
    held: FloatArray = (codes - coding.zero_point) * coding.scale
    return held


def _as_weighted(layer: FloatLayer) -> FloatLayer:
    """Arithmetic on each channel of an input as a layer with weights."""
    gain, offset = layer.parameters
    made = diagonal(Affine(gain, offset), len(layer.input_shape))
    return replace(layer, kind=made.kind, weights=made.weights, bias=made.bias, window=made.window, group=made.group)
