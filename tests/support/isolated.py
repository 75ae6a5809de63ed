"""Commands run each in a process of its own, forked from one that has imported everything, and judged by what they leave.

A fork takes milliseconds where a new Python takes a second, and a command that hangs or fills the memory harms nobody else.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "faults", "run"]

CPU_SECONDS = 10
MEMORY = 10**9
WALL_SECONDS = 120.0
ADDRESS_SPACE = 6 * 2**30
"""Allocations beyond this fail, so that a case cannot take the machine with it; they are found by what the command says."""

LONGEST_LINE = 1000
LONGEST_ERROR = 1000


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code (negative for a signal), streams, CPU seconds, and bytes of memory at most."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int


def run(arguments: Sequence[str], folder: Path, wall: float = WALL_SECONDS) -> Outcome:
    """Run an npusim command in a forked process whose working folder is `folder`."""
    out, err = folder / ".stdout", folder / ".stderr"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(arguments, folder, out, err)
    ended, status, usage = 0, 0, None
    deadline = time.monotonic() + wall
    pause = 0.002
    while not ended:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if not ended and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            ended, status, usage = os.wait4(child, 0)
        elif not ended:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
    code = os.waitstatus_to_exitcode(status)
    texts = [path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else "" for path in (out, err)]
    for path in (out, err):
        path.unlink(missing_ok=True)
    return Outcome(code, *texts, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _child(arguments: Sequence[str], folder: Path, out: Path, err: Path) -> None:
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS + 5, CPU_SECONDS + 6))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.dup2(null, 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.environ["COLUMNS"] = "100"
        from npusim.cli import main

        code = main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - what escapes main is what this looks for
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def faults(outcome: Outcome, folder: Path, *, as_json: bool = False) -> list[str]:
    """The kinds of fault in an outcome, none for a command that did its work or refused it as documented."""
    found = []
    text = outcome.out + outcome.err
    if "internal error" in text:
        found.append("internal error")
    if "Traceback" in text:
        found.append("traceback")
    if re.search(r"Warning:", outcome.err):
        found.append("warning on stderr")
    if outcome.code in (-signal.SIGKILL, -signal.SIGXCPU) or outcome.seconds > CPU_SECONDS:
        found.append("hang")
    elif outcome.code not in (0, 1, 2, 3):
        found.append(f"exit code {outcome.code}")
    if outcome.peak > MEMORY or "not enough memory" in text:
        found.append("memory")
    if CONTROL.search(text):
        found.append("control characters")
    errors = [line for line in outcome.err.splitlines() if line.startswith("npusim: error:")]
    if any(len(line) > LONGEST_ERROR for line in errors):
        found.append("long message")
    if outcome.code in (2, 3) and not outcome.out and len(errors) != 1:
        found.append("no sentence")
    if as_json and outcome.code in (0, 1, 2, 3):
        try:
            json.loads(outcome.out)
        except ValueError:
            found.append("no JSON")
    if any(path.name.startswith(".npusim-") for path in folder.rglob("*")):
        found.append("left-over file")
    return found
