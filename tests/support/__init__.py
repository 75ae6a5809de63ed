"""What tests share: where the project and the real exports are, and what the exports hold.

Import it as ``import support`` (``conftest.py`` sees to that). A test that takes an argument named ``export`` runs once
for every real export and is left out, visibly, where there are none; see ``conftest.py``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "CASES",
    "CASES_FOLDER",
    "EXPORTS",
    "EXPORTS_FOLDER",
    "FORMATS",
    "FORMATS_FOLDER",
    "HAS_DASK",
    "HAS_TFLITE",
    "HAS_TORCH",
    "ROOT",
    "Export",
    "export_names",
    "load_export",
    "load_exports",
]

ROOT = Path(__file__).resolve().parents[2]
"""The root of the project: pyproject.toml, npusim/, kernels/, tests/."""

EXPORTS_FOLDER = Path(os.environ.get("NPUSIM_EXPORTS") or ROOT.parent / "shared" / "models").absolute()
"""Where the real exports are looked for."""

EXPORTS: Path | None = EXPORTS_FOLDER if (EXPORTS_FOLDER / "INDEX.csv").is_file() else None
"""The folder of the real exports; None where it is missing."""

CASES_FOLDER = Path(os.environ.get("NPUSIM_CASES") or ROOT.parent / "shared" / "cases").absolute()
"""Models on which something false was once said; see CASES."""

CASES: Path | None = CASES_FOLDER if (CASES_FOLDER / "reports").is_dir() else None
"""The folder of these models; None where it is not there."""

FORMATS_FOLDER = Path(os.environ.get("NPUSIM_FORMATS") or ROOT.parent / "shared" / "formats").absolute()
"""Where the real models of other formats are looked for."""

FORMATS: Path | None = FORMATS_FOLDER if (FORMATS_FOLDER / "split.csv").is_file() else None
"""The folder of the real models of other formats; None where it is missing."""

HAS_TORCH = find_spec("torch") is not None
"""Whether torch is installed; it is not imported to find out."""

HAS_DASK = find_spec("distributed") is not None
HAS_TFLITE = all(find_spec(name) is not None for name in ("tflite_micro", "ai_edge_litert"))
"""Whether the runtimes of TensorFlow Lite are installed; they are not imported to find out."""


@dataclass(frozen=True, slots=True)
class Export:
    """One quantized model, with the inputs and the outputs that onnxruntime gave on them, sample by sample.

    `row` is the model's line of INDEX.csv: bits, method, exporter, shapes, sizes.
    """

    name: str
    network: str
    folder: Path
    row: Mapping[str, str]

    @property
    def model(self) -> Path:
        """The quantized ONNX file."""
        return self.folder / "quantized" / f"{self.name}.onnx"

    @property
    def float_model(self) -> Path:
        """The float ONNX file that was quantized."""
        return self.folder / "float" / f"{self.network}.onnx"

    @property
    def inputs_file(self) -> Path:
        """The .npz file of the inputs, with keys x, label and kind."""
        return self.folder / "inputs" / f"{self.network}.npz"

    def inputs(self) -> npt.NDArray[np.float32]:
        """The samples, float32 of shape (74, ...): 64 realistic ones, then 10 extreme ones."""
        with np.load(self.inputs_file, allow_pickle=False) as arrays:
            return arrays["x"]

    def expected(self) -> npt.NDArray[np.generic]:
        """The outputs of onnxruntime for `inputs`."""
        with np.load(self.model.with_suffix(".expected.npz"), allow_pickle=False) as arrays:
            return arrays["output"]


def load_exports() -> list[Export]:
    """All real exports in the order of INDEX.csv; an empty list where the folder is missing."""
    if EXPORTS is None:
        return []
    with (EXPORTS / "INDEX.csv").open(newline="", encoding="utf-8") as lines:
        return [Export(row["name"], row["network"], EXPORTS, row) for row in csv.DictReader(lines)]


def export_names() -> list[str]:
    """Names of all real exports in the order of INDEX.csv; an empty list where the folder is missing."""
    return [export.name for export in load_exports()]


def load_export(name: str) -> Export:
    """The real export of this name, for a test marked ``exports`` that needs a certain one."""
    return next(export for export in load_exports() if export.name == name)
