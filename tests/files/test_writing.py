"""Files and folders that appear whole or not at all: failures, killed writers, several writers, spreadsheets."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest

from npusim.errors import UsageError
from npusim.files import writing
from npusim.files.tables import csv_bytes
from npusim.files.writing import replacing, replacing_folder


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a folder takes the place of another."""
    if request.param == "two renames":
        monkeypatch.setattr(writing, "_exchange", lambda new, target: False)
    return str(request.param)


def put(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_folder_is_replaced_whole(tmp_path: Path, way: str) -> None:
    target = put(tmp_path / "g", old="1")
    for number in range(3):
        with replacing_folder(target) as beside:
            put(beside, **{f"new{number}": "2"})
        assert (names(tmp_path), names(target)) == (["g"], [f"new{number}"])


def test_names_are_exchanged_in_one_step_where_the_system_can(tmp_path: Path) -> None:
    one, other = put(tmp_path / "a", one="1"), put(tmp_path / "b", other="2")
    assert writing._exchange(one, other)
    assert (names(one), names(other)) == (["other"], ["one"])
    assert not writing._exchange(one, tmp_path / "missing")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = put(tmp_path / "g", old="1")
    rename = Path.rename

    def fail_for_new(path: Path, goal: Path) -> Path:
        if path.suffix == ".tmp":
            raise error
        return rename(path, goal)

    monkeypatch.setattr(writing, "_exchange", lambda new, target: False)
    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises((UsageError, KeyboardInterrupt)), replacing_folder(target) as beside:
        put(beside, new="2")
    monkeypatch.undo()
    assert (names(tmp_path), names(target)) == (["g"], ["old"])


KILLED = """
import os, signal, sys
from pathlib import Path
from npusim.files import writing
where, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "file":
    with writing.replacing(where / "o.npz") as stream:
        stream.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
with writing.replacing_folder(where / "g") as folder:
    (folder / "half").write_text("half")
    if kind == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "renamed":
        writing._exchange = lambda new, target: False
        rename = Path.rename
        def kill_after(path, goal):
            rename(path, goal)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.rename = kill_after
    if kind == "exchanged":
        writing._remove = lambda path: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder", "renamed", "exchanged"])
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "g", old="1")
    put(tmp_path / "o.npz") if kind == "folder" else (tmp_path / "o.npz").write_text("1")
    before = names(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) != before
    with replacing(tmp_path / "another.txt") as stream:
        stream.write(b"whole")
    assert names(tmp_path) == ["another.txt", *before]
    assert names(tmp_path / "g") == (["half"] if kind == "exchanged" else ["old"])


def test_what_is_still_written_or_not_of_a_writer_stays(tmp_path: Path) -> None:
    """A second writer meets the unfinished file and folder of a living one, and names that only look alike."""
    os.mkfifo(tmp_path / ".npusim-000000000000.tmp")
    put(tmp_path / "precious", file="1")
    (tmp_path / ".npusim-000000000001.tmp").symlink_to(tmp_path / "precious")
    (tmp_path / ".npusim-notes.tmp").write_text("mine")
    strange = names(tmp_path)
    with replacing(tmp_path / "one") as stream, replacing_folder(tmp_path / "two") as folder:
        put(folder, kept="1")
        with replacing(tmp_path / "three"):
            pass
        stream.write(b"kept")
    assert names(tmp_path) == sorted([*strange, "one", "two", "three"])
    assert names(tmp_path / "two") == ["kept"]
    assert (tmp_path / "one").read_bytes() == b"kept"


@pytest.mark.parametrize("before", ["nothing", "empty", "full"])
def test_of_two_writers_one_wins_and_the_other_says_so(tmp_path: Path, way: str, before: str) -> None:
    target = tmp_path / "g"
    if before != "nothing":
        put(target, **({"old": "0"} if before == "full" else {}))

    def write(name: str, meanwhile: Callable[[], None]) -> None:
        with replacing_folder(target, overwrite=before == "full") as folder:
            put(folder, **{name: "1"})
            meanwhile()

    with pytest.raises(UsageError, match=r"g: was written by another process in the meantime, which stays"):
        write("late", lambda: write("early", lambda: None))
    assert (names(tmp_path), names(target)) == (["g"], ["early"])


def test_a_file_that_may_not_be_replaced_stays_also_when_it_comes_late(tmp_path: Path) -> None:
    target = tmp_path / "o"
    with pytest.raises(UsageError, match="was written by another process"), replacing(target, overwrite=False):
        target.write_bytes(b"early")
    assert (names(tmp_path), target.read_bytes()) == (["o"], b"early")


def test_a_folder_that_someone_else_holds_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_PAUSE", 0.0)
    number = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        with replacing_folder(tmp_path / "g") as folder:
            put(folder, a="1")
    finally:
        os.close(number)
    assert names(tmp_path) == ["g"]


def test_content_is_on_the_disk_before_its_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename, replace = os.fsync, Path.rename, Path.replace

    def fsync(number: int) -> None:
        events.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{number}')).name[:7]}")
        sync(number)

    def moved(path: Path, goal: Path) -> Path:
        events.append("rename")
        return (rename if path.is_dir() else replace)(path, goal)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", moved)
    monkeypatch.setattr(Path, "replace", moved)
    with replacing(tmp_path / "file"):
        pass
    assert events == ["fsync .npusim", "rename", f"fsync {tmp_path.name[:7]}"]
    events.clear()
    with replacing_folder(tmp_path / "folder") as folder:
        put(put(folder / "inner"), deep="1")
    assert events == ["fsync .npusim", "fsync deep", "fsync inner", "rename", f"fsync {tmp_path.name[:7]}"]


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "missing/o", "loop/o"])
@pytest.mark.parametrize("write", [replacing, replacing_folder])
def test_places_that_cannot_be(tmp_path: Path, path: str, write: Callable[[Path], AbstractContextManager[object]]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=r"cannot be written|there is no folder") as caught, write(tmp_path / path):
        pass
    assert len(str(caught.value)) < 900
    assert names(tmp_path) == ["loop"]


def test_tables_hold_nothing_that_a_spreadsheet_runs() -> None:
    cells = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "a\x1b[31m", "plain", "a-b"]
    table = pd.DataFrame({"layer": cells, "=cmd": [-1.5] * len(cells)})
    lines = csv_bytes(table).decode().splitlines()
    assert lines[0] == "layer,'=cmd"
    assert [line.rsplit(",", 1)[0] for line in lines[1:]] == [
        "'=1+1",
        "'+1",
        "'-2+3",
        "'@SUM(A1)",
        r"\t=1",
        r"\r=1",
        "' =1",
        r"a\x1b[31m",
        "plain",
        "a-b",
    ]
    assert {line.rsplit(",", 1)[1] for line in lines[1:]} == {"-1.5"}
