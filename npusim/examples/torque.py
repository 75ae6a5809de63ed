"""The torque of a motor from its other sensors, estimated on the NPU: ``python -m npusim.examples.torque --help``."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from npusim import __version__
from npusim.examples.commands import common_options, count, need, prepared_folder, print_json, run_command
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
    return run_command(_run, _parser().parse_args(arguments))


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
        "--epochs", type=count, help=f"of float training [default: {EPOCHS}; large tables fewer, small ones more]"
    )
    parser.add_argument("--qat-epochs", type=count, help=f"of each training on [default: {QAT_EPOCHS}, likewise]")
    parser.add_argument("--profiles", type=count, default=PROFILES, help=f"simulated drive cycles [default: {PROFILES}]")
    common_options(parser, "the ONNX files and some windows")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _run(options: argparse.Namespace) -> None:
    need("torch", "torch", "trains with PyTorch")
    import torch

    methods = METHODS[options.method]
    names = [f"torque_{method}_w{bits}.onnx" for method in methods for bits in options.weight_bits]
    folder = prepared_folder(options.output, (*names, SAMPLES_FILE), force=options.force)
    train, test = split_profiles(_table(options))
    settings = Settings(
        methods,
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
        print_json(_as_object(experiment, options, train, test, folder))
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


def _usual_epochs(epochs: int, windows: int) -> int:
    """About as many steps for any table."""
    return max(FEWEST_EPOCHS, min(epochs * MOST_TIMES, epochs * USUAL_WINDOWS // windows))


def _table(options: argparse.Namespace) -> pd.DataFrame:
    if options.csv is not None:
        return read_measurements(options.csv)
    return simulate_measurements(max(options.profiles, 2), ROWS, options.seed)


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
