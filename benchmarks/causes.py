"""How often `golden check` states a false cause, and how often it names the right one.

Faults of 30 kinds that are not in its list (weights, strides, single channels, two faults at once ...) are injected into real
exports, and dumps of their outputs on 8 sets are explained: every cause stated is false. Then every fault of its own list that
changes the dump is injected: the share whose sentence is stated, and the share where it is at least listed as one of those that
fit all differences.

Run: python benchmarks/causes.py [--exports N] [--per-kind N] [--seed S]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from zoo import EXPORTS, zoo

from npusim import InferenceSession
from npusim.engine.reference import run_step
from npusim.engine.replay import run_with
from npusim.golden.check.buffer_causes import Buffer
from npusim.golden.check.evidence import Ranking
from npusim.golden.check.explanation import Simulated, explain
from npusim.golden.faults import Fault, FaultKind, FaultRunner, faults_of_layer, faulty_codes
from npusim.program import Accumulating, IntegerLayer, Program, QuantizeStage, ShiftFloor, Step, Weighted
from npusim.program.accumulation import accumulate
from npusim.program.input_stage import InputStage

Array = npt.NDArray[Any]
Codes = Callable[[list[Array]], Array]

SETS = 8


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

    def __post_init__(self) -> None:
        self.program: Program = self.session.program
        self.tensor = self.program.resolve(self.program.outputs[0])
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
        return wide.reshape(SETS, -1)

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
        return values[self.tensor]


def layer_faults(layer: Accumulating, draw: np.random.Generator) -> Iterator[tuple[str, Codes]]:
    """Faults of a layer's parameters and data that are in no list."""
    part = layer.requantization
    if not isinstance(part, ShiftFloor):
        return
    count = part.bias.size
    channel = int(draw.integers(count))

    def codes(other: Accumulating, bend: Callable[[list[Array]], list[Array]] | None = None) -> Codes:
        def run(inputs: list[Array]) -> Array:
            wide = [values.astype(np.int64) for values in inputs]
            wide = wide if bend is None else bend(wide)
            return other.finish(
                other.requantization.unclipped(accumulate(other, wide), other.channel_axis), other.residual_of(wide)
            )

        return run

    def with_part(**values: Array) -> Codes:
        return codes(replace(layer, requantization=replace(part, **values)))

    def at(values: Array, change: int) -> Array:
        found = values.copy()
        found[channel] += change
        return found

    bias = part.bias.copy()
    bias[channel] = 0
    yield "bias of one channel missing", with_part(bias=bias)
    yield "bias of one channel one more", with_part(bias=at(part.bias, 1))
    yield "bias of one channel negated", with_part(bias=np.where(np.arange(count) == channel, -part.bias, part.bias))
    yield "biases one more", with_part(bias=part.bias + 1)
    yield "biases doubled", with_part(bias=2 * part.bias)
    yield "biases of 8 bits", with_part(bias=((part.bias + 128) & 255) - 128)
    yield "biases of other channels", with_part(bias=np.roll(part.bias, 1))
    yield "scale of one channel less one", with_part(scale=at(part.scale, -1))
    yield "scale of the first channel in all", with_part(scale=np.full_like(part.scale, part.scale[0]))
    yield "scales of other channels", with_part(scale=np.roll(part.scale, 1))
    if part.shift.min() > 0:
        yield "shift of one channel one less", with_part(shift=at(part.shift, -1))
    yield "shifts one more", with_part(shift=part.shift + 1)
    yield "shifts of other channels", with_part(shift=np.roll(part.shift, 1))
    yield "one input channel is zero", codes(layer, lambda inputs: [_zeroed(inputs[0], draw), *inputs[1:]])
    yield "input one code more", codes(layer, lambda inputs: [inputs[0] + 1, *inputs[1:]])
    yield "input read with the other sign", codes(layer, lambda inputs: [_other_sign(inputs[0]), *inputs[1:]])
    yield (
        "input moved by one",
        codes(layer, lambda inputs: [np.roll(inputs[0], 1, axis=-1 if inputs[0].ndim < 3 else 2), *inputs[1:]]),
    )
    yield "input channels in another order", codes(layer, lambda inputs: [np.roll(inputs[0], 1, axis=1), *inputs[1:]])
    yield "input of 4 bits", codes(layer, lambda inputs: [inputs[0] & ~15, *inputs[1:]])
    yield "input negated", codes(layer, lambda inputs: [-inputs[0], *inputs[1:]])
    clip = layer.output_clip
    yield "upper rail one less", lambda inputs: np.minimum(codes(layer)(inputs), clip.upper - 1)
    yield "every code one more", lambda inputs: np.clip(codes(layer)(inputs) + 1, clip.lower, clip.upper)
    if isinstance(layer, Weighted):
        weights = layer.weights

        def with_weights(values: Array) -> Codes:
            return codes(replace(layer, weights=values.reshape(weights.shape)))

        flat = weights.reshape(-1)
        place = int(draw.integers(flat.size))
        only = np.arange(flat.size) == place
        yield "a bit of one weight", with_weights(np.where(only, flat ^ (1 << int(draw.integers(layer.weight_bits - 1))), flat))
        yield "one weight negated", with_weights(np.where(only, -flat, flat))
        yield (
            "weights of one channel zero",
            with_weights(
                np.where(
                    np.arange(len(weights)).reshape(-1, *(1,) * (weights.ndim - 1)) == draw.integers(len(weights)), 0, weights
                )
            ),
        )
        yield "weights moved by one", with_weights(np.roll(flat, 1))
        yield "weights backwards", with_weights(flat[::-1])


