"""The input stage, fake-quantized: float32 samples to codes, a batch norm in front included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from npusim.quantization.parameters import fit_input_multiplier
from npusim.torch.fusion import FusedStep
from npusim.torch.scales import ActivationScale
from npusim.torch.steps import Codes, Step
from npusim.torch.straight_through import floor_through, straight_through

__all__ = ["InputNumbers", "InputStep"]

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
