"""Commands that are stopped, and files that are not files."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from npusim.files.arrays import read_npz
from support import ROOT
from support.command_line import SCRIPT, call, model_with_float_layer

W8 = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"


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


def test_closed_streams_end_up_in_no_file(tmp_path: Path) -> None:
    """Without stdin, stdout and stderr the archive must not get their numbers."""
    out = tmp_path / "o.npz"
    command = f"exec {shlex.join([str(SCRIPT), 'run', str(W8), str(INPUTS), '-o', str(out)])} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert read_npz(out)["output"].shape == (16, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), [(["inspect", "missing"], 2), (["inspect", str(W8), "--json"], 141)])
def test_streams_that_nobody_reads(arguments: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([str(SCRIPT), *arguments], stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == code


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """As a limit for the size of files, which the archive passes while it is being written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        for command, name in ((["run", W8, INPUTS], "o.npz"), (["golden", "write", W8, INPUTS], "g")):
            done = call(*command, "-o", tmp_path / name, "--json")
            assert done.code == 2
            assert json.loads(done.out)["error"]["message"].startswith(f"{tmp_path / name}: cannot be written: File too large")
            assert not list(tmp_path.iterdir())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    for name in ("\x1b[31mred", "c1\x9b31m", "turned\u202etxt", "line\rback"):
        done = call("run", W8, INPUTS, "-o", tmp_path / f"{name}.npz")
        assert done.code == 0
        assert repr(name)[1:-1] in done.out
        assert done.out.replace("\n", "").isprintable()
        failed = call("run", W8, tmp_path / f"{name}.csv", "-o", tmp_path / "o.npz")
        assert failed.err.rstrip("\n").isprintable()


def test_a_path_that_cannot_be_looked_at_is_not_blamed_on_stdout(tmp_path: Path) -> None:
    for arguments in (["run", W8, f"{'x' * 300}.npz"], ["run", W8, INPUTS, "-o", tmp_path / ("x" * 300) / "o.npz"]):
        done = call(*arguments, "--json", *([] if "-o" in arguments else ["-o", tmp_path / "o.npz"]))
        assert done.code == 2
        assert "x" * 300 in json.loads(done.out)["error"]["message"]
