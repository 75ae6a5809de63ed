"""Files and folders that appear whole or not at all, for every command that writes one.

What is being written stands beside its place, under a name of this module, and is locked by its writer. It is on the disk
before it is renamed to its place. What a writer that was killed has left there is locked no more: the next writer removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from npusim.errors import UsageError

if sys.platform != "win32":
    import fcntl

__all__ = ["replacing", "replacing_folder"]

_UNFINISHED: Final = re.compile(r"\.npusim-[0-9a-f]{12}\.tmp")
"""Names of what is being written."""

_BACKUP: Final = re.compile(r"\.npusim-[0-9a-f]{12}-(.+)\.old")
"""Names of folders that are being replaced where two names cannot be exchanged in one step; the folder's own name is inside."""

_EXCHANGE: Final = 2
"""RENAME_EXCHANGE of Linux's renameat2."""

_HERE: Final = -100
"""AT_FDCWD."""

_TRIES: Final = 100
_PAUSE: Final = 0.01
"""How often and after how many seconds a writer looks whether the folder is free."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing and put it in the place of `path` when the block ends without an exception.

    On any exception the new file is removed and whatever stood at `path` stays untouched. A symbolic link is written through.

    Parameters
    ----------
    path
        The file.
    overwrite
        Whether a file may be replaced. Without it a file that another process writes to `path` meanwhile stays.

    Raises
    ------
    UsageError
        If the folder is missing or not writable, or `path` is something other than a regular file (a directory, a device).
    """
    with _failures(path):
        target = _target(path)
        if target.exists() and not target.is_file():
            raise UsageError(f"{path}: is not a regular file and is not replaced; name a file to write to")
        beside = target.with_name(f".npusim-{secrets.token_hex(6)}.tmp")
        try:
            with _alone(target.parent):
                _remove_leftovers(target.parent)
                stream = beside.open("x+b")
                _lock(stream.fileno())
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())  # the name must not be there before the content is, also when the power fails
                if sys.platform == "win32":
                    stream.close()  # what is open is not renamed there
                with _alone(target.parent):
                    if not overwrite and target.exists():
                        raise _overtaken(path)
                    beside.replace(target)
            _sync(target.parent)
        finally:
            _remove(beside)


@contextmanager
def replacing_folder(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Give an empty folder beside `path` and put it in the place of `path` when the block ends without an exception.

    On any exception the new folder is removed, and what stood at `path` stays or comes back. A folder that stood there is
    removed only when the new one is in its place. A symbolic link is followed.

    Parameters
    ----------
    path
        The folder.
    overwrite
        Whether a folder that holds something may be replaced.

    Raises
    ------
    UsageError
        If the parent folder is missing or not writable, `path` is something other than a folder, or another process has written
        to `path` since the block began: that one wins.
    """
    with _failures(path):
        target = _target(path)
        if not target.parent.is_dir():
            raise UsageError(f"{path}: there is no folder '{target.parent}'; make it first")
        if target.exists() and not target.is_dir():
            raise UsageError(f"{path}: is not a folder and is not replaced; name a folder to write")
        before = _identity(target)
        beside = target.with_name(f".npusim-{secrets.token_hex(6)}.tmp")
        try:
            with ExitStack() as stack:
                with _alone(target.parent):
                    _remove_leftovers(target.parent)
                    beside.mkdir()
                    stack.enter_context(_locked_folder(beside))
                yield beside
                _sync_all(beside)
                with _alone(target.parent):
                    if _identity(target) != before or (not overwrite and before is not None and any(target.iterdir())):
                        raise _overtaken(path)
                    _put(beside, target)
            _sync(target.parent)
        finally:
            _remove(beside)


@contextmanager
def _failures(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failing file system into a sentence that names the path that the user gave."""
    try:
        yield
    except BrokenPipeError:
        raise  # no file that is written here is a pipe: a reader of stdout or stderr has gone away
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error


def _target(path: str | os.PathLike[str]) -> Path:
    """Where a path leads, links followed."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise UsageError(f"{path}: cannot be written: {error}; choose another name") from error


def _overtaken(path: str | os.PathLike[str]) -> UsageError:
    return UsageError(f"{path}: was written by another process in the meantime, which stays; name another place or write again")


def _put(new: Path, target: Path) -> None:
    """Give `new` the name of `target`; a folder that has that name is there under it at every moment, or comes back."""
    if not target.exists():
        new.rename(target)
        return
    if _exchange(new, target):
        return  # the old folder has the new one's name now, which its writer removes
    backup = target.with_name(f".npusim-{secrets.token_hex(6)}-{target.name}.old")
    with _locked_folder(target):
        target.rename(backup)
        try:
            new.rename(target)
        except BaseException:
            backup.rename(target)
            raise
    _remove(backup)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system or the file system cannot do that."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Which folder stands at a path, and when its list of files changed; None for nothing."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers have left in a folder: files and folders of this user that nobody holds locked.

    A folder that was being replaced gets its name back if nothing has taken it.
    """
    if sys.platform == "win32":
        return  # there are no locks of folders, and so no way to tell a leftover from what is being written
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".npusim-")]
        for name in names:
            backup = _BACKUP.fullmatch(name)
            if backup is None and _UNFINISHED.fullmatch(name) is None:
                continue
            with suppress(OSError):
                _settle_leftover(folder / name, None if backup is None else folder / backup[1])


def _settle_leftover(path: Path, place: Path | None) -> None:
    # never through a link, and never waiting for the other end of a pipe
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(number)
        if found.st_uid != os.geteuid() or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _identity(path) is None:
            return  # it got its name while this was looking
        if place is not None and not place.exists():
            path.rename(place)
        else:
            _remove(path)
    finally:
        os.close(number)


def _lock(number: int) -> None:
    """Hold what is open until it is closed or this process ends, however it ends."""
    if sys.platform != "win32":
        with suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder as `_lock` does a file."""
    if sys.platform == "win32":
        yield
        return
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(number)
        yield
    finally:
        os.close(number)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other writers of a folder out for the moments in which names are given and taken.

    Whoever holds the folder longer than any writer does is none of them (``flock DIR npusim ...``), and is not waited for. In
    an unfinished folder its writer, who holds it, is alone already.
    """
    if sys.platform == "win32" or _UNFINISHED.fullmatch(folder.name):
        yield
        return
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError:
                break  # a file system without locks
            else:
                break
        yield
    finally:
        os.close(number)


def _sync_all(folder: Path) -> None:
    """Bring a folder and all that is in it to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb+") as stream:  # Windows wants it writable
                os.fsync(stream.fileno())
        _sync(Path(root))


def _sync(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    if sys.platform == "win32":
        return
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    """Remove a file or a folder; a signal that comes meanwhile waits until it is gone."""
    try:
        _remove_once(path)
    except BaseException:
        _remove_once(path)
        raise


def _remove_once(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
