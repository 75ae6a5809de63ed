"""A TensorFlow Lite file as plain data: what the reader finds and the writer writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npusim.graph.graph import Array, Attribute

__all__ = ["TfliteModel", "TfliteOperator", "TfliteTensor"]


@dataclass(frozen=True, slots=True)
class TfliteTensor:
    """A tensor of a file.

    Attributes
    ----------
    name
        As in the file, possibly empty or used twice.
    type
        Element type as the schema names it: ``INT8``, ``FLOAT32`` ...
    shape
        The static shape.
    signature
        The shape with -1 where a size is open; empty where the file gives none.
    data
        Value of a constant, in `shape`; None for a tensor that is computed or fed.
    scales, zero_points
        Quantization: one of each, or one for each index of `axis`; empty without quantization.
    axis
        Axis of per-channel quantization.
    variable
        True for a tensor that keeps its value between runs.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] = ()
    data: Array | None = None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False


@dataclass(frozen=True, slots=True)
class TfliteOperator:
    """An operator call.

    Attributes
    ----------
    name
        Name of the operator in capital letters, ``CUSTOM:`` and its code for a custom one.
    inputs, outputs
        Tensor numbers; -1 for an optional input that is left out.
    options
        By name, as :data:`~npusim.graph.tflite_schema.OPTIONS` lists them; empty for operators that are not listed.
    version
        Version of the operator.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Attribute] = field(default_factory=dict)
    version: int = 1

    def integers(self, name: str) -> tuple[int, ...]:
        """An option that is a list of integers; empty where it is not given."""
        value = self.options.get(name, ())
        return tuple(int(item) for item in value) if isinstance(value, tuple) else ()


@dataclass(frozen=True, slots=True)
class TfliteModel:
    """The only subgraph of a file.

    Attributes
    ----------
    tensors
        All tensors, constants among them.
    operators
        In the order of execution.
    inputs, outputs
        Tensor numbers.
    description
        Free text of the file.
    """

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str = ""
