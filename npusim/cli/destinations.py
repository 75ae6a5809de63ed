"""Files that commands write: what could not be written after the work is refused before it, by one rule for all commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from npusim.errors import UsageError

__all__ = ["check_destination", "force_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def force_option(command: _Command) -> _Command:
    """--force."""
    return click.option("--force", is_flag=True, help="Overwrite files that exist.")(command)


def check_destination(path: str | None, sources: Iterable[str | None], *, force: bool, suffixes: tuple[str, ...] = ()) -> None:
    """Refuse a file that could not be written, would take the place of what is read, or is there already.

    Parameters
    ----------
    path
        The file; None where none is asked for.
    sources
        Files that the command reads: never overwritten.
    force
        Whether a file that is there may be replaced.
    suffixes
        How its name may end; anything by default.

    Raises
    ------
    UsageError
        If it is so.
    """
    if path is None:
        return
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name says what is written there; let the name end in {' or '.join(suffixes)}")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder '{target.parent}'; make it first")
    if target.is_dir():
        raise UsageError(f"{path}: is a folder; name a file to write to")
    for source in sources:
        if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):
            raise UsageError(f"{path}: is read as well ('{source}'), and would be overwritten; name another file")
    if target.exists() and not force:
        raise UsageError(f"{path}: exists already; name another file, or overwrite it with --force")
