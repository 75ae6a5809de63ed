"""The torque example's network, and how it is trained; needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from npusim.examples.windows import CHANNELS, Windows
from npusim.torch import IntegerModel, PTQModule, QATModule

__all__ = ["TrainingPlan", "post_training", "predict", "quantization_aware", "torque_network", "train_float"]

FloatArray: TypeAlias = npt.NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]

BATCH = 64
"""Windows in a batch."""

CALIBRATION = 512
"""Windows that quantization looks at."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how fast to train.

    Attributes
    ----------
    epochs
        Passes over all windows.
    learning_rate
        Highest rate of a cycle that starts and ends lower.
    seed
        Of the order of the windows, and of the first weights.
    """

    epochs: int
    learning_rate: float
    seed: int


def torque_network() -> nn.Sequential:
    """A small network: a batch norm that becomes the input stage, three convolutions over time, an average, two dense layers.

    It takes ``[N, 12, 128]`` sensor values as they are and gives ``[N, 1]``; it has about 4,000 parameters.
    """

    def convolution(inputs: int, outputs: int, size: int) -> list[nn.Module]:
        layer = nn.Conv1d(inputs, outputs, size, stride=2, padding=size // 2, bias=False)
        return [layer, nn.BatchNorm1d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.BatchNorm1d(CHANNELS),
        *convolution(CHANNELS, 16, 5),
        *convolution(16, 16, 3),
        *convolution(16, 32, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 1),
    )


def train_float(windows: Windows, plan: TrainingPlan, progress: Progress | None = None) -> nn.Sequential:
    """Train the network; its output is torque in Nm."""
    torch.manual_seed(plan.seed)
    network = torque_network()
    mean, deviation = _statistics(windows)
    _train(network, windows, plan, lambda y: y * deviation + mean, progress)
    with torch.no_grad():  # from standard deviations to Nm
        last = network[-1]
        last.weight.mul_(deviation)
        last.bias.mul_(deviation).add_(mean)
    return network


def quantization_aware(
    network: nn.Sequential, windows: Windows, weight_bits: int, plan: TrainingPlan, progress: Progress | None = None
) -> QATModule:
    """Train on with the NPU's arithmetic: batch norms follow for half of the time, then all is as it will be converted."""
    batches = -(-len(windows) // BATCH)
    model = QATModule(
        network,
        samples_of(windows)[:CALIBRATION],
        weight_bits=weight_bits,
        batch_norm_steps=plan.epochs * batches // 2,
    )
    torch.manual_seed(plan.seed)
    _train(model, windows, plan, None, progress)
    return model.freeze()


def post_training(network: nn.Sequential, windows: Windows, weight_bits: int) -> IntegerModel:
    """Quantize with samples only."""
    samples = samples_of(windows)
    model = PTQModule(network, samples[:1], weight_bits=weight_bits, kept_samples=CALIBRATION)
    return model.calibrate(samples[:: max(1, len(samples) // CALIBRATION)]).convert()


def predict(model: nn.Module | IntegerModel, windows: Windows) -> FloatArray:
    """The outputs for all windows, ``[N, 1]``."""
    with torch.no_grad():
        return np.asarray(model(samples_of(windows)).numpy(), np.float32)


def samples_of(windows: Windows) -> torch.Tensor:
    """The windows as a Conv1d takes them, ``[N, 12, 128]``."""
    return torch.from_numpy(windows.inputs[..., 0])


def _statistics(windows: Windows) -> tuple[float, float]:
    return float(windows.targets.mean()), float(windows.targets.std())


def _train(
    model: nn.Module,
    windows: Windows,
    plan: TrainingPlan,
    to_torque: Callable[[torch.Tensor], torch.Tensor] | None,
    progress: Progress | None,
) -> None:
    """Least squares in units of the torque's standard deviation, with Adam."""
    samples, targets = samples_of(windows), torch.from_numpy(windows.targets)
    deviation = _statistics(windows)[1]
    order = torch.Generator().manual_seed(plan.seed)
    batches = -(-len(samples) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=plan.epochs * batches)
    model.train()
    for epoch in range(plan.epochs):
        for index in torch.randperm(len(samples), generator=order).split(BATCH):
            optimizer.zero_grad()
            given = model(samples[index])
            error = ((given if to_torque is None else to_torque(given)) - targets[index]) / deviation
            error.square().mean().backward()
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress(epoch + 1, plan.epochs)
    model.eval()
