"""Post-training quantization into the PLiNIO / MATCH dialect: the NPU's integers, with one shift for each layer.

Inputs of the file are codes: the quantizer in front of the network stays with the application, as in PLiNIO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError
from npusim.floats.forward import forward
from npusim.floats.layers import diagonal
from npusim.floats.moves import Chosen, Regrouped, move_between, places_of
from npusim.floats.network import Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array
from npusim.kernels.input_quantizer import input_factor, quantize_input
from npusim.program import Clip, IntegerArray
from npusim.program.lowering.floats import Affine, Refusal, reshape_node
from npusim.program.lowering.match.emitter import OPSET, emit_match, in_match_form, old_node
from npusim.quantization.channel_widths import choose_widths
from npusim.quantization.check import check_layers, check_tensors
from npusim.quantization.model import Options, QuantizedModel
from npusim.quantization.prepare import prepare
from npusim.quantization.quantizer import Quantizer
from npusim.quantization.solve import Solution

__all__ = ["quantize_match"]

INPUT_BITS = 8


def quantize_match(
    network: FloatNetwork, samples: Mapping[str, Array], options: Options, progress: Progress | None = None
) -> QuantizedModel:
    """Quantize a float network into a file of the MATCH dialect.

    Parameters
    ----------
    network
        As read.
    samples
        Calibration samples by input name; their largest magnitude is the range of the input's quantizer.
    options
        Choices of the user.
    progress
        Called with the number of layers done and of all.

    Raises
    ------
    UnsupportedError
        If something is computed in float, or has no form in the dialect.
    """
    plain = _plain(network)
    bits: Mapping[str, IntegerArray] = {}
    if options.mixed:
        sorted_channels = choose_widths(plain, forward(plain, samples))
        plain, bits = sorted_channels.network, sorted_channels.bits
    ranges = {name: _range(samples[name]) for name in network.inputs}
    unsigned = frozenset(name for name, (low, _) in ranges.items() if low == 0)
    prepared = prepare(plain, unsigned)
    quantizer = MatchQuantizer(prepared, forward(prepared, samples), options, unsigned, ranges=ranges, bits=bits)
    draft = quantizer.run(progress)
    program = replace(draft, steps=in_match_form(draft, quantizer.parted()), opset=OPSET)
    content = emit_match(program, {name: name not in unsigned for name in network.inputs})
    session = InferenceSession(content)
    check_layers(program, session)
    feeds = {name: quantize_input(samples[name], *ranges[name], INPUT_BITS) for name in network.inputs}
    check_tensors(session, feeds, {quantizer.tensor_name(name): codes for name, codes in quantizer.codes.items()})
    scales = {name: float(quantizer.scales[name].reshape(-1)[0]) for name in network.outputs}
    warnings = (*network.warnings, *quantizer.warnings)
    return QuantizedModel(content, session.program, tuple(quantizer.reports), scales, warnings, "match", ranges)


def _range(values: Array) -> tuple[float, float]:
    """Ends of an input's quantizer as float32: from 0 where no sample is negative, else symmetric."""
    largest = float(np.float32(np.abs(values).max()))
    return (0.0, largest) if values.min() >= 0 else (-largest, largest)


@dataclass
class MatchQuantizer(Quantizer):
    """The walk, with PLiNIO's quantizers in front of the network instead of stages.

    Attributes
    ----------
    ranges
        Ends of the quantizer of each input.
    bits
        Widths of the weights of each output channel by the layer's output, where they are not the options'.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bits: Mapping[str, IntegerArray] = field(default_factory=dict)

    def parted(self) -> dict[str, IntegerArray]:
        """Widths by the name that the tensor has in the draft."""
        return {self.tensor_name(name): bits for name, bits in self.bits.items()}

    def tensor_name(self, tensor: str) -> str:
        """The name of a tensor of codes; those of an input are the model's input itself."""
        layer = self.producers.get(tensor)
        return tensor if layer is None or layer.kind is not FloatKind.INPUT else layer.inputs[0]

    def _solve(self, layer: FloatLayer, wanted: FloatArray, output_scale: FloatArray | None) -> Solution:
        """The integers of a layer; of each width those of its channels."""
        bits = self.bits.get(layer.output)
        if bits is None:
            return super()._solve(layer, wanted, output_scale)
        uniform = self.groups.is_uniform(layer.output)
        found: Solution | None = None
        for width in np.unique(bits)[::-1].tolist():
            options, self.options = self.options, replace(self.options, weight_bits=width, mixed=False)
            solution = super()._solve(layer, wanted, output_scale)
            self.options = options
            if uniform:
                output_scale = solution.output_scale
            found = solution if found is None else found.with_channels(solution, bits == width, layer.kind is FloatKind.LINEAR)
        if found is None:
            raise ValueError(f"layer '{layer.name}' has no channels")
        return found

    def _widths(self, layer: FloatLayer) -> IntegerArray:
        return self.bits.get(layer.output, super()._widths(layer))

    def _input(self, layer: FloatLayer) -> None:
        low, high = self.ranges[layer.inputs[0]]
        codes = quantize_input(self.values[layer.inputs[0]], low, high, INPUT_BITS).astype(np.float64)
        scale = np.full(layer.output_shape[1], 1 / np.float64(input_factor(low, high, INPUT_BITS)))
        clip = Clip(0, 255) if low == 0 else Clip(-128, 127)
        # a code stands for the middle of what becomes it; biases of the layers behind make that good
        self._keep(layer, codes, scale, clip)
        self._report(layer)


