"""Convolutions and fully connected layers, fake-quantized: weights per channel, batch norm folded."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from npusim.quantization.parameters import EXACT_FLOAT32, width_rules
from npusim.torch.fused_network import FusedStep
from npusim.torch.scales import (
    ActivationScale,
    best_scale,
    floor_through,
    representable_multiplier,
    round_through,
    scaled_gradient,
    straight_through,
)
from npusim.torch.steps import Codes, Step
from npusim.torch.traced import Geometry, OperationKind

__all__ = ["INNER_RANGE", "LayerIntegers", "WeightedStep"]


INNER_RANGE = (-512, 511)
"""What the NPU saturates a layer's own result to before it adds a residual."""


class LayerIntegers(NamedTuple):
    """The integers of a layer, in float32 tensors; weights as torch lays them out, with two spatial axes.

    `factor` is ``multiplier * 2**-shift`` with the gradient of the scales that it stands for.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    multiplier: torch.Tensor
    shift: torch.Tensor
    factor: torch.Tensor


class _Folded(NamedTuple):
    """A layer's weights with the batch norm in them."""

    weights: torch.Tensor
    bias: torch.Tensor
    gain: torch.Tensor


class WeightedStep(Step):
    """``clip(((sum of weight * code + bias) * multiplier) >> shift)`` with fake-quantized weights.

    Parameters
    ----------
    fused
        A convolution or linear layer, maybe with a batch norm and an activation.
    scale
        Scale of the result.
    activation_bits, weight_bits
        Widths of the codes it gives and of its weights (8, 4 or 2).
    """

    def __init__(self, fused: FusedStep, scale: ActivationScale, activation_bits: int, weight_bits: int) -> None:
        super().__init__(fused, scale, activation_bits)
        self.weight_bits = weight_bits
        rules = width_rules(weight_bits)
        self.largest_weight, self.largest_bias, self.largest_scale = (
            rules.largest_weight,
            rules.largest_bias,
            rules.largest_scale,
        )
        self.module = fused.module
        self.batch_norm = fused.batch_norm
        self.batch_norm_frozen = False
        if fused.module is None:
            self.register_buffer("constant", _constant_weights(self.window, fused.shape[0]))
        weights = self._by_channel(self.raw_weights().detach()).flatten(1)
        self.weight_exponent = nn.Parameter(
            torch.log2(best_scale(weights, -self.largest_weight, self.largest_weight)).reshape(-1)
        )

    @property
    def transposed(self) -> bool:
        """Whether output channels are on the second axis of the weights."""
        return self.geometry is not None and self.geometry.transposed

    def raw_weights(self) -> torch.Tensor:
        """The weights as they are trained, convolutions with two spatial axes."""
        if self.module is None:
            return self.constant
        weights = self.module.weight
        return weights[..., None] if weights.dim() == 3 else weights

    def freeze_batch_norm(self) -> None:
        """Use the running statistics from now on."""
        self.batch_norm_frozen = True

    def freeze_scales(self) -> None:
        """Learn the weights' scales no more."""
        self.weight_exponent.requires_grad_(False)

    def forward(self, data: Codes, residual: Codes | None = None) -> Codes:
        """Codes to codes; codes of a residual are added to what the layer gives itself."""
        if self.batch_norm is not None and self.training and not self.batch_norm_frozen:
            presum = self._with_batch_statistics(data)
        else:
            layer = self.integers(data)
            presum = (self._apply(data.values, layer.weights) + self._on_channels(layer.bias)) * self._on_channels(layer.factor)
        own, added = floor_through(presum), 0.0 if residual is None else residual.values
        if residual is not None:
            own = torch.clamp(own, *INNER_RANGE)
        if self.scale.observing:
            self.observe(self.activated((presum - 0.5 + added) * self.scale()))
        return self.saturated(own + added, self.scale())

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The layer in float, with running statistics where there are any."""
        result = self._apply(inputs[0], self.raw_weights())
        if self.module is not None and self.module.bias is not None:
            result = result + self._on_channels(self.module.bias)
        if self.batch_norm is not None:
            norm = self.batch_norm
            use_batch = bool(norm.num_batches_tracked == 0)
            mean, variance = (None, None) if use_batch else (norm.running_mean, norm.running_var)
            result = F.batch_norm(result, mean, variance, norm.weight, norm.bias, use_batch, 0.0, norm.eps)
        return self.activated(result if len(inputs) == 1 else result + inputs[1])

    def integers(self, data: Codes) -> LayerIntegers:
        """The integers that the layer has when it reads such codes; all gradients are kept."""
        return self._integers(data, self._folded())

    def _integers(self, data: Codes, folded: _Folded) -> LayerIntegers:
        wanted = self._wanted_scale(folded, data)
        scale_in, scale_out = data.scale, self.scale()
        ratio = scale_in * wanted / scale_out
        multiplier, shift = representable_multiplier(ratio, self._largest_multiplier(data), upwards=True)
        exact = multiplier * torch.exp2(-shift)
        scale = straight_through(exact * scale_out / scale_in, wanted)
        limit = self.largest_weight
        weights = round_through(torch.clamp(folded.weights / self._as_weights(scale), -limit, limit))
        bias = round_through(folded.bias / (scale_in * scale) + 0.5 / exact)
        bias = torch.clamp(bias, -self.largest_bias, self.largest_bias)
        return LayerIntegers(weights, bias, multiplier, shift, straight_through(exact, ratio))

    def _folded(self) -> _Folded:
        weights = self.raw_weights()
        bias = getattr(self.module, "bias", None)
        channels = self._by_channel(weights).shape[0]
        bias = weights.new_zeros(channels) if bias is None else bias
        if self.batch_norm is None:
            return _Folded(weights, bias, weights.new_ones(channels))
        norm = self.batch_norm
        gain = torch.rsqrt(norm.running_var + norm.eps)
        gain = gain if norm.weight is None else gain * norm.weight
        shifted = (bias - norm.running_mean) * gain
        return _Folded(weights * self._as_weights(gain), shifted if norm.bias is None else shifted + norm.bias, gain)

    def _wanted_scale(self, folded: _Folded, data: Codes) -> torch.Tensor:
        """Scales of the folded weights, large enough for the bias to fit its width."""
        elements = folded.weights.numel() / max(folded.bias.numel(), 1) * self.largest_weight
        scale = torch.exp2(scaled_gradient(self.weight_exponent, elements**-0.5)) * folded.gain.abs()
        least = (folded.bias.abs() + 0.5 * self.scale()) / (data.scale * (self.largest_bias - 1))
        return torch.maximum(scale, least.detach())

    def _largest_multiplier(self, data: Codes) -> int:
        """The largest 8-bit scale with which no product can pass 2**24, whatever the weights become."""
        taps: int = self._by_channel(self.raw_weights())[0].numel()
        products = taps * self.largest_weight * max(-data.lower, data.upper)
        return max(1, min(self.largest_scale, EXACT_FLOAT32 // (products + self.largest_bias)))

    def _with_batch_statistics(self, data: Codes) -> torch.Tensor:
        """The weights are folded with the running statistics, so that codes are stable; the result is then corrected."""
        norm = self.batch_norm
        result = self._apply(data.real, self.raw_weights())
        bias = getattr(self.module, "bias", None)
        result = result if bias is None else result + self._on_channels(bias)
        axes = [axis for axis in range(result.dim()) if axis != 1]
        mean, variance = result.mean(axes), result.var(axes, unbiased=False)
        folded = self._folded()
        layer = self._integers(data, folded)
        correction = torch.sqrt((norm.running_var + norm.eps) / (variance + norm.eps))
        shifted = ((0 if bias is None else bias) - mean) * folded.gain * correction
        shifted = shifted if norm.bias is None else shifted + norm.bias
        sums = self._apply(data.values, layer.weights) * self._on_channels(layer.factor * correction)
        self._follow(mean.detach(), variance.detach(), result.numel() // result.shape[1])
        return sums + self._on_channels(shifted / self.scale() + 0.5)

    def _follow(self, mean: torch.Tensor, variance: torch.Tensor, elements: int) -> None:
        """Update the running statistics as the batch norm itself does."""
        norm = self.batch_norm
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(variance * (elements / max(elements - 1, 1)), momentum)

    def _apply(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The sum of products."""
        if self.kind is OperationKind.LINEAR:
            return F.linear(x, weights)
        window = self.window
        if window.transposed:
            padding, extra = window.pads, window.output_padding
            return F.conv_transpose2d(x, weights, None, window.strides, padding, extra, window.group, window.dilations)
        if x.shape[-1] == window.kernel_shape[1] == 1 and window.pads[1] == 0:  # torch is faster along one axis
            sizes = window.strides[0], window.pads[0], window.dilations[0]
            return F.conv1d(x[..., 0], weights[..., 0], None, *sizes, window.group)[..., None]
        return F.conv2d(x, weights, None, window.strides, window.pads, window.dilations, window.group)

    def _by_channel(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights with the output channels on the first axis."""
        if not self.transposed:
            return weights
        group, per_group = self.window.group, weights.shape[1]
        split = weights.reshape(group, -1, *weights.shape[1:]).transpose(1, 2)
        return split.reshape(group * per_group, -1, *weights.shape[2:])

    def _as_weights(self, channels: torch.Tensor) -> torch.Tensor:
        """One value for each output channel, in a shape that multiplies the weights."""
        if self.kind is OperationKind.LINEAR:
            return channels[:, None]
        if not self.transposed:
            return channels[:, None, None, None]
        group = self.window.group
        rows = self.raw_weights().shape[0] // group
        return channels.reshape(group, 1, -1).expand(group, rows, -1).reshape(group * rows, -1, 1, 1)

    def _on_channels(self, channels: torch.Tensor) -> torch.Tensor:
        """One value for each channel, in a shape that fits the data."""
        return channels if self.kind is OperationKind.LINEAR else channels[:, None, None]


def _constant_weights(window: Geometry, channels: int) -> torch.Tensor:
    """Weights that average each channel over the window, and so multiply by one where it is a single element."""
    if window.group == 1:
        return torch.eye(channels)[:, :, None, None]
    return torch.full((channels, 1, *window.kernel_shape), 1.0 / window.area)
