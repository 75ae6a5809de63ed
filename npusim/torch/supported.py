"""Which modules can be quantized, and the refusal of all others before anything is run."""

from __future__ import annotations

from typing import Final

import torch
from torch import fx, nn

from npusim.errors import InputError, UnsupportedError

__all__ = [
    "ADAPTIVE_POOLS",
    "AVERAGE_POOLS",
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "MAX_POOLS",
    "PASSED",
    "SUPPORTED",
    "check_example",
    "check_modules",
    "refusal",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
PASSED: Final = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d)
ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
SUPPORTED_MODULES: Final = (
    *CONVOLUTIONS,
    *BATCH_NORMS,
    *PASSED,
    *MAX_POOLS,
    *AVERAGE_POOLS,
    *ADAPTIVE_POOLS,
    nn.Linear,
    nn.ReLU,
    nn.ReLU6,
    nn.Flatten,
)

SUPPORTED = (
    "Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Linear, BatchNorm1d, BatchNorm2d, ReLU, ReLU6, MaxPool, AvgPool, "
    "AdaptiveAvgPool, Flatten, Dropout, Identity, additions and concatenations"
)


def check_modules(traced: fx.GraphModule) -> None:
    """Refuse modules that cannot be quantized, before anything is run; those that the network never calls do not matter."""
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        module = modules[node.target]
        if not isinstance(module, SUPPORTED_MODULES):
            raise refusal(node.target, module, f"cannot be quantized; supported are {SUPPORTED}")
        if isinstance(module, CONVOLUTIONS):
            _check_padding(node.target, module)


def check_example(network: nn.Module, example: torch.Tensor) -> None:
    """Refuse an example that the network does not take."""
    try:
        with torch.no_grad():
            network(example)
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the network does not take the example of shape {tuple(example.shape)} ({message}); give samples like those it is "
            "trained with"
        ) from error


def _check_padding(name: str, module: nn.Module) -> None:
    if module.padding_mode != "zeros":
        raise refusal(name, module, f"pads with '{module.padding_mode}', wanted zeros")
    if module.padding == "same" and any(
        (size - 1) * step % 2 for size, step in zip(module.kernel_size, module.dilation, strict=True)
    ):
        raise refusal(name, module, "pads unevenly (padding='same' with an even kernel); give the padding in numbers")


def refusal(place: fx.Node | str, module: nn.Module, reason: str) -> UnsupportedError:
    """The error for a module that cannot be quantized."""
    name = place if isinstance(place, str) else place.target
    return UnsupportedError(f"the module '{name}' ({type(module).__name__}) {reason}")
