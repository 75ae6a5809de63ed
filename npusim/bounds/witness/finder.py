"""Where a statement about a layer is not proven: find an input at which it fails, first of the layer, then of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from npusim.bounds.certificate import certify
from npusim.bounds.verdicts import Property
from npusim.bounds.witness.results import NoWitness, Witness
from npusim.bounds.witness.task import prepare
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.graph import Array
from npusim.program import Accumulating, IntegerLayer, Program
from npusim.search.budget import Budget

__all__ = ["STATEMENTS", "find_model_witnesses", "find_witness"]

STATEMENTS: Final = (Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT)
"""Statements that a witness can be looked for."""

Progress: TypeAlias = Callable[[int, int], None]


def find_witness(
    session: InferenceSession,
    layer: str,
    statement: Property,
    *,
    seconds: float = 60,
    evaluations: int | None = None,
    seed: int = 0,
    samples: Mapping[str, Array] | None = None,
    progress: Progress | None = None,
) -> Witness | NoWitness:
    """Find an input at which a statement about a layer fails.

    Failing values of the accumulator are known exactly. Codes of the layer's inputs that give one are solved for, which is
    exact too, and run. If the layer reads the model's inputs one by one, they are the model's inputs already; otherwise
    inputs of the model are searched that drive an accumulator to a failing value.

    Parameters
    ----------
    session
        The model.
    layer
        Name of a layer.
    statement
        One of :data:`STATEMENTS`.
    seconds, evaluations
        What the search may take: time, and candidates computed. With a limit on time alone the result can depend on the
        speed of the machine.
    seed
        Of the pseudo-random numbers.
    samples
        Inputs to start the search from, besides generated ones.
    progress
        Called with the seconds spent and those allowed.

    Returns
    -------
    Witness or NoWitness
        A witness has been run, in integers and, for ``onnxruntime_exact``, in onnxruntime. Its `model_inputs` are None where
        only inputs of the layer were found.

    Raises
    ------
    UsageError
        If there is no such layer or statement.
    """
    return _find(session, layer, statement, Budget(seconds, evaluations, progress), seed, samples)


def find_model_witnesses(
    session: InferenceSession,
    statements: Collection[Property] = STATEMENTS,
    *,
    seconds: float = 60,
    evaluations: int | None = None,
    seed: int = 0,
    samples: Mapping[str, Array] | None = None,
    progress: Progress | None = None,
) -> tuple[Witness | NoWitness, ...]:
    """Look for a witness in each layer and for each statement that is not proven; the limits are for all of them together.

    Parameters are those of :func:`find_witness`.
    """
    certificate = certify(session.program)
    open_ones = [
        (step.name, statement)
        for step in certificate.steps
        for statement in statements
        if step.bounds is not None and statement in step.judgements and not step.judgements[statement].holds
    ]
    budget = Budget(seconds, evaluations, progress)
    return tuple(
        _find(session, name, statement, budget.share(len(open_ones) - done), seed, samples)
        for done, (name, statement) in enumerate(open_ones)
    )


def _find(
    session: InferenceSession,
    name: str,
    statement: Property,
    budget: Budget,
    seed: int,
    samples: Mapping[str, Array] | None,
) -> Witness | NoWitness:
    layer = _layer(session.program, name, statement)
    task = prepare(session, layer, statement)
    if isinstance(task, str):
        return NoWitness(statement, name, task, proven=not isinstance(layer, Accumulating))
    if not len(task.failing):
        return NoWitness(statement, name, "no value that its accumulator can take fails", proven=task.complete)
    found, possible = task.solve(budget)
    if not len(possible):
        count = f"{len(task.failing):,} runs of" if len(task.failing) > 1 else "the only run of"
        reason = f"no codes that its inputs can take give {count} accumulators that would fail"
        return NoWitness(statement, name, reason, proven=task.complete)
    if found is not None and found.model_inputs is not None:
        return replace(found, seconds=budget.elapsed)
    searched = task.search(possible, budget, seed, samples)
    best = searched if isinstance(searched, Witness) else found
    if best is not None:
        return replace(best, evaluations=budget.used, seconds=budget.elapsed)
    return NoWitness(statement, name, str(searched), evaluations=budget.used, seconds=budget.elapsed)


def _layer(program: Program, name: str, statement: Property) -> IntegerLayer:
    layer = next((item for item in program.layers if item.name == name), None)
    if layer is None:
        known = ", ".join(f"'{item.name}'" for item in program.layers)
        raise UsageError(f"there is no layer '{name}'; the layers are {known or 'none'}")
    if statement not in STATEMENTS:
        raise UsageError(f"no witness is looked for '{statement}'; the statements are {', '.join(STATEMENTS)}")
    return layer
