"""Lowering and emitting are each other's way back: ``lower(emit(program)) == program`` for programs of every kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.errors import UnsupportedError
from npusim.graph import Node
from npusim.graph.scale_metadata import read_scales
from npusim.program import (
    Accumulating,
    Add,
    AveragePool,
    Clip,
    Convolution,
    FullyConnected,
    HostOperation,
    IntegerLayer,
    MaxPool,
    Program,
    ShiftFloor,
    TransposedConvolution,
    Weighted,
    Window,
    geometry_of,
)
from npusim.program.lowering.tinpu.drafts import Draft, StageNumbers, with_residual
from npusim.program.lowering.tinpu.emitter import emit
from npusim.quantization import quantize
from support.float_networks import FloatBuilder, RandomNetwork, random_networks, samples

SLOW = [HealthCheck.too_slow]
CODES = st.sampled_from([Clip(-128, 127), Clip(0, 255), Clip(-8, 7), Clip(0, 15)])
KINDS = ["conv", "depthwise", "pointwise", "residual", "transpose", "average", "max", "add", "move"]


def lowered(program: Program) -> Program:
    return InferenceSession(emit(program)).program


def same(one: object, other: object, where: str = "program") -> None:
    """Equal, whatever it consists of; programs up to constants that no step reads, which lowering may keep."""
    assert type(one) is type(other), where
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert np.array_equal(one, other), where
    elif is_dataclass(one):
        for field in fields(one):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(one, Program) and field.name == "constants":
                mine, theirs = read_constants(one), read_constants(other)
            same(mine, theirs, f"{where}.{field.name}")
    elif isinstance(one, Mapping):
        assert set(one) == set(other), where
        for key in one:
            same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, tuple):
        assert len(one) == len(other), where
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            same(mine, theirs, f"{where}[{index}]")
    else:
        assert one == other, where


def read_constants(program: Program) -> dict[str, Any]:
    nodes = [step.node for step in program.host_operations]
    nodes += [node for stage in program.quantize_stages for node in stage.nodes]
    names = {name for node in nodes for name in node.inputs}
    return {name: value for name, value in program.constants.items() if name in names}


class Sketch:
    """Appends layers of random numbers to a draft; what a layer is called is drawn, too."""

    def __init__(self, data: st.DataObject, channels: int, length: int) -> None:
        self.draw, self.draft = data.draw, Draft()
        self.shape: tuple[int, ...] = (1, channels, length, 1)
        self.input_shape, self.tensor = self.shape, "codes"
        self.random = np.random.default_rng(self.draw(st.integers(0, 2**16)))
        numbers = StageNumbers(
            self.random.normal(0, 1, channels).astype(np.float32),
            self.random.integers(1, 4096, channels),
            self.random.integers(0, 12, channels),
            self.draw(CODES),
        )
        self.draft.stage("input/stage", "input", "codes", numbers, 4)

    def requantization(self, channels: int, clip: Clip | None = None) -> ShiftFloor:
        random = self.random
        return ShiftFloor(
            random.integers(-(2**15), 2**15, channels),
            random.integers(1, 256, channels),
            random.integers(0, 16, channels),
            clip=self.draw(CODES) if clip is None else clip,
        )

    def common(self, shape: tuple[int, ...]) -> dict[str, Any]:
        number = len(self.draft.steps)
        name = self.draw(st.sampled_from([f"/layers.{number}/Conv", f"part{number}", f"/a/b{number}", f"/n{number}/Relu"]))
        return {
            "name": name,
            "inputs": (self.tensor,),
            "output": f"t{number}",
            "input_shape": self.shape,
            "output_shape": shape,
            "nodes": (),
        }

    def append(self, layer: IntegerLayer) -> None:
        self.draft.layer(layer)
        self.tensor, self.shape = layer.output, layer.output_shape

    def accumulating(self, shape: tuple[int, ...], clip: Clip | None = None) -> dict[str, Any]:
        return {
            **self.common(shape),
            "accumulator_shape": shape,
            "channel_axis": 1,
            "requantization": self.requantization(shape[1], clip),
            "taps": (),
        }

    def convolution(self, outputs: int, kernel: int, group: int = 1, clip: Clip | None = None) -> Convolution:
        window = Window((kernel, 1), (1, 1), (kernel // 2, 0, kernel // 2, 0), (1, 1))
        weights = self.random.integers(-7, 8, (outputs, self.shape[1] // group, kernel, 1))
        parts = self.accumulating((1, outputs, *self.shape[2:]), clip)
        return Convolution(**parts, weights=weights, weight_bits=4, window=window, group=group)

    def add(self, kind: str) -> None:
        channels, length = self.shape[1:3]
        match kind:
            case "conv":
                self.append(self.convolution(self.draw(st.integers(1, 4)), 3))
            case "depthwise":
                self.append(self.convolution(channels, 3, group=channels))
            case "pointwise":
                self.append(self.convolution(self.draw(st.integers(1, 4)), 1))
            case "residual":
                other = self.tensor
                own = self.convolution(channels, 1, clip=Clip(-512, 511))
                self.append(with_residual(own, other, own.output, self.draw(CODES)))
            case "transpose":
                window = Window((2, 1), (2, 1), (0, 0, 0, 0), (1, 1), output_padding=(0, 0))
                weights = self.random.integers(-7, 8, (channels, 2, 2, 1))
                parts = self.accumulating((1, 2, 2 * length, 1))
                self.append(TransposedConvolution(**parts, weights=weights, weight_bits=4, window=window, group=1))
            case "average" if length >= 4:
                window = Window((2, 1), (2, 1), (0, 0, 0, 0), (1, 1))
                self.append(AveragePool(**self.accumulating((1, channels, length // 2, 1)), window=window))
            case "max" if length >= 4:
                window = Window((2, 1), (2, 1), (0, 0, 0, 0), (1, 1))
                self.append(MaxPool(**self.common((1, channels, length // 2, 1)), window=window))
            case "add":
                other = self.tensor
                self.append(self.convolution(channels, 3))
                parts = self.accumulating(self.shape)
                self.append(Add(**{**parts, "inputs": (self.tensor, other)}))
            case "move":
                for name in (f"/move{len(self.draft.steps)}", f"/back{len(self.draft.steps)}"):
                    node = Node("Transpose", name, (self.tensor,), (f"{name}:out",), {"perm": (0, 1, 3, 2)})
                    self.draft.host(node, {})
                    (self.tensor,) = node.outputs

    def finish(self, ending: str) -> Program:
        """Global average and fully connected layer, real values, or nothing more."""
        if ending != "codes":
            flat = self.shape[:2]
            whole = Window(self.shape[2:], (1, 1), (0, 0, 0, 0), (1, 1))
            self.append(AveragePool(**self.accumulating(flat), window=whole))
            weights = self.random.integers(-127, 128, (flat[1], 3))
            self.append(FullyConnected(**self.accumulating((1, 3)), weights=weights, weight_bits=8))
        if ending == "real":
            self.draft.dequantization("last", self.tensor, "output", np.array(0.125, np.float32))
            self.tensor = "output"
        return self.draft.program({"input": self.input_shape}, {self.tensor: self.shape})


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(
    st.data(),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from([4, 8]),
    st.sampled_from(["codes", "fully connected", "real"]),
)
def test_a_program_is_read_as_it_was_written(
    data: st.DataObject, kinds: list[str], channels: int, length: int, ending: str
) -> None:
    sketch = Sketch(data, channels, length)
    for kind in kinds:
        sketch.add(kind)
    draft = sketch.finish(ending)
    program = lowered(draft)
    assert [type(layer) for layer in program.layers] == [type(layer) for layer in draft.layers]
    for made, read in zip(draft.layers, program.layers, strict=True):
        assert (made.inputs, made.output) == (read.inputs, read.output)
        assert (made.input_shape, made.output_shape, geometry_of(made)) == (
            read.input_shape,
            read.output_shape,
            geometry_of(read),
        )
        if isinstance(made, Accumulating) and isinstance(read, Accumulating):
            assert made.requantization == read.requantization
            assert made.output_clip == read.output_clip
        if isinstance(made, Weighted) and isinstance(read, Weighted):
            assert np.array_equal(made.weights, read.weights)
    assert len(program.quantize_stages) == 1
    assert len(program.host_operations) == len(draft.host_operations)
    same(lowered(program), program)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(random_networks(), st.sampled_from([8, 4, 2]), st.booleans())
def test_what_quantize_makes_is_read_as_it_was_written(network: RandomNetwork, weight_bits: int, float_output: bool) -> None:
    x = samples(network.shape, seed=network.seed)
    found = quantize(network.model, x, weight_bits, float_output=float_output)
    same(lowered(found.program), found.program)
    same(InferenceSession(found.content).program, found.program)


def test_an_arithmetic_that_the_dialect_cannot_write_is_refused() -> None:
    whole = Window((4, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
    draft = Draft()
    layer = AveragePool(
        name="pool",
        inputs=("input",),
        output="output",
        input_shape=(1, 1, 4, 1),
        output_shape=(1, 1),
        nodes=(),
        accumulator_shape=(1, 1),
        channel_axis=1,
        requantization=ShiftFloor(zero, one, zero, one, clip=Clip(0, 255)),
        taps=(),
        window=whole,
    )
    draft.layer(layer)
    with pytest.raises(UnsupportedError, match="requantization of layer 'pool' has no form"):
        emit(draft.program({"input": (1, 1, 4, 1)}, {"output": (1, 1)}))


def test_the_file_keeps_the_scales_of_every_step_that_makes_codes() -> None:
    graph = FloatBuilder((1, 4, 8, 1), seed=2)
    graph.conv(8, 3)
    graph.relu()
    graph.max_pool()
    graph.flatten()
    graph.linear(3)
    for float_output in (False, True):
        session = InferenceSession(quantize(graph.model(), samples(graph.shape), float_output=float_output).content)
        made = {step.tensors[-1] for step in session.program.steps if not isinstance(step, HostOperation)}
        assert set(read_scales(session.get_modelmeta().custom_metadata_map)) == made
