"""What all commands share: help, version, exit codes, streams, progress, schemas, and errors without a traceback."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from npusim import InputError, UsageError, __version__
from npusim.cli.output import Column, Row, count, number, paragraph, render_table, shorten
from npusim.cli.progress import INTERVAL, SparseLines
from npusim.schemas import COMMANDS, load_schema
from support import ROOT
from support.command_line import SCRIPT, call, check_error, checked_json, spawn

W8 = ROOT / "golden" / "vibration_w8.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_shared_options(command: str) -> None:
    words = command.split("_")
    done = call(*words, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"\n  Example: npusim {' '.join(words)} " in done.out
    assert "--json" in done.out
    assert call(*words, "-h") == done


def test_overview_lists_the_commands_and_the_exit_codes() -> None:
    done = call("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"\n  {command.split('_')[0]}  " in done.out
    assert "Exit codes: 0 as expected; 1 a mismatch or a finding; 2 wrong usage" in done.out
    assert call("--version").out == f"npusim {__version__}\n"


def test_wrong_usage_is_one_line_and_exit_code_2() -> None:
    for arguments, says in (
        ((), "a command is missing"),
        (("simulate",), "No such command 'simulate'"),
        (("verify",), "Missing argument 'MODEL'"),
        (("run", W8), "Missing argument 'INPUTS'"),
        (("inspect", W8, "--all"), "No such option '--all'"),
        (("inspect", W8, "more"), "unexpected extra argument"),
    ):
        done = call(*arguments)
        assert (done.code, done.out) == (2, "")
        assert says in done.err
        assert done.err.startswith("npusim: error: ")
        assert done.err.count("\n") == 1
        structured = call(*arguments, "--json")
        assert (structured.code, structured.err) == (2, "")
        value = json.loads(structured.out)
        jsonschema.Draft202012Validator(load_schema("inspect")).validate(value)
        assert value["error"]["kind"] == "UsageError"


def test_error_object_names_the_model_and_its_hash_where_there_is_one(tmp_path: Path) -> None:
    value = checked_json("verify", call("verify", W8, tmp_path / "none.npz", "--json"))
    assert value["model"]["path"] == str(W8)
    assert value["model"]["sha256"] == checked_json("inspect", call("inspect", W8, "--json"))["model"]["sha256"]
    value = checked_json("verify", call("verify", tmp_path / "none.onnx", "--json"))
    assert value["model"] == {
        "path": str(tmp_path / "none.onnx"),
        "sha256": None,
        **dict.fromkeys(("format", "arithmetic", "input_stage")),
    }
    assert checked_json("verify", call("verify", "--json"))["model"] is None


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*arguments: object, **options: object) -> object:
        raise error

    return fail


def test_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npusim.cli.verify.verify_samples", raising(KeyboardInterrupt()))
    done = call("verify", W8)
    assert (done.code, done.out, done.err) == (130, "", "")


@pytest.mark.slow
def test_interrupt_of_a_process_ends_quietly(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored\n"
        "import npusim.cli.verify as command\n"
        "command.verify_samples = lambda *given, **options: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(command.__spec__ and __import__('npusim.cli').cli.main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "verify", str(W8)], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            RuntimeError("seven\nlines"),
            3,
            "internal error, a bug in npusim: RuntimeError: seven lines (test_common.py, line",
        ),
        (MemoryError(), 3, "not enough memory"),
        (InputError("not this"), 2, "not this"),
    ],
)
def test_what_escapes_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str) -> None:
    monkeypatch.setattr("npusim.cli.verify.verify_samples", raising(error))
    check_error("verify", W8, code=code, kind=type(error).__name__, says=says)


@pytest.mark.slow
def test_json_is_alone_on_stdout_of_a_process() -> None:
    done = spawn("verify", W8, INPUTS, "--json", cwd=ROOT)
    assert (done.code, done.err) == (0, "")
    checked_json("verify", done)


@pytest.mark.slow
def test_models_are_found_relative_to_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(W8.read_bytes())
    assert spawn("inspect", "m.onnx", cwd=tmp_path).out == spawn("inspect", "golden/vibration_w8.onnx", cwd=ROOT).out


def test_reader_that_goes_away_is_no_mismatch() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([SCRIPT, "inspect", W8], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_behind_stdout_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([SCRIPT, "inspect", W8, "--json"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"npusim: error: the output cannot be written: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("options", "shown"), [((), True), (("--quiet",), False)])
def test_terminal_gets_a_bar_on_stderr_and_stdout_stays_clean(options: tuple[str, ...], shown: bool) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    command = [SCRIPT, "verify", W8, INPUTS, "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env=environment)
    out, _ = process.communicate()
    os.write(follower, b"#")  # so that there is something to read
    seen = os.read(leader, 100_000)
    os.close(follower)
    os.close(leader)
    assert process.returncode == 0
    assert json.loads(out)["ok"] is True
    assert (b"verify" in seen) is shown


def test_lines_of_progress_are_sparse() -> None:
    seconds, stream = [0.0], io.StringIO()
    lines = SparseLines("verify", stream, lambda: seconds[0])
    for done in range(1, 2001):
        seconds[0] = done * INTERVAL / 700
        lines(done, 2000)
    assert stream.getvalue() == (
        "npusim: verify: 700 of 2,000 samples, 19 s left\nnpusim: verify: 1,400 of 2,000 samples, 9 s left\n"
    )


def test_schemas_are_valid_and_share_what_is_the_same() -> None:
    schemas = [load_schema(command) for command in COMMANDS]
    error = {"kind": "InputError", "message": "what, where, wanted", "exit_code": 2}
    failure = {"npusim": __version__, "model": None, "ok": False, "error": error}
    for command, schema in zip(COMMANDS, schemas, strict=True):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["title"] == f"npusim {command.replace('_', ' ')} --json"
        jsonschema.Draft202012Validator(schema).validate(failure)
    with pytest.raises(UsageError, match="no schema for 'train'"):
        load_schema("train")


def test_schemas_refuse_what_is_not_theirs() -> None:
    validator = jsonschema.Draft202012Validator(load_schema("verify"))
    value = checked_json("verify", call("verify", W8, INPUTS, "--json"))
    for broken in (
        {**value, "more": 1},
        {**value, "ok": "yes"},
        {key: item for key, item in value.items() if key != "totals"},
        {**value, "layers": [{**value["layers"][0], "mismatches": -1}]},
        {"npusim": "1", "model": None, "ok": True, "error": {"kind": "a", "message": "b", "exit_code": 2}},
    ):
        assert not validator.is_valid(broken)


def test_texts() -> None:
    assert [shorten("/features/3/Conv", width) for width in (20, 16, 11, 3)] == [
        "/features/3/Conv",
        "/features/3/Conv",
        "/fea...Conv",
        "/...v",
    ]
    values = (0.0, -3.0, 0.1, 1 / 3, 1e300, 2**62 + 1, 2.0**60, 2.0**70, float("nan"), -float("inf"))
    assert [number(value) for value in values] == [
        "0",
        "-3",
        "0.1",
        "0.3333333333333333",
        "1e+300",
        "4611686018427387905",
        "1152921504606846976",
        "1.1805916e+21",
        "nan",
        "-inf",
    ]
    assert (count(0, "value"), count(1, "value"), count(1000, "value")) == ("0 values", "1 value", "1,000 values")
    assert (
        paragraph("a name-with-hyphens-that-is-longer-than-the-line b", 20)
        == "a\nname-with-hyphens-that-is-longer-than-the-line\nb"
    )


def test_tables_shrink_names_and_nothing_else() -> None:
    columns = [Column("name", shrinks=True), Column("much\nmore", right=True)]
    rows = [Row(("n" * 50, "1" * 30)), Row(("short", "22"), True, ("a note",))]
    lines = render_table(columns, rows, 60)
    assert lines == [
        "   " + " " * 25 + "  " + "much".rjust(30),
        "   " + "name".ljust(25) + "  " + "more".rjust(30),
        "   " + "n" * 11 + "..." + "n" * 11 + "  " + "1" * 30,
        "!! " + "short".ljust(25) + "  " + "22".rjust(30),
        "     a note",
    ]
    assert "1" * 30 in render_table(columns, rows, 10)[2]
    assert render_table([Column("a"), Column("b")], [], 80) == ["a  b"]
