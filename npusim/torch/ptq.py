"""Post-training quantization of an ``nn.Module``: a wrapper that only looks at samples."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from npusim.errors import InputError, UsageError
from npusim.quantization.model import Options
from npusim.quantization.post_training import quantize_network
from npusim.torch.fused_network import float_network, fuse_operations
from npusim.torch.integers import INPUT, OUTPUT, OUTPUTS, IntegerModel
from npusim.torch.samples import batches_of, check_batch
from npusim.torch.tracing import trace_network

__all__ = ["PTQModule"]


class PTQModule(nn.Module):
    """A float network that remembers samples it has seen, and is quantized with them.

    Parameters
    ----------
    network
        The trained float network. It is copied and stays as it is.
    example_input
        A sample at least, on the first axis; only its shape counts.
    weight_bits
        8, 4 or 2.
    activation_bits
        8 or 4; input and output have 8 bits always.
    kept_samples
        So many samples are remembered, the first that are seen.

    Raises
    ------
    UnsupportedError
        If the network has something that the NPU has not; the message names it.
    UsageError
        If a width does not exist.
    InputError
        If the example is empty, holds NaN or infinity, or is all zeros.

    Examples
    --------
    >>> model = PTQModule(network, samples[:1], weight_bits=8)  # doctest: +SKIP
    >>> model.calibrate(samples)  # doctest: +SKIP
    >>> model.convert().export("out.onnx")  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        example_input: torch.Tensor,
        *,
        weight_bits: int = 8,
        activation_bits: int = 8,
        kept_samples: int = 512,
    ) -> None:
        super().__init__()
        self._options = Options(weight_bits, activation_bits)
        check_batch(example_input, None)
        self.network = copy.deepcopy(network).eval()
        self._operations = trace_network(self.network, example_input)
        fuse_operations(self._operations)  # refuses early what cannot be quantized
        self._shape = tuple(int(size) for size in example_input.shape[1:])
        self._kept_samples = kept_samples
        self._samples: list[torch.Tensor] = []

    def train(self, mode: bool = True) -> PTQModule:
        """Stay in evaluation mode: nothing is trained here."""
        super().train(False)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the float network gives; the samples are remembered."""
        self.calibrate(x)
        with torch.no_grad():
            return self.network(x)

    def calibrate(self, samples: torch.Tensor | Iterable[object]) -> PTQModule:
        """Remember samples.

        Parameters
        ----------
        samples
            A tensor, or batches as a data loader gives them (tensors, or tuples whose first entry is one).

        Raises
        ------
        InputError
            If there are none, or they have another shape than the example, hold NaN or infinity, or are all zeros.
        """
        for batch in batches_of(samples, self._shape):
            missing = self._kept_samples - sum(map(len, self._samples))
            if missing > 0:
                self._samples.append(batch[:missing].detach().cpu().clone())
        return self

    def convert(self, *, output: str = "float") -> IntegerModel:
        """Quantize the network with the samples that were seen.

        Parameters
        ----------
        output
            ``"float"``: codes times their scale; ``"int"``: codes.

        Raises
        ------
        UsageError
            If there is no such output.
        InputError
            If too few samples were seen.
        UnsupportedError
            If a parameter is not finite.
        """
        if output not in OUTPUTS:
            raise UsageError(f"output is {output!r}, wanted {' or '.join(repr(name) for name in OUTPUTS)}")
        if not self._samples:
            raise InputError("no samples were seen; call calibrate(samples) first, or run some batches through the module")
        network = float_network(fuse_operations(self._operations), INPUT, OUTPUT)
        samples = torch.cat(self._samples).numpy().astype(np.float32)
        samples = samples[..., None] if samples.ndim == 3 else samples
        options = Options(self._options.weight_bits, self._options.activation_bits, output == "float")
        quantized = quantize_network(network, samples, options)
        return IntegerModel(quantized.content, self._operations[0].shape, self._operations[-1].shape)
