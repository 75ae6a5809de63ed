"""Calls the command line in tests: in this process where only the result matters, as a process where streams matter too."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
from onnx import helper

from npusim.cli import main
from npusim.schemas import load_schema
from support.builders import GraphBuilder
from support.models import model_of

__all__ = [
    "FLOAT32_SAMPLE",
    "Outcome",
    "call",
    "check_error",
    "checked_json",
    "model_beyond_float32",
    "model_with_float_layer",
    "model_with_open_size",
    "spawn",
]

SCRIPT = Path(sysconfig.get_path("scripts")) / "npusim"


@dataclass(frozen=True)
class Outcome:
    """Exit code and streams of one call."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Outcome:
    """Run a command in this process, as in a pipe of 80 columns."""
    out, err = io.StringIO(), io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return Outcome(code, out.getvalue(), err.getvalue())


def spawn(*arguments: object, cwd: Path | None = None, **settings: Any) -> Outcome:
    """Run a command as users do, from another folder by default."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [str(SCRIPT), *(str(argument) for argument in arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        **settings,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def checked_json(command: str, outcome: Outcome) -> dict[str, Any]:
    """The object on stdout, after holding it against the command's schema and its `ok` against the exit code."""
    value: dict[str, Any] = json.loads(outcome.out)
    jsonschema.Draft202012Validator(load_schema(command)).validate(value)
    assert value["ok"] is (outcome.code == 0)
    return value


def check_error(command: str, *arguments: object, code: int, kind: str, says: str) -> None:
    """A call must fail with one sentence and this exit code, with and without --json."""
    plain = call(*command.split("_"), *arguments)
    assert plain.code == code, plain
    assert plain.out == ""
    assert plain.err.startswith("npusim: error: ")
    assert plain.err.count("\n") == 1
    assert plain.err.endswith("\n")
    assert says in plain.err
    assert "Traceback" not in plain.err
    structured = call(*command.split("_"), *arguments, "--json")
    assert structured.code == code
    assert structured.err == ""
    value = checked_json(command, structured)
    assert value["error"] == {
        "kind": kind,
        "message": plain.err.removeprefix("npusim: error: ").rstrip("\n"),
        "exit_code": code,
    }


FLOAT32_SAMPLE = 3
"""The sum of codes at which `model_beyond_float32` differs."""


def model_beyond_float32() -> bytes:
    """Two fully connected layers with 4-bit weights in which float32 rounds up across a shift boundary.

    Channel 0 of the first layer is ``((7 * sum(x) + 81700) * 247) >> 17``. For a sum of 3 the product is
    81721 * 247 = 154 * 2**17 - 1, an odd number past 2**24, which float32 rounds to 154 * 2**17: 153 becomes 154.
    """
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0] * 4, [1] * 4, [0] * 4)
    weights = np.array([[7, 1, 5, -7], [7, -2, 5, -7], [7, 3, 5, -7], [7, -4, 5, -7]])
    bias = np.array([81721 - 7 * FLOAT32_SAMPLE, 0, 100, -100])
    first = graph.fully_connected(codes, weights, bias, [247, 200, 130, 255], [17, 4, 4, 5], (0, 255))
    second = graph.fully_connected(first, 2 * np.eye(4, dtype=np.int64), np.zeros(4), [200] * 4, [10] * 4, (-128, 127))
    return graph.model(second)


def model_with_float_layer() -> bytes:
    """A convolution left in float between integer layers: 61 float32 products in each sum, whose order is free."""
    generator = np.random.default_rng(5)
    graph = GraphBuilder((1, 4, 16, 1))
    codes = graph.input_stage([0.25] * 4, [1000] * 4, [5] * 4)
    weights = generator.normal(0, 0.01, (8, 4, 15, 1))
    mixed = graph.node("Conv", codes, graph.constant(weights), kernel_shape=[15, 1], pads=[7, 0, 7, 0])
    scaled = graph.scale(graph.binary("Add", mixed, 0.1), np.full((1, 1, 1, 1), 1000.0), np.full((1, 1, 1, 1), 4))
    again = graph.clip(graph.node("Floor", scaled), -128, 127)
    kernel = generator.integers(-127, 128, (4, 8, 1, 1))
    return graph.model(graph.convolution(again, kernel, np.zeros(4), np.ones(4), np.full(4, 8), (0, 255)))


def model_with_open_size() -> bytes:
    """A float model whose second axis is open: there is a program only once inputs are seen."""
    open_type = (np.float32, (1, "length"))
    return model_of([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": open_type}, {"y": open_type})


def samples_for(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    """Float samples that use the range of the input stages here."""
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)
