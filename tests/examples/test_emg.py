"""The gesture example: its recording, its windows, and the command in a reduced size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import npusim
from npusim.examples import emg
from npusim.examples.emg import Recording, cut_windows, filtered, input_codes, read_recording, simulate_recording, split_windows
from npusim.kernels.input_quantizer import quantize_input


@pytest.mark.slow
def test_the_made_recording_has_every_gesture_and_rest() -> None:
    recording = simulate_recording(2, seed=1)
    assert recording.signals.shape == (2 * 8 * 3000, 8)
    assert np.bincount(recording.trigger).tolist() == [16000, *[4000] * 8]
    np.testing.assert_array_equal(recording.signals, simulate_recording(2, seed=1).signals)
    passed = filtered(recording.signals)
    strong = [passed[recording.trigger == gesture].std() for gesture in range(9)]
    assert min(strong[1:]) > 2 * strong[0]


def test_the_high_pass_lets_muscles_through_and_not_drift() -> None:
    time = np.arange(4000) / 500
    for frequency, low, high in ((1.0, 0.0, 0.01), (10.0, 0.68, 0.73), (60.0, 0.98, 1.02)):
        wave = np.sin(2 * np.pi * frequency * time)[:, np.newaxis]
        assert low <= np.abs(filtered(wave)[2000:]).max() <= high, frequency


def test_windows_lie_within_one_gesture_and_overlap() -> None:
    trigger = np.repeat([0, 3, 0], [480, 390, 299])
    signals = np.arange(len(trigger) * 8, dtype=np.float64).reshape(-1, 8)
    windows = cut_windows(signals, trigger)
    starts = windows.inputs[:, 0, 0] / 8
    assert starts.tolist() == [0, 90, 180, 540]
    assert windows.labels.tolist() == [0, 0, 0, 3]
    assert windows.inputs.shape == (4, 8, 300)
    with pytest.raises(npusim.InputError, match="no gesture lasts 300"):
        cut_windows(signals, np.arange(len(trigger)))


def test_what_is_tested_with_is_later_and_scaled_as_before() -> None:
    recording = simulate_recording(3, seed=2)
    train, test = split_windows(recording)
    assert train.inputs.min() >= 0
    assert train.inputs.max() <= 1
    louder = Recording(np.concatenate([recording.signals[:-20000], 3 * recording.signals[-20000:]]), recording.trigger)
    np.testing.assert_array_equal(split_windows(louder)[0].inputs, train.inputs)
    assert split_windows(louder)[1].inputs.max() > test.inputs.max()


def test_a_recording_is_read(tmp_path: Path) -> None:
    recording = simulate_recording(1, seed=3)
    table = pd.DataFrame(recording.signals, columns=[f"ch{index}" for index in range(8)]).assign(Trigger=recording.trigger)
    table.to_parquet(tmp_path / "emg.parquet")
    read = read_recording(tmp_path / "emg.parquet")
    np.testing.assert_array_equal(read.signals, recording.signals)
    np.testing.assert_array_equal(read.trigger, recording.trigger)
    table.drop(columns="ch3").to_parquet(tmp_path / "emg.parquet")
    with pytest.raises(npusim.InputError, match="7 columns of signals, wanted 8"):
        read_recording(tmp_path / "emg.parquet")
    (tmp_path / "emg.parquet").write_bytes(b"no")
    with pytest.raises(npusim.InputError, match="is not a parquet file"):
        read_recording(tmp_path / "emg.parquet")


def test_input_codes_are_those_of_the_quantizer() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.4, 4000).astype(np.float32)
    for low, high in ((0.0, 1.0), (-0.7, 0.7)):
        np.testing.assert_array_equal(input_codes(values, low, high), quantize_input(values, low, high, 8))


@pytest.mark.slow
@pytest.mark.needs_torch
def test_the_command_trains_writes_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--repetitions", "3", "--epochs", "3", "-o", str(tmp_path / "out")]
    assert emg.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    assert [row["weight_bits"] for row in result["results"]] == ["8", "mixed"]
    assert result["results"][0]["agreement"] > 0.9
    assert len(result["results"][1]["channel_bits"]) > 1
    for bits in ("8", "mixed"):
        model = tmp_path / "out" / f"emg_{bits}.onnx"
        assert npusim.InferenceSession(model).format == "match"
        assert npusim.verify_golden(tmp_path / "out" / f"golden_{bits}", model)
    assert emg.main(arguments) == 2
    assert "exists" in capsys.readouterr().err
