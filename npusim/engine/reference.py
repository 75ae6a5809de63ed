"""The reference engine: plain integer arithmetic in int64, one step after the other, obviously right and slow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Array
from npusim.program import (
    Accumulating,
    HostOperation,
    IntegerArray,
    IntegerLayer,
    Program,
    QuantizeStage,
    ResidualTap,
    Step,
    Tensor,
)
from npusim.program.accumulation import accumulate
from npusim.program.direct import direct_codes

__all__ = [
    "as_stored",
    "check_codes",
    "finish_layer",
    "inner_tensors",
    "run_layer",
    "run_step",
    "run_steps",
]


def run_steps(program: Program, feeds: Mapping[str, Array], wanted: Iterable[str]) -> dict[str, Array]:
    """Run a program on stacked samples.

    Parameters
    ----------
    program
        The program; its `batching` must allow the number of samples on the first axis.
    feeds
        Arrays for the program's inputs in their declared element types.
    wanted
        Names of tensors to return, aliases resolved.

    Returns
    -------
    dict
        The wanted tensors as stored: integer codes where proven integers, else the graph's type.
    """
    targets = set(wanted)
    last_use = {name: index for index, step in enumerate(program.steps) for name in program.inputs_of(step)}
    values: dict[str, Array] = {name: feeds[name] for name in program.inputs}
    results = {name: values[name].copy() for name in targets & set(values)}
    results.update({name: program.constants[name] for name in targets if name in program.constants})
    for index, step in enumerate(program.steps):
        produced = run_step(program, step, values, targets)
        results.update({name: value for name, value in produced.items() if name in targets})
        values.update({name: produced[name] for name in step.tensors if name in produced})
        for name in (*program.inputs_of(step), *step.tensors):
            if last_use.get(name, -1) <= index:
                values.pop(name, None)
    return results


def run_step(program: Program, step: Step, values: Mapping[str, Array], targets: set[str]) -> dict[str, Array]:
    """Compute one step's results, and those of its inner tensors that are targets, from the values of its inputs."""
    if isinstance(step, IntegerLayer):
        return run_layer(step, [values[name] for name in step.inputs], targets, program)
    declared = {name: _as_computed(program.tensors[name], values[name]) for name in program.inputs_of(step)}
    if isinstance(step, QuantizeStage):
        return _stored(program, program.stage_values(step, declared[step.input]), step.tensors)
    if isinstance(step, HostOperation):
        return _stored(program, program.host_values(step, declared), step.tensors)
    assert_never(step)


def run_layer(layer: IntegerLayer, inputs: list[Array], targets: set[str], program: Program) -> dict[str, Array]:
    """Compute an integer layer's codes, and its inner tensors that are targets.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs, samples on the first axis.
    targets
        Names of wanted inner tensors.
    program
        Gives the element types the results are held in.
    """
    codes = [values.astype(np.int64) for values in inputs]
    if isinstance(layer, Accumulating):
        return finish_layer(layer, accumulate(layer, codes), codes, targets, program)
    return {layer.output: direct_codes(layer, codes).astype(program.tensors[layer.output].stored)}


def finish_layer(
    layer: Accumulating, accumulator: IntegerArray, codes: Sequence[IntegerArray], targets: set[str], program: Program
) -> dict[str, Array]:
    """Compute a layer's codes and wanted inner tensors from its accumulator.

    Parameters
    ----------
    layer
        A layer that requantizes.
    accumulator
        int64, samples on the first axis.
    codes
        Its inputs; the residual is read from them.
    targets
        Names of wanted inner tensors.
    program
        Gives the element types the results are held in.
    """
    residual = layer.residual_of(codes)
    output = layer.finish(layer.requantization.unclipped(accumulator, layer.channel_axis), residual)
    results = {layer.output: output.astype(program.tensors[layer.output].stored)}
    return {**results, **inner_tensors(layer, accumulator, residual, targets, program)}


def inner_tensors(
    layer: Accumulating, accumulator: IntegerArray, residual: IntegerArray | None, targets: set[str], program: Program
) -> dict[str, Array]:
    """Compute a layer's wanted inner tensors from its accumulator and the residual, where it has one.

    The other parameters are as for :func:`finish_layer`.
    """
    results: dict[str, Array] = {}
    total: IntegerArray | None = None
    if residual is not None and any(isinstance(tap, ResidualTap) and tap.tensor in targets for tap in layer.taps):
        total = layer.before_clip(layer.requantization.unclipped(accumulator, layer.channel_axis), residual)
    for tap in layer.taps:
        if tap.tensor in targets or tap.handed_out:
            value = tap.values(accumulator, layer.channel_axis, total)
            results[tap.tensor] = value.astype(program.tensors[tap.tensor].stored).reshape(
                -1, *program.tensors[tap.tensor].shape[1:]
            )
    return results


def _as_computed(tensor: Tensor, held: Array) -> Array:
    """Values in the element type in which the graph is computed: that of the graph, and float32 for float16."""
    return held.astype(np.float32, copy=False) if tensor.dtype == np.float16 else tensor.as_declared(held)


def _stored(program: Program, values: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    return {name: as_stored(name, program, values[name]) for name in names}


def as_stored(name: str, program: Program, values: Array) -> Array:
    """A tensor of the graph as the program holds it: in its element type, codes less their zero point.

    Raises
    ------
    UnsupportedError
        If it is to hold codes and is not finite.
    """
    tensor = program.tensors[name]
    if tensor.stored.kind != values.dtype.kind:
        check_codes(name, values)
    return tensor.as_held(values).astype(tensor.stored, copy=False)


def check_codes(name: str, values: Array) -> None:
    """Make sure that floats that are to be codes are numbers.

    Raises
    ------
    UnsupportedError
        If one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise UnsupportedError(
            f"tensor '{name}' comes out as NaN, which is not a code; a value before it is beyond what float32 can compute"
        )
