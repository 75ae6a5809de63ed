"""The quantizer in front of a network of the family as a stage of its program, so that real samples are its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from npusim.errors import UsageError
from npusim.graph import Array, Attribute, Node
from npusim.kernels.input_quantizer import input_factor, quantize_input
from npusim.kernels.requantize import codes_dtype
from npusim.program.layers import IntegerLayer
from npusim.program.program import HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import Clip

__all__ = ["InputAlpha", "ends_by_input", "quantizer_nodes", "with_input_quantizers"]

InputAlpha = float | tuple[float, float] | Mapping[str, float | tuple[float, float]]
"""The trained end of the range, from 0 on, or both ends; or these by the name of the input."""

BOUNDS_ARE_INPUTS = 11
"""From this opset on the bounds of a saturation are inputs."""


def with_input_quantizers(program: Program, alpha: InputAlpha) -> Program:
    """A program whose inputs are real: ``floor((2**bits - 1) / (high - low + 0.001) * clamp(x, low, high))`` stands in front.

    Where `low` is 0 and the codes are signed, half of their range is subtracted, as MAUPITI wants it.

    Parameters
    ----------
    program
        The program of a file of the family.
    alpha
        Ends of the quantizers.

    Raises
    ------
    UsageError
        If an end is not finite, the ends do not lie around 0, an input is unknown or has an integer type.
    """
    ends = ends_by_input(program.inputs, alpha)
    steps: list[Step] = []
    constants, tensors = dict(program.constants), dict(program.tensors)
    renamed: dict[str, str] = {}
    for name, (low, high) in ends.items():
        held = program.tensors[name]
        if held.dtype.kind != "f":
            raise UsageError(f"input '{name}' is declared {held.dtype} and takes codes only; leave out its alpha")
        renamed[name] = f"{name}/codes"
        shift = _shift(held, low)
        stage, more = _stage(program, name, low, high, f"{name}/unsigned" if shift else renamed[name])
        steps.append(stage)
        constants.update(more)
        tensors[name] = replace(held, stored=held.dtype, lower=-np.inf, upper=np.inf)
        for node in stage.nodes[:-1]:
            inner = node.outputs[0]
            tensors[inner] = replace(tensors[name], name=inner)
        kind = codes_dtype(stage.clip.lower, stage.clip.upper)
        tensors[stage.output] = replace(
            held, name=stage.output, stored=kind, lower=float(stage.clip.lower), upper=float(stage.clip.upper)
        )
        if shift:
            constants[f"{name}/shift"] = np.array(shift, np.float32)
            node = Node("Sub", f"{name}/quantizer/Sub", (stage.output, f"{name}/shift"), (renamed[name],))
            steps.append(
                HostOperation(node.name, node.op_type, node, "it moves the input's codes to where the model wants them")
            )
            low_code, high_code = stage.clip.lower - shift, stage.clip.upper - shift
            tensors[renamed[name]] = replace(held, name=renamed[name], lower=float(low_code), upper=float(high_code))
    steps += [_reading(step, renamed) for step in program.steps]
    aliases = {name: renamed.get(target, target) for name, target in program.aliases.items()}
    return replace(program, steps=tuple(steps), constants=constants, tensors=tensors, aliases=aliases)


def quantizer_nodes(program: Program) -> dict[str, tuple[Node, ...]]:
    """The nodes of the quantizers that :func:`with_input_quantizers` has put in front of a program, by the input."""
    found = {}
    for step in program.steps:
        # a file taken literally may have stages of its own
        if isinstance(step, QuantizeStage) and step.nodes[0].name == f"{step.input}/quantizer/Mul":
            behind = [one.node for one in program.host_operations if one.node.name == f"{step.input}/quantizer/Sub"]
            found[step.input] = (*step.nodes, *behind)
    return found


def ends_by_input(inputs: Sequence[str], alpha: InputAlpha) -> dict[str, tuple[float, float]]:
    """Both ends of each quantizer.

    Raises
    ------
    UsageError
        If an end is not finite, the ends do not lie around 0, or an input is unknown.
    """
    given = alpha if isinstance(alpha, Mapping) else dict.fromkeys(inputs, alpha)
    found = {}
    for name, ends in given.items():
        if name not in inputs:
            raise UsageError(f"input_alpha names '{name}', wanted {', '.join(inputs)}")
        low, high = ends if isinstance(ends, tuple) else (0.0, ends)
        if not np.isfinite([low, high]).all() or not low <= 0 < high:
            raise UsageError(f"input_alpha is {ends} for '{name}', wanted a number above 0, or two around 0")
        found[name] = (float(low), float(high))
    return found


def _bits(held: Tensor) -> int:
    return int(held.upper - held.lower).bit_length()


def _shift(held: Tensor, low: float) -> int:
    """What is subtracted from codes from 0 on, where the model's own are signed."""
    return 1 << (_bits(held) - 1) if held.lower < 0 and low == 0 else 0


def _stage(program: Program, name: str, low: float, high: float, output: str) -> tuple[QuantizeStage, dict[str, Array]]:
    bits = _bits(program.tensors[name])
    first, last = (int(quantize_input(np.array(end), low, high, bits)) for end in (low, high))
    factor = input_factor(low, high, bits)
    numbers: dict[str, Array] = {f"{name}/factor": np.array(factor)}
    bounds: dict[str, Array] = {
        f"{name}/lowest": np.array(first, np.float32), f"{name}/highest": np.array(last, np.float32)
    }  # fmt: skip
    # saturating whole numbers is saturating the input: multiplication and floor are monotone
    nodes = [
        Node("Mul", f"{name}/quantizer/Mul", (name, f"{name}/factor"), (f"{name}/scaled",)),
        Node("Floor", f"{name}/quantizer/Floor", (f"{name}/scaled",), (f"{name}/floor",)),
    ]
    attributes: dict[str, Attribute] = {}
    sources: tuple[str, ...] = (f"{name}/floor",)
    if program.opset < BOUNDS_ARE_INPUTS:
        attributes = {"min": float(first), "max": float(last)}
    else:
        sources, numbers = (*sources, *bounds), {**numbers, **bounds}
    nodes.append(Node("Clip", f"{name}/quantizer/Clip", sources, (output,), attributes))
    offset, multiplier = np.zeros(()), np.array(float(factor))
    return QuantizeStage(nodes[0].name, name, output, tuple(nodes), offset, multiplier, Clip(first, last)), numbers


def _reading(step: Step, renamed: Mapping[str, str]) -> Step:
    """A step that reads codes where it read an input."""
    if isinstance(step, IntegerLayer):
        return replace(step, inputs=tuple(renamed.get(name, name) for name in step.inputs))
    if isinstance(step, HostOperation):
        return replace(step, node=replace(step.node, inputs=tuple(renamed.get(name, name) for name in step.node.inputs)))
    return step
