"""Which codes and weights make one element of a layer, in Python integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from npusim.graph import Array
from npusim.program import IntegerLayer
from npusim.program.terms import terms_of
from npusim.schemas.derivation import Count

__all__ = ["Contribution", "contributions_of"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """A code that goes into an element.

    Attributes
    ----------
    position
        Where the code is in the layer's input (for ADD in the operand), without the sample axis.
    code
        The code.
    weight
        What it is multiplied with; 1 for sums, null for a maximum.
    operand
        Number of the input it comes from.
    """

    json_names: ClassVar[tuple[str, ...]] = ("position", "code", "weight", "operand", "product")

    position: tuple[Count, ...]
    code: int
    weight: int | None
    operand: Count = 0

    @property
    def product(self) -> int:
        """``code * weight``; the code where there is no weight."""
        return self.code * (1 if self.weight is None else self.weight)


def contributions_of(layer: IntegerLayer, inputs: Sequence[Array], index: tuple[int, ...]) -> tuple[Contribution, ...]:
    """List what an element of a layer's accumulator is the sum of, or for MAXPOOL the maximum of.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs for one sample, without the sample axis.
    index
        Position in the accumulator, without the sample axis.

    Returns
    -------
    tuple of Contribution
        In the order of the weights. Codes in the padding, which are 0, are left out.

    Examples
    --------
    A kernel of 3 with stride 2 and one padded code in front: element 1 reads the codes 1, 2 and 3.
    """
    terms = terms_of(layer, index)
    found = []
    for operand, place, weight in zip(terms.inputs.tolist(), terms.places.tolist(), terms.weights.tolist(), strict=True):
        position = tuple(int(item) for item in np.unravel_index(place, inputs[operand].shape))
        found.append(Contribution(position, int(inputs[operand][position]), weight if terms.summed else None, operand))
    return tuple(found)
