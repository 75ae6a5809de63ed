"""One function, spelled in the ways in which exporters and simplifiers write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from support.float_networks import FloatBuilder

__all__ = ["Function", "Speller", "functions"]

Floats = npt.NDArray[np.float64]
Choose = Callable[[list[str]], str]
"""Picks one of several spellings."""


@dataclass(frozen=True)
class Function:
    """A small network: what it computes, not how it is written.

    Numbers are dyadic, so that every spelling has the same ones exactly, unless `jitter` spreads them.
    """

    seed: int
    channels: int
    length: int
    norm_in_front: bool
    activations: tuple[str, str]
    pool: str
    norm_behind_pool: bool
    whole: str
    jitter: bool

    def spelled(self, choose: Choose) -> FloatBuilder:
        """The network, each part of it written as `choose` says."""
        speller = Speller(
            FloatBuilder((1, self.channels, self.length, *((1,) if choose(["1-D", "2-D"]) == "2-D" else ()))), choose
        )
        graph, random = speller.graph, np.random.default_rng(self.seed)
        if self.norm_in_front:
            speller.affine(*self._affine(random, self.channels))
        speller.conv(self._dyadic(random, (6, self.channels, 3)), self._dyadic(random, 6), pad=1)
        speller.affine(*self._affine(random, 6))
        speller.activation(self.activations[0])
        if self.pool == "maximum":
            graph.max_pool()
        elif self.pool == "average":
            graph.average_pool(2)
        if self.norm_behind_pool:
            speller.affine(*self._affine(random, 6))
        speller.conv(self._dyadic(random, (5, 6, 1)), self._dyadic(random, 5), pad=0)
        speller.affine(*self._affine(random, 5))
        speller.activation(self.activations[1])
        speller.whole(self.whole)
        speller.linear(self._dyadic(random, (5, 3)), self._dyadic(random, 3))
        return graph

    def _dyadic(self, random: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
        values = random.integers(-15, 16, shape) / 16
        values = np.where(values == 0, 1 / 16, values)
        return values * random.uniform(0.9, 1.1, shape) if self.jitter else values

    def _affine(self, random: np.random.Generator, channels: int) -> tuple[Floats, Floats]:
        """Gain, and offset as a multiple of it."""
        gain = 2.0 ** random.integers(-2, 2, channels) * random.choice([-1, 1, 1], channels)
        gain = gain * random.uniform(0.8, 1.2, channels) if self.jitter else gain
        return gain, gain * self._dyadic(random, channels)


@dataclass
class Speller:
    """Appends parts of a network to a graph, each in one of its spellings."""

    graph: FloatBuilder
    choose: Choose

    def _column(self, values: npt.ArrayLike) -> str:
        return self.graph.constant(np.reshape(values, (1, -1, *(1,) * (len(self.graph.current) - 2))))

    def affine(self, gain: Floats, offset: Floats) -> None:
        """``gain * x + offset``, maybe behind a reshape, which is then undone or not needed any more."""
        graph, before = self.graph, self.graph.current
        place = self.choose(["here", "unsqueezed", "reshaped"]) if len(before) > 2 else "here"
        if place == "unsqueezed":
            graph.node("Unsqueeze", graph.constant([len(before)], np.int64), shape=(*before, 1))
        elif place == "reshaped":
            shape = (*before[:2], int(np.prod(before[2:])))
            graph.node("Reshape", graph.constant(shape, np.int64), shape=shape)
        self._affine(gain, offset)
        if graph.current != before:
            graph.node("Reshape", graph.constant(before, np.int64), shape=before)

    def _affine(self, gain: Floats, offset: Floats) -> None:
        graph = self.graph
        match self.choose(["mul_add", "add_mul", "div_sub", "neg", "from", "batch_norm"]):
            case "mul_add":
                graph.node("Mul", self._column(gain))
                graph.node("Add", self._column(offset))
            case "add_mul":
                graph.node("Add", self._column(offset / gain))
                graph.node("Mul", self._column(gain))
            case "div_sub":
                graph.node("Div", self._column(1 / gain))
                graph.node("Sub", self._column(-offset))
            case "neg":
                graph.node("Mul", self._column(-gain))
                graph.node("Neg")
                graph.node("Add", self._column(offset))
            case "from":
                graph.node("Mul", self._column(-gain))
                source = graph.tensor
                graph.node("Sub", source, source=self._named(self._column(offset), source))
            case _:
                variance = np.full(gain.size, 4.0)
                parts = (gain * 2, offset, np.zeros(gain.size), variance)
                graph.node("BatchNormalization", *(graph.constant(part) for part in parts), epsilon=0.0)

    def _named(self, constant: str, like: str) -> str:
        self.graph.shapes[constant] = self.graph.shapes[like]
        return constant

    def activation(self, kind: str) -> None:
        """None, a ReLU, or one that saturates at 6."""
        graph = self.graph
        if kind == "relu":
            match self.choose(["Relu", "Max", "Clip"]):
                case "Relu":
                    graph.node("Relu")
                case "Max":
                    graph.node("Max", graph.constant(0.0))
                case _:
                    graph.node("Clip", graph.constant(0.0))
        elif kind == "relu6":
            match self.choose(["Clip", "Max_Min", "Min_Max", "Relu_Min"]):
                case "Clip":
                    graph.node("Clip", graph.constant(0.0), graph.constant(6.0))
                case "Max_Min":
                    graph.node("Max", graph.constant(0.0))
                    graph.node("Min", graph.constant(6.0))
                case "Min_Max":
                    graph.node("Min", graph.constant(6.0))
                    graph.node("Max", graph.constant(0.0))
                case _:
                    graph.node("Relu")
                    graph.node("Min", graph.constant(6.0))

    def conv(self, weights: Floats, bias: Floats, pad: int) -> None:
        """A convolution along the signal, its bias in the node or behind it."""
        graph = self.graph
        ones = (1,) * (len(graph.current) - 3)
        zeros = (0,) * len(ones)
        kernel = weights.reshape(*weights.shape, *ones)
        inside = self.choose(["bias", "no bias"]) == "bias"
        names = [graph.constant(kernel)] + ([graph.constant(bias)] if inside else [])
        shape = (1, len(weights), *graph.current[2:])
        pads = (pad, *zeros, pad, *zeros)
        graph.node("Conv", *names, shape=shape, kernel_shape=kernel.shape[2:], pads=pads)
        if not inside:
            graph.node("Add", self._column(bias))

    def whole(self, kind: str) -> None:
        """The average or the largest value of each channel, as features."""
        graph = self.graph
        shape = graph.current
        axes = tuple(range(2, len(shape)))
        area, kept, flat = int(np.prod(shape[2:])), (*shape[:2], *(1,) * len(axes)), shape[:2]
        spelling = self.choose(["pool", "reduce", "reduce and drop", "sum", "sum and drop"])
        if spelling == "pool":
            graph.node(f"Global{'Average' if kind == 'average' else 'Max'}Pool", shape=kept)
        else:
            keep = "drop" not in spelling
            result = kept if keep else flat
            if kind == "maximum":
                graph.node("ReduceMax", shape=result, axes=axes, keepdims=int(keep))
            elif spelling.startswith("sum"):
                graph.node("ReduceSum", graph.constant(axes, np.int64), shape=result, keepdims=int(keep))
                if self.choose(["Mul", "Div"]) == "Mul":
                    graph.node("Mul", graph.constant(1 / area))
                else:
                    graph.node("Div", graph.constant(float(area)))
            else:
                graph.node("ReduceMean", shape=result, axes=axes, keepdims=int(keep))
        if graph.current != flat:
            if self.choose(["Flatten", "Squeeze"]) == "Flatten":
                graph.flatten()
            else:
                graph.node("Squeeze", graph.constant(axes, np.int64), shape=flat)

    def linear(self, weights: Floats, bias: Floats) -> None:
        """A fully connected layer with weights ``[in, out]``."""
        graph, shape = self.graph, (1, weights.shape[1])
        match self.choose(["Gemm", "transB", "Gemm_Add", "MatMul_Add", "MatMul_Sub"]):
            case "Gemm":
                graph.node("Gemm", graph.constant(weights), graph.constant(bias), shape=shape)
            case "transB":
                graph.node("Gemm", graph.constant(weights.T), graph.constant(bias), shape=shape, transB=1)
            case "Gemm_Add":
                graph.node("Gemm", graph.constant(weights / 2), shape=shape, alpha=2.0)
                graph.node("Add", graph.constant(bias))
            case "MatMul_Add":
                graph.node("MatMul", graph.constant(weights), shape=shape)
                graph.node("Add", graph.constant(bias))
            case _:
                graph.node("MatMul", graph.constant(weights), shape=shape)
                graph.node("Sub", graph.constant(-bias))


@st.composite
def functions(draw: st.DrawFn, *, jitter: bool) -> Function:
    """A small network of every part that has several spellings."""
    activation = st.sampled_from(["none", "relu", "relu6"])
    return Function(
        draw(st.integers(0, 2**16)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([8, 16])) if not jitter else draw(st.sampled_from([8, 12])),
        draw(st.booleans()),
        (draw(activation), draw(activation)),
        draw(st.sampled_from(["none", "maximum", "average"])),
        draw(st.booleans()),
        draw(st.sampled_from(["average", "maximum"])),
        jitter,
    )
