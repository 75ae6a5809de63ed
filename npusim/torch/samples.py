"""Calibration samples as users have them: a tensor, or what a data loader gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from npusim.errors import InputError

__all__ = ["batches_of", "check_batch"]


def check_batch(batch: object, shape: tuple[int, ...] | None) -> torch.Tensor:
    """A batch that a network can be calibrated with.

    Parameters
    ----------
    batch
        Should be a float tensor with samples on the first axis.
    shape
        Shape of a sample; None for any.

    Raises
    ------
    InputError
        If it is none, is empty, has another shape, holds NaN or infinity, or is all zeros.
    """
    if not isinstance(batch, torch.Tensor) or not batch.is_floating_point():
        seen = f"{batch.dtype}" if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise InputError(f"samples are of type {seen}, wanted float tensors with samples on the first axis")
    if batch.dim() not in (2, 3, 4) or not batch.numel():
        raise InputError(
            f"samples have shape {tuple(batch.shape)}, wanted [N, F], [N, C, L] or [N, C, H, W] with at least one sample"
        )
    if shape is not None and tuple(batch.shape[1:]) != shape:
        raise InputError(f"samples have shape {tuple(batch.shape[1:])} behind the batch axis, wanted {shape} as in the example")
    if not bool(torch.isfinite(batch).all()):
        raise InputError("samples hold NaN or infinity, wanted finite numbers; remove such samples")
    if not bool(batch.any()):
        raise InputError("samples are all zeros, from which no scale can be found; give real samples")
    return batch


def batches_of(samples: torch.Tensor | Iterable[object], shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Checked batches of a tensor or of an iterable of batches; of tuples the first entry counts.

    Raises
    ------
    InputError
        As `check_batch`, or if there are no batches.
    """
    found = False
    for item in [samples] if isinstance(samples, torch.Tensor) else samples:
        found = True
        yield check_batch(item[0] if isinstance(item, tuple | list) and item else item, shape)
    if not found:
        raise InputError("there are no samples, wanted at least one batch")
