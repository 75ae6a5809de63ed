"""The integer program against onnxruntime: codes of every layer, with the arithmetic of both sides where they diverge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from npusim.engine.reference import run_step
from npusim.errors import InputError
from npusim.graph import Array
from npusim.program import HostOperation, IntegerLayer, Program, Step
from npusim.rounding import is_free, rounding_limit
from npusim.second_opinion import SecondOpinion, runtime_version
from npusim.session import InferenceSession
from npusim.trace import step_kind
from npusim.verification.arithmetic import explain_step
from npusim.verification.comparison import Divergence, ExactComparison, Progress, sample_chunks
from npusim.verification.differences import LayerDifferences

__all__ = ["compare_with_runtime"]

CHUNK = 16
"""Samples compared at once; onnxruntime takes them one by one anyway."""


def compare_with_runtime(
    session: InferenceSession, feeds: Mapping[str, Array], *, progress: Progress | None = None
) -> ExactComparison:
    """Compare a model's codes with those that onnxruntime computes in float32 from the same graph, without optimizations.

    All values have to be equal. Only a float32 sum on the host may be rounded in another order: it has to agree within the
    limit that follows from its operands, and what is behind it has to be equal given onnxruntime's own inputs.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    progress
        Called after each part of the samples.

    Raises
    ------
    InputError
        If the inputs do not fit the model.
    ModelError
        If onnxruntime refuses the model.
    """
    program = session.program
    known = [name for name in program.tensors if name not in program.inputs]
    fixed = [name for name in known if program.resolve(name) in program.constants]
    runtime = SecondOpinion(session.model, known, constants=fixed)
    rows = _rows(program)
    result = ExactComparison(("npusim", f"onnxruntime {runtime_version()}"), layers=[row for _, row in rows])
    kept: dict[str, tuple[int, dict[str, Array]]] = {}
    for start, chunk, total in sample_chunks(program, feeds, CHUNK):
        ours = session.trace(chunk)
        theirs = {**runtime.run(chunk), **chunk}
        for step, row in rows:
            _take(program, step, row, ours, theirs, start)
            if row.first is not None and row.name not in kept:
                at = row.first.sample - start
                kept[row.name] = (at, {name: theirs[name][at] for name in (*program.inputs_of(step), *step.tensors)})
        result.samples = start + len(next(iter(chunk.values())))
        if progress is not None:
            progress(result.samples, total)
    if not result.elements:
        raise InputError(f"{session.model.label} has no integer layer to compare with onnxruntime's")
    first = result.first_differing
    if first is not None:
        result.divergence = _divergence(program, {row.name: step for step, row in rows}[first.name], first, kept, result.names)
    return result


def _rows(program: Program) -> list[tuple[Step, LayerDifferences]]:
    """What is compared: integer layers, quantize stages, and host operations that give outputs or floats in a free order."""
    outputs = {program.resolve(name) for name in program.outputs}
    free: set[str] = set()
    rows = []
    for step in program.steps:
        behind = any(name in free for name in program.inputs_of(step))
        loose = isinstance(step, HostOperation) and is_free(step.node) and not program.tensors[step.tensors[0]].is_integer
        if loose or behind:
            free.update(step.tensors)
        if not isinstance(step, HostOperation) or loose or outputs & set(step.tensors):
            comparison = "bounded" if loose else "exact_given_inputs" if behind else "exact"
            rows.append((step, LayerDifferences(step.name, step_kind(step), step.tensors[-1], comparison=comparison)))
    return rows


def _take(
    program: Program,
    step: Step,
    row: LayerDifferences,
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    start: int,
) -> None:
    if row.comparison == "exact":
        row.take(ours[row.tensor], theirs[row.tensor], start)
        return
    inputs = {name: theirs[name].astype(program.tensors[name].stored) for name in program.inputs_of(step)}
    local = run_step(program, step, inputs, {row.tensor})[row.tensor]
    row.take(
        local, theirs[row.tensor], start, limits=_limits(program, step, inputs, local) if row.comparison == "bounded" else None
    )


def _limits(program: Program, step: Step, inputs: Mapping[str, Array], result: Array) -> npt.NDArray[np.float64] | None:
    if not isinstance(step, HostOperation):
        return None
    constants = {name: program.constants[name] for name in step.node.inputs if name in program.constants}
    declared = {name: values.astype(program.tensors[name].dtype, copy=False) for name, values in inputs.items()}
    return rounding_limit(step.node, {**constants, **declared}, result, program.opset)


def _divergence(
    program: Program,
    step: Step,
    row: LayerDifferences,
    kept: Mapping[str, tuple[int, Mapping[str, Array]]],
    names: tuple[str, str],
) -> Divergence:
    """The first difference with npusim's arithmetic and onnxruntime's inner values.

    Everything before the first layer that differs is equal (or given), so that onnxruntime's inputs are npusim's.
    """
    if row.first is None or isinstance(step, HostOperation):
        return Divergence(row, names=names)
    values = kept[row.name][1]
    inputs = {name: values[name].astype(program.tensors[name].stored) for name in program.inputs_of(step)}
    arithmetic = explain_step(program, step, inputs, row.first.sample, row.first.index)
    inner = {}
    if isinstance(step, IntegerLayer):
        flat = int(np.ravel_multi_index(row.first.index, step.output_shape[1:]))
        inner = {tensor: float(values[tensor].reshape(-1)[flat]) for tensor in step.tensors if values[tensor].size > flat}
    return Divergence(row, arithmetic, other_values=inner, names=names)
