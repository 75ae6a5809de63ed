"""Folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npusim.errors import UsageError

__all__ = ["replacing_folder"]


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder beside `path` and put it in the place of `path` when the block ends without an exception.

    On any exception the new folder is removed, and what stood at `path` stays or comes back. A folder that stood there is
    removed only when the new one is in its place. A symbolic link is followed.

    Raises
    ------
    UsageError
        If the parent folder is missing or not writable, or `path` is something other than a folder.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise UsageError(f"{path}: is not a folder and is not replaced; name a folder to write")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder '{target.parent}'; make it first")
    beside = target.with_name(f".npusim-{secrets.token_hex(6)}.tmp")
    try:
        beside.mkdir()
        yield beside
        _exchange(beside, target)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(new: Path, target: Path) -> None:
    """Rename `new` to `target`; what was there is kept under another name until that has succeeded."""
    if not target.exists():
        new.rename(target)
        return
    old = target.with_name(f".npusim-{secrets.token_hex(6)}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
