"""Random host operations between a quantize stage and integer layers, on every input there is, against onnxruntime.

Each model reads a few elements that take a few values only, so all inputs are run: outputs of both engines, ranges and stored
types hold on all of them, or the certificate is wrong. The last layers are computed in plain integers as well, golden vectors
are written and verified, and what ``lint --fix`` writes gives the same outputs. `tests/bounds` runs some hundred models,
`benchmarks/enumerate_models.py` as many as are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from npusim import InferenceSession, lint, verify_golden, write_golden
from npusim.bounds import analyse
from npusim.bounds.certificate import certify
from npusim.bounds.verdicts import Property
from npusim.errors import UnsupportedError
from support.builders import GraphBuilder

__all__ = ["check"]

Array = npt.NDArray[Any]

SETS = 6
SHAPE = (1, 1, 3, 1)
OPSETS = (9, 10, 11, 13, 17, 18)


@dataclass
class Drawing:
    """A graph under construction, with the choices made for it."""

    graph: GraphBuilder
    choose: np.random.Generator

    def number(self) -> float:
        return float(self.choose.choice([-3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 6.5, 100.75, 127, 200]))

    def bounds(self) -> tuple[float, float]:
        low, high = sorted((self.number(), self.number()))
        return low, high + 1


Operation = Callable[[Drawing, str], str]


def same(name: str) -> Operation:
    return lambda made, x: made.graph.node(name, x)


def twice(name: str) -> Operation:
    return lambda made, x: made.graph.node(name, x, x)


def constant_behind(name: str) -> Operation:
    return lambda made, x: made.graph.node(name, x, made.graph.constant(made.number()))


def constant_first(name: str) -> Operation:
    return lambda made, x: made.graph.node(name, made.graph.constant(made.number()), x)


def clip(made: Drawing, x: str) -> str:
    low, high = made.bounds()
    if made.graph.opset >= 11:
        return made.graph.clip(x, low, high)
    return made.graph.node("Clip", x, **({"min": low, "max": high} if made.choose.random() < 0.6 else {"max": high}))


def pad(made: Drawing, x: str) -> str:
    graph, filler = made.graph, made.number()
    if graph.opset < 11:
        return graph.node("Pad", x, pads=[0, 0, 1, 0, 0, 0, 0, 0], value=filler)
    given = graph.constant(filler) if made.choose.random() < 0.5 else ""
    if graph.opset >= 18:
        return graph.node("Pad", x, graph.constant([1, 0], np.int64), given, graph.constant([2], np.int64))
    return graph.node("Pad", x, graph.constant([0, 0, 1, 0, 0, 0, 0, 1], np.int64), given)


def resize(made: Drawing, x: str) -> str:
    graph = made.graph
    if graph.opset < 11:
        return graph.node("Resize", x, graph.constant([1, 1, 2, 1]), mode="nearest")
    region, scales = graph.constant([0, 0, -0.5, 0, 1, 1, 1.5, 1]), graph.constant([1, 1, 2, 1])
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": made.number()}
    return graph.node("Resize", x, region, scales, mode="nearest", **(crop if made.choose.random() < 0.7 else {}))


def through_integers(made: Drawing, x: str) -> str:
    """A conversion to integers, something that wraps around in them, and back."""
    graph = made.graph
    target = int(made.choose.choice([2, 3, 6, 7, 9]))
    codes = graph.node("Cast", x, to=target)
    if target in (3, 6, 7) and made.choose.random() < 0.7:
        codes = graph.node(str(made.choose.choice(["Neg", "Abs", "Sign"])), codes)
    elif target in (6, 7):
        codes = graph.node(str(made.choose.choice(["Mul", "Add", "Sub"])), codes, codes)
    return graph.node("Cast", codes, to=1)


def scaled(name: str) -> Operation:
    return lambda made, x: made.graph.node(name, made.graph.binary("Mul", x, float(made.choose.choice([0.5, 0.25, -0.5, 1.5]))))


OPERATIONS: tuple[Operation, ...] = (
    *(same(name) for name in ("Relu", "Abs", "Neg", "Sqrt", "Sign", "Reciprocal", "Identity", "Floor", "GlobalMaxPool")),
    *(twice(name) for name in ("Mul", "Add", "Sub", "Max", "Min")),
    *(constant_behind(name) for name in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(constant_first(name) for name in ("Sub", "Mul", "Div", "Add")),
    *(scaled(name) for name in ("Floor", "Ceil", "Round")),
    clip,
    clip,
    pad,
    resize,
    through_integers,
    through_integers,
    lambda made, x: made.graph.node("LeakyRelu", x, alpha=float(made.choose.choice([0.5, 2, -1, 0]))),
    lambda made, x: made.graph.node("Concat", x, made.graph.node("Neg", x), axis=2),
    lambda made, x: made.graph.node("MaxPool", x, kernel_shape=[2, 1], pads=[1, 0, 0, 0]),
    lambda made, x: made.graph.node("Transpose", x, perm=[0, 1, 3, 2]),
    lambda made, x: made.graph.node("ReduceMax", x) if made.graph.opset < 18 else made.graph.node("Relu", x),
    lambda made, x: made.graph.node("Cast", made.graph.node("ArgMax", x, axis=2), to=1),
    lambda made, x: made.graph.node("Where", made.graph.constant([True], np.bool_), x, made.graph.node("Mul", x, x)),
)


@dataclass(frozen=True)
class Drawn:
    """A model, all of its inputs, and its last layers: tensor that each reads, weights, tensor of its codes."""

    model: bytes
    inputs: Array
    layers: tuple[tuple[str, Array, str], ...]


def drawn(number: int) -> Drawn:
    """A model by its number."""
    choose = np.random.default_rng([12, number])
    graph = GraphBuilder(SHAPE, opset=int(choose.choice(OPSETS)))
    made = Drawing(graph, choose)
    lower = int(choose.choice([-128, -3, -2, 0, 1, 100]))
    upper = lower + int(choose.integers(1, 4))
    old = graph.opset < 11
    saturated = graph.node("Floor", graph.binary("Mul", "input", 1.0))
    codes = graph.node("Clip", saturated, min=float(lower), max=float(upper)) if old else graph.clip(saturated, lower, upper)
    result = codes
    for _ in range(int(choose.integers(1, 4))):
        result = OPERATIONS[int(choose.integers(0, len(OPERATIONS)))](made, result)
    outputs = [result]
    layers: list[tuple[str, Array, str]] = []
    if choose.random() < 0.7:
        if choose.random() < 0.5:
            floored = graph.node("Floor", graph.binary("Mul", result, float(choose.choice([1, 0.5, 4]))))
            result = graph.node("Clip", floored, min=-16.0, max=255.0) if old else graph.clip(floored, -16, 255)
        # layers behind the first one are what `lint --fix` may repair: it leaves outputs as they are
        behind = np.random.default_rng([13, number])
        weights = choose.integers(-3, 4, (2, 1, 1, 1))
        for _ in range(1 + int(behind.integers(0, 3))):
            layers.append((result, weights, codes := convolution(graph, result, weights, twice=behind.random() < 0.3)))
            result, weights = codes, behind.integers(-3, 4, (2, 2, 1, 1))
        outputs.append(result)
        if behind.random() < 0.4:
            outputs = outputs[1:]
    values = np.arange(lower, upper + 1, dtype=np.float32)
    inputs = np.array(list(product(values, repeat=3)), np.float32).reshape(-1, *SHAPE[1:])
    return Drawn(graph.model(*outputs), inputs, tuple(layers))


def convolution(graph: GraphBuilder, source: str, weights: Array, *, twice: bool) -> str:
    """``clip(floor(conv / 2), -64, 63)``, saturated a second time where asked for."""
    result = graph.node("Floor", graph.binary("Mul", graph.node("Conv", source, graph.constant(weights)), 0.5))
    for _ in range(2 if twice else 1):
        result = graph.node("Clip", result, min=-64.0, max=63.0) if graph.opset < 11 else graph.clip(result, -64, 63)
    return result


def by_onnxruntime(model: bytes, inputs: Array) -> list[Array] | None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - the runtime has no kernel for this type or opset
        return None
    rows = [session.run(None, {"input": sample[np.newaxis]}) for sample in inputs]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def check(number: int, folder: Path | None = None) -> tuple[str, ...]:
    """Hold one model against onnxruntime and plain integers; returns what became of it.

    With a folder also what is written of it there: golden vectors, and the model that ``lint --fix`` repairs.
    """
    made = drawn(number)
    model, inputs = made.model, made.inputs
    expected = by_onnxruntime(model, inputs)
    if expected is None:
        return ("refused",)
    session = InferenceSession(model)
    steps = certify(session.program).steps
    open_ones = [step.tensor for step in steps if not step.judgements[Property.ONNXRUNTIME_EXACT].holds]
    results = {engine: codes_or_none(model, engine, inputs) for engine in ("fast", "reference")}
    if None in results.values():
        # NaN that is to become a code
        assert set(results.values()) == {None}, number
        assert open_ones, number
        return ("not a number",)
    right = all(
        result.dtype == wanted.dtype and np.array_equal(result, wanted, equal_nan=True)
        for found in results.values()
        for result, wanted in zip(found or (), expected, strict=True)
    )
    assert right or open_ones, (number, results, expected)
    hold_claims(session, inputs, number)
    hold_layers(session, made, number)
    verdict = "proven" if not open_ones else "open" if right else "open and different"
    if folder is None:
        return (verdict,)
    vectors = hold_vectors(session, made, expected if right else list(results["fast"] or ()), folder, number)
    fixed = hold_repairs(made, results["fast"], expected if right else None, folder, number)
    return verdict, vectors, fixed


def codes_or_none(model: bytes, engine: str, inputs: Array) -> tuple[Array, ...] | None:
    try:
        return tuple(InferenceSession(model, engine=engine).run(None, {"input": inputs}))
    except UnsupportedError:
        return None


def hold_claims(session: InferenceSession, inputs: Array, number: int) -> None:
    """No traced value leaves its interval, its range or what its stored type holds."""
    found, trace = analyse(session.program), session.trace({"input": inputs})
    for name, interval in found.tensors.items():
        tensor, values = session.program.tensors[name], np.asarray(trace[name])
        real = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        assert tensor.nan or real.size == values.size, (number, name)
        assert ((real >= tensor.lower) & (real <= tensor.upper)).all(), (number, name, tensor)
        if not tensor.nan:
            assert ((values >= interval.lower) & (values <= interval.upper)).all(), (number, name, interval)


def hold_layers(session: InferenceSession, made: Drawn, number: int) -> None:
    """The codes of the last layers are those of plain integers, wherever they read integers."""
    trace = session.trace({"input": made.inputs})
    for source, weights, codes in made.layers:
        read = trace[source]
        if not (np.isfinite(read).all() and (read == np.rint(read)).all() and (np.abs(read) < 2**20).all()):
            continue
        for index in np.ndindex(trace[codes].shape):
            total = sum(
                int(weights[index[1], channel, 0, 0]) * int(read[index[0], channel, *index[2:]])
                for channel in range(read.shape[1])
            )
            assert int(trace[codes][index]) == min(max(total // 2, -64), 63), (number, codes, index)


def hold_vectors(session: InferenceSession, made: Drawn, right: list[Array], folder: Path, number: int) -> str:
    """Golden vectors hold what is right, and prove themselves."""
    target, outputs = folder / f"golden_{number}", session.get_outputs()
    forms = ("c", "npz") if len(outputs) == 1 else ("npz",)
    try:
        written = write_golden(made.model, target, made.inputs, sets=SETS, formats=forms, allow_float=True)
    except UnsupportedError as error:
        assert not target.exists(), number
        return f"no vectors: {str(error).split(' ')[0]}"
    assert written, number
    assert verify_golden(target), number
    chosen = np.load(target / "vectors.npz")
    rows = [int((made.inputs == sample).all(axis=(1, 2, 3)).argmax()) for sample in chosen["input"]]
    size = len(made.inputs)
    for output, values in zip(outputs, right, strict=True):
        wanted = values.reshape(size, -1)[rows].ravel()
        assert np.array_equal(chosen[output.name].ravel(), wanted, equal_nan=True), (number, output.name)
    return "vectors"


def hold_repairs(made: Drawn, found: tuple[Array, ...] | None, right: list[Array] | None, folder: Path, number: int) -> str:
    """A repaired model gives the same outputs, in npusim and in onnxruntime."""
    path = folder / f"fixed_{number}.onnx"
    lint(made.model, "f28p55x", fix=path)
    if not path.exists():
        return "nothing repaired"
    content = path.read_bytes()
    again = codes_or_none(content, "fast", made.inputs)
    for one, two in zip(again or (), found or (), strict=True):
        assert one.dtype == two.dtype, number
        assert np.array_equal(one, two, equal_nan=True), number
    if right is not None:
        for one, two in zip(by_onnxruntime(content, made.inputs) or (), right, strict=True):
            assert np.array_equal(one, two, equal_nan=True), number
    return "repaired"
