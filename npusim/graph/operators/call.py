"""What an operator implementation is given besides its input arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from npusim.graph.graph import Array, Attribute, AttributeReader

__all__ = ["Call", "Operator"]


@dataclass(frozen=True, slots=True)
class Call(AttributeReader):
    """Attributes and opset of one operator call.

    Attributes
    ----------
    opset
        Version of the default operator set the model imports: it decides which rules hold.
    attributes
        Attribute values by name, without the defaults.
    output_count
        How many outputs the node names (Split without sizes needs it).
    """

    opset: int
    attributes: Mapping[str, Attribute]
    output_count: int = 1


Operator: TypeAlias = Callable[..., "Array | tuple[Array, ...]"]
"""``operator(call, *inputs)``: inputs in ONNX order (None for an optional one left out); one array, or one for each output."""
