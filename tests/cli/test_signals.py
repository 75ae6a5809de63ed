"""Commands that are stopped, and files that are not files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from support.command_line import SCRIPT, call, model_with_float_layer


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_commands_leave_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """The archive is stopped while it is being written: it goes to a folder that is watched for the file beside it."""
    model, data = tmp_path / "model.onnx", tmp_path / "x.npy"
    model.write_bytes(model_with_float_layer())
    np.save(data, np.zeros((60_000, 4, 16, 1), np.float32))
    target = tmp_path / "out"
    target.mkdir()
    arguments = [str(SCRIPT), "run", str(model), str(data), "-o", str(target / "o.npz"), "--trace", "*", "--quiet"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not any(target.iterdir()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert b"Traceback" not in err
    assert process.returncode in (128 + number, 0)
    assert [path.name for path in target.iterdir()] == ([] if process.returncode else ["o.npz"])


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_special_files_are_no_models(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    for command in ("inspect", "bounds", "verify"):
        outcome = call(command, path)
        assert outcome.code == 2
        assert "is not a regular file" in outcome.err
