"""What the comparison says of an output of the model: the error, the classes or the regression, and the worst samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from npusim.comparison.code_sums import IntegerArray
from npusim.comparison.sums import FloatArray
from npusim.schemas.derivation import Axes, Count

Confusion = Annotated[IntegerArray, Axes(2)]
"""Row the first class, column the second."""

__all__ = ["Classification", "Flip", "OutputComparison", "Regression", "WorstSample"]


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample that the two models put into different classes.

    Attributes
    ----------
    sample
        Index, counted from 0 over all samples.
    float_class, quantized_class
        The classes found.
    label
        The true class; None without labels.
    float_margin, quantized_margin
        Largest output minus the second largest, in real units: how sure each model was.
    """

    sample: Count
    float_class: Count
    quantized_class: Count
    label: int | None
    float_margin: float
    quantized_margin: float


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample with a large error.

    Attributes
    ----------
    sample
        Its index.
    error
        Root mean square of the error in real units.
    sqnr_db
        Its SQNR in dB.
    """

    sample: Count
    error: float
    sqnr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """An output taken as scores of classes.

    Attributes
    ----------
    classes
        Number of classes.
    agreement
        Share of the samples that both models put into the same class.
    flips
        The flips with the largest margin of the float model first; at most `FLIPS_KEPT`.
    flip_count
        All of them.
    flips_to_right, flips_to_wrong
        Flips that turned a wrong class into the true one, and the other way; None without labels.
    agreement_confusion
        int64 ``[classes, classes]``: row the float model's class, column the quantized model's.
    labelled
        Samples with a label of at least 0.
    float_accuracy, quantized_accuracy
        None without labels.
    float_confusion, quantized_confusion
        Row the true class, column the one found; None without labels.
    """

    classes: Count
    agreement: float
    flips: tuple[Flip, ...]
    flip_count: Count
    flips_to_right: Count | None
    flips_to_wrong: Count | None
    agreement_confusion: Confusion
    labelled: Count
    float_accuracy: float | None
    quantized_accuracy: float | None
    float_confusion: Confusion | None
    quantized_confusion: Confusion | None


@dataclass(frozen=True, slots=True)
class Regression:
    """Quality against true values.

    Attributes
    ----------
    float_r_squared, quantized_r_squared
        R2 of both models.
    float_smape, quantized_smape
        SMAPE in percent.
    float_mean_absolute_error, quantized_mean_absolute_error
        Mean absolute error.
    """

    float_r_squared: float
    quantized_r_squared: float
    float_smape: float
    quantized_smape: float
    float_mean_absolute_error: float
    quantized_mean_absolute_error: float


@dataclass(frozen=True, slots=True, eq=False)
class OutputComparison:
    """An output of the quantized model against the float model's.

    Attributes
    ----------
    tensor, float_tensor
        Names.
    scale
        Real value of one unit of the quantized output; 1 where the model gives real values itself.
    sqnr_db, cosine, mean_error, mean_absolute_error, largest_error, r_squared, smape
        The quantized output against the float output.
    fitted_sqnr_db
        With the best common scale.
    classification, regression
        None where the output is not that.
    worst
        Samples with the largest error, the worst first.
    element_mean_error
        Signed mean error of each output element, ``[elements]``.
    """

    tensor: str
    float_tensor: str
    scale: float
    sqnr_db: float
    fitted_sqnr_db: float
    cosine: float
    mean_error: float
    mean_absolute_error: float
    largest_error: float
    r_squared: float
    smape: float
    classification: Classification | None
    regression: Regression | None
    worst: tuple[WorstSample, ...]
    element_mean_error: FloatArray
