"""The torque example: its motor, its windows, its command line, and that training with the NPU's arithmetic pays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import npusim
from npusim.examples import torque
from npusim.examples.motor import Motor, simulate_measurements
from npusim.examples.windows import COLUMNS, cut_windows, read_measurements, split_profiles
from support import HAS_TORCH

if HAS_TORCH:
    import torch

    from npusim.examples import torque_training as training


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return simulate_measurements(8, 2048, seed=3)


def test_torque_follows_from_the_currents() -> None:
    motor = Motor()
    one = np.ones(1)
    # 1.5 * 8 * (0.066 + (0.37e-3 - 1e-3 / (1 + 90 / 900)) * -100) * 90
    expected = 12 * (0.066 + (0.37e-3 - 1e-3 / 1.1) * -100) * 90
    assert motor.torque(-100 * one, 90 * one, 0.066)[0] == pytest.approx(expected)
    u_d, u_q = motor.voltages(0 * one, 0 * one, 1000 * one, 0.066, 0.015)
    assert (u_d[0], u_q[0]) == pytest.approx((0, 0.066 * 8 * 1000 * 2 * np.pi / 60))


def test_measurements_are_plausible_and_depend_on_the_seed_only(table: pd.DataFrame) -> None:
    assert list(table.columns) == [*COLUMNS, "ambient", "torque", "profile_id"]
    assert len(table) == 8 * 2048
    assert np.isfinite(table.to_numpy()).all()
    assert table.equals(simulate_measurements(8, 2048, seed=3))
    assert not table.equals(simulate_measurements(8, 2048, seed=4))
    assert np.hypot(table["u_d"], table["u_q"]).max() < 160
    assert table["motor_speed"].between(-10, 6010).all()
    assert table["torque"].abs().max() < 300
    assert table["torque"].std() > 50
    for name in ("coolant", "stator_winding", "stator_tooth", "stator_yoke", "pm"):
        assert table[name].between(10, 200).all(), name


def test_windows_do_not_cross_profiles() -> None:
    rows = {name: np.arange(500.0) for name in (*COLUMNS, "torque")}
    table = pd.DataFrame({**rows, "profile_id": [0] * 300 + [1] * 127 + [2] * 73})
    windows = cut_windows(table)
    assert windows.inputs.shape == (3, 12, 128, 1)
    assert windows.inputs[:, 0, 0, 0].tolist() == [0, 64, 128]
    assert windows.inputs[0, 9, :, 0].tolist() == list(range(128))
    assert not windows.inputs[:, 10:].any()
    assert windows.targets[:, 0].tolist() == [63.5, 127.5, 191.5]


def test_tested_profiles_are_not_trained_with(table: pd.DataFrame) -> None:
    marked = table.assign(pm=table["profile_id"])
    train, test = split_profiles(marked)
    assert set(np.unique(train.inputs[:, 8])) == {0, 1, 2, 4, 5, 6}
    assert set(np.unique(test.inputs[:, 8])) == {3, 7}
    one = marked[marked["profile_id"] == 0].assign(pm=np.arange(2048.0))
    train, test = split_profiles(one)
    assert train.inputs[:, 8].max() < 1536 <= test.inputs[:, 8].min()


def test_csv_is_read_as_it_was_written(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "motor.csv", index=False)
    assert read_measurements(tmp_path / "motor.csv").equals(table[[*COLUMNS, "torque", "profile_id"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="pm"), "no column 'pm'"),
        (lambda rows: rows.assign(i_q="high"), "'i_q' holds no finite number in 300 of 300 rows, first in line 2"),
        (lambda rows: rows.assign(u_d=[*[0.0] * 299, float("nan")]), "'u_d' holds no finite number in 1 of 300 rows"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table: pd.DataFrame, tmp_path: Path, change, message: str) -> None:
    change(table.iloc[:300]).to_csv(tmp_path / "motor.csv", index=False)
    with pytest.raises(npusim.InputError, match=message):
        read_measurements(tmp_path / "motor.csv")


def test_tables_without_a_whole_window_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(npusim.InputError, match="128 rows of a window"):
        cut_windows(table.iloc[:100])
    with pytest.raises(npusim.InputError, match="128 rows of a window"):
        split_profiles(table.iloc[:130])
    with pytest.raises(npusim.InputError, match="128 rows of a window"):
        split_profiles(table.iloc[:100])


@pytest.mark.slow
@pytest.mark.needs_torch
def test_the_command_trains_exports_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--weight-bits", "4", "--epochs", "1", "--qat-epochs", "1", "--profiles", "2", "-q", "--json"]
    assert torque.main([*arguments, "-o", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["weight_bits"]) for row in result["results"]] == [("ptq", 4), ("qat", 4)]
    for row in result["results"]:
        assert row["equal_outputs"] == 1.0
        assert row["npusim"] == row["quantized"]
    with np.load(tmp_path / "out" / "torque_windows.npz") as arrays:
        windows = arrays["input"]
    session = npusim.InferenceSession(tmp_path / "out" / "torque_qat_w4.onnx")
    assert session.run(None, {"input": windows})[0].shape == (64, 1)
    assert torque.main([*arguments, "-o", str(tmp_path / "out")]) == 2
    assert "exists" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.slow
@pytest.mark.needs_torch
def test_the_command_reads_a_table(table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.to_csv(tmp_path / "motor.csv", index=False)
    arguments = ["--csv", str(tmp_path / "motor.csv"), "--epochs", "1", "--method", "ptq", "--weight-bits", "8", "-q"]
    assert torque.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "186 windows to train with, 62 of other profiles to test with" in shown
    assert "100.00 %" in shown
    assert torque.main(["--csv", str(tmp_path / "none.csv")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.needs_torch
def test_training_recovers_what_quantization_loses() -> None:
    torch.set_num_threads(1)
    train, test = split_profiles(simulate_measurements(24, 6144, seed=0))
    network = training.train_float(train, training.TrainingPlan(12, 1e-2, 2))

    def unexplained(outputs: np.ndarray) -> float:
        """What is left of the variance: 1 - R2."""
        return float(np.square(outputs - test.targets).sum() / np.square(test.targets - test.targets.mean()).sum())

    assert unexplained(training.predict(network, test)) < 0.005
    for bits in (4, 2):
        calibrated = unexplained(training.predict(training.post_training(network, train, bits), test))
        model = training.quantization_aware(network, train, bits, training.TrainingPlan(10, 4e-3, 2))
        outputs = training.predict(model.convert(), test)
        assert np.array_equal(outputs, training.predict(model, test))
        # measured: from 0.0043 to 0.0006 with four bits, from 0.025 to 0.0022 with two
        assert unexplained(outputs) < 0.5 * calibrated


@pytest.mark.slow
def test_without_torch_one_sentence_says_what_to_do() -> None:
    script = (
        "import importlib.util as util; find = util.find_spec; "
        "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest); "
        "from npusim.examples import torque; code = torque.main([]); "
        "import npusim.torch"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert "npusim: error: the example trains with PyTorch, which is not installed; run: pip install '.[torch]'" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ImportError: npusim.torch needs PyTorch, which is not installed; run: pip")
