"""Networks that between them hold everything that `npusim.torch` takes, each with the shape of its samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

__all__ = ["NETWORKS", "prepared"]


class Everything(nn.Module):
    """Batch norm in front, residuals of both kinds, a concatenation of mixed signs, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(4)
        self.conv, self.norm = nn.Conv2d(4, 8, (3, 1), padding=(1, 0), bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.norm2 = nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8), nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.pool, self.relu, self.dropout = nn.MaxPool2d((2, 1)), nn.ReLU(), nn.Dropout(0.3)
        self.generic = nn.Conv2d(8, 8, (3, 1), padding=(1, 0))
        self.up = nn.ConvTranspose2d(16, 8, (2, 1), stride=(2, 1))
        self.average, self.dense = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norm(self.conv(self.first(x)))))
        x = self.relu(self.pointwise(self.relu(self.norm2(self.depthwise(x)))) + x)
        x = torch.cat([x, self.generic(x) + x], 1)
        x = self.relu(self.up(self.dropout(x)))
        return self.dense(torch.flatten(self.average(x), 1))


class Calls(nn.Module):
    """Functions and methods instead of modules, on one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 8, 5, padding="same"), nn.BatchNorm1d(8)
        self.wide, self.narrow = nn.Conv1d(8, 8, 3, padding=2, dilation=2), nn.Conv1d(8, 8, 3, stride=2, padding=1, groups=2)
        self.dense = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.norm(self.conv(x)))
        x = F.max_pool1d(F.relu(self.wide(x)), 3, stride=2, padding=1)
        x = F.avg_pool1d(self.narrow(x), 2)
        x = F.dropout(x, 0.2, self.training).mean(-1)
        return self.dense(x.view(x.size(0), -1))


class SharedAverages(nn.Module):
    """Averages joined with other data, so that they cannot choose their scale; a residual of a tensor with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        x = torch.cat([F.avg_pool2d(x, 3, stride=2, padding=1), torch.relu(self.other(x))], 1)
        x = self.last(x)
        return x + x


class PreActivation(nn.Module):
    """Batch norms and activations that stand alone, in front of convolutions; the output has spatial axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 3, padding=1)
        self.down, self.up = nn.Conv1d(8, 8, 1, stride=2), nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1, groups=2)
        self.norm2 = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.conv(F.relu(self.norm(x))) + x
        return self.norm2(self.up(F.relu(self.down(x))))


def dense() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm1d(12), nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU6(), nn.Identity(), nn.Linear(16, 3)
    )


def image() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 4), nn.ReLU()
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "everything": (Everything, (4, 32, 1)),
    "calls": (Calls, (2, 40)),
    "shared_averages": (SharedAverages, (4, 9, 9)),
    "pre_activation": (PreActivation, (4, 22)),
    "dense": (dense, (12,)),
    "image": (image, (1, 28, 28)),
}


def prepared(name: str, samples: int = 48) -> tuple[nn.Module, torch.Tensor]:
    """A network whose batch norms have seen data, in evaluation mode, and samples."""
    torch.manual_seed(len(name))
    make, shape = NETWORKS[name]
    network = make()
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter.dim() == 1 and "weight" in parameter_name:  # gains of batch norms: some negative
                parameter.copy_(torch.randn_like(parameter) + 0.5)
        for _ in range(20):
            network(torch.randn(32, *shape) * 2 + 1)
    return network.eval(), torch.randn(samples, *shape) * 2 + 1
