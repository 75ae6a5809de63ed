"""The torque of a motor from its other sensors, estimated on the NPU: ``python -m npusim.examples.torque --help``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from npusim import NpusimError, UsageError, __version__
from npusim.examples.motor import simulate_measurements
from npusim.examples.torque_experiment import Experiment, Quality, Settings, run_experiment
from npusim.examples.windows import Windows, read_measurements, split_profiles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

METHODS = {"ptq": ("ptq",), "qat": ("qat",), "both": ("ptq", "qat")}

PROFILES = 24
"""Simulated drive cycles."""

ROWS = 6144
"""Rows of each: 51 minutes."""

EPOCHS = 25
QAT_EPOCHS = 12
"""Passes over the windows in float, and in each training on, for `USUAL_WINDOWS`: more for fewer of them, fewer for more."""

USUAL_WINDOWS = 1710
FEWEST_EPOCHS = 4
MOST_TIMES = 20

SAMPLES_KEPT = 64
"""Windows that are written beside the models, to run them with."""

SAMPLES_FILE = "torque_windows.npz"

DESCRIPTION = """\
Estimate a motor's torque from its other sensors with a small CNN, quantized for the NPU.

The sensor table is cut into windows of 128 rows (10 columns, u_q to stator_yoke); the mean torque of each is to be estimated.
A CNN is trained in float, quantized after training (ptq) and by training on with the NPU's arithmetic (qat), exported to ONNX
and run in npusim. Without --csv the table comes from a simulated permanent-magnet motor on a test bench."""

EPILOG = "Example: python -m npusim.examples.torque --weight-bits 8 4 2 -o torque_models"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code: 0, or 2 for wrong usage and unreadable input."""
    options = _parser().parse_args(arguments)
    try:
        if find_spec("torch") is None:
            raise UsageError("the example trains with PyTorch, which is not installed; run: pip install '.[torch]'")
        _run(options)
    except NpusimError as error:
        text = " ".join(str(error).split())
        if options.json:
            _print_json({"npusim": __version__, "ok": False, "error": {"kind": type(error).__name__, "message": text}})
        else:
            click.echo(f"npusim: error: {text}", err=True)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("npusim.examples.torque", description=DESCRIPTION, epilog=EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--csv", metavar="PATH", help="sensor table with these columns and torque; profile_id keeps sessions apart"
    )
    parser.add_argument("--method", choices=tuple(METHODS), default="both", help="how to quantize [default: both]")
    bits = "weight widths [default: 8 4 2]"
    parser.add_argument("--weight-bits", type=int, nargs="+", choices=(8, 4, 2), default=[8, 4, 2], help=bits)
    parser.add_argument(
        "--epochs", type=_count, help=f"of float training [default: {EPOCHS}; large tables fewer, small ones more]"
    )
    parser.add_argument("--qat-epochs", type=_count, help=f"of each training on [default: {QAT_EPOCHS}, likewise]")
    parser.add_argument("--profiles", type=_count, default=PROFILES, help=f"simulated drive cycles [default: {PROFILES}]")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same result [default: 0]")
    parser.add_argument("-o", "--output", metavar="DIR", help="write the ONNX files and some windows to this folder")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small, wanted at least 1")
    return value


def _run(options: argparse.Namespace) -> None:
    import torch

    folder = _prepared_folder(options)
    train, test = split_profiles(_table(options))
    settings = Settings(
        METHODS[options.method],
        tuple(dict.fromkeys(options.weight_bits)),
        options.epochs or _usual_epochs(EPOCHS, len(train)),
        options.qat_epochs or _usual_epochs(QAT_EPOCHS, len(train)),
        options.seed,
    )
    torch.set_num_threads(1)  # sums in the same order on every machine, and faster for so small a network
    with tempfile.TemporaryDirectory() as scratch:
        experiment = run_experiment(
            train, test, settings, folder or Path(scratch), lambda label: _progress(label, quiet=options.quiet)
        )
    if folder is not None:
        np.savez(folder / SAMPLES_FILE, input=test.inputs[:SAMPLES_KEPT], torque=test.targets[:SAMPLES_KEPT])
    if options.json:
        _print_json(_as_object(experiment, options, train, test, folder))
    else:
        _show(experiment, options, train, test, folder)


