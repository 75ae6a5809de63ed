"""From fused steps to the steps the NPU has: residuals, signs, and which tensors have to share a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from npusim.errors import UnsupportedError
from npusim.torch.fused_network import FusedStep
from npusim.torch.traced import Geometry, OperationKind

__all__ = ["arrange_steps", "scale_groups"]


def arrange_steps(steps: Sequence[FusedStep]) -> list[FusedStep]:
    """Make every step one that the NPU has.

    An addition becomes the residual of a pointwise convolution: of one that ends there, or of one that multiplies by one. What
    is joined is signed everywhere or nowhere. An average whose scale others share becomes a depthwise convolution, which can
    have any gain.

    Raises
    ------
    UnsupportedError
        If flat data is added, or joined where one part is signed and another is not.
    """
    arranged = _with_flat_averages(_with_residuals(steps))
    _mark_signs(arranged)
    arranged = _with_equal_signs(arranged)
    return _with_shared_averages(arranged)


def scale_groups(steps: Sequence[FusedStep]) -> dict[str, str]:
    """For each step the one whose name stands for all that share its scale.

    Residuals have the scale of the sum, all parts of a concatenation that of the whole; pooling for the maximum and flattening
    keep the scale.
    """
    leader = {step.name: step.name for step in steps}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for step in steps:
        shared = step.inputs[1:] if step.has_residual else step.inputs if step.kind in _SHARING else []
        for name in shared:
            leader[find(name)] = find(step.name)
    return {name: find(name) for name in leader}


_SHARING = (OperationKind.MAX_POOL, OperationKind.FLATTEN, OperationKind.CONCAT)


def _with_residuals(steps: Sequence[FusedStep]) -> list[FusedStep]:
    arranged = list(steps)
    for step in steps:
        if step.kind is not OperationKind.ADD:
            continue
        if len(step.shape) < 2:
            raise UnsupportedError(
                f"the addition '{step.name}' is of flat data, for which the NPU has no layer; add before the Flatten"
            )
        known = {other.name: other for other in arranged}
        operands = [known[name] for name in step.inputs]
        own = _ending_pointwise(arranged, operands)
        if own is None:
            own = _identity(step.name, _to_requantize(arranged, operands), step.shape)
            residual = next(name for name in step.inputs if name != own.inputs[0] or step.inputs[0] == step.inputs[1])
        else:
            residual = next(name for name in step.inputs if name != own.name)
            arranged.remove(own)
        position = arranged.index(step)
        arranged[position] = replace(
            own, name=step.name, inputs=[own.inputs[0], residual], shape=step.shape, relu=step.relu, ceiling=step.ceiling
        )
    return arranged


def _readers(steps: Sequence[FusedStep], name: str) -> int:
    return sum(step.inputs.count(name) for step in steps) + (steps[-1].name == name)


def _ending_pointwise(steps: Sequence[FusedStep], operands: Sequence[FusedStep]) -> FusedStep | None:
    """The pointwise convolution among the operands that nothing else reads; the last one, so that the residual is ready."""
    found = [
        step
        for step in steps
        if step in operands
        and step.kind is OperationKind.CONVOLUTION
        and step.geometry is not None
        and step.geometry.kernel_shape == (1, 1)
        and not (step.geometry.transposed or any(step.geometry.pads) or step.has_residual or step.relu)
        and step.geometry.group == 1
        and _readers(steps, step.name) == 1
    ]
    return found[-1] if found else None


def _to_requantize(steps: Sequence[FusedStep], operands: Sequence[FusedStep]) -> FusedStep:
    """The operand whose scale is less free to follow the sum's: one that others read, or the first."""
    return max(operands, key=lambda step: (_readers(steps, step.name), step.kind is not OperationKind.CONVOLUTION))


def _identity(name: str, source: FusedStep, shape: tuple[int, ...]) -> FusedStep:
    """A pointwise convolution that multiplies by one."""
    return FusedStep(name, OperationKind.CONVOLUTION, [source.name], shape, None, Geometry((1, 1), (1, 1)))


def _with_flat_averages(steps: Sequence[FusedStep]) -> list[FusedStep]:
    """An average over everything that is only flattened gives flat data itself."""
    known = {step.name: step for step in steps}
    arranged: list[FusedStep] = []
    for step in steps:
        source = known[step.inputs[0]] if step.kind is OperationKind.FLATTEN else None
        if source is not None and _is_global(source, known) and _readers(steps, source.name) == 1 and source in arranged:
            arranged[arranged.index(source)] = replace(source, name=step.name, shape=step.shape)
        else:
            arranged.append(step)
    return arranged


def _is_global(step: FusedStep, known: Mapping[str, FusedStep]) -> bool:
    if step.kind is not OperationKind.AVERAGE_POOL or step.geometry is None:
        return False
    return step.geometry.area == math.prod(known[step.inputs[0]].shape[1:]) and not any(step.geometry.pads)


def _mark_signs(steps: Sequence[FusedStep]) -> None:
    unsigned: dict[str, bool] = {}
    for step in steps:
        keeps_sign = step.kind in (*_SHARING, OperationKind.AVERAGE_POOL) or (step.module is None and step.batch_norm is None)
        sources = [unsigned[name] for name in step.inputs]
        step.unsigned = step.relu or (keeps_sign and bool(sources) and all(sources))
        unsigned[step.name] = step.unsigned


def _with_equal_signs(steps: Sequence[FusedStep]) -> list[FusedStep]:
    """Where signed and unsigned parts are joined, the unsigned ones are made signed by a multiplication by one."""
    known = {step.name: step for step in steps}
    arranged: list[FusedStep] = []
    for step in steps:
        if step.kind is OperationKind.CONCAT and not step.unsigned:
            for position, name in enumerate(step.inputs):
                if known[name].unsigned:
                    signed = _signed(f"{step.name}.{position}", known[name], step)
                    arranged.append(signed)
                    step.inputs[position] = signed.name
        arranged.append(step)
    return arranged


def _signed(name: str, source: FusedStep, reader: FusedStep) -> FusedStep:
    if len(source.shape) < 2:
        raise UnsupportedError(
            f"the concatenation '{reader.name}' joins signed and unsigned flat data, which has no common code; concatenate "
            "before the Flatten or put a ReLU behind every part"
        )
    geometry = Geometry((1, 1), (1, 1), group=source.shape[0])
    return FusedStep(name, OperationKind.CONVOLUTION, [source.name], source.shape, None, geometry)


def _with_shared_averages(steps: Sequence[FusedStep]) -> list[FusedStep]:
    sharing = _shared_results(steps)
    arranged = []
    for step in steps:
        if step.kind is OperationKind.AVERAGE_POOL and step.name in sharing and step.geometry is not None:
            if len(step.shape) < 2:
                raise UnsupportedError(f"the average pool '{step.name}' is joined as flat data; concatenate before the Flatten")
            step = replace(step, kind=OperationKind.CONVOLUTION, geometry=replace(step.geometry, group=step.shape[0]))  # noqa: PLW2901
        arranged.append(step)
    return arranged


def _shared_results(steps: Sequence[FusedStep]) -> set[str]:
    """Names of the steps whose scale some residual or concatenation shares."""
    groups: Mapping[str, str] = scale_groups(steps)
    strict = {groups[step.name] for step in steps if step.has_residual or step.kind is OperationKind.CONCAT}
    return {name for name, group in groups.items() if group in strict}
