"""Fuel consumption from a car's data on a microcontroller: ``python -m npusim.examples.fuel --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np
import numpy.typing as npt

from npusim import InferenceSession, InputError, __version__, quantize, verify
from npusim.examples.commands import common_options, count, float_onnx, need, prepared_folder, print_json, run_command

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

__all__ = ["COLUMNS", "Cars", "main", "read_cars", "simulate_cars", "split_cars"]

COLUMNS: Final = ("engine_size", "cylinders", "co2_emissions", "fuel_consumption")
"""Litres, number, g/km; what is to be estimated, l/100 km, comes last."""

SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "engine_size": ("engine_size", "enginesize", "engine size(l)"),
    "cylinders": ("cylinders",),
    "co2_emissions": ("co2_emissions", "co2emissions", "co2 emissions(g/km)"),
    "fuel_consumption": ("fuel_consumption", "fuelconsumption_comb", "fuel consumption comb (l/100 km)"),
}
"""How public tables write the columns, in small letters."""

CARS: Final = 1200
EPOCHS: Final = 120
TRAINED_SHARE: Final = 0.7
DECAY: Final = 1e-4
RATE: Final = 3e-3
BATCH: Final = 64

NAMES: Final = ("fuel_float.onnx", "fuel.tflite", "model.h", "fuel_samples.npz")

DESCRIPTION = """\
Estimate a car's fuel consumption from engine size, cylinders and CO2 emissions with a dense network 3-32-16-8-1.

It is trained in float (ReLU, Adam, L2 of 1e-4, Huber loss), quantized into a full-integer TensorFlow Lite model, written as
.tflite and as the C array model.h that firmware compiles in, run in npusim in TFLM's arithmetic, and held against tflite-micro
where that is installed. Without --csv the table is made: litres of petrol burn to 23.2 g of CO2 for 100 km each, litres of
diesel to 26.5, consumption grows with the engine, and both have noise."""


@dataclass(frozen=True, slots=True)
class Cars:
    """A part of the table, scaled: 0 is the smallest value of the cars to train with, 1 the largest.

    Attributes
    ----------
    inputs
        float32 [N, 3].
    targets
        float32 [N, 1].
    low, high
        Smallest and largest consumption of the cars to train with, l/100 km.
    """

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    low: float
    high: float

    def consumption(self, scaled: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Scaled outputs in l/100 km."""
        real: npt.NDArray[np.float64] = scaled.astype(np.float64) * (self.high - self.low) + self.low
        return real