def _plain(network: FloatNetwork) -> FloatNetwork:
    """A network whose inputs are nothing but quantized, and whose moves opset 10 can write."""
    layers: list[FloatLayer] = []
    constants = dict(network.constants)
    for layer in network.layers:
        if layer.kind is FloatKind.HOST:
            raise UnsupportedError(
                f"{layer.node} is computed in real numbers, and files of the MATCH family hold integers only: end the model in "
                "front of it (a softmax belongs into the application), or replace it"
            )
        if layer.kind is FloatKind.INPUT:
            layers += _entering(layer)
        elif layer.kind is FloatKind.MOVE:
            moved, more = _old(layer, network)
            layers.append(moved)
            constants.update(more)
        else:
            layers.append(layer)
    return replace(network, layers=tuple(layers), constants=constants, opset=OPSET)


def _entering(layer: FloatLayer) -> list[FloatLayer]:
    """Arithmetic on an input as a layer of its own behind the input's quantizer."""
    gain, offset = layer.parameters
    if (gain == 1).all() and not offset.any() and layer.activation is Activation.NONE:
        return [layer]
    codes = f"{layer.output}/input"
    one = Affine.identity(gain.size)
    first = replace(
        layer, name=f"{layer.name}/input", output=codes, weights=one.gain, bias=one.offset, activation=Activation.NONE
    )
    try:
        made = diagonal(Affine(gain, offset), len(layer.output_shape))
    except Refusal as refusal:
        raise UnsupportedError(
            f"the arithmetic '{layer.name}' on an input has no form in files of the family: {refusal}"
        ) from None
    second = replace(
        layer,
        kind=made.kind,
        inputs=(codes,),
        weights=made.weights,
        bias=made.bias,
        window=made.window,
        group=made.group,
        input_shape=layer.output_shape,
    )
    return [first, second]


def _old(layer: FloatLayer, network: FloatNetwork) -> tuple[FloatLayer, Mapping[str, Array]]:
    """A move as opset 10 writes it; the numbers that it brings to their places decide."""
    node = layer.node
    if node is None:
        raise ValueError(f"layer '{layer.name}' has no node")
    shape = layer.input_shape[1:]
    places = places_of(layer, np.arange(np.prod(shape)).reshape(shape), network).reshape(layer.output_shape[1:])
    found = move_between(shape, places)
    if isinstance(found, Regrouped) and found.keeps_order:
        made, constants = reshape_node(layer.inputs[0], layer.output_shape, layer.output, layer.name)
        return replace(layer, node=made), constants
    factors = (
        [_repeats(places, size) for places, size in zip(found.indices, shape, strict=True)] if isinstance(found, Chosen) else []
    )
    if all(factors) and any(factor != 1 for factor in factors):
        made, constants = old_node(node, (1, *factors))
        return replace(layer, node=made), constants
    if any(factor == 0 for factor in factors) and old_node(node, (1, *factors))[1]:
        raise UnsupportedError(f"{node} resizes in a way that opset 10 does not; scale by whole numbers")
    return layer, {}


def _repeats(places: IntegerArray, size: int) -> int:
    """How often each place of an axis is repeated; 0 where they are chosen otherwise."""
    count = places.size // size
    return count if np.array_equal(places, np.repeat(np.arange(size), max(count, 1))) else 0