@contextmanager
def _progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, which counts epochs."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _usual_epochs(epochs: int, windows: int) -> int:
    """About as many steps for any table."""
    return max(FEWEST_EPOCHS, min(epochs * MOST_TIMES, epochs * USUAL_WINDOWS // windows))


def _table(options: argparse.Namespace) -> pd.DataFrame:
    if options.csv is not None:
        return read_measurements(options.csv)
    return simulate_measurements(max(options.profiles, 2), ROWS, options.seed)


def _prepared_folder(options: argparse.Namespace) -> Path | None:
    """The output folder, made if it is not there; refuses before any work what could not be written after it."""
    if options.output is None:
        return None
    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; name another one")
    names = [f"torque_{method}_w{bits}.onnx" for method in METHODS[options.method] for bits in options.weight_bits]
    there = [name for name in (*names, SAMPLES_FILE) if (folder / name).exists()]
    if there and not options.force:
        raise UsageError(f"{folder / there[0]}: exists; name another folder, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; name another folder") from None
    return folder


def _source(options: argparse.Namespace) -> str:
    return "a simulated motor" if options.csv is None else str(options.csv)


def _show(experiment: Experiment, options: argparse.Namespace, train: Windows, test: Windows, folder: Path | None) -> None:
    click.echo(
        f"Torque of {_source(options)}: {len(train):,} windows to train with, {len(test):,} of other profiles to test with\n"
    )
    best = experiment.float_quality
    rows: list[tuple[str, ...]] = [
        ("", "weight", "R2", "R2", "SMAPE", "SMAPE", "SQNR", "equal"),
        ("method", "bits", "quantized", "npusim", "quantized", "npusim", "dB", "outputs"),
        ("float", "-", f"{best.r2:.4f}", "-", f"{best.smape:.2f} %", "-", "-", "-"),
    ]
    for result in experiment.results:
        quality = (result.quantized, result.npusim)
        cells = [result.method, str(result.weight_bits), *(f"{item.r2:.4f}" for item in quality)]
        cells += [*(f"{item.smape:.2f} %" for item in quality), f"{result.sqnr:.1f}", f"{100 * result.equal:.2f} %"]
        rows.append(tuple(cells))
    for method, *cells in rows:
        click.echo(f"{method:6}" + "".join(f"  {cell:>9}" for cell in cells))
    click.echo("\nquantized: in torch for qat, in onnxruntime for ptq; npusim: the ONNX file. SQNR: against the float network.")
    if folder is not None:
        click.echo(f"Written to {folder}: {len(experiment.results)} ONNX files and {SAMPLES_FILE}.")


def _as_object(
    experiment: Experiment, options: argparse.Namespace, train: Windows, test: Windows, folder: Path | None
) -> dict[str, object]:
    results = [
        {
            "method": result.method,
            "weight_bits": result.weight_bits,
            "path": None if folder is None else str(result.path),
            "quantized": _quality_object(result.quantized),
            "npusim": _quality_object(result.npusim),
            "equal_outputs": result.equal,
            "sqnr_db": _finite(result.sqnr),
        }
        for result in experiment.results
    ]
    return {
        "npusim": __version__,
        "ok": True,
        "source": options.csv,
        "windows": {"train": len(train), "test": len(test)},
        "float": _quality_object(experiment.float_quality),
        "results": results,
    }


def _quality_object(quality: Quality) -> dict[str, float | None]:
    return {"r2": _finite(quality.r2), "smape": _finite(quality.smape)}


def _finite(value: float) -> float | None:
    """A number that JSON has; null for infinity, which is the SQNR where nothing is lost."""
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
