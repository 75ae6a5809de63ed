"""The outputs of two models, over some samples or a whole dataset: classes and flips, regression, the worst samples."""

from __future__ import annotations

from npusim.comparison.outputs.dataset import DatasetResult, Task, evaluate_chunks, evaluate_dataset
from npusim.comparison.outputs.labels import LABEL_KEYS, read_labels
from npusim.comparison.outputs.measuring import OutputMeasure, OutputScale, output_scales

__all__ = [
    "LABEL_KEYS",
    "DatasetResult",
    "OutputMeasure",
    "OutputScale",
    "Task",
    "evaluate_chunks",
    "evaluate_dataset",
    "output_scales",
    "read_labels",
]
