"""Devices that are wrong in one place, simulated: how many of them given samples catch, at the layer and at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from npusim import InferenceSession
from npusim.bounds import analyse
from npusim.engine.input_stages import stage_codes
from npusim.engine.replay import program_from
from npusim.engine.runner import run_chunked
from npusim.engine.selection import make_runner
from npusim.program import Accumulating, IntegerLayer, LayerKind, Program, ShiftFloor, Weighted
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import InputStage, input_stages

__all__ = ["WrongDevice", "caught", "wrong_devices"]

Array = npt.NDArray[np.generic]
Codes = Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True)
class WrongDevice:
    """What is wrong, in which step, and the codes that this step gives instead of the right ones."""

    fault: str
    step: str
    output: str
    codes: Codes


@dataclass(frozen=True)
class Caught:
    """For each wrong device whether the step's codes differ in any sample, and whether an output does."""

    at_layer: list[bool]
    at_output: list[bool]

    def share(self) -> tuple[float, float]:
        return float(np.mean(self.at_layer)), float(np.mean(self.at_output))


def wrong_devices(program: Program, *, seed: int, channels: int = 4) -> list[WrongDevice]:
    """Wrong devices for every layer: faults of the whole layer, and faults of some of its channels."""
    generator = np.random.default_rng(seed)
    found = []
    bounds = analyse(program)
    for stage in input_stages(program):
        if stage.clip.lower < 0:
            found.append(WrongDevice("mspm0", stage.name, stage.output, _stage_codes(program, stage)))
    for layer in program.layers:
        if not isinstance(layer, Accumulating):
            continue
        interval = bounds.layers[layer.name].accumulator
        reach = max(-int(interval.lower.min()), int(interval.upper.max()))
        stored = program.tensors[layer.output].stored
        for fault, codes in (*_arithmetic(layer, layer.requantization, reach), *_parameters(layer, generator, channels)):
            found.append(WrongDevice(fault, layer.name, layer.output, _stored(codes, stored)))
    return found


def caught(session: InferenceSession, devices: list[WrongDevice], feeds: Mapping[str, Array]) -> Caught:
    """Run samples on wrong devices; a device that computes the same codes runs on as the right one does."""
    program = session.program
    trace = session.trace(feeds)
    outputs = tuple(program.resolve(name) for name in program.outputs)
    at_layer, at_output, rests = [], [], {}
    for device in devices:
        wrong = device.codes(trace)
        differs = (wrong != trace[device.output]).reshape(len(wrong), -1).any(axis=1)
        at_layer.append(bool(differs.any()))
        shown = False
        if differs.any():
            if device.step not in rests:
                rest = _rest(program, device.step, outputs)
                rests[device.step] = rest, None if rest is None else make_runner(rest, "fast")
            rest, runner = rests[device.step]
            if rest is None:
                shown = True
            else:
                arrays = {name: wrong if name == device.output else trace[name] for name in rest.inputs}
                arrays = {name: array[differs] for name, array in arrays.items()}
                results = run_chunked(rest, runner, arrays, outputs)
                shown = any(not np.array_equal(results[name], trace[name][differs]) for name in outputs)
        at_output.append(shown)
    return Caught(at_layer, at_output)


def _rest(program: Program, step: str, outputs: tuple[str, ...]) -> Program | None:
    index = next(number for number, item in enumerate(program.steps) if item.name == step)
    made = {name for item in program.steps[: index + 1] for name in item.tensors} | set(program.inputs)
    read = {name for item in program.steps[index + 1 :] for name in program.inputs_of(item)}
    if program.steps[index].tensors[-1] in outputs:
        return None
    return program_from(program, made & read, outputs)


def _stored(codes: Codes, stored: np.dtype[np.generic]) -> Codes:
    return lambda trace: codes(trace).astype(stored)


def _stage_codes(program: Program, stage: object) -> Codes:
    return lambda trace: stage_codes(program, stage, trace[stage.input], InputStage.MSPM0)


def _inputs(layer: IntegerLayer, trace: Mapping[str, Array]) -> list[npt.NDArray[np.int64]]:
    return [trace[name].astype(np.int64) for name in layer.inputs]


def _column(values: npt.NDArray[np.int64], layer: IntegerLayer) -> npt.NDArray[np.int64]:
    return values.reshape(-1, *(1,) * (len(layer.accumulator_shape) - 1 - layer.channel_axis))


def _finish(layer: IntegerLayer, part: ShiftFloor, code: npt.NDArray[np.int64], inputs: list) -> npt.NDArray[np.int64]:
    if layer.kind is LayerKind.PWCONVRES:
        code = np.clip(code, part.clip.lower, part.clip.upper) + inputs[1]
    return np.clip(code, layer.output_clip.lower, layer.output_clip.upper).reshape(-1, *layer.output_shape[1:])


