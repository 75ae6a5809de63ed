"""The state of one walk over a TensorFlow Lite graph: tensors, their places in the program, the steps so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

import numpy as np
import numpy.typing as npt

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Array, Attribute, Graph, Node
from npusim.graph.folding import MAXIMUM_ELEMENTS
from npusim.kernels.qlinear import Affine
from npusim.program.layers import IntegerLayer
from npusim.program.lowering.tflite.arithmetic import WIDE_VECTOR, Arithmetic
from npusim.program.program import HostOperation, QuantizeStage, Tensor

__all__ = ["Place", "Walk", "channels_first", "file_order"]

Int64Array = npt.NDArray[np.int64]

_CODE_DTYPES: Final = frozenset("int8 uint8 int16 int32".split())


def channels_first(rank: int) -> tuple[int, ...]:
    """Axes of the file in the order in which layers hold them: samples, channels (the file's last axis), the others.

    Examples
    --------
    >>> channels_first(4), channels_first(2)
    ((0, 3, 1, 2), (0, 1))
    """
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else tuple(range(rank))


def file_order(rank: int) -> tuple[int, ...]:
    """The inverse of :func:`channels_first`.

    Examples
    --------
    >>> file_order(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor of the file is in the program.

    Attributes
    ----------
    name
        Of the program's tensor.
    shape
        In the order of the file, samples included.
    first
        True where it is held with the channels first.
    """

    name: str
    shape: tuple[int, ...]
    first: bool

    @property
    def held(self) -> tuple[int, ...]:
        """The shape in which it is held."""
        return tuple(self.shape[axis] for axis in channels_first(len(self.shape))) if self.first else self.shape


class LayerFields(TypedDict):
    """What every layer has."""

    name: str
    inputs: tuple[str, ...]
    output: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    nodes: tuple[str, ...]


@dataclass
class Walk:
    """What has been read so far.

    Attributes
    ----------
    graph, arithmetic
        What is lowered, and for whom.
    steps, tensors, constants
        Of the program.
    places
        Where computed tensors are.
    known
        Values of constants and of what follows from shapes, by the file's names.
    mixes
        True once an operation has mixed the first axis with others.
    """

    graph: Graph
    arithmetic: Arithmetic
    steps: list[IntegerLayer | HostOperation | QuantizeStage] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    mixes: bool = False
    _turned: dict[tuple[str, bool], str] = field(default_factory=dict)

    def affine(self, name: str) -> Affine:
        """What the codes of a tensor stand for.

        Raises
        ------
        UnsupportedError
            If it is not quantized, or with more than one scale.
        """
        kind, coding = self.graph.types[name], self.graph.quantization.get(name)
        if coding is None or kind.dtype.name not in _CODE_DTYPES:
            raise UnsupportedError(f"tensor '{name}' of type {kind.dtype} is not quantized; convert the model to full integers")
        if coding.scales.size != 1:
            raise UnsupportedError(f"tensor '{name}' has {coding.scales.size} scales; only weights may have more than one")
        limits = np.iinfo(kind.dtype.name)
        return Affine(float(coding.scales[0]), int(coding.zero_points[0]), int(limits.min), int(limits.max))

    def is_coded(self, name: str) -> bool:
        """Whether a tensor holds codes that stand for real numbers."""
        return name in self.graph.quantization and self.graph.types[name].dtype.name in _CODE_DTYPES

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor in the order of the file, as it comes out."""
        return self.places[name].shape if name in self.places else self.known[name].shape

    def place(self, name: str) -> Place:
        """Where a computed tensor is.

        Raises
        ------
        UnsupportedError
            If it is a constant.
        """
        if name not in self.places:
            raise UnsupportedError(
                f"tensor '{name}' is a constant, but an operator takes it for data that is computed; "
                "export the model again with constants folded"
            )
        return self.places[name]

    def value(self, name: str, node: Node, what: str) -> Array:
        """A value that has to be known without running the model."""
        if name not in self.known:
            raise UnsupportedError(f"{node} needs {what} as a constant, but '{name}' is computed; export it with fixed shapes")
        return self.known[name]

    def whole_numbers(self, name: str, node: Node, what: str) -> tuple[int, ...]:
        """The same as integers."""
        value = self.value(name, node, what)
        if value.dtype.kind not in "iu":
            raise ModelError(f"{node} has {what} of type {value.dtype}, wanted integers")
        return tuple(int(item) for item in value.reshape(-1))

    def declare(self, name: str, shape: Sequence[int], *, first: bool) -> Place:
        """Enter a computed tensor of the file.

        Raises
        ------
        UnsupportedError
            For TFLM, if the file declares another shape than comes out: TFLM takes the file's.
        ModelError
            If it has another rank or a size below 1.
        """
        sizes, declared = tuple(int(size) for size in shape), self.graph.types[name].static_shape
        if min(sizes, default=1) < 1:
            raise ModelError(f"tensor '{name}' comes out with the shape {sizes}; sizes of 1 or more are wanted")
        if math.prod(sizes) > MAXIMUM_ELEMENTS:
            raise UnsupportedError(
                f"tensor '{name}' has the shape {sizes}, more than {MAXIMUM_ELEMENTS} elements; no microcontroller holds "
                "that, so check "
                "the model"
            )
        if sizes != declared and self.arithmetic.micro:
            raise UnsupportedError(
                f"tensor '{name}' has the static shape {declared} in the file, but comes out as {sizes}, as after an export "
                "with "
                "a dynamic batch; TFLM takes the file's shapes and computes garbage: export with batch 1, or choose a litert "
                "arithmetic"
            )
        place = Place(name, sizes, first and len(sizes) > 2)
        self.places[name] = place
        self.tensors[name] = self._tensor(name, place, name)
        return place

    def alias(self, name: str, place: Place) -> None:
        """Enter a tensor of the file that holds what another one holds."""
        self.places[name] = place

    def held(self, name: str, *, first: bool) -> str:
        """The program's tensor that holds a tensor of the file in an order; it is turned round where it has to be."""
        place = self.place(name)
        if place.first == first or len(place.shape) < 3:
            return place.name
        if (place.name, first) not in self._turned:
            self._turned[place.name, first] = self._turn(place, name, first=first)
        return self._turned[place.name, first]

    def host(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        reason: str,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        label: str = "",
    ) -> None:
        """Append a host operation; `label` is the operator of the file where another one computes it."""
        node = Node(operator, "", tuple(inputs), (output,), attributes or {})
        self.steps.append(HostOperation(output, label or operator, node, reason))

    def copy(self, name: str, source: str, shape: Sequence[int], *, first: bool = False) -> Place:
        """Enter a tensor that no file has: codes of `source` in another place and shape."""
        place = Place(name, tuple(shape), first)
        self.tensors[name] = self._tensor(name, place, source)
        return place

    def fields(self, node: Node, inputs: Sequence[str], place: Place) -> LayerFields:
        """What every layer has: name, tensors and shapes of the layer that makes a tensor of others."""
        shape = self.tensors[inputs[0]].shape
        return LayerFields(
            name=place.name,
            inputs=tuple(inputs),
            output=place.name,
            input_shape=shape,
            output_shape=place.held,
            nodes=(node.op_type,),
        )

    def left_over(self, place: Place, row: int) -> npt.NDArray[np.bool_]:
        """The elements left over where a kernel takes rows of so many elements in vectors, as a tensor is held."""
        count = math.prod(place.shape)
        left = (np.arange(count) % row >= row // WIDE_VECTOR * WIDE_VECTOR).reshape(place.shape)
        return left.transpose(channels_first(left.ndim)) if place.first else left

    def constant(self, value: npt.ArrayLike, near: str) -> str:
        """Enter a constant that a step reads; its name is made from that of a tensor nearby."""
        name = f"{near}:constant{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def reshape_target(self, before: Sequence[int], after: Sequence[int]) -> Int64Array:
        """The second input of a Reshape that leaves samples alone; notes when it cannot."""
        if not after or not before or before[0] != after[0]:
            self.mixes = True
            return np.array(after, np.int64)
        return np.array([0, *after[1:]], np.int64)

    def _turn(self, place: Place, name: str, *, first: bool) -> str:
        turned = Place(f"{name}:{'channels_first' if first else 'channels_last'}", place.shape, first)
        # a host operation sees the file's order, whatever order its tensors are held in
        self.host("Identity", (place.name,), turned.name, "layers hold channels first, the file last", label="Transpose")
        self.tensors[turned.name] = self._tensor(turned.name, turned, name)
        return turned.name

    def _tensor(self, name: str, place: Place, source: str) -> Tensor:
        """A program tensor; `source` is the tensor of the file that it belongs to."""
        declared = self.graph.types[source].dtype
        order = file_order(len(place.shape)) if place.first else None
        if not self.is_coded(source):
            return Tensor(name, place.held, declared, declared, -np.inf, np.inf, order=order)
        affine = self.affine(source)
        lower, upper = affine.lower - affine.zero_point, affine.upper - affine.zero_point
        stored = next(
            kind
            for kind in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64)
            if np.iinfo(kind).min <= lower and upper <= np.iinfo(kind).max
        )
        return Tensor(
            name,
            place.held,
            declared,
            np.dtype(stored),
            lower,
            upper,
            scale=affine.scale,
            zero_point=affine.zero_point,
            order=order,
        )
