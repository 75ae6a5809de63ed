"""Files on the command line: completed by shells, and ``-`` for standard input and output.

What comes from standard input is kept in a file of its own while the command runs, since it may be read twice. What goes to
standard output is copied there when the command has done its work, whole or not at all; what it prints goes to stderr then.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import click

from npusim.errors import InputError, UsageError

__all__ = ["DUMP_SOURCE", "SOURCE", "Destination", "as_given"]

STREAM: Final = "-"
"""The name of standard input and output."""

_PREFIX: Final = "npusim-stream-"
_STARTS: Final = ((b"PK\x03\x04", ".npz"), (b"\x93NUMPY", ".npy"), (b"PAR1", ".parquet"))
"""How files of samples begin, and what their names end in; anything else that is text is .csv, else a model."""


class _Source(click.Path):
    """The path of a file that is read, or ``-``.

    Parameters
    ----------
    suffix
        What the name of the file for standard input ends in; None to go by how the content begins.
    """

    def __init__(self, suffix: str | None = None) -> None:
        super().__init__(readable=False)
        self._suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as click
        """The path; for ``-`` that of a file which holds standard input."""
        if value != STREAM or ctx is None:
            return super().convert(value, param, ctx)
        content = sys.stdin.buffer.read()
        if not content:
            raise InputError("standard input is empty, or was read for another argument; give a file")
        path = _folder(ctx) / f"stdin{_suffix(content) if self._suffix is None else self._suffix}"
        path.write_bytes(content)
        return str(path)


SOURCE: Final = _Source()
"""The type of arguments and options that name a file to read."""

DUMP_SOURCE: Final = _Source(".dump")
"""The same for what a device wrote, whose format its content tells alone."""


class Destination(click.Path):
    """The path of a file that is written, or ``-``.

    Parameters
    ----------
    suffix
        What the name of the file ends in, where commands look at it.
    """

    def __init__(self, suffix: str) -> None:
        super().__init__(readable=False)
        self._suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as click
        """The path; for ``-`` that of a file which is copied to standard output when the command is done."""
        if value != STREAM or ctx is None:
            return super().convert(value, param, ctx)
        if getattr(ctx.obj, "as_json", False):
            raise UsageError("--json and a file written to '-' both take standard output; name a file")
        path = _folder(ctx) / f"stdout{self._suffix}"
        stdout = sys.stdout

        def copy() -> None:
            if path.exists():
                with path.open("rb") as file:
                    shutil.copyfileobj(file, stdout.buffer)
                stdout.buffer.flush()

        ctx.call_on_close(copy)
        ctx.with_resource(redirect_stdout(sys.stderr))
        return str(path)


def _folder(ctx: click.Context) -> Path:
    return Path(ctx.with_resource(tempfile.TemporaryDirectory(prefix=_PREFIX)))


def _suffix(content: bytes) -> str:
    for start, suffix in _STARTS:
        if content.startswith(start):
            return suffix
    try:
        content[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < 4090:  # not a letter that is cut off
            return ".onnx"
    text = content[:4096].lstrip()
    return ".csv" if text[:1].isdigit() or text[:1] in (b"-", b"+", b".", b'"') or b"," in text.split(b"\n")[0] else ".onnx"


_KEPT: Final = re.compile(rf"{re.escape(tempfile.gettempdir())}/{_PREFIX}[^/]+/std(?:in|out)\.[a-z]+")


def as_given(text: str) -> str:
    """A text that names standard input and output as the user did.

    Examples
    --------
    >>> as_given("model.onnx does not exist")
    'model.onnx does not exist'
    """
    return _KEPT.sub(STREAM, text)
