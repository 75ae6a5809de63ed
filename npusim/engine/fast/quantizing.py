"""Quantize stages: float32 values in ONNX layout become codes with the samples on the last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from npusim.engine.fast.hosting import binary_function
from npusim.engine.fast.workspace import GAP, Buffer, Workspace, to_samples_last
from npusim.engine.reference import check_codes
from npusim.errors import InternalMismatchError
from npusim.graph import Array, Node
from npusim.kernels.samples_last import Call
from npusim.program import Program, QuantizeStage

__all__ = ["Operation", "merged", "quantize_stage_calls"]

FloatArray = npt.NDArray[Any]

FEW_CHANNELS: Final = 16
"""Channels up to which each is turned round by itself: all at once, what is read twice has left the cache in between."""

BLOCK_VALUES: Final = 2**16
"""Values computed at a time: a part of the second-level cache."""

FEWEST_SAMPLES: Final = 64
"""Samples of a block at least: rows to turn round that are shorter take longer."""

SMALLEST_OFFSET: Final = 2.0**-60
SMALLEST_FACTOR: Final = 2.0**-40
SMALLEST_POWER: Final = 2.0**-64
"""What :func:`merged` asks of constants."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a stage: a NumPy function of a value and a constant.

    Attributes
    ----------
    function
        Of two operands.
    constant
        In ONNX layout.
    constant_first
        Whether the constant is the first operand.
    """

    function: np.ufunc
    constant: Array
    constant_first: bool

    def call(self, values: FloatArray, constant: FloatArray, out: FloatArray) -> Call:
        """The call on `values`, with the constant in a shape of the caller's choice."""
        operands = (constant, values) if self.constant_first else (values, constant)
        return partial(self.function, *operands, out)


def quantize_stage_calls(stage: QuantizeStage, program: Program, workspace: Workspace) -> list[Call]:
    """The calls that compute a quantize stage into its output buffer.

    All operations are made in ONNX layout, where the input comes from, with constants spread out over a whole sample; then the
    codes are turned round. So many samples at a time stay in the cache.
    """
    output, shape = workspace.buffers[stage.output], program.tensors[stage.output].shape
    operations = [
        (operation, np.ascontiguousarray(np.broadcast_to(operation.constant, (1, *shape[1:]))))
        for operation in merged(_operations(stage, program))
    ]
    ends = [np.array(end, np.float32) for end in (stage.clip.lower, stage.clip.upper)]
    size = _block(workspace.samples, math.prod(shape[1:]))
    memory, calls = _rows(size, shape[1:]), list[Call]()
    for start in range(0, workspace.samples, size):
        rows = memory[: workspace.samples - start]
        samples = slice(start, start + len(rows))
        calls.append(_on_input(workspace, stage.input, samples, operations[0] if operations else None, rows))
        calls += [operation.call(rows, constant, rows) for operation, constant in operations[1:]]
        calls += [partial(np.rint if stage.nearest else np.floor, rows, rows), partial(rows.clip, *ends, rows)]
        calls += _turning_calls(to_samples_last(rows), output.inner[..., samples])
    return [*calls, partial(_check_clipped, stage.output, output)]


def merged(operations: Sequence[Operation]) -> list[Operation]:
    """Operations with a multiplication by powers of two taken into the multiplication before it, where that changes no code.

    ``(v * m) * 2**-n`` is ``v * (m * 2**-n)`` to the bit unless something is smaller than normal numbers or overflows. Behind
    an addition of at least 2**-60 nothing is too small: the sum is zero or at least 2**-85, since either both terms are
    multiples of that or one is less than half of the other; times a factor of at least 2**-40 it is a normal number. What
    overflows before a shift of at most 64 bits lies beyond every clip after it, too.

    Examples
    --------
    >>> made = [Operation(np.add, np.float32(3), False), Operation(np.multiply, np.float32(5), False)]
    >>> [float(operation.constant) for operation in merged([*made, Operation(np.multiply, np.float32(0.25), False)])]
    [3.0, 1.25]
    """
    if len(operations) != 3:
        return list(operations)
    first, second, third = operations
    offset, factor, power = (np.abs(operation.constant).astype(np.float64) for operation in operations)
    product = np.multiply(second.constant, third.constant, dtype=np.float32)
    fits = (
        first.function in (np.add, np.subtract)
        and second.function is third.function is np.multiply
        and bool((offset >= SMALLEST_OFFSET).all())
        and bool(((power >= SMALLEST_POWER) & (power <= 1) & (np.frexp(power)[0] == 0.5)).all())
        and bool(((np.abs(product) >= SMALLEST_FACTOR) | (factor == 0)).all())
        and bool(np.isfinite(factor).all())
    )
    return [first, Operation(np.multiply, product, False)] if fits else list(operations)


def _operations(stage: QuantizeStage, program: Program) -> list[Operation]:
    """What comes before the rounding."""
    return [_operation(node, program) for node in stage.nodes[: stage.nodes.index(stage.floor)]]


def _operation(node: Node, program: Program) -> Operation:
    first, function = node.inputs[0] in program.constants, binary_function(node)
    if function is None:
        raise InternalMismatchError(f"{node} is not part of a quantize stage; please report this")
    return Operation(function, program.constants[node.inputs[0 if first else 1]], first)


def _on_input(
    workspace: Workspace, name: str, samples: slice, first: tuple[Operation, FloatArray] | None, out: FloatArray
) -> Call:
    """The first operation on an input of the run, which is another array each time, or a copy of it."""

    def run() -> None:
        values = workspace.stored(name)[samples]
        if first is None:
            np.copyto(out, values)
        else:
            operation, constant = first
            operation.call(values, constant, out)()

    return run


def _turning_calls(values: FloatArray, output: FloatArray) -> list[Call]:
    """The calls that read across memory and write along it."""
    channels, samples = output.shape[-2:]
    if channels > FEW_CHANNELS or samples == 1:
        return [partial(np.copyto, output, values)]
    return [partial(np.copyto, output[..., channel, :], values[..., channel, :]) for channel in range(channels)]


def _check_clipped(name: str, output: Buffer) -> None:
    """Refuse NaN among clipped codes: the sum of their squares, which is quick to have, is NaN then and else finite."""
    if not math.isfinite(np.dot(output.memory, output.memory)):
        check_codes(name, output.inner)


def _block(samples: int, values: int) -> int:
    """Samples that are computed at a time, by the values of one."""
    return min(samples, max(BLOCK_VALUES // values // FEWEST_SAMPLES, 1) * FEWEST_SAMPLES)


def _rows(samples: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Memory for samples, each of them a little apart from the next."""
    memory = np.empty((samples, math.prod(shape) + GAP), np.float32)
    inner = np.empty(shape, np.float32).strides
    return as_strided(memory, (samples, *shape), (memory.strides[0], *inner))
