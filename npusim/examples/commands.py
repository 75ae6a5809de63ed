"""What the commands of the examples share: errors as one sentence, output folders, JSON, packages that may be missing."""

from __future__ import annotations

import argparse
import io
import json
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import numpy.typing as npt

from npusim import NpusimError, UsageError, __version__

if TYPE_CHECKING:
    from torch import nn

__all__ = ["common_options", "count", "float_onnx", "need", "prepared_folder", "print_json", "run_command"]


def run_command(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a command; gives the exit code: 0, or that of the error, which is said in one sentence or one JSON object."""
    try:
        run(options)
    except NpusimError as error:
        text = " ".join(str(error).split())
        if options.json:
            print_json({"npusim": __version__, "ok": False, "error": {"kind": type(error).__name__, "message": text}})
        else:
            click.echo(f"npusim: error: {text}", err=True)
        return error.exit_code
    return 0


def common_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Seed, output folder, JSON."""
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same result [default: 0]")
    parser.add_argument("-o", "--output", metavar="DIR", help=f"write {what} to this folder")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def count(text: str) -> int:
    """A number of at least 1 on the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small, wanted at least 1")
    return value


def need(package: str, extra: str, why: str) -> None:
    """Make sure that a package is installed.

    Raises
    ------
    UsageError
        If it is not; the message says what to run.
    """
    if find_spec(package) is None:
        raise UsageError(f"the example {why}, which is not installed; run: pip install '.[{extra}]'")


def float_onnx(network: nn.Module, sample: npt.NDArray[np.float32]) -> bytes:
    """A float network as ONNX, its input ``input`` and its output ``output``, for one sample [1, ...]."""
    import torch

    stream = io.BytesIO()
    with warnings.catch_warnings():
        # the exporter that every release of PyTorch has says that it is the older one
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(sample),),
            stream,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
        )
    return stream.getvalue()


def prepared_folder(output: str | None, names: Iterable[str], *, force: bool) -> Path | None:
    """The output folder, made if it is not there; refuses before any work what could not be written after it."""
    if output is None:
        return None
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; name another one")
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise UsageError(f"{folder / there[0]}: exists; name another folder, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; name another folder") from None
    return folder


def print_json(value: object) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))
