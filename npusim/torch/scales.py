"""Scales of activations: observed first, learned after that, fixed in the end."""

from __future__ import annotations

import math

import torch
from torch import nn

from npusim.torch.straight_through import best_scale, scaled_gradient

__all__ = ["ActivationScale"]

MOMENTUM = 0.1
"""Weight of a new observation."""


class ActivationScale(nn.Module):
    """What one step of a code is worth, a power of two of a learned exponent.

    While it observes, it follows the scale that loses least on what it is shown; behind that its exponent is a parameter like
    any other, until it is frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.zeros(()))
        self.observing = True
        self.largest = math.inf
        self._seen: torch.Tensor | None = None
        self._elements = 1

    def forward(self) -> torch.Tensor:
        """The scale, a positive number."""
        exponent = self.exponent.detach() if self.observing else scaled_gradient(self.exponent, self._elements**-0.5)
        return torch.exp2(exponent).clamp(max=self.largest)

    def limit(self, largest: float) -> None:
        """Let the scale be no larger than this, so that codes saturate where an activation does."""
        self.largest = min(self.largest, largest)

    def observe(self, real: torch.Tensor, lower: int, upper: int) -> None:
        """Look at values that codes from `lower` to `upper` are to stand for; the largest scale of all that share it counts."""
        with torch.no_grad():
            best = best_scale(real.detach().reshape(1, -1), lower, upper).reshape(())
            self._seen = best if self._seen is None else torch.maximum(self._seen, best)
            self._elements = max(self._elements, real[0].numel())

    def settle(self, momentum: float = MOMENTUM) -> None:
        """Follow what was seen since the last time."""
        if self._seen is None:
            return
        with torch.no_grad():
            self.exponent.lerp_(torch.log2(self._seen), momentum)
        self._seen = None

    def freeze(self) -> None:
        """Learn no more."""
        self.observing = False
        self.exponent.requires_grad_(False)
