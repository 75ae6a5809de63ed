"""Quantization-aware training: a wrapper around an ``nn.Module``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import nn

from npusim.errors import UsageError
from npusim.program.lowering.tinpu.emitter import emit
from npusim.torch.integers import OUTPUTS, IntegerModel, convert_network
from npusim.torch.network import FakeQuantizedNetwork, WidthPlan
from npusim.torch.samples import batches_of, check_batch
from npusim.torch.tracing import trace_network

__all__ = ["QATModule"]

State: TypeAlias = dict[str, bool]


class QATModule(nn.Module):
    """A network that trains as the NPU will compute it.

    Its forward pass is the integer arithmetic of the converted network, carried by float32; gradients pass the rounding as if
    it were not there. Weights are quantized for each channel, symmetrically and within the narrow range, batch norms are folded
    into them, and all scales are learned. In training mode batch norms follow the batches until they are frozen; with frozen
    batch norms, and always in evaluation mode, the codes are those of the integer network.

    Dropout is left out.

    Parameters
    ----------
    network
        The float network, best trained. It is copied and stays as it is.
    example_input
        Some samples, on the first axis: the more, the better the first scales.
    weight_bits
        8, 4 or 2.
    activation_bits
        8 or 4; input and output have 8 bits always.
    layer_bits
        Weight bits of single layers by the names of their modules, or of their nodes in the file that PyTorch exports: those
        of ``npusim.quantize(..., weight_bits="auto").layer_bits`` fit.
    observer_steps
        For so many batches in training mode the activations' scales follow what they see; then they are learned.
    batch_norm_steps
        After so many batches in training mode batch norms are frozen; None leaves that to `freeze_batch_norm` and `freeze`.

    Raises
    ------
    UnsupportedError
        If the network has something that the NPU has not; the message names it.
    UsageError
        If a width or a name does not exist.
    InputError
        If the example is empty, holds NaN or infinity, or is all zeros.

    Examples
    --------
    >>> model = QATModule(network, samples[:64], weight_bits=4)  # doctest: +SKIP
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # doctest: +SKIP
    >>> for x, y in batches:  # doctest: +SKIP
    ...     optimizer.zero_grad()
    ...     loss(model(x), y).backward()
    ...     optimizer.step()
    >>> model.freeze().convert().export("out.onnx")  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        example_input: torch.Tensor,
        *,
        weight_bits: int = 8,
        activation_bits: int = 8,
        layer_bits: Mapping[str, int] | None = None,
        observer_steps: int = 100,
        batch_norm_steps: int | None = None,
    ) -> None:
        super().__init__()
        widths = WidthPlan(weight_bits, activation_bits, layer_bits)
        widths.check_names(network)
        check_batch(example_input, None)
        operations = trace_network(copy.deepcopy(network), example_input)
        self.quantized = FakeQuantizedNetwork(operations, widths)
        self.quantized.train(network.training)
        self.training = network.training
        self.observer_steps = observer_steps
        self.batch_norm_steps = batch_norm_steps
        self._state: State = {"observers": False, "batch_norm": False, "scales": False}
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("example", example_input[:1].detach().clone(), persistent=False)
        self.calibrate(example_input)

    def calibrate(self, samples: torch.Tensor | Iterable[object]) -> QATModule:
        """Set the scales of all activations by what they are in float on these samples.

        Parameters
        ----------
        samples
            A tensor, or batches as a data loader gives them (tensors, or tuples whose first entry is one).

        Raises
        ------
        InputError
            If there are no samples, or they have another shape than the example, hold NaN or infinity, or are all zeros.
        """
        training = self.quantized.training
        self.quantized.eval()
        with torch.no_grad():
            for count, batch in enumerate(batches_of(samples, tuple(self.example.shape[1:])), start=1):
                self.quantized.exact(batch, observe=True)
                for scale in self.quantized.scales.values():
                    scale.settle(1.0 / count)
        self.quantized.train(training)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Samples to real values, as the converted network with a float output gives them."""
        if self.training:
            self._follow_schedule()
        return self.quantized(x)

    def freeze_observers(self) -> QATModule:
        """Let the scales of activations be learned from now on."""
        self._state["observers"] = True
        self.quantized.freeze_observers()
        return self

    def freeze_batch_norm(self) -> QATModule:
        """Use the running statistics of batch norms from now on: what trains is what will be converted."""
        self._state["batch_norm"] = True
        self.quantized.freeze_batch_norm()
        return self

    def freeze(self) -> QATModule:
        """Freeze batch norms, observers and scales; only weights and biases are still trained."""
        self.freeze_observers().freeze_batch_norm()
        self._state["scales"] = True
        self.quantized.freeze_scales()
        return self

    def convert(self, *, output: str = "float") -> IntegerModel:
        """The network in integers; this module stays as it is.

        Parameters
        ----------
        output
            ``"float"``: codes times their scale; ``"int"``: codes.

        Raises
        ------
        UsageError
            If there is no such output.
        UnsupportedError
            If a parameter is not finite.
        """
        if output not in OUTPUTS:
            raise UsageError(f"output is {output!r}, wanted {' or '.join(repr(name) for name in OUTPUTS)}")
        training = self.quantized.training
        self.quantized.eval()
        draft, scales = convert_network(self.quantized, self.example, float_output=output == "float")
        self.quantized.train(training)
        return IntegerModel(emit(draft, scales), self.quantized.input_shape, self.quantized.output_shape)

    def get_extra_state(self) -> State:
        """What is frozen, for state_dict."""
        return dict(self._state)

    def set_extra_state(self, state: State) -> None:
        """Freeze what was frozen when the state was saved."""
        if state["observers"]:
            self.freeze_observers()
        if state["batch_norm"]:
            self.freeze_batch_norm()
        if state["scales"]:
            self.freeze()

    def _follow_schedule(self) -> None:
        seen = int(self.steps_seen)
        self.steps_seen.add_(1)
        if seen >= self.observer_steps and not self._state["observers"]:
            self.freeze_observers()
        if self.batch_norm_steps is not None and seen >= self.batch_norm_steps and not self._state["batch_norm"]:
            self.freeze_batch_norm()
