"""The torque example end to end: float training, quantization, export, and how good each result is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim import InferenceSession
from npusim.examples.windows import Windows

__all__ = ["Experiment", "Quality", "Result", "Settings", "run_experiment"]

FloatArray: TypeAlias = npt.NDArray[np.float32]
Reporter: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int, int], None] | None]]

FLOAT_RATE = 1e-2
"""Learning rate of float training."""

QAT_RATE = 4e-3
"""Learning rate of training on."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to do.

    Attributes
    ----------
    methods
        ``"ptq"``, ``"qat"`` or both.
    weight_bits
        Some of 8, 4 and 2.
    epochs, qat_epochs
        Passes over all windows in float training, and in each training on with the NPU's arithmetic.
    seed
        Of all that is random.
    """

    methods: Sequence[str]
    weight_bits: Sequence[int]
    epochs: int
    qat_epochs: int
    seed: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How well outputs estimate the torque: coefficient of determination, and symmetric mean absolute percentage error."""

    r2: float
    smape: float


@dataclass(frozen=True, slots=True)
class Result:
    """One quantized network.

    Attributes
    ----------
    method, weight_bits
        How it was quantized.
    path
        The exported ONNX file.
    quantized
        Of the quantized network outside of npusim: fake-quantized in torch for QAT, the ONNX file in onnxruntime for PTQ.
    npusim
        Of the ONNX file in npusim.
    equal
        Share of the windows for which both gave the same number.
    sqnr
        Signal to quantization noise of npusim's outputs in dB, with those of the float network as the signal.
    """

    method: str
    weight_bits: int
    path: Path
    quantized: Quality
    npusim: Quality
    equal: float
    sqnr: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """What came out: the float network's quality and that of each quantized one."""

    float_quality: Quality
    results: tuple[Result, ...]


def run_experiment(train: Windows, test: Windows, settings: Settings, folder: Path, reporter: Reporter) -> Experiment:
    """Train, quantize, export to `folder`, and measure on the windows to test with.

    Parameters
    ----------
    train, test
        Windows of different profiles.
    settings
        What to do.
    folder
        Where the ONNX files go; it exists.
    reporter
        Gives, for a label, a context with a function that takes what is done and what there is to do.
    """
    from npusim.examples import torque_training as training

    with reporter("float training") as progress:
        plan = training.TrainingPlan(settings.epochs, FLOAT_RATE, settings.seed)
        network = training.train_float(train, plan, progress)
    reference = training.predict(network, test)
    results = []
    for method in settings.methods:
        for bits in settings.weight_bits:
            path = folder / f"torque_{method}_w{bits}.onnx"
            with reporter(f"{method} with {bits}-bit weights") as progress:
                if method == "ptq":
                    integer = training.post_training(network, train, bits)
                    outside = None
                else:
                    plan = training.TrainingPlan(settings.qat_epochs, QAT_RATE, settings.seed)
                    model = training.quantization_aware(network, train, bits, plan, progress)
                    integer, outside = model.convert(), training.predict(model, test)
                integer.export(path, force=True)
            given = _simulated(path, test)
            quantized = _in_onnxruntime(path, test) if outside is None else outside
            results.append(_result(method, bits, path, test, reference, quantized, given))
    return Experiment(_quality(test, reference), tuple(results))


def _result(
    method: str, bits: int, path: Path, test: Windows, reference: FloatArray, quantized: FloatArray, simulated: FloatArray
) -> Result:
    signal, noise = np.square(reference, dtype=np.float64).sum(), np.square(simulated - reference, dtype=np.float64).sum()
    sqnr = float(10 * np.log10(signal / noise)) if noise else np.inf
    equal = float(np.mean(quantized == simulated))
    return Result(method, bits, path, _quality(test, quantized), _quality(test, simulated), equal, sqnr)


def _quality(test: Windows, outputs: FloatArray) -> Quality:
    wanted, given = test.targets.astype(np.float64), outputs.astype(np.float64)
    error, sizes = given - wanted, np.abs(given) + np.abs(wanted)
    r2 = 1 - np.square(error).sum() / np.square(wanted - wanted.mean()).sum()
    parts = np.divide(2 * np.abs(error), sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return Quality(float(r2), float(100 * parts.mean()))


def _simulated(path: Path, test: Windows) -> FloatArray:
    session = InferenceSession(path)
    (output,) = session.run(None, {session.get_inputs()[0].name: test.inputs})
    return np.asarray(output, np.float32)


def _in_onnxruntime(path: Path, test: Windows) -> FloatArray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: window[np.newaxis]})[0] for window in test.inputs])
