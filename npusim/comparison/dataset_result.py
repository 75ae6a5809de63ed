"""What evaluating two models over a dataset gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from npusim.comparison.output_result import Classification, Regression, WorstSample
from npusim.schemas.objects import json_object

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DatasetResult", "Task", "samples_table"]


class Task(StrEnum):
    """What a model is for. AGREEMENT: it gives scores of classes, but there are no labels."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True, eq=False)
class DatasetResult:
    """A quantized model against its float model over a dataset.

    Attributes
    ----------
    task
        What the models were taken for.
    samples
        Number of samples.
    tensor, float_tensor
        The outputs compared.
    scale, zero_point
        ``real = (output - zero_point) * scale`` of the quantized output.
    classification, regression
        None where the task is another.
    worst
        Samples where the quantized output is farthest from the float one, the worst first.
    worst_targets
        For a regression: samples where it is farthest from the target.
    """

    task: Task
    samples: int
    tensor: str
    float_tensor: str
    scale: float
    zero_point: float
    classification: Classification | None
    regression: Regression | None
    worst: tuple[WorstSample, ...]
    worst_targets: tuple[WorstSample, ...]

    def __str__(self) -> str:
        if self.regression is not None:
            found = self.regression
            return (
                f"R2 {found.quantized_r_squared:.4g} (float {found.float_r_squared:.4g}), SMAPE {found.quantized_smape:.4g} % "
                f"(float {found.float_smape:.4g} %), {self.samples} samples"
            )
        shared = self.classification
        if shared is None:
            return f"{self.samples} samples"
        text = f"{shared.flip_count} flips in {self.samples} samples"
        if shared.quantized_accuracy is None or shared.float_accuracy is None:
            return text
        return f"accuracy {shared.quantized_accuracy:.4g} (float {shared.float_accuracy:.4g}), {text}"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        found: dict[str, Any] = json_object(self)
        return found

    def to_pandas(self) -> pd.DataFrame:
        """One row for each flip listed and each worst sample: why it is listed, its number, and what is known of it."""
        return samples_table(self.classification, self.worst, self.worst_targets)


def samples_table(
    classification: Classification | None, worst: Sequence[WorstSample], worst_targets: Sequence[WorstSample] = ()
) -> pd.DataFrame:
    """The samples to look at: flips, then those with the largest error against the float model, then against the target.

    Parameters
    ----------
    classification
        Its flips are listed; None for an output that is no classifier's.
    worst, worst_targets
        Samples with the largest error.

    Returns
    -------
    pandas.DataFrame
        Columns ``reason`` (``flip``, ``worst`` or ``worst_target``), ``sample``, and what is known of it; whole numbers stay
        whole where others are missing.
    """
    import pandas as pd

    flips = () if classification is None else classification.flips
    rows = [{"reason": "flip", **json_object(flip)} for flip in flips]
    rows.extend({"reason": "worst", **json_object(sample)} for sample in worst)
    rows.extend({"reason": "worst_target", **json_object(sample)} for sample in worst_targets)
    whole = ["sample", "float_class", "quantized_class", "label"]
    table = pd.DataFrame(rows, columns=["reason", *whole, "float_margin", "quantized_margin", "error", "sqnr_db"])
    return table.astype(dict.fromkeys(whole, "Int64"))
