"""The proof of a witness: the layer, or the whole model, run in integers and in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from npusim.bounds.verdicts import Property
from npusim.bounds.witness.observation import Observation, Place
from npusim.bounds.witness.results import Rounding, Witness
from npusim.engine.reference import run_step, run_steps
from npusim.engine.second_opinion import SecondOpinion
from npusim.graph import Array, TensorType
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import extract
from npusim.program import Accumulating, IntegerArray, Program
from npusim.program.terms import terms_of

__all__ = ["Confirmation"]


@dataclass(frozen=True)
class Confirmation:
    """Runs inputs and makes witnesses of those that show what is looked for.

    Attributes
    ----------
    model
        The model.
    program
        Its program, which takes samples on the first axis.
    layer
        The layer.
    watched
        Which accumulator is meant.
    statement
        The statement that is to fail.
    """

    model: ModelFile
    program: Program
    layer: Accumulating
    watched: Observation
    statement: Property

    def of_layer(self, inputs: Mapping[str, IntegerArray], place: Place) -> Witness | None:
        """A witness at the layer: its own inputs in, for one sample; None where nothing fails there.

        onnxruntime runs the part of the graph that the layer stands for.
        """
        codes = {name: inputs[name].astype(self.program.tensors[name].stored) for name in self.layer.inputs}
        ours = run_step(self.program, self.layer, codes, set(self.layer.tensors))
        theirs = None
        if self.statement is Property.ONNXRUNTIME_EXACT:
            theirs = self._layer_runtime.run(
                {name: value.astype(self.program.tensors[name].dtype) for name, value in codes.items()}
            )
        return self._witness({**codes, **ours}, theirs, place)

    def of_model(self, feeds: Mapping[str, Array], place: Place) -> Witness | None:
        """A witness in the model: inputs of the model in, for one sample; None where nothing fails at this layer."""
        names = (*self.layer.inputs, *self.layer.tensors)
        ours = run_steps(self.program, feeds, names)
        theirs = None
        if self.statement is Property.ONNXRUNTIME_EXACT:
            theirs = {**feeds, **self._model_runtime.run(feeds)}
            if any((ours[name] != theirs[name]).any() for name in self.layer.inputs):
                return None  # an earlier step differs already: nothing is shown of this one
        found = self._witness(ours, theirs, place)
        return None if found is None else replace(found, model_inputs=dict(feeds))

    @cached_property
    def _layer_runtime(self) -> SecondOpinion:
        tensors = self.program.tensors
        types = {name: TensorType(tensors[name].dtype, tensors[name].shape) for name in self.layer.inputs}
        return SecondOpinion(extract(self.model, types, self.layer.tensors))

    @cached_property
    def _model_runtime(self) -> SecondOpinion:
        inner = [name for name in self.layer.inputs if name not in self.program.inputs]
        return SecondOpinion(self.model, [*inner, *self.layer.tensors])

    def _witness(self, ours: Mapping[str, Array], theirs: Mapping[str, Array] | None, place: Place) -> Witness | None:
        layer = self.layer
        output = ours[layer.output]
        index = np.unravel_index(np.ravel_multi_index(place.index, layer.accumulator_shape[1:]), output.shape[1:])
        if theirs is not None:
            differing = np.argwhere(output != theirs[layer.output])
            if not differing.size:
                return None
            if output[(0, *index)] == theirs[layer.output][(0, *index)]:
                index = tuple(differing[0][1:])
                place = self._place(int(np.ravel_multi_index(index, output.shape[1:])))
        accumulator = self._accumulator(ours, place)
        channel = place.channel
        parameters = {name: int(values[channel]) for name, values in layer.requantization.parameters.items()}
        other: float | None = None if theirs is None else float(theirs[layer.output][(0, *index)])
        if self.statement is Property.SOFT_INT32:
            other = self._wrapped_code(ours, place, accumulator)
        found = Witness(
            statement=self.statement,
            layer=layer.name,
            tensor=layer.output,
            index=(0, *(int(item) for item in index)),
            channel=channel,
            digit=place.digit,
            accumulator=accumulator,
            bias=parameters.get("bias", 0),
            scale=parameters.get("scale", 1),
            shift=parameters.get("shift", 0),
            code=int(output[(0, *index)]),
            other_code=other,
            rounding=None if theirs is None else self._rounding(theirs, place, accumulator),
            layer_inputs={name: ours[name] for name in layer.inputs},
        )
        return None if _within(found) else found

    def _place(self, flat: int) -> Place:
        index = tuple(int(item) for item in np.unravel_index(flat, self.layer.accumulator_shape[1:]))
        return Place(index[self.layer.channel_axis - 1], index, None)

    def _accumulator(self, ours: Mapping[str, Array], place: Place) -> int:
        form = terms_of(self.layer, place.index, self.watched.weights(place.digit))
        codes = [ours[name].astype(np.int64).reshape(-1) for name in self.layer.inputs]
        products = [
            int((form.weights[form.inputs == number] * part[form.places[form.inputs == number]]).sum())
            for number, part in enumerate(codes)
        ]
        return sum(products)

    def _wrapped_code(self, ours: Mapping[str, Array], place: Place, accumulator: int) -> int:
        """The code after the product has wrapped around to int32."""
        layer = self.layer
        part = layer.requantization.for_channels([place.channel])
        product = part.scaled(np.array([accumulator], np.int64))
        residual = None
        if layer.residual is not None:
            flat = np.ravel_multi_index(place.index, layer.accumulator_shape[1:])
            residual = ours[layer.residual].reshape(-1)[flat : flat + 1].astype(np.int64)
        return int(layer.finish(part.codes_of_scaled((product + 2**31) % 2**32 - 2**31), residual)[0])

    def _rounding(self, theirs: Mapping[str, Array], place: Place, accumulator: int) -> Rounding | None:
        flat = np.ravel_multi_index(place.index, self.layer.accumulator_shape[1:])
        for tap in self.layer.taps:
            exact = tap.exact(accumulator, place.channel)
            if exact is None:
                continue
            held = float(theirs[tap.tensor].reshape(-1)[flat])
            if not np.isfinite(held) or Fraction(held) != exact:
                return Rounding(tap.tensor, exact, held)
        return None


def _within(witness: Witness) -> bool:
    """Whether a value did not leave its range after all."""
    if witness.limits is None:
        return False
    value = witness.accumulator if witness.statement is Property.DIGIT_18BIT else witness.product
    return witness.limits[0] <= value <= witness.limits[1]
