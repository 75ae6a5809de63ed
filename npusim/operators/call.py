"""What an operator implementation is given besides its input arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from npusim.errors import OperatorError
from npusim.graph import Array, Attribute

__all__ = ["Call", "Operator"]


@dataclass(frozen=True, slots=True)
class Call:
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

    def integer(self, name: str, default: int) -> int:
        """An integer attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted an integer")
        return value

    def real(self, name: str, default: float) -> float:
        """A float attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """A string attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a string")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the node does not give it."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a list of integers")
        return tuple(int(item) for item in value)

    def tensor(self, name: str) -> Array | None:
        """A tensor attribute, or None where the node does not give it."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, np.ndarray):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a tensor")
        return value


Operator: TypeAlias = Callable[..., "Array | tuple[Array, ...]"]
"""``operator(call, *inputs)``: inputs in ONNX order (None for an optional one left out); one array, or one for each output."""
