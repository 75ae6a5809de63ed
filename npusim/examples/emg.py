"""Gestures from muscle signals in the MATCH dialect: ``python -m npusim.examples.emg --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np
import numpy.typing as npt

from npusim import InferenceSession, InputError, __version__, quantize, verify, write_golden
from npusim.examples.commands import common_options, count, float_onnx, need, prepared_folder, print_json, run_command

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Recording", "Windows", "cut_windows", "filtered", "main", "read_recording", "simulate_recording", "split_windows"]

CHANNELS: Final = 8
GESTURES: Final = 8
RATE: Final = 500
"""Samples a second."""

LOWEST: Final = 10.0
"""Hz; what is slower comes from cables and breathing."""

WINDOW: Final = 300
STEP: Final = 90
"""Windows overlap by 70 %."""

REPETITIONS: Final = 10
SECONDS: Final = 4.0
"""Of a gesture; a rest of half of it follows."""

EPOCHS: Final = 12
SMOOTHING: Final = 0.1
LEARNING_RATE: Final = 4e-3
BATCH: Final = 32
CALIBRATION: Final = 256

WIDTHS: Final[tuple[int | str, ...]] = (8, "mixed")
GOLDEN_SETS: Final = 4
SAMPLES_FILE: Final = "emg_windows.npz"

DESCRIPTION = """\
Tell 8 gestures and rest from 8 muscle signals at 500 Hz with a small Conv1d network, in the integers of the MATCH dialect.