@dataclass(frozen=True, slots=True)
class Quality:
    """How well outputs estimate the consumption, in l/100 km: squared, absolute and root of squared error, and R2."""

    mse: float
    mae: float
    rmse: float
    r2: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code: 0, 1 if tflite-micro gives something else, 2 for wrong usage or input."""
    found: list[bool] = []
    code = run_command(lambda options: found.append(_run(options)), _parser().parse_args(arguments))
    return code or int(False in found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("npusim.examples.fuel", description=DESCRIPTION)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--csv", metavar="PATH", help=f"table with the columns {', '.join(COLUMNS)}")
    parser.add_argument("--loss", choices=("huber", "mse"), default="huber", help="[default: huber, delta 1]")
    parser.add_argument("--epochs", type=count, default=EPOCHS, help=f"[default: {EPOCHS}]")
    parser.add_argument("--cars", type=count, default=CARS, help=f"rows of the made table [default: {CARS}]")
    common_options(parser, "the models, the C array, samples and, with matplotlib, plots of the errors")
    return parser


def simulate_cars(rows: int, seed: int) -> pd.DataFrame:
    """A made table.

    Consumption is ``3.2 + 1.7 * engine_size + 0.35 * cylinders`` l/100 km with 8 % of noise; of it come 23.2 g/km of CO2 for
    each l/100 km of petrol, of every fifth car 26.5 of diesel, with 2 % of noise.
    """
    import pandas as pd

    random = np.random.default_rng(seed)
    cylinders = random.choice([3, 4, 6, 8, 12], rows, p=[0.1, 0.45, 0.3, 0.13, 0.02])
    engine = np.round(np.clip(cylinders * random.normal(0.52, 0.08, rows), 0.9, 8.0), 1)
    burnt = (3.2 + 1.7 * engine + 0.35 * cylinders) * random.normal(1, 0.08, rows)
    carbon = np.where(random.random(rows) < 0.2, 26.5, 23.2) * burnt * random.normal(1, 0.02, rows)
    values = (engine, cylinders.astype(np.float64), np.round(carbon), np.round(burnt, 1))
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def read_cars(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A user's table, its columns named as ours.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or holds something else than numbers.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a table with a header: {str(error).splitlines()[0]}") from None
    known = {name.strip().lower(): name for name in map(str, table.columns)}
    columns = {}
    for name, spellings in SPELLINGS.items():
        given = next((known[spelling] for spelling in spellings if spelling in known), None)
        if given is None:
            raise InputError(f"{path}: has no column '{name}'; wanted {', '.join(COLUMNS)}")
        values = pd.to_numeric(table[given], errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise InputError(f"{path}: column '{given}' holds no finite number in line {int(wrong[0]) + 2}")
        columns[name] = values
    if len(table) < 40:
        raise InputError(f"{path}: has {len(table)} rows, wanted at least 40")
    return pd.DataFrame(columns)


def split_cars(table: pd.DataFrame, seed: int) -> tuple[Cars, Cars]:
    """70 % of the rows to train with and 30 % to test with, each column scaled with ends of the first."""
    values = table.loc[:, list(COLUMNS)].to_numpy(np.float64)
    shuffled = values[np.random.default_rng(seed).permutation(len(values))]
    border = round(TRAINED_SHARE * len(shuffled))
    low, high = shuffled[:border].min(axis=0), shuffled[:border].max(axis=0)
    scaled = ((shuffled - low) / np.maximum(high - low, 1e-12)).astype(np.float32)
    train, test = (Cars(part[:, :3], part[:, 3:], float(low[3]), float(high[3])) for part in np.split(scaled, [border]))
    return train, test


def _run(options: argparse.Namespace) -> bool:
    need("torch", "torch", "trains with PyTorch")
    plots = find_spec("matplotlib") is not None
    names = (*NAMES, *(("fuel_errors.png", "fuel_errors.svg") if plots else ()))
    folder = prepared_folder(options.output, names, force=options.force)
    table = simulate_cars(max(options.cars, 40), options.seed) if options.csv is None else read_cars(options.csv)
    train, test = split_cars(table, options.seed)
    model = float_onnx(_trained(train, options), train.inputs[:1])
    found = quantize(model, train.inputs, to="tflite")
    session = InferenceSession(found.content)
    codes = codes_of(session, test.inputs)
    micro = verify(session, {session.get_inputs()[0].name: codes}) if find_spec("tflite_micro") is not None else None
    real = {"float": _outputs(model, test.inputs), "integer": _integers(session, codes)}
    outputs = {name: test.consumption(values) for name, values in real.items()}
    wanted = test.consumption(test.targets)
    quality = {name: _quality(wanted, values) for name, values in outputs.items()}
    if folder is not None:
        (folder / NAMES[0]).write_bytes(model)
        for name in NAMES[1:3]:
            found.save(folder / name, overwrite=True)
        np.savez(folder / NAMES[3], codes=codes, inputs=test.inputs, targets=test.targets)
        if plots:
            _plot(wanted, outputs, folder)
    equal = None if micro is None else bool(micro)
    if options.json:
        shown = {name: asdict(item) for name, item in quality.items()}
        rows = {"train": len(train.inputs), "test": len(test.inputs)}
        print_json(
            {"npusim": __version__, "ok": equal is not False, "cars": rows, "quality": shown, "equal_to_tflite_micro": equal}
        )
    else:
        _show(quality, (len(train.inputs), len(test.inputs)), equal, len(found.content), folder, plots=plots)
    return equal is not False


def _trained(train: Cars, options: argparse.Namespace) -> nn.Sequential:
    """The network, trained on all cars in batches, with a rate that ends at zero."""
    import torch
    from torch import nn

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    sizes = (3, 32, 16, 8, 1)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    loss = nn.HuberLoss(delta=1.0) if options.loss == "huber" else nn.MSELoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    x, y = torch.from_numpy(train.inputs), torch.from_numpy(train.targets)
    for _ in range(options.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[index]), y[index]).backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def codes_of(session: InferenceSession, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """What the application hands to the model: ``clip(round(x / scale) + zero_point)``."""
    tensor = session.program.tensors[session.get_inputs()[0].name]
    steps = np.rint(values.astype(np.float64) / _step(tensor.scale)) + tensor.zero_point
    codes: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
    return codes


def _integers(session: InferenceSession, codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """The real values that the model's output codes stand for."""
    tensor = session.program.tensors[session.get_outputs()[0].name]
    (given,) = session.run(None, {session.get_inputs()[0].name: codes})
    real: npt.NDArray[np.float64] = (given.astype(np.float64) - tensor.zero_point) * _step(tensor.scale)
    return real


