"""Long runs: memory stays small, and Ctrl-C ends them at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import load_exports
from support.chunk_runners import WAIT
from support.command_line import SCRIPT
from support.measured_process import run_measured
from support.sketch import Sketch

MEMORY = """
import numpy as np
from npusim import InferenceSession

session = InferenceSession(sys.argv[1], threads=2)
(argument,) = session.get_inputs()
x = np.load(sys.argv[2])
before = peak()
(output,) = session.run(None, {argument.name: x})
print(peak() - before - output.nbytes)
"""

INTERRUPTIBLE = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
"""Starts a command that Ctrl-C ends even where a shell runs the tests in the background and so has them ignore it."""


@pytest.mark.slow
def test_memory_is_that_of_a_few_chunks_and_the_outputs(tmp_path: Path) -> None:
    """One inner tensor of all samples would take 16 * 32 * 32 * 4 bytes for each of them."""
    sketch = Sketch(1, 32, 32)
    inner = sketch.layer(sketch.weights(16, 1, 3, 3), pads=(1, 1, 1, 1))
    wide = sketch.layer(sketch.weights(16, 16, 1, 1), source=inner)
    model = tmp_path / "model.onnx"
    model.write_bytes(sketch.finish(sketch.layer(sketch.weights(1, 16, 1, 1), source=wide)))
    np.save(tmp_path / "x.npy", np.ones((3000, 1, 32, 32), np.float32))
    printed = run_measured(MEMORY, str(model), str(tmp_path / "x.npy"), seconds=WAIT)
    assert int(printed) < 3000 * 16 * 32 * 32 * 4 / 4


@pytest.mark.slow
@pytest.mark.exports
@pytest.mark.parametrize("network", ["CNN_IMG_MOBILENETV1_58K_NPU", "CNN_AUDIO_DSCNN"])
def test_memory_of_the_largest_networks_stays_far_below_their_tensors(tmp_path: Path, network: str) -> None:
    """Tensors of 2,000 samples of these would take a gigabyte and more."""
    export = next(export for export in load_exports() if export.network == network)
    np.save(tmp_path / "x.npy", np.resize(export.inputs(), (2000, *export.inputs().shape[1:])))
    printed = run_measured(MEMORY, str(export.model), str(tmp_path / "x.npy"), seconds=WAIT)
    assert int(printed) < 200e6


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_long_run_and_leaves_no_file(tmp_path: Path, threads: int) -> None:
    """The run would take minutes; the test gives up after one."""
    sketch = Sketch(1, 24, 24)
    inner = sketch.layer(sketch.weights(16, 1, 3, 3), pads=(1, 1, 1, 1))
    (tmp_path / "model.onnx").write_bytes(
        sketch.finish(sketch.layer(sketch.weights(2, 16, 5, 5), source=inner, pads=(2, 2, 2, 2)))
    )
    np.save(tmp_path / "x.npy", np.zeros((30_000, 1, 24, 24), np.float32))
    leader, follower = pty.openpty()
    command = [SCRIPT, "run", "model.onnx", "x.npy", "-o", "out.npz", "--engine", "reference", "--threads", str(threads)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", INTERRUPTIBLE, *map(str, command)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    )
    try:
        seen = b""
        while b"64/30000" not in seen:  # it is in the middle of its work
            seen += os.read(leader, 10_000)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        os.close(follower)
        os.close(leader)
    assert (process.returncode, out) == (130, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "x.npy"]
