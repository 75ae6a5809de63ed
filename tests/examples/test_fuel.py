"""The fuel example: its table, its split, and the command in a reduced size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import npusim
from npusim.examples import fuel
from npusim.examples.fuel import COLUMNS, codes_of, read_cars, simulate_cars, split_cars


def test_the_made_table_follows_its_formula() -> None:
    table = simulate_cars(4000, seed=1)
    assert list(table.columns) == list(COLUMNS)
    assert table.equals(simulate_cars(4000, seed=1))
    wanted = 3.2 + 1.7 * table["engine_size"] + 0.35 * table["cylinders"]
    assert (table["fuel_consumption"] / wanted).mean() == pytest.approx(1, abs=0.01)
    burnt = table["co2_emissions"] / table["fuel_consumption"]
    assert burnt.between(20, 31).all()
    assert burnt.median() == pytest.approx(23.2, abs=0.5)


def test_columns_are_scaled_with_the_cars_to_train_with() -> None:
    table = simulate_cars(200, seed=2)
    train, test = split_cars(table, seed=0)
    assert (len(train.inputs), len(test.inputs)) == (140, 60)
    for values in (train.inputs, train.targets):
        assert (values.min(axis=0) == 0).all()
        assert (values.max(axis=0) == 1).all()
    real = np.sort(np.concatenate([part.consumption(part.targets)[:, 0] for part in (train, test)]))
    np.testing.assert_allclose(real, np.sort(table["fuel_consumption"]), atol=1e-5)


def test_public_tables_are_read(tmp_path: Path) -> None:
    table = simulate_cars(50, seed=3)
    named = ["ENGINESIZE", "CYLINDERS", "CO2EMISSIONS", "FUELCONSUMPTION_COMB"]
    table.set_axis(named, axis=1).assign(MAKE="any").to_csv(tmp_path / "cars.csv", index=False)
    pd.testing.assert_frame_equal(read_cars(tmp_path / "cars.csv"), table)
    table.drop(columns="cylinders").to_csv(tmp_path / "cars.csv", index=False)
    with pytest.raises(npusim.InputError, match="no column 'cylinders'"):
        read_cars(tmp_path / "cars.csv")
    table.astype(object).replace({table["cylinders"][7]: "many"}).to_csv(tmp_path / "cars.csv", index=False)
    with pytest.raises(npusim.InputError, match="'cylinders' holds no finite number in line"):
        read_cars(tmp_path / "cars.csv")
    with pytest.raises(npusim.InputError, match="no such file"):
        read_cars(tmp_path / "none.csv")


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.needs_tflite
def test_the_command_trains_writes_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cars", "300", "--epochs", "40", "-o", str(tmp_path / "out")]
    assert fuel.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["ok"], result["equal_to_tflite_micro"]) == (True, True)
    assert result["cars"] == {"train": 210, "test": 90}
    assert result["quality"]["float"]["r2"] > 0.8
    assert result["quality"]["integer"]["r2"] == pytest.approx(result["quality"]["float"]["r2"], abs=0.02)
    header, model = (npusim.InferenceSession(tmp_path / "out" / name) for name in ("model.h", "fuel.tflite"))
    with np.load(tmp_path / "out" / "fuel_samples.npz") as arrays:
        codes, inputs = arrays["codes"], arrays["inputs"]
    np.testing.assert_array_equal(codes_of(model, inputs), codes)
    given = [session.run(None, {"input": codes})[0] for session in (header, model)]
    np.testing.assert_array_equal(*given)
    assert fuel.main(arguments) == 2
    assert "exists" in capsys.readouterr().err
    assert fuel.main(["--cars", "100", "--epochs", "1", "--loss", "mse"]) == 0
    assert "every bit" in capsys.readouterr().out
