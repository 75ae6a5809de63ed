"""Memory of one run over a fixed number of samples: every tensor with its samples on the last axis, laid out for its readers.

Buffers are float32 (float64 where a layer needs it) and live as long as the workspace; their padding is written once and
stays zero, so that a convolution reads its padded input where the step before has put its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from npusim.graph import Array
from npusim.program import Program

__all__ = [
    "GAP",
    "Buffer",
    "Layout",
    "Tenant",
    "Workspace",
    "allocate",
    "elements_of",
    "from_samples_last",
    "to_samples_last",
]

FloatArray = npt.NDArray[Any]

GAP: Final = 16
"""Elements left free between long rows of memory: one cache line.

Rows a power of two apart would put the same place of each of them into one set of the cache, and going from row to row would
miss every time.
"""


CACHE_LINE: Final = 64
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor lies in memory.

    Attributes
    ----------
    begins, ends
        Zeros before and after each spatial axis, the most that any of its readers wants.
    channels_outermost
        Each channel's positions and samples in one piece, instead of each position's channels and samples.
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    channels_outermost: bool = False

    @property
    def is_padded(self) -> bool:
        """Whether there is any padding."""
        return any(self.begins) or any(self.ends)


def elements_of(shape: tuple[int, ...], layout: Layout, samples: int) -> int:
    """Elements of memory that a tensor takes.

    Examples
    --------
    >>> elements_of((1, 2, 5), Layout((1,), (1,)), 10)
    140
    """
    sizes = (size + begin + end for size, begin, end in zip(shape[2:], layout.begins, layout.ends, strict=True))
    channel = math.prod(sizes) * samples + (GAP if layout.channels_outermost else 0)
    return shape[1] * channel


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor ``[*spatial, channels, samples]`` inside of its padding.

    Attributes
    ----------
    whole
        With the padding.
    inner
        Without: a view.
    layout
        What lies around it, and in which order.
    memory
        All of it in one dimension, with what lies between the channels.
    """

    whole: FloatArray
    inner: FloatArray
    layout: Layout
    memory: FloatArray

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        layout: Layout,
        samples: int,
        dtype: npt.DTypeLike = np.float32,
        memory: FloatArray | None = None,
    ) -> Buffer:
        """Lay out a tensor whose ONNX shape for one sample is `shape`, rank 2 or more.

        Parameters
        ----------
        shape, layout, samples
            What is laid out.
        dtype
            Its element type.
        memory
            As many elements as :func:`elements_of` says, of any value where there is no padding; fresh zeros by default.
        """
        channels, spatial = shape[1], shape[2:]
        sizes = [size + begin + end for size, begin, end in zip(spatial, layout.begins, layout.ends, strict=True)]
        if memory is None:
            memory = np.zeros(elements_of(shape, layout, samples), dtype)
        if layout.channels_outermost:
            steps = np.empty((*sizes, samples), dtype).strides
            row = (math.prod(sizes) * samples + GAP) * memory.itemsize
            whole = as_strided(memory, (*sizes, channels, samples), (*steps[:-1], row, steps[-1]))
        else:
            whole = memory.reshape(*sizes, channels, samples)
        inner = tuple(slice(begin, begin + size) for begin, size in zip(layout.begins, spatial, strict=True))
        return cls(whole, whole[inner], layout, memory)

    def padded(self, begins: tuple[int, ...], ends: tuple[int, ...]) -> FloatArray:
        """The tensor within the padding that one reader wants."""
        sides = zip(self.layout.begins, self.layout.ends, begins, ends, self.whole.shape, strict=False)
        return self.whole[tuple(slice(b - mine, size - (e - yours)) for b, e, mine, yours, size in sides)]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tensor that needs memory for a while.

    Attributes
    ----------
    name, shape, layout
        The tensor.
    first, last
        The steps between which its values are needed, both included.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout
    first: int
    last: int


