"""The sequence of values from the float layer to the quantized one, whose differences are the parts of the introduced error.

A layer reads codes ``x``, which stand for ``a' = s_in * (x - zero_point)``, with one scale for all channels or one for each. F
is the layer's float counterpart, which ends with the activation ``act``:

====== =========================================================================== ====================================
``y0`` ``F(a')``                                                                   the float layer on the same inputs
``y1`` ``act(conv(a', s_w * w) + b_float)``                                        integer weights at their scale
``y2`` ``act(s_out * (v - h))``, ``v = (conv(x, w) + bias) * scale / 2**shift``    bias, scale and shift
``y3`` ``act(s_out * floor(v))``                                                   the floor
``y4`` ``s_out * clip(floor(v))``                                                  the clip: what the quantized layer gives
====== =========================================================================== ====================================

``h = (1 - 2**-shift) / 2`` LSB is what a floor takes away on average; exporters add it with the bias. ``y1 - y0`` is the part
``weights``, ``y2 - y1`` ``bias_and_scale``, ``y3 - y2`` ``rounding``, ``y4 - y3`` ``clipping``; they telescope to ``y4 - y0``.

On the codes that the layer really gets, ``y4`` is what it really gives, and with the float model's activations ``a``

    total = y4 - F(a) = inherited + weights + bias_and_scale + rounding + clipping,    inherited = F(a') - F(a)

holds for every element. On the codes nearest to the float model's activations (not clipped), ``y4 - y0`` is the error of the
layer alone, whatever happened before it.

Pools and sums have no weights, ``y1 = y0``; ``v`` is their sum. In a quantize stage ``v = (x + offset) * multiplier``. MAXPOOL
computes nothing that could be wrong. Of what the host computes, rounding counts as rounding, a clip as clipping, everything
else as ``bias_and_scale``; an operation with float weights has ``weights`` as well. Float layers compute in float32: parts
below that, some 150 dB under the signal, mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from npusim.comparison.alignment.counterparts import Alignment
from npusim.comparison.experiments.partial_runs import bend, evaluate_float, evaluate_real
from npusim.comparison.layer_result import LayerPair, LayerScales
from npusim.comparison.sums import FloatArray
from npusim.floats import FloatGraph, LinearOperation
from npusim.graph import Array
from npusim.graph.traits import Trait, is_a
from npusim.program import Accumulating, HostOperation, IntegerLayer, Program, QuantizeStage, Step
from npusim.program.input_stage import DeviceStage
from npusim.program.lowering.floats import along_outputs
from npusim.program.real_codes import accumulate_real, requantize_real

__all__ = ["LayerStages", "Stages"]


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """``y0`` to ``y4`` of a layer in real units, float64, in the shape of the float tensor."""

    reference: FloatArray
    weights: FloatArray
    bias_and_scale: FloatArray
    rounding: FloatArray
    clipping: FloatArray

    @property
    def parts(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The parts of the introduced error: weights, bias and scale, rounding, clipping."""
        values = (self.reference, self.weights, self.bias_and_scale, self.rounding, self.clipping)
        first, second, third, fourth = (after - before for before, after in pairwise(values))
        return first, second, third, fourth

    @property
    def introduced(self) -> FloatArray:
        """``y4 - y0``."""
        return self.clipping - self.reference


