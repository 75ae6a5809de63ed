"""How often `golden check` states a false cause, and how often it names the right one.

Faults of some 80 kinds that are not in its list (weights, strides, single channels, two faults at once ...) are injected into
real exports, and dumps on 8 sets are explained: every cause stated is false. Then every fault of its own list that changes the
dump is injected: the share that is stated, and the share where it is at least listed as one of those that fit all differences.

The default looks at outputs of small exports of each network. `--others` draws other exports, all kinds of them, with the seed;
`--inner` looks at the result of a layer in the middle; `--sets` takes another number of sets.

Run: python benchmarks/causes.py [--exports N] [--per-kind N] [--seed S] [--others] [--inner] [--sets N] [--show]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from zoo import EXPORTS, zoo

from npusim import InferenceSession
from npusim.engine.reference import run_step
from npusim.engine.replay import run_with
from npusim.golden.check.buffer_causes import Buffer
from npusim.golden.check.evidence import Ranking, WeighedCause
from npusim.golden.check.explanation import Simulated, explain
from npusim.golden.faults import Fault, FaultKind, FaultRunner, faults_of_layer, faulty_codes
from npusim.program import Accumulating, IntegerLayer, Program, QuantizeStage, ShiftFloor, Step, Weighted
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import InputStage

Array = npt.NDArray[Any]
Codes = Callable[[list[Array]], Array]

MOST_OPERATIONS = 150_000
"""Exports with more multiplications take too long."""

NEAREST = (FaultKind.ROUND_HALF_UP, FaultKind.ROUND_HALF_EVEN, FaultKind.ROUND_HALF_AWAY)


class Simulator(Simulated):
    """As `Simulated`, but each fault is simulated once for all dumps of a model."""

    known: dict[tuple[int, ...], Known] = {}  # noqa: RUF012 - emptied for each model

    def runner(self, sets: list[int]) -> Known:  # type: ignore[override]
        key = tuple(sets)
        if key not in self.known:
            self.known[key] = Known(super().runner(sets))
        return self.known[key]


class Known:
    """What a runner said, kept."""

    def __init__(self, runner: FaultRunner) -> None:
        self._runner = runner
        self._runs: list[tuple[Fault, Array | None]] | None = None
        self._single: dict[Fault, Array] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._runner, name)

    def runs(self) -> list[tuple[Fault, Array | None]]:
        if self._runs is None:
            self._runs = list(self._runner.runs())
        return self._runs

    def run(self, fault: Fault) -> Array:
        if fault not in self._single:
            self._single[fault] = self._runner.run(fault)
        return self._single[fault]


@dataclass
class Bench:
    """A model, its sets and what is right."""

    session: InferenceSession
    feeds: dict[str, Array]
    inner: bool

    def __post_init__(self) -> None:
        self.program: Program = self.session.program
        self.tensor = self.program.resolve(self.program.outputs[0])
        if self.inner:
            layers = [step.output for step in self.program.layers if step.output != self.tensor]
            self.tensor = layers[len(layers) // 2]
        self.sets = len(next(iter(self.feeds.values())))
        self.right = self.session.trace(self.feeds, [self.tensor])[self.tensor]
        Simulator.known = {}
        self.simulated = Simulator(self.program, self.feeds, InputStage.GRAPH, self.tensor)

    def explain(self, seen: Array) -> Ranking | None:
        flat, right = self.flat(seen), self.flat(self.right)
        if np.array_equal(flat, right):
            return None
        return explain(Buffer(flat, right, self.right, "nchw", range(len(right)), right), self.simulated)

    def flat(self, values: Array) -> Array:
        wide = values if values.dtype.kind == "f" else values.astype(np.int64)
        return wide.reshape(self.sets, -1)

    def run_changed(self, changes: Mapping[str, Codes]) -> Array:
        """The output where some steps give other codes."""
        values: dict[str, Array] = dict(self.feeds)
        program = self.program
        for step in program.steps:
            if step.name in changes:
                inputs = [values[name] for name in program.inputs_of(step) if name not in program.constants]
                stored = program.tensors[step.tensors[-1]].stored
                values[step.tensors[-1]] = changes[step.name](inputs).astype(stored)
            else:
                values.update(run_step(program, step, values, {self.tensor}))
            if self.tensor in values:
                break
        return values[self.tensor]

    @property
    def steps(self) -> list[Step]:
        """The steps up to the tensor."""
        names = [step.tensors for step in self.program.steps]
        last = next(place for place, tensors in enumerate(names) if self.tensor in tensors)
        return list(self.program.steps[: last + 1])


@dataclass(frozen=True)
class Way:
    """How a wrong layer computes: what it does to its inputs, its sums, its parameters and its codes."""

    inputs: Callable[[list[Array]], list[Array]] = lambda inputs: inputs
    sums: Callable[[Array], Array] = lambda sums: sums
    codes: Callable[[Array], Array] = lambda codes: codes
    unclipped: Callable[[Accumulating, Array], Array] = lambda layer, sums: layer.requantization.unclipped(
        sums, layer.channel_axis
    )
    residual: Callable[[Array], Array] = lambda residual: residual

    def of(self, layer: Accumulating) -> Codes:
        def run(inputs: list[Array]) -> Array:
            wide = self.inputs([values.astype(np.int64) for values in inputs])
            residual = layer.residual_of(wide)
            values = self.unclipped(layer, self.sums(accumulate(layer, wide)))
            return self.codes(layer.finish(values, None if residual is None else self.residual(residual)))

        return run


def first(bend: Callable[[Array], Array]) -> Way:
    """Something done to the first input."""
    return Way(inputs=lambda inputs: [bend(inputs[0]), *inputs[1:]])


def layer_faults(layer: Accumulating, sets: int, draw: np.random.Generator) -> Iterator[tuple[str, Codes]]:
    """Faults of a layer's parameters and data that are in no list."""
    part = layer.requantization
    if not isinstance(part, ShiftFloor):
        return
    count = part.bias.size
    channel = int(draw.integers(count))
    axis, clip = layer.channel_axis, layer.output_clip

    def with_part(**values: Array) -> Codes:
        return Way().of(replace(layer, requantization=replace(part, **values)))

    def at(values: Array, change: int) -> Array:
        found = values.copy()
        found[channel] += change
        return found

    def along(values: Array, like: Array) -> Array:
        return values.reshape(-1, *(1,) * (like.ndim - 1 - axis))

    bias = part.bias.copy()
    bias[channel] = 0
    if count > 1:
        yield "bias of one channel missing", with_part(bias=bias)
    yield "bias of one channel one more", with_part(bias=at(part.bias, 1))
    yield "bias of one channel negated", with_part(bias=np.where(np.arange(count) == channel, -part.bias, part.bias))
    yield "bias of one channel much more", with_part(bias=at(part.bias, 1 + int(np.abs(part.bias).max()) // 2))
    yield "biases one more", with_part(bias=part.bias + 1)
    yield "biases one less", with_part(bias=part.bias - 1)
    yield "biases doubled", with_part(bias=2 * part.bias)
    yield "biases halved", with_part(bias=part.bias >> 1)
    yield "biases of 8 bits", with_part(bias=((part.bias + 128) & 255) - 128)
    yield "biases of other channels", with_part(bias=np.roll(part.bias, 1))
    yield "bias of the first channel in all", with_part(bias=np.full_like(part.bias, part.bias[0]))
    yield "scale of one channel less one", with_part(scale=at(part.scale, -1))
    yield "scales one more", with_part(scale=part.scale + 1)
    yield "scales of other channels", with_part(scale=np.roll(part.scale, 1))
    yield "scales of 7 bits", with_part(scale=part.scale & ~1)
    if part.shift.min() > 0:
        yield "shift of one channel one less", with_part(shift=at(part.shift, -1))
        yield "shifts one less", with_part(shift=part.shift - 1)
    yield "shifts one more", with_part(shift=part.shift + 1)
    yield "shifts of other channels", with_part(shift=np.roll(part.shift, 1))
    yield "one input channel is zero", first(lambda x: _zeroed(x, draw)).of(layer)
    yield "input one code more", first(lambda x: x + 1).of(layer)
    yield "input read with the other sign", first(_other_sign).of(layer)
    spatial = -1
    yield "input moved by one", first(lambda x: np.roll(x, 1, axis=spatial if x.ndim < 3 else 2)).of(layer)
    yield "input in steps of two places", first(_repeated).of(layer)
    yield "input backwards", first(lambda x: np.flip(x, -1 if x.ndim < 3 else 2)).of(layer)
    yield "last input place is zero", first(_last_zero).of(layer)
    yield "input channels in another order", first(lambda x: np.roll(x, 1, axis=1)).of(layer)
    yield "input of 4 bits", first(lambda x: x & ~15).of(layer)
    yield "input of 7 bits", first(lambda x: x & ~1).of(layer)
    yield "input negated", first(lambda x: -x).of(layer)
    yield "input doubled", first(lambda x: np.clip(2 * x, -128, 255)).of(layer)
    yield "noise in the input", first(lambda x: x + draw.integers(-1, 2, x.shape) * (draw.random(x.shape) < 0.1)).of(layer)
    yield "upper rail one less", Way(codes=lambda y: np.minimum(y, clip.upper - 1)).of(layer)
    yield "upper rail halved", Way(codes=lambda y: np.minimum(y, clip.upper // 2)).of(layer)
    yield "lower rail one more", Way(codes=lambda y: np.maximum(y, clip.lower + 1)).of(layer)
    yield "every code one more", Way(codes=lambda y: np.clip(y + 1, clip.lower, clip.upper)).of(layer)
    yield "every code one less", Way(codes=lambda y: np.clip(y - 1, clip.lower, clip.upper)).of(layer)
    yield "codes of 7 bits", Way(codes=lambda y: y & ~1).of(layer)
    yield "codes of one channel are zero", Way(codes=lambda y: _zeroed(y, draw)).of(layer)
    yield "codes of all channels are zero", Way(codes=np.zeros_like).of(layer)
    yield "codes of the channel before", Way(codes=lambda y: np.roll(y, 1, axis=1)).of(layer)
    yield "codes of two channels exchanged", Way(codes=lambda y: _exchanged(y, draw)).of(layer)
    yield "codes moved by one", Way(codes=lambda y: np.roll(y, 1, axis=-1 if y.ndim < 3 else 2)).of(layer)
    yield "one code is another", Way(codes=lambda y: _one_other(y, draw)).of(layer)
    yield "accumulators one more", Way(sums=lambda a: a + 1).of(layer)
    yield "accumulators of 16 bits", Way(sums=lambda a: ((a + 2**15) & 0xFFFF) - 2**15).of(layer)
    yield "accumulators saturate at 16 bits", Way(sums=lambda a: np.clip(a, -(2**15), 2**15 - 1)).of(layer)
    yield "accumulators without their low bits", Way(sums=lambda a: a & ~7).of(layer)
    yield "accumulators negated", Way(sums=lambda a: -a).of(layer)
    yield (
        "bias behind the scale",
        Way(unclipped=lambda _, a: (a * along(part.scale, a) + along(part.bias, a)) >> along(part.shift, a)).of(layer),
    )
    yield (
        "bias behind the shift",
        Way(unclipped=lambda _, a: ((a * along(part.scale, a)) >> along(part.shift, a)) + along(part.bias, a)).of(layer),
    )
    yield (
        "shift in front of the scale",
        Way(unclipped=lambda _, a: ((a + along(part.bias, a)) >> along(part.shift, a)) * along(part.scale, a)).of(layer),
    )
    yield (
        "rounds up",
        Way(unclipped=lambda _, a: -((-(a + along(part.bias, a)) * along(part.scale, a)) >> along(part.shift, a))).of(layer),
    )
    if layer.residual is not None:
        yield "residual missing", Way(residual=np.zeros_like).of(layer)
        yield "residual doubled", Way(residual=lambda r: 2 * r).of(layer)
    kinds = faults_of_layer(layer)
    if kinds:
        kind = kinds[int(draw.integers(len(kinds)))]

        def partly(rows: bool) -> Codes:
            def run(inputs: list[Array]) -> Array:
                right, wrong = Way().of(layer)(inputs), faulty_codes(layer, inputs, [kind], np.int64)[kind]
                shape = [1] * right.ndim
                shape[0 if rows else 1] = right.shape[0 if rows else 1]
                chosen = np.arange(shape[0 if rows else 1])
                return np.where(((chosen % 2 == 0) if rows else (chosen == channel)).reshape(shape), wrong, right)

            return run

        if sets > 1:  # in the only one it is the fault of the list
            yield "fault of the list in every second set", partly(True)
        if count > 1:
            yield "fault of the list in one channel", partly(False)
    if isinstance(layer, Weighted):
        yield from weight_faults(layer, draw)


def weight_faults(layer: Weighted, draw: np.random.Generator) -> Iterator[tuple[str, Codes]]:
    """Faults of the weights."""
    weights = layer.weights

    def with_weights(values: Array) -> Codes:
        return Way().of(replace(layer, weights=values.reshape(weights.shape)))

    flat = weights.reshape(-1)
    place = int(draw.integers(flat.size))
    only = np.arange(flat.size) == place
    of_channel = np.arange(len(weights)).reshape(-1, *(1,) * (weights.ndim - 1)) == draw.integers(len(weights))
    yield "a bit of one weight", with_weights(np.where(only, flat ^ (1 << int(draw.integers(layer.weight_bits - 1))), flat))
    yield "one weight negated", with_weights(np.where(only, -flat, flat))
    yield "one weight is zero", with_weights(np.where(only, 0, flat))
    yield "weights of one channel zero", with_weights(np.where(of_channel, 0, weights))
    yield "weights of one channel negated", with_weights(np.where(of_channel, -weights, weights))
    yield "weights moved by one", with_weights(np.roll(flat, 1))
    yield "weights backwards", with_weights(flat[::-1])
    yield "weights negated", with_weights(-flat)
    yield "weights without their lowest bit", with_weights(flat & ~1)
    yield "weights read as unsigned", with_weights(flat & (2**layer.weight_bits - 1))
    yield (
        "weights saturate at a half",
        with_weights(np.clip(flat, -(2 ** (layer.weight_bits - 2)), 2 ** (layer.weight_bits - 2))),
    )
    if weights.ndim > 2:
        yield "weights with channels last", with_weights(np.ascontiguousarray(np.moveaxis(weights, 1, -1)))
        yield "kernel flipped", with_weights(np.flip(weights, tuple(range(2, weights.ndim))))
        last = weights.copy()
        last[..., -1 if weights.shape[-1] > 1 else slice(None)] = 0
        if weights.shape[2] > 1 and weights.shape[-1] == 1:
            last = weights.copy()
            last[:, :, -1] = 0
        yield "last place of the kernel is zero", with_weights(last)


def _repeated(values: Array) -> Array:
    axis = 1 if values.ndim < 3 else 2
    return np.take(values, np.arange(values.shape[axis]) // 2 * 2, axis=axis)


def _last_zero(values: Array) -> Array:
    found = values.copy()
    found[(slice(None),) * (1 if values.ndim < 3 else 2) + (-1,)] = 0
    return found


def _exchanged(values: Array, draw: np.random.Generator) -> Array:
    found = values.copy()
    if values.shape[1] > 1:
        one, two = draw.permutation(values.shape[1])[:2]
        found[:, [one, two]] = values[:, [two, one]]
    return found


def _one_other(values: Array, draw: np.random.Generator) -> Array:
    found = values.copy()
    found.flat[int(draw.integers(found.size))] += 5
    return found


def _zeroed(values: Array, draw: np.random.Generator) -> Array:
    found = values.copy()
    found[:, int(draw.integers(values.shape[1]))] = 0
    return found


def _other_sign(values: Array) -> Array:
    return np.where(values < 0, values + 256, np.where(values > 127, values - 256, values))


def dump_faults(right: Array, sets: int, draw: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Faults of the dump itself."""
    flat = right.reshape(sets, -1)
    noisy = flat.copy()
    hit = draw.random(flat.shape) < 0.2
    noisy[hit] = (
        noisy[hit] + draw.choice(np.array([-1, 1], noisy.dtype), int(hit.sum()))
        if flat.dtype.kind == "f"
        else (np.clip(noisy[hit].astype(np.int64) + draw.choice([-1, 1], int(hit.sum())), -128, 255).astype(noisy.dtype))
    )
    yield "noise of one", noisy
    one = flat.copy()
    one[int(draw.integers(sets)), int(draw.integers(flat.shape[1]))] += 1
    yield "one value", one
    other = flat.copy()
    other[int(draw.integers(sets))] = flat[int(draw.integers(sets))]
    yield "one set holds another one", other
    wide = flat if flat.dtype.kind == "f" else flat.astype(np.int64)
    yield "values one more", wide + 1
    yield "values negated", -wide
    yield "values doubled", 2 * wide
    yield "values saturate", np.clip(wide, np.quantile(wide, 0.2).astype(wide.dtype), np.quantile(wide, 0.8).astype(wide.dtype))
    if flat.shape[1] > 1:
        swapped = flat.copy()
        place, next_one = draw.permutation(flat.shape[1])[:2]
        swapped[:, [place, next_one]] = flat[:, [next_one, place]]
        yield "two values exchanged", swapped
        yield "values backwards", flat[:, ::-1].copy()
        yield "columns of other sets", np.stack([np.roll(column, int(draw.integers(sets))) for column in flat.T], axis=1)
    stuck = flat.copy()
    stuck[:, int(draw.integers(flat.shape[1]))] = flat.flat[0]
    yield "one stuck value", stuck


def several(bench: Bench, draw: np.random.Generator, count: int) -> Iterator[tuple[str, Array]]:
    """Two or three faults of the list at once, or one in several layers but not in all."""
    layers = [step for step in bench.steps if isinstance(step, IntegerLayer) and faults_of_layer(step)]
    for turn in range(count if len(layers) > 1 else 0):
        how_many = 2 + (turn % 4 == 3 and len(layers) > 2)
        changes: dict[str, Codes] = {}
        common = FaultKind.ROUND_HALF_UP if turn % 4 == 2 else None
        for index in draw.permutation(len(layers))[:how_many]:
            layer, kinds = layers[index], faults_of_layer(layers[index])
            kind = kinds[int(draw.integers(len(kinds)))] if common is None or common not in kinds else common

            def run(inputs: list[Array], layer: IntegerLayer = layer, kind: FaultKind = kind) -> Array:
                return faulty_codes(layer, inputs, [kind], np.int64)[kind]

            changes[layer.name] = run
        both = bench.run_changed(changes)
        # a second fault that does not show leaves the first one alone in the dump, and that is of the list
        if not any(np.array_equal(both, values) for _, values in listed(bench)):
            yield "the same fault in two layers" if common else f"{('two', 'three')[how_many - 2]} faults at once", both


def injected(bench: Bench, draw: np.random.Generator, per_kind: int) -> Iterator[tuple[str, Array]]:
    """Dumps of devices with faults that are in no list."""
    layers = [step for step in bench.steps if isinstance(step, Accumulating)]
    for _ in range(per_kind):
        chosen: dict[str, tuple[Step, Codes]] = {}
        for index in draw.permutation(len(layers)):
            for kind, codes in layer_faults(layers[index], bench.sets, draw):
                if kind not in chosen or draw.random() < 0.5:
                    chosen[kind] = layers[index], codes
        for kind, (step, codes) in chosen.items():
            yield kind, bench.run_changed({step.name: codes})
        yield from dump_faults(bench.right, bench.sets, draw)
    for stage in bench.program.quantize_stages:
        if bench.program.resolve(stage.input) in bench.program.inputs:
            yield from stage_faults(bench, stage)
    yield from several(bench, draw, 4 * per_kind)


def stage_faults(bench: Bench, stage: QuantizeStage) -> Iterator[tuple[str, Array]]:
    """Input stages that are wrong."""
    right = run_with(bench.program, bench.feeds, {}, [stage.output])[stage.output].astype(np.int64)
    clip = stage.clip
    axis = 1 if right.ndim < 3 else 2
    for kind, codes in (
        ("input codes one more", np.minimum(right + 1, clip.upper)),
        ("input codes halved", right >> 1),
        ("input codes doubled", np.clip(2 * right, clip.lower, clip.upper)),
        ("input codes negated", np.clip(-right, clip.lower, clip.upper)),
        ("input codes backwards", np.flip(right, axis)),
        ("input codes moved by one", np.roll(right, 1, axis)),
        ("input channels exchanged", np.roll(right, 1, 1)),
        ("input codes with the lowest bit lost", right & ~1),
        ("input codes of other sets", np.roll(right, 1, 0) if right.shape[axis] == 1 else np.where(right > 0, right, 0)),
        ("input codes without their middle", right - int(right.mean())),
    ):
        yield kind, bench.run_changed({stage.name: lambda _inputs, codes=codes: codes})


def listed(bench: Bench) -> Iterator[tuple[Fault, Array]]:
    """Every fault of the list that shows."""
    for fault, values in bench.simulated.runner(list(range(bench.sets))).runs():
        if values is not None:
            yield fault, values


def models(count: int, draw: np.random.Generator | None) -> Iterator[tuple[str, str]]:
    """Names and networks of small exports, one or two of each network; with `draw` of others than these."""
    seen: Counter[str] = Counter()
    first_ones: list[tuple[str, str]] = []
    for export in sorted(zoo(), key=lambda one: one.operations):
        if seen[export.network] < 2 and sum(seen.values()) < count:
            seen[export.network] += 1
            first_ones.append((export.name, export.network))
    if draw is None:
        yield from first_ones
        return
    with (EXPORTS / "INDEX.csv").open(newline="", encoding="utf-8") as lines:
        rows = [(row["name"], row["network"]) for row in csv.DictReader(lines) if int(row["macs"]) <= MOST_OPERATIONS]
    yield from [rows[place] for place in draw.permutation(len(rows)) if rows[place] not in first_ones][:count]


def opened(name: str, network: str, sets: int) -> tuple[InferenceSession, dict[str, Array]]:
    """An export and its samples."""
    session = InferenceSession(EXPORTS / "quantized" / f"{name}.onnx")
    with np.load(EXPORTS / "inputs" / f"{network}.npz") as arrays:
        return session, {session.program.inputs[0]: arrays["x"][:sets]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exports", type=int, default=12)
    parser.add_argument("--per-kind", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--others", action="store_true", help="draw other exports, all kinds of them")
    parser.add_argument("--inner", action="store_true", help="dumps of a layer in the middle")
    parser.add_argument("--show", action="store_true", help="print every false cause")
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    false: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counts, kinds = Counter[str](), set[str]()
    start = time.perf_counter()
    for name, network in models(options.exports, draw if options.others else None):
        bench = Bench(*opened(name, network, options.sets), options.inner)
        for kind, seen in injected(bench, draw, options.per_kind):
            ranking = bench.explain(seen)
            if ranking is None:
                counts["not shown"] += 1
                continue
            kinds.add(kind)
            counts["injected"] += 1
            counts["partly"] += any(item.explained < item.differing for item in ranking.stated)
            if ranking.stated:
                stated = ranking.stated[0]
                counts["false"] += 1
                false[kind][stated.hypothesis.cause] += 1
                if options.show:
                    print(f"  {kind}: {stated.hypothesis.message}, {stated.differing} differ, {stated.bits:.0f} bits")
        for fault, seen in listed(bench):
            ranking = bench.explain(seen)
            if ranking is not None:
                fits = [item for item in ranking.possible if item.explained == item.differing]
                counts["listed"] += 1
                counts["stated"] += is_named(fault, ranking.stated)
                counts["named"] += is_named(fault, (*ranking.stated, *fits))
                if options.show and not is_named(fault, ranking.stated):
                    print(f"  not stated: {fault}: {[item.hypothesis.message for item in ranking.possible][:9]}")
                counts["wrong"] += bool(ranking.stated) and not is_named(fault, ranking.stated)
        print(f"{name}: {dict(counts)} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{counts['injected']} faults of {len(kinds)} kinds that are not in the list, {counts['not shown']} more do not show")
    print(f"false causes stated: {counts['false']}, of which {counts['partly']} fit only a part of the differences")
    for kind, causes in sorted(false.items(), key=lambda item: -sum(item[1].values())):
        print(f"  {kind}: {dict(causes)}")
    total = max(counts["listed"], 1)
    print(
        f"of {counts['listed']} faults of the list {counts['stated'] / total:.1%} stated, {counts['named'] / total:.1%} named, "
        f"{counts['wrong']} times another one is stated"
    )


def is_named(fault: Fault, causes: Sequence[WeighedCause]) -> bool:
    """Whether a fault is among causes.

    One in all layers is named also where the layer is named that it shows in, and a rounding to nearest where another one
    is named and that says that no tie tells them apart.
    """
    for item in causes:
        found = item.hypothesis
        alike = found.cause == fault.kind or (found.cause in NEAREST and fault.kind in NEAREST and "no tie" in found.note)
        if alike and (fault.step is None or found.step == fault.step):
            return True
    return False


if __name__ == "__main__":
    main()
