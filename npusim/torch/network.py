"""A whole network of fake-quantized steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from npusim.errors import UsageError
from npusim.torch.arrangement import arrange_steps, scale_groups
from npusim.torch.fused_network import FusedStep, fuse_operations
from npusim.torch.scales import ActivationScale
from npusim.torch.steps import AveragePoolStep, Codes, ConcatStep, FlattenStep, InputStep, MaxPoolStep, Step
from npusim.torch.traced import Operation, OperationKind
from npusim.torch.weighted import WeightedStep

__all__ = ["FakeQuantizedNetwork", "WidthPlan"]

EDGE_BITS = 8
"""Width of the codes that come from the input and go to the output, whatever those between have."""


class WidthPlan:
    """Which step has which widths.

    Parameters
    ----------
    weight_bits
        8, 4 or 2.
    activation_bits
        8 or 4, of all codes but those of the input and the output.
    layer_bits
        Weight bits of single layers, by the names of their modules, or of their nodes in an exported file.

    Raises
    ------
    UsageError
        If the NPU has no such widths.
    """

    def __init__(self, weight_bits: int, activation_bits: int, layer_bits: Mapping[str, int] | None = None) -> None:
        self.layer_bits = dict(layer_bits or {})
        for name, bits in {"weight_bits": weight_bits, **self.layer_bits}.items():
            if bits not in (2, 4, 8):
                raise UsageError(f"{name} is {bits!r}, wanted 8, 4 or 2")
        if activation_bits not in (4, 8):
            raise UsageError(f"activation_bits is {activation_bits!r}, wanted 8 or 4")
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits

    def check_names(self, network: nn.Module) -> None:
        """Take names of nodes for those of their modules, and refuse what no module has."""
        known = dict(network.named_modules())
        resolved: dict[str, int] = {}
        for name, bits in self.layer_bits.items():
            found = [name] if name in known else [module for module in known if module and _is_node_of(name, module)]
            if len(found) != 1:
                listed = ", ".join(key for key, module in known.items() if hasattr(module, "weight"))
                raise UsageError(f"layer_bits names '{name}', but there is no such module; modules with weights are {listed}")
            resolved[found[0]] = bits
        self.layer_bits = resolved

    def of_weights(self, name: str) -> int:
        """Weight bits of a step."""
        return self.layer_bits.get(name, self.weight_bits)


class FakeQuantizedNetwork(nn.Module):
    """Steps in execution order; what flows between them are codes.

    Parameters
    ----------
    operations
        The traced network.
    widths
        Bits of weights and activations.
    """

    def __init__(self, operations: Sequence[Operation], widths: WidthPlan) -> None:
        super().__init__()
        fused = arrange_steps(fuse_operations(operations))
        groups = scale_groups(fused)
        self.scales = nn.ModuleDict({_key(name): ActivationScale() for name in dict.fromkeys(groups.values())})
        edges = {groups[fused[-1].name], *(groups[step.name] for step in fused if step.kind is OperationKind.INPUT)}
        module_names = {id(operation.module): operation.name for operation in operations if operation.module is not None}
        self.steps = nn.ModuleList()
        for step in fused:
            bits = EDGE_BITS if groups[step.name] in edges else widths.activation_bits
            weight_bits = widths.of_weights(module_names.get(id(step.module), step.name))
            self.steps.append(_make_step(step, self.scales[_key(groups[step.name])], bits, weight_bits))
        self.input_shape = operations[0].shape
        self.output_shape = operations[-1].shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Samples to real values, in the shapes of the traced network."""
        result = self.codes(x)[self.steps[-1].label].real
        if self.training:
            for scale in self.scales.values():
                scale.settle()
        return result.reshape(len(x), *self.output_shape)

    def codes(self, x: torch.Tensor) -> dict[str, Codes]:
        """The codes that each step gives."""
        values: dict[str, Codes] = {}
        for step in self.steps:
            inputs = [values[name] for name in step.sources] if step.sources else [self.lifted(x)]
            values[step.label] = step(*inputs)
        return values

    def exact(self, x: torch.Tensor, *, observe: bool = False) -> torch.Tensor:
        """The network in float, batch norms with running statistics; with `observe`, scales see what they have to cover."""
        values: dict[str, torch.Tensor] = {}
        for step in self.steps:
            inputs = [values[name] for name in step.sources] if step.sources else [self.lifted(x)]
            values[step.label] = step.exact(*inputs)
            if observe:
                step.observe(values[step.label])
        return values[self.steps[-1].label].reshape(len(x), *self.output_shape)

    def lifted(self, x: torch.Tensor) -> torch.Tensor:
        """Samples with four axes where those of the network have three: the width is 1."""
        return x[..., None] if len(self.input_shape) == 2 else x

    def weighted_steps(self) -> Iterator[WeightedStep]:
        """Steps with weights."""
        return (step for step in self.steps if isinstance(step, WeightedStep))

    def freeze_observers(self) -> None:
        """Observe no more; from now on the scales are learned."""
        for scale in self.scales.values():
            scale.observing = False

    def freeze_batch_norm(self) -> None:
        """Use the running statistics from now on, as the converted network will."""
        for step in self.steps:
            if isinstance(step, WeightedStep | InputStep):
                step.freeze_batch_norm()

    def freeze_scales(self) -> None:
        """Learn no more scales."""
        for scale in self.scales.values():
            scale.freeze()
        for step in self.weighted_steps():
            step.freeze_scales()


def _is_node_of(node: str, module: str) -> bool:
    """Whether PyTorch's exporter gives a node of a module such a name.

    The name has a part for each module that is called around the node, named as its attribute, or for the modules of a
    Sequential by the container and the position, then the operator.

    Examples
    --------
    >>> _is_node_of("/features/features.0/Conv", "features.0"), _is_node_of("/block/conv/Conv", "block.conv")
    (True, True)
    """
    attributes = module.split(".")
    parts = []
    for index, attribute in enumerate(attributes):
        first = index
        while attributes[first].isdigit() and first:
            first -= 1
        parts.append(".".join(attributes[first : index + 1]) if attribute.isdigit() else attribute)
    left = iter(parts)
    named = node.split("/")[1:-1]
    return named[-1:] == parts[-1:] and all(part in left for part in named)


def _key(name: str) -> str:
    """A module's name in a form that a module dictionary takes."""
    return name.replace(".", "/")


def _make_step(fused: FusedStep, scale: ActivationScale, activation_bits: int, weight_bits: int) -> Step:
    if fused.kind is OperationKind.INPUT:
        return InputStep(fused, scale, activation_bits)
    if fused.kind in (OperationKind.CONVOLUTION, OperationKind.LINEAR):
        return WeightedStep(fused, scale, activation_bits, weight_bits)
    if fused.kind is OperationKind.AVERAGE_POOL:
        return AveragePoolStep(fused, scale, activation_bits, weight_bits)
    steps = {OperationKind.MAX_POOL: MaxPoolStep, OperationKind.FLATTEN: FlattenStep, OperationKind.CONCAT: ConcatStep}
    step: Step = steps[fused.kind](fused, scale, activation_bits)
    return step