def _step(scale: float | None) -> float:
    """Real value of one code; a full-integer model says it of every tensor."""
    return 1.0 if scale is None else scale


def _outputs(model: bytes, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    (given,) = InferenceSession(model, check_finite=False).run(None, {"input": inputs})
    return given.astype(np.float64)


def _quality(wanted: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> Quality:
    error = given - wanted
    mse = float(np.square(error).mean())
    r2 = 1 - mse / float(np.square(wanted - wanted.mean()).mean())
    return Quality(mse, float(np.abs(error).mean()), float(np.sqrt(mse)), r2)


def _plot(wanted: npt.NDArray[np.float64], outputs: Mapping[str, npt.NDArray[np.float64]], folder: Path) -> None:
    """Estimates over what is right, and how errors are distributed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    estimates, errors = figure.subplots(1, 2)
    for name, values in outputs.items():
        estimates.plot(wanted[:, 0], values[:, 0], ".", label=name, alpha=0.6)
        errors.hist((values - wanted)[:, 0], bins=30, label=name, alpha=0.6)
    ends = [float(wanted.min()), float(wanted.max())]
    estimates.plot(ends, ends, "k-", linewidth=0.8)
    estimates.set(xlabel="consumption, l/100 km", ylabel="estimate, l/100 km")
    errors.set(xlabel="error, l/100 km", ylabel="cars")
    for axes in (estimates, errors):
        axes.legend()
    for ending in ("png", "svg"):
        figure.savefig(folder / f"fuel_errors.{ending}")


def _show(
    quality: Mapping[str, Quality], rows: tuple[int, int], equal: bool | None, size: int, folder: Path | None, *, plots: bool
) -> None:
    click.echo(f"Fuel consumption: {rows[0]:,} cars to train with, {rows[1]:,} others to test with\n")
    click.echo(f"{'':8}  {'MSE':>8}  {'MAE':>8}  {'RMSE':>8}  {'R2':>8}")
    for name, item in quality.items():
        click.echo(f"{name:8}  {item.mse:8.4f}  {item.mae:8.4f}  {item.rmse:8.4f}  {item.r2:8.4f}")
    told = {
        None: "tflite-micro is not installed: pip install '.[tflite]' to hold the model against it.",
        True: "tflite-micro gives the same, in every tensor and every bit.",
        False: "tflite-micro gives something else: npusim verify says where.",
    }
    click.echo(f"\nErrors in l/100 km. The model has {size:,} bytes. {told[equal]}")
    if folder is not None:
        more = " and plots of the errors" if plots else "; pip install '.[examples]' for plots of the errors"
        click.echo(f"Written to {folder}: {', '.join(NAMES)}{more}.")


if __name__ == "__main__":
    sys.exit(main())
