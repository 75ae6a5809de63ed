"""Windows that move over spatial axes: generated geometry and the plainest way to say what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st

from npusim.graph import Attribute
from npusim.graph.operators.call import Call, Operator

__all__ = ["Window", "call_operator", "integer_arrays", "small_integers", "window_cases"]


@dataclass(frozen=True)
class Window:
    """Spatial sizes and the window over them; `pads` holds begins, then ends."""

    sizes: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, Attribute]:
        """The geometry as ONNX attributes."""
        return {
            "kernel_shape": self.kernel_shape,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
        }

    def starts(self, axis: int, *, ceil_mode: bool = False) -> list[int]:
        """Where the windows of one axis start, counted from the first element that is not padding."""
        begin, end = self.pads[axis], self.pads[axis + len(self.sizes)]
        extent = (self.kernel_shape[axis] - 1) * self.dilations[axis]
        last = self.sizes[axis] + end - 1
        starts = [-begin]
        while starts[-1] + self.strides[axis] + extent <= last:
            starts.append(starts[-1] + self.strides[axis])
        following = starts[-1] + self.strides[axis]
        if ceil_mode and starts[-1] + extent < last and following < self.sizes[axis]:
            starts.append(following)
        return starts

    def windows(self, *, ceil_mode: bool = False) -> list[tuple[int, ...]]:
        """Where all windows start, in row-major order."""
        return list(product(*(self.starts(axis, ceil_mode=ceil_mode) for axis in range(len(self.sizes)))))

    def output_sizes(self, *, ceil_mode: bool = False) -> tuple[int, ...]:
        """How many windows each axis has."""
        return tuple(len(self.starts(axis, ceil_mode=ceil_mode)) for axis in range(len(self.sizes)))

    def taps(self, start: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Kernel index and position of each tap of a window, in row-major order; the position may lie outside."""
        for tap in product(*(range(kernel) for kernel in self.kernel_shape)):
            yield tap, tuple(first + index * step for first, index, step in zip(start, tap, self.dilations, strict=True))

    def holds(self, position: tuple[int, ...]) -> bool:
        """Whether a position is an element of the input."""
        return all(0 <= place < size for place, size in zip(position, self.sizes, strict=True))

    def holds_padded(self, position: tuple[int, ...]) -> bool:
        """Whether a position is an element of the input or of its explicit padding."""
        axes = len(self.sizes)
        return all(-self.pads[axis] <= position[axis] < self.sizes[axis] + self.pads[axis + axes] for axis in range(axes))


@st.composite
def window_cases(draw: st.DrawFn, *, pads_below_kernel: bool = False) -> Window:
    """Windows over one to three axes that fit into the padded input."""
    axes = draw(st.integers(1, 3))

    def numbers(lowest: int, highest: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(lowest, highest), min_size=axes, max_size=axes)))

    kernel_shape, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    sizes, begins, ends = list(numbers(1, 5)), numbers(0, 2), numbers(0, 2)
    if pads_below_kernel:
        begins = tuple(min(pad, kernel - 1) for pad, kernel in zip(begins, kernel_shape, strict=True))
        ends = tuple(min(pad, kernel - 1) for pad, kernel in zip(ends, kernel_shape, strict=True))
    for axis in range(axes):
        extent = (kernel_shape[axis] - 1) * dilations[axis] + 1
        sizes[axis] = max(sizes[axis], extent - begins[axis] - ends[axis])
    return Window(tuple(sizes), kernel_shape, strides, dilations, begins + ends)


def small_integers(draw: st.DrawFn, shape: tuple[int, ...], *, largest: int = 3) -> np.ndarray:
    """Integers in -largest .. largest as int64."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random.integers(-largest, largest, shape, endpoint=True)


def integer_arrays(seed: int, *shapes: tuple[int, ...], largest: int = 9) -> list[np.ndarray]:
    """Integer-valued float32 arrays."""
    random = np.random.default_rng(seed)
    return [random.integers(-largest, largest, shape, endpoint=True).astype(np.float32) for shape in shapes]


def call_operator(
    operator: Operator, *inputs: np.ndarray | None, opset: int = 17, outputs: int = 1, **attributes: Attribute
) -> tuple[np.ndarray, ...]:
    """All outputs of an operator; its inputs must come out of it unchanged."""
    before = [None if item is None else item.copy() for item in inputs]
    result = operator(Call(opset, attributes, outputs), *inputs)
    results = result if isinstance(result, tuple) else (result,)
    for item, copy in zip(inputs, before, strict=True):
        assert item is None or item.tobytes() == copy.tobytes()
    assert len(results) == outputs
    assert all(type(item) is np.ndarray for item in results)
    return results