The signals pass a Butterworth high-pass of 4th order at 10 Hz, are scaled with the smallest and the largest value of the part
to train with, and cut into windows of 300 samples that overlap by 70 %. A network is trained with cross entropy and label
smoothing, quantized to 8 bits and to mixed precision by channel, written with the annotations of MATCH's exporter, verified
against onnxruntime, and golden vectors are written. Without --parquet the recording is made: band-limited noise whose
strengths by channel tell the gesture, drift, and mains hum."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Signals and what was done meanwhile.

    Attributes
    ----------
    signals
        float64 [samples, 8].
    trigger
        int64 [samples]: 0 at rest, gestures from 1 on.
    """

    signals: npt.NDArray[np.float64]
    trigger: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows within one gesture or rest.

    Attributes
    ----------
    inputs
        float32 [N, 8, 300], 0 to 1 for the part to train with.
    labels
        int64 [N].
    """

    inputs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Result:
    """One quantized network.

    Attributes
    ----------
    weight_bits
        8 or mixed.
    accuracy
        Share of the test windows that are told right.
    agreement
        Share for which it says what the float network says.
    widths
        Output channels by the bits of their weights, over all layers.
    verified
        Whether onnxruntime gives the same in every tensor.
    """

    weight_bits: int | str
    accuracy: float
    agreement: float
    widths: dict[str, int]
    verified: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code: 0, 1 if onnxruntime gives something else, 2 for wrong usage or input."""
    found: list[bool] = []
    code = run_command(lambda options: found.append(_run(options)), _parser().parse_args(arguments))
    return code or int(False in found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("npusim.examples.emg", description=DESCRIPTION)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--parquet", metavar="PATH", help="recording with 8 columns of signals and the column trigger")
    parser.add_argument("--epochs", type=count, default=EPOCHS, help=f"[default: {EPOCHS}]")
    told = f"of each gesture in the made recording [default: {REPETITIONS}]"
    parser.add_argument("--repetitions", type=count, default=REPETITIONS, help=told)
    common_options(parser, "the models, golden vectors, windows and, with matplotlib, a plot of what is confused")
    return parser


def simulate_recording(repetitions: int, seed: int) -> Recording:
    """A made recording: each repetition holds every gesture, with rest behind each."""
    from scipy import signal

    random = np.random.default_rng(seed)
    strengths = random.uniform(0.05, 1.0, (GESTURES, CHANNELS)) * (random.random((GESTURES, CHANNELS)) < 0.6)
    band = signal.butter(2, (20, 150), "bandpass", fs=RATE, output="sos")
    held, rest = int(SECONDS * RATE), int(SECONDS * RATE / 2)
    trigger, envelopes = [], []
    for _ in range(repetitions):
        for gesture in random.permutation(GESTURES):
            effort = random.uniform(0.7, 1.3) * strengths[gesture] * random.normal(1, 0.35, CHANNELS)
            envelopes += [np.broadcast_to(np.abs(effort), (held, CHANNELS)), np.zeros((rest, CHANNELS))]
            trigger += [np.full(held, gesture + 1), np.zeros(rest, np.int64)]
    strength = signal.sosfiltfilt(signal.butter(1, 4, fs=RATE, output="sos"), np.concatenate(envelopes), axis=0)
    noise = signal.sosfilt(band, random.normal(0, 1, strength.shape), axis=0)
    time = np.arange(len(strength))[:, np.newaxis] / RATE
    drift = 0.6 * np.sin(2 * np.pi * 0.3 * time + random.uniform(0, 6, CHANNELS))
    hum = 0.03 * np.sin(2 * np.pi * 50 * time + random.uniform(0, 6, CHANNELS))
    signals = (np.abs(strength) + 0.04) * noise + drift + hum + 0.01 * random.normal(0, 1, strength.shape)
    return Recording(signals, np.concatenate(trigger).astype(np.int64))


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """A user's recording: the column ``trigger``, and the first 8 others are the signals.

    Raises
    ------
    InputError
        If it cannot be read, lacks columns, or holds something else than numbers.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a parquet file: {str(error).splitlines()[0]}") from None
    names = [name for name in table.columns if str(name).lower() != "trigger"]
    marks = [name for name in table.columns if str(name).lower() == "trigger"]
    if len(marks) != 1 or len(names) < CHANNELS:
        raise InputError(f"{path}: has {len(names)} columns of signals, wanted {CHANNELS}, and one named trigger")
    signals = table[names[:CHANNELS]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    trigger = pd.to_numeric(table[marks[0]], errors="coerce").to_numpy(np.float64)
    wrong = ~(np.isfinite(signals).all(axis=1) & np.isfinite(trigger) & (trigger >= 0) & (trigger == np.rint(trigger)))
    if wrong.any():
        raise InputError(f"{path}: row {int(wrong.argmax())} holds no finite signals, or no whole trigger from 0 on")
    return Recording(signals, trigger.astype(np.int64))


def filtered(signals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The signals behind a Butterworth high-pass of 4th order, which looks into the past only, as a device does."""
    from scipy import signal

    high_pass = signal.butter(4, LOWEST, "highpass", fs=RATE, output="sos")
    passed: npt.NDArray[np.float64] = signal.sosfilt(high_pass, signals, axis=0)
    return passed


def cut_windows(signals: npt.NDArray[np.float64], trigger: npt.NDArray[np.int64]) -> Windows:
    """Windows of 300 samples, one every 90, that lie within one gesture or rest."""
    starts = np.arange(0, len(signals) - WINDOW + 1, STEP)
    changes = np.concatenate([[0], np.cumsum(np.diff(trigger) != 0)])
    whole = starts[changes[starts] == changes[starts + WINDOW - 1]]
    if not whole.size:
        raise InputError(f"no gesture lasts {WINDOW} samples; give a longer recording at {RATE} Hz")
    inputs = np.stack([signals[start : start + WINDOW].T for start in whole])
    return Windows(inputs.astype(np.float32), trigger[whole])


def split_windows(recording: Recording) -> tuple[Windows, Windows]:
    """The first 70 % of the recording to train with, the rest to test with; scaled with the ends of the first."""
    signals = filtered(recording.signals)
    border = round(0.7 * len(signals))
    low, high = float(signals[:border].min()), float(signals[:border].max())
    scaled = (signals - low) / max(high - low, 1e-12)
    train = cut_windows(scaled[:border], recording.trigger[:border])
    return train, cut_windows(scaled[border:], recording.trigger[border:])


def _run(options: argparse.Namespace) -> bool:
    need("torch", "torch", "trains with PyTorch")
    need("scipy", "examples", "filters with SciPy")
    if options.parquet is not None:
        need("pyarrow", "examples", "reads parquet with pyarrow")
    names = ["emg_float.onnx", *(f"emg_{bits}.onnx" for bits in WIDTHS), *(f"golden_{bits}" for bits in WIDTHS), SAMPLES_FILE]
    folder = prepared_folder(options.output, [*names, "emg_confusion.png"], force=options.force)
    recorded = simulate_recording(max(options.repetitions, 2), options.seed) if options.parquet is None else None
    train, test = split_windows(read_recording(options.parquet) if recorded is None else recorded)
    model = float_onnx(_trained(train, options), train.inputs[:1])
    said = InferenceSession(model, check_finite=False).run(None, {"input": test.inputs})[0].argmax(axis=1)
    results = [_quantized(model, bits, train, test, said, folder) for bits in WIDTHS]
    accuracy = float(np.mean(said == test.labels))
    if folder is not None:
        (folder / "emg_float.onnx").write_bytes(model)
        np.savez(folder / SAMPLES_FILE, inputs=test.inputs, labels=test.labels)
        if find_spec("matplotlib") is not None:
            _plot(test.labels, said, folder)
    ok = all(result.verified for result in results)
    if options.json:
        rows = [{"weight_bits": str(item.weight_bits), "accuracy": item.accuracy, "agreement": item.agreement,
                 "channel_bits": item.widths, "verified": item.verified} for item in results]  # fmt: skip
        windows = {"train": len(train.labels), "test": len(test.labels)}
        print_json({"npusim": __version__, "ok": ok, "windows": windows, "float": accuracy, "results": rows})
    else:
        _show(train, test, accuracy, results, folder)
    return ok


def _network(classes: int) -> nn.Sequential:
    """Three convolutions over time, an average, a dense layer: ``[N, 8, 300]`` to ``[N, classes]``."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs, size in ((CHANNELS, 16, 9), (16, 24, 5), (24, 32, 5)):
        layers += [nn.Conv1d(inputs, outputs, size, stride=2, padding=size // 2), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, classes))


def _trained(train: Windows, options: argparse.Namespace) -> nn.Sequential:
    import torch
    from torch import nn

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    network = _network(max(GESTURES + 1, int(train.labels.max()) + 1))
    x, y = torch.from_numpy(train.inputs), torch.from_numpy(train.labels)
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    batches = -(-len(x) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.epochs * batches)
    for _ in range(options.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[index]), y[index]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _quantized(
    model: bytes, bits: int | str, train: Windows, test: Windows, said: npt.NDArray[np.int64], folder: Path | None
) -> Result:
    """Quantize, hold against onnxruntime, measure, and write the model and golden vectors."""
    chosen = train.inputs[:: max(1, len(train.inputs) // CALIBRATION)]
    found = quantize(model, chosen, bits, to="match")
    session = InferenceSession(found.content)
    low, high = found.input_alpha["input"]
    codes = input_codes(test.inputs, low, high)
    given = session.run(None, {"input": codes})[0].argmax(axis=1)
    verified = bool(verify(session, {"input": codes[:GOLDEN_SETS]}))
    if folder is not None:
        found.save(folder / f"emg_{bits}.onnx", overwrite=True)
        write_golden(session, folder / f"golden_{bits}", {"input": codes[:GOLDEN_SETS]}, sets=GOLDEN_SETS, overwrite=True)
    widths: dict[str, int] = {}
    for layer in found.layers:
        for width, channels in layer.channel_bits.items():
            widths[width] = widths.get(width, 0) + channels
    return Result(bits, float(np.mean(given == test.labels)), float(np.mean(given == said)), widths, verified)


def input_codes(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
    """What the application hands to the model: ``floor(255 / (high - low + 0.001) * clamp(x, low, high))``, in float32."""
    factor = np.float32(1) / (np.float32(high) - np.float32(low) + np.float32(1e-3)) * np.float32(255)
    codes: npt.NDArray[np.float32] = np.floor(factor * np.clip(values, np.float32(low), np.float32(high)))
    return codes


def _plot(labels: npt.NDArray[np.int64], said: npt.NDArray[np.int64], folder: Path) -> None:
    """What the float network takes for what."""
    from matplotlib.figure import Figure

    size = int(max(labels.max(), said.max())) + 1
    counts = np.zeros((size, size))
    np.add.at(counts, (labels, said), 1)
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), vmin=0, vmax=1))
    axes.set(xlabel="said", ylabel="gesture, 0 is rest")
    figure.savefig(folder / "emg_confusion.png")


def _show(train: Windows, test: Windows, accuracy: float, results: Sequence[Result], folder: Path | None) -> None:
    click.echo(f"Gestures: {len(train.labels):,} windows to train with, {len(test.labels):,} later ones to test with\n")
    click.echo(f"{'weights':8}  {'accuracy':>9}  {'as float':>9}  channels by bits")
    click.echo(f"{'float':8}  {100 * accuracy:7.2f} %")
    for item in results:
        widths = ", ".join(f"{channels} of {width}" for width, channels in item.widths.items())
        click.echo(f"{item.weight_bits!s:8}  {100 * item.accuracy:7.2f} %  {100 * item.agreement:7.2f} %  {widths}")
    same = all(item.verified for item in results)
    click.echo(f"\nonnxruntime gives {'the same in every tensor' if same else 'something else: npusim verify says where'}.")
    if folder is not None:
        click.echo(f"Written to {folder}: the models in float and in integers, golden vectors of both, {SAMPLES_FILE}.")


if __name__ == "__main__":
    sys.exit(main())
