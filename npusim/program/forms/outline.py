"""The maps of one program: what each of its steps makes of the elements that it reads."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import partial
from types import FunctionType
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.program.direct import AffineCombination, Concatenation, Elementwise, Table
from npusim.program.forms.maps import ClipOfSum, Maps, Requantized, Staircase, Sum, Summed, Unexamined, numbers_of
from npusim.program.input_stage import DeviceStage
from npusim.program.layers import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MaxPool,
    TransposedConvolution,
    Window,
)
from npusim.program.moves import Pad, Slice
from npusim.program.program import HostOperation, Program, QuantizeStage, Step, Tensor
from npusim.program.requantization import Clip, IntegerArray
from npusim.program.runtime_layers import RuntimeCombination, RuntimeFunction
from npusim.program.taps import ArithmeticTap, CodesTap

__all__ = ["Orientation", "Outline", "StepOutline", "outline", "outline_step"]

_NAMES: Final = frozenset({"name", "inputs", "output", "nodes", "taps", "label"})
"""Fields of a layer that say what it is called, not what it computes."""


UNLIMITED: Final = Clip(-(2**62), 2**62)
"""The saturation of an inner tensor before the first one."""

_STABLE_OPSET: Final = 13
"""From here on an operator with the same attributes and operands computes the same in every version of the operator set."""

_WITHOUT_EFFECT: Final = {"auto_pad": "NOTSET", "dilations": 1, "strides": 1, "pads": 0, "group": 1}
"""Attributes of convolutions that do nothing where they, or all their numbers, have this value."""

MERGED_SHIFT: Final = 20
"""Powers of two of at most this size may be part of the multiplication before them, see :func:`_merged`."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the accumulator of a layer goes with the functions of its maps, ``accumulator = factor * argument + offset``.

    Attributes
    ----------
    maps
        int64 [channels], the map of each channel.
    factor, offset
        int64 [channels]; a factor of 0 where the channel's map is not a function of this layer's own sum.
    """

    maps: IntegerArray
    factor: IntegerArray
    offset: IntegerArray


@dataclass(frozen=True, slots=True)
class Outline:
    """The elements of a program's tensors.

    Attributes
    ----------
    tensors
        int64 for inputs and results of steps, as the program holds them, in the shape for one sample.
    outputs
        Those of the model, in the order and with the axes that it declares.
    orientations
        Of layers that sum up, by name.
    """

    tensors: Mapping[str, IntegerArray]
    outputs: tuple[IntegerArray, ...]
    orientations: Mapping[str, Orientation]


def outline(program: Program, maps: Maps, places: Mapping[str, int]) -> Outline:
    """Find what the elements of a program are.

    Parameters
    ----------
    program
        The program.
    maps
        Where maps are numbered; give the same to programs that are to be compared.
    places
        For each input of the program the number of the input that it stands for.
    """
    walk = _Walk(program, maps)
    for name in program.inputs:
        walk.read_input(name, places[name])
    for step in program.steps:
        walk.run(step)
    outputs = tuple(walk.declared(program.resolve(name)) for name in program.outputs)
    return Outline(walk.tensors, outputs, walk.orientations)


@dataclass(frozen=True, slots=True)
class StepOutline:
    """The elements of one step, for whatever values its inputs hold.

    Attributes
    ----------
    elements
        int64 in the shape of its result.
    orientation
        Of a layer; None where it does not sum up, or a residual comes behind.
    """

    elements: IntegerArray
    orientation: Orientation | None


def outline_step(program: Program, step: Step, maps: Maps, ends: Mapping[str, tuple[int, int] | None]) -> StepOutline:
    """Find what the elements of a step are when its inputs are anything within intervals.

    Parameters
    ----------
    program
        The program that the step is of.
    step
        The step.
    maps
        Where maps are numbered.
    ends
        Smallest and largest code of each input, less zero points; None for one that does not hold codes.
    """
    walk = _Walk(program, maps)
    for name, domain in ends.items():
        walk.take(name, domain)
    walk.run(step)
    return StepOutline(walk.tensors[step.tensors[-1]], walk.orientations.get(step.name))


class _Walk:
    def __init__(self, program: Program, maps: Maps) -> None:
        self.program = program
        self.maps = maps
        self.tensors: dict[str, IntegerArray] = {}
        self.orientations: dict[str, Orientation] = {}
        self._read = program.read_by_steps | {program.resolve(name) for name in program.outputs}

    def read_input(self, name: str, place: int) -> None:
        """The elements of an input, in the order of the file."""
        tensor = self.program.tensors[name]
        size = math.prod(tensor.shape)
        number = self.maps.opaque(("input", place, tensor.dtype.kind == "f"), size, _declared_domain(tensor))
        self._hold(name, self.maps.all_of(number, size).reshape(tensor.declared_shape))

    def take(self, name: str, domain: tuple[int, int] | None) -> None:
        """A tensor of which nothing is known but its range."""
        shape = self.program.tensors[name].shape
        size = math.prod(shape)
        self.tensors[name] = self.maps.all_of(self.maps.opaque(("tensor", name), size, domain), size).reshape(shape)

    def declared(self, name: str) -> IntegerArray:
        """The elements of a tensor or constant as the file has them: in its order of axes, zero points included."""
        if name not in self.tensors and name in self.program.constants:
            return self.maps.constants(self.program.constants[name])
        tensor = self.program.tensors[name]
        held = self.tensors[name]
        turned = held if tensor.order is None else held.transpose(tensor.order)
        return self._shifted(turned, tensor.zero_point)

    def _hold(self, name: str, declared: IntegerArray) -> None:
        tensor = self.program.tensors[name]
        turned = declared if tensor.order is None else declared.transpose(tuple(int(axis) for axis in np.argsort(tensor.order)))
        self.tensors[name] = np.ascontiguousarray(self._shifted(turned, -tensor.zero_point))

    def _shifted(self, elements: IntegerArray, distance: int) -> IntegerArray:
        if not distance:
            return elements
        return self.maps.mapped(elements, (), lambda values, _: values + distance, lambda _: ("shifted", distance))

    def run(self, step: Step) -> None:
        """Find the elements of what a step gives."""
        for inner in self._read.intersection(step.tensors[:-1]):
            found = self._tap(step, inner)
            self.tensors[inner] = self._unknown(inner) if found is None else found
        if isinstance(step, QuantizeStage):
            self.tensors[step.output] = self._stage(step)
        elif isinstance(step, HostOperation):
            self._host(step)
        else:
            found = self._layer(step, [self.tensors[name] for name in step.inputs])
            self.tensors[step.output] = found.reshape(step.output_shape)

    def _unknown(self, name: str) -> IntegerArray:
        """A tensor of which nothing is known but that it is this one."""
        shape = self.program.tensors[name].shape
        return self.maps.all_of(self.maps.opaque(object(), math.prod(shape)), math.prod(shape)).reshape(shape)

    def _tap(self, step: Step, name: str) -> IntegerArray | None:
        """An inner tensor of a layer, as what other codes of the same sums are; None where it is not a function of them."""
        if not isinstance(step, Accumulating):
            return None
        tap = next(tap for tap in step.taps if tap.tensor == name)
        sums = None
        if isinstance(tap, (ArithmeticTap, CodesTap)):
            part = replace(tap.part, clip=UNLIMITED if tap.clip is None else tap.clip)
            staircase = Requantized(part) if tap.is_whole else Unexamined(Requantized(part))
            sums = self._sums_of(step, [self.tensors[other] for other in step.inputs], staircase)
        if sums is None:
            return None
        shape, axis = step.accumulator_shape, step.channel_axis
        others = (*shape[:axis], *shape[axis + 1 :])
        moved = np.moveaxis(sums.elements.reshape(shape[axis], *others), 0, axis)
        return np.ascontiguousarray(moved).reshape(self.program.tensors[name].shape)

    # layers

    def _layer(self, layer: IntegerLayer, inputs: Sequence[IntegerArray]) -> IntegerArray:
        match layer:
            case Accumulating() if math.prod(layer.accumulator_shape[:1]) == 1:
                sums = self._sums_of(layer, inputs, Requantized(layer.requantization))
                return self._opaque_layer(layer, inputs) if sums is None else self._finished(layer, sums, inputs)
            case MaxPool() if layer.input_shape[0] == 1:
                return self._maxima(layer, inputs[0])
            case Table():
                return self._table(inputs[0], layer.lowest, layer.values)
            case RuntimeFunction():
                return self.maps.mapped(
                    inputs[0], (), lambda values, _: layer.codes([values.astype(np.int64)]), lambda _: _fingerprint(layer)
                )
            case Elementwise(constant=constant) if constant is not None and isinstance(
                layer.combination, AffineCombination | RuntimeCombination
            ):
                return self._elementwise(layer, inputs[0], constant)
            case Concatenation(tables=tables, axis=axis):
                parts = [
                    part if table is None else self._table(part, *table) for part, table in zip(inputs, tables, strict=True)
                ]
                return np.concatenate(parts, axis=axis)
            case Slice(slices=slices):
                return inputs[0][slices]
            case Pad(pads=pads, value=value):
                return np.pad(inputs[0], pads, constant_values=int(self.maps.constants(np.array([value]))[0]))
            case _:
                return self._opaque_layer(layer, inputs)

    def _opaque_layer(self, layer: IntegerLayer, inputs: Sequence[IntegerArray]) -> IntegerArray:
        operands = tuple((part.shape, part.tobytes()) for part in inputs)
        tensor = self.program.tensors[layer.output]
        return self._all_opaque(("layer", _fingerprint(layer), operands), tensor.shape, _domain(tensor))

    def _all_opaque(self, key: Hashable, shape: tuple[int, ...], domain: tuple[int, int] | None) -> IntegerArray:
        size = math.prod(shape)
        return self.maps.all_of(self.maps.opaque((key, shape), size, domain), size).reshape(shape)

    def _table(self, elements: IntegerArray, lowest: int, values: IntegerArray) -> IntegerArray:
        return self.maps.mapped(
            elements,
            (),
            lambda codes, _: values[codes.astype(np.int64) - lowest],
            lambda _: ("table", lowest, values.tobytes()),
        )

    def _elementwise(self, layer: Elementwise, elements: IntegerArray, constant: IntegerArray) -> IntegerArray:
        spread = np.broadcast_to(constant, np.broadcast_shapes(constant.shape, elements.shape))
        moving = np.broadcast_to(elements, spread.shape)

        def evaluate(values: npt.NDArray[np.float64], constants: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
            codes, fixed = values.astype(np.int64), np.full(values.shape, int(constants[0]), np.int64)
            return layer.combination.codes(*((fixed, codes) if layer.constant_first else (codes, fixed)))

        return self.maps.mapped(
            moving,
            (spread,),
            evaluate,
            lambda constants: (_fingerprint(layer.combination), int(constants[0]), layer.constant_first),
        )

    def _sums_of(self, layer: Accumulating, inputs: Sequence[IntegerArray], staircase: Staircase) -> Summed | None:
        size = math.prod(layer.accumulator_shape) // layer.requantization.channels
        match layer:
            case Convolution():
                return self._convolution(layer, inputs[0], size, staircase)
            case TransposedConvolution():
                geometry = ("transposed", layer.window, inputs[0].shape[2:], layer.accumulator_shape[2:])
                rows = [self.maps.of_elements(channel) for channel in inputs[0][0]]
                parts = _grouped(np.array(rows), layer.weight_rows, layer.group, layer.weights.shape[1])
                return self.maps.sums(geometry, size, parts, staircase, padded=True)
            case AveragePool(window=window):
                count = math.prod(window.kernel_shape)
                ones = np.ones((1, count), np.int64)
                pools = [(channel[None], ones) for channel in inputs[0][0]]
                return self._windows(pools, window, layer.accumulator_shape, size, staircase)
            case FullyConnected():
                columns = np.moveaxis(inputs[0], -1, 0).reshape(inputs[0].shape[-1], -1)
                return self._points(columns, layer.weights.T, size, staircase)
            case Add():
                shape, axis = layer.accumulator_shape, layer.channel_axis
                both = [np.moveaxis(np.broadcast_to(part, shape), axis, 0).reshape(shape[axis], -1) for part in inputs]
                return self._added(both[0], both[1], size, staircase)
            case _:
                return None

    def _finished(self, layer: Accumulating, sums: Summed, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The elements in the shape of the accumulator, behind the residual where there is one."""
        shape, axis = layer.accumulator_shape, layer.channel_axis
        elements = sums.elements
        residual = layer.residual_of(inputs)
        if residual is not None:
            other = np.moveaxis(np.broadcast_to(residual, shape), axis, 0).reshape(shape[axis], -1)
            elements = self._added(elements, other, elements.shape[1], ClipOfSum(layer.output_clip, shape[axis])).elements
        else:
            first = numbers_of(elements[:, 0])
            self.orientations[layer.name] = Orientation(first, sums.factor, sums.offset)
        others = (*shape[:axis], *shape[axis + 1 :])
        return np.ascontiguousarray(np.moveaxis(elements.reshape(shape[axis], *others), 0, axis))

    def _added(self, one: IntegerArray, other: IntegerArray, size: int, staircase: Staircase) -> Summed:
        """The sum of two tensors, int64 [channels, places] each, place by place."""
        weights = np.ones((2, 1), np.int64)
        parts = [Sum(self._operands(np.stack(pair), size), weights) for pair in zip(one, other, strict=True)]
        return self.maps.sums(None, size, parts, staircase, padded=False)

    def _points(self, columns: IntegerArray, weights: IntegerArray, size: int, staircase: Staircase) -> Summed:
        """Products with a matrix [outputs, inputs] at each place alone; `columns` are int64 [inputs, places]."""
        operands = self._operands(columns, size)
        return self.maps.sums(None, size, [Sum(operands, row[:, None]) for row in weights], staircase, padded=False)

    def _operands(self, columns: IntegerArray, size: int) -> IntegerArray:
        """Elements themselves where there is one place, else the maps that rows of elements are."""
        return columns[:, 0] if size == 1 else np.array([self.maps.of_elements(column) for column in columns], np.int64)

    def _convolution(self, layer: Convolution, elements: IntegerArray, size: int, staircase: Staircase) -> Summed:
        channels = elements[0]
        within = layer.weights.shape[1]
        own = layer.window.is_pointwise and not any(layer.window.pads) and set(layer.window.strides) == {1}
        if own and layer.group == 1:
            return self._points(channels.reshape(len(channels), -1), layer.weight_rows, size, staircase)
        outputs = len(layer.weights) // layer.group
        rows = layer.weights.reshape(len(layer.weights), within, -1)
        starts = [number // outputs * within for number in range(len(rows))]
        if size == 1:
            parts = [(channels[start : start + within], row) for start, row in zip(starts, rows, strict=True)]
            return self._windows(parts, layer.window, layer.accumulator_shape, size, staircase)
        numbers = np.array([self.maps.of_elements(channel) for channel in channels], np.int64)
        sums = [Sum(numbers[start : start + within], row) for start, row in zip(starts, rows, strict=True)]
        geometry, padded = _geometry(layer.window, channels.shape[1:], layer.accumulator_shape[2:])
        return self.maps.sums(geometry, size, sums, staircase, padded=padded)

    def _windows(
        self,
        parts: Sequence[tuple[IntegerArray, IntegerArray]],
        window: Window,
        shape: tuple[int, ...],
        size: int,
        staircase: Staircase,
    ) -> Summed:
        """Sums over windows: for each result elements of channels [channels, *spatial] and weights [channels, taps]."""
        sizes = parts[0][0].shape[1:]
        if size > 1:
            out = shape[2:]
            numbers = [np.array([self.maps.of_elements(channel) for channel in part], np.int64) for part, _ in parts]
            sums = [Sum(number, weights) for number, (_, weights) in zip(numbers, parts, strict=True)]
            geometry, padded = _geometry(window, sizes, out)
            return self.maps.sums(geometry, size, sums, staircase, padded=padded)
        taps, data = _only_window(window, sizes)
        found = []
        for part, weights in parts:
            chosen = part.reshape(len(part), -1)[:, data]
            found.append(Sum(chosen.reshape(-1), weights[:, taps].reshape(-1, 1)))
        return self.maps.sums(None, 1, found, staircase, padded=False)

    def _maxima(self, layer: MaxPool, elements: IntegerArray) -> IntegerArray:
        channels, size = elements[0], math.prod(layer.output_shape) // layer.output_shape[1]
        geometry = "windows", _axes(layer.window, channels.shape[1:], layer.output_shape[2:]), layer.window.ceil_mode
        return np.stack([self.maps.largest(geometry, size, self.maps.of_elements(channel)) for channel in channels])

    # quantize stages and host operations

    def _stage(self, stage: QuantizeStage) -> IntegerArray:
        program, shape = self.program, self.program.tensors[stage.output].shape
        spread, domain = np.broadcast_to(self.declared(stage.input), shape), (stage.codes_range.lower, stage.codes_range.upper)
        if isinstance(stage, DeviceStage):
            return self._device_stage(stage, spread, domain)
        source = program.tensors[stage.input]
        others, description = [], []
        behind = stage.nodes[stage.nodes.index(stage.floor) + 1 :]
        limited = all(is_a(node.op_type, Trait.LIMITS) for node in behind)
        for node in stage.nodes[: len(stage.nodes) - len(behind)] if limited else stage.nodes:
            operands = []
            for name in node.inputs:
                constant = program.constants.get(name) if name else None
                operands.append("" if not name else "data" if constant is None else "constant")
                if constant is not None:
                    others.append(np.broadcast_to(constant, shape))
            description.append((node.op_type, _attributes(node), tuple(operands)))

        def evaluate(values: npt.NDArray[np.float64], constants: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
            named = [name for node in stage.nodes for name in node.inputs if name and name in program.constants]
            scalars = {**program.constants, **dict(zip(named, map(np.asarray, constants), strict=False))}
            return stage.values(np.asarray(values.astype(source.dtype)), scalars, program.opset)[stage.output]

        def describe(constants: Sequence[npt.NDArray[np.generic]]) -> Hashable:
            spelled = list(_spelled(description, constants))
            rounds = [is_a(str(one[0]), Trait.ROUNDS) for one in spelled]
            return "stage", source.dtype.str, domain, tuple(_merged(spelled, rounds) if source.dtype == np.float32 else spelled)

        return self.maps.mapped(spread, others, evaluate, describe, domain)

    def _device_stage(self, stage: DeviceStage, spread: IntegerArray, domain: tuple[int, int]) -> IntegerArray:
        known = stage.parameters
        numbers = [np.broadcast_to(part, spread.shape) for part in (known.offset, known.multiplier, known.shift)]
        how = "device stage", str(stage.variant), stage.wraps, domain
        return self.maps.mapped(spread, numbers, None, lambda constants: (*how, *map(_bits, constants)), domain)

    def _host(self, step: HostOperation) -> None:
        node, program = step.node, self.program
        read = program.inputs_of(step)
        if is_a(node.op_type, Trait.MOVES) and self._moves(node):
            for name, found in zip(node.outputs, self._moved(node), strict=False):
                if name:
                    self._hold(name, found.astype(np.int64))
        elif self._is_function(step, read):
            self._hold(step.tensors[0], self._function(node, read[0]))
        else:
            self._opaque_operation(step)

    def _is_function(self, step: HostOperation, read: Sequence[str]) -> bool:
        """Whether each element of the only result is a function of one element of the only operand that is not constant."""
        constants = [self.program.constants[name] for name in step.node.inputs if name in self.program.constants]
        along_an_axis = "axis" in step.node.attributes and any(value.size > 1 for value in constants)
        one = len(set(read)) == len(step.tensors) == 1 and not along_an_axis
        return one and is_a(step.operator, Trait.ELEMENTWISE) and not self.program.computes_in_float16(step)

    def _moves(self, node: Node) -> bool:
        """Whether elements are all that the operation needs: what says where they go is constant, and what is added is 0."""
        traits = traits_of(node.op_type)
        others = [name for place, name in enumerate(node.inputs) if name and traits.moved and place not in traits.moved]
        if traits.samples is SampleAxis.PADDED:
            added = [
                node.attributes.get("value", 0.0),
                *(self.program.constants.get(name, 1.0) for name in node.inputs[2:3] if name),
            ]
            if any(np.any(np.asarray(value) != 0) or np.any(np.signbit(np.asarray(value))) for value in added):
                return False
        interpolates = is_a(node.op_type, Trait.INTERPOLATES)
        if interpolates and (node.text("mode", "nearest") != "nearest" or node.real("extrapolation_value", 0.0)):
            return False
        return all(name in self.program.constants for name in others)

    def _moved(self, node: Node) -> tuple[Array, ...]:
        """What the operation makes of elements; zeros that it adds are the constant 0, see :class:`Maps`."""
        moved = traits_of(node.op_type).moved
        values: dict[str, Array] = {}
        for place, name in enumerate(node.inputs):
            if name:
                values[name] = self.declared(name) if not moved or place in moved else self.program.constants[name]
        return evaluate_node(node, values, self.program.opset)

    def _function(self, node: Node, name: str) -> IntegerArray:
        """An operation of one tensor and constants, element by element."""
        program = self.program
        source = program.tensors[name]
        elements = self.declared(name)
        constants = {other: program.constants[other] for other in node.inputs if other and other in program.constants}
        shape = np.broadcast_shapes(elements.shape, *(value.shape for value in constants.values()))
        names = list(constants)

        def evaluate(values: npt.NDArray[np.float64], chosen: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
            given = dict(zip(names, map(np.asarray, chosen), strict=True))
            (result,) = evaluate_node(node, {**given, name: np.asarray(values.astype(source.dtype))}, program.opset)
            return result

        def describe(chosen: Sequence[npt.NDArray[np.generic]]) -> Hashable:
            given = dict(zip(names, chosen, strict=True))
            operands = [_bits(given[part]) if part in given else part == name for part in node.inputs]
            opset = min(program.opset, _STABLE_OPSET)
            return node.op_type, _attributes(node), source.dtype.str, opset, tuple(operands)

        spread = [np.broadcast_to(constants[other], shape) for other in names]
        results = _declared_domain(program.tensors[node.outputs[0]])
        return self.maps.mapped(np.broadcast_to(elements, shape), spread, evaluate, describe, results)

    def _opaque_operation(self, step: HostOperation) -> None:
        node, program = step.node, self.program
        operands: list[Hashable] = []
        for name in node.inputs:
            constant = program.constants.get(name) if name else None
            if not name:
                operands.append(None)
            elif constant is not None and name not in self.tensors:
                operands.append(_fingerprint(constant))
            else:
                elements = self.declared(name)
                operands.append((program.tensors[name].dtype.str, elements.shape, elements.tobytes()))
        for place, name in enumerate(node.outputs):
            if name:
                tensor = program.tensors[name]
                key = "operation", node.op_type, _attributes(node), min(program.opset, _STABLE_OPSET), tuple(operands), place
                self._hold(name, self._all_opaque(key, tensor.declared_shape, _declared_domain(tensor)))


def _domain(tensor: Tensor) -> tuple[int, int] | None:
    """The integers that a tensor holds; None where they are not known to be finite integers."""
    whole = tensor.is_integer and math.isfinite(tensor.lower) and math.isfinite(tensor.upper)
    return (int(tensor.lower), int(tensor.upper)) if whole else None


def _declared_domain(tensor: Tensor) -> tuple[int, int] | None:
    """The same as the file has them, zero point included."""
    held = _domain(tensor)
    return None if held is None else (held[0] + tensor.zero_point, held[1] + tensor.zero_point)


def _grouped(operands: IntegerArray, rows: IntegerArray, group: int, outputs: int) -> list[Sum]:
    """For each output channel the input channels of its group, and its weights [channels, taps]."""
    within = len(operands) // group
    return [Sum(operands[number // outputs * within :][:within], row.reshape(within, -1)) for number, row in enumerate(rows)]


def _axes(window: Window, sizes: Sequence[int], out: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The geometry along each axis, without axes along which nothing happens and numbers that do not matter."""
    count = len(sizes)
    found = []
    for axis, (size, places) in enumerate(zip(sizes, out, strict=True)):
        kernel, begin = window.kernel_shape[axis], window.pads[axis]
        stride = window.strides[axis] if places > 1 else 1
        dilation = window.dilations[axis] if kernel > 1 and len(window.dilations) == count else 1
        if not (size == kernel == places == 1 and begin == 0):
            found.append((size, kernel, stride, begin, dilation, places))
    return tuple(found)


def _geometry(window: Window, sizes: Sequence[int], out: Sequence[int]) -> tuple[Hashable, bool]:
    """The geometry of a sliding sum, None where each place takes its own, and whether taps may lie outside of the data."""
    axes = _axes(window, sizes, out)
    outside = any(
        begin > 0 or (places - 1) * stride + (kernel - 1) * dilation - begin > size - 1
        for size, kernel, stride, begin, dilation, places in axes
    )
    own = all(kernel == 1 and stride == 1 and begin == 0 and size == places for size, kernel, stride, begin, _, places in axes)
    return None if own else ("windows", axes), outside


def _only_window(window: Window, sizes: Sequence[int]) -> tuple[IntegerArray, IntegerArray]:
    """Of the only window of a result the taps that lie on data, and where: flat numbers of both."""
    places = []
    for axis, size in enumerate(sizes):
        dilation = window.dilations[axis] if len(window.dilations) == len(sizes) else 1
        where = np.arange(window.kernel_shape[axis]) * dilation - window.pads[axis]
        taps = np.flatnonzero((where >= 0) & (where < size))
        places.append((taps, where[taps]))
    taps = np.ravel_multi_index(np.ix_(*(pair[0] for pair in places)), tuple(window.kernel_shape))
    data = np.ravel_multi_index(np.ix_(*(pair[1] for pair in places)), tuple(sizes))
    return taps.reshape(-1), data.reshape(-1)


def _spelled(
    description: Sequence[tuple[str, Hashable, tuple[str, ...]]], constants: Sequence[npt.NDArray[np.generic]]
) -> Iterator[tuple[Hashable, ...]]:
    """Operations of a stage; the same for those that give the same floats: ``x - c`` and ``x + -c``, say."""
    left = iter(constants)
    for op_type, attributes, operands in description:
        values = [next(left) if operand == "constant" else None for operand in operands]
        constant = next((value for value in values if value is not None), None)
        first = operands[0] == "data"
        if constant is None or len(values) != 2 or not is_a(op_type, Trait.AFFINE):
            yield (
                op_type,
                attributes,
                tuple(operand if value is None else _bits(value) for operand, value in zip(operands, values, strict=True)),
            )
        elif is_a(op_type, Trait.SUM):
            yield "sum", _bits(constant)
        elif is_a(op_type, Trait.DIFFERENCE) and first:
            yield "sum", _bits(np.negative(constant))
        elif is_a(op_type, Trait.PRODUCT):
            if float(constant) != 1:
                yield "product", _bits(constant)
        elif is_a(op_type, Trait.QUOTIENT) and first and _is_power_of_two(float(constant)):
            yield "product", _bits(np.reciprocal(constant))
        else:
            yield op_type, first, _bits(constant)


def _merged(operations: Sequence[Hashable], rounds: Sequence[bool]) -> list[Hashable]:
    """Operations with ``(x * m) * 2^-k`` as one multiplication, for an integer m, k of 0 to 20 and a rounding behind it.

    Both round the same real product to 24 bits unless the result is subnormal or the first product overflows. In a subnormal
    result the second rounding may move it by one unit, but of a product that was rounded before, so that it stays at least
    2^23 * 2^-20 units from 0: floor and round make the same of it. Where the first product overflows, the other is at least
    2^128 * 2^-20, and both saturate.
    """
    found: list[Hashable] = []
    place = 0
    while place < len(operations):
        factor, then = (_factor(one) for one in (operations[place], *operations[place + 1 : place + 2], None)[:2])
        rounded = place + 2 < len(operations) and rounds[place + 2]
        if rounded and factor is not None and then is not None and _is_whole(factor) and _is_small_power(then):
            found.append(("product", _bits(np.float32(factor * then))))
            place += 2
        else:
            found.append(operations[place])
            place += 1
    return found


def _is_whole(factor: float) -> bool:
    return factor.is_integer() and abs(factor) < 2**24


def _is_small_power(factor: float) -> bool:
    return _is_power_of_two(factor) and 2.0**-MERGED_SHIFT <= factor <= 1


def _factor(operation: Hashable) -> float | None:
    """The number that an operation multiplies by in float32; None for any other."""
    match operation:
        case ("product", (str() as kind, bytes() as content)) if np.dtype(kind) == np.float32:
            return float(np.frombuffer(content, kind)[0])
        case _:
            return None


def _attributes(node: Node) -> Hashable:
    """What stands for the attributes of an operation, without those of a convolution that its operands or defaults say too."""
    given = dict(node.attributes)
    if is_a(node.op_type, Trait.CONVOLUTION):
        given = {name: value for name, value in given.items() if name != "kernel_shape" and not _is_default(name, value)}
    return _fingerprint(given)


def _is_default(name: str, value: object) -> bool:
    default = _WITHOUT_EFFECT.get(name)
    return default is not None and all(part == default for part in (value if isinstance(value, tuple) else (value,)))


def _is_power_of_two(value: float) -> bool:
    return math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5 and 2.0**-100 < abs(value) < 2.0**100


def _bits(value: npt.NDArray[np.generic] | np.generic) -> tuple[str, bytes]:
    array = np.asarray(value)
    return array.dtype.str, array.tobytes()


def _fingerprint(value: object) -> Hashable:
    """What stands for a value that takes part in a computation; a thing of its own for what cannot be told."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | Enum() | slice():
            return type(value).__name__, repr(value)
        case np.ndarray():
            return value.dtype.str, value.shape, value.tobytes()
        case np.generic():
            return value.dtype.str, value.tobytes()
        case tuple() | list():
            return tuple(_fingerprint(item) for item in value)
        case dict():
            return tuple((key, _fingerprint(value[key])) for key in sorted(value))
        case partial():
            return _fingerprint(value.func), _fingerprint(value.args), _fingerprint(value.keywords)
        case FunctionType() if value.__closure__ is None and "<" not in value.__qualname__:
            return value.__module__, value.__qualname__
        case _ if is_dataclass(value) and not isinstance(value, type):
            named = [(item.name, _fingerprint(getattr(value, item.name))) for item in fields(value) if item.name not in _NAMES]
            return type(value).__qualname__, tuple(named)
        case _:
            return object()
