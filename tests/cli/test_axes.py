"""Signals with and without the last axis of size 1 are read alike by every command, which says so once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.builders import GraphBuilder
from support.command_line import call


def model(folder: Path) -> Path:
    graph = GraphBuilder((1, 2, 8, 1))
    codes = graph.input_stage([0.0] * 2, [1] * 2, [0] * 2)
    output = graph.convolution(codes, np.eye(2).reshape(2, 2, 1, 1) * 3, np.zeros(2), [1] * 2, [1] * 2, (0, 255))
    path = folder / "model.onnx"
    path.write_bytes(graph.model(output))
    return path


COMMANDS = {"run": ("-o", "y.npz"), "verify": (), "golden write": ("-o", "vectors", "--samples", "1", "--format", "npz")}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_axis_of_size_one_is_added_and_announced_once(name: str, tmp_path: Path) -> None:
    samples = tmp_path / "x.npz"
    np.savez(samples, input=np.arange(48, dtype=np.float32).reshape(3, 2, 8))
    options = [tmp_path / part if part in ("y.npz", "vectors") else part for part in COMMANDS[name]]
    outcome = call(*name.split(), model(tmp_path), samples, *options)
    assert outcome.code == 0, outcome
    assert outcome.err.count("is read as (N, 2, 8, 1)") == 1


def test_values_in_another_order_are_refused(tmp_path: Path) -> None:
    samples = tmp_path / "x.npz"
    np.savez(samples, input=np.zeros((3, 8, 2), np.float32))
    assert call("verify", model(tmp_path), samples).code == 2
