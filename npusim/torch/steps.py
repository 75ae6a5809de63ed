"""The steps of a fake-quantized network, input stage included: integer arithmetic in float tensors, with gradients.

Tensors between steps hold codes, whole numbers in float32, and travel with their scale: ``real = code * scale``. Each step
computes what the NPU computes, operation by operation, so that nothing has to be approximated when the network is converted;
only the gradients pretend that rounding were the identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from npusim.quantization.parameters import fit_input_multiplier, width_rules
from npusim.torch.fused_network import FusedStep
from npusim.torch.scales import ActivationScale, floor_through, representable_multiplier, straight_through
from npusim.torch.traced import Geometry

__all__ = [
    "AveragePoolStep",
    "Codes",
    "ConcatStep",
    "FlattenStep",
    "InputNumbers",
    "InputStep",
    "MaxPoolStep",
    "Step",
    "code_range",
]

POOL_SATURATION = 0.25
"""An average whose multiplier must be a power of two takes the next larger one if that saturates no more than 2**-0.25."""


class Codes(NamedTuple):
    """A quantized tensor: whole numbers in float32, their scale, and the range they are clipped to."""

    values: torch.Tensor
    scale: torch.Tensor
    lower: int
    upper: int

    @property
    def real(self) -> torch.Tensor:
        """What the codes stand for."""
        return self.values * self.scale


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Range of a signed or unsigned integer.

    Examples
    --------
    >>> code_range(8, signed=True), code_range(4, signed=False)
    ((-128, 127), (0, 15))
    """
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


class Step(nn.Module):
    """One step of the network.

    Parameters
    ----------
    fused
        What it does.
    scale
        Scale of its result; shared with other steps where the NPU adds or joins their codes.
    activation_bits
        Width of the codes it gives.
    """

    def __init__(self, fused: FusedStep, scale: ActivationScale, activation_bits: int) -> None:
        super().__init__()
        self.label = fused.name
        self.kind = fused.kind
        self.sources = tuple(fused.inputs)
        self.geometry = fused.geometry
        self.relu = fused.relu
        self.ceiling = fused.ceiling
        self.scale = scale
        self.lower, self.upper = code_range(activation_bits, signed=not fused.unsigned)
        if fused.ceiling is not None:
            scale.limit(fused.ceiling / self.upper)

    @property
    def window(self) -> Geometry:
        """Geometry of a step that has one."""
        if self.geometry is None:
            raise ValueError(f"{self.label} has no window")
        return self.geometry

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What the step gives in float, real values in and out."""
        raise NotImplementedError

    def activated(self, real: torch.Tensor) -> torch.Tensor:
        """The activation that is fused into the step, on real values."""
        return real if not self.relu else torch.clamp(real, 0, self.ceiling)

    def observe(self, real: torch.Tensor) -> None:
        """Show the scale what it has to cover."""
        self.scale.observe(real, self.lower, self.upper)

    def saturated(self, values: torch.Tensor, scale: torch.Tensor) -> Codes:
        """Clip to the range of the codes."""
        return Codes(torch.clamp(values, self.lower, self.upper), scale, self.lower, self.upper)


class AveragePoolStep(Step):
    """Averages windows: ``clip(((sum + bias) * multiplier) >> shift)``.

    The gain that the multiplier cannot have goes into the scale of the result, so that nothing is lost.

    Parameters
    ----------
    fused, scale, activation_bits
        As for `Step`.
    weight_bits
        What weights of the network have: next to 8-bit ones the multiplier is always 1, else it has 8 bits.
    """

    def __init__(self, fused: FusedStep, scale: ActivationScale, activation_bits: int, weight_bits: int) -> None:
        super().__init__(fused, scale, activation_bits)
        self.weight_bits = weight_bits
        self.flat = len(fused.shape) == 1

    def requantization(self, scale_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bias, multiplier and shift, whole numbers in float32."""
        wanted = (scale_in / (self.window.area * self.scale())).detach()
        largest = width_rules(self.weight_bits).largest_scale
        if largest == 1:
            wanted = torch.exp2(torch.floor(torch.log2(wanted) + POOL_SATURATION))
        multiplier, shift = representable_multiplier(wanted, largest, upwards=False)
        return torch.round(torch.exp2(shift) / (2 * multiplier)), multiplier, shift

    def forward(self, data: Codes) -> Codes:
        """Codes to codes."""
        bias, multiplier, shift = self.requantization(data.scale)
        factor = multiplier * torch.exp2(-shift)
        if self.scale.observing:
            self.observe(self.exact(data.real))
        summed = self._average(data.values, 1)
        scale = data.scale / (self.window.area * factor)
        return self.saturated(floor_through((summed + bias) * factor), scale)

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The average."""
        return self.activated(self._average(inputs[0], self.window.area))

    def _average(self, x: torch.Tensor, divisor: int) -> torch.Tensor:
        window = self.window
        pooled = F.avg_pool2d(x, window.kernel_shape, window.strides, window.pads, divisor_override=divisor)
        return pooled.flatten(1) if self.flat else pooled


class MaxPoolStep(Step):
    """Largest code of each window."""

    def forward(self, data: Codes) -> Codes:
        """Codes to codes."""
        return data._replace(values=self.exact(data.values))

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The largest value."""
        window = self.window
        return F.max_pool2d(inputs[0], window.kernel_shape, window.strides, window.pads, window.dilations)


