"""One search for a witness: a layer, a statement, the failing values; solved at the layer and searched in the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.bounds.channels import ChannelBounds, channel_bounds
from npusim.bounds.layer_verdicts import DIGIT_LIMITS
from npusim.bounds.verdicts import Property
from npusim.bounds.witness.confirmation import Confirmation
from npusim.bounds.witness.failing_values import failing_digits, failing_in_floats, failing_in_int32
from npusim.bounds.witness.layer_solution import LayerSolution, LayerSolver
from npusim.bounds.witness.observation import Observation, observation
from npusim.bounds.witness.results import Witness
from npusim.engine.session import InferenceSession
from npusim.graph import Array, TensorType
from npusim.graph.onnx_reader import extract
from npusim.program import Accumulating, Batching, IntegerArray, IntegerLayer, Program
from npusim.program.intervals import LayerBounds, analyse
from npusim.search.budget import Budget
from npusim.search.input_codes import InputCodes
from npusim.search.toward_values import Search
from npusim.search.wanted_values import WantedValues

__all__ = ["Task", "prepare"]

SOLVED_RUNS: Final = 256
"""Runs of failing values that are solved for at the layer; of the others it is not known whether any codes give them."""

TRIED_SOLUTIONS: Final = 8
"""Solutions of one run that are tried until one is a witness: what is added behind the failing value can hide it."""

SOLVING_SHARE: Final = 0.25
"""Part of the time that goes into the layer at most, before the model is searched."""


@dataclass(frozen=True)
class Task:
    """What is needed to look for a witness.

    Attributes
    ----------
    session, program
        The model.
    bounds
        The layer and the intervals of its inputs.
    watched
        Which accumulator is meant.
    failing
        Its values at which the statement fails.
    complete
        True when the statement fails nowhere else.
    confirmation
        Runs candidates.
    """

    session: InferenceSession
    program: Program
    bounds: LayerBounds
    watched: Observation
    failing: WantedValues
    complete: bool
    confirmation: Confirmation

    def solve(self, budget: Budget) -> tuple[Witness | None, WantedValues]:
        """A witness from exact solutions at the layer, one in the model if possible; and the values that any codes can give."""
        count = len(self.failing)
        solver = LayerSolver(self.bounds, self.watched, self.failing)
        possible, witness = np.ones(count, bool), None
        for run in np.unique(np.linspace(0, count - 1, min(count, SOLVED_RUNS)).astype(np.int64)):
            solver.complete, possible[run] = True, False
            for solution in islice(solver.solutions(int(run)), TRIED_SOLUTIONS):
                possible[run] = True
                if witness is None or (self.bounds.attained and witness.model_inputs is None):
                    witness = self._confirmed(solution) or witness
                if witness is not None or budget.elapsed > SOLVING_SHARE * budget.seconds:
                    break
            possible[run] |= not solver.complete
            if budget.elapsed > SOLVING_SHARE * budget.seconds:
                break
        return witness, self.failing.select(np.flatnonzero(possible))

    def search(self, possible: WantedValues, budget: Budget, seed: int, samples: Mapping[str, Array] | None) -> Witness | str:
        """A witness in the model, or what the search came to, one clause."""
        part = self._front
        codes = InputCodes(part.program)
        starts = np.zeros((0, codes.size), np.int64) if samples is None else codes.levels(samples)

        def evaluate(levels: IntegerArray) -> tuple[IntegerArray, IntegerArray]:
            tensors = part.trace(codes.feeds(levels), self.watched.tensors)
            values = self.watched.values(tensors)
            return values, self.watched.hidden(tensors, values)

        digits = 1 if self.watched.digits is None else len(self.watched.digits)
        elements = digits * math.prod(self.bounds.layer.accumulator_shape[1:])
        search = Search(evaluate, possible, codes.limits, budget, seed=seed, starts=starts, elements=elements)
        refused = 0
        for hit in search:
            feeds = {**self._default_inputs, **codes.feeds(hit.levels[None])}
            witness = self.confirmation.of_model(feeds, self.watched.place(hit.row, hit.position))
            if witness is not None:
                return witness
            refused += 1
        tried = f"none of {budget.used:,} inputs tried in {budget.elapsed:.0f} seconds shows it"
        if refused:
            return f"{tried}; {refused:,} of them gave an accumulator that could, but onnxruntime computed the same code"
        return f"{tried}; the nearest came within {search.nearest:,} of an accumulator that does"

    def _confirmed(self, solution: LayerSolution) -> Witness | None:
        if self.bounds.attained:
            witness = self.confirmation.of_model(self._model_inputs(solution.inputs), solution.place)
            if witness is not None:
                return witness
        return self.confirmation.of_layer(solution.inputs, solution.place)

    @cached_property
    def _front(self) -> InferenceSession:
        """The model up to the layer, so that candidates are not computed further."""
        types = {
            name: TensorType(self.program.tensors[name].dtype, self.program.tensors[name].shape) for name in self.program.inputs
        }
        layer = self.bounds.layer
        front = InferenceSession(extract(self.session.model, types, [layer.output]).content, engine=self.session.engine)
        return front if any(item.tensors == layer.tensors for item in front.program.layers) else self.session

    @cached_property
    def _default_inputs(self) -> dict[str, Array]:
        """Zeros, for inputs that the layer does not depend on."""
        return {
            name: np.zeros(self.program.tensors[name].shape, self.program.tensors[name].dtype) for name in self.program.inputs
        }

    def _model_inputs(self, inputs: Mapping[str, IntegerArray]) -> dict[str, Array]:
        """Inputs of the model that give a layer's inputs, for a layer that reads them one by one."""
        codes = InputCodes(self.program)
        sources, lowest = self._sources
        wanted = np.concatenate([inputs[name].reshape(-1) for name in dict.fromkeys(self.bounds.layer.inputs)])
        levels = codes.limits // 2
        free = sources >= 0
        levels[sources[free]] = (wanted - lowest)[free]
        return codes.feeds(np.clip(levels, 0, codes.limits)[None])

    @cached_property
    def _sources(self) -> tuple[IntegerArray, IntegerArray]:
        """For each input code of the layer the number of the model's input that it comes from, and its lowest code.

        The number is -1 for codes that are the same whatever the input is.

        Inputs are numbered, and the digits of these numbers sent through the model as levels: what arrives is the number.
        """
        codes = InputCodes(self.program)
        base = int(codes.limits[codes.limits > 0].min(initial=1)) + 1
        digits = max(1, math.ceil(math.log(codes.size + 1, base)))
        numbers = [np.arange(codes.size) // base**digit % base for digit in range(digits)]
        levels = np.stack([0 * codes.limits, *(np.minimum(number, codes.limits) for number in numbers)])
        names = tuple(dict.fromkeys(self.bounds.layer.inputs))
        trace = self.session.trace(codes.feeds(levels), names)
        arrived = np.concatenate([trace[name].astype(np.int64).reshape(len(levels), -1) for name in names], axis=1)
        found = sum((arrived[1 + digit] - arrived[0]) * base**digit for digit in range(digits))
        intervals = dict(zip(self.bounds.layer.inputs, self.bounds.inputs, strict=True)).values()
        fixed = np.concatenate([(part.lower == part.upper).reshape(-1) for part in intervals])
        return np.where(fixed | (found < 0) | (found >= codes.size), -1, found), arrived[0]


def prepare(session: InferenceSession, layer: IntegerLayer, statement: Property) -> Task | str:
    """What is needed to look for a witness, or why none can be looked for."""
    program = session.program
    if not isinstance(layer, Accumulating):
        return "it has no accumulator"
    if program.batching is Batching.FIXED:
        return "the model has no batch axis of one sample, so that its inputs cannot be searched"
    bounds = analyse(program).layers[layer.name]
    channels = channel_bounds(bounds)
    match statement:
        case Property.SOFT_INT32:
            failing, complete = failing_in_int32(channels), True
        case Property.DIGIT_18BIT:
            if channels.digits is None:
                return "its weights leave their declared bits: how a device splits them into digits is not known"
            failing, complete = failing_digits(channels), _only_sums_matter(channels)
        case _:
            dtype = _element_type(program, layer)
            if dtype is None:
                return "the graph does not compute it in float32 or float64"
            inexact = _inexact_sums(channels, dtype)
            found = failing_in_floats(channels, dtype, inexact=inexact)
            if found is None:
                return "its codes are too many to examine each"
            failing, complete = found, not inexact.any()
    watched = observation(layer, statement)
    confirmation = Confirmation(session.model, program, layer, watched, statement)
    return Task(session, program, bounds, watched, failing, complete, confirmation)


def _element_type(program: Program, layer: IntegerLayer) -> np.dtype[Any] | None:
    """The one float type that a layer's tensors have in the graph; None for any other."""
    kinds = {program.tensors[name].dtype for name in (*layer.inputs, *layer.tensors)}
    found = next(iter(kinds))
    return found if len(kinds) == 1 and found in (np.dtype(np.float32), np.dtype(np.float64)) else None


def _only_sums_matter(bounds: ChannelBounds) -> bool:
    """Whether no partial sum of a digit leaves 18 bits, or none goes further than the sums themselves."""
    lowest, highest = DIGIT_LIMITS
    pairs = zip(bounds.digits or (), bounds.digit_partials or (), strict=True)
    return all(
        bool(((part.lower >= np.minimum(whole.lower, lowest)) & (part.upper <= np.maximum(whole.upper, highest))).all())
        for whole, part in pairs
    )


def _inexact_sums(bounds: ChannelBounds, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """For each channel whether floats may have to round a sum on the way to the accumulator, or the one with a residual."""
    limit = 2 ** (int(np.finfo(dtype.str).nmant) + 1)
    inner = np.abs(bounds.layer.inner_bias)
    partial = np.maximum(np.abs(bounds.partial.lower), np.abs(bounds.partial.upper)) + inner
    added = 0
    if bounds.residual is not None:
        clip, residual = bounds.layer.requantization.clip, bounds.residual
        added = max(-clip.lower, clip.upper) + int(max(-residual.lower.min(), residual.upper.max()))
    return np.asarray((partial > limit) | (added > limit))
