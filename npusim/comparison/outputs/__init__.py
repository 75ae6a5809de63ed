"""The outputs of two models, over some samples or a whole dataset: classes and flips, regression, the worst samples."""

from __future__ import annotations

from npusim.comparison.outputs.dataset import LABEL_KEYS, DatasetResult, Task, evaluate_chunks, evaluate_dataset, read_labels
from npusim.comparison.outputs.output_errors import OutputMeasure, OutputScale, output_scales

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
