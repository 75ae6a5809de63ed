"""Scales of activations, and the rounding through which gradients reach them."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = [
    "ActivationScale",
    "best_scale",
    "floor_through",
    "representable_multiplier",
    "round_through",
    "scaled_gradient",
    "straight_through",
]

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


LARGEST_SHIFT = 31
"""The NPU shifts by at most this much."""

CANDIDATES = 40
"""Fractions of the largest value that a search for a scale tries."""

SEARCHED_ELEMENTS = 1 << 14
"""Of longer rows only so many elements are looked at for the error; the largest value is taken from all."""


class _StraightThrough(torch.autograd.Function):
    """Gives one tensor and passes the gradient to another."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: torch.Tensor, carrier: torch.Tensor) -> torch.Tensor:
        """The value itself."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        """The gradient, to the carrier only."""
        return None, gradient


def straight_through(value: torch.Tensor, carrier: torch.Tensor) -> torch.Tensor:
    """`value` exactly, with the gradient of `carrier`, a tensor of the same shape.

    Examples
    --------
    >>> x = torch.tensor([0.7], requires_grad=True)
    >>> straight_through(x.detach().round(), x * 3).backward()
    >>> x.grad
    tensor([3.])
    """
    return _StraightThrough.apply(value.detach(), carrier)


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Round half to even; the gradient is that of the identity."""
    return straight_through(x.detach().round(), x)


def floor_through(x: torch.Tensor) -> torch.Tensor:
    """Round down; the gradient is that of the identity."""
    return straight_through(x.detach().floor(), x)


def scaled_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """`x` exactly, with its gradient times a factor: what many elements share would otherwise learn too fast."""
    return straight_through(x, x * factor)


def representable_multiplier(
    wanted: torch.Tensor, largest: torch.Tensor | float, *, upwards: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The integer scale and the shift for real multipliers: ``wanted ~ scale * 2**-shift``.

    The shift is the largest that keeps the scale at or below `largest`, so that the scale has as many bits as it may; one of
    1 makes every multiplier a power of two.

    Parameters
    ----------
    wanted
        Positive multipliers.
    largest
        Largest scale, at least 1.
    upwards
        Round the scale up, not to the nearest.

    Returns
    -------
    (scale, shift)
        Float tensors of whole numbers: scales from 1 to `largest`, shifts from 0 to 31.

    Examples
    --------
    >>> representable_multiplier(torch.tensor([0.3]), 255, upwards=False)
    (tensor([154.]), tensor([9.]))
    """
    precise = wanted.detach().double()
    limit = torch.as_tensor(largest, dtype=torch.float64)
    shift = torch.clamp(torch.floor(torch.log2(limit / precise)), 0, LARGEST_SHIFT)
    # log2 may land on the wrong side of a whole number
    shift = torch.where((precise * 2.0**shift > limit) & (shift > 0), shift - 1, shift)
    exact = precise * 2.0**shift
    scale = torch.ceil(exact - 1e-9) if upwards else torch.round(exact)
    return torch.clamp(scale, min=torch.ones_like(scale), max=limit.expand_as(scale)).float(), shift.float()


def best_scale(x: torch.Tensor, lower: int, upper: int) -> torch.Tensor:
    """The scale for each row of a matrix that loses least when ``clip(round(x / scale), lower, upper)`` is taken for x.

    Parameters
    ----------
    x
        Shape ``(rows, elements)``.
    lower, upper
        Range of the codes, not positive and positive.

    Returns
    -------
    Tensor
        Shape ``(rows, 1)``: among fractions of the scale that just covers all values, the one with the least squared error;
        a tiny positive number for rows of zeros.
    """
    with torch.no_grad():
        smallest = torch.finfo(torch.float32).tiny ** 0.5
        reach = x.amax(1, keepdim=True) / upper
        if lower < 0:
            reach = torch.maximum(reach, x.amin(1, keepdim=True) / lower)
        reach = reach.clamp(min=smallest)
        x = x[:, :: 1 + x.shape[1] // SEARCHED_ELEMENTS]
        best, least = reach, torch.full_like(reach, torch.inf)
        for fraction in torch.linspace(1.0, 0.2, CANDIDATES).tolist():
            scale = reach * fraction
            error = (torch.clamp(torch.round(x / scale), lower, upper) * scale - x).square().sum(1, keepdim=True)
            best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
        return best