def _product(layer: IntegerLayer, part: ShiftFloor, acc: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (acc + _column(part.bias, layer)) * _column(part.scale, layer)


def _arithmetic(layer: IntegerLayer, part: ShiftFloor, reach: int) -> Iterator[tuple[str, Codes]]:
    shift = _column(part.shift, layer)
    half = (np.int64(1) << shift) >> 1

    def with_shift(rounded: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]) -> Codes:
        def codes(trace: Mapping[str, Array]) -> Array:
            inputs = _inputs(layer, trace)
            return _finish(layer, part, rounded(_product(layer, part, accumulate(layer, inputs))), inputs)

        return codes

    def half_even(product: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        code = product >> shift
        remainder = product - (code << shift)
        return code + ((remainder > half) | ((remainder == half) & (code & 1 == 1) & (half > 0)))

    yield "round half up", with_shift(lambda product: (product + half) >> shift)
    yield "round half even", with_shift(half_even)
    if layer.output_clip.lower < 0:
        yield "toward zero", with_shift(lambda product: np.sign(product) * (np.abs(product) >> shift))
    yield "sum one less", with_shift(lambda product: (product - np.abs(_column(part.scale, layer))) >> shift)

    def wrapped(trace: Mapping[str, Array]) -> Array:
        inputs = _inputs(layer, trace)
        code = _product(layer, part, accumulate(layer, inputs)) >> shift
        if layer.kind is LayerKind.PWCONVRES:
            code = np.clip(code, part.clip.lower, part.clip.upper) + inputs[1]
        code = code & 0xFF if layer.output_clip.lower >= 0 else ((code + 128) & 0xFF) - 128
        return np.clip(code, layer.output_clip.lower, layer.output_clip.upper).reshape(-1, *layer.output_shape[1:])

    yield "saturation wraps", wrapped

    def misread(trace: Mapping[str, Array]) -> Array:
        inputs = _inputs(layer, trace)
        first = inputs[0]
        inputs[0] = np.where(first < 0, first + 256, np.where(first > 127, first - 256, first))
        return _finish(layer, part, _product(layer, part, accumulate(layer, inputs)) >> shift, inputs)

    yield "signedness of the input", misread
    if layer.residual is not None:

        def unclipped(trace: Mapping[str, Array]) -> Array:
            inputs = _inputs(layer, trace)
            code = (_product(layer, part, accumulate(layer, inputs)) >> shift) + inputs[1]
            return np.clip(code, layer.output_clip.lower, layer.output_clip.upper).reshape(-1, *layer.output_shape[1:])

        yield "inner clip missing", unclipped
    for bits in (16, 18):
        size = 1 << bits
        if reach < size // 2:
            continue

        def narrow(trace: Mapping[str, Array], size: int = size) -> Array:
            inputs = _inputs(layer, trace)
            acc = ((accumulate(layer, inputs) + size // 2) & (size - 1)) - size // 2
            return _finish(layer, part, _product(layer, part, acc) >> shift, inputs)

        yield f"{bits}-bit accumulator", narrow


def _parameters(layer: IntegerLayer, generator: np.random.Generator, channels: int) -> Iterator[tuple[str, Codes]]:
    part, weights = layer.requantization, layer.weights if isinstance(layer, Weighted) else None
    count = part.bias.size
    chosen = generator.permutation(count)[:channels]

    def changed(layer: IntegerLayer) -> Codes:
        def codes(trace: Mapping[str, Array]) -> Array:
            inputs, new = _inputs(layer, trace), layer.requantization
            product = _product(layer, new, accumulate(layer, inputs))
            return _finish(layer, new, product >> _column(new.shift, layer), inputs)

        return codes

    def with_part(name: str, channel: int, value: int) -> Codes:
        values = getattr(part, name).copy()
        values[channel] = value
        return changed(replace(layer, requantization=replace(part, **{name: values})))

    for channel in chosen:
        if part.bias[channel]:
            yield "bias missing", with_part("bias", channel, 0)
        yield "bias one more", with_part("bias", channel, int(part.bias[channel]) + 1)
        if part.shift[channel]:
            yield "shift one less", with_part("shift", channel, int(part.shift[channel]) - 1)
        if part.scale[channel] > 1:
            yield "scale one less", with_part("scale", channel, int(part.scale[channel]) - 1)
    if weights is None:
        return
    for _ in range(channels):
        flipped = weights.reshape(-1).copy()
        place = generator.integers(flipped.size)
        flipped[place] ^= 1 << int(generator.integers(0, layer.weight_bits))
        yield "weight bit flip", changed(replace(layer, weights=flipped.reshape(weights.shape)))
    if count > 1 and layer.kind not in (LayerKind.FC, LayerKind.TCONV):
        for _ in range(channels // 2):
            first, second = generator.permutation(count)[:2]
            swapped = weights.copy()
            swapped[[first, second]] = weights[[second, first]]
            yield "channels swapped", changed(replace(layer, weights=swapped))
