"""How often `compare` with the float model names the layer and the kind of a fault that was put into an export.

Faults of 11 kinds, and pairs of two, are injected into real exports; every one changes the output. Counted are: the first
finding is on the layer (one of the layers for a pair), it is of the right kind, and how many findings of severity warning or
error are on layers that were not touched and that have no such finding without the fault. With `--good`, models that nothing is
wrong with are compared instead: what `quantize` makes of all float networks.

Run: python benchmarks/faults.py [--networks N] [--samples N] [--seed S] [--verbose] [--good]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from zoo import EXPORTS

import npusim
from npusim.program import (
    Accumulating,
    AveragePool,
    Clip,
    Program,
    QuantizeStage,
    ResidualConvolution,
    ShiftFloor,
    Step,
    TransposedConvolution,
    Weighted,
)
from npusim.program.lowering.tinpu.emitter import emit

Array = npt.NDArray[Any]
Change = tuple[Step, dict[str, Array]]
"""The changed step, and changed constants."""

NETWORKS = (
    "CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_of__ts17",
    "CNN_TS_GEN_BASE_6K_NPU__qat_w8a8_oi__ts17",
    "HAR_TINIE_CNN_2K__qat_w4a8_of__ts17",
    "RES_CAT_CNN_TS_GEN_BASE_3K__ptq_w8a8_of__ts17",
    "REG_TS_GEN_BASE_2K_NPU__qat_w8a8_of__ts17",
    "FC_CNN_TS_GEN_BASE_1K_NPU__ptq_w4a8_of__ts17",
    "H_GCONV__qat_w4a8_oi__ts17",
    "H_DWPW__ptq_w8a8_oi__ts17",
    "H_POOLS__qat_w8a8_oi__dyn18v",
    "RES_ADD_CNN_TS_GEN_BASE_3K__ptq_w8a8_of__ts17",
    "CNN_TS_PIR2D_BASE__qat_w8a8_of__ts17",
    "H_RES_RELU__ptq_w4a8_oi__ts17",
)

RIGHT: dict[str, tuple[str, ...]] = {
    "weights of one filter": ("weights_off",),
    "weights of one channel": ("weights_off",),
    "swapped channels": ("channels_swapped",),
    "bias of one channel": ("bias_off",),
    "all biases": ("bias_off",),
    "shift off by one": ("shift_off",),
    "scale off": ("scale_off", "shift_off"),
    "clip narrowed": ("clip_narrowed", "clip_in_real_units", "saturation"),
    "average divisor": ("average_gain",),
    "missing activation": ("activation_missing",),
    "input offset": ("input_offset",),
}
"""Rules that name a kind."""


def _at(values: Array, channel: int, change: Callable[[Array], Array]) -> Array:
    found = values.copy()
    found[channel] = change(values[channel])
    return found


def _rows(layer: Weighted) -> Array:
    return layer.weight_rows.copy()


def _from_rows(layer: Weighted, rows: Array) -> Weighted:
    """The layer with other weights, given in the order of `weight_rows`."""
    places = replace(layer, weights=np.arange(layer.weights.size).reshape(layer.weights.shape)).weight_rows
    flat = np.empty(layer.weights.size, np.int64)
    flat[places.ravel()] = rows.ravel()
    return replace(layer, weights=flat.reshape(layer.weights.shape))


def _part(layer: Accumulating) -> ShiftFloor | None:
    return layer.requantization if isinstance(layer.requantization, ShiftFloor) else None


def _group(layer: Weighted) -> int:
    return getattr(layer, "group", 1)


def faults(step: Step, program: Program, kind: str, draw: np.random.Generator) -> Change | None:
    """A step with a fault of a kind; None where it cannot have one."""
    if kind == "input offset":
        return _input_offset(step, program, draw) if isinstance(step, QuantizeStage) else None
    if not isinstance(step, Accumulating) or (part := _part(step)) is None:
        return None
    if kind == "average divisor":
        if not isinstance(step, AveragePool):
            return None
        off = int(draw.choice([-1, 1]))
        if (part.shift + off).min() < 0:
            return None
        return replace(step, requantization=replace(part, shift=part.shift + off, bias=_rounding(part, part.shift + off))), {}
    if not isinstance(step, Weighted):
        return None
    made = _weighted_fault(step, part, program, kind, draw)
    return None if made is None else (made, {})


def _rounding(part: ShiftFloor, shift: Array) -> Array:
    """The bias of a pool, its rounding term for another shift."""
    half = np.ldexp(0.5, part.shift) / part.scale
    return np.rint(part.bias - half + np.ldexp(0.5, shift) / part.scale).astype(np.int64)


def _weighted_fault(
    layer: Weighted, part: ShiftFloor, program: Program, kind: str, draw: np.random.Generator
) -> Weighted | None:
    rows, count = _rows(layer), part.channels
    one = int(draw.integers(count))
    lsb = 1 / part.gain

    def with_part(**values: Any) -> Weighted:  # noqa: ANN401
        return replace(layer, requantization=replace(part, **values))

    match kind:
        case "weights of one filter":
            bend = [
                lambda row: -row,
                lambda row: 0 * row,
                lambda row: np.roll(row, 1),
                lambda row: row[::-1],
                lambda row: row // 2,
            ]
            return _from_rows(layer, _at(rows, one, bend[int(draw.integers(len(bend)))]))
        case "weights of one channel":
            channels = layer.input_shape[1] // _group(layer)
            if channels < 2 or isinstance(layer, TransposedConvolution):
                return None
            taps = rows.reshape(count, channels, -1)
            place = int(draw.integers(channels))
            bent = taps[:, place]
            taps[:, place] = [-bent, 0 * bent, bent // 2][int(draw.integers(3))]
            return _from_rows(layer, taps.reshape(rows.shape))
        case "swapped channels":
            if count < 2:
                return None
            other = (one + 1 + int(draw.integers(count - 1))) % count
            rows[[one, other]] = rows[[other, one]]
            return _from_rows(layer, rows)
        case "bias of one channel":
            choices = [lambda b: 0 * b, lambda b: -b, lambda b: b + np.rint(40 * lsb[one]).astype(np.int64)]
            return with_part(bias=_at(part.bias, one, choices[int(draw.integers(3))]))
        case "all biases":
            choices = [
                0 * part.bias,
                -part.bias,
                2 * part.bias,
                part.bias + np.rint(20 * lsb).astype(np.int64),
                np.roll(part.bias, 1),
            ]
            return with_part(bias=choices[int(draw.integers(len(choices)))])
        case "shift off by one":
            off = int(draw.choice([-1, 1]))
            shift = _at(part.shift, one, lambda value: value + off) if draw.random() < 0.3 else part.shift + off
            return with_part(shift=shift) if shift.min() >= 0 else None
        case "scale off":
            if part.scale.max() == 1:
                return with_part(scale=_at(part.scale, one, lambda scale: 3 * scale) if draw.random() < 0.5 else 3 * part.scale)
            factor = float(draw.choice([0.6, 0.75, 1.3]))
            scale = np.clip(np.rint(part.scale * factor), 1, 255).astype(np.int64)
            return with_part(scale=scale if draw.random() < 0.5 else _at(part.scale, one, lambda _: scale[one]))
        case "clip narrowed":
            clip = layer.output_clip
            share = float(draw.choice([0.25, 0.5]))
            narrow = Clip(int(clip.lower * share), int(clip.upper * share))
            if isinstance(layer, ResidualConvolution):
                return replace(layer, saturation=narrow)
            return with_part(clip=narrow)
        case "missing activation":
            clip = layer.output_clip
            if clip.lower < 0 or isinstance(layer, ResidualConvolution):
                return None
            return with_part(clip=Clip(-clip.upper, clip.upper))
    return None


def _input_offset(stage: QuantizeStage, program: Program, draw: np.random.Generator) -> Change | None:
    wanted = float(draw.choice([-1, 1])) * 24
    for node in stage.nodes:
        for name in node.inputs:
            if node.op_type == "Add" and name in program.constants:
                moved = program.constants[name] + wanted / np.broadcast_to(stage.multiplier, stage.offset.shape).reshape(
                    program.constants[name].shape if stage.multiplier.size > 1 else (-1,)[:0] or stage.multiplier.shape
                )
                return stage, {name: moved.reshape(program.constants[name].shape).astype(np.float32)}
    return None


@dataclass(frozen=True)
class Case:
    """A model with faults in it."""

    network: str
    kinds: tuple[str, ...]
    layers: tuple[str, ...]
    content: bytes


@dataclass(frozen=True)
class Bench:
    """An export, its float model, and samples."""

    name: str
    session: npusim.InferenceSession
    reference: npusim.InferenceSession
    feeds: dict[str, Array]

    @classmethod
    def of(cls, name: str, samples: int) -> Bench:
        network = name.split("__")[0]
        session = npusim.InferenceSession(str(EXPORTS / "quantized" / f"{name}.onnx"))
        with np.load(EXPORTS / "inputs" / f"{network}.npz") as arrays:
            x = arrays["x"][:samples]
        plain = npusim.InferenceSession(emit(session.program))
        return cls(
            name, plain, npusim.InferenceSession(str(EXPORTS / "float" / f"{network}.onnx")), {plain.get_inputs()[0].name: x}
        )

    def cases(self, draw: np.random.Generator) -> Iterator[Case]:
        """A fault of each kind that the network can have, then pairs."""
        for kind in RIGHT:
            case = self._case((kind,), draw)
            if case is not None:
                yield case
        for _ in range(2):
            kinds = tuple(str(kind) for kind in draw.choice(list(RIGHT), 2, replace=False))
            case = self._case(kinds, draw)
            if case is not None:
                yield case

    def _case(self, kinds: Sequence[str], draw: np.random.Generator) -> Case | None:
        right = self.session.run(None, self.feeds)[0].astype(np.float64)
        for _ in range(12):
            program, touched = self.session.program, []
            for kind in kinds:
                changes = [(step, faults(step, program, kind, draw)) for step in program.steps if step.name not in touched]
                able = [(step, change) for step, change in changes if change is not None]
                if not able:
                    return None
                step, (made, constants) = able[int(draw.integers(len(able)))]
                steps = tuple(made if one is step else one for one in program.steps)
                program = replace(program, steps=steps, constants={**program.constants, **constants})
                touched.append(step.name)
            content = emit(program)
            found = npusim.InferenceSession(content).run(None, self.feeds)[0].astype(np.float64)
            noise = float(np.square(found - right).sum())
            if noise > 0.003 * float(np.square(right).sum()):
                return Case(self.name, tuple(kinds), tuple(touched), content)
        return None


def serious(findings: Sequence[npusim.Finding]) -> list[npusim.Finding]:
    return [finding for finding in findings if finding.severity != "info"]


def judge(networks: Sequence[str], samples: int, seed: int, *, verbose: bool) -> None:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    elsewhere = total = 0
    for name in networks:
        bench = Bench.of(name, samples)
        before = {
            (one.rule, one.layer) for one in serious(npusim.compare(bench.session, bench.reference, bench.feeds).findings)
        }
        draw = np.random.default_rng([seed, networks.index(name)])
        for case in bench.cases(draw):
            findings = npusim.compare(npusim.InferenceSession(case.content), bench.reference, bench.feeds).findings
            first = findings[0] if findings else None
            right = {rule for kind in case.kinds for rule in RIGHT[kind]}
            on_layer = first is not None and first.layer in case.layers
            of_kind = on_layer and first is not None and first.rule in right
            others = [one for one in serious(findings) if one.layer not in case.layers and (one.rule, one.layer) not in before]
            label = case.kinds[0] if len(case.kinds) == 1 else "two faults"
            for place, value in enumerate((1, on_layer, of_kind)):
                counts[label][place] += int(value)
            elsewhere += len(others)
            total += len(serious(findings))
            if verbose and (not of_kind or others):
                said = "nothing" if first is None else f"{first.severity} {first.rule} on {first.layer}"
                told = ", ".join(f"{one.rule} on {one.layer}" for one in others)
                print(
                    f"{name}: {' and '.join(case.kinds)} in {' and '.join(case.layers)}: {said}; untouched: {told or '-'}",
                    flush=True,
                )
    for label, (made, layer, kind) in counts.items():
        print(f"{label:24} {made:4} faults, on the layer {layer:4}, of the kind {kind:4}")
    made, layer, kind = np.sum(list(counts.values()), axis=0)
    print(f"all {made} faults: first finding on the layer {layer / made:.1%}, of the kind {kind / made:.1%}")
    print(f"findings on untouched layers: {elsewhere} of {total}, {elsewhere / max(total, 1):.1%}")


def judge_good(samples: int, *, verbose: bool) -> None:
    """Warnings and errors about models that nothing is wrong with."""
    wrong: list[str] = []
    models = 0
    for path in sorted((EXPORTS / "float").glob("*.onnx")):
        with np.load(EXPORTS / "inputs" / path.name.replace(".onnx", ".npz")) as arrays:
            x = arrays["x"][:samples]
        with np.load(EXPORTS / "calibration" / path.name.replace(".onnx", ".npz")) as arrays:
            calibration = arrays["input"].astype(np.float32)[:256]
        for float_output in (False, True):
            made = npusim.quantize(str(path), calibration, float_output=float_output)
            result = npusim.compare(made.content, str(path), x)
            models += 1
            told = [f"{one.severity} {one.rule} on {one.layer}" for one in serious(result.findings)]
            if told:
                wrong.append(path.stem)
            if verbose and told:
                print(
                    f"{path.stem} ({'float' if float_output else 'integer'} output): {'; '.join(told)}",
                    flush=True,
                )
    print(f"good models: {len(wrong)} of {models} with a warning or an error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=len(NETWORKS))
    parser.add_argument("--only", default="")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--good", action="store_true")
    arguments = parser.parse_args()
    if arguments.good:
        judge_good(arguments.samples, verbose=arguments.verbose)
        return
    chosen = [name for name in NETWORKS if arguments.only in name][: arguments.networks]
    judge(chosen, arguments.samples, arguments.seed, verbose=arguments.verbose)


if __name__ == "__main__":
    main()