def _zeroed(values: Array, draw: np.random.Generator) -> Array:
    found = values.copy()
    found[:, int(draw.integers(values.shape[1]))] = 0
    return found


def _other_sign(values: Array) -> Array:
    return np.where(values < 0, values + 256, np.where(values > 127, values - 256, values))


def dump_faults(right: Array, draw: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Faults of the dump itself."""
    flat = right.reshape(SETS, -1)
    noisy = flat.copy()
    hit = draw.random(flat.shape) < 0.2
    noisy[hit] = (
        noisy[hit] + draw.choice(np.array([-1, 1], noisy.dtype), int(hit.sum()))
        if flat.dtype.kind == "f"
        else (np.clip(noisy[hit].astype(np.int64) + draw.choice([-1, 1], int(hit.sum())), -128, 255).astype(noisy.dtype))
    )
    yield "noise of one", noisy
    one = flat.copy()
    one[int(draw.integers(SETS)), int(draw.integers(flat.shape[1]))] += 1
    yield "one value", one
    stuck = flat.copy()
    stuck[:, int(draw.integers(flat.shape[1]))] = flat.flat[0]
    yield "one stuck value", stuck


def doubles(bench: Bench, draw: np.random.Generator, count: int) -> Iterator[tuple[str, Array]]:
    """Two faults of the list at once, in two layers."""
    layers = [step for step in bench.program.steps if isinstance(step, IntegerLayer) and faults_of_layer(step)]
    for _ in range(count if len(layers) > 1 else 0):
        first, second = draw.permutation(len(layers))[:2]
        changes: dict[str, Codes] = {}
        for index in (first, second):
            layer, kinds = layers[index], faults_of_layer(layers[index])
            kind = kinds[int(draw.integers(len(kinds)))]

            def run(inputs: list[Array], layer: IntegerLayer = layer, kind: FaultKind = kind) -> Array:
                return faulty_codes(layer, inputs, [kind], np.int64)[kind]

            changes[layer.name] = run
        both = bench.run_changed(changes)
        # a second fault that does not show leaves the first one alone in the dump, and that is of the list
        if not any(np.array_equal(both, bench.run_changed({name: codes})) for name, codes in changes.items()):
            yield "two faults at once", both


def injected(bench: Bench, draw: np.random.Generator, per_kind: int) -> Iterator[tuple[str, Array]]:
    """Dumps of devices with faults that are in no list."""
    layers = [step for step in bench.program.steps if isinstance(step, Accumulating)]
    for _ in range(per_kind):
        chosen: dict[str, tuple[Step, Codes]] = {}
        for index in draw.permutation(len(layers)):
            for kind, codes in layer_faults(layers[index], draw):
                if kind not in chosen or draw.random() < 0.5:
                    chosen[kind] = layers[index], codes
        for kind, (step, codes) in chosen.items():
            yield kind, bench.run_changed({step.name: codes})
        yield from dump_faults(bench.right, draw)
    for stage in bench.program.quantize_stages:
        if bench.program.resolve(stage.input) in bench.program.inputs:
            yield from stage_faults(bench, stage)
    yield from doubles(bench, draw, 4 * per_kind)


def stage_faults(bench: Bench, stage: QuantizeStage) -> Iterator[tuple[str, Array]]:
    """Input stages that are wrong."""
    right = run_with(bench.program, bench.feeds, {}, [stage.output])[stage.output].astype(np.int64)
    for kind, codes in (("input codes one more", np.minimum(right + 1, stage.clip.upper)), ("input codes halved", right >> 1)):
        yield kind, bench.run_changed({stage.name: lambda _inputs, codes=codes: codes})


def listed(bench: Bench) -> Iterator[tuple[str, Array]]:
    """Every fault of the list that shows."""
    for fault, values in bench.simulated.runner(list(range(SETS))).runs():
        if values is not None:
            yield str(fault), values


def models(count: int) -> Iterator[tuple[str, InferenceSession, dict[str, Array]]]:
    """Small exports, one or two of each network."""
    seen: Counter[str] = Counter()
    for export in sorted(zoo(), key=lambda one: one.operations):
        if seen[export.network] >= 2 or sum(seen.values()) >= count:
            continue
        seen[export.network] += 1
        session = InferenceSession(export.path)
        with np.load(EXPORTS / "inputs" / f"{export.network}.npz") as arrays:
            x = arrays["x"][:SETS]
        yield export.name, session, {session.program.inputs[0]: x}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exports", type=int, default=12)
    parser.add_argument("--per-kind", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    false: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counts, kinds = Counter[str](), set[str]()
    start = time.perf_counter()
    for name, session, feeds in models(options.exports):
        bench = Bench(session, feeds)
        for kind, seen in injected(bench, draw, options.per_kind):
            ranking = bench.explain(seen)
            if ranking is None:
                counts["not shown"] += 1
                continue
            kinds.add(kind)
            counts["injected"] += 1
            counts["partly"] += any(item.explained < item.differing for item in ranking.stated)
            if ranking.stated:
                counts["false"] += 1
                false[kind][ranking.stated[0].hypothesis.cause] += 1
        for message, seen in listed(bench):
            ranking = bench.explain(seen)
            if ranking is not None:
                fits = [item for item in ranking.possible if item.explained == item.differing]
                counts["listed"] += 1
                counts["stated"] += message in [item.hypothesis.message for item in ranking.stated]
                counts["named"] += message in [item.hypothesis.message for item in (*ranking.stated, *fits)]
        print(f"{name}: {dict(counts)} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{counts['injected']} faults of {len(kinds)} kinds that are not in the list, {counts['not shown']} more do not show")
    print(f"false causes stated: {counts['false']}, of which {counts['partly']} fit only a part of the differences")
    for kind, causes in sorted(false.items(), key=lambda item: -sum(item[1].values())):
        print(f"  {kind}: {dict(causes)}")
    total = max(counts["listed"], 1)
    print(
        f"of {counts['listed']} faults of the list {counts['stated'] / total:.1%} stated, {counts['named'] / total:.1%} named"
    )


if __name__ == "__main__":
    main()