class FlattenStep(Step):
    """All axes of a sample as one."""

    def forward(self, data: Codes) -> Codes:
        """Codes to codes."""
        return data._replace(values=torch.flatten(data.values, 1))

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The same values."""
        return torch.flatten(inputs[0], 1)


class ConcatStep(Step):
    """Channels of tensors of the same scale, one behind the other."""

    def forward(self, *parts: Codes) -> Codes:
        """Codes to codes."""
        joined = torch.cat([part.values for part in parts], 1)
        return Codes(joined, self.scale(), min(part.lower for part in parts), max(part.upper for part in parts))

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """All channels."""
        return torch.cat(inputs, 1)


SMALLEST_GAIN = 1e-6
"""A gain nearer to zero could not be inverted, which the offset needs."""


class InputNumbers(NamedTuple):
    """``floor((x + offset) * multiplier * 2**-shift)``, one entry for each channel or one for all; float32 tensors."""

    offset: torch.Tensor
    multiplier: torch.Tensor
    shift: torch.Tensor


class InputStep(Step):
    """``clip(floor((x + offset) * multiplier * 2**-shift))`` in float32, operation by operation."""

    def __init__(self, fused: FusedStep, scale: ActivationScale, activation_bits: int) -> None:
        super().__init__(fused, scale, activation_bits)
        self.batch_norm = fused.batch_norm
        self.batch_norm_frozen = False

    def freeze_batch_norm(self) -> None:
        """Use the running statistics from now on."""
        self.batch_norm_frozen = True

    def forward(self, x: torch.Tensor) -> Codes:
        """Samples, channels on axis 1, to codes."""
        if self.training and not self.batch_norm_frozen:
            self._update_statistics(x)
        if self.scale.observing:
            self.observe(self.exact(x))
        numbers, gain = self.numbers()
        column = (-1,) + (1,) * (x.dim() - 2)
        factor = numbers.multiplier * torch.exp2(-numbers.shift)
        exact = ((x + numbers.offset.reshape(column)) * numbers.multiplier.reshape(column)) * torch.exp2(
            -numbers.shift
        ).reshape(column)
        smooth = (x.detach() + numbers.offset.reshape(column)) * straight_through(factor, gain).reshape(column)
        return self.saturated(floor_through(straight_through(exact, smooth)), self.scale())

    def numbers(self) -> tuple[InputNumbers, torch.Tensor]:
        """What the stage computes with, gradients of the offset kept, and the gains that the multipliers stand for."""
        scale = self.scale()
        if self.batch_norm is None:
            gain, shifted = (1 / scale).reshape(1), scale.new_zeros(1)
        else:
            norm = self.batch_norm
            gain = torch.rsqrt(norm.running_var + norm.eps) / scale
            gain = gain if norm.weight is None else gain * norm.weight
            shifted = norm.running_mean.new_zeros(len(gain)) if norm.bias is None else norm.bias / scale
        gain = torch.where(gain.abs() < SMALLEST_GAIN, torch.full_like(gain, SMALLEST_GAIN), gain)
        multiplier, shift = fit_input_multiplier(gain.detach().double().cpu().numpy())
        exact = [torch.from_numpy(item.astype(np.float32)).to(gain.device) for item in (multiplier, shift)]
        factor = straight_through(exact[0] * torch.exp2(-exact[1]), gain)
        mean = 0 if self.batch_norm is None else self.batch_norm.running_mean
        return InputNumbers((shifted + 0.5) / factor - mean, *exact), gain

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The batch norm, if there is one."""
        norm = self.batch_norm
        if norm is None:
            return inputs[0]
        use_batch = bool(norm.num_batches_tracked == 0)
        mean, variance = (None, None) if use_batch else (norm.running_mean, norm.running_var)
        return F.batch_norm(inputs[0], mean, variance, norm.weight, norm.bias, use_batch, 0.0, norm.eps)

    def _update_statistics(self, x: torch.Tensor) -> None:
        """Follow the samples as the batch norm itself does; the stage works with running statistics always."""
        norm = self.batch_norm
        if norm is not None:
            with torch.no_grad():
                F.batch_norm(x, norm.running_mean, norm.running_var, None, None, True, self._momentum(), norm.eps)

    def _momentum(self) -> float:
        norm = self.batch_norm
        norm.num_batches_tracked.add_(1)
        return 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else float(norm.momentum)
