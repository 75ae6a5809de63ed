"""Commands run in processes forked from one that has imported everything, and judged by what they leave.

Where a new Python takes a second for each command, this takes nothing; one that hangs or fills the memory harms nobody else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import select
import signal
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "Worker", "contents", "faults", "message"]

CPU_SECONDS = 10
MEMORY = 10**9
WALL_SECONDS = 120.0
ADDRESS_SPACE = 6 * 2**30
"""Allocations beyond this fail, so that a case cannot take the machine with it; they are found by what the command says."""

CASES_OF_A_WORKER = 100
OUT, ERR = ".stdout", ".stderr"
LONGEST_ERROR = 1000


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code (negative for a signal), streams, CPU seconds, and bytes of memory at most."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int


class Worker:
    """A forked process that runs one command after the other, and another one where it has died or grown."""

    def __init__(self) -> None:
        self._pid = 0
        self._done = 0
        self._asked = self._answered = -1
        self._text = b""

    def run(self, arguments: Sequence[str], folder: Path, wall: float = WALL_SECONDS) -> Outcome:
        """Run an npusim command whose working folder is `folder`."""
        if not self._pid:
            self._start()
        os.write(self._asked, json.dumps([list(arguments), str(folder)]).encode() + b"\n")
        answer = self._answer(wall)
        if answer is None:
            seconds, peak, code = self._end()
        else:
            code, seconds, peak = answer
            self._done += 1
            if self._done >= CASES_OF_A_WORKER or peak > MEMORY // 2:
                self.close()
        texts = []
        for name in (OUT, ERR):
            path = folder / name
            texts.append(path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else "")
            path.unlink(missing_ok=True)
        return Outcome(int(code), *texts, seconds, int(peak))

    def close(self) -> None:
        """End the process."""
        if self._pid:
            self._end()

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        read, self._asked = os.pipe()
        self._answered, write = os.pipe()
        self._pid, self._done, self._text = os.fork(), 0, b""
        if self._pid == 0:
            os.close(self._asked)
            os.close(self._answered)
            _work(read, write)
        os.close(read)
        os.close(write)

    def _answer(self, wall: float) -> tuple[float, float, float] | None:
        """Exit code, seconds and memory; None where the process has died or takes too long."""
        deadline = time.monotonic() + wall
        while b"\n" not in self._text:
            ready, _, _ = select.select([self._answered], [], [], max(deadline - time.monotonic(), 0))
            more = os.read(self._answered, 4096) if ready else b""
            if not more:
                return None
            self._text += more
        line, _, self._text = self._text.partition(b"\n")
        code, seconds, peak = json.loads(line)
        return code, seconds, peak

    def _end(self) -> tuple[float, float, float]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._pid, 0)
        os.close(self._asked)
        os.close(self._answered)
        self._pid = 0
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)


def _work(asked: int, answered: int) -> None:
    """Run commands until there are no more."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["COLUMNS"] = "100"
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for the life of the process
        os.dup2(sys.stdin.fileno(), 0)
        with open(asked, encoding="utf-8") as lines:
            for line in lines:
                arguments, folder = json.loads(line)
                before = resource.getrusage(resource.RUSAGE_SELF)
                spent = before.ru_utime + before.ru_stime
                # beyond the hard limit of none, so that it can be raised again for the next command
                resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + CPU_SECONDS + 5, resource.RLIM_INFINITY))
                code = _run(arguments, folder)
                after = resource.getrusage(resource.RUSAGE_SELF)
                # the peak of the process is this command's own only where it has grown
                peak = after.ru_maxrss * 1024 if after.ru_maxrss > before.ru_maxrss else 0
                os.write(answered, json.dumps([code, after.ru_utime + after.ru_stime - spent, peak]).encode() + b"\n")
    finally:
        os._exit(0)


def _run(arguments: Sequence[str], folder: str) -> int:
    os.chdir(folder)
    for number, name in ((1, OUT), (2, ERR)):
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, number)
        os.close(target)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    from npusim.cli import main

    code = 70
    try:
        code = main(list(arguments))
    except BaseException:  # noqa: BLE001 - what escapes main is what this looks for
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir("/")
    return code


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def message(outcome: Outcome) -> str:
    """The sentence of a command that refused, from stderr or from its JSON object."""
    said = [line for line in outcome.err.splitlines() if line.startswith("npusim: error:")]
    if said:
        return said[-1]
    try:
        return str(json.loads(outcome.out)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return outcome.err[-600:]


def contents(folder: Path) -> dict[str, bytes | None]:
    """What the files of a folder hold, by path; None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def faults(outcome: Outcome, folder: Path, before: Mapping[str, bytes | None], *, as_json: bool = False) -> list[str]:
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
    after = contents(folder)
    if any(Path(name).name.startswith(".npusim-") for name in after):
        found.append("left-over file")
    if outcome.code not in (0, 1) and after != before:
        found.append("half-written")
    written = {name: content for name, content in after.items() if content is not None and before.get(name) != content}
    found.extend(sorted({fault for name, content in written.items() for fault in _faults_of(name, content)}))
    return found


def _faults_of(name: str, content: bytes) -> Iterator[str]:
    """What is wrong with a file that a command has written."""
    suffix = Path(name).suffix
    if suffix in (".npz", ".onnx", ".pb", ".bin", ".npy"):
        if suffix == ".npz" and not zipfile.is_zipfile(io.BytesIO(content)):
            yield "half-written"
        return
    text = content.decode("utf-8", "surrogateescape")
    if CONTROL.search(text.replace("\r\n", "\n")):
        yield "unescaped: control characters"
    if suffix == ".html" and "<script>" in text:
        yield "unescaped: script"
    if suffix == ".csv" and re.search(r'(?:^|,)"?[=@]', text, re.MULTILINE):
        yield "unescaped: formula"
    if suffix in (".c", ".h") and "int f(void)" in re.sub(
        r"/\*.*?\*/|//[^\n]*|\"(?:[^\"\\\n]|\\.)*\"", "", text, flags=re.DOTALL
    ):
        yield "unescaped: C"
    if suffix in (".json", ".sarif"):
        try:
            json.loads(text)
        except ValueError:
            yield "half-written"
