"""Windows over a motor's sensor table: what the torque example trains and tests with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from npusim import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CHANNELS",
    "COLUMNS",
    "OFFSET",
    "PROFILE",
    "TARGET",
    "WINDOW",
    "Windows",
    "cut_windows",
    "read_measurements",
    "split_profiles",
]

COLUMNS = ("u_q", "coolant", "stator_winding", "u_d", "stator_tooth", "motor_speed", "i_d", "i_q", "pm", "stator_yoke")
"""The sensors, in the order of the channels."""

TARGET = "torque"
"""What is to be estimated: its mean over the window."""

PROFILE = "profile_id"
"""Column that tells measurement sessions apart; no window crosses from one to the next."""

WINDOW = 128
"""Rows of a window."""

OFFSET = 64
"""Rows from one window's begin to the next."""

CHANNELS = 12
"""Channels of a window: the sensors and two that are zero, because the NPU takes channels in fours."""

TESTED_SHARE = 4
"""Every fourth profile is tested with."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Samples and what is to be estimated from them.

    Attributes
    ----------
    inputs
        float32 of shape ``(windows, CHANNELS, WINDOW, 1)``.
    targets
        float32 of shape ``(windows, 1)``: the mean torque in each window, in Nm.
    """

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.inputs)


def read_measurements(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a sensor table from a CSV file with a header.

    Returns
    -------
    pandas.DataFrame
        The columns in `COLUMNS` and `TARGET`, and `PROFILE` where the file has it (one profile for all rows where not).

    Raises
    ------
    InputError
        If the file cannot be read as such a table, lacks a column, or holds something that is not a finite number.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise InputError(
            f"{path}: cannot be read as a table ({error}); save it as comma-separated text with a header"
        ) from None
    missing = [name for name in (*COLUMNS, TARGET) if name not in table.columns]
    if missing:
        raise InputError(f"{path}: has no column '{missing[0]}', wanted {', '.join((*COLUMNS, TARGET))}; rename the columns")
    if PROFILE not in table.columns:
        table[PROFILE] = 0
    for name in (*COLUMNS, TARGET):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise InputError(
                f"{path}: column '{name}' holds no finite number in {wrong.size} of {len(values)} rows, first in line "
                f"{int(wrong[0]) + 2}; remove such rows"
            )
        table[name] = values
    return table[[*COLUMNS, TARGET, PROFILE]]


def cut_windows(table: pd.DataFrame, profiles: Iterable[object] | None = None) -> Windows:
    """Cut a sensor table into overlapping windows.

    A profile of n rows gives ``floor((n - WINDOW) / OFFSET) + 1`` windows, none if it is shorter than one.

    Parameters
    ----------
    table
        Rows in order of time within each profile.
    profiles
        Which profiles; all by default.

    Raises
    ------
    InputError
        If not a single window fits.
    """
    wanted = list(table[PROFILE].unique()) if profiles is None else list(profiles)
    inputs, targets = [], []
    for profile in wanted:
        rows = table[table[PROFILE] == profile]
        if len(rows) < WINDOW:
            continue
        sensors = rows[list(COLUMNS)].to_numpy(np.float32)
        torque = rows[TARGET].to_numpy(np.float64)
        inputs.append(np.lib.stride_tricks.sliding_window_view(sensors, WINDOW, axis=0)[::OFFSET])
        targets.append(np.lib.stride_tricks.sliding_window_view(torque, WINDOW)[::OFFSET].mean(axis=1))
    if not inputs:
        raise InputError(f"no profile has the {WINDOW} rows of a window; give a longer table")
    stacked = np.concatenate(inputs)
    padded = np.zeros((len(stacked), CHANNELS, WINDOW, 1), np.float32)
    padded[:, : len(COLUMNS), :, 0] = stacked
    return Windows(padded, np.concatenate(targets).astype(np.float32)[:, None])


def split_profiles(table: pd.DataFrame) -> tuple[Windows, Windows]:
    """Windows to train and to test with, from different profiles: every fourth one is tested with.

    A table of a single profile is split in time instead: its last quarter is tested with.

    Raises
    ------
    InputError
        If either side would be empty.
    """
    lengths = table.groupby(PROFILE, sort=False).size()
    usable = [profile for profile, rows in lengths.items() if rows >= WINDOW]
    if len(usable) == 1:
        begin = len(table) - len(table) // TESTED_SHARE
        return cut_windows(table.iloc[:begin]), cut_windows(table.iloc[begin:])
    tested = usable[TESTED_SHARE - 1 :: TESTED_SHARE] or usable[-1:]
    return cut_windows(table, [profile for profile in usable if profile not in tested]), cut_windows(table, tested)
