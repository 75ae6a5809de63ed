"""Paths on the command line, ``-`` among them; completion, colours, suggestions, and the one rule for overwriting."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npusim.cli import main
from npusim.cli.output import Column, Row, render_table
from support import ROOT
from support.command_line import SCRIPT, call, check_error

W8, INPUTS = ROOT / "golden" / "vibration_w8.onnx", ROOT / "golden" / "vibration_inputs.npz"
FLOAT, SAMPLES = ROOT / "golden" / "keywords_float.onnx", ROOT / "golden" / "keywords_samples.npz"

Piped = Callable[..., tuple[int, bytes, str]]


@pytest.fixture(name="piped")
def call_with_streams(monkeypatch: pytest.MonkeyPatch) -> Piped:
    """Call a command with bytes on standard input; gives the exit code, the bytes of stdout, and stderr."""

    def run(given: bytes, *arguments: object) -> tuple[int, bytes, str]:
        out, err = io.BytesIO(), io.StringIO()
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8"))
        monkeypatch.setattr(sys, "stderr", err)
        code = main([str(argument) for argument in arguments])
        sys.stdout.flush()
        return code, out.getvalue(), err.getvalue()

    return run


def test_a_model_from_standard_input_is_named_so(piped: Piped) -> None:
    code, out, err = piped(W8.read_bytes(), "inspect", "-", "--json")
    assert (code, err) == (0, "")
    value, named = json.loads(out), json.loads(call("inspect", W8, "--json").out)
    assert value["model"] == {**named["model"], "path": "-"}
    assert {key: item for key, item in value.items() if key != "model"} == {
        key: item for key, item in named.items() if key != "model"
    }
    code, out, err = piped(b"no model\xff", "inspect", "-")
    assert (code, out) == (2, b"")
    assert err.startswith("npusim: error: - ")
    assert "npusim-stream" not in err


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv"])
def test_samples_from_standard_input(piped: Piped, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    array = np.load(INPUTS)["input"][:2]
    if suffix == ".npz":
        np.savez(path, input=array)
    elif suffix == ".npy":
        np.save(path, array)
    else:
        np.savetxt(path, array.reshape(2, -1), delimiter=",", fmt="%.9g")
    written = tmp_path / "named.npz"
    assert call("run", W8, path, "-o", written).code == 0
    code, out, err = piped(path.read_bytes(), "run", W8, "-", "-o", "-")
    assert code == 0
    assert out == written.read_bytes()
    assert err.endswith("\n\n-: 1 array, 2 samples\n")


def test_standard_input_is_read_once_and_must_hold_something(piped: Piped) -> None:
    code, _, err = piped(W8.read_bytes(), "verify", "-", "-")
    assert (code, "standard input is empty, or was read for another argument" in err) == (2, True)
    assert piped(b"", "inspect", "-")[0] == 2


def test_nothing_goes_to_standard_output_when_a_command_fails(piped: Piped) -> None:
    code, out, err = piped(b"1,2,3\n", "run", W8, "-", "-o", "-")
    assert (code, out) == (2, b"")
    assert err.startswith("npusim: error: -")
    code, out, _ = piped(b"", "run", W8, INPUTS, "-o", "-", "--json")
    assert code == 2
    assert "both take standard output" in json.loads(out)["error"]["message"]


def test_other_files_to_standard_output(piped: Piped, tmp_path: Path) -> None:
    code, out, _ = piped(b"", "bounds", W8, "-o", "-")
    named = tmp_path / "certificate.json"
    assert call("bounds", W8, "-o", named).code == 0
    assert (code, out) == (0, named.read_bytes())
    code, out, err = piped(b"", "check", W8, "--device", "soft", "--samples", 2, "-o", "-")
    assert code == 0
    assert out.startswith(b"<!DOCTYPE html>")
    assert err.endswith("-: page written\n")


COMMANDS: dict[str, tuple[tuple[object, ...], str]] = {
    "run": (("run", W8, INPUTS, "-o"), "out.npz"),
    "bounds": (("bounds", W8, "-o"), "out.json"),
    "verify": (("verify", W8, "--samples", 1, "--directed", "--seconds", 0, "-o"), "out.npz"),
    "check": (("check", W8, "--device", "soft", "--samples", 1, "-o"), "out.html"),
    "lint": (("lint", W8, "--device", "soft", "--format", "sarif", "-o"), "out.sarif"),
    "lint --fix": (("lint", W8, "--device", "soft", "--fix"), "out.onnx"),
    "compare --csv": (("compare", W8, "--against", "ort", "--samples", 1, "--csv"), "out.csv"),
    "compare -o": (("compare", W8, "--against", FLOAT, "-o"), "out.html"),
    "quantize": (("quantize", FLOAT, "--calibration", SAMPLES, "-o"), "out.onnx"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_file_is_overwritten_without_force(name: str, tmp_path: Path) -> None:
    arguments, file = COMMANDS[name]
    target = tmp_path / file
    target.write_text("mine", encoding="utf-8")
    command, *rest = arguments
    check_error(
        str(command),
        *rest,
        target,
        code=2,
        kind="UsageError",
        says="exists already; name another file, or overwrite it with --force",
    )
    assert target.read_text(encoding="utf-8") == "mine"
    done = call(command, *rest, tmp_path / "none" / file, "--force")
    assert (done.code, "there is no folder" in done.err) == (2, True)


def test_with_force_a_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.npz"
    target.write_text("mine", encoding="utf-8")
    assert call("run", W8, INPUTS, "-o", target, "--force").code == 0
    assert np.load(target)["output"].shape == (16, 4)


def test_what_is_read_is_never_overwritten(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    shutil.copy(W8, model)
    for arguments in (("bounds", model, "-o", model), ("lint", model, "--device", "soft", "--fix", model)):
        done = call(*arguments, "--force")
        assert (done.code, "is read as well" in done.err) == (2, True)
    assert model.read_bytes() == W8.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verfy", W8), "No such command 'verfy'; did you mean 'verify'? See 'npusim --help'"),
        (("golden", "chek"), "No such command 'chek'; did you mean 'check'? See 'npusim golden --help'"),
        (("verify", W8, "--sample", 1), "'--samples'"),
        (("run", W8, INPUTS, "-o", "o.npz", "--trace", "/conv/Conv_output"), "did you mean '/conv/Conv_output_0'"),
        (("lint", W8, "--device", "f28p55"), "'f28p55x', 'mspm0g5187'"),
    ],
)
def test_mistyped_names_bring_the_nearest_ones(
    arguments: tuple[object, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_colours_only_where_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that says it is a terminal gets colours, and none with NO_COLOR."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for no_color, coloured in (("", True), ("1", False)):
        stream = Terminal()
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["check", str(W8), "--device", "f28p55x", "--samples", "1"]) == 1
        assert ("\x1b[31m" in stream.getvalue()) is coloured


@pytest.mark.slow
def test_shells_are_told_what_can_follow(tmp_path: Path) -> None:
    def complete(words: str, index: int) -> list[str]:
        environment = {**os.environ, "_NPUSIM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert complete("npusim ver", 1) == ["plain,verify"]
    assert complete("npusim golden verify --m", 3) == ["plain,--model"]
    assert complete("npusim lint x --device m", 4) == ["plain,mspm0g5187"]
    assert complete("npusim verify x.on", 2) == ["file,x.on"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_are_cut_where_they_are_too_wide(width: int) -> None:
    columns = [Column("#", right=True), Column("layer", shrinks=True), *(Column(f"number {n}", right=True) for n in range(9))]
    rows = [Row(("1", "/a/long/name/of/a/layer", *("1234567",) * 9), True, ("a note",)), Row(("2", "/b", *("7",) * 9))]
    lines = render_table(columns, rows, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert text.count("number") == 9
    assert text.count("1234567") == 9
    assert text.count("a note") == 1
    assert text.count("!! 1") == lines.count("") + 1
    assert (lines.count("") == 0) is (width == 200)