def allocate(tenants: Iterable[Tenant], samples: int) -> dict[str, Buffer]:
    """Buffers for tensors, of which those without padding take over memory that is not needed any more.

    Less memory stays in the cache: what a step writes lies where a step shortly before it has read.

    Parameters
    ----------
    tenants
        The tensors.
    samples
        Number of samples.
    """
    buffers: dict[str, Buffer] = {}
    free: list[FloatArray] = []
    taken: list[tuple[int, FloatArray]] = []
    for tenant in sorted(tenants, key=lambda tenant: tenant.first):
        if tenant.layout.is_padded:
            buffers[tenant.name] = Buffer.of(tenant.shape, tenant.layout, samples)
            continue
        free += [memory for last, memory in taken if last < tenant.first]
        taken = [(last, memory) for last, memory in taken if last >= tenant.first]
        size = elements_of(tenant.shape, tenant.layout, samples)
        fitting = [index for index, memory in enumerate(free) if memory.size >= size]
        memory = free.pop(min(fitting, key=lambda index: free[index].size)) if fitting else np.zeros(size, np.float32)
        taken.append((tenant.last, memory))
        buffers[tenant.name] = Buffer.of(tenant.shape, tenant.layout, samples, memory=memory[:size])
    return buffers


@dataclass(slots=True)
class Workspace:
    """Buffers of all tensors, for a fixed number of samples.

    Attributes
    ----------
    samples
        Number of samples.
    buffers
        By tensor name, for tensors that fast steps read or write.
    standard
        Values in ONNX layout as the reference engine stores them: inputs, and tensors of steps that run as the reference does.
    stop
        Memory that :meth:`turned` uses.
    """

    program: Program
    samples: int
    buffers: Mapping[str, Buffer]
    standard: dict[str, Array] = field(default_factory=dict)
    stop: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def reset(self, inputs: Mapping[str, Array]) -> None:
        """Start a run with new inputs in ONNX layout."""
        self.standard = dict(inputs)

    def stored(self, name: str) -> Array:
        """A tensor in ONNX layout and the element type the reference engine stores it in."""
        if name not in self.standard:
            # codes in buffers are finite: whatever makes them of floats has made sure
            self.standard[name] = self.turned(self.buffers[name].inner, self.program.tensors[name].stored)
        return self.standard[name]

    def turned(self, values: FloatArray, dtype: npt.DTypeLike) -> Array:
        """A copy of ``[*spatial, channels, samples]`` as ``[samples, channels, *spatial]``, in another element type.

        NumPy is slow to turn arrays round and convert them at once, and slower where the steps between elements are powers of
        two. So there is a stop between the two, with each row an odd number of cache lines from the next.
        """
        made = np.dtype(dtype)
        samples, channels, positions = values.shape[-1], values.shape[-2], math.prod(values.shape[:-2])
        result = np.empty((samples, channels, *values.shape[:-2]), made)
        if samples == 1 or positions == 1:
            np.copyto(result, from_samples_last(values), casting="unsafe")
            return result
        row = (-(-samples * made.itemsize // CACHE_LINE) | 1) * CACHE_LINE
        if self.stop.size < channels * positions * row:
            self.stop = np.empty(channels * positions * row, np.uint8)
        steps = np.empty((*values.shape[:-2], row), np.uint8).strides[:-1]
        between = as_strided(
            self.stop[: channels * positions * row].view(made),
            values.shape,
            (*steps, positions * row, made.itemsize),
        )
        np.copyto(between, values, casting="unsafe")
        np.copyto(result, from_samples_last(between))
        return result

    def load(self, name: str) -> None:
        """Bring a tensor that exists in ONNX layout only into its buffer."""
        np.copyto(self.buffers[name].inner, to_samples_last(self.standard[name]), casting="unsafe")


def to_samples_last(values: Array) -> Array:
    """View ``[samples, channels, *spatial]`` as ``[*spatial, channels, samples]``.

    Examples
    --------
    >>> to_samples_last(np.zeros((5, 2, 7, 1))).shape
    (7, 1, 2, 5)
    """
    return values.transpose(*range(2, values.ndim), 1, 0)


def from_samples_last(values: Array) -> Array:
    """View ``[*spatial, channels, samples]`` as ``[samples, channels, *spatial]``."""
    return values.transpose(values.ndim - 1, values.ndim - 2, *range(values.ndim - 2))
