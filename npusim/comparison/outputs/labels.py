"""Reading what samples really are: class numbers or target values, one for each sample."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.arrays import check_readable, list_npz, listed, read_npy, read_npz
from npusim.files.tables import read_csv, read_parquet
from npusim.graph import Array

__all__ = ["LABEL_KEYS", "read_labels"]

LABEL_KEYS: Final = ("label", "labels", "y", "target", "targets")
"""Names under which labels are found in a .npz file with several arrays."""


def read_labels(path: str | os.PathLike[str], samples: int | None = None) -> Array:
    """Read labels from a .npz, .npy, .csv or .parquet file.

    Whole numbers, also those of .csv, are class numbers, int64; anything else are targets, float64. A table of one column
    gives one value for each sample; one of more columns several targets for each.

    Parameters
    ----------
    path
        The file.
    samples
        Number of samples that there have to be labels for; None for any.

    Returns
    -------
    int64 array of shape (samples,), or float64 array of shape (samples, ...)

    Raises
    ------
    InputError
        If the file cannot be read, holds no labels or another number of them, or a value is not finite.
    """
    file = Path(path)
    check_readable(file)
    suffix = file.suffix.lower()
    if suffix == ".npz":
        labels = _from_npz(file)
    elif suffix == ".npy":
        labels = read_npy(file)
    elif suffix == ".csv":
        labels = _column(read_csv(file))
    elif suffix == ".parquet":
        columns = read_parquet(file)
        labels = _column(np.stack([np.asarray(values) for _, values in columns], axis=1))
    else:
        raise InputError(f"{file}: unknown suffix '{file.suffix}' for labels, wanted .npz, .npy, .csv or .parquet")
    if labels.dtype.kind not in "iuf" or labels.ndim == 0 or labels.size == 0:
        raise InputError(
            f"{file}: labels are {labels.dtype} of shape {list(labels.shape)}, wanted numbers, one for each sample"
        )
    if not np.isfinite(labels).all():
        raise InputError(f"{file}: some labels are NaN or infinite; remove these samples")
    if samples is not None and len(labels) != samples:
        raise InputError(f"{file}: holds {len(labels)} labels for {samples} samples; give one for each sample")
    return labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float64)


def _from_npz(path: Path) -> Array:
    present = list_npz(path)
    known: list[str] = [key for key in LABEL_KEYS if key in present]
    candidates = known if known or len(present) > 1 else list(present)
    if len(candidates) != 1:
        raise InputError(f"{path}: holds {listed(present)}, wanted the labels as one of {', '.join(LABEL_KEYS)}")
    return read_npz(path, candidates)[candidates[0]]


def _column(table: Array) -> Array:
    """One column as one value for each sample, whole numbers as integers."""
    values = table[:, 0] if table.shape[1] == 1 else table
    whole = values.ndim == 1 and bool((np.isfinite(values) & (values == np.floor(values))).all())
    return values.astype(np.int64) if whole else values
