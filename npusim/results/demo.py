"""``npusim demo``: a model, its float model, samples, the dump of a wrong device and notebooks, to try everything on."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

from npusim.errors import UsageError, count
from npusim.files.writing import replacing
from npusim.graph.model_file import open_model
from npusim.results.base import CommandResult, identity_of
from npusim.schemas.derivation import Count

__all__ = ["DemoFile", "DemoResult", "DemoTotals", "write_demo"]

CONTENTS: Final = (
    ("keywords_w8.onnx", "a quantized network"),
    ("keywords_float.onnx", "the float network that it was made from"),
    ("keywords_samples.npz", "16 samples"),
    ("wrong_device.txt", "what a wrong device sent for them"),
    ("1_verify.ipynb", "notebook: verify before flashing"),
    ("2_golden.ipynb", "notebook: golden vectors"),
    ("3_compare.ipynb", "notebook: which layer errs, and why"),
)
"""The files, and what they are."""

COMMANDS: Final = (
    "npusim check keywords_w8.onnx keywords_samples.npz --device f28p55x --float keywords_float.onnx",
    "npusim verify keywords_w8.onnx keywords_samples.npz",
    "npusim golden write keywords_w8.onnx keywords_samples.npz --samples 4 -o vectors",
    "npusim golden check keywords_w8.onnx --inputs keywords_samples.npz --dump wrong_device.txt",
    "npusim compare keywords_w8.onnx --against keywords_float.onnx --data keywords_samples.npz",
)
"""What to try, in the folder."""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file that was copied.

    Attributes
    ----------
    name
        In the folder.
    meaning
        What it is.
    bytes
        Its length.
    """

    name: str
    meaning: str
    bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTotals:
    """Sums.

    Attributes
    ----------
    files
        Files that were copied.
    bytes
        Of all of them.
    """

    files: Count
    bytes: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class DemoResult(CommandResult):
    """What was copied; always true.

    Attributes
    ----------
    layers
        Always empty: nothing is computed.
    findings
        Always empty.
    totals
        Sums.
    folder
        As given.
    files
        What was copied.
    commands
        What to try, in the folder.
    """

    rows_of = "files"

    layers: tuple[()] = field(default=(), init=False)
    findings: tuple[()] = field(default=(), init=False)
    totals: DemoTotals
    folder: str
    files: tuple[DemoFile, ...]
    commands: tuple[str, ...]

    def summary(self) -> str:
        """Where the files are."""
        return f"{self.folder}: {count(self.totals.files, 'file')}, {count(self.totals.bytes, 'byte')}"


def write_demo(folder: str | os.PathLike[str], *, overwrite: bool = False) -> DemoResult:
    """Copy the files to a folder, which is made where it is missing; other files in it stay.

    Parameters
    ----------
    folder
        Where to.
    overwrite
        Replace files of the same names.

    Raises
    ------
    UsageError
        If one of the files is there, or the folder cannot be made.
    """
    target = Path(folder)
    there = [name for name, _ in CONTENTS if (target / name).exists()]
    if there and not overwrite:
        raise UsageError(f"{target / there[0]}: exists already; name another folder, or allow it to be overwritten")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror or error}; choose another place") from error
    copied = []
    for name, meaning in CONTENTS:
        content = (files("npusim.results.demo_files") / name).read_bytes()
        with replacing(target / name, overwrite=overwrite) as file:
            file.write(content)
        copied.append(DemoFile(name, meaning, len(content)))
    return DemoResult(
        model=identity_of(open_model(target / CONTENTS[0][0])),
        ok=True,
        totals=DemoTotals(files=len(copied), bytes=sum(item.bytes for item in copied)),
        folder=os.fspath(folder),
        files=tuple(copied),
        commands=(f"cd {shlex.quote(os.fspath(folder))}", *COMMANDS),
    )
