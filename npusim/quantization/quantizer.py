"""Post-training quantization: one walk over a float network that makes an integer one.

Each layer is solved on the codes that the quantized layers before it really give, against what the float network computes, so
that it makes good what they lost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from npusim.engine.runner import Progress
from npusim.errors import UnsupportedError
from npusim.floats.concern import Concern
from npusim.floats.forward import forward_layer
from npusim.floats.network import WEIGHTED, Activation, FloatArray, FloatKind, FloatLayer, FloatNetwork
from npusim.program import (
    AveragePool,
    Clip,
    Convolution,
    FullyConnected,
    IntegerArray,
    MaxPool,
    Program,
    TransposedConvolution,
    Weighted,
)
from npusim.program.lowering.floats import join_node
from npusim.program.lowering.tinpu.drafts import Draft, with_residual
from npusim.quantization.equalize import stretch_of
from npusim.quantization.model import LayerReport, Options, bias_saturated, coarse_input, signal_to_noise, silent_channels
from npusim.quantization.parameters import codes_clip
from npusim.quantization.prepare import through
from npusim.quantization.scales import (
    ScaleGroups,
    channel_scale,
    choose_shared_scale,
    derive_scale,
    group_scales,
    sample_channels,
)
from npusim.quantization.solve import Solution, Task, solve
from npusim.quantization.stages import average_codes, fit_average, fit_stage, stage_codes

__all__ = ["Quantizer"]


@dataclass
class Quantizer:
    """The state of the walk.

    Parameters
    ----------
    network
        A prepared network.
    floats
        What the float network computes on the calibration samples, every tensor.
    options
        Choices of the user.
    positive
        Float tensors computed by the host that are never negative.
    """

    network: FloatNetwork
    floats: Mapping[str, FloatArray]
    options: Options
    positive: frozenset[str] = frozenset()
    codes: dict[str, FloatArray] = field(default_factory=dict)
    scales: dict[str, FloatArray] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)
    values: dict[str, FloatArray] = field(default_factory=dict)
    chosen: dict[int, FloatArray] = field(default_factory=dict)
    draft: Draft = field(default_factory=Draft)
    reports: list[LayerReport] = field(default_factory=list)
    warnings: list[Concern] = field(default_factory=list)
    groups: ScaleGroups = field(init=False)
    producers: dict[str, FloatLayer] = field(init=False)
    riding: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = group_scales(self.network)
        self.producers = self.network.producers()
        self.riding = frozenset(layer.inputs[0] for layer in self.network.layers if layer.kind is FloatKind.ADD)
        self.values.update({name: self.floats[name] for name in self.network.inputs})

    def run(self, progress: Progress | None = None) -> Program:
        """Walk over all layers and give the program."""
        self.walk(progress)
        return self.program()

    def walk(self, progress: Progress | None = None) -> None:
        """Walk over all layers; `progress` is called with the number of layers done and of all."""
        for index, layer in enumerate(self.network.layers):
            if progress is not None:
                progress(index, len(self.network.layers))
            self.step(layer)

    def program(self) -> Program:
        """What was walked over, as a program; at the end of the walk, and once."""
        outputs = {name: self.producers[name].output_shape for name in self.network.outputs}
        for name in self.network.outputs:
            if name in self.codes and self.options.float_output:
                scale = self.scales[name].reshape(-1)[0].astype(np.float32).reshape(())
                self.draft.dequantization(f"{name}/dequantize", self.tensor_name(name), name, scale)
        return self.draft.program(self.network.inputs, outputs, self.network.opset)

    def step(self, layer: FloatLayer) -> None:
        """Quantize the next layer."""
        match layer.kind:
            case FloatKind.INPUT:
                self._input(layer)
            case FloatKind.AVERAGE_POOL:
                self._average(layer)
            case FloatKind.ADD:
                self._sum(layer)
            case FloatKind.HOST:
                self._host(layer)
            case kind if kind in WEIGHTED:
                if layer.output not in self.riding:
                    self._weighted(layer)
            case _:
                self._moved(layer)

    def fork(self, options: Options) -> Self:
        """Another walk, which has come as far as this one and goes on with other options."""
        other = copy.copy(self)
        other.options = options
        for name in ("codes", "scales", "clips", "values", "chosen"):
            setattr(other, name, dict(getattr(self, name)))
        other.draft = Draft(list(self.draft.steps), dict(self.draft.constants))
        other.reports, other.warnings = list(self.reports), list(self.warnings)
        return other

    def noise(self) -> float:
        """Noise of the outputs on the samples, as a part of their signal; of several outputs the mean."""
        parts = []
        for name in self.network.outputs:
            wanted, scale = self.floats[name], self.scales.get(name)
            real = self.values[name] if scale is None else self.codes[name] * scale
            parts.append(float(np.square(wanted - real).sum()) / max(float(np.square(wanted).sum()), 1e-300))
        return sum(parts) / len(parts)

    def code_scales(self) -> dict[str, FloatArray]:
        """Real value of one code of each tensor of codes, where its channels have one each."""
        known = {self.tensor_name(name): scale for name, scale in self.scales.items() if scale.size == scale.shape[0]}
        return {name: scale.reshape(-1) for name, scale in known.items()}

    def tensor_name(self, tensor: str) -> str:
        """The name of a tensor of codes: an output's own name belongs to the real values where these are wanted."""
        computed = self.producers[tensor].kind is not FloatKind.HOST if tensor in self.producers else False
        return f"{tensor}/codes" if computed and self.options.float_output and tensor in self.network.outputs else tensor

    def _clip(self, layer: FloatLayer) -> Clip:
        signed = not through(self.network, layer.output, self.positive)
        outer = layer.kind is FloatKind.INPUT or layer.output in self.network.outputs
        return codes_clip(8 if outer else self.options.activation_bits, signed=signed)

    def _shared_scale(self, layer: FloatLayer) -> FloatArray | None:
        """The scale of a layer's group, [C]; None when the layer is alone and may choose."""
        number = self.groups.group[layer.output]
        members = self.groups.members(layer.output)
        if number not in self.chosen and (len(members) > 1 or layer.kind is FloatKind.INPUT):
            made = [self.producers[name] for name in members]
            limited = any(one.activation is Activation.RELU6 for one in made)
            listed = [(sample_channels(self.floats[one.output]), self._clip(one)) for one in made]
            counts = {one.output: part.values.shape[0] for one, (part, _) in zip(made, listed, strict=True)}
            if len(set(counts.values())) > 1:
                told = " and ".join(f"'{name}' with {count}" for name, count in list(counts.items())[:2])
                raise UnsupportedError(
                    f"tensors of several channel counts have to share their scales, {told}: they are added or joined along "
                    "another axis than that of the channels; give them the same number of channels, or join them along axis 1"
                )
            largest = 6.0 / listed[0][1].upper if limited else np.inf
            self.chosen[number] = choose_shared_scale(listed, uniform=number in self.groups.uniform, largest=largest)
        return self.chosen.get(number)

    def _keep(self, layer: FloatLayer, codes: FloatArray, scale: FloatArray, clip: Clip) -> None:
        """Remember what a layer gives."""
        rank = len(layer.output_shape)
        self.codes[layer.output], self.clips[layer.output] = codes, clip
        self.scales[layer.output] = scale.reshape(-1, *(1,) * (rank - 2)) if scale.ndim == 1 else scale

    def _report(self, layer: FloatLayer, steps: FloatArray | None = None, weighted: FloatLayer | None = None) -> None:
        """Report on a layer; `weighted` has the weights where that is another one, which the layer rides on."""
        widths = self._widths(weighted or layer)
        tensor, scale = layer.output, self.scales.get(layer.output)
        if layer.kind in WEIGHTED:
            self._note(silent_channels(layer, self.floats[tensor]))
        real = self.values[tensor] if scale is None else self.codes[tensor] * scale
        self.reports.append(
            LayerReport(
                layer.name,
                self.tensor_name(tensor),
                str(layer.kind),
                None if steps is None else int(widths.max()),
                None if steps is None else (float(steps.min()), float(steps.max())),
                None if scale is None else (float(scale.min()), float(scale.max())),
                signal_to_noise(self.floats[tensor], real),
                {} if steps is None else _counted(widths),
            )
        )

    def _widths(self, layer: FloatLayer) -> IntegerArray:
        """Bits of the weights of each output channel, [out]."""
        return np.full(layer.output_shape[1], self.options.bits_of(layer.name), np.int64)

    def _note(self, concern: Concern | None) -> None:
        if concern is not None:
            self.warnings.append(concern)

    def _input(self, layer: FloatLayer) -> None:
        clip, wanted = self._clip(layer), self._shared_scale(layer)
        if wanted is None:
            raise ValueError(f"layer '{layer.name}' has no scale")
        stage, scale = fit_stage(layer, wanted, clip)
        if (scale > 2 * wanted).any():
            self._note(coarse_input(layer))
        self.draft.stage(layer.name, layer.inputs[0], self.tensor_name(layer.output), stage, len(layer.output_shape))
        self._keep(layer, stage_codes(stage, self.values[layer.inputs[0]]), scale, clip)
        self._report(layer)

    def _solve(self, layer: FloatLayer, wanted: FloatArray, output_scale: FloatArray | None) -> Solution:
        source = layer.inputs[0]
        task = Task(
            layer,
            self.codes[source],
            channel_scale(self.scales[source]) if layer.kind is not FloatKind.LINEAR else self.scales[source].reshape(-1),
            self.clips[source],
            wanted,
            self._clip(layer),
            self.options.bits_of(layer.name),
            output_scale,
            self.groups.is_uniform(layer.output),
            lambda scale: stretch_of(self.network, layer.output, scale),
        )
        solution = solve(task)
        self._note(bias_saturated(layer, solution.bias_fits))
        return solution

    def _before_activation(self, layer: FloatLayer) -> FloatArray:
        if layer.activation is Activation.NONE:
            return self.floats[layer.output]
        return forward_layer(replace(layer, activation=Activation.NONE), [self.floats[layer.inputs[0]]], self.network)

    def _weighted(self, layer: FloatLayer) -> None:
        solution = self._solve(layer, self._before_activation(layer), self._shared_scale(layer))
        self.draft.layer(self._quantized(layer, solution))
        self._keep(layer, solution.codes, solution.output_scale, solution.requantization.clip)
        self._report(layer, solution.weight_step)

    def _quantized(self, layer: FloatLayer, solution: Solution) -> Weighted:
        common: dict[str, Any] = {
            "name": layer.name,
            "inputs": (self.tensor_name(layer.inputs[0]),),
            "output": self.tensor_name(layer.output),
            "input_shape": layer.input_shape,
            "output_shape": layer.output_shape,
            "nodes": (),
            "accumulator_shape": layer.output_shape,
            "channel_axis": 1,
            "requantization": solution.requantization,
            "taps": (),
            "weights": solution.weights,
            "weight_bits": self.options.bits_of(layer.name),
        }
        if layer.kind is FloatKind.LINEAR:
            return FullyConnected(**common)
        made = TransposedConvolution if layer.kind is FloatKind.CONV_TRANSPOSE else Convolution
        return made(**common, window=layer.geometry, group=layer.group)

    def _sum(self, layer: FloatLayer) -> None:
        """A pointwise convolution and its residual; it makes good what the residual has lost."""
        own, other = self.producers[layer.inputs[0]], layer.inputs[1]
        scale = self._shared_scale(layer)
        if scale is None:
            raise ValueError(f"layer '{layer.name}' has no scale")
        column = (-1, *(1,) * (len(layer.output_shape) - 2))
        lost = self.floats[other] - self.codes[other] * scale.reshape(column)
        wanted = self._before_activation(own)
        solution = self._solve(own, wanted + lost if own.activation is Activation.NONE else wanted, scale)
        clip = self._clip(layer)
        quantized = self._quantized(own, solution)
        self.draft.layer(with_residual(quantized, self.tensor_name(other), self.tensor_name(layer.output), clip))
        self._keep(layer, np.clip(solution.codes + self.codes[other], clip.lower, clip.upper), scale, clip)
        self._report(layer, solution.weight_step, own)

    def _average(self, layer: FloatLayer) -> None:
        source, clip = layer.inputs[0], self._clip(layer)
        bits = self.options.bits_of(layer.name)
        scale = channel_scale(self.scales[source])
        found, output_scale = fit_average(layer, self.codes[source], scale, self.floats[layer.output], clip, bits)
        self.draft.layer(
            AveragePool(
                name=layer.name,
                inputs=(self.tensor_name(source),),
                output=self.tensor_name(layer.output),
                input_shape=layer.input_shape,
                output_shape=layer.output_shape,
                nodes=(),
                accumulator_shape=layer.output_shape,
                channel_axis=1,
                requantization=found,
                taps=(),
                window=layer.geometry,
            )
        )
        self._keep(layer, average_codes(layer, self.codes[source], found), output_scale, clip)
        self._report(layer)

    def _moved(self, layer: FloatLayer) -> None:
        """Pools of maxima, moves and concatenations: codes stay what they are."""
        inputs = [self.codes[name] for name in layer.inputs]
        names = tuple(self.tensor_name(name) for name in layer.inputs)
        output = self.tensor_name(layer.output)
        if layer.kind is FloatKind.MAX_POOL:
            shapes = {"input_shape": layer.input_shape, "output_shape": layer.output_shape}
            self.draft.layer(MaxPool(name=layer.name, inputs=names, output=output, nodes=(), window=layer.geometry, **shapes))
        else:
            self._node(layer, names, output)
        scale = derive_scale(layer, [self.scales[name] for name in layer.inputs], self.network)
        clips = [self.clips[name] for name in layer.inputs]
        clip = Clip(min(one.lower for one in clips), max(one.upper for one in clips))
        self._keep(layer, forward_layer(layer, inputs, self.network), scale, clip)
        self._report(layer)

    def _node(self, layer: FloatLayer, names: tuple[str, ...], output: str) -> None:
        node = layer.node or join_node(layer.inputs, layer.output, layer.name, layer.axis)
        renamed = dict(zip(layer.inputs, names, strict=True))
        made = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs), outputs=(output,))
        constants = {name: self.network.constants[name] for name in node.inputs if name in self.network.constants}
        self.draft.host(made, constants)

    def _host(self, layer: FloatLayer) -> None:
        """Real values for the host, and what it computes from them."""
        names = tuple(self._real(name) for name in layer.inputs)
        self._node(layer, names, layer.output)
        self.values[layer.output] = forward_layer(layer, [self.values[name] for name in layer.inputs], self.network)
        self._report(layer)

    def _real(self, tensor: str) -> str:
        """The name of a tensor's real values; for codes a multiplication is added when it is first asked for."""
        if tensor not in self.codes:
            return tensor
        output = f"{tensor}/real"
        if tensor not in self.values:
            scale = self.scales[tensor].astype(np.float32)
            self.draft.dequantization(f"{tensor}/dequantize", self.tensor_name(tensor), output, scale[np.newaxis])
            self.values[tensor] = (self.codes[tensor].astype(np.float32) * scale).astype(np.float64)
        return output


def _counted(bits: IntegerArray) -> dict[int, int]:
    """How often each number occurs, the largest first."""
    return {int(width): int((bits == width).sum()) for width in np.unique(bits)[::-1]}