@dataclass(frozen=True, slots=True, eq=False)
class LayerStages:
    """Computes the stages of one paired step.

    Attributes
    ----------
    step, pair, scales
        The step, what it means, its scales.
    inputs
        The scales of what it reads, in the order of `Program.inputs_of`.
    sources
        The float tensors that mean what it reads.
    quantized, reference
        The two programs.
    linear
        The float operation of a step with weights.
    """

    step: Step
    pair: LayerPair
    scales: LayerScales
    inputs: tuple[LayerScales, ...]
    sources: tuple[str, ...]
    quantized: Program
    reference: Program
    linear: LinearOperation | None

    @classmethod
    def of(
        cls,
        pair: LayerPair,
        alignment: Alignment,
        scales: Mapping[str, LayerScales],
        quantized: Program,
        reference: Program,
    ) -> LayerStages:
        """What is needed for one pair of an alignment."""
        step = next(one for one in quantized.steps if one.name == pair.step)
        by_tensor = {one.tensor: scales[one.step] for one in alignment.pairs}
        names = quantized.inputs_of(step)
        return cls(
            step,
            pair,
            scales[pair.step],
            tuple(by_tensor.get(name, LayerScales(1.0)) for name in names),
            tuple(alignment.meaning[name] for name in names),
            quantized,
            reference,
            alignment.linear.get(step.name),
        )

    def alone(self, values: Mapping[str, Array]) -> Stages:
        """The stages on the codes nearest to the float model's activations.

        Parameters
        ----------
        values
            Tensors of the float model, those that the layer reads and any others.
        """
        return self._stages([self._nearest_codes(index, values[name]) for index, name in enumerate(self.sources)])

    def in_place(self, codes: Mapping[str, Array]) -> Stages:
        """The stages on the codes that the layer really gets.

        Parameters
        ----------
        codes
            Tensors of the quantized model, those that the layer reads and any others.
        """
        return self._stages(self._float_shaped(codes))

    def _stages(self, codes: list[FloatArray]) -> Stages:
        """The stages on any codes, in the shapes of the float tensors."""
        fed = self._fed(codes)
        reference = self.float_layer(fed)
        if isinstance(self.step, IntegerLayer):
            return self._integer_stages(self.step, codes, fed, reference)
        if isinstance(self.step, QuantizeStage):
            return self._quantize_stages(self.step, codes[0], reference)
        return self._host_stages(self.step, codes, fed, reference)

    def float_layer(self, values: Mapping[str, Array]) -> FloatArray:
        """F: the layer's float counterpart on any values of the tensors it reads."""
        return np.asarray(evaluate_float(self.reference, values, self.pair.float_tensor), np.float64)

    def float_on_codes(self, codes: Mapping[str, Array]) -> FloatArray:
        """F on the codes that the layer really gets, as real-valued codes of its output."""
        values = self.float_layer(self._fed(self._float_shaped(codes)))
        result = values / self.scales.over(values.shape) + self.scales.zero_point
        return result.reshape(-1, *self.quantized.tensors[self.pair.tensor].shape[1:])

    def _float_shaped(self, codes: Mapping[str, Array]) -> list[FloatArray]:
        """The codes that the layer reads in the shapes of the float tensors, which may have more axes of size 1."""
        names = self.quantized.inputs_of(self.step)
        shapes = [self.reference.tensors[source].shape[1:] for source in self.sources]
        return [np.asarray(codes[name], np.float64).reshape(-1, *shape) for name, shape in zip(names, shapes, strict=True)]

    def _fed(self, codes: list[FloatArray]) -> dict[str, Array]:
        """Real values of codes by float tensor, in its element type."""
        return {
            source: ((one - scale.zero_point) * scale.over(one.shape)).astype(self.reference.tensors[source].dtype)
            for source, one, scale in zip(self.sources, codes, self.inputs, strict=True)
        }

    def _nearest_codes(self, index: int, values: Array) -> FloatArray:
        """The codes of an input that are nearest to float activations; values as they are where the layer reads no codes."""
        scale = self.inputs[index]
        codes = values.astype(np.float64) / scale.over(values.shape) + scale.zero_point
        is_integer = self.quantized.tensors[self.quantized.inputs_of(self.step)[index]].is_integer
        return np.rint(codes) if is_integer else codes

    def _shaped(self, codes: list[FloatArray]) -> list[FloatArray]:
        """Codes in the shapes that the quantized layer reads."""
        names = self.quantized.inputs_of(self.step)
        return [one.reshape(-1, *self.quantized.tensors[name].shape[1:]) for one, name in zip(codes, names, strict=True)]

    def _to_real(self, codes: FloatArray) -> FloatArray:
        """Codes of the output as real values in the shape of the float tensor."""
        return self._in_float_shape((codes - self.scales.zero_point) * self.scales.over(codes.shape))

    def _integer_stages(
        self,
        layer: IntegerLayer,
        codes: list[FloatArray],
        fed: Mapping[str, Array],
        reference: FloatArray,
    ) -> Stages:
        inputs = self._shaped(codes)
        if not isinstance(layer, Accumulating):
            final = self._to_real(evaluate_real(self.quantized, layer, inputs))
            return Stages(final, final, final, final, final)
        part = layer.requantization
        accumulator = accumulate_real(layer, inputs)
        residual = layer.residual_of(inputs)
        final = self._to_real(requantize_real(layer, accumulator, residual))
        exact = part.real(accumulator, layer.channel_axis)
        centred = exact - layer.by_channel(part.floor_loss)
        weights = reference
        if self.linear is not None:
            # the integer weights at their scale; the float bias is for the float activation function behind it
            product = accumulator * layer.by_channel(self.inputs[0].output * self._weight_scales())
            weights = self._activated(product + layer.by_channel(self.linear.bias), fed)
        scale = self.scales.over(accumulator.shape)
        return Stages(
            reference,
            weights,
            self._activated((centred - self.scales.zero_point) * scale, fed),
            self._activated((part.rounded(exact) - self.scales.zero_point) * scale, fed),
            final,
        )

    def _weight_scales(self) -> FloatArray:
        factors = self.scales.weights
        return np.zeros(0) if factors is None else np.where(np.isfinite(factors), factors, 0.0)

    def _activated(self, product: FloatArray, values: Mapping[str, Array]) -> FloatArray:
        """What the float model makes of the result before its activation function, real units."""
        graph = FloatGraph(self.reference)
        start = self._before_activation(graph) if self.linear is None else self.linear.output
        return bend(graph, start, product, self.pair.float_tensor, {name: values[name] for name in self.sources})

    def _before_activation(self, graph: FloatGraph) -> str:
        """The first tensor that the float counterpart of a pool or sum computes."""
        nodes = graph.nodes_between(set(self.sources), self.pair.float_tensor)
        computed = next((name for name in nodes if not graph.bends(graph.producers[name])), None)
        return nodes[-1] if computed is None else graph.result_of(graph.producers[computed])

    def _quantize_stages(self, stage: QuantizeStage, codes: FloatArray, reference: FloatArray) -> Stages:
        dtype = self.quantized.tensors[stage.input].dtype
        given = self._shaped([codes])[0].astype(dtype)
        tensors = self.quantized.stage_values(stage, given)
        floors = [node.outputs[0] for node in stage.nodes if is_a(node.op_type, Trait.ROUNDS)]
        final = self._to_real(np.asarray(tensors[stage.output], np.float64))
        rounded = self._to_real(np.asarray(tensors[floors[-1]], np.float64)) if floors and floors[-1] in tensors else final
        if isinstance(stage, DeviceStage):
            rounded = self._to_real(np.asarray(stage.operations(given)[-1][2], np.float64))
        exact = (self._shaped([codes])[0] + stage.offset) * stage.multiplier
        return Stages(reference, reference, self._to_real(exact - 0.5), rounded, final)

    def _host_stages(
        self, step: HostOperation, codes: list[FloatArray], fed: Mapping[str, Array], reference: FloatArray
    ) -> Stages:
        final = self._to_real(evaluate_real(self.quantized, step, self._shaped(codes)))
        if is_a(step.operator, Trait.ROUNDS, Trait.CONVERTS):
            return Stages(reference, reference, reference, final, final)
        if is_a(step.operator, Trait.LIMITS):
            return Stages(reference, reference, reference, reference, final)
        weights = self._host_weights(step, fed) if self.linear is not None else reference
        return Stages(reference, weights, final, final, final)

    def _host_weights(self, step: HostOperation, fed: Mapping[str, Array]) -> FloatArray:
        """The float layer with the weights that a mixed precision left in the quantized model, at their scale."""
        name = step.node.inputs[1]
        kernel = self.quantized.constants[name].astype(np.float64)
        factors = along_outputs(step.node, self._weight_scales(), kernel.ndim)
        changed = {name: (kernel * factors).astype(self.quantized.constants[name].dtype)}
        if len(step.node.inputs) > 2 and step.node.inputs[2] and self.linear is not None:
            bias = self.quantized.constants[step.node.inputs[2]]
            changed[step.node.inputs[2]] = self.linear.bias.reshape(bias.shape).astype(bias.dtype)
        values = {**changed, self.quantized.inputs_of(step)[0]: fed[self.sources[0]]}
        return self._in_float_shape(np.asarray(evaluate_float(self.quantized, values, step.tensors[-1]), np.float64))

    def _in_float_shape(self, values: FloatArray) -> FloatArray:
        return values.reshape(-1, *self.reference.tensors[self.pair.float_tensor].shape[1:])
