"""Small models for the rules of ``npusim lint``: one layer each, as its kind, sizes and parameters say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npusim.graph.model_file import open_model
from npusim.rules import LintedLayer, LintReport, lint_model, rulebook
from support.builders import GraphBuilder
from support.sketch import Sketch

__all__ = ["convolution", "dense", "last_layer", "lint", "pool", "requantized"]


def lint(model: bytes, device: str = "f28p55x", compiler: str = "2.1") -> LintReport:
    return lint_model(open_model(model), rulebook(device, compiler))


def last_layer(model: bytes, device: str = "f28p55x", compiler: str = "2.1") -> tuple[LintedLayer, set[str]]:
    """The last layer of a model, and the rules of the findings on it."""
    report = lint(model, device, compiler)
    layer = report.layers[-1]
    return layer, {finding.rule for finding in report.findings if finding.layer == layer.step.name}


def convolution(
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    *,
    size: Sequence[int] = (32, 1),
    group: int = 1,
    largest: int = 20,
    clip: tuple[int, int] = (0, 255),
    transposed: bool = False,
    **geometry: object,
) -> bytes:
    """One convolution behind an input stage."""
    sketch = Sketch(inputs, *size)
    shape = (inputs, outputs // group, *kernel) if transposed else (outputs, inputs // group, *kernel)
    weights = sketch.weights(*shape, largest=largest)
    extra = {"transposed": True, "outputs": outputs} if transposed else {}
    return sketch.finish(sketch.layer(weights, group=group, clip=clip, **extra, **geometry))


def dense(inputs: int, outputs: int, largest: int = 20, scale: int = 1) -> bytes:
    """One fully connected layer on the codes of an input stage."""
    sketch = Sketch(inputs)
    weights = sketch.weights(inputs, outputs, largest=largest)
    weights[0, 0] = largest
    zeros, ones = np.zeros(outputs), np.ones(outputs)
    return sketch.finish(sketch.graph.fully_connected(sketch.codes, weights, zeros, scale * ones, 6 * ones, (-128, 127)))


def pool(kind: str, channels: int, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> bytes:
    """A max pool, an average pool, or the global average over everything."""
    sketch = Sketch(channels, *size)
    if kind == "max":
        made = sketch.graph.node("MaxPool", sketch.codes, kernel_shape=list(kernel), strides=list(strides))
    elif kind == "global":
        made = sketch.graph.global_average(sketch.codes, 0, 1, 2, (-128, 127))
    else:
        made = sketch.graph.average_pool(sketch.codes, list(kernel), list(strides), [0, 0, 0, 0], 0, 1, 2, (-128, 127))
    return sketch.finish(made)


def requantized(
    *, bias: int = 0, scale: int = 1, shift: int = 6, clip: tuple[int, int] = (0, 255), largest: int = 20, dialect: str = "ts17"
) -> bytes:
    """A fully connected layer of 16 inputs with these parameters in its channel 2."""
    graph = GraphBuilder((1, 16), dialect)
    codes = graph.input_stage([0] * 16, [1] * 16, [0] * 16)
    weights = np.zeros((16, 4), np.int64)
    weights[0] = largest
    values = [np.array([0, 0, bias, 0]), np.array([1, 1, scale, 1]), np.array([6, 6, shift, 6])]
    return graph.model(graph.fully_connected(codes, weights, *values, clip))
