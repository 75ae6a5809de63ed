"""How often two models that are equal are proven so, and how often two that differ are told apart.

    python benchmarks/equality.py ../shared/models [--changed 200] [--seconds 10]

Equal pairs: exports of one network that differ in exporter or simplifier alone, and each of some exports beside what
onnxruntime's basic optimizations, onnxsim and onnxslim (where installed) make of it. Pairs that may differ: each of some
exports beside itself with one constant changed by one step; that none of them is proven equal although some input shows a
difference is a test (tests/program/test_forms.py), here it is counted how many are shown.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import npusim

SAME = ("network", "method", "weight_bits", "activation_bits", "output_int", "mixed_precision")
"""Columns of the index that say what an export is of; the others say how it was written."""

Simplify = Callable[[Path, Path], None]


def main() -> int:
    """Prove, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="the folder with INDEX.csv and quantized/")
    parser.add_argument("--changed", type=int, default=200, help="pairs with one changed constant")
    parser.add_argument("--every", type=int, default=6, help="of how many exports one is simplified")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the search of one pair")
    arguments = parser.parse_args()
    rows = list(csv.DictReader((arguments.models / "INDEX.csv").open()))
    paths = {row["name"]: arguments.models / "quantized" / f"{row['name']}.onnx" for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        report("exporters and simplifiers", pairs_of_exports(rows, paths), arguments.seconds)
        for name, simplify in simplifiers():
            made = simplified([paths[row["name"]] for row in rows[:: arguments.every]], Path(folder), name, simplify)
            report(name, made, arguments.seconds)
        small = [path for row in rows if int(row["params"]) < 10_000 for path in [paths[row["name"]]]]
        report("one constant changed", changed(small, Path(folder), arguments.changed), arguments.seconds)
    return 0


def report(title: str, pairs: Iterator[tuple[Path, Path]], seconds: float) -> None:
    """Judge pairs and print how many were proven, different and unknown, and the longest proof."""
    counts: dict[str, int] = defaultdict(int)
    longest = 0.0
    for one, other in pairs:
        start = time.perf_counter()
        found = npusim.prove_equal(str(one), str(other), seconds=seconds)
        if found:
            longest = max(longest, time.perf_counter() - start)
        counts[str(found.verdict)] += 1
        if not found:
            print(f"  {one.stem} | {other.stem}: {found.verdict}: {found.reason}", file=sys.stderr)
    print(f"{title}: {dict(counts)}, longest proof {longest:.1f} s", flush=True)


def pairs_of_exports(rows: list[dict[str, str]], paths: dict[str, Path]) -> Iterator[tuple[Path, Path]]:
    """The first export of each network with each other one that differs only in how it was written."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in SAME)].append(paths[row["name"]])
    for first, *others in groups.values():
        for other in others:
            yield first, other


def simplifiers() -> Iterator[tuple[str, Simplify]]:
    """Those that are installed."""

    def optimized(source: Path, target: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    yield "onnxruntime basic", optimized
    try:
        import onnxsim
    except ImportError:
        print("onnxsim: not installed")
    else:
        yield "onnxsim", lambda source, target: onnx.save(onnxsim.simplify(onnx.load(source))[0], target)
    try:
        import onnxslim
    except ImportError:
        print("onnxslim: not installed")
    else:
        yield "onnxslim", lambda source, target: onnx.save(onnxslim.slim(onnx.load(source)), target)


def simplified(paths: list[Path], folder: Path, name: str, simplify: Simplify) -> Iterator[tuple[Path, Path]]:
    """Models and what a simplifier makes of them."""
    for path in paths:
        target = folder / f"{path.stem}_{name.replace(' ', '_')}.onnx"
        simplify(path, target)
        yield path, target


def changed(paths: list[Path], folder: Path, count: int) -> Iterator[tuple[Path, Path]]:
    """Models and the same with one whole number of one initializer changed by one."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = paths[number % len(paths)]
        model = onnx.load(path)
        whole = [
            (place, array)
            for place, array in ((place, numpy_helper.to_array(item)) for place, item in enumerate(model.graph.initializer))
            if array.dtype == np.float32 and array.size > 1 and (array == np.rint(array)).all() and (np.abs(array) > 1).any()
        ]
        place, array = whole[int(generator.integers(len(whole)))]
        array = array.copy()
        array.reshape(-1)[int(generator.integers(array.size))] += int(generator.choice([-1, 1]))
        model.graph.initializer[place].CopyFrom(numpy_helper.from_array(array, model.graph.initializer[place].name))
        target = folder / f"changed_{number}.onnx"
        onnx.save(model, target)
        yield path, target


if __name__ == "__main__":
    sys.exit(main())
