"""Sums over the parts of a layer's error, and what they say: means that add up, and shares of the error's energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from npusim.comparison.experiments.stages import Stages
from npusim.comparison.layer_result import PART_NAMES, Attribution, ErrorPart, Introduced
from npusim.comparison.sums import FloatArray, rows_of

__all__ = ["AttributionSums", "PartSums"]


@dataclass(frozen=True, slots=True, eq=False)
class PartSums:
    """Sums over elements for parts that add up to a whole, which is the last of them.

    Attributes
    ----------
    names
        Of the parts, then of the whole.
    count
        Elements of each channel.
    error, energy, product
        ``sum e_part``, ``sum e_part^2`` and ``sum e_part e_whole``, ``[parts, channels]``.
    largest
        ``max |e_part|``, ``[parts]``.
    signal
        Sum of the squares of what the error is compared with.
    """

    names: tuple[str, ...]
    count: int
    error: FloatArray
    energy: FloatArray
    product: FloatArray
    largest: FloatArray
    signal: float

    @classmethod
    def of(cls, parts: Mapping[str, FloatArray], reference: FloatArray, /, *, channel_axis: int) -> Self:
        """Take the sums.

        Parameters
        ----------
        parts
            Errors by name, the whole last.
        reference
            What they are errors of.
        channel_axis
            The axis that tells channels apart.
        """
        rows = [rows_of(one, channel_axis) for one in parts.values()]
        return cls(
            tuple(parts),
            rows[0].shape[1],
            np.stack([one.sum(axis=1) for one in rows]),
            np.stack([np.einsum("ij,ij->i", one, one) for one in rows]),
            np.stack([np.einsum("ij,ij->i", one, rows[-1]) for one in rows]),
            np.array([np.abs(one).max() for one in rows]),
            float(np.einsum("i,i->", reference.ravel(), reference.ravel())),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        return type(self)(
            self.names,
            self.count + other.count,
            self.error + other.error,
            self.energy + other.energy,
            self.product + other.product,
            np.maximum(self.largest, other.largest),
            self.signal + other.signal,
        )

    def sqnr_db(self) -> float:
        """SQNR of the whole."""
        noise = float(self.energy[-1].sum())
        with np.errstate(divide="ignore"):
            return 10 * float(np.log10(self.signal) - np.log10(noise)) if noise > 0 else np.inf

    def part(self, name: str) -> ErrorPart:
        """What the sums say of one part."""
        index = self.names.index(name)
        elements = self.count * self.error.shape[1]
        whole = float(self.energy[-1].sum())
        return ErrorPart(
            name,
            mean_error=float(self.error[index].sum()) / elements,
            root_mean_square_error=float(np.sqrt(self.energy[index].sum() / elements)),
            largest_error=float(self.largest[index]),
            share=float(self.product[index].sum()) / whole if whole > 0 else 0.0,
            channel_mean_error=self.error[index] / self.count,
            channel_root_mean_square_error=np.sqrt(self.energy[index] / self.count),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AttributionSums:
    """The sums of one layer: on the codes that it really gets, and fed with the float model's activations."""

    in_place: PartSums
    alone: PartSums

    @classmethod
    def of(cls, real: FloatArray, alone: Stages, tensor: FloatArray, /, *, in_place: Stages, channel_axis: int) -> Self:
        """Take the sums.

        Parameters
        ----------
        real
            What the quantized layer gives in the quantized model.
        alone, in_place
            The stages on the float model's activations, and on the codes that the layer really gets.
        tensor
            The float tensor.
        channel_axis
            The axis that tells channels apart.
        """
        total = real - tensor
        introduced = real - in_place.reference
        parts = dict(zip(PART_NAMES[1:], in_place.parts, strict=True))
        everything = {"inherited": in_place.reference - tensor, **parts, "introduced": introduced, "total": total}
        apart = {**dict(zip(PART_NAMES[1:], alone.parts, strict=True)), "introduced": alone.introduced}
        return cls(
            PartSums.of(everything, tensor, channel_axis=channel_axis),
            PartSums.of(apart, alone.reference, channel_axis=channel_axis),
        )

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        return type(self)(self.in_place + other.in_place, self.alone + other.alone)

    def attribution(self) -> Attribution:
        """What the sums say."""
        parts = {name: self.in_place.part(name) for name in self.in_place.names}
        apart = {name: self.alone.part(name) for name in PART_NAMES[1:]}
        return Attribution(
            **parts, alone=Introduced(total=self.alone.part("introduced"), **apart, sqnr_db=self.alone.sqnr_db())
        )
